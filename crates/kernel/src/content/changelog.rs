//! Debian's changelog of a kernel, for what it says of fixes.
//!
//! The form: a header per version, `linux (V) SUITE; urgency=…`; items of upstream's point releases as
//! `    - subject (CVE-…, CVE-…)`, continued by deeper lines; the distribution's own as `  * subject`.
//! Point releases are several per version and not in order, so only Debian's version counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tuxtape_core::cve::CveId;

use crate::debian::version::DebianVersion;

/// Largest changelog that is read, in bytes.
pub const LONGEST: usize = 64 << 20;

/// What a changelog says of fixes, up to and with one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changelog {
    all: Entries,
    /// The distribution's own alone: what came with upstream's point releases is in the base version.
    own: Entries,
}

/// What some entries say of fixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entries {
    /// CVE → the oldest version whose entries name it.
    cves: BTreeMap<CveId, DebianVersion>,
    /// Subject in normal form → the oldest version that has it.
    subjects: HashMap<String, DebianVersion>,
}

/// One item, while its lines are put together.
struct Item {
    is_own: bool,
    indent: usize,
    text: String,
}

impl Changelog {
    /// Reads a changelog; of versions newer than `upto` nothing is kept. What has another form is
    /// passed over: a changelog only ever gives hints.
    pub fn read(text: &str, upto: &DebianVersion) -> Self {
        let mut changelog = Self::default();
        let mut version: Option<DebianVersion> = None;
        let mut item: Option<Item> = None;
        for line in text.lines() {
            if let Some(named) = header(line) {
                changelog.take(item.take(), version.as_ref());
                version = Some(named).filter(|named| named <= upto);
                continue;
            }
            let body = line.trim_start();
            let indent = line.len().saturating_sub(body.len());
            let starts = body
                .strip_prefix("- ")
                .or_else(|| body.strip_prefix("* "))
                .filter(|_| indent >= 2);
            match (starts, &mut item) {
                (Some(start), _) => {
                    changelog.take(item.take(), version.as_ref());
                    item = Some(Item {
                        is_own: body.starts_with("* "),
                        indent,
                        text: start.to_owned(),
                    });
                }
                (None, Some(item)) if indent > item.indent && !body.is_empty() => {
                    // A subject is a line of a mail; what is longer is prose.
                    if item.text.len() < 1_000 {
                        item.text.push(' ');
                        item.text.push_str(body.trim_end());
                    }
                }
                (None, _) => changelog.take(item.take(), version.as_ref()),
            }
        }
        changelog.take(item, version.as_ref());
        changelog
    }

    fn take(&mut self, item: Option<Item>, version: Option<&DebianVersion>) {
        let (Some(item), Some(version)) = (item, version) else {
            return;
        };
        self.all.take(&item.text, version);
        if item.is_own {
            self.own.take(&item.text, version);
        }
    }

    /// Returns the oldest version whose entries name `cve`.
    pub fn names(&self, cve: CveId) -> Option<&DebianVersion> {
        self.all.cves.get(&cve)
    }

    /// Tells whether an entry takes the change of this subject back, in any version read.
    pub fn is_reverted(&self, title: &str) -> bool {
        let title = subject(title);
        !title.is_empty()
            && self
                .all
                .subjects
                .contains_key(&format!("revert \"{title}\""))
    }

    /// Returns the oldest version with an entry of this subject. Subjects repeat: a hint, no more.
    pub fn has_subject(&self, title: &str) -> Option<&DebianVersion> {
        self.all.has_subject(title)
    }

    /// Returns the oldest version in which the distribution says by an entry of its own that it took in
    /// the fix of `cve`, whose title is `title`; `None` also where an entry takes it back.
    pub fn took_in(&self, cve: CveId, title: &str) -> Option<&DebianVersion> {
        if self.is_reverted(title) {
            return None;
        }
        let named = self.own.cves.get(&cve);
        named.or_else(|| self.own.has_subject(title))
    }
}

impl Entries {
    fn take(&mut self, text: &str, version: &DebianVersion) {
        let keep_older = |known: &mut DebianVersion| {
            if version < known {
                *known = version.clone();
            }
        };
        let subject = subject(text);
        if !takes_back(text) {
            for cve in cves(text) {
                self.cves
                    .entry(cve)
                    .and_modify(keep_older)
                    .or_insert_with(|| version.clone());
            }
        }
        if !subject.is_empty() {
            self.subjects
                .entry(subject)
                .and_modify(keep_older)
                .or_insert_with(|| version.clone());
        }
    }

    fn has_subject(&self, title: &str) -> Option<&DebianVersion> {
        let title = subject(title);
        if title.is_empty() {
            return None;
        }
        self.subjects.get(&title)
    }
}

/// Reads the version out of a line that begins a version's entries.
fn header(line: &str) -> Option<DebianVersion> {
    let (name, rest) = line.split_once(" (")?;
    let (version, rest) = rest.split_once(')')?;
    let plain = |text: &str, more: &str| {
        !text.is_empty()
            && text.len() <= 100
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    (plain(name, "-.+") && plain(version, ".+~:-") && rest.contains("urgency="))
        .then(|| DebianVersion::new(version))
}

/// Tells whether an item may name a CVE without fixing it: "Revert …", "drop the patch for …",
/// "ignore …", "… (fixes regression of CVE-…)", "not affected by …".
fn takes_back(text: &str) -> bool {
    const WORDS: [&str; 5] = ["revert", "drop", "ignore", "regression", "not "];
    let text = text.to_lowercase();
    WORDS.iter().any(|word| text.contains(word))
}

/// Finds all ids in a text.
fn cves(text: &str) -> BTreeSet<CveId> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// Returns a subject in normal form: without what the changelog adds in parentheses at its end and in
/// brackets before it (`[x86]`, `[arm64,x86]`), in small letters, blanks folded.
fn subject(text: &str) -> String {
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

/// Entry for fuzzing: reads bytes as a changelog, and asks it for what it names.
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let upto = DebianVersion::new("6.1.176-1");
    let changelog = Changelog::read(&text, &upto);
    for (cve, version) in &changelog.all.cves {
        assert!(*version <= upto, "{cve} is of a newer version");
    }
    for line in text.lines().take(64) {
        if changelog.own.has_subject(line).is_some() {
            assert!(
                changelog.has_subject(line).is_some(),
                "an own entry is an entry"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
linux (6.1.192-1) bookworm-security; urgency=high

  * New upstream stable update:
    https://www.kernel.org/pub/linux/kernel/v6.x/ChangeLog-6.1.191
    - newer: than asked (CVE-2026-0009)

 -- A B <a@b>  Mon, 16 Nov 2026 11:17:40 +0100

linux (6.1.176-1) bookworm; urgency=medium

  * New upstream stable update:
    https://www.kernel.org/pub/linux/kernel/v6.x/ChangeLog-6.1.172
    - net: fix   a leak
    - smb: client: fix OOB read from unvalidated DataOffset in
      coalesce_t2() (CVE-2026-0001, CVE-2026-0002)
    - Revert \"x: y\" (CVE-2026-0003)
    - Drop the patch for CVE-2026-0005
    - Ignore CVE-2026-0006
    - x: y (fixes regression of CVE-2026-0007)
    - Does not
      fix CVE-2026-0008
    [ A B ]
  * [x86] KVM: own fix (CVE-2026-0004) (Closes: #1154101)
";

    #[test]
    fn items_are_read_whole_and_of_older_versions_alone() {
        let changelog = Changelog::read(TEXT, &DebianVersion::new("6.1.176-1"));
        let names = |id: &str| changelog.names(id.parse().unwrap()).is_some();
        let named = [
            "CVE-2026-0001",
            "CVE-2026-0002",
            "CVE-2026-0003",
            "CVE-2026-0004",
            "CVE-2026-0009",
        ]
        .map(names);
        assert_eq!(named, [true, true, false, true, false]);
        for id in ["5", "6", "7", "8"] {
            assert!(!names(&format!("CVE-2026-000{id}")), "{id}");
        }
        for (title, has) in [
            ("net: fix a leak", true),
            (
                "smb: client: fix OOB read from unvalidated DataOffset in coalesce_t2()",
                true,
            ),
            ("[x86] KVM: own fix", true),
            ("newer: than asked", false),
            ("", false),
        ] {
            assert_eq!(changelog.has_subject(title).is_some(), has, "{title}");
        }
        assert!(changelog.is_reverted("x: y") && !changelog.is_reverted("net: fix a leak"));
    }

    #[test]
    fn only_own_entries_that_none_takes_back_say_that_a_fix_was_taken_in() {
        let text = TEXT.to_owned() + "  * z: own, later out\n  * Revert \"z: own, later out\"\n";
        let changelog = Changelog::read(&text, &DebianVersion::new("6.1.176-1"));
        let took_in = |id: &str, title: &str| {
            let version = changelog.took_in(id.parse().unwrap(), title);
            version.map(ToString::to_string)
        };
        let own = Some("6.1.176-1".to_owned());
        assert_eq!(took_in("CVE-2026-0004", "another title"), own);
        assert_eq!(took_in("CVE-2026-1000", "KVM: own  fix"), own);
        // Upstream's point releases are in the base version, which the spans are asked about.
        assert_eq!(took_in("CVE-2026-0001", "net: fix a leak"), None);
        assert_eq!(took_in("CVE-2026-1000", "z: own, later out"), None);
        assert_eq!(took_in("CVE-2026-1000", ""), None);
    }

    #[test]
    fn a_garbled_changelog_is_read_as_far_as_it_goes() {
        for end in 0..TEXT.len() {
            fuzz(TEXT.as_bytes().get(..end).unwrap());
        }
        fuzz(b"linux (\xff) x; urgency=\n  - (\n  - (CVE-\n");
    }
}
