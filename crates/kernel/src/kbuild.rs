//! What a kernel of a source tree and a `.config` is compiled of, by evaluating its makefiles: no
//! build, no `make`.
//!
//! The makefiles are read from the top folder down with a small interpreter of the make language.
//! What it cannot evaluate makes the folder blind (`Sureness::blind`), with file, line and construct:
//! never "not compiled".

#[cfg(test)]
mod against_make;
pub mod compare;
mod condition;
mod expand;
mod flags;
mod folder;
mod follow;
mod functions;
pub(crate) mod includes;
mod kconfig;
pub(crate) mod links;
mod makefile;
#[cfg(test)]
mod odd_trees;
pub(crate) mod release;
mod scope;
mod sources;
mod syntax;
#[cfg(test)]
mod tests;
mod text;
mod top;
pub mod tree;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use tuxtape_core::identity::{Arch, KernelRelease, ObjectName};
use tuxtape_core::profile::{KernelProfile, ProfileId, ProfileOrigin, Sureness, Way};

use crate::config::Config;

pub use self::tree::{Folder, Memory, SourceTree, TreeError};

/// Whether a `.config` whose header names another version than the tree's may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherVersion {
    /// It is an error that names both.
    Refused,
    /// It is told in [`Profiled::unchecked`].
    Allowed,
}

/// How a profile is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The SPEC it is added by, `dir:/usr/src/linux`.
    pub spec: String,
    /// Which source it is, `linux-source-6.1 6.1.170-3`; empty where nobody knows.
    pub source: String,
    /// `uname -r` of the kernel; `None` for what the tree would call itself.
    pub release: Option<KernelRelease>,
    /// What to do with a `.config` of another version.
    pub other_version: OtherVersion,
}

/// What an evaluation found. Paths are relative to the top of the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evaluated {
    /// Compiled units and the objects each goes into. Generated ones have the path they get.
    pub units: BTreeMap<String, BTreeSet<ObjectName>>,
    /// `.c` and `.S` files that a unit includes, and sources of generated units.
    pub contributors: BTreeMap<String, BTreeSet<ObjectName>>,
    /// Modules, by the names the kernel gives them.
    pub modules: BTreeSet<ObjectName>,
    /// Folders (with `/` at the end) and files of which it is not known whether they are compiled
    /// into the kernel, with the reason.
    pub blind: BTreeMap<String, String>,
    /// Objects for which neither a source nor a rule was found, each with the makefile.
    pub unsourced: BTreeMap<String, String>,
    /// Number of makefiles read.
    pub makefiles: usize,
}

/// A profile, and what could not be checked on the way.
#[derive(Debug)]
pub struct Profiled {
    /// The profile; its way is `Evaluation`.
    pub profile: KernelProfile,
    /// Modules, by the names the kernel gives them.
    pub modules: BTreeSet<ObjectName>,
    /// Checks that could not be made, each a sentence for a person.
    pub unchecked: Vec<String>,
}

/// Why a tree and a `.config` could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum KbuildError {
    /// The tree could not be listed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A file without which nothing can be said is missing.
    #[error("the tree has no {path}: it is no kernel source, or files of it are missing")]
    Missing {
        /// Path below the top.
        path: String,
    },
    /// Such a file could not be read.
    #[error("could not read {path} of the tree")]
    Read {
        /// Path below the top.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The top makefile could not be evaluated.
    #[error("could not tell which folders the kernel is made of: {reason}")]
    Top {
        /// File, line and construct.
        reason: String,
    },
    /// The top makefile does not say its version.
    #[error("the tree's Makefile says no version: {found:?}")]
    Version {
        /// What was found instead.
        found: String,
    },
    /// The release the tree would call itself is none.
    #[error("the tree would call its kernel {found:?}, which is no kernel release")]
    Release {
        /// What was put together.
        found: String,
    },
    /// The `.config` is no complete one.
    #[error("the configuration is not a complete one: it lacks {setting}")]
    Incomplete {
        /// The setting that every complete one has.
        setting: String,
    },
    /// The `.config` ends before its last menu does.
    #[error(
        "the configuration ends within a menu: it was cut short, or lines were added to it by hand"
    )]
    CutShort,
    /// The `.config` is for another architecture.
    #[error("the configuration is for {found}, only x86 kernels of 64 bits can be evaluated")]
    Arch {
        /// The architecture named.
        found: String,
    },
    /// The `.config` is of another version than the tree.
    #[error("not-the-kernel: the configuration is of Linux {config}, the tree is Linux {tree}")]
    OtherVersion {
        /// Version in the header of the `.config`.
        config: String,
        /// Version in the tree's Makefile.
        tree: String,
    },
    /// The `.config` asks for modules and has them switched off.
    #[error("the configuration has CONFIG_{setting}=m without CONFIG_MODULES=y")]
    NoModules {
        /// The first such setting.
        setting: String,
    },
}

/// Evaluates the makefiles of `tree` with `config`, on all cores.
///
/// Blocks on reading about 3,000 makefiles and the sources that are compiled (for the `.c` files they
/// include). The `config` must be complete: what it lacks counts as switched off.
pub fn evaluate(tree: &dyn SourceTree, config: &Config) -> Result<Evaluated, KbuildError> {
    walk::evaluate(tree, config)
}

/// Returns the `.c` and `.S` files of `tree` that `paths` may include, themselves among them: through
/// headers, and whatever conditions say.
pub fn may_include(tree: &dyn SourceTree, paths: &BTreeSet<String>) -> BTreeSet<String> {
    follow::may_include(tree, paths)
}

/// Makes the profile of the kernel that `tree` and the text of its `.config` would give.
pub fn profile(
    tree: &dyn SourceTree,
    config_text: &str,
    request: &Request,
) -> Result<Profiled, KbuildError> {
    let config = Config::parse(config_text);
    let named = release::read(tree, &config)?;
    let mut unchecked = Vec::new();
    check(config_text, &config, &named, request, &mut unchecked)?;
    let release = match &request.release {
        Some(release) => release.clone(),
        None => named.release.parse().map_err(|_| KbuildError::Release {
            found: named.release.clone(),
        })?,
    };
    let id = ProfileId {
        arch: Arch::X86_64,
        release,
        build_id: None,
    };
    let unknown = kconfig::unknown(tree, &config);
    if let Some(first) = unknown.first() {
        unchecked.push(format!(
            "{} settings of the configuration are in no Kconfig file of the tree, the first is \
             CONFIG_{first}: it may be another tree's",
            unknown.len()
        ));
    }
    let evaluated = evaluate(tree, &config)?;
    if !evaluated.unsourced.is_empty() {
        let first = evaluated
            .unsourced
            .keys()
            .next()
            .cloned()
            .unwrap_or_default();
        unchecked.push(format!(
            "no source was found for {} objects, the first is {first}",
            evaluated.unsourced.len()
        ));
    }
    let compiler = config.value("CC_VERSION_TEXT").unwrap_or_default();
    let profile = KernelProfile {
        compiler: compiler.to_owned(),
        config: config.facts(),
        units: evaluated.units,
        contributors: evaluated.contributors,
        tree_files: tree::own_files(tree),
        sureness: Sureness {
            way: Way::Evaluation,
            all_headers: false,
            blind: evaluated.blind,
        },
        origin: ProfileOrigin {
            spec: request.spec.clone(),
            source: request.source.clone(),
        },
        ..KernelProfile::blank(id, &named.base, Way::Evaluation)
    };
    Ok(Profiled {
        profile,
        modules: evaluated.modules,
        unchecked,
    })
}

/// Refuses a `.config` that cannot be this tree's.
fn check(
    text: &str,
    config: &Config,
    named: &release::Named,
    request: &Request,
    unchecked: &mut Vec<String>,
) -> Result<(), KbuildError> {
    match release::header(text) {
        Some((arch, _)) if arch != "x86" && arch != "x86_64" => {
            return Err(KbuildError::Arch {
                found: arch.to_owned(),
            });
        }
        Some((_, version)) if version != named.version => match request.other_version {
            OtherVersion::Refused => {
                return Err(KbuildError::OtherVersion {
                    config: version.to_owned(),
                    tree: named.version.clone(),
                });
            }
            OtherVersion::Allowed => unchecked.push(format!(
                "the configuration is of Linux {version}, the tree is Linux {}",
                named.version
            )),
        },
        Some(_) => {}
        None => unchecked.push("the configuration does not say of which version it is".to_owned()),
    }
    // A list of a few choices, such as a defconfig, would make everything else look switched off.
    for setting in ["CC_VERSION_TEXT", "LOCALVERSION", "HZ"] {
        if config.value(setting).is_none() {
            return Err(KbuildError::Incomplete {
                setting: format!("CONFIG_{setting}"),
            });
        }
    }
    if !release::ends_whole(text) {
        return Err(KbuildError::CutShort);
    }
    if !config.on("X86_64") {
        return Err(KbuildError::Arch {
            found: "another architecture (CONFIG_X86_64 is not set)".to_owned(),
        });
    }
    let modular = config.first_module().filter(|_| !config.on("MODULES"));
    if let Some(setting) = modular {
        return Err(KbuildError::NoModules {
            setting: setting.to_owned(),
        });
    }
    Ok(())
}

/// Entry for fuzzing: reads bytes as a tree, whose files each start after a line `=== PATH`, and makes
/// a profile of it. What it lacks of a kernel's top files is added.
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let top = "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\nSRCARCH := x86\nexport SRCARCH\nlibs-y := lib/\n";
    let config = "CONFIG_CC_VERSION_TEXT=\"c\"\nCONFIG_LOCALVERSION=\"\"\nCONFIG_HZ=1\nCONFIG_X86_64=y\n\
                  CONFIG_MODULES=y\nCONFIG_Y=y\nCONFIG_M=m\n";
    let mut files = BTreeMap::from([
        ("Makefile".to_owned(), top.as_bytes().to_vec()),
        ("Kbuild".to_owned(), b"obj-y += x/\n".to_vec()),
        (".config".to_owned(), config.as_bytes().to_vec()),
    ]);
    for part in text.split("=== ").skip(1) {
        if let Some((path, content)) = part.split_once('\n') {
            files.insert(path.to_owned(), content.as_bytes().to_vec());
        }
    }
    let config = files.remove(".config").unwrap_or_default();
    let request = Request {
        spec: "dir:fuzz".to_owned(),
        source: String::new(),
        release: None,
        other_version: OtherVersion::Allowed,
    };
    let tree = Memory::new(files);
    let Ok(made) = profile(&tree, &String::from_utf8_lossy(&config), &request) else {
        return;
    };
    let profile = made.profile;
    for (path, objects) in profile.units.iter().chain(&profile.contributors) {
        assert!(!objects.is_empty(), "{path} goes into nothing");
        assert!(
            !profile.sureness.blind.contains_key(path),
            "{path} is blind, too"
        );
    }
    let again = crate::profile::from_json(&crate::profile::to_json(&profile));
    assert!(
        again.is_ok_and(|again| again == profile),
        "it does not survive being kept"
    );
}
