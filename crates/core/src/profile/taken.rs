//! What a distribution says that it took into its kernel by itself, beside upstream's point releases.
//!
//! It says so in the changelog of its package. That proves nothing: an entry names what was worked on,
//! for one flavour or in part. But where only a version says that the bug is there, the version says
//! nothing of such a fix either.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::cve::CveId;

/// The distribution's own entries in the changelog of one kernel's package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenIn {
    /// The versions that have any, the oldest first.
    pub versions: Vec<TakenInVersion>,
    /// Subjects that an entry of any kind takes back.
    pub reverted: BTreeSet<TitleKey>,
}

/// The distribution's own entries for one version of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenInVersion {
    /// The version, `6.1.170-2`.
    pub version: String,
    /// The CVEs that they name.
    pub cves: BTreeSet<CveId>,
    /// Their subjects.
    pub titles: BTreeSet<TitleKey>,
}

/// A subject of a change in normal form, as the first eight bytes of its SHA-256: a profile keeps no texts.
/// Two that are equal by chance make one answer unknown, which errs on the safe side.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TitleKey([u8; 8]);

/// Why a text is no key of a subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no key of a subject (want 16 hexadecimal digits)")]
pub struct NotATitleKey {
    text: String,
}

impl TakenIn {
    /// Returns the oldest version in which the distribution says that it took in the fix of `cve`, whose
    /// title is `title`; `None` also where an entry takes that title back.
    pub fn told(&self, cve: CveId, title: &str) -> Option<&str> {
        let key = TitleKey::of(title);
        if key.is_some_and(|key| self.reverted.contains(&key)) {
            return None;
        }
        let says = |entries: &&TakenInVersion| {
            entries.cves.contains(&cve) || key.is_some_and(|key| entries.titles.contains(&key))
        };
        let entries = self.versions.iter().find(says)?;
        Some(&entries.version)
    }
}

impl TitleKey {
    /// Returns the key of a subject; `None` for one in which nothing is said.
    pub fn of(title: &str) -> Option<Self> {
        let normal = subject(title);
        if normal.is_empty() {
            return None;
        }
        let digest = Sha256::digest(normal.as_bytes());
        digest.first_chunk().copied().map(Self)
    }
}

/// Returns a subject in normal form: without what a changelog adds in parentheses at its end and in
/// brackets before it (`[x86]`, `[arm64,x86]`), in small letters, blanks folded.
pub fn subject(text: &str) -> String {
    let mut text = text.trim();
    if let Some((tags, rest)) = text
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
        && !tags.contains('[')
    {
        text = rest.trim_start();
    }
    while let Some((before, last)) = text.rsplit_once('(') {
        let added = last.starts_with("CVE-") || last.starts_with("Closes:");
        if !added {
            break;
        }
        text = before.trim_end();
    }
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ")
}

impl fmt::Display for TitleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TitleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TitleKey {
    type Err = NotATitleKey;

    fn from_str(text: &str) -> Result<Self, NotATitleKey> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 16 && text.bytes().all(is_digit))
            .then(|| u64::from_str_radix(text, 16).ok())
            .flatten()
            .map(|number| Self(number.to_be_bytes()))
            .ok_or_else(|| NotATitleKey {
                text: text.chars().take(40).collect(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(version: &str, cves: &[&str], titles: &[&str]) -> TakenInVersion {
        TakenInVersion {
            version: version.to_owned(),
            cves: cves.iter().map(|id| id.parse().unwrap()).collect(),
            titles: titles.iter().filter_map(|it| TitleKey::of(it)).collect(),
        }
    }

    #[test]
    fn the_oldest_version_that_names_cve_or_title_is_told() {
        let taken = TakenIn {
            versions: vec![
                entries("6.1.1-1", &["CVE-2026-0001"], &["net: fix a leak"]),
                entries(
                    "6.1.2-1",
                    &["CVE-2026-0002"],
                    &["net: fix a leak", "out: again"],
                ),
            ],
            reverted: TitleKey::of("out: again").into_iter().collect(),
        };
        let told = |id: &str, title: &str| taken.told(id.parse().unwrap(), title);
        assert_eq!(told("CVE-2026-0002", "other"), Some("6.1.2-1"));
        assert_eq!(told("CVE-2026-0009", "net:  Fix a leak"), Some("6.1.1-1"));
        assert_eq!(told("CVE-2026-0009", "net: fix a leak more"), None);
        assert_eq!(told("CVE-2026-0002", "Out: again"), None);
        assert_eq!(told("CVE-2026-0009", ""), None);
        assert_eq!(
            TakenIn::default().told("CVE-2026-0001".parse().unwrap(), "a"),
            None
        );
    }

    #[test]
    fn a_subject_loses_what_a_changelog_adds() {
        for text in [
            "net: fix a leak",
            "[x86] net:  fix a leak",
            "Net: fix a leak (CVE-2026-0001, CVE-2026-0002) (Closes: #1)",
        ] {
            assert_eq!(subject(text), "net: fix a leak");
        }
        assert_eq!(subject("[[x] y"), "[[x] y");
        assert_eq!(subject("f(): fix (again)"), "f(): fix (again)");
    }

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let key = TitleKey::of("net: fix a leak").unwrap();
        assert_eq!(key.to_string().parse(), Ok(key));
        for bad in [
            "",
            "0",
            "00112233445566778",
            "001122334455667g",
            "+01122334455667f",
            "0011223344556AAA",
        ] {
            assert!(bad.parse::<TitleKey>().is_err(), "{bad}");
        }
    }
}
