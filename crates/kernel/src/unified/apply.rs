//! Applies hunks to the lines of a file: exact context, moved if need be, never fuzzy.

use super::{Change, FileDiff, Hunk, HunkLine, Side, TreePath};

/// Most lines of either side that a failure shows.
const SHOWN: usize = 12;

/// A file after a change, with where each line came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchedFile {
    /// Its lines.
    pub lines: Vec<PatchedLine>,
}

/// One line of a changed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchedLine {
    /// Its bytes, without the newline.
    pub bytes: Vec<u8>,
    /// Whether a newline ends it.
    pub newline: bool,
    /// Its number in the file before any change, from 1; nothing for an added line.
    pub origin: Option<u32>,
}

impl PatchedFile {
    /// Takes a file as it is, before any change.
    pub fn pristine(bytes: &[u8]) -> Self {
        let mut lines = Vec::new();
        let mut number = 0_u32;
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            number = number.saturating_add(1);
            let text = line.strip_suffix(b"\n");
            lines.push(PatchedLine {
                bytes: text.unwrap_or(line).to_vec(),
                newline: text.is_some(),
                origin: Some(number),
            });
        }
        Self { lines }
    }

    /// Returns the bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in &self.lines {
            bytes.extend_from_slice(&line.bytes);
            if line.newline {
                bytes.push(b'\n');
            }
        }
        bytes
    }
}

/// Why a change does not fit a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The file is not there.
    #[error("{path} is not in the kernel tree")]
    Missing {
        /// The file.
        path: TreePath,
    },
    /// A new file is there already.
    #[error("{path} is new in the fix and already in the kernel tree")]
    Exists {
        /// The file.
        path: TreePath,
    },
    /// The lines a hunk wants are nowhere after the hunk before it.
    #[error(
        "hunk {hunk} of {path} does not apply at line {line}{hint}\nexpected:\n{expected}\nfound:\n{found}",
        hint = if *already { " (the file already has this change)" } else { "" }
    )]
    Hunk {
        /// The file.
        path: TreePath,
        /// Number of the hunk in the file, from 1.
        hunk: usize,
        /// Line of the file it was tried at, from 1.
        line: usize,
        /// The lines it wants, from the first that differs.
        expected: String,
        /// The lines that are there.
        found: String,
        /// Whether the lines it would write are there already.
        already: bool,
    },
    /// The lines a hunk wants are not where it says, and in several other places.
    #[error(
        "hunk {hunk} of {path} fits in several places (lines {first} and {second}) and none is the one it names"
    )]
    Ambiguous {
        /// The file.
        path: TreePath,
        /// Number of the hunk in the file, from 1.
        hunk: usize,
        /// A line it fits at, from 1.
        first: usize,
        /// Another one.
        second: usize,
    },
    /// Another change was made in the file, and the lines that a hunk wants are in it several times.
    #[error(
        "hunk {hunk} of {path} wants lines that are there more than once, and another fix changed those that it numbers: which are meant cannot be told (give one fix with both changes)"
    )]
    Repeated {
        /// The file.
        path: TreePath,
        /// Number of the hunk in the file, from 1.
        hunk: usize,
    },
    /// A hunk of a file with lines names none of them.
    #[error(
        "hunk {hunk} of {path} has no lines around it: its place is known by line number alone (want context, as `diff -u` writes it)"
    )]
    NoContext {
        /// The file.
        path: TreePath,
        /// Number of the hunk in the file, from 1.
        hunk: usize,
    },
    /// A deleted file holds lines that the diff does not name.
    #[error("{path} is deleted by the fix and has other lines than the fix names")]
    NotEmptied {
        /// The file.
        path: TreePath,
    },
}

/// Applies `diff` to `file` (`None`: not there), and returns the file after it (`None`: deleted).
pub fn apply(
    diff: &FileDiff,
    file: Option<&PatchedFile>,
) -> Result<Option<PatchedFile>, ApplyError> {
    let empty = PatchedFile::default();
    let before = match (diff.change, file) {
        (Change::Created, None) => &empty,
        (Change::Created, Some(_)) => {
            return Err(ApplyError::Exists {
                path: diff.path.clone(),
            });
        }
        (Change::Edited | Change::Deleted, Some(file)) => file,
        (Change::Edited | Change::Deleted, None) => {
            return Err(ApplyError::Missing {
                path: diff.path.clone(),
            });
        }
    };
    let after = apply_hunks(diff, &before.lines)?;
    match diff.change {
        Change::Edited | Change::Created => Ok(Some(after)),
        Change::Deleted if after.lines.is_empty() => Ok(None),
        Change::Deleted => Err(ApplyError::NotEmptied {
            path: diff.path.clone(),
        }),
    }
}

fn apply_hunks(diff: &FileDiff, before: &[PatchedLine]) -> Result<PatchedFile, ApplyError> {
    let mut after = Vec::with_capacity(before.len());
    // Lines of `before` that are already in `after`, and how far the hunks before were moved.
    let mut done = 0_usize;
    let mut moved = 0_isize;
    for (index, hunk) in diff.hunks.iter().enumerate() {
        let old: Vec<&HunkLine> = hunk.old().collect();
        // A line number alone is a guess in any source but the author's.
        if old.is_empty() && !before.is_empty() {
            return Err(ApplyError::NoContext {
                path: diff.path.clone(),
                hunk: index + 1,
            });
        }
        // A hunk without old lines names the line it follows.
        let named = match (hunk.old_start as usize, old.is_empty()) {
            (start, true) => start,
            (start, false) => start.saturating_sub(1),
        };
        let expected = named.saturating_add_signed(moved);
        let place = Place {
            diff,
            hunk: index + 1,
            before,
            from: done,
            expected,
            pristine: after_other_changes(before, named),
        };
        let at = place.find(&old, hunk)?;
        moved = at.cast_signed() - named.cast_signed();
        after.extend_from_slice(before.get(done..at).unwrap_or_default());
        let mut next = at;
        for line in &hunk.lines {
            match line.side {
                Side::Both => {
                    after.extend(before.get(next).cloned());
                    next += 1;
                }
                Side::Old => next += 1,
                Side::New => {
                    after.push(PatchedLine {
                        bytes: line.bytes.clone(),
                        newline: line.newline,
                        origin: None,
                    });
                }
            }
        }
        done = next;
    }
    after.extend_from_slice(before.get(done..).unwrap_or_default());
    let count = after.len();
    if after
        .iter()
        .take(count.saturating_sub(1))
        .any(|line| !line.newline)
    {
        // A hunk put lines behind one that had no newline.
        let hunk = diff.hunks.len();
        return Err(ApplyError::Hunk {
            path: diff.path.clone(),
            hunk,
            line: count,
            expected: "a newline at the end of the line before".to_owned(),
            found: "none".to_owned(),
            already: false,
        });
    }
    Ok(PatchedFile { lines: after })
}

/// Tells whether a hunk can mean one place only in a file that was `pristine` and is `now` changed: its lines
/// are there once, or those that it numbers in the pristine file are untouched.
pub fn is_sure(hunk: &Hunk, pristine: &PatchedFile, now: &PatchedFile) -> bool {
    let old: Vec<&HunkLine> = hunk.old().collect();
    let fits = |lines: &[PatchedLine]| {
        lines.len() == old.len()
            && lines
                .iter()
                .zip(&old)
                .all(|(there, wanted)| same(there, wanted))
    };
    let count = |file: &PatchedFile| {
        let runs = file.lines.windows(old.len().max(1));
        runs.filter(|lines| fits(lines)).take(2).count()
    };
    if count(pristine) < 2 && count(now) < 2 {
        return true;
    }
    let mut numbers =
        (0..old.len()).map(|more| hunk.old_start.checked_add(u32::try_from(more).ok()?));
    let first = numbers.next().flatten();
    let at = now
        .lines
        .iter()
        .position(|line| line.origin.is_some() && line.origin == first);
    let run = at.and_then(|at| now.lines.get(at..at.checked_add(old.len())?));
    run.is_some_and(|run| fits(run) && run.iter().skip(1).map(|line| line.origin).eq(numbers))
}

/// Where a hunk may go.
struct Place<'a> {
    diff: &'a FileDiff,
    hunk: usize,
    before: &'a [PatchedLine],
    from: usize,
    expected: usize,
    /// Where the line went that the hunk names, if it was counted before other changes of the file.
    pristine: Option<usize>,
}

/// Finds the line that was `named` (from 0) before the file was changed; `None` where it was not changed.
fn after_other_changes(before: &[PatchedLine], named: usize) -> Option<usize> {
    let number = |index: usize| u32::try_from(index + 1).ok();
    let moved = |(index, line): (usize, &PatchedLine)| line.origin != number(index);
    if !before.iter().enumerate().any(moved) {
        return None;
    }
    let origin = number(named);
    before
        .iter()
        .position(|line| line.origin.is_some() && line.origin == origin)
}

impl Place<'_> {
    fn find(&self, old: &[&HunkLine], hunk: &Hunk) -> Result<usize, ApplyError> {
        let fits = |at: &usize| *at >= self.from && self.fits(old, *at);
        let by_number = Some(self.expected).filter(fits);
        let ambiguous = |first: usize, second: usize| ApplyError::Ambiguous {
            path: self.diff.path.clone(),
            hunk: self.hunk,
            first: first + 1,
            second: second + 1,
        };
        // Fixes of one kernel are all cut from its own source, or each on top of the one before. That the place
        // which was meant is not taken by another fix is for `is_sure` to say, which knows both sources.
        match (by_number, self.pristine.filter(fits)) {
            (Some(at), None) | (None, Some(at)) => return Ok(at),
            (Some(at), Some(other)) if at == other => return Ok(at),
            (Some(at), Some(other)) => return Err(ambiguous(at, other)),
            (None, None) => {}
        }
        let mut places = (self.from..self.before.len()).filter(|&at| self.fits(old, at));
        match (places.next(), places.next()) {
            (Some(at), None) => Ok(at),
            (Some(first), Some(second)) => Err(ambiguous(first, second)),
            (None, _) => Err(self.failure(old, hunk)),
        }
    }

    fn fits(&self, wanted: &[&HunkLine], at: usize) -> bool {
        let Some(end) = at.checked_add(wanted.len()) else {
            return false;
        };
        self.before.get(at..end).is_some_and(|there| {
            there
                .iter()
                .zip(wanted)
                .all(|(there, wanted)| same(there, wanted))
        })
    }

    fn failure(&self, old: &[&HunkLine], hunk: &Hunk) -> ApplyError {
        let new: Vec<&HunkLine> = hunk.new_lines().collect();
        let already =
            !new.is_empty() && (self.from..self.before.len()).any(|at| self.fits(&new, at));
        let there = self.before.get(self.expected..).unwrap_or_default();
        let equal = there
            .iter()
            .zip(old)
            .take_while(|(there, wanted)| same(there, wanted))
            .count();
        let shown = |lines: Vec<&[u8]>| match lines.as_slice() {
            [] => "(end of file)".to_owned(),
            lines => String::from_utf8_lossy(&lines.join(&b'\n')).into_owned(),
        };
        let expected = old.iter().skip(equal).take(SHOWN);
        let found = there
            .iter()
            .skip(equal)
            .take(SHOWN.min(old.len().saturating_sub(equal)));
        ApplyError::Hunk {
            path: self.diff.path.clone(),
            hunk: self.hunk,
            line: self.expected.saturating_add(equal).saturating_add(1),
            expected: shown(expected.map(|line| line.bytes.as_slice()).collect()),
            found: shown(found.map(|line| line.bytes.as_slice()).collect()),
            already,
        }
    }
}

fn same(there: &PatchedLine, wanted: &HunkLine) -> bool {
    there.bytes == wanted.bytes && there.newline == wanted.newline
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn after(before: &str, hunks: &str) -> Result<String, ApplyError> {
        let text = format!("--- a/x.c\n+++ b/x.c\n{hunks}");
        let diff = parse(text.as_bytes()).unwrap();
        let file = PatchedFile::pristine(before.as_bytes());
        let after = apply(&diff.files[0], Some(&file))?;
        Ok(String::from_utf8(after.unwrap_or_default().bytes()).unwrap())
    }

    #[test]
    fn a_hunk_goes_where_its_lines_are() {
        let hunk = "@@ -2,2 +2,3 @@\n b\n+new\n c\n";
        assert_eq!(after("a\nb\nc\n", hunk).unwrap(), "a\nb\nnew\nc\n");
        assert_eq!(
            after("0\n1\n2\na\nb\nc\n", hunk).unwrap(),
            "0\n1\n2\na\nb\nnew\nc\n"
        );
        assert_eq!(after("b\nc\n", hunk).unwrap(), "b\nnew\nc\n");
    }

    #[test]
    fn later_hunks_follow_the_offset_of_earlier_ones() {
        // `x` is there twice; the offset of the first hunk says which one is meant.
        let hunks = "@@ -1,1 +1,1 @@\n-a\n+A\n@@ -3,1 +3,1 @@\n-x\n+X\n";
        assert_eq!(after("0\na\n1\nx\nx\n", hunks).unwrap(), "0\nA\n1\nX\nx\n");
    }

    #[test]
    fn a_second_change_of_a_file_is_placed_by_the_lines_before_the_first() {
        let file = PatchedFile::pristine(b"a\nx\nb\nx\nc\nx\n");
        let parsed =
            |hunks: &str| parse(format!("--- a/x.c\n+++ b/x.c\n{hunks}").as_bytes()).unwrap();
        let first = parsed("@@ -1,1 +1,4 @@\n a\n+1\n+2\n+3\n");
        let file = apply(&first.files[0], Some(&file)).unwrap().unwrap();
        // `x` is there three times. Line 4 is meant as the kernel counts, where now is the `3`.
        let second = parsed("@@ -4,1 +4,1 @@\n-x\n+X\n");
        let after = apply(&second.files[0], Some(&file)).unwrap().unwrap();
        assert_eq!(after.bytes(), b"a\n1\n2\n3\nx\nb\nX\nc\nx\n");
        // Counted after the first change, and there once.
        let second = parsed("@@ -8,1 +8,1 @@\n-c\n+C\n");
        let after = apply(&second.files[0], Some(&file)).unwrap().unwrap();
        assert_eq!(after.bytes(), b"a\n1\n2\n3\nx\nb\nx\nC\nx\n");
    }

    #[test]
    fn two_places_by_two_ways_of_counting_are_not_chosen_from() {
        let file = PatchedFile::pristine(b"a\nx\nx\nb\n");
        let parsed =
            |hunks: &str| parse(format!("--- a/x.c\n+++ b/x.c\n{hunks}").as_bytes()).unwrap();
        let first = parsed("@@ -1,1 +1,2 @@\n a\n+1\n");
        let file = apply(&first.files[0], Some(&file)).unwrap().unwrap();
        let second = parsed("@@ -3,1 +3,1 @@\n-x\n+X\n");
        assert!(matches!(
            apply(&second.files[0], Some(&file)),
            Err(ApplyError::Ambiguous {
                first: 3,
                second: 4,
                ..
            })
        ));
    }

    #[test]
    fn an_ambiguous_place_is_not_chosen() {
        let outcome = after("q\nx\ny\nx\n", "@@ -1,1 +1,1 @@\n-x\n+X\n");
        assert!(
            matches!(
                outcome,
                Err(ApplyError::Ambiguous {
                    first: 2,
                    second: 4,
                    ..
                })
            ),
            "{outcome:?}"
        );
    }

    #[test]
    fn a_hunk_without_old_lines_fits_only_an_empty_file() {
        for hunk in ["@@ -1,0 +2 @@\n+new\n", "@@ -0,0 +1 @@\n+new\n"] {
            let outcome = after("a\nb\n", hunk);
            assert!(
                matches!(outcome, Err(ApplyError::NoContext { hunk: 1, .. })),
                "{outcome:?}"
            );
        }
        let second = "@@ -1 +1 @@\n-a\n+A\n@@ -2,0 +3 @@\n+new\n";
        let outcome = after("a\nb\n", second);
        assert!(
            matches!(outcome, Err(ApplyError::NoContext { hunk: 2, .. })),
            "{outcome:?}"
        );
        assert_eq!(after("", "@@ -0,0 +1 @@\n+new\n").unwrap(), "new\n");
    }

    #[test]
    fn a_failure_names_hunk_line_and_both_texts() {
        let error = after("a\nb\nc\n", "@@ -1,3 +1,3 @@\n a\n-B\n+C\n c\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "hunk 1 of x.c does not apply at line 2\nexpected:\nB\nc\nfound:\nb\nc"
        );
    }

    #[test]
    fn white_space_is_never_forgiven() {
        assert!(after("a \nb\n", "@@ -1,2 +1,1 @@\n a\n-b\n").is_err());
        assert!(after("a\nb", "@@ -1,2 +1,1 @@\n a\n-b\n").is_err());
        let ends = "@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n";
        assert_eq!(after("a\nb", ends).unwrap(), "a\nc\n");
    }

    #[test]
    fn a_change_that_is_there_already_is_said_so() {
        let outcome = after("a\nC\nc\n", "@@ -1,3 +1,3 @@\n a\n-b\n+C\n c\n");
        assert!(
            matches!(outcome, Err(ApplyError::Hunk { already: true, .. })),
            "{outcome:?}"
        );
    }

    #[test]
    fn a_new_file_is_not_written_over_an_old_one() {
        let diff = parse(b"--- /dev/null\n+++ b/x.c\n@@ -0,0 +1 @@\n+a\n").unwrap();
        let new = apply(&diff.files[0], None).unwrap().unwrap();
        assert_eq!(new.bytes(), b"a\n");
        let outcome = apply(&diff.files[0], Some(&new));
        assert!(matches!(outcome, Err(ApplyError::Exists { .. })));
    }

    #[test]
    fn a_deleted_file_must_be_what_the_fix_thinks_it_is() {
        let diff = parse(b"--- a/x.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n").unwrap();
        let delete = |text: &[u8]| apply(&diff.files[0], Some(&PatchedFile::pristine(text)));
        assert_eq!(delete(b"a\n"), Ok(None));
        assert!(matches!(
            delete(b"a\nb\n"),
            Err(ApplyError::NotEmptied { .. })
        ));
    }

    #[test]
    fn lines_know_where_they_came_from() {
        let diff = parse(b"--- a/x.c\n+++ b/x.c\n@@ -1,2 +1,2 @@\n-a\n b\n+n\n").unwrap();
        let file = PatchedFile::pristine(b"a\nb\nc\n");
        let after = apply(&diff.files[0], Some(&file)).unwrap().unwrap();
        let origins: Vec<Option<u32>> = after.lines.iter().map(|line| line.origin).collect();
        assert_eq!(origins, [Some(2), None, Some(3)]);
    }
}
