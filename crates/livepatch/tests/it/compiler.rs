//! Compiles C text with the flags that matter to the engine.

use std::process::Command;
use std::time::Duration;

use tuxtape_sys::process;

/// The kernel's flags, and the replay's.
const FLAGS: [&str; 17] = [
    "-O2",
    "-std=gnu11",
    "-mcmodel=kernel",
    "-fno-pic",
    "-fno-PIE",
    "-mno-red-zone",
    "-fno-asynchronous-unwind-tables",
    "-fno-stack-protector",
    "-fcf-protection=none",
    "-fno-strict-aliasing",
    "-fno-common",
    "-mno-sse",
    "-pg",
    "-mfentry",
    "-mrecord-mcount",
    "-ffunction-sections",
    "-fdata-sections",
];

/// Compiles `source`, with `more` flags; `None`, said aloud, where there is no gcc.
pub(crate) fn compile(source: &str, more: &[&str]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (unit, object) = (folder.path().join("unit.c"), folder.path().join("unit.o"));
    std::fs::write(&unit, source).expect("the unit is written");
    let mut gcc = Command::new("gcc");
    gcc.current_dir(folder.path()).env("LC_ALL", "C");
    gcc.args(FLAGS)
        .args(more)
        .args(["-c", "-o", "unit.o", "unit.c"]);
    if Command::new("gcc").arg("--version").output().is_err() {
        say_skipped();
        return None;
    }
    let finished = process::run(&mut gcc, Duration::from_secs(120)).expect("gcc runs");
    let words = String::from_utf8_lossy(&finished.stderr);
    assert!(finished.status.success(), "gcc refused:\n{words}\n{source}");
    Some(std::fs::read(object).expect("the object is there"))
}

#[expect(clippy::print_stderr, reason = "a skipped test says so aloud")]
fn say_skipped() {
    eprintln!("skipped: there is no gcc");
}
