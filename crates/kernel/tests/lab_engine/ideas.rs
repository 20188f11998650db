//! The ideas of published patches that must not become modules, on units that these kernels hold: an
//! export that changes, and a function that a number of a line alone makes different.

use std::fs;

use tuxtape_kernel::produce::{Outcome, Produced};
use tuxtape_livepatch::refusal::Rule;

use super::setup::{Lab, labs};

/// A patch that puts `new` in the place of `old`, which each file holds once.
fn patch(lab: &Lab, edits: &[(&str, &str, &str)]) -> Vec<u8> {
    let mut files: Vec<(&str, String, String)> = Vec::new();
    for &(file, old, new) in edits {
        if files.last().is_none_or(|(last, ..)| *last != file) {
            let text = fs::read_to_string(lab.kernel.source.join(file)).unwrap();
            files.push((file, text.clone(), text));
        }
        let (.., after) = files.last_mut().unwrap();
        assert_eq!(after.matches(old).count(), 1, "{file}: {old}");
        *after = after.replace(old, new);
    }
    let diff = |(file, before, after): &(&str, String, String)| {
        let diff = similar::TextDiff::from_lines(before, after);
        let mut diff = diff.unified_diff();
        let text = diff.header(&format!("a/{file}"), &format!("b/{file}"));
        text.to_string()
    };
    let text: String = files.iter().map(diff).collect();
    text.into_bytes()
}

fn built(lab: &Lab, name: &str, patch: &[u8]) -> Box<Produced> {
    match lab.build(name, patch).unwrap() {
        Outcome::Built(built) => built,
        other => panic!("{}: {name}: {other:?}", lab.kernel.release),
    }
}

/// What each unit's module part redirects.
fn changed(built: &Produced) -> Vec<&str> {
    let units = built.units.iter();
    let names = units.flat_map(|unit| unit.changed.iter().map(String::as_str));
    names.collect()
}

#[test]
fn lab_an_export_that_gives_something_else_is_refused() {
    for lab in labs() {
        let old = "void orderly_poweroff(bool force)";
        let new = "void orderly_poweroff(int force)";
        let edits = [
            ("include/linux/reboot.h", old, new),
            ("kernel/reboot.c", old, new),
        ];
        let outcome = lab.build("lab_export", &patch(&lab, &edits)).unwrap();
        let Outcome::Refused(refusals) = outcome else {
            panic!("{}: {outcome:?}", lab.kernel.release);
        };
        eprintln!("{}: {refusals:?}", lab.kernel.release);
        let ours = |refusal: &&tuxtape_livepatch::refusal::Refusal| {
            refusal.rule == Rule::ExportCrc && refusal.symbol == "orderly_poweroff"
        };
        assert!(
            refusals.iter().any(|refusal| ours(&refusal)),
            "{refusals:?}"
        );
    }
}

/// What makes a compiler's flow give exports other checksums and a module that no kernel loads: a header
/// that tells more of types which exported functions point to. Checksums come from the kernel's own list
/// here, and no type changed.
#[test]
fn lab_a_header_that_tells_more_of_a_type_leaves_checksums_alone() {
    for lab in labs() {
        let unit = "drivers/base/core.c";
        let include = (
            unit,
            "#include \"power/power.h\"\n",
            "#include \"power/power.h\"\n#include <linux/blktrace_api.h>\n",
        );
        let function = (
            unit,
            "const char *dev_driver_string(const struct device *dev)\n{\n\tstruct device_driver *drv;\n",
            "const char *dev_driver_string(const struct device *dev)\n{\n\tstruct device_driver *drv;\n\n\
             \tput_device(get_device((struct device *)dev));\n",
        );
        let alone = lab.build("lab_include", &patch(&lab, &[include])).unwrap();
        assert!(
            matches!(alone, Outcome::NoChange { .. }),
            "{}: {alone:?}",
            lab.kernel.release
        );
        // The verifier, which every build passes, compares its checksums with the kernel's.
        let both = built(&lab, "lab_both", &patch(&lab, &[include, function]));
        assert!(changed(&both).contains(&"dev_driver_string"));
    }
}

#[test]
fn lab_lines_that_move_change_nothing_but_what_the_fix_changes() {
    for lab in labs() {
        // Functions behind the one that changes warn, by the number of a line.
        let unit = "kernel/kthread.c";
        let line = (
            unit,
            "#include <uapi/linux/sched/types.h>\n",
            "\n#include <uapi/linux/sched/types.h>\n",
        );
        let function = (
            unit,
            "bool kthread_should_stop(void)\n{\n",
            "bool kthread_should_stop(void)\n{\n\tbarrier();\n\tif (!current->mm && !jiffies)\n\t\treturn true;\n",
        );
        let alone = lab.build("lab_line", &patch(&lab, &[line])).unwrap();
        assert!(
            matches!(alone, Outcome::NoChange { .. }),
            "{}: {alone:?}",
            lab.kernel.release
        );
        let both = built(&lab, "lab_lines", &patch(&lab, &[line, function]));
        // The compiler puts the function into others of the unit, too; the lines add nothing to that.
        let plain = built(&lab, "lab_plain", &patch(&lab, &[function]));
        assert!(changed(&plain).contains(&"kthread_should_stop"));
        assert_eq!(changed(&both), changed(&plain));
    }
}
