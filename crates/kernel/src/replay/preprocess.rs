//! Units that a changed header is part of and that read the same after the preprocessor.
//!
//! Preprocessing takes a fraction of the time of compiling, and what the compiler gets to see is all
//! that can make its output differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::ReplayError;
use super::compile;
use super::select::{Changed, Target, contents};
use super::session::Session;
use super::tree;
use crate::unified::TreePath;

/// Returns those of `targets` whose preprocessed text is the same with and without the fix. The tree
/// is pristine before and after. A unit that cannot be preprocessed is not among them.
///
/// Blocks for about half a second per unit.
pub(super) fn unchanged(
    session: &Session<'_>,
    targets: &BTreeSet<Target>,
    changed: &BTreeMap<TreePath, Changed>,
) -> Result<BTreeSet<Target>, ReplayError> {
    if targets.is_empty() {
        return Ok(BTreeSet::new());
    }
    let before = texts(session, targets)?;
    let after = session
        .tree
        .write(&contents(changed, true))
        .map_err(ReplayError::from)
        .and_then(|()| texts(session, targets));
    // Whatever happened, the tree goes back; a failure to do so is the next run's first task.
    let restored = session.tree.restore();
    let after = after?;
    restored?;
    Ok(before
        .into_iter()
        .filter(|(target, text)| after.get(*target) == Some(text))
        .map(|(target, _)| target.clone())
        .collect())
}

fn texts<'all>(
    session: &Session<'_>,
    targets: &'all BTreeSet<Target>,
) -> Result<BTreeMap<&'all Target, Vec<u8>>, ReplayError> {
    let top = session.tree.top();
    let outputs: BTreeMap<&Target, String> = targets
        .iter()
        .filter_map(|target| Some((target, format!("{}.i", target.object.strip_suffix(".o")?))))
        .collect();
    for output in outputs.values() {
        tree::remove(&top.join(output))?;
    }
    let names: Vec<&str> = outputs.values().map(String::as_str).collect();
    let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
    let deadline = session.budget.per_unit.saturating_mul(count);
    compile::make_objects(
        top,
        session.toolchain,
        &names,
        session.budget.jobs,
        deadline,
    )
    .map_err(ReplayError::Make)?;
    let mut texts = BTreeMap::new();
    for (target, output) in outputs {
        let path = top.join(&output);
        if let Ok(text) = fs::read(&path) {
            texts.insert(target, without_markers(&text));
            tree::remove(&path)?;
        }
    }
    Ok(texts)
}

/// Leaves out what the compiler does not compile: line markers (`# 12 "file.h"`) and empty lines. What
/// `__LINE__` stands for is in the text already.
fn without_markers(text: &[u8]) -> Vec<u8> {
    let is_marker = |line: &[u8]| {
        line.strip_prefix(b"# ")
            .is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit))
    };
    let mut kept = Vec::with_capacity(text.len());
    for line in text.split(|&byte| byte == b'\n') {
        if !is_marker(line) && !line.iter().all(u8::is_ascii_whitespace) {
            kept.extend_from_slice(line);
            kept.push(b'\n');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(one: &str, other: &str, same: bool) {
        let (one, other) = (
            without_markers(one.as_bytes()),
            without_markers(other.as_bytes()),
        );
        assert_eq!(one == other, same);
    }

    #[test]
    fn where_a_line_stood_is_no_difference() {
        check(
            "# 1 \"a.h\" 1\nint a;\n\n\nint b;\n",
            "# 9 \"a.h\" 1\nint a;\n# 7 \"a.h\"\n  \nint b;",
            true,
        );
    }

    #[test]
    fn what_is_compiled_is_a_difference() {
        check("int a;\n", "int b;\n", false);
        check("#pragma pack(1)\nint a;\n", "int a;\n", false);
        check("# pragma x\nint a;\n", "int a;\n", false);
        // A line number that a macro took.
        check("warn(12);\n", "warn(13);\n", false);
        check("int a;\nint b;\n", "int b;\nint a;\n", false);
    }
}
