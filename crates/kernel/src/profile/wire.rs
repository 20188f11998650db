//! The profile's text on disk: JSON with a format number, distinct from the domain type.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tuxtape_core::identity::{Arch, BuildId, KernelRelease, ObjectName};
use tuxtape_core::profile::taken::{TakenIn, TakenInVersion};
use tuxtape_core::profile::{
    ConfigFacts, EngineFacts, GitOrigin, KernelProfile, ProfileId, ProfileOrigin, Sureness, Way,
};

/// The one format written and read.
const FORMAT: u32 = 3;

/// Why a text is no profile.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It is not the JSON this format has.
    #[error("its JSON is not a profile's")]
    Json(#[from] serde_json::Error),
    /// It has another format number.
    #[error("it has format {found}, this program reads format {FORMAT}{way_out}", way_out = if *found < FORMAT { ": add the kernel again" } else { "" })]
    Format {
        /// The number found.
        found: u32,
    },
    /// A unit names an object by a number the object table does not have.
    #[error("{path} went into object number {object}, which is not in the table")]
    Object {
        /// The unit or contributor.
        path: String,
        /// The number.
        object: u32,
    },
    /// It names a commit that is none.
    #[error("{text:?} is no commit")]
    Commit {
        /// The text.
        text: String,
    },
    /// What it says that the distribution took in is of another form.
    #[error("{text:?} is no CVE and no key of a subject")]
    Taken {
        /// The text.
        text: String,
    },
    /// It describes another kernel than its place says.
    #[error("it describes {found}")]
    OtherKernel {
        /// The release in the text.
        found: KernelRelease,
    },
}

/// Reads the format number before anything else, so that a newer file is named as such.
#[derive(Deserialize)]
struct Numbered {
    format: u32,
}

/// A file name, in the text itself where it needs no unescaping: there are tens of thousands.
#[derive(Serialize, Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Positions in the list of objects: one as a number, several in a row as `[first, last]`. A header
/// that every module reads would else be written as thousands of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u32,
    last: u32,
}

impl Serialize for Run {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last {
            self.first.serialize(serializer)
        } else {
            [self.first, self.last].serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Run {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Run;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or the first and last of several")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Run, E> {
                let number = u32::try_from(number).map_err(E::custom)?;
                Ok(Run {
                    first: number,
                    last: number,
                })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Run, A::Error> {
                let short = |count| de::Error::invalid_length(count, &self);
                let first = list.next_element()?.ok_or_else(|| short(0))?;
                let last = list.next_element()?.ok_or_else(|| short(1))?;
                if list.next_element::<u32>()?.is_some() || first > last {
                    return Err(de::Error::custom("no first and last"));
                }
                Ok(Run { first, last })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    format: u32,
    arch: Arch,
    release: KernelRelease,
    build_id: Option<BuildId>,
    base_version: String,
    spec: String,
    source: String,
    compiler: String,
    config: WireConfig,
    functions: u64,
    way: Way,
    all_headers: bool,
    blind: BTreeMap<String, String>,
    /// Names of the objects; units and contributors hold positions in this list.
    objects: Vec<ObjectName>,
    units: BTreeMap<String, Vec<u32>>,
    contributors: BTreeMap<String, Vec<Run>>,
    /// Folder (empty for the top) → file names.
    #[serde(borrow)]
    tree: BTreeMap<String, Vec<Name<'a>>>,
    /// As `tree`, of the files that could be read.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    readable: Option<BTreeMap<String, Vec<Name<'a>>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    git: Option<WireGit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    taken_in: Option<WireTaken>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTaken {
    /// Version, CVEs, subjects.
    versions: Vec<(String, Vec<String>, Vec<String>)>,
    reverted: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireGit {
    repository: String,
    commit: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireConfig {
    livepatch: bool,
    ibt: bool,
    modversions: bool,
    lto: bool,
    randstruct: bool,
    kallsyms_all: bool,
    unwinder_orc: bool,
    module_sig_force: bool,
    trim_unused_ksyms: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    engines: Option<EngineFacts>,
}

/// Reads a profile from its JSON.
pub fn from_json(text: &[u8]) -> Result<KernelProfile, Malformed> {
    let Numbered { format } = serde_json::from_slice(text)?;
    if format != FORMAT {
        return Err(Malformed::Format { found: format });
    }
    let wire: Wire<'_> = serde_json::from_slice(text)?;
    let units = named(wire.units, &wire.objects)?;
    let contributors = spread(wire.contributors, &wire.objects)?;
    let tree_files = gathered(&wire.tree);
    let readable = wire.readable.as_ref().map(gathered);
    let config = wire.config;
    let git = wire
        .git
        .map(|WireGit { repository, commit }| match commit.parse() {
            Ok(commit) => Ok(GitOrigin { repository, commit }),
            Err(_) => Err(Malformed::Commit { text: commit }),
        });
    Ok(KernelProfile {
        id: ProfileId {
            arch: wire.arch,
            release: wire.release,
            build_id: wire.build_id,
        },
        base_version: wire.base_version,
        origin: ProfileOrigin {
            spec: wire.spec,
            source: wire.source,
        },
        compiler: wire.compiler,
        config: ConfigFacts {
            livepatch: config.livepatch,
            ibt: config.ibt,
            modversions: config.modversions,
            lto: config.lto,
            randstruct: config.randstruct,
            kallsyms_all: config.kallsyms_all,
            unwinder_orc: config.unwinder_orc,
            module_sig_force: config.module_sig_force,
            trim_unused_ksyms: config.trim_unused_ksyms,
            engines: config.engines,
        },
        units,
        contributors,
        tree_files,
        functions: wire.functions,
        sureness: Sureness {
            way: wire.way,
            all_headers: wire.all_headers,
            blind: wire.blind,
        },
        readable,
        git: git.transpose()?,
        taken_in: wire.taken_in.map(taken_in).transpose()?,
    })
}

fn taken_in(wire: WireTaken) -> Result<TakenIn, Malformed> {
    let versions = wire.versions.into_iter().map(|(version, cves, titles)| {
        Ok(TakenInVersion {
            version,
            cves: read_all(cves)?,
            titles: read_all(titles)?,
        })
    });
    Ok(TakenIn {
        versions: versions.collect::<Result<_, Malformed>>()?,
        reverted: read_all(wire.reverted)?,
    })
}

fn read_all<T: FromStr + Ord>(texts: Vec<String>) -> Result<BTreeSet<T>, Malformed> {
    let read = |text: String| text.parse().map_err(|_| Malformed::Taken { text });
    texts.into_iter().map(read).collect()
}

fn write_all<T: fmt::Display>(values: &BTreeSet<T>) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// Writes a profile as JSON; equal profiles give equal bytes.
pub fn to_json(profile: &KernelProfile) -> Vec<u8> {
    let objects: Vec<ObjectName> = profile
        .units
        .values()
        .chain(profile.contributors.values())
        .flatten()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .cloned()
        .collect();
    let tree = by_folder(&profile.tree_files);
    let config = &profile.config;
    let wire = Wire {
        format: FORMAT,
        arch: profile.id.arch,
        release: profile.id.release.clone(),
        build_id: profile.id.build_id.clone(),
        base_version: profile.base_version.clone(),
        spec: profile.origin.spec.clone(),
        source: profile.origin.source.clone(),
        compiler: profile.compiler.clone(),
        config: WireConfig {
            livepatch: config.livepatch,
            ibt: config.ibt,
            modversions: config.modversions,
            lto: config.lto,
            randstruct: config.randstruct,
            kallsyms_all: config.kallsyms_all,
            unwinder_orc: config.unwinder_orc,
            module_sig_force: config.module_sig_force,
            trim_unused_ksyms: config.trim_unused_ksyms,
            engines: config.engines,
        },
        functions: profile.functions,
        way: profile.sureness.way,
        all_headers: profile.sureness.all_headers,
        blind: profile.sureness.blind.clone(),
        units: numbered(&profile.units, &objects),
        contributors: numbered(&profile.contributors, &objects)
            .into_iter()
            .map(|(path, numbers)| (path, runs(&numbers)))
            .collect(),
        objects,
        tree,
        readable: profile.readable.as_ref().map(by_folder),
        git: profile.git.as_ref().map(|git| WireGit {
            repository: git.repository.clone(),
            commit: git.commit.to_string(),
        }),
        taken_in: profile.taken_in.as_ref().map(|taken| {
            let versions = taken.versions.iter().map(|entries| {
                let cves = write_all(&entries.cves);
                (entries.version.clone(), cves, write_all(&entries.titles))
            });
            WireTaken {
                versions: versions.collect(),
                reverted: write_all(&taken.reverted),
            }
        }),
    };
    serde_json::to_vec(&wire).expect("maps with text keys always become JSON")
}

/// Entry for fuzzing: reads bytes as a profile; what is read must survive being written.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(profile) = from_json(bytes) {
        let again = from_json(&to_json(&profile)).expect("what was read can be written and read");
        assert_eq!(again.units, profile.units);
    }
}

fn gathered(tree: &BTreeMap<String, Vec<Name<'_>>>) -> BTreeSet<String> {
    tree.iter()
        .flat_map(|(folder, names)| names.iter().map(move |name| joined(folder, &name.0)))
        .collect()
}

fn by_folder(files: &BTreeSet<String>) -> BTreeMap<String, Vec<Name<'_>>> {
    let mut tree: BTreeMap<String, Vec<Name<'_>>> = BTreeMap::new();
    for path in files {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        tree.entry(folder.to_owned())
            .or_default()
            .push(Name(Cow::Borrowed(name)));
    }
    tree
}

fn joined(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

/// Joins rising numbers.
fn runs(numbers: &[u32]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some(run) if run.last.checked_add(1) == Some(number) => run.last = number,
            _ => runs.push(Run {
                first: number,
                last: number,
            }),
        }
    }
    runs
}

fn spread(
    map: BTreeMap<String, Vec<Run>>,
    objects: &[ObjectName],
) -> Result<BTreeMap<String, BTreeSet<ObjectName>>, Malformed> {
    map.into_iter()
        .map(|(path, runs)| {
            let mut names = BTreeSet::new();
            for run in runs {
                let range = usize::try_from(run.first)
                    .ok()
                    .zip(usize::try_from(run.last).ok())
                    .and_then(|(first, last)| objects.get(first..=last));
                // Bounded by the table, however long the run says it is.
                let range = range.ok_or_else(|| Malformed::Object {
                    path: path.clone(),
                    object: run.last,
                })?;
                names.extend(range.iter().cloned());
            }
            Ok((path, names))
        })
        .collect()
}

fn named(
    map: BTreeMap<String, Vec<u32>>,
    objects: &[ObjectName],
) -> Result<BTreeMap<String, BTreeSet<ObjectName>>, Malformed> {
    map.into_iter()
        .map(|(path, numbers)| {
            let names = numbers
                .iter()
                .map(|number| {
                    let index = usize::try_from(*number).ok();
                    index
                        .and_then(|index| objects.get(index))
                        .cloned()
                        .ok_or_else(|| Malformed::Object {
                            path: path.clone(),
                            object: *number,
                        })
                })
                .collect::<Result<_, _>>()?;
            Ok((path, names))
        })
        .collect()
}

fn numbered(
    map: &BTreeMap<String, BTreeSet<ObjectName>>,
    objects: &[ObjectName],
) -> BTreeMap<String, Vec<u32>> {
    let number = |name: &ObjectName| {
        let index = objects
            .binary_search(name)
            .expect("the table was collected from these maps");
        u32::try_from(index).expect("a kernel has fewer than 2^32 modules")
    };
    map.iter()
        .map(|(path, names)| (path.clone(), names.iter().map(number).collect()))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use tuxtape_core::profile::taken::TitleKey;

    use super::*;

    pub(crate) fn small() -> KernelProfile {
        let set = |names: &[&str]| {
            names
                .iter()
                .map(|name| ObjectName((*name).to_owned()))
                .collect::<BTreeSet<_>>()
        };
        KernelProfile {
            id: ProfileId {
                arch: Arch::X86_64,
                release: "6.1.0-47-cloud-amd64".parse().unwrap(),
                build_id: Some("00ff".parse().unwrap()),
            },
            base_version: "6.1.170".to_owned(),
            origin: ProfileOrigin {
                spec: "debian:6.1.0-47-cloud-amd64".to_owned(),
                source: "linux-source-6.1 6.1.170-3".to_owned(),
            },
            compiler: "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0".to_owned(),
            config: ConfigFacts {
                livepatch: true,
                modversions: true,
                engines: Some(EngineFacts::default()),
                ..ConfigFacts::default()
            },
            units: BTreeMap::from([
                ("net/core/dev.c".to_owned(), set(&["vmlinux"])),
                ("lib/x.c".to_owned(), set(&["a_b", "vmlinux"])),
            ]),
            contributors: BTreeMap::from([("include/net/sock.h".to_owned(), set(&["c"]))]),
            tree_files: ["Makefile", "lib/x.c", "net/core/dev.c"]
                .map(str::to_owned)
                .into(),
            functions: 7,
            sureness: Sureness {
                way: Way::DebugData,
                all_headers: false,
                blind: BTreeMap::from([("usr/".to_owned(), "unseen".to_owned())]),
            },
            readable: Some(["lib/x.h", "net/core/dev.h"].map(str::to_owned).into()),
            git: Some(GitOrigin {
                repository: "https://example.org/linux.git".to_owned(),
                commit: tuxtape_core::git_id::GitId::from_bytes([7; 20]),
            }),
            taken_in: Some(TakenIn {
                versions: vec![TakenInVersion {
                    version: "6.1.170-2".to_owned(),
                    cves: ["CVE-2026-0001".parse().unwrap()].into(),
                    titles: TitleKey::of("x: check it").into_iter().collect(),
                }],
                reverted: TitleKey::of("y: out").into_iter().collect(),
            }),
        }
    }

    fn changed(change: impl FnOnce(&mut serde_json::Value)) -> Result<KernelProfile, Malformed> {
        let mut value: serde_json::Value = serde_json::from_slice(&to_json(&small())).unwrap();
        change(&mut value);
        from_json(&serde_json::to_vec(&value).unwrap())
    }

    #[test]
    fn an_unknown_field_is_refused() {
        assert!(matches!(
            changed(|value| value["extra"] = 1.into()),
            Err(Malformed::Json(_))
        ));
        assert!(matches!(
            changed(|value| value["config"]["extra"] = true.into()),
            Err(Malformed::Json(_))
        ));
        assert!(matches!(
            changed(|value| value["config"]["engines"]["extra"] = true.into()),
            Err(Malformed::Json(_))
        ));
    }

    #[test]
    fn a_profile_without_the_facts_of_engines_is_still_read() {
        let old = changed(|value| {
            value["config"].as_object_mut().unwrap().remove("engines");
        });
        assert_eq!(old.unwrap().config.engines, None);
        assert_eq!(
            from_json(&to_json(&small())).unwrap().config,
            small().config
        );
    }

    #[test]
    fn a_profile_without_what_was_taken_in_is_still_read_and_knows_nothing_of_it() {
        let old = changed(|value| {
            value.as_object_mut().unwrap().remove("taken_in");
        });
        assert_eq!(old.unwrap().taken_in, None);
        for (at, bad) in [(1, "CVE-1"), (2, "0123")] {
            let outcome = changed(|value| value["taken_in"]["versions"][0][at][0] = bad.into());
            assert!(matches!(outcome, Err(Malformed::Taken { .. })), "{bad}");
        }
    }

    #[test]
    fn a_newer_format_is_named_even_with_fields_unknown_here() {
        let outcome = changed(|value| {
            value["format"] = 4.into();
            value["extra"] = 1.into();
        });
        assert!(matches!(outcome, Err(Malformed::Format { found: 4 })));
    }

    #[test]
    fn an_older_format_is_refused_with_the_way_out() {
        let error = changed(|value| value["format"] = 2.into()).unwrap_err();
        assert!(
            error.to_string().ends_with("add the kernel again"),
            "{error}"
        );
        let error = changed(|value| value["git"]["commit"] = "7".into()).unwrap_err();
        assert!(matches!(error, Malformed::Commit { .. }));
    }

    #[test]
    fn an_object_number_outside_the_table_is_refused() {
        let outcome = changed(|value| value["units"]["lib/x.c"][0] = 99.into());
        assert!(matches!(outcome, Err(Malformed::Object { object: 99, .. })));
    }

    #[test]
    fn objects_in_a_row_are_written_as_a_run_and_read_back() {
        let mut profile = small();
        let many = (10..90).map(|number| ObjectName(format!("m{number}")));
        let names: BTreeSet<ObjectName> = many.chain([ObjectName("a_b".to_owned())]).collect();
        profile
            .contributors
            .insert("include/linux/all.h".to_owned(), names);
        let text = to_json(&profile);
        let shown = String::from_utf8_lossy(&text);
        assert!(
            shown.contains("\"include/linux/all.h\":[0,[2,81]]"),
            "{shown}"
        );
        assert_eq!(from_json(&text).unwrap(), profile);
        for bad in [
            serde_json::json!([[5, 2]]),
            serde_json::json!([[0, 4_000_000_000_u32]]),
            serde_json::json!([[0]]),
            serde_json::json!([[0, 1, 2]]),
            serde_json::json!([-1]),
        ] {
            let outcome =
                changed(|value| value["contributors"]["include/net/sock.h"] = bad.clone());
            assert!(outcome.is_err(), "{bad}");
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let text = to_json(&small());
        for end in 0..text.len() {
            assert!(from_json(&text[..end]).is_err(), "{end}");
        }
    }
}
