//! The public TUF conformance suite, where it is at hand.

use std::path::Path;
use std::process::Command;

/// Runs the suite in the folder `TUXTAPE_TUF_CONFORMANCE` with the Python `TUXTAPE_PYTHON`.
#[test]
fn lab_the_conformance_suite_passes() {
    let Some(suite) = std::env::var_os("TUXTAPE_TUF_CONFORMANCE") else {
        eprintln!(
            "skipped: TUXTAPE_TUF_CONFORMANCE names no checkout of the TUF conformance suite"
        );
        return;
    };
    let python = std::env::var("TUXTAPE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(python)
        .args(["-m", "pytest", "-q", "tuf_conformance", "--entrypoint"])
        .arg(Path::new(env!("CARGO_BIN_EXE_tuf-client")))
        .current_dir(suite)
        .output()
        .expect("python can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}
