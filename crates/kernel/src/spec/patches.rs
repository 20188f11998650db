//! The numbered patches of a kernel archive.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::SpecError;
use crate::unified::{self, FileDiff, LONGEST_DIFF, PatchedFile, TreePath};

/// Most patches of one archive.
const MOST: usize = 10_000;

/// Orders the names in `patches/` by their numbers: `N-ANYTHING.diff`, from 0 without a gap, each
/// once. The error is a name with what is wrong.
pub(super) fn order(names: &[String]) -> Result<Vec<&str>, (String, String)> {
    let mut found: BTreeMap<usize, &str> = BTreeMap::new();
    for name in names {
        let bad = |why: &str| (name.chars().take(200).collect::<String>(), why.to_owned());
        let number = name
            .strip_suffix(".diff")
            .and_then(|stem| stem.split_once('-'))
            .map(|(number, _)| number)
            .filter(|number| !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit()))
            .and_then(|number| number.parse().ok())
            .filter(|number| *number < MOST)
            .ok_or_else(|| bad("it is not named NUMBER-TEXT.diff"))?;
        if let Some(other) = found.insert(number, name) {
            return Err(bad(&format!("its number is also that of {other:?}")));
        }
    }
    for (wanted, (number, name)) in found.iter().enumerate() {
        if wanted != *number {
            let why = format!("number {wanted} before it is missing");
            return Err(((*name).to_owned(), why));
        }
    }
    Ok(found.into_values().collect())
}

/// Applies the patch `name` with this text to the tree at `top`, which may be left half patched on an
/// error.
pub(super) fn apply(top: &Path, name: &str, text: &[u8]) -> Result<(), SpecError> {
    let diff = unified::parse(text).map_err(|source| SpecError::Diff {
        name: name.to_owned(),
        source,
    })?;
    diff.files.iter().try_for_each(|file| one(top, name, file))
}

fn one(top: &Path, name: &str, file: &FileDiff) -> Result<(), SpecError> {
    let path = top.join(file.path.as_str());
    let failed = |source| SpecError::Read {
        path: path.clone(),
        source,
    };
    let before = match kind(top, &file.path) {
        Ok(Kind::File) => Some(PatchedFile::pristine(&fs::read(&path).map_err(failed)?)),
        Ok(Kind::Absent) => None,
        Ok(Kind::Other) => {
            return Err(SpecError::NotPlain {
                name: name.to_owned(),
                path: file.path.to_string(),
            });
        }
        Err(source) => return Err(failed(source)),
    };
    let after = unified::apply(file, before.as_ref()).map_err(|source| SpecError::Apply {
        name: name.to_owned(),
        source,
    })?;
    match after {
        Some(after) => {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(failed)?;
            }
            // A new file, so that one with several names keeps the others as they are.
            fs::remove_file(&path)
                .or_else(|error| match error.kind() {
                    io::ErrorKind::NotFound => Ok(()),
                    _ => Err(error),
                })
                .and_then(|()| fs::write(&path, after.bytes()))
                .map_err(failed)
        }
        None => fs::remove_file(&path).map_err(failed),
    }
}

enum Kind {
    File,
    Absent,
    Other,
}

/// Looks at every folder on the way: none may be a link.
fn kind(top: &Path, path: &TreePath) -> io::Result<Kind> {
    let mut place = top.to_owned();
    let mut parts = path.as_str().split('/').peekable();
    while let Some(part) = parts.next() {
        place.push(part);
        let found = match fs::symlink_metadata(&place) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kind::Absent),
            Err(error) => return Err(error),
        };
        let last = parts.peek().is_none();
        if (last && !found.is_file()) || (!last && !found.is_dir()) {
            return Ok(Kind::Other);
        }
    }
    // The longest diff changes no longer file.
    if fs::metadata(&place)?.len() > 4 * LONGEST_DIFF as u64 {
        return Ok(Kind::Other);
    }
    Ok(Kind::File)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str]) -> Result<Vec<String>, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        match order(&names) {
            Ok(names) => Ok(names.into_iter().map(str::to_owned).collect()),
            Err((name, why)) => Err(format!("{name}: {why}")),
        }
    }

    #[test]
    fn patches_are_ordered_by_number_and_not_by_text() {
        let mut names: Vec<String> = (0..12).rev().map(|n| format!("{n}-x.diff")).collect();
        let ordered = order(&names).unwrap();
        assert_eq!(ordered.first(), Some(&"0-x.diff"));
        assert_eq!(ordered.last(), Some(&"11-x.diff"));
        names.clear();
        assert_eq!(order(&names).unwrap(), [""; 0]);
    }

    #[test]
    fn a_gap_a_number_twice_and_another_name_are_refused_by_name() {
        for (names, expected) in [
            (
                &["0-a.diff", "2-c.diff"][..],
                "2-c.diff: number 1 before it is missing",
            ),
            (&["1-a.diff"], "1-a.diff: number 0 before it is missing"),
            (
                &["0-a.diff", "0-b.diff"],
                "0-b.diff: its number is also that of \"0-a.diff\"",
            ),
            (
                &["0-a.diff", "1-b.diff", "01-b.diff"],
                "01-b.diff: its number is also that of \"1-b.diff\"",
            ),
            (&["a.diff"], "a.diff: it is not named NUMBER-TEXT.diff"),
            (
                &["0-a.patch"],
                "0-a.patch: it is not named NUMBER-TEXT.diff",
            ),
            (
                &["-1-a.diff"],
                "-1-a.diff: it is not named NUMBER-TEXT.diff",
            ),
            (
                &["99999999-a.diff"],
                "99999999-a.diff: it is not named NUMBER-TEXT.diff",
            ),
        ] {
            assert_eq!(check(names), Err(expected.to_owned()));
        }
    }

    #[test]
    fn a_patch_through_a_link_is_refused_and_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("tree");
        fs::create_dir(&top).unwrap();
        fs::write(folder.path().join("outside"), "a\n").unwrap();
        std::os::unix::fs::symlink("..", top.join("up")).unwrap();
        std::os::unix::fs::symlink("../outside", top.join("link")).unwrap();
        for file in ["up/outside", "link"] {
            let text = format!("--- a/{file}\n+++ b/{file}\n@@ -1 +1 @@\n-a\n+b\n");
            let outcome = apply(&top, "0-x.diff", text.as_bytes());
            assert!(
                matches!(outcome, Err(SpecError::NotPlain { .. })),
                "{outcome:?}"
            );
        }
        assert_eq!(
            fs::read_to_string(folder.path().join("outside")).unwrap(),
            "a\n"
        );
    }
}
