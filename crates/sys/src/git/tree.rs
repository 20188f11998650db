//! The listing of a tree.

use std::thread;

use tuxtape_core::git_id::GitId;

use super::{GitError, unexpected};

/// Largest listing that is read, in bytes. The CVE feed's has about 8 MB.
const LARGEST: usize = 256 << 20;

/// Bytes from which on a listing is read by two.
const LONG: usize = 256 << 10;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A plain file.
    File,
    /// A symbolic link, another repository, or a mode unknown to us.
    Other,
}

/// One entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// Its content.
    pub id: GitId,
    /// Path from the top; whatever bytes the repository holds, as text. Never trust it.
    pub path: String,
}

/// Reads `ls-tree -r -z`.
pub(super) fn parse(answer: &[u8]) -> Result<Vec<Entry>, GitError> {
    if answer.len() > LARGEST {
        return Err(unexpected("ls-tree", b"more than 256 MiB"));
    }
    if answer.len() < LONG {
        return entries(answer).collect();
    }
    // The listing of a whole feed is read while nothing else can be done: by two.
    let (_, later) = answer.split_at(answer.len() / 2);
    let end = later.iter().position(|c| *c == 0);
    let middle = answer.len() - later.len() + end.unwrap_or(later.len());
    let (first, second) = answer.split_at(middle);
    thread::scope(|scope| {
        let second = scope.spawn(|| entries(second).collect::<Result<Vec<_>, _>>());
        let mut all = entries(first).collect::<Result<Vec<_>, _>>()?;
        all.append(&mut second.join().expect("reading a listing does not panic")?);
        Ok(all)
    })
}

fn entries(part: &[u8]) -> impl Iterator<Item = Result<Entry, GitError>> {
    part.split(|c| *c == 0)
        .filter(|line| !line.is_empty())
        .map(|line| entry(line).ok_or_else(|| unexpected("ls-tree", line)))
}

fn entry(line: &[u8]) -> Option<Entry> {
    let tab = line.iter().position(|c| *c == b'\t')?;
    let (facts, path) = (line.get(..tab)?, line.get(tab + 1..)?);
    let mut facts = facts.split(|c| *c == b' ');
    let (mode, kind, id) = (facts.next()?, facts.next()?, facts.next()?);
    let plain = kind == b"blob" && [&b"100644"[..], b"100755"].contains(&mode);
    Some(Entry {
        kind: if plain {
            EntryKind::File
        } else {
            EntryKind::Other
        },
        id: GitId::from_hex(id).ok()?,
        path: String::from_utf8_lossy(path).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "a49d25364dfb9f8a64037488a39ab1f56c5fa419";

    #[test]
    fn links_and_submodules_are_no_files() {
        let text = format!("100644 blob {ID}\ta b\0120000 blob {ID}\tl\0160000 commit {ID}\ts\0");
        let entries = parse(text.as_bytes()).unwrap();
        let kinds: Vec<(EntryKind, &str)> = entries
            .iter()
            .map(|entry| (entry.kind, entry.path.as_str()))
            .collect();
        assert_eq!(
            kinds,
            [
                (EntryKind::File, "a b"),
                (EntryKind::Other, "l"),
                (EntryKind::Other, "s")
            ]
        );
    }

    #[test]
    fn a_long_listing_is_whole_and_in_order() {
        use std::fmt::Write as _;
        let mut text = String::new();
        for number in 0..8000 {
            write!(text, "100644 blob {ID}\t{number}\0").unwrap();
        }
        assert!(text.len() > LONG);
        let entries = parse(text.as_bytes()).unwrap();
        assert_eq!(entries.len(), 8000);
        let in_order = |(number, entry): (usize, &Entry)| entry.path == number.to_string();
        assert!(entries.iter().enumerate().all(in_order));
        text.push_str("x\0");
        assert!(parse(text.as_bytes()).is_err());
    }

    #[test]
    fn a_garbled_listing_is_an_error() {
        for text in [
            "100644 blob\ta\0",
            "x\0",
            &format!("100644 blob {}\ta\0", ID.replacen('a', "", 1)),
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
