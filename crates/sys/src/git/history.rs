//! Which commits touched which files.

use std::time::Duration;

use tuxtape_core::git_id::GitId;

use super::{GitError, LOCAL, Repository, unexpected};
use crate::process;

/// Bytes that git's memory may grow to before it is given back, one by one.
const HEAP: &str = "67108864";

/// What a commit did to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// It brought the file.
    Added,
    /// It changed the file.
    Changed,
    /// It took the file away.
    Removed,
}

/// One commit that touched files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Committer time, in seconds since 1970 UTC; as untrue as the committer's clock.
    pub time: i64,
    /// Whether nothing is known from before it: the first commit, or the oldest of a shallow clone.
    /// It seems to bring every file of its tree, and none is listed.
    pub is_beginning: bool,
    /// The files, as paths from the top.
    pub touched: Vec<(Touch, String)>,
}

impl Repository {
    /// Lists the commits back from `to` with the files they touched, newest first: without the newest
    /// `skip`, without `from` and what came before it, at most `most`. A merge counts as one commit
    /// that brings all it brings to its first parent. Blocks up to `deadline`.
    pub fn history(
        &self,
        from: Option<GitId>,
        to: GitId,
        skip: usize,
        most: usize,
        deadline: Duration,
    ) -> Result<Vec<Visit>, GitError> {
        let mut command = self.command();
        // Trees of a feed have a megabyte: by default each is mapped and unmapped anew, and the page
        // faults take as long as comparing them. Other C libraries do not read these.
        command
            .env("MALLOC_MMAP_THRESHOLD_", HEAP)
            .env("MALLOC_TRIM_THRESHOLD_", HEAP);
        // The files are told apart by the caller: paths on the command line would make git look at
        // each tree thrice.
        command.args([
            "-c",
            "log.showRoot=false",
            "log",
            "-z",
            "--name-status",
            "--no-renames",
            "--no-show-signature",
            "--first-parent",
            "--diff-merges=first-parent",
            "--format=>%ct %P",
        ]);
        command.arg(format!("--skip={skip}"));
        command.arg(format!("--max-count={most}"));
        command.arg(to.to_string());
        if let Some(from) = from {
            command.arg(format!("^{from}"));
        }
        command.arg("--");
        parse(&process::run_ok(&mut command, deadline)?.stdout)
    }

    /// Counts the commits that [`history`](Self::history) would list.
    pub fn history_length(
        &self,
        from: Option<GitId>,
        to: GitId,
        most: usize,
    ) -> Result<usize, GitError> {
        let mut command = self.command();
        command.args(["rev-list", "--count", "--first-parent"]);
        command.arg(format!("--max-count={most}"));
        command.arg(to.to_string());
        if let Some(from) = from {
            command.arg(format!("^{from}"));
        }
        command.arg("--");
        let answer = process::run_ok(&mut command, LOCAL)?.stdout;
        let text = String::from_utf8_lossy(&answer);
        text.trim()
            .parse()
            .map_err(|_| unexpected("rev-list", &answer))
    }
}

fn parse(answer: &[u8]) -> Result<Vec<Visit>, GitError> {
    let mut visits: Vec<Visit> = Vec::new();
    let mut tokens = answer.split(|c| *c == 0);
    while let Some(token) = tokens.next() {
        // A line end parts the commit from its files.
        let token = token.strip_prefix(b"\n").unwrap_or(token);
        if token.is_empty() {
            continue;
        }
        let bad = || unexpected("log", token);
        if let Some(commit) = token.strip_prefix(b">") {
            let text = std::str::from_utf8(commit).map_err(|_| bad())?;
            let (time, parents) = text.split_once(' ').ok_or_else(bad)?;
            visits.push(Visit {
                time: time.parse().map_err(|_| bad())?,
                is_beginning: parents.is_empty(),
                touched: Vec::new(),
            });
            continue;
        }
        let touch = match token {
            b"A" => Touch::Added,
            b"D" => Touch::Removed,
            // Another content, or another kind of file.
            b"M" | b"T" => Touch::Changed,
            _ => return Err(bad()),
        };
        let path = tokens.next().ok_or_else(bad)?;
        let path = String::from_utf8_lossy(path).into_owned();
        let visit = visits.last_mut().ok_or_else(bad)?;
        visit.touched.push((touch, path));
    }
    Ok(visits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_parted_from_their_files() {
        let text = b">12 abc\0\nA\0a b\0M\0>x\0>11 \0\nD\0c\0T\0d\0";
        let visits = parse(text).unwrap();
        let path = |text: &str| text.to_owned();
        assert_eq!(
            visits,
            [
                Visit {
                    time: 12,
                    is_beginning: false,
                    touched: vec![(Touch::Added, path("a b")), (Touch::Changed, path(">x"))],
                },
                Visit {
                    time: 11,
                    is_beginning: true,
                    touched: vec![(Touch::Removed, path("c")), (Touch::Changed, path("d"))],
                },
            ]
        );
    }

    #[test]
    fn a_garbled_history_is_an_error() {
        for text in [
            &b"A\0a\0"[..],
            b">x y\0",
            b">12\0",
            b">12 a\0\nR100\0a\0b\0",
            b">1 a\0A",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert_eq!(parse(b"").unwrap(), []);
    }
}
