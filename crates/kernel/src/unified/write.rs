//! A change as text again, as `git diff` prints it.

use std::io::Write as _;

use super::{Change, Diff, FileDiff, Side};

impl Diff {
    /// Returns the text that [`parse()`](super::parse()) reads as this change.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // What follows a lone git header would be taken for its hunks.
        let mut header = false;
        for file in &self.files {
            header |= file.hunks.is_empty();
            write_file(file, header, &mut text);
            header = file.hunks.is_empty();
        }
        text
    }
}

fn write_file(file: &FileDiff, header: bool, text: &mut Vec<u8>) {
    let path = &file.path;
    // Writing to memory does not fail.
    let mut line = |words: std::fmt::Arguments<'_>| drop(writeln!(text, "{words}"));
    if header {
        // Only git's own header can say that an empty file comes or goes.
        line(format_args!("diff --git a/{path} b/{path}"));
        match file.change {
            Change::Edited => {}
            Change::Created => line(format_args!("new file mode 100644")),
            Change::Deleted => line(format_args!("deleted file mode 100644")),
        }
    }
    if file.hunks.is_empty() {
        return;
    }
    match file.change {
        Change::Created => line(format_args!("--- /dev/null")),
        Change::Edited | Change::Deleted => line(format_args!("--- a/{path}")),
    }
    match file.change {
        Change::Deleted => line(format_args!("+++ /dev/null")),
        Change::Edited | Change::Created => line(format_args!("+++ b/{path}")),
    }
    let mut grown = 0_i64;
    for hunk in &file.hunks {
        let (old, new) = (hunk.old().count(), hunk.new_lines().count());
        let start = i64::from(hunk.old_start) + grown;
        // A side without lines names the line before it.
        let start = match (old, new) {
            (0, _) => start + 1,
            (_, 0) => start - 1,
            _ => start,
        };
        let header = format!("@@ -{},{old} +{},{new} @@", hunk.old_start, start.max(0));
        text.extend_from_slice(header.as_bytes());
        text.push(b'\n');
        for one in &hunk.lines {
            text.push(match one.side {
                Side::Both => b' ',
                Side::Old => b'-',
                Side::New => b'+',
            });
            text.extend_from_slice(&one.bytes);
            text.push(b'\n');
            if !one.newline {
                text.extend_from_slice(b"\\ No newline at end of file\n");
            }
        }
        grown += i64::try_from(new).unwrap_or(0) - i64::try_from(old).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[test]
    fn what_is_written_is_read_as_the_same_change() {
        let text = "diff --git a/x.c b/x.c\nindex 1..2 100644\n--- a/x.c\n+++ b/x.c\n@@ -1,3 +1,4 @@ int f(void)\n a\n-b\n+B\n+C\n c\n@@ -9 +10 @@\n-x\n\\ No newline at end of file\n+y\ndiff --git a/n.c b/n.c\nnew file mode 100644\n--- /dev/null\n+++ b/n.c\n@@ -0,0 +1,2 @@\n+a\n+b\ndiff --git a/d.c b/d.c\ndeleted file mode 100644\n--- a/d.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\ndiff --git a/e.c b/e.c\nnew file mode 100644\nindex 0..e69de29\ndiff --git a/p.c b/p.c\n--- a/p.c\n+++ b/p.c\n@@ -4,0 +5 @@\n+q\n";
        let diff = parse(text.as_bytes()).unwrap();
        let again = diff.to_bytes();
        assert_eq!(
            parse(&again).unwrap(),
            diff,
            "{}",
            String::from_utf8_lossy(&again)
        );
        assert_eq!(parse(&again).unwrap().to_bytes(), again);
    }
}
