//! What a person must look at that shows in the text of a fix and in how far its headers reach.

use std::collections::{BTreeMap, BTreeSet};

use tuxtape_livepatch::lint::{Finding, Lint};

use crate::replay::Replayed;
use crate::unified::{Diff, FileDiff, Side};

/// Findings of the whole fix.
pub(super) fn of_fix(diff: &Diff, replayed: &Replayed) -> Vec<Finding> {
    let mut found: Vec<Finding> = diff.files.iter().flat_map(of_file).collect();
    let fix: BTreeSet<String> = diff
        .files
        .iter()
        .map(|file| file.path.to_string())
        .collect();
    let units = || replayed.pairs.iter().map(|pair| pair.unit.to_string());
    let others: Vec<String> = units().filter(|unit| !fix.contains(unit)).collect();
    if !others.is_empty() {
        let headers: BTreeSet<&str> = replayed
            .followed
            .iter()
            .map(|followed| followed.header.as_str())
            .collect();
        found.push(Finding {
            rule: Lint::HeaderReach,
            unit: others.join(", "),
            symbol: headers.into_iter().collect::<Vec<_>>().join(", "),
            what: format!(
                "compiles otherwise in {} units that the fix does not name, and the same in {}",
                others.len(),
                replayed.unaffected.len()
            ),
        });
    }
    found
}

fn of_file(file: &FileDiff) -> Vec<Finding> {
    let path = file.path.to_string();
    let finding = |rule, symbol: &str, what: String| Finding {
        rule,
        unit: path.clone(),
        symbol: symbol.to_owned(),
        what,
    };
    let mut found = Vec::new();
    if path.starts_with("include/uapi/") || path.contains("/include/uapi/") {
        let what = "is what programs are compiled against".to_owned();
        found.push(finding(Lint::Interface, &path, what));
    }
    let (before, after) = (macros(file, Side::Old), macros(file, Side::New));
    for (name, old) in &before {
        // Removed lines without added ones take a name away, which the compiler sees.
        if let Some(new) = after.get(name).filter(|new| *new != old) {
            let what = format!("stands for {new}, before for {old}");
            found.push(finding(Lint::Meaning, name, what));
        }
    }
    found
}

/// The plain macros that one side of a change defines, with what they stand for on their line.
fn macros(file: &FileDiff, side: Side) -> BTreeMap<String, String> {
    let lines = file.hunks.iter().flat_map(|hunk| &hunk.lines);
    lines
        .filter(|line| line.side == side)
        .filter_map(|line| {
            let text = String::from_utf8_lossy(&line.bytes).into_owned();
            let rest = text.trim_start().strip_prefix('#')?.trim_start();
            let rest = rest
                .strip_prefix("define")?
                .strip_prefix([' ', '\t'])?
                .trim_start();
            let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')?;
            let (name, value) = rest.split_at_checked(end)?;
            // With arguments it is code, and what it makes shows in the objects.
            if name.is_empty() || value.starts_with('(') {
                return None;
            }
            let words: Vec<&str> = value.split_whitespace().collect();
            (!words.is_empty()).then(|| (name.to_owned(), words.join(" ")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(diff: &str) -> Vec<(Lint, String, String)> {
        let diff = crate::unified::parse(diff.as_bytes()).unwrap();
        let all = diff.files.iter().flat_map(of_file);
        all.map(|one| (one.rule, one.symbol, one.what)).collect()
    }

    fn changed(path: &str, old: &str, new: &str) -> String {
        format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-{old}\n+{new}\n")
    }

    #[test]
    fn a_macro_of_another_value_is_told() {
        let diff = changed(
            "net/a.h",
            "#define LIMIT 16 /* most */",
            "# define  LIMIT\t32",
        );
        let what = "stands for 32, before for 16 /* most */".to_owned();
        assert_eq!(rules(&diff), [(Lint::Meaning, "LIMIT".to_owned(), what)]);
    }

    #[test]
    fn the_same_value_a_macro_with_arguments_and_a_new_one_are_not_told() {
        for (old, new) in [
            ("#define LIMIT 16", "#define LIMIT   16"),
            ("#define F(x) (x)", "#define F(x) (x + 1)"),
            ("#define LIMIT 16", "#define OTHER 17"),
            ("int a;", "#define LIMIT 16"),
        ] {
            assert_eq!(rules(&changed("net/a.h", old, new)), [], "{old} -> {new}");
        }
    }

    #[test]
    fn a_header_of_programs_is_told() {
        for path in ["include/uapi/linux/a.h", "arch/x86/include/uapi/asm/a.h"] {
            let found = rules(&changed(path, "int a;", "int b;"));
            assert_eq!(found.first().map(|one| one.0), Some(Lint::Interface));
        }
        assert_eq!(rules(&changed("include/linux/a.h", "int a;", "int b;")), []);
    }
}
