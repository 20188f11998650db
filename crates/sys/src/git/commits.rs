//! Commits by their ids: what they say, what they change, and who mentions them later.
//!
//! Parents are those that the commit itself names, never those that a shallow clone's cut leaves: the
//! oldest commit of such a clone would seem to bring the whole tree.

use std::time::Duration;

use tuxtape_core::git_id::GitId;

use super::{GitError, Repository, unexpected};
use crate::process;

/// Longest commit message that is kept, in bytes.
const LONGEST_MESSAGE: usize = 64 << 10;

/// Mode of an entry that names a commit of another repository.
const SUBMODULE: &[u8] = b"160000";

/// What a commit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitText {
    /// Its name.
    pub id: GitId,
    /// Every parent it names.
    pub parents: Vec<GitId>,
    /// Committer time, in seconds since 1970 UTC; as untrue as the committer's clock.
    pub time: i64,
    /// The message, cut at 64 KiB.
    pub message: String,
}

/// A file that a commit changes, as paths and contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedFile {
    /// Its contents on both sides; none where it is not there, or is no file.
    pub blobs: Vec<GitId>,
    /// What happened, one letter as `git diff --raw` writes it.
    pub status: char,
    /// Its path, and for a rename the new one behind it.
    pub paths: Vec<String>,
}

impl Repository {
    /// Reads the commits `ids`, in that order; `None` for what is not here or is no commit. Blocks up to
    /// `deadline`.
    pub fn commits(
        &self,
        ids: &[GitId],
        deadline: Duration,
    ) -> Result<Vec<Option<CommitText>>, GitError> {
        let mut command = self.command();
        command.args(["cat-file", "--batch", "--buffer"]);
        let answer = process::run_ok_with(&mut command, &lines(ids), deadline)?.stdout;
        let mut rest: &[u8] = &answer;
        ids.iter()
            .map(|id| object(&mut rest, *id).map_err(|Garbled| unexpected("cat-file", rest)))
            .collect()
    }

    /// Tells of each object whether it is here. Blocks up to `deadline`.
    pub fn has(&self, ids: &[GitId], deadline: Duration) -> Result<Vec<bool>, GitError> {
        let mut command = self.command();
        command.args(["cat-file", "--batch-check=%(objecttype)", "--buffer"]);
        let answer = process::run_ok_with(&mut command, &lines(ids), deadline)?.stdout;
        let found: Vec<bool> = answer
            .split(|c| *c == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| !line.ends_with(b" missing"))
            .collect();
        if found.len() == ids.len() {
            Ok(found)
        } else {
            Err(unexpected("cat-file", &answer))
        }
    }

    /// Lists what each commit of `pairs` changes against the parent beside it. Where `renames` is
    /// wanted, a file that moved is one entry with both paths; that reads file contents, which must be
    /// here. Blocks up to `deadline`.
    pub fn changed_files(
        &self,
        pairs: &[(GitId, GitId)],
        renames: Renames,
        deadline: Duration,
    ) -> Result<Vec<Vec<ChangedFile>>, GitError> {
        let mut command = self.diff_tree(renames);
        command.args(["--raw", "-z", "--no-abbrev"]);
        let answer = process::run_ok_with(&mut command, &pair_lines(pairs), deadline)?.stdout;
        raw(&answer, pairs).ok_or_else(|| unexpected("diff-tree", &answer))
    }

    /// Writes the diff of each commit of `pairs` against the parent beside it, a moved file as one
    /// deleted and one new. Every content must be here, see [`Repository::has`]. Blocks up to
    /// `deadline`.
    pub fn diffs(
        &self,
        pairs: &[(GitId, GitId)],
        shown: Shown,
        deadline: Duration,
    ) -> Result<Vec<Vec<u8>>, GitError> {
        let mut command = self.diff_tree(Renames::AsTwo);
        command.args(["--patch", "--full-index"]);
        command.arg(match shown {
            Shown::Lines => "--unified=3",
            Shown::Files => "--unified=1000000",
        });
        command.args(["--src-prefix=a/", "--dst-prefix=b/"]);
        let answer = process::run_ok_with(&mut command, &pair_lines(pairs), deadline)?.stdout;
        patches(&answer, pairs).ok_or_else(|| unexpected("diff-tree", &answer))
    }

    /// Lists the commits of the refs that one of the patterns `within` fits (of all refs where there is no
    /// pattern), committed at `since` (seconds since 1970) or later, whose message holds the beginning of
    /// one of `ids`: at most `most`, the newest first. `None` where history is
    /// cut off, so that none can be found. Blocks up to `deadline`.
    pub fn mentions(
        &self,
        ids: &[GitId],
        within: &[String],
        since: i64,
        most: usize,
        deadline: Duration,
    ) -> Result<Option<Vec<CommitText>>, GitError> {
        if self.is_shallow() {
            return Ok(None);
        }
        let mut command = self.command();
        command.args(["log", "-z", "--no-show-signature", "--no-color"]);
        if within.is_empty() {
            command.arg("--all");
        }
        command.args(within.iter().map(|pattern| format!("--glob={pattern}")));
        command.args(["--fixed-strings", "--regexp-ignore-case"]);
        command.arg(format!("--max-count={most}"));
        command.arg(format!("--since=@{since}"));
        command.arg("--format=%H %ct %P%n%B");
        for id in ids {
            command.arg(format!("--grep={}", id.short()));
        }
        let answer = process::run_ok(&mut command, deadline)?.stdout;
        answer
            .split(|c| *c == 0)
            .filter(|entry| !entry.is_empty())
            .map(|entry| logged(entry).ok_or_else(|| unexpected("log", entry)))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn diff_tree(&self, renames: Renames) -> std::process::Command {
        let mut command = self.command();
        // A user's setting that would write empty context lines without their blank.
        command.args(["-c", "diff.suppressBlankEmpty=false", "diff-tree"]);
        command.args([
            "--stdin",
            "-r",
            "--always",
            "--no-ext-diff",
            "--no-textconv",
        ]);
        command.args(["--no-color", "--ignore-submodules=none"]);
        command.arg(match renames {
            Renames::AsTwo => "--no-renames",
            Renames::AsOne => "--find-renames",
        });
        command
    }
}

/// How much of a file a diff shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Three lines around each change.
    Lines,
    /// All of it, in one hunk.
    Files,
}

/// How a file that moved is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renames {
    /// As one file that went and one that came.
    AsTwo,
    /// As one entry with both paths.
    AsOne,
}

fn lines(ids: &[GitId]) -> Vec<u8> {
    ids.iter()
        .flat_map(|id| format!("{id}\n").into_bytes())
        .collect()
}

/// Questions for `diff-tree --stdin`: a commit, and behind it the parent to compare with.
fn pair_lines(pairs: &[(GitId, GitId)]) -> Vec<u8> {
    pairs
        .iter()
        .flat_map(|(commit, parent)| format!("{commit} {parent}\n").into_bytes())
        .collect()
}

/// An answer that has not the documented form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Garbled;

/// Takes the answer about `id` off the front.
fn object(rest: &mut &[u8], id: GitId) -> Result<Option<CommitText>, Garbled> {
    let end = rest.iter().position(|c| *c == b'\n').ok_or(Garbled)?;
    let header = rest
        .get(..end)
        .and_then(|line| std::str::from_utf8(line).ok());
    let mut words = header.ok_or(Garbled)?.split(' ');
    *rest = rest.get(end + 1..).ok_or(Garbled)?;
    if words.next() != Some(id.to_string().as_str()) {
        return Err(Garbled);
    }
    let kind = words.next().ok_or(Garbled)?;
    if kind == "missing" {
        return Ok(None);
    }
    let size = words.next().and_then(|word| word.parse::<usize>().ok());
    let size = size.ok_or(Garbled)?;
    let content = rest.get(..size).ok_or(Garbled)?;
    let behind = size.checked_add(1).and_then(|end| rest.get(end..));
    *rest = behind.ok_or(Garbled)?;
    Ok(if kind == "commit" {
        commit(id, content)
    } else {
        None
    })
}

/// Reads a commit object.
fn commit(id: GitId, content: &[u8]) -> Option<CommitText> {
    let mut parents = Vec::new();
    let mut time = None;
    let mut rest = content;
    loop {
        let end = rest.iter().position(|c| *c == b'\n')?;
        let line = rest.get(..end)?;
        rest = rest.get(end + 1..)?;
        if line.is_empty() {
            break;
        }
        if let Some(parent) = line.strip_prefix(b"parent ") {
            parents.push(GitId::from_hex(parent).ok()?);
        } else if let Some(committer) = line.strip_prefix(b"committer ") {
            // `Name <mail> SECONDS ZONE`: names may hold anything.
            let words = String::from_utf8_lossy(committer);
            time = words.rsplit(' ').nth(1).and_then(|word| word.parse().ok());
        }
    }
    Some(CommitText {
        id,
        parents,
        time: time?,
        message: message(rest),
    })
}

/// Reads one entry of `mentions`.
fn logged(entry: &[u8]) -> Option<CommitText> {
    let end = entry.iter().position(|c| *c == b'\n')?;
    let header = std::str::from_utf8(entry.get(..end)?).ok()?;
    let mut words = header.split_ascii_whitespace();
    Some(CommitText {
        id: words.next()?.parse().ok()?,
        time: words.next()?.parse().ok()?,
        parents: words.map(|word| word.parse().ok()).collect::<Option<_>>()?,
        message: message(entry.get(end + 1..)?),
    })
}

fn message(bytes: &[u8]) -> String {
    let cut = bytes.get(..LONGEST_MESSAGE).unwrap_or(bytes);
    String::from_utf8_lossy(cut).into_owned()
}

/// Reads `diff-tree --stdin --raw -z --always`.
fn raw(answer: &[u8], pairs: &[(GitId, GitId)]) -> Option<Vec<Vec<ChangedFile>>> {
    let mut tokens = answer
        .split(|c| *c == 0)
        .filter(|token| !token.is_empty())
        .peekable();
    let mut all = Vec::new();
    for (commit, _) in pairs {
        if tokens.next()? != commit.to_string().as_bytes() {
            return None;
        }
        let mut files = Vec::new();
        while let Some(facts) = tokens.next_if(|token| token.starts_with(b":")) {
            let mut words = facts.get(1..)?.split(|c| *c == b' ');
            let modes = [words.next()?, words.next()?];
            let ids = [words.next()?, words.next()?];
            let status = char::from(*words.next()?.first()?);
            let mut blobs = Vec::new();
            for (mode, id) in modes.into_iter().zip(ids) {
                let id = GitId::from_hex(id).ok()?;
                if mode != SUBMODULE && id != GitId::from_bytes([0; 20]) {
                    blobs.push(id);
                }
            }
            let mut paths = Vec::new();
            for _ in 0..if matches!(status, 'R' | 'C') { 2 } else { 1 } {
                paths.push(String::from_utf8_lossy(tokens.next()?).into_owned());
            }
            files.push(ChangedFile {
                blobs,
                status,
                paths,
            });
        }
        all.push(files);
    }
    tokens.next().is_none().then_some(all)
}

/// Parts `diff-tree --stdin --patch --always` at the lines that name the commits. No line of a diff is
/// an id alone, so that the next one asked for ends the diff before it.
fn patches(answer: &[u8], pairs: &[(GitId, GitId)]) -> Option<Vec<Vec<u8>>> {
    let mut lines = answer.split_inclusive(|c| *c == b'\n').peekable();
    let mut all = Vec::new();
    for (index, (commit, _)) in pairs.iter().enumerate() {
        if lines.next()? != format!("{commit}\n").as_bytes() {
            return None;
        }
        let next = pairs.get(index + 1).map(|(next, _)| format!("{next}\n"));
        let mut diff = Vec::new();
        while let Some(line) =
            lines.next_if(|line| next.as_ref().is_none_or(|next| *line != next.as_bytes()))
        {
            diff.extend_from_slice(line);
        }
        // A line between the commit's name and its diff.
        let diff = diff.strip_prefix(b"\n").map(<[u8]>::to_vec).unwrap_or(diff);
        all.push(diff);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> GitId {
        digit.to_string().repeat(40).parse().unwrap()
    }

    #[test]
    fn a_commit_is_read_with_every_parent() {
        let (a, b, c) = (id('a'), id('b'), id('c'));
        let text = format!(
            "tree {c}\nparent {a}\nparent {b}\nauthor A <a> 1 +0000\ncommitter A B <x y> 77 +0100\n\
             gpgsig -----BEGIN\n parent no\n\nsubject\n\nbody\n"
        );
        let found = commit(c, text.as_bytes()).unwrap();
        assert_eq!(found.parents, [a, b]);
        assert_eq!(found.time, 77);
        assert_eq!(found.message, "subject\n\nbody\n");
    }

    #[test]
    fn what_is_missing_or_no_commit_is_none_and_garbled_answers_are_errors() {
        let (a, b) = (id('a'), id('b'));
        let text = format!("{a} missing\n{b} blob 2\nx\n\n");
        let mut rest = text.as_bytes();
        assert_eq!(object(&mut rest, a), Ok(None));
        assert_eq!(object(&mut rest, b), Ok(None));
        assert!(rest.is_empty());
        for text in [
            format!("{b} missing\n"),
            format!("{a} blob 9\nx\n"),
            format!("{a} blob 18446744073709551615\nx\n"),
            format!("{a}"),
            String::new(),
        ] {
            assert_eq!(object(&mut text.as_bytes(), a), Err(Garbled), "{text:?}");
        }
    }

    #[test]
    fn a_moved_file_keeps_both_paths() {
        let (a, b) = (id('a'), id('b'));
        let text = format!(
            "{a}\0:100644 100644 {a} {b} R090\0old.c\0new.c\0:100644 000000 {a} {} D\0gone\0{b}\0",
            id('0')
        );
        let files = raw(text.as_bytes(), &[(a, b), (b, a)]).unwrap();
        assert_eq!(files[0][0].paths, ["old.c", "new.c"]);
        assert_eq!(files[0][0].blobs, [a, b]);
        assert_eq!(files[0][1].blobs, [a]);
        assert_eq!(files[1], []);
        for end in 0..text.len() - 1 {
            assert!(
                raw(&text.as_bytes()[..end], &[(a, b), (b, a)]).is_none_or(|all| all[1].is_empty())
            );
        }
    }

    #[test]
    fn diffs_are_parted_at_the_commits_asked_for() {
        let (a, b) = (id('a'), id('b'));
        let text = format!("{a}\n\ndiff --git a/x b/x\n+{b}\n{b}\n");
        let diffs = patches(text.as_bytes(), &[(a, b), (b, a)]).unwrap();
        assert_eq!(diffs[0], format!("diff --git a/x b/x\n+{b}\n").into_bytes());
        assert!(diffs[1].is_empty());
        assert_eq!(patches(text.as_bytes(), &[(b, a)]), None);
    }
}
