//! Reads unified diffs, as written by git or by `diff -u`.

use super::{Change, Diff, FileDiff, Hunk, HunkLine, LONGEST_DIFF, Side, TreePath};

/// Why a text is no diff that can be applied. Lines are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// It is too long.
    #[error("the diff has {length} bytes; at most {LONGEST_DIFF} are read")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It changes nothing.
    #[error("no change of a file in the diff")]
    Empty,
    /// It asks for something other than text edits inside the tree.
    #[error("line {line} of the diff: {what}, which is not supported: {text}")]
    Unsupported {
        /// Line of the diff.
        line: usize,
        /// What it asks for.
        what: Unsupported,
        /// The line's text, shortened.
        text: String,
    },
    /// Its form is broken.
    #[error("line {line} of the diff: {what}")]
    Malformed {
        /// Line of the diff.
        line: usize,
        /// What was wrong.
        what: &'static str,
    },
}

/// What a diff may ask for and is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// A path with `..`, an absolute one, or one with quotes or control characters.
    #[error("a path that leaves the tree or is not plain")]
    Path,
    /// A symbolic link or a submodule.
    #[error("a symbolic link or submodule")]
    Link,
    /// A binary change.
    #[error("a binary change")]
    Binary,
    /// A changed file mode, or a new file that is executable.
    #[error("a file mode change")]
    Mode,
    /// A rename, or old and new path differ.
    #[error("a rename")]
    Rename,
    /// A copy.
    #[error("a copy")]
    Copy,
}

/// Reads a diff; paths lose their first component (`-p1`).
///
/// Text around the changes (mail headers, commit messages) is skipped, but not right after a hunk
/// where it could be lines of it.
pub fn parse(text: &[u8]) -> Result<Diff, DiffError> {
    if text.len() > LONGEST_DIFF {
        return Err(DiffError::TooLong { length: text.len() });
    }
    let mut reader = Reader::new(text);
    let mut files = Vec::new();
    let mut git: Option<GitHeader> = None;
    while let Some(line) = reader.peek() {
        if line.starts_with(b"diff --git ") {
            files.extend(finish(git.take())?);
            git = Some(GitHeader::new(line, reader.number));
            reader.next();
        } else if starts_file(&reader) {
            let file = read_file(&mut reader, git.take())?;
            files.push(file);
        } else if line.starts_with(b"@@ -") {
            return Err(reader.malformed("a hunk without a file header"));
        } else if line == b"GIT binary patch"
            || (line.starts_with(b"Binary files ") && line.ends_with(b" differ"))
        {
            return Err(reader.unsupported(Unsupported::Binary));
        } else if line.starts_with(b"Only in ") {
            return Err(
                reader.malformed("a file that the diff names and leaves out (want `diff -N`)")
            );
        } else {
            if let Some(header) = &mut git {
                header.read(&reader)?;
            }
            reader.next();
        }
    }
    files.extend(finish(git)?);
    if files.is_empty() {
        return Err(DiffError::Empty);
    }
    Ok(Diff { files })
}

/// Lines of the text, with one line of look-ahead.
#[derive(Clone)]
struct Reader<'a> {
    rest: Option<&'a [u8]>,
    number: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self {
            rest: (!text.is_empty()).then_some(text),
            number: 1,
        }
    }

    fn peek(&self) -> Option<&'a [u8]> {
        self.rest.map(|rest| cut(rest).0)
    }

    fn peek_second(&self) -> Option<&'a [u8]> {
        cut(self.rest?).1.map(|rest| cut(rest).0)
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        let (line, rest) = cut(self.rest?);
        self.rest = rest;
        self.number += 1;
        Some(line)
    }

    fn malformed(&self, what: &'static str) -> DiffError {
        DiffError::Malformed {
            line: self.number,
            what,
        }
    }

    fn unsupported(&self, what: Unsupported) -> DiffError {
        unsupported(self.number, what, self.peek().unwrap_or_default())
    }
}

/// Cuts the first line off; the rest is `None` when nothing follows its newline.
fn cut(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|&byte| byte == b'\n') {
        Some(end) => {
            let (line, rest) = text.split_at(end);
            let rest = rest.get(1..).unwrap_or_default();
            (line, (!rest.is_empty()).then_some(rest))
        }
        None => (text, None),
    }
}

fn unsupported(line: usize, what: Unsupported, text: &[u8]) -> DiffError {
    DiffError::Unsupported {
        line,
        what,
        text: String::from_utf8_lossy(text).chars().take(160).collect(),
    }
}

/// The lines from `diff --git` to the first hunk.
struct GitHeader {
    line: usize,
    names: Vec<u8>,
    change: Change,
}

impl GitHeader {
    fn new(line: &[u8], number: usize) -> Self {
        Self {
            line: number,
            names: line
                .get(b"diff --git ".len()..)
                .unwrap_or_default()
                .to_vec(),
            change: Change::Edited,
        }
    }

    fn read(&mut self, reader: &Reader<'_>) -> Result<(), DiffError> {
        let line = reader.peek().unwrap_or_default();
        let starts = |word: &str| line.starts_with(word.as_bytes());
        if starts("rename from ") || starts("rename to ") {
            return Err(reader.unsupported(Unsupported::Rename));
        }
        if starts("copy from ") || starts("copy to ") {
            return Err(reader.unsupported(Unsupported::Copy));
        }
        if starts("old mode ") || starts("new mode ") {
            return Err(reader.unsupported(Unsupported::Mode));
        }
        for (word, change) in [
            ("new file mode ", Change::Created),
            ("deleted file mode ", Change::Deleted),
        ] {
            if let Some(mode) = line.strip_prefix(word.as_bytes()) {
                match mode {
                    b"100644" => self.change = change,
                    // What is deleted may have been executable.
                    b"100755" if change == Change::Deleted => self.change = change,
                    b"120000" | b"160000" => return Err(reader.unsupported(Unsupported::Link)),
                    _ => return Err(reader.unsupported(Unsupported::Mode)),
                }
            }
        }
        // `index 1234..5678 120000` names the mode of an edited link.
        if starts("index ") && (line.ends_with(b" 120000") || line.ends_with(b" 160000")) {
            return Err(reader.unsupported(Unsupported::Link));
        }
        Ok(())
    }

    /// Returns the path if both names are the same.
    fn path(&self) -> Result<TreePath, DiffError> {
        let broken = |what| unsupported(self.line, what, &self.names);
        let text = std::str::from_utf8(&self.names).map_err(|_| broken(Unsupported::Path))?;
        // `a/X b/X`: both halves are equally long, whatever blanks are in them.
        let (old, new) = text
            .split_at_checked(text.len() / 2)
            .ok_or_else(|| broken(Unsupported::Path))?;
        let new = new
            .strip_prefix(' ')
            .ok_or_else(|| broken(Unsupported::Rename))?;
        let old = strip(old).ok_or_else(|| broken(Unsupported::Path))?;
        let new = strip(new).ok_or_else(|| broken(Unsupported::Path))?;
        if old == new {
            Ok(old)
        } else {
            Err(broken(Unsupported::Rename))
        }
    }
}

/// Ends a git header that was followed by no hunk: an empty file came or went, or nothing happened.
fn finish(header: Option<GitHeader>) -> Result<Option<FileDiff>, DiffError> {
    let Some(header) = header else {
        return Ok(None);
    };
    match header.change {
        Change::Edited => Ok(None),
        change @ (Change::Created | Change::Deleted) => Ok(Some(FileDiff {
            path: header.path()?,
            change,
            hunks: Vec::new(),
        })),
    }
}

fn starts_file(reader: &Reader<'_>) -> bool {
    reader.peek().is_some_and(|line| line.starts_with(b"--- "))
        && reader
            .peek_second()
            .is_some_and(|line| line.starts_with(b"+++ "))
}

/// One name of a `---`/`+++` pair.
enum Name {
    /// `/dev/null`, or a name dated to the beginning of time: not there.
    Nothing(Option<TreePath>),
    Path(TreePath),
}

fn read_file(reader: &mut Reader<'_>, git: Option<GitHeader>) -> Result<FileDiff, DiffError> {
    let old = read_name(reader)?;
    let new = read_name(reader)?;
    let (path, dated) = match (old, new) {
        (Name::Path(old), Name::Path(new)) if old == new => (old, Change::Edited),
        (Name::Nothing(None), Name::Path(path)) => (path, Change::Created),
        (Name::Path(path), Name::Nothing(None)) => (path, Change::Deleted),
        (Name::Nothing(Some(old)), Name::Path(path)) if old == path => (path, Change::Created),
        (Name::Path(path), Name::Nothing(Some(new))) if new == path => (path, Change::Deleted),
        (Name::Nothing(_), Name::Nothing(_)) => {
            return Err(reader.malformed("a file that is neither before nor after"));
        }
        (Name::Path(_) | Name::Nothing(_), Name::Path(_) | Name::Nothing(_)) => {
            return Err(reader.unsupported(Unsupported::Rename));
        }
    };
    if let Some(git) = git {
        if git.path()? != path {
            return Err(reader.malformed("the git header names another file"));
        }
        if git.change != dated {
            return Err(reader.malformed("the git header and the file names disagree"));
        }
    }
    let mut hunks = Vec::new();
    while reader.peek().is_some_and(|line| line.starts_with(b"@@ ")) {
        hunks.push(read_hunk(reader)?);
    }
    if hunks.is_empty() {
        return Err(reader.malformed("a file header without a hunk"));
    }
    no_more_lines(reader)?;
    let lines = |side: Side| {
        hunks.iter().any(|hunk| {
            hunk.lines
                .iter()
                .any(|line| line.side == side || line.side == Side::Both)
        })
    };
    let fits = match dated {
        Change::Edited => true,
        Change::Created => !lines(Side::Old),
        Change::Deleted => !lines(Side::New),
    };
    if !fits {
        return Err(reader.malformed("lines on the side where the file is not there"));
    }
    Ok(FileDiff {
        path,
        change: dated,
        hunks,
    })
}

/// Refuses what looks like more of the last hunk: a header that counts too few would cut the fix.
fn no_more_lines(reader: &Reader<'_>) -> Result<(), DiffError> {
    let mut ahead = reader.clone();
    while let Some(line) = ahead.peek() {
        // A blank context line may have lost its blank; `-- ` ends a mailed patch.
        if !matches!(line, b"" | b"-- " | b"--") {
            let more = matches!(line.first(), Some(b'+' | b'-' | b' ' | b'\t' | b'\\'));
            return if more && !starts_file(&ahead) {
                Err(ahead.malformed("more lines than the hunk header says"))
            } else {
                Ok(())
            };
        }
        ahead.next();
    }
    Ok(())
}

fn read_name(reader: &mut Reader<'_>) -> Result<Name, DiffError> {
    let refused = reader.unsupported(Unsupported::Path);
    let line = reader.next().unwrap_or_default();
    let line = line.get(4..).unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| refused.clone())?;
    let (name, date) = line.split_once('\t').unwrap_or((line, ""));
    let name = name.trim_end_matches([' ', '\r']);
    if name == "/dev/null" {
        return Ok(Name::Nothing(None));
    }
    let path = strip(name).ok_or(refused)?;
    // `diff -N` dates what is not there to the epoch, in any time zone.
    if date.starts_with("1970-01-01 0") || date.starts_with("1969-12-31 ") {
        Ok(Name::Nothing(Some(path)))
    } else {
        Ok(Name::Path(path))
    }
}

/// Takes the first component off. An absolute path has none to take.
fn strip(name: &str) -> Option<TreePath> {
    let (first, rest) = name.split_once('/')?;
    if first.is_empty() || first == ".." {
        return None;
    }
    rest.parse().ok()
}

fn read_hunk(reader: &mut Reader<'_>) -> Result<Hunk, DiffError> {
    let head = reader.peek().unwrap_or_default();
    let (old_start, mut old_left, mut new_left) =
        ranges(head).ok_or_else(|| reader.malformed("a hunk header that cannot be read"))?;
    reader.next();
    let mut lines: Vec<HunkLine> = Vec::new();
    while old_left > 0 || new_left > 0 {
        let Some(line) = reader.peek() else {
            return Err(reader.malformed("the hunk ends early"));
        };
        let (side, bytes) = match line.split_first() {
            Some((b' ', rest)) => (Side::Both, rest),
            Some((b'-', rest)) => (Side::Old, rest),
            Some((b'+', rest)) => (Side::New, rest),
            // Mail programs take the blank of a blank context line away.
            None => (Side::Both, line),
            Some((b'\\', _)) => {
                take_newline(reader, &mut lines)?;
                continue;
            }
            Some(_) => return Err(reader.malformed("a line that belongs to no hunk")),
        };
        let used = |left: &mut u32| match left.checked_sub(1) {
            Some(rest) => {
                *left = rest;
                Ok(())
            }
            None => Err(reader.malformed("more lines than the hunk header says")),
        };
        if side != Side::New {
            used(&mut old_left)?;
        }
        if side != Side::Old {
            used(&mut new_left)?;
        }
        lines.push(HunkLine {
            side,
            bytes: bytes.to_vec(),
            newline: true,
        });
        reader.next();
    }
    if reader.peek().is_some_and(|line| line.starts_with(b"\\ ")) {
        take_newline(reader, &mut lines)?;
    }
    if !lines.iter().any(|line| line.side != Side::Both) {
        return Err(reader.malformed("a hunk that changes nothing"));
    }
    Ok(Hunk { old_start, lines })
}

/// Reads `\ No newline at end of file`, which speaks of the line before it.
fn take_newline(reader: &mut Reader<'_>, lines: &mut [HunkLine]) -> Result<(), DiffError> {
    match lines.last_mut() {
        Some(last) if last.newline => {
            last.newline = false;
            reader.next();
            Ok(())
        }
        Some(_) | None => Err(reader.malformed("a missing newline without a line")),
    }
}

/// Reads `@@ -A,B +C,D @@`: A, B and D.
fn ranges(head: &[u8]) -> Option<(u32, u32, u32)> {
    let head = head.strip_prefix(b"@@ -")?;
    let end = head.windows(3).position(|window| window == b" @@")?;
    let text = std::str::from_utf8(head.get(..end)?).ok()?;
    let (old, new) = text.split_once(" +")?;
    let pair = |text: &str| -> Option<(u32, u32)> {
        let (start, count) = text.split_once(',').unwrap_or((text, "1"));
        let number = |text: &str| {
            text.bytes()
                .all(|c| c.is_ascii_digit())
                .then(|| text.parse().ok())?
        };
        Some((number(start)?, number(count)?))
    };
    let (old_start, old_count) = pair(old)?;
    let (_, new_count) = pair(new)?;
    if old_count > 0 && old_start == 0 {
        return None;
    }
    Some((old_start, old_count, new_count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Unsupported {
        match parse(text.as_bytes()) {
            Err(DiffError::Unsupported { what, .. }) => what,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn malformed(text: &str) {
        let outcome = parse(text.as_bytes());
        assert!(
            matches!(outcome, Err(DiffError::Malformed { .. })),
            "{text}: {outcome:?}"
        );
    }

    #[test]
    fn a_mail_with_two_files_is_read() {
        let diff = parse(
            b"From: x\n\n--- not a header\ntext\n---\n a.c | 2 +-\n\ndiff --git a/net/a.c b/net/a.c\nindex 1..2 100644\n--- a/net/a.c\n+++ b/net/a.c\n@@ -1,2 +1,2 @@ f\n x\n-y\n+z\n--- old/b.h\t2026-01-01 00:00:00\n+++ new/b.h\t2026-01-02 00:00:00\n@@ -3 +3,2 @@\n k\n+l\n-- \n2.39\n",
        )
        .unwrap();
        let paths: Vec<&str> = diff.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["net/a.c", "b.h"]);
        assert_eq!(diff.files[0].hunks[0].lines.len(), 3);
        assert_eq!(diff.files[1].hunks[0].old_start, 3);
    }

    #[test]
    fn new_deleted_and_empty_files_are_told_apart() {
        let change = |text: &str| {
            let diff = parse(text.as_bytes()).unwrap();
            diff.files.first().map(|file| file.change)
        };
        for (text, wanted) in [
            (
                "--- /dev/null\n+++ b/x.c\n@@ -0,0 +1 @@\n+a\n",
                Change::Created,
            ),
            (
                "--- a/x.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n",
                Change::Deleted,
            ),
            (
                "--- a/x.c\t1970-01-01 01:00:00.0 +0100\n+++ b/x.c\t2026\n@@ -0,0 +1 @@\n+a\n",
                Change::Created,
            ),
            (
                "diff --git a/x.c b/x.c\nnew file mode 100644\nindex 0..e69de29\n",
                Change::Created,
            ),
            ("--- a/x.c\n+++ b/x.c\n@@ -0,0 +1 @@\n+a\n", Change::Edited),
        ] {
            assert_eq!(change(text), Some(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_text_edit_inside_the_tree_is_refused_by_name() {
        let edit = |old: &str, new: &str| format!("--- {old}\n+++ {new}\n@@ -1 +1 @@\n-a\n+b\n");
        for path in [
            "a/../../etc/passwd",
            "/etc/passwd",
            "../x/y",
            "a//x",
            "x",
            "a/.git/hooks",
        ] {
            assert_eq!(refused(&edit(path, path)), Unsupported::Path, "{path}");
        }
        assert_eq!(refused(&edit("a/x.c", "b/y.c")), Unsupported::Rename);
        let git = |line: &str| refused(&format!("diff --git a/x b/x\n{line}\n"));
        assert_eq!(git("rename from x"), Unsupported::Rename);
        assert_eq!(git("copy to x"), Unsupported::Copy);
        assert_eq!(git("new mode 100755"), Unsupported::Mode);
        assert_eq!(git("new file mode 100755"), Unsupported::Mode);
        assert_eq!(git("new file mode 120000"), Unsupported::Link);
        assert_eq!(git("new file mode 160000"), Unsupported::Link);
        assert_eq!(git("index 12..34 120000"), Unsupported::Link);
        assert_eq!(git("GIT binary patch"), Unsupported::Binary);
        assert_eq!(git("Binary files a/x and b/x differ"), Unsupported::Binary);
    }

    #[test]
    fn a_broken_form_is_refused() {
        let head = "--- a/x.c\n+++ b/x.c\n";
        malformed(head);
        malformed("@@ -1 +1 @@\n-a\n+b\n");
        malformed("--- /dev/null\n+++ /dev/null\n@@ -1 +1 @@\n-a\n+b\n");
        malformed("--- /dev/null\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n");
        malformed("Only in b/net: new.c\n");
        for hunk in [
            "@@ -1 +1\n-a\n+b\n",
            "@@ -1,2 +1,2 @@\n-a\n+b\n",
            "@@ -1 +1 @@\n-a\n-b\n+c\n",
            "@@ -1 +1 @@\n-a\n*b\n",
            "@@ -1 +1 @@\n a\n",
            "@@ -1 +1 @@\n\\ No newline at end of file\n-a\n+b\n",
            "@@ -0,1 +1 @@\n-a\n+b\n",
            "@@ -99999999999 +1 @@\n-a\n+b\n",
            "@@ -1,4294967295 +1 @@\n-a\n+b\n",
        ] {
            malformed(&format!("{head}{hunk}"));
        }
        assert_eq!(parse(b""), Err(DiffError::Empty));
        assert_eq!(parse(b"just words\n"), Err(DiffError::Empty));
    }

    #[test]
    fn more_lines_than_a_hunk_counts_are_never_taken_for_mail() {
        let hunk = "--- /dev/null\n+++ b/x.c\n@@ -0,0 +1 @@\n+a\n";
        for rest in [
            "+b\n",
            "-b\n",
            " b\n",
            "\tb\n",
            "\n+b\n",
            "--- b\n",
            "-- \n+b\n",
            "\\ No newline at end of file\n\\ No newline at end of file\n",
        ] {
            malformed(&format!("{hunk}{rest}"));
        }
        for rest in [
            "",
            "\n",
            "-- \n2.39.2\n\n",
            "--\n2.39.2\n",
            "--- a/y.c\n+++ b/y.c\n@@ -1 +1 @@\n-a\n+b\n",
            "\nFrom 12 Mon Sep 17\nSubject: next\n\n- an item\n y.c | 2 +-\n",
        ] {
            assert!(parse(format!("{hunk}{rest}").as_bytes()).is_ok(), "{rest}");
        }
    }

    #[test]
    fn every_cut_of_a_diff_is_read_or_refused() {
        let text = b"diff --git a/x.c b/x.c\nnew file mode 100644\n--- /dev/null\n+++ b/x.c\n@@ -0,0 +1,2 @@\n+a\n+\xff\n\\ No newline at end of file\n";
        for end in 0..text.len() {
            parse(&text[..end]).ok();
        }
    }
}
