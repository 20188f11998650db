//! A parsed diff as the change that is looked for.

use tuxtape_core::applicability::carried::{FileChange, FixFile, FixHunk, FixLine, FixSide};

use crate::unified::{self, Change, DiffError, Side};

/// How much of each file a diff shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// Some lines around each change.
    Context,
    /// All of it, as `git diff -U1000000` writes it.
    Files,
}

/// Reads a diff with the headings of its hunks.
pub(super) fn read(text: &[u8], shows: Shows) -> Result<Vec<FixFile>, DiffError> {
    let diff = unified::parse(text)?;
    let count: usize = diff.files.iter().map(|file| file.hunks.len()).sum();
    let mut headings = headings(text);
    // Text around the diff that looks like a hunk's header: no heading is better than a wrong one.
    if headings.len() != count {
        headings = vec![String::new(); count];
    }
    let mut headings = headings.into_iter();
    let line = |line: &unified::HunkLine| FixLine {
        side: match line.side {
            Side::Both => FixSide::Both,
            Side::Old => FixSide::Old,
            Side::New => FixSide::New,
        },
        text: String::from_utf8_lossy(&line.bytes).into_owned(),
    };
    let mut files = Vec::with_capacity(diff.files.len());
    for file in &diff.files {
        files.push(FixFile {
            path: file.path.to_string(),
            change: match file.change {
                Change::Edited => FileChange::Edited,
                Change::Created => FileChange::Created,
                Change::Deleted => FileChange::Deleted,
            },
            hunks: file
                .hunks
                .iter()
                .map(|hunk| FixHunk {
                    heading: headings.next().unwrap_or_default(),
                    lines: hunk.lines.iter().map(line).collect(),
                })
                .collect(),
            // A file shown in parts is not shown as a whole, whatever was said of the diff.
            is_whole: shows == Shows::Files
                && matches!(file.hunks.as_slice(), [hunk] if hunk.old_start <= 1),
        });
    }
    Ok(files)
}

/// Returns what follows the second `@@` of each hunk's header. A line within a hunk never begins so.
fn headings(text: &[u8]) -> Vec<String> {
    text.split(|byte| *byte == b'\n')
        .filter(|line| line.starts_with(b"@@ -"))
        .map(|line| {
            let line = String::from_utf8_lossy(line);
            let heading = line.splitn(3, "@@").nth(2).unwrap_or("");
            heading.trim().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hunks_keep_their_headings() {
        let files = read(
            b"--- a/x.c\n+++ b/x.c\n@@ -1,1 +1,2 @@ int f(void)\n a\n+b\n@@ -9 +10 @@\n-c\n+d\n",
            Shows::Context,
        )
        .unwrap();
        let headings: Vec<&str> = files[0]
            .hunks
            .iter()
            .map(|hunk| hunk.heading.as_str())
            .collect();
        assert_eq!(headings, ["int f(void)", ""]);
    }
}
