//! Functions of a kernel's units, kept beside its profile as `HOME/kernels/RELEASE/functions.gz`.
//!
//! Two lines of JSON, compressed together: which kernel and the digest of the second line; then a
//! table of names and, for each unit, the positions of its functions in it as steps from one to the
//! next.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use flate2::Compression;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tuxtape_core::identity::{BuildId, KernelRelease};
use tuxtape_core::profile::ProfileId;
use tuxtape_core::profile::functions::{FunctionTable, UnitFunctions};
use tuxtape_sys::durable::WriteError;

use super::beside;

/// The one format written and read.
const FORMAT: u32 = 1;
/// Largest file that is read, in bytes, and the largest text it may hold.
const FILE_LIMIT: u64 = 32 << 20;
const TEXT_LIMIT: u64 = 128 << 20;
/// Most functions of all units together: each is a string of its own in memory. A kernel of a
/// distribution with all its drivers has about two million.
const MOST: usize = 8 << 20;
/// Most bytes that their names take in memory.
const MOST_BYTES: usize = 256 << 20;

const NAME: &str = "functions.gz";

/// Why a function table could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no function table of that kernel.
    #[error("{path} is not the function table of {release}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The kernel asked for.
        release: KernelRelease,
        /// What is wrong in it.
        source: Malformed,
    },
}

/// Why bytes are no function table.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It is not the JSON this format has.
    #[error("its JSON is not a function table's")]
    Json(#[from] serde_json::Error),
    /// It has another format number.
    #[error("it has format {found}, this program reads format {FORMAT}")]
    Format {
        /// The number found.
        found: u32,
    },
    /// It has one line.
    #[error("it ends early")]
    Short,
    /// The digest of its second line is another.
    #[error("its digest is not the one it names")]
    Digest,
    /// It describes another build.
    #[error("it describes {release}, build-id {build_id}", build_id = shown(build_id.as_ref()))]
    OtherKernel {
        /// The release in the text.
        release: KernelRelease,
        /// The build-id in the text.
        build_id: Option<BuildId>,
    },
    /// Names out of order, or one twice.
    #[error("name {index} of its table is out of order")]
    Order {
        /// Position of the name.
        index: usize,
    },
    /// A unit names a function by a number the table does not have, or twice.
    #[error("{unit} has a function that is not in the table")]
    Function {
        /// The unit.
        unit: String,
    },
    /// More functions than any kernel has.
    #[error("more than {MOST} functions, or {MOST_BYTES} bytes of their names")]
    TooMany,
}

fn shown(build_id: Option<&BuildId>) -> String {
    build_id.map_or_else(|| "none".to_owned(), ToString::to_string)
}

#[derive(Deserialize)]
struct Numbered {
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    release: KernelRelease,
    build_id: Option<BuildId>,
    /// Of the second line, in hexadecimal digits.
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    names: Vec<String>,
    /// Unit → functions with a body, functions inlined.
    units: BTreeMap<String, (Vec<u32>, Vec<u32>)>,
}

/// Reads the function table of the kernel `id` from below `home`; `None` where none was kept, as for
/// kernels without debug data and those that were added before tables were.
pub fn load(home: &Path, id: &ProfileId) -> Result<Option<FunctionTable>, LoadError> {
    let path = path(home, &id.release);
    let failed = |source| LoadError::Read {
        path: path.clone(),
        source,
    };
    let Some(text) = beside::read_gzip(&path, FILE_LIMIT, TEXT_LIMIT).map_err(failed)? else {
        return Ok(None);
    };
    from_text(&text, id)
        .map(Some)
        .map_err(|source| LoadError::Malformed {
            path: path.clone(),
            release: id.release.clone(),
            source,
        })
}

/// Writes `table` of the kernel `id` below `home` so that a reader sees the old one or the whole new
/// one. Blocks on the disk.
pub fn save(home: &Path, id: &ProfileId, table: &FunctionTable) -> Result<PathBuf, WriteError> {
    let path = path(home, &id.release);
    beside::write_gzip(&path, &to_text(id, table), Compression::best())?;
    Ok(path)
}

/// Reads a function table from its two lines; `id` is the kernel it must be of.
pub fn from_text(text: &[u8], id: &ProfileId) -> Result<FunctionTable, Malformed> {
    let end = text
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or(Malformed::Short)?;
    let (head, body) = text.split_at(end);
    let body = body.get(1..).ok_or(Malformed::Short)?;
    let Numbered { format } = serde_json::from_slice(head)?;
    if format != FORMAT {
        return Err(Malformed::Format { found: format });
    }
    let head: Head = serde_json::from_slice(head)?;
    if head.release != id.release || head.build_id != id.build_id {
        return Err(Malformed::OtherKernel {
            release: head.release,
            build_id: head.build_id,
        });
    }
    if hex::encode(Sha256::digest(body)) != head.sha256 {
        return Err(Malformed::Digest);
    }
    let Body { names, units } = serde_json::from_slice(body)?;
    let order = names
        .windows(2)
        .position(|pair| pair.first() >= pair.last());
    if let Some(index) = order {
        return Err(Malformed::Order { index: index + 1 });
    }
    let total = units
        .values()
        .map(|(own, inlined)| own.len() + inlined.len());
    if total.sum::<usize>() > MOST {
        return Err(Malformed::TooMany);
    }
    let mut left = MOST_BYTES;
    let mut table = FunctionTable::default();
    for (unit, (own, inlined)) in units {
        let functions = UnitFunctions {
            own: named(&own, &names, &unit, &mut left)?,
            inlined: named(&inlined, &names, &unit, &mut left)?,
        };
        table.units.insert(unit, functions);
    }
    Ok(table)
}

/// Writes a function table as two lines; equal tables give equal bytes.
pub fn to_text(id: &ProfileId, table: &FunctionTable) -> Vec<u8> {
    let names: Vec<&str> = table
        .units
        .values()
        .flat_map(|unit| unit.own.iter().chain(&unit.inlined))
        .map(String::as_str)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let steps = |functions: &BTreeSet<String>| -> Vec<u32> {
        let mut last = 0;
        functions
            .iter()
            .map(|name| {
                let at = names
                    .binary_search(&name.as_str())
                    .expect("the table was collected from these sets");
                let step = at - last;
                last = at;
                u32::try_from(step).expect("a kernel has fewer than 2^32 functions")
            })
            .collect()
    };
    let units = table
        .units
        .iter()
        .map(|(unit, functions)| {
            let both = (steps(&functions.own), steps(&functions.inlined));
            (unit.clone(), both)
        })
        .collect();
    let body = Body {
        units,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let body = serde_json::to_vec(&body).expect("maps with text keys always become JSON");
    let head = Head {
        format: FORMAT,
        release: id.release.clone(),
        build_id: id.build_id.clone(),
        sha256: hex::encode(Sha256::digest(&body)),
    };
    let mut text = serde_json::to_vec(&head).expect("a struct of texts always becomes JSON");
    text.push(b'\n');
    text.extend(body);
    text
}

/// Takes the names at `steps`, each further than the one before.
fn named(
    steps: &[u32],
    names: &[String],
    unit: &str,
    left: &mut usize,
) -> Result<BTreeSet<String>, Malformed> {
    let missing = || Malformed::Function {
        unit: unit.to_owned(),
    };
    let mut at = 0_usize;
    let mut found = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let step = usize::try_from(*step).map_err(|_| missing())?;
        if index > 0 && step == 0 {
            return Err(missing());
        }
        at = at.checked_add(step).ok_or_else(missing)?;
        let name = names.get(at).ok_or_else(missing)?;
        *left = left.checked_sub(name.len()).ok_or(Malformed::TooMany)?;
        found.push(name.clone());
    }
    Ok(found.into_iter().collect())
}

/// Removes what is kept of `release` below `home`, if anything.
pub(crate) fn forget(home: &Path, release: &KernelRelease) -> Result<(), WriteError> {
    let path = path(home, release);
    beside::remove(&path)
}

fn path(home: &Path, release: &KernelRelease) -> PathBuf {
    super::folder(home, release).join(NAME)
}

/// Entry for fuzzing: reads bytes as the second line of a table, and as a whole one.
pub fn fuzz(bytes: &[u8]) {
    let id = ProfileId {
        arch: tuxtape_core::identity::Arch::X86_64,
        release: "6.1.0".parse().expect("a release"),
        build_id: None,
    };
    from_text(bytes, &id).ok();
    let head = Head {
        format: FORMAT,
        release: id.release.clone(),
        build_id: None,
        sha256: hex::encode(Sha256::digest(bytes)),
    };
    let mut text = serde_json::to_vec(&head).expect("a struct of texts always becomes JSON");
    text.push(b'\n');
    text.extend(bytes);
    if let Ok(table) = from_text(&text, &id) {
        let again = from_text(&to_text(&id, &table), &id).expect("what was read can be written");
        assert_eq!(again, table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::small;

    fn table() -> FunctionTable {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        FunctionTable {
            units: BTreeMap::from([
                (
                    "net/core/dev.c".to_owned(),
                    UnitFunctions {
                        own: set(&["dev_open", "napi_poll"]),
                        inlined: set(&["dev_hold", "napi_poll"]),
                    },
                ),
                ("lib/x.c".to_owned(), UnitFunctions::default()),
            ]),
        }
    }

    fn changed(from: &str, to: &str) -> Result<FunctionTable, Malformed> {
        let id = small().id;
        let text = String::from_utf8(to_text(&id, &table())).unwrap();
        let (head, body) = text.split_once('\n').unwrap();
        assert!(body.contains(from), "{body}");
        let body = body.replace(from, to);
        let mut head: serde_json::Value = serde_json::from_str(head).unwrap();
        head["sha256"] = hex::encode(Sha256::digest(&body)).into();
        from_text(format!("{head}\n{body}").as_bytes(), &id)
    }

    #[test]
    fn a_saved_table_loads_equal() {
        let home = tempfile::tempdir().unwrap();
        let id = small().id;
        assert!(load(home.path(), &id).unwrap().is_none());
        save(home.path(), &id, &table()).unwrap();
        assert_eq!(load(home.path(), &id).unwrap(), Some(table()));
    }

    #[test]
    fn the_table_of_another_build_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let mut id = small().id;
        save(home.path(), &id, &table()).unwrap();
        id.build_id = Some("01ff".parse().unwrap());
        let error = load(home.path(), &id).unwrap_err();
        assert!(matches!(
            error,
            LoadError::Malformed {
                source: Malformed::OtherKernel { .. },
                ..
            }
        ));
    }

    #[test]
    fn a_table_that_says_what_it_cannot_is_refused() {
        assert!(changed("dev_open", "dev_open").is_ok());
        for (from, to) in [
            // Numbers outside of the table, and one twice.
            ("[[1,1],[0,2]]", "[[1,9],[0,2]]"),
            ("[[1,1],[0,2]]", "[[1,0],[0,2]]"),
            ("[[1,1],[0,2]]", "[[1,4294967295],[0,2]]"),
            ("[[1,1],[0,2]]", "[[1,1]]"),
            ("[[1,1],[0,2]]", "[[1,-1],[0,2]]"),
            // Names out of order.
            ("\"dev_open\"", "\"aaa\""),
            ("{\"names\"", "{\"more\":1,\"names\""),
        ] {
            assert!(changed(from, to).is_err(), "{to}");
        }
    }

    #[test]
    fn every_truncation_and_every_wrong_byte_is_an_error() {
        let id = small().id;
        let text = to_text(&id, &table());
        for end in 0..text.len() {
            assert!(from_text(&text[..end], &id).is_err(), "{end}");
        }
        for at in 0..text.len() {
            let mut wrong = text.clone();
            wrong[at] ^= 1;
            assert!(from_text(&wrong, &id).is_err(), "{at}");
        }
    }
}
