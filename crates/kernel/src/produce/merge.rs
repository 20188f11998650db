//! Several fixes as one change of the kernel's source.

use std::collections::{BTreeMap, BTreeSet};

use super::NamedFix;
use crate::unified::{self, ApplyError, Diff, FileDiff, Hunk, HunkLine, PatchedFile, TreePath};

/// Two fixes that cannot both be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{second} does not fit together with {}, which changes {path} as well", list(.first))]
pub struct Conflict {
    /// The file.
    pub path: TreePath,
    /// The fixes that change it already.
    pub first: Vec<String>,
    /// The one that does not fit on top of them.
    pub second: String,
    /// Where and why.
    pub source: ApplyError,
}

fn list(names: &[String]) -> String {
    names.join(", ")
}

/// The source as it is after some of the fixes.
#[derive(Clone, Default)]
struct Merged {
    /// Files of several fixes, as the kernel has them and as they are now.
    files: BTreeMap<TreePath, (Option<PatchedFile>, Option<PatchedFile>)>,
    changes: Vec<FileDiff>,
}

/// Puts fixes together, each on top of those before it; `read` gives a file of the kernel's own source.
///
/// A change that two fixes have alike is made once. One that does not fit yet is tried again after the
/// others, since a fix may need the one that came before it upstream. Line numbers may count in the
/// kernel's own source or on top of the fixes before; where both would fit in different places, none is
/// chosen. A fix whose file no other fix changes is not looked at here: it is applied later, and told there.
pub(super) fn merge(
    fixes: &[NamedFix],
    mut read: impl FnMut(&TreePath) -> Option<Vec<u8>>,
) -> Result<Diff, Box<Conflict>> {
    let mut touched: BTreeMap<&TreePath, BTreeSet<usize>> = BTreeMap::new();
    for (number, fix) in fixes.iter().enumerate() {
        for file in &fix.diff.files {
            touched.entry(&file.path).or_default().insert(number);
        }
    }
    let shared: BTreeSet<&TreePath> = touched
        .iter()
        .filter(|(_, numbers)| numbers.len() > 1)
        .map(|(path, _)| *path)
        .collect();
    let mut merged = Merged::default();
    for path in &shared {
        let file = read(path).map(|bytes| PatchedFile::pristine(&bytes));
        merged.files.insert((*path).clone(), (file.clone(), file));
    }
    let mut made: Vec<usize> = Vec::new();
    let mut open: Vec<usize> = (0..fixes.len()).collect();
    while !open.is_empty() {
        let mut left = Vec::new();
        let mut failure = None;
        for &number in &open {
            let Some(fix) = fixes.get(number) else {
                continue;
            };
            let mut tried = merged.clone();
            match tried.add(&fix.diff) {
                Ok(()) => {
                    merged = tried;
                    made.push(number);
                }
                Err(failed) => {
                    let (path, source) = *failed;
                    left.push(number);
                    failure.get_or_insert((number, path, source));
                }
            }
        }
        if left.len() == open.len()
            && let Some((number, path, source)) = failure
        {
            let name = |number: &usize| fixes.get(*number).map(|fix| fix.name.clone());
            let others = touched.get(&path).into_iter().flatten();
            let others = others.filter(|other| made.contains(other) && **other != number);
            return Err(Box::new(Conflict {
                first: others.filter_map(name).collect(),
                second: name(&number).unwrap_or_default(),
                path,
                source,
            }));
        }
        open = left;
    }
    Ok(Diff {
        files: merged.changes,
    })
}

impl Merged {
    fn add(&mut self, diff: &Diff) -> Result<(), Box<(TreePath, ApplyError)>> {
        for change in &diff.files {
            let Some(change) = self.without_what_is_made(change) else {
                continue;
            };
            let changed = self.changes.iter().any(|made| made.path == change.path);
            if let Some((pristine, file)) = self.files.get_mut(&change.path) {
                let failed = |error| Box::new((change.path.clone(), error));
                if changed && let (Some(pristine), Some(now)) = (&pristine, &file) {
                    let unsure = |hunk: &Hunk| !unified::is_sure(hunk, pristine, now);
                    if let Some(index) = change.hunks.iter().position(unsure) {
                        return Err(failed(ApplyError::Repeated {
                            path: change.path.clone(),
                            hunk: index + 1,
                        }));
                    }
                }
                *file = unified::apply(&change, file.as_ref()).map_err(failed)?;
            }
            self.changes.push(change);
        }
        Ok(())
    }

    /// Leaves out of a change the hunks that another fix has made already; `None` where that is all.
    fn without_what_is_made(&self, change: &FileDiff) -> Option<FileDiff> {
        let earlier = self.changes.iter().filter(|made| made.path == change.path);
        let made: Vec<&Hunk> = earlier
            .clone()
            .filter(|made| made.change == change.change)
            .flat_map(|made| &made.hunks)
            .collect();
        if earlier.clone().any(|made| made == change) {
            return None;
        }
        let mut rest = change.clone();
        rest.hunks
            .retain(|hunk| !made.iter().any(|made| alike(made, hunk)));
        (rest.hunks.len() == change.hunks.len() || !rest.hunks.is_empty()).then_some(rest)
    }
}

/// Tells whether two hunks make the same change at the same lines.
fn alike(left: &Hunk, right: &Hunk) -> bool {
    fn text(hunk: &Hunk) -> impl Iterator<Item = &HunkLine> {
        hunk.lines.iter()
    }
    left.old_start == right.old_start && text(left).eq(text(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "a\nb\nc\nd\ne\nf\ng\n";

    fn fix(name: &str, path: &str, hunks: &str) -> NamedFix {
        let text = format!("--- a/{path}\n+++ b/{path}\n{hunks}");
        NamedFix {
            name: name.to_owned(),
            cves: Vec::new(),
            diff: unified::parse(text.as_bytes()).unwrap(),
        }
    }

    /// `x.c` with all fixes.
    fn merged(fixes: &[NamedFix]) -> Result<String, Box<Conflict>> {
        let diff = merge(fixes, |_| Some(FILE.as_bytes().to_vec()))?;
        let mut file = Some(PatchedFile::pristine(FILE.as_bytes()));
        for change in diff.files.iter().filter(|one| one.path.as_str() == "x.c") {
            file = unified::apply(change, file.as_ref()).unwrap();
        }
        Ok(String::from_utf8(file.unwrap().bytes()).unwrap())
    }

    #[test]
    fn changes_of_one_file_in_two_places_are_both_made() {
        let fixes = [
            fix("A", "x.c", "@@ -1,2 +1,3 @@\n a\n+1\n b\n"),
            fix("B", "x.c", "@@ -6,2 +6,2 @@\n f\n-g\n+G\n"),
            fix("C", "y.c", "@@ -1 +1 @@\n-a\n+A\n"),
        ];
        assert_eq!(merged(&fixes).unwrap(), "a\n1\nb\nc\nd\ne\nf\nG\n");
    }

    #[test]
    fn the_same_change_is_made_once() {
        let same = "@@ -1,2 +1,3 @@\n a\n+1\n b\n";
        let more = format!("{same}@@ -6,2 +7,2 @@\n f\n-g\n+G\n");
        let fixes = [
            fix("A", "x.c", same),
            fix("B", "x.c", &more),
            fix("C", "x.c", same),
        ];
        assert_eq!(merged(&fixes).unwrap(), "a\n1\nb\nc\nd\ne\nf\nG\n");
    }

    #[test]
    fn a_fix_that_needs_another_one_comes_after_it() {
        let fixes = [
            fix("B", "x.c", "@@ -1,3 +1,3 @@\n a\n-1\n+2\n b\n"),
            fix("A", "x.c", "@@ -1,2 +1,3 @@\n a\n+1\n b\n"),
        ];
        assert_eq!(merged(&fixes).unwrap(), "a\n2\nb\nc\nd\ne\nf\ng\n");
    }

    #[test]
    fn a_place_that_another_fix_took_is_not_exchanged_for_its_like() {
        // Two blocks are alike. The first fix changes the second, and shifts the first to its line.
        let file = "a\nx\ny\nb\nx\ny\n";
        let first = "@@ -1,1 +1,4 @@\n a\n+1\n+2\n+3\n@@ -4,3 +7,3 @@\n b\n-x\n+X\n y\n";
        let second = "@@ -5,2 +5,2 @@\n x\n-y\n+Y\n";
        let fixes = [fix("A", "x.c", first), fix("B", "x.c", second)];
        let conflict = merge(&fixes, |_| Some(file.as_bytes().to_vec())).unwrap_err();
        assert!(matches!(
            conflict.source,
            ApplyError::Repeated { hunk: 1, .. }
        ));
        // The other block is untouched, and known by its number in the kernel's source.
        let second = "@@ -2,2 +2,2 @@\n x\n-y\n+Y\n";
        let fixes = [fix("A", "x.c", first), fix("B", "x.c", second)];
        let merged = merge(&fixes, |_| Some(file.as_bytes().to_vec())).unwrap();
        let mut after = Some(PatchedFile::pristine(file.as_bytes()));
        for change in &merged.files {
            after = unified::apply(change, after.as_ref()).unwrap();
        }
        assert_eq!(after.unwrap().bytes(), b"a\n1\n2\n3\nx\nY\nb\nX\ny\n");
    }

    #[test]
    fn two_changes_of_one_line_are_a_conflict_that_names_both() {
        let fixes = [
            fix("A", "x.c", "@@ -1,2 +1,2 @@\n-a\n+1\n b\n"),
            fix("B", "x.c", "@@ -1,2 +1,2 @@\n-a\n+2\n b\n"),
        ];
        let conflict = merged(&fixes).unwrap_err();
        assert_eq!(
            conflict.to_string(),
            "B does not fit together with A, which changes x.c as well"
        );
        assert!(conflict.source.to_string().contains("hunk 1 of x.c"));
    }
}
