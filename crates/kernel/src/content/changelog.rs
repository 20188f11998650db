//! Debian's changelog of a kernel, for what it says of fixes.
//!
//! The form: a header per version, `linux (V) SUITE; urgency=…`; items of upstream's point releases as
//! `    - subject (CVE-…, CVE-…)`, continued by deeper lines; the distribution's own as `  * subject`.
//! Point releases are several per version and not in order, so only Debian's version counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use tuxtape_core::cve::CveId;
use tuxtape_core::profile::taken::{TakenIn, TakenInVersion, TitleKey, subject};
use tuxtape_core::version::KernelVersion;
use tuxtape_sys::gzip::{self, GunzipError};
use tuxtape_sys::regular;

use crate::debian::version::DebianVersion;
use crate::profile::build::base_version;

/// Largest changelog that is read, in bytes, packed and not. A kernel's has 4 MB.
pub const LONGEST: usize = 32 << 20;

/// What a changelog says of fixes, up to and with one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changelog {
    /// The newest version read.
    newest: Option<DebianVersion>,
    /// CVE → the oldest version whose entries name it.
    cves: BTreeMap<CveId, DebianVersion>,
    /// Subject in normal form → the oldest version that has it.
    subjects: HashMap<String, DebianVersion>,
    /// What each version has beside upstream's point releases, which are in its base version.
    own: BTreeMap<DebianVersion, Own>,
}

/// What the entries of one version say beside upstream's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Own {
    cves: BTreeSet<CveId>,
    titles: BTreeSet<TitleKey>,
    /// Subjects that any entry takes back, upstream's too.
    reverted: BTreeSet<TitleKey>,
}

/// Why no changelog could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is larger than any changelog.
    #[error("{path} has more than {} MiB", LONGEST >> 20, path = path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It could not be unpacked.
    #[error("could not unpack {path}", path = path.display())]
    Packed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: GunzipError,
    },
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
                if version > changelog.newest {
                    changelog.newest.clone_from(&version);
                }
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
        let (Some(Item { is_own, text, .. }), Some(version)) = (item, version) else {
            return;
        };
        let keep_older = |known: &mut DebianVersion| {
            if version < known {
                *known = version.clone();
            }
        };
        let named = if takes_back(&text) {
            BTreeSet::new()
        } else {
            cves(&text)
        };
        let subject = subject(&text);
        let reverted = reverted(&subject);
        if is_own || reverted.is_some() {
            let own = self.own.entry(version.clone()).or_default();
            own.reverted.extend(reverted.and_then(TitleKey::of));
            if is_own {
                own.cves.extend(&named);
                own.titles.extend(TitleKey::of(&text));
            }
        }
        for cve in named {
            self.cves
                .entry(cve)
                .and_modify(keep_older)
                .or_insert_with(|| version.clone());
        }
        if !subject.is_empty() {
            self.subjects
                .entry(subject)
                .and_modify(keep_older)
                .or_insert_with(|| version.clone());
        }
    }

    /// Reads the changelog at `path`, packed by gzip, up to `upto`; where that is not known, up to the
    /// version it begins with. `None` where it is no kernel package's.
    pub fn open(path: &Path, upto: Option<&DebianVersion>) -> Result<Option<Self>, ReadError> {
        let cap = LONGEST as u64;
        let path = || path.to_owned();
        let packed = regular::read_linked(&path(), cap)
            .map_err(|source| ReadError::Read {
                path: path(),
                source,
            })?
            .ok_or_else(|| ReadError::TooLong { path: path() })?;
        let text = gzip::gunzip(&packed, cap).map_err(|source| ReadError::Packed {
            path: path(),
            source,
        })?;
        let text = String::from_utf8_lossy(&text);
        let newest = text.lines().find_map(header);
        Ok(upto.or(newest.as_ref()).map(|upto| Self::read(&text, upto)))
    }

    /// Returns the upstream version of the newest version read.
    pub fn base(&self) -> Option<KernelVersion> {
        let newest = self.newest.as_ref()?;
        base_version(newest.as_str())?.parse().ok()
    }

    /// Returns what the distribution says that it took in by itself since it packages the branch of
    /// `base`; what it did on another branch says nothing of this one.
    pub fn taken_in(&self, base: KernelVersion) -> TakenIn {
        let is_here = |version: &DebianVersion| {
            let own = base_version(version.as_str()).and_then(|own| own.parse().ok());
            own.is_some_and(|own: KernelVersion| own.branch() == base.branch())
        };
        let mut taken = TakenIn::default();
        for (version, own) in self.own.iter().filter(|(version, _)| is_here(version)) {
            taken.reverted.extend(&own.reverted);
            if !own.cves.is_empty() || !own.titles.is_empty() {
                taken.versions.push(TakenInVersion {
                    version: version.to_string(),
                    cves: own.cves.clone(),
                    titles: own.titles.clone(),
                });
            }
        }
        taken
    }

    /// Returns the oldest version whose entries name `cve`.
    pub fn names(&self, cve: CveId) -> Option<&DebianVersion> {
        self.cves.get(&cve)
    }

    /// Tells whether an entry takes the change of this subject back, in any version read.
    pub fn is_reverted(&self, title: &str) -> bool {
        let title = subject(title);
        !title.is_empty() && self.subjects.contains_key(&format!("revert \"{title}\""))
    }

    /// Returns the oldest version with an entry of this subject. Subjects repeat: a hint, no more.
    pub fn has_subject(&self, title: &str) -> Option<&DebianVersion> {
        let title = subject(title);
        if title.is_empty() {
            return None;
        }
        self.subjects.get(&title)
    }
}

/// Returns the subject that one in normal form takes back.
fn reverted(subject: &str) -> Option<&str> {
    subject.strip_prefix("revert \"")?.strip_suffix('"')
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

/// Entry for fuzzing: reads bytes as a changelog, and asks it for what it names.
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let upto = DebianVersion::new("6.1.176-1");
    let changelog = Changelog::read(&text, &upto);
    for (cve, version) in &changelog.cves {
        assert!(*version <= upto, "{cve} is of a newer version");
    }
    let base: KernelVersion = "6.1.176".parse().expect("a version");
    let taken = changelog.taken_in(base);
    for cve in taken.versions.iter().flat_map(|entries| &entries.cves) {
        assert!(changelog.names(*cve).is_some(), "an own entry is an entry");
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
    fn only_own_entries_of_the_branch_that_none_takes_back_say_that_a_fix_was_taken_in() {
        let text = TEXT.to_owned()
            + "  * z: own, later out\n  * Revert \"z: own, later out\"\n\n\
               linux (6.1.170-2) bookworm; urgency=medium\n\n  * y: older\n  * KVM: own fix\n\n\
               linux (6.0.12-1) unstable; urgency=medium\n\n  * w: of another branch\n\
               linux (6.1~rc3-1~exp1) unstable; urgency=medium\n\n  * v: of a candidate\n";
        let changelog = Changelog::read(&text, &DebianVersion::new("6.1.176-1"));
        let taken = changelog.taken_in("6.1.176".parse().unwrap());
        let told = |id: &str, title: &str| taken.told(id.parse().unwrap(), title);
        assert_eq!(told("CVE-2026-0004", "another title"), Some("6.1.176-1"));
        assert_eq!(told("CVE-2026-1000", "KVM: own  fix"), Some("6.1.170-2"));
        assert_eq!(told("CVE-2026-1000", "y: older"), Some("6.1.170-2"));
        assert_eq!(
            told("CVE-2026-1000", "v: of a candidate"),
            Some("6.1~rc3-1~exp1")
        );
        // Upstream's point releases are in the base version, which the spans are asked about.
        assert_eq!(told("CVE-2026-0001", "net: fix a leak"), None);
        assert_eq!(told("CVE-2026-1000", "z: own, later out"), None);
        assert_eq!(told("CVE-2026-1000", "w: of another branch"), None);
        assert_eq!(told("CVE-2026-1000", ""), None);
        // That upstream takes something back counts as well.
        assert!(taken.reverted.contains(&TitleKey::of("x: y").unwrap()));
        let older = Changelog::read(&text, &DebianVersion::new("6.1.170-3"));
        let taken = older.taken_in("6.1.170".parse().unwrap());
        assert_eq!(taken.told("CVE-2026-0004".parse().unwrap(), ""), None);
    }

    #[test]
    fn a_packed_changelog_is_read_up_to_the_version_asked_or_the_one_it_begins_with() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changelog.Debian.gz");
        let write = |text: &str| {
            let file = std::fs::File::create(&path).unwrap();
            let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            packed.write_all(text.as_bytes()).unwrap();
            packed.finish().unwrap();
        };
        write(TEXT);
        let names = |upto: Option<&str>| {
            let upto = upto.map(DebianVersion::new);
            let read = Changelog::open(&path, upto.as_ref()).unwrap().unwrap();
            ["CVE-2026-0009", "CVE-2026-0004"].map(|id| read.names(id.parse().unwrap()).is_some())
        };
        assert_eq!(names(None), [true, true]);
        assert_eq!(names(Some("6.1.176-1")), [false, true]);
        write("no header\n");
        assert_eq!(Changelog::open(&path, None).unwrap(), None);
        std::fs::write(&path, "not packed").unwrap();
        assert!(matches!(
            Changelog::open(&path, None),
            Err(ReadError::Packed { .. })
        ));
        assert!(matches!(
            Changelog::open(&folder.path().join("other"), None),
            Err(ReadError::Read { .. })
        ));
    }

    #[test]
    fn a_garbled_changelog_is_read_as_far_as_it_goes() {
        for end in 0..TEXT.len() {
            fuzz(TEXT.as_bytes().get(..end).unwrap());
        }
        fuzz(b"linux (\xff) x; urgency=\n  - (\n  - (CVE-\n");
    }
}
