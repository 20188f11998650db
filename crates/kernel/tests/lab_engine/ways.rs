//! Whether the ways around Kbuild are in use: they cost nothing but time where they are not, so nobody
//! would notice.

use std::fs;

use tuxtape_kernel::produce::Outcome;

use super::setup::labs;

/// A kept answer is one line where the way is known not to work, and more where it is proven.
#[test]
fn lab_the_short_ways_are_proven() {
    for lab in labs() {
        let release = &lab.kernel.release;
        let unit = "fs/proc/version.c";
        let old = fs::read_to_string(lab.kernel.source.join(unit)).unwrap();
        let line = "\tseq_printf(m, linux_proc_banner,";
        let new = old.replace(line, &format!("\tif (!m)\n\t\treturn -EINVAL;\n{line}"));
        let diff = similar::TextDiff::from_lines(&old, &new);
        let mut diff = diff.unified_diff();
        let text = diff.header(&format!("a/{unit}"), &format!("b/{unit}"));
        let outcome = lab.build("lab_ways", text.to_string().as_bytes()).unwrap();
        assert!(
            matches!(outcome, Outcome::Built(_)),
            "{release}: {outcome:?}"
        );
        for way in ["handed-down", "link"] {
            let kept = fs::read_to_string(lab.kernel.top.join("work").join(way));
            let lines = kept.map_or(0, |text| text.lines().count());
            assert!(lines > 1, "{release}: {way} is not in use");
        }
    }
}
