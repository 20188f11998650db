//! Profiles as one file, to be carried from one machine to another; and the rule by which one kept
//! profile replaces another.
//!
//! The file is lines, compressed or not: a header with a format number, the kernel and the SHA-256 of
//! what follows; the profile's JSON; and, where they were kept, the table of functions and the list of
//! modules, each in the form it is kept in.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tuxtape_core::applicability::loaded::Modules;
use tuxtape_core::identity::{BuildId, KernelRelease};
use tuxtape_core::profile::KernelProfile;
use tuxtape_core::profile::functions::FunctionTable;

use super::{
    LIMIT, LoadError, Malformed, SaveError, from_json, functions, history, load, save, stamp,
    to_json,
};
use crate::aliases;

/// The one format written and read.
const FORMAT: u32 = 2;
/// Longest header line, in bytes.
const LONGEST_HEADER: usize = 4096;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    kind: Kind,
    release: KernelRelease,
    build_id: Option<BuildId>,
    sha256: String,
    /// What follows the profile, in this order.
    tables: Vec<Table>,
}

/// A table behind the profile.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    kind: TableKind,
    bytes: u64,
    sha256: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TableKind {
    Functions,
    Modules,
}

/// A profile with what travels beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// The profile.
    pub profile: KernelProfile,
    /// The functions of its units.
    pub functions: Option<FunctionTable>,
    /// How its modules are loaded.
    pub modules: Option<Modules>,
}

#[derive(Serialize, Deserialize)]
enum Kind {
    #[serde(rename = "tuxtape-kernel-profile")]
    Profile,
}

/// Reads the format number before anything else, so that a newer file is named as such.
#[derive(Deserialize)]
struct Numbered {
    format: u32,
}

/// Why bytes are no exported profile.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// They are larger than any profile.
    #[error("it has more than {} MiB", LIMIT >> 20)]
    TooLarge,
    /// They could not be unpacked.
    #[error("it is cut or damaged")]
    Packed(#[source] io::Error),
    /// The first line is no header.
    #[error("it is no exported profile")]
    Header(#[source] Option<serde_json::Error>),
    /// It has another format number.
    #[error("it has format {found}, this program reads format {FORMAT}")]
    Format {
        /// The number found.
        found: u32,
    },
    /// The profile is not the one that was exported.
    #[error("it is cut or damaged: its profile has SHA-256 {found}, its header says {wanted}")]
    Digest {
        /// Of the second line.
        found: String,
        /// In the header.
        wanted: String,
    },
    /// The profile cannot be read.
    #[error("its profile cannot be read")]
    Profile(#[source] Malformed),
    /// A table is not the one that was exported, or cannot be read.
    #[error("its {table} cannot be read: {why}")]
    Table {
        /// Which.
        table: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The header names another kernel than the profile.
    #[error("its header names {header}, its profile {profile}")]
    OtherKernel {
        /// In the header.
        header: String,
        /// In the profile.
        profile: String,
    },
}

/// Whether what is kept may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// It stays.
    No,
    /// It goes.
    Yes,
}

/// Why a profile was not kept; the older one is untouched.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// Another build has the same release.
    #[error("{release} is kept with build-id {kept}, this one has {given}", kept = shown(kept.as_ref()), given = shown(given.as_ref()))]
    OtherBuild {
        /// The release of both.
        release: KernelRelease,
        /// The build-id of the one kept.
        kept: Option<BuildId>,
        /// The build-id of the one given.
        given: Option<BuildId>,
    },
    /// The same build is kept with other content.
    #[error("a profile of {release} is kept already, and differs in {what}")]
    Differs {
        /// The release.
        release: KernelRelease,
        /// In what.
        what: String,
    },
    /// What is kept could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It could not be written.
    #[error(transparent)]
    Save(#[from] SaveError),
}

/// Where a profile comes from that is to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It was made here and now, from the kernel itself: it may replace one of the same build.
    Here,
    /// It was made elsewhere.
    Elsewhere,
}

/// Writes `parcel` as one file.
pub fn export(parcel: &Parcel) -> Vec<u8> {
    let id = &parcel.profile.id;
    let text = to_json(&parcel.profile);
    let functions = parcel.functions.as_ref();
    let modules = parcel.modules.as_ref();
    let tables: Vec<(TableKind, Vec<u8>)> = [
        functions.map(|table| (TableKind::Functions, functions::to_text(id, table))),
        modules.map(|modules| (TableKind::Modules, aliases::to_json(id, modules))),
    ]
    .into_iter()
    .flatten()
    .collect();
    let header = Header {
        format: FORMAT,
        kind: Kind::Profile,
        release: id.release.clone(),
        build_id: id.build_id.clone(),
        sha256: hex::encode(Sha256::digest(&text)),
        tables: tables
            .iter()
            .map(|(kind, text)| Table {
                kind: *kind,
                bytes: text.len() as u64,
                sha256: hex::encode(Sha256::digest(text)),
            })
            .collect(),
    };
    let mut bytes = serde_json::to_vec(&header).expect("a header of texts becomes JSON");
    bytes.push(b'\n');
    bytes.extend_from_slice(&text);
    bytes.push(b'\n');
    for (_, text) in tables {
        bytes.extend_from_slice(&text);
        bytes.push(b'\n');
    }
    bytes
}

/// Compresses an exported profile.
pub fn pack(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Reads an exported profile with its tables, compressed or not.
pub fn import(bytes: &[u8]) -> Result<Parcel, ImportError> {
    if bytes.len() as u64 > LIMIT {
        return Err(ImportError::TooLarge);
    }
    let mut plain = Vec::new();
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(bytes)
            .take(LIMIT + 1)
            .read_to_end(&mut plain)
            .map_err(ImportError::Packed)?;
        if plain.len() as u64 > LIMIT {
            return Err(ImportError::TooLarge);
        }
        plain.as_slice()
    } else {
        bytes
    };
    let end = bytes
        .iter()
        .take(LONGEST_HEADER)
        .position(|byte| *byte == b'\n')
        .ok_or(ImportError::Header(None))?;
    let (first, rest) = bytes.split_at(end);
    let no_header = |error| ImportError::Header(Some(error));
    let Numbered { format } = serde_json::from_slice(first).map_err(no_header)?;
    if format != FORMAT {
        return Err(ImportError::Format { found: format });
    }
    let header: Header = serde_json::from_slice(first).map_err(no_header)?;
    let rest = rest.get(1..).unwrap_or_default();
    // The profile's JSON is one line.
    let end = rest.iter().position(|byte| *byte == b'\n');
    let (text, mut rest) = rest.split_at(end.unwrap_or(rest.len()));
    let found = hex::encode(Sha256::digest(text));
    if found != header.sha256 {
        return Err(ImportError::Digest {
            found,
            wanted: header.sha256,
        });
    }
    let profile = from_json(text).map_err(ImportError::Profile)?;
    if profile.id.release != header.release || profile.id.build_id != header.build_id {
        return Err(ImportError::OtherKernel {
            header: named(&header.release, header.build_id.as_ref()),
            profile: named(&profile.id.release, profile.id.build_id.as_ref()),
        });
    }
    let mut parcel = Parcel {
        profile,
        functions: None,
        modules: None,
    };
    for table in &header.tables {
        let name = table.kind.name();
        let bad = |why: String| ImportError::Table { table: name, why };
        let text = usize::try_from(table.bytes)
            .ok()
            .and_then(|bytes| rest.strip_prefix(b"\n")?.get(..bytes))
            .ok_or_else(|| bad("it is cut".to_owned()))?;
        rest = rest.get(1 + text.len()..).unwrap_or_default();
        if hex::encode(Sha256::digest(text)) != table.sha256 {
            return Err(bad("its digest is not the one the header says".to_owned()));
        }
        let id = &parcel.profile.id;
        match table.kind {
            TableKind::Functions => {
                let read = functions::from_text(text, id);
                parcel.functions = Some(read.map_err(|error| bad(error.to_string()))?);
            }
            TableKind::Modules => parcel.modules = Some(aliases::from_json(text, id).map_err(bad)?),
        }
    }
    match rest {
        [] | [b'\n'] => Ok(parcel),
        _ => Err(ImportError::Table {
            table: "end",
            why: "more follows than its header says".to_owned(),
        }),
    }
}

impl TableKind {
    fn name(self) -> &'static str {
        match self {
            Self::Functions => "table of functions",
            Self::Modules => "list of modules",
        }
    }
}

/// Saves `profile` below `home`, unless what is kept there under its release must stay.
///
/// Another build of the same release is never replaced unasked: modules and verdicts of one are not
/// the other's. The one exception is a profile made before any image was seen.
pub fn keep(
    home: &Path,
    profile: &KernelProfile,
    made: Made,
    replace: Replace,
) -> Result<PathBuf, KeepError> {
    let kept = match load(home, &profile.id.release) {
        Ok(kept) => Some(kept),
        Err(LoadError::Missing { .. }) => None,
        // A damaged or outdated one is no reason to refuse the kernel itself.
        Err(LoadError::Malformed { .. } | LoadError::Changed { .. })
            if made == Made::Here || replace == Replace::Yes =>
        {
            None
        }
        Err(error) => return Err(error.into()),
    };
    if let (Some(kept), Replace::No) = (&kept, replace) {
        may_replace(kept, profile, made)?;
    }
    let path = save(home, profile)?;
    let kept_git = kept.as_ref().and_then(|kept| kept.git.clone());
    // What was kept beside the profile of another build is not this one's.
    if kept.is_none_or(|kept| kept.id != profile.id) {
        functions::forget(home, &profile.id.release).map_err(SaveError::from)?;
        aliases::forget(home, &profile.id.release).map_err(SaveError::from)?;
    }
    if kept_git != profile.git {
        history::forget(home, &profile.id.release).map_err(SaveError::from)?;
    }
    // What an import says is of a tree elsewhere; who adds a tree here keeps its stamp anew.
    match made {
        Made::Here => {}
        Made::Elsewhere => stamp::forget(home, &profile.id.release).map_err(SaveError::from)?,
    }
    Ok(path)
}

fn may_replace(kept: &KernelProfile, given: &KernelProfile, made: Made) -> Result<(), KeepError> {
    let release = given.id.release.clone();
    match (&kept.id.build_id, &given.id.build_id) {
        (None, Some(_)) if made == Made::Here => return Ok(()),
        (kept, given) if kept == given => {}
        (kept, given) => {
            return Err(KeepError::OtherBuild {
                release,
                kept: kept.clone(),
                given: given.clone(),
            });
        }
    }
    let what = differences(kept, given);
    match made {
        Made::Here => Ok(()),
        Made::Elsewhere if what.is_empty() => Ok(()),
        Made::Elsewhere => Err(KeepError::Differs {
            release,
            what: what.join(", "),
        }),
    }
}

/// Names the parts in which two profiles differ.
fn differences(left: &KernelProfile, right: &KernelProfile) -> Vec<&'static str> {
    [
        (left.base_version != right.base_version, "base version"),
        (left.origin != right.origin, "origin"),
        (left.compiler != right.compiler, "compiler"),
        (left.config != right.config, "configuration"),
        (left.units != right.units, "units"),
        (left.contributors != right.contributors, "contributors"),
        (left.tree_files != right.tree_files, "files of the tree"),
        (left.functions != right.functions, "functions"),
        (left.sureness != right.sureness, "sureness"),
        (left.readable != right.readable, "readable headers"),
        (left.git != right.git, "commit"),
        (
            left.taken_in != right.taken_in,
            "what the distribution took in",
        ),
    ]
    .into_iter()
    .filter_map(|(differs, name)| differs.then_some(name))
    .collect()
}

fn named(release: &KernelRelease, build_id: Option<&BuildId>) -> String {
    format!("{release} with build-id {}", shown(build_id))
}

fn shown(build_id: Option<&BuildId>) -> String {
    build_id.map_or_else(|| "(none)".to_owned(), ToString::to_string)
}

/// Entry for fuzzing: reads bytes as an exported profile; what is read must survive being written.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(parcel) = import(bytes) {
        import(&export(&parcel)).expect("what was read can be written and read");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tuxtape_core::applicability::loaded::ModuleFacts;
    use tuxtape_core::identity::ObjectName;
    use tuxtape_core::profile::functions::UnitFunctions;

    use super::*;
    use crate::profile::small;

    fn parcel() -> Parcel {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Parcel {
            profile: small(),
            functions: Some(FunctionTable {
                units: BTreeMap::from([(
                    "lib/x.c".to_owned(),
                    UnitFunctions {
                        own: names(&["x_open"]),
                        inlined: names(&["x_get"]),
                    },
                )]),
            }),
            modules: Some(Modules::from([(
                ObjectName("a_b".to_owned()),
                ModuleFacts {
                    aliases: names(&["net-pf-9"]),
                    ..ModuleFacts::default()
                },
            )])),
        }
    }

    #[test]
    fn an_exported_profile_imports_equal_packed_or_not() {
        let alone = Parcel {
            functions: None,
            modules: None,
            ..parcel()
        };
        for parcel in [parcel(), alone] {
            let bytes = export(&parcel);
            assert_eq!(import(&bytes).unwrap(), parcel);
            assert_eq!(import(&pack(&bytes).unwrap()).unwrap(), parcel);
        }
    }

    #[test]
    fn what_follows_the_last_table_is_refused() {
        let mut bytes = export(&parcel());
        bytes.extend_from_slice(b"{}\n");
        assert!(import(&bytes).is_err());
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_refused() {
        let bytes = export(&parcel());
        for end in 0..bytes.len() - 1 {
            assert!(import(&bytes[..end]).is_err(), "{end}");
        }
        for at in 0..bytes.len() - 1 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert!(import(&bytes).is_err(), "{at}");
        }
        let packed = pack(&bytes).unwrap();
        for end in 0..packed.len() - 8 {
            assert!(import(&packed[..end]).is_err(), "{end}");
        }
        assert!(matches!(import(b"{}\n"), Err(ImportError::Header(Some(_)))));
        assert!(matches!(
            import(b"{\"format\":1}\n"),
            Err(ImportError::Format { found: 1 })
        ));
    }

    #[test]
    fn another_build_of_the_same_release_is_refused_with_both_ids() {
        let home = tempfile::tempdir().unwrap();
        keep(home.path(), &small(), Made::Here, Replace::No).unwrap();
        let mut other = small();
        other.id.build_id = Some("11ee".parse().unwrap());
        for made in [Made::Here, Made::Elsewhere] {
            let error = keep(home.path(), &other, made, Replace::No).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("00ff") && text.contains("11ee"), "{text}");
        }
        other.id.build_id = None;
        assert!(keep(home.path(), &other, Made::Here, Replace::No).is_err());
        keep(home.path(), &other, Made::Here, Replace::Yes).unwrap();
        // And the kernel itself takes the place of what was only evaluated.
        assert!(keep(home.path(), &small(), Made::Elsewhere, Replace::No).is_err());
        keep(home.path(), &small(), Made::Here, Replace::No).unwrap();
        assert_eq!(load(home.path(), &small().id.release).unwrap(), small());
    }

    #[test]
    fn an_import_replaces_no_differing_profile_unasked() {
        let home = tempfile::tempdir().unwrap();
        keep(home.path(), &small(), Made::Here, Replace::No).unwrap();
        keep(home.path(), &small(), Made::Elsewhere, Replace::No).unwrap();
        let mut other = small();
        other.units.pop_first();
        let error = keep(home.path(), &other, Made::Elsewhere, Replace::No).unwrap_err();
        assert!(error.to_string().ends_with("differs in units"), "{error}");
        keep(home.path(), &other, Made::Elsewhere, Replace::Yes).unwrap();
    }
}
