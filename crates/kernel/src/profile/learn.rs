//! The profile of a kernel from whatever is at hand of it: a finished build, debug data, or its tree
//! and configuration alone.
//!
//! The surest way decides. The others, where they are at hand too, are asked as well: where one has a
//! file in the kernel that the surest rules out, neither is believed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use object::Object as _;
use object::read::elf::ElfFile64;
use tuxtape_core::applicability::loaded::Modules;
use tuxtape_core::identity::{Arch, BuildId, KernelRelease};
use tuxtape_core::profile::functions::FunctionTable;
use tuxtape_core::profile::{GitOrigin, KernelProfile, ProfileId, ProfileOrigin, Sureness, Way};
use tuxtape_core::version::KernelVersion;
use tuxtape_sys::map::{Map, MapError};

use super::agree::{self, Contradiction};
use super::build::{self, BuildError, Built};
use super::commands::{self, CommandsError};
use super::dwarf::DwarfError;
use super::headers;
use super::tree::{self, TreeError, Version};
use crate::config::Config;
use crate::kbuild::{self, KbuildError, SourceTree as _};

mod checks;

pub use self::checks::OtherConfig;

/// What is at hand of one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The SPEC it is added by.
    pub spec: String,
    /// Where the source came from, for people.
    pub source: String,
    /// Top of the source tree.
    pub tree: PathBuf,
    /// Folder of the build; the tree itself unless it was built with `O=`.
    pub build: PathBuf,
    /// The configuration; that of the build where nothing is given.
    pub config: Option<PathBuf>,
    /// The vmlinux; that of the build where nothing is given.
    pub vmlinux: Option<PathBuf>,
    /// Folder with the modules; those of the build where nothing is given.
    pub modules: Option<PathBuf>,
    /// The upstream version, where it is not what the tree's makefile says.
    pub base: Option<KernelVersion>,
    /// Whether a base version of another branch than the tree's makefile says is believed.
    pub base_trust: BaseTrust,
    /// The release, where the tree does not know it.
    pub release: Option<KernelRelease>,
    /// The one way to use; all that are at hand otherwise.
    pub way: Option<Way>,
    /// The commit that the tree is, without a change.
    pub git: Option<GitOrigin>,
    /// The changelog of the distribution's package, packed by gzip.
    pub changelog: Option<PathBuf>,
}

/// Whether a base version that contradicts the tree's makefile is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BaseTrust {
    /// It is refused: all verdicts follow from it.
    #[default]
    Makefile,
    /// It is: somebody says so.
    Given,
}

/// Why no profile could be made.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// The tree could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// There is no configuration.
    #[error("there is no configuration: {path} is not there", path = path.display())]
    NoConfig {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The configuration is of something else.
    #[error(transparent)]
    OtherConfig(#[from] OtherConfig),
    /// The base version given is of another branch than the tree.
    #[error("not-the-kernel: the base version {given} was given, the tree's makefile says {tree}")]
    OtherBase {
        /// The one given.
        given: KernelVersion,
        /// The tree's.
        tree: KernelVersion,
    },
    /// Tree and image are of two builds.
    #[error("not-the-kernel: {vmlinux} is of {found}, the tree was built as {release}", vmlinux = vmlinux.display())]
    OtherImage {
        /// The image.
        vmlinux: PathBuf,
        /// The release in it.
        found: KernelRelease,
        /// The release of the tree.
        release: KernelRelease,
    },
    /// Nothing says what the kernel is called.
    #[error("the release of this kernel is not known")]
    NoRelease,
    /// The way asked for is not there.
    #[error("no {way} in {path}", way = way.says(), path = path.display())]
    NoWay {
        /// The way.
        way: Way,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The configuration has modules, and fewer are here than it has.
    #[error("{folder} has no debug data of the module {module}, which the build has (its modules would pass for not built)",
        folder = folder.display())]
    NoModules {
        /// Where they were looked for.
        folder: PathBuf,
        /// The first that is missing.
        module: String,
    },
    /// The finished build could not be read.
    #[error(transparent)]
    Commands(#[from] CommandsError),
    /// The debug data could not be read.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The makefiles could not be evaluated.
    #[error(transparent)]
    Kbuild(#[from] KbuildError),
    /// A large file could not be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A file could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Makes the profile of the kernel at `parts`. Blocks on reading it.
pub fn learn(parts: &Parts) -> Result<Built, LearnError> {
    let tree = kbuild::Folder::open(&parts.tree).map_err(KbuildError::from)?;
    let version = match tree::version(&parts.tree) {
        Ok(version) => Some(version),
        // Only the files of the tree may be at hand, and then somebody must say what it is.
        Err(error) if parts.base.is_none() => return Err(error.into()),
        Err(_) => None,
    };
    let mut unchecked = Vec::new();
    let config_path = parts
        .config
        .clone()
        .unwrap_or_else(|| parts.build.join(".config"));
    let text = match tree::read(&config_path) {
        Ok(text) => text,
        Err(TreeError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(LearnError::NoConfig { path: config_path });
        }
        Err(error) => return Err(error.into()),
    };
    let config = Config::parse(&text);
    let base = base(parts, version.as_ref(), &mut unchecked)?;
    unchecked.extend(checks::header(&config_path, &text, &config, base)?);
    checks::built_with(&parts.build, &config_path, &config)?;
    let image = Image::find(parts)?;
    let release = release(parts, version.as_ref(), &config, image.as_ref())?;
    if let Some(first) = tree.outside().first() {
        unchecked.push(format!(
            "{} links lead out of the tree or nowhere and were not followed, the first is {first}",
            tree.outside().len()
        ));
    }
    let id = ProfileId {
        arch: Arch::X86_64,
        release,
        build_id: image.as_ref().and_then(|image| image.build_id.clone()),
    };
    let blank = KernelProfile {
        origin: ProfileOrigin {
            spec: parts.spec.clone(),
            source: parts.source.clone(),
        },
        compiler: config
            .value("CC_VERSION_TEXT")
            .unwrap_or_default()
            .to_owned(),
        config: config.facts(),
        tree_files: tree::sources(&kbuild::tree::own_files(&tree)),
        git: parts.git.clone(),
        ..KernelProfile::blank(id, &base.to_string(), Way::Evaluation)
    };
    let kernel = Kernel {
        parts,
        tree: &tree,
        config: &config,
        image: image.as_ref(),
        blank,
    };
    let mut told = kernel.ask_all(&mut unchecked)?;
    if !told.profile.sureness.all_headers {
        match headers::readable(&parts.tree, &told.profile) {
            Ok(readable) => told.profile.readable = Some(readable),
            Err(error) => unchecked.push(format!(
                "which headers could be read is not known, and those without code are unknown: {error}"
            )),
        }
    }
    if let Some(path) = &parts.changelog {
        match checks::taken_in(path, base) {
            Ok(taken) => told.profile.taken_in = Some(taken),
            Err(why) => unchecked.push(why),
        }
    }
    Ok(Built {
        profile: told.profile,
        functions: told.functions,
        modules: told.modules,
        history: None,
        stamp: None,
        unchecked,
    })
}

/// What one way tells.
struct Told {
    profile: KernelProfile,
    /// From debug data alone.
    functions: FunctionTable,
    modules: Modules,
}

impl From<KernelProfile> for Told {
    fn from(profile: KernelProfile) -> Self {
        Self {
            profile,
            functions: FunctionTable::default(),
            modules: Modules::new(),
        }
    }
}

/// Everything the ways share.
struct Kernel<'a> {
    parts: &'a Parts,
    tree: &'a kbuild::Folder,
    config: &'a Config,
    image: Option<&'a Image>,
    /// The profile without what the ways tell.
    blank: KernelProfile,
}

impl Kernel<'_> {
    /// Asks every way that is at hand; the first that answers is the surest.
    fn ask_all(&self, unchecked: &mut Vec<String>) -> Result<Told, LearnError> {
        if let Some(way) = self.parts.way {
            return self
                .ask(way, unchecked)
                .map(|told| self.under_all_names(told));
        }
        let mut sure: Option<Told> = None;
        let mut refusal = None;
        for way in [Way::CommandFiles, Way::DebugData, Way::Evaluation] {
            // A damaged or unfinished way is told, and the next one decides.
            match self
                .ask(way, unchecked)
                .map(|told| self.under_all_names(told))
            {
                Ok(other) => match &mut sure {
                    None => sure = Some(other),
                    Some(sure) => {
                        unchecked.extend(cross_check(&mut sure.profile, &other.profile));
                        if sure.functions.units.is_empty() {
                            sure.functions = other.functions;
                        }
                        if sure.modules.is_empty() {
                            sure.modules = other.modules;
                        }
                    }
                },
                Err(LearnError::NoWay { .. }) => {}
                Err(error @ LearnError::OtherImage { .. }) => return Err(error),
                Err(LearnError::Build(
                    error @ (BuildError::Compiler { .. } | BuildError::OtherBuild { .. }),
                )) => {
                    return Err(error.into());
                }
                Err(error) => {
                    unchecked.push(format!(
                        "{} could not be used: {}",
                        way.says(),
                        whole(&error)
                    ));
                    refusal.get_or_insert(error);
                }
            }
        }
        sure.ok_or_else(|| {
            refusal.unwrap_or(LearnError::NoWay {
                way: Way::Evaluation,
                path: self.parts.tree.clone(),
            })
        })
    }

    /// A file that was compiled under the name of a link was compiled under its own, too.
    fn under_all_names(&self, mut told: Told) -> Told {
        let profile = &mut told.profile;
        kbuild::links::spread(
            self.tree.links(),
            &profile.units,
            &mut profile.contributors,
            &mut profile.sureness.blind,
        );
        told
    }

    fn ask(&self, way: Way, unchecked: &mut Vec<String>) -> Result<Told, LearnError> {
        match way {
            Way::CommandFiles => self.by_commands(unchecked).map(Told::from),
            Way::DebugData => self.by_debug_data(unchecked),
            Way::Evaluation => self.by_evaluation().map(Told::from),
        }
    }

    fn by_commands(&self, unchecked: &mut Vec<String>) -> Result<KernelProfile, LearnError> {
        let build = &self.parts.build;
        if !commands::is_build(build) {
            return Err(LearnError::NoWay {
                way: Way::CommandFiles,
                path: build.clone(),
            });
        }
        let found = commands::read(
            build,
            &self.parts.tree,
            &self.blank.tree_files,
            self.config.on("MODULES"),
        )?;
        unchecked.extend(some(found.notes));
        let mut tree_files = self.blank.tree_files.clone();
        tree_files.retain(|path| !found.made.contains(path));
        Ok(KernelProfile {
            tree_files,
            units: found.units,
            contributors: found.contributors,
            functions: 0,
            sureness: Sureness {
                way: Way::CommandFiles,
                all_headers: found.all_headers,
                blind: found.blind,
            },
            ..self.blank.clone()
        })
    }

    fn by_debug_data(&self, unchecked: &mut Vec<String>) -> Result<Told, LearnError> {
        let no_way = || LearnError::NoWay {
            way: Way::DebugData,
            path: self.parts.build.clone(),
        };
        let image = self.image.ok_or_else(no_way)?;
        let vmlinux = match build::read(&image.path) {
            Ok(vmlinux) => vmlinux,
            // The vmlinux of a build without debug data is no fault of it.
            Err(BuildError::Dwarf {
                source: DwarfError::Stripped,
                ..
            }) if self.parts.vmlinux.is_none() && self.parts.way.is_none() => return Err(no_way()),
            Err(error) => return Err(error.into()),
        };
        build::check_compiler(&self.blank.compiler, &vmlinux)?;
        let modules = self.modules()?;
        if vmlinux.functions == 0 {
            unchecked.push(format!(
                "{} has no symbol table: which functions it has is not known",
                image.path.display()
            ));
        }
        let mut found = build::of_objects(vmlinux, &modules, &self.blank.tree_files)?;
        Ok(Told {
            functions: found.functions_of_units(),
            modules: found.modules,
            profile: KernelProfile {
                units: found.units,
                contributors: found.contributors,
                functions: found.functions,
                sureness: Sureness {
                    way: Way::DebugData,
                    all_headers: false,
                    blind: found.blind,
                },
                ..self.blank.clone()
            },
        })
    }

    /// Lists the modules with debug data: all that the build has, or an error.
    fn modules(&self) -> Result<Vec<PathBuf>, LearnError> {
        if !self.config.on("MODULES") {
            return Ok(Vec::new());
        }
        let (folder, found) = match &self.parts.modules {
            Some(folder) => (folder, build::objects(folder)?),
            None => (&self.parts.build, self.built_modules()?),
        };
        let names: BTreeSet<_> = found.iter().map(|path| build::module_name(path)).collect();
        // Without the list of a build, the makefiles say which modules there are.
        let wanted = match checks::listed_modules(folder, &self.parts.build)? {
            Some(listed) => listed,
            None => self.evaluated()?.modules,
        };
        match wanted.difference(&names).next() {
            Some(module) => Err(LearnError::NoModules {
                folder: folder.clone(),
                module: module.0.clone(),
            }),
            None => Ok(found),
        }
    }

    fn built_modules(&self) -> Result<Vec<PathBuf>, LearnError> {
        let build = &self.parts.build;
        let paths = checks::order(&build.join("modules.order"))?;
        Ok(paths
            .unwrap_or_default()
            .iter()
            .map(|module| build.join(format!("{module}.ko")))
            .collect())
    }

    fn evaluated(&self) -> Result<kbuild::Evaluated, LearnError> {
        Ok(kbuild::evaluate(self.tree, self.config)?)
    }

    fn by_evaluation(&self) -> Result<KernelProfile, LearnError> {
        if !self.parts.tree.join("Makefile").is_file() {
            return Err(LearnError::NoWay {
                way: Way::Evaluation,
                path: self.parts.tree.clone(),
            });
        }
        let found = self.evaluated()?;
        Ok(KernelProfile {
            units: found.units,
            contributors: found.contributors,
            functions: 0,
            sureness: Sureness {
                way: Way::Evaluation,
                all_headers: false,
                blind: found.blind,
            },
            ..self.blank.clone()
        })
    }
}

/// Compares the surest profile with another, and takes back what they disagree on.
fn cross_check(sure: &mut KernelProfile, other: &KernelProfile) -> Vec<String> {
    if sure.functions == 0 {
        sure.functions = other.functions;
    }
    let files: Vec<String> = sure
        .tree_files
        .iter()
        .filter(|file| {
            file.rsplit_once('.')
                .is_some_and(|(_, end)| matches!(end, "c" | "h" | "S"))
        })
        .cloned()
        .collect();
    let agreement = agree::compare(sure, other, &files);
    let (own, others) = (sure.sureness.way.says(), other.sureness.way.says());
    for contradiction in &agreement.contradictions {
        match contradiction {
            Contradiction::Built {
                file,
                first_has_it: false,
                ..
            } => {
                let why = format!("not built by {own}, built by {others}");
                sure.sureness.blind.insert(file.clone(), why);
            }
            // What the surest has stays: "affected" errs on the safe side.
            Contradiction::Built { .. } | Contradiction::Objects { .. } => {}
        }
    }
    some(
        agreement
            .contradictions
            .iter()
            .map(|it| format!("{own} and {others} contradict each other: {it}"))
            .collect(),
    )
}

/// Cuts a long list of notes.
fn some(mut notes: Vec<String>) -> Vec<String> {
    const SHOWN: usize = 20;
    let more = notes.len().saturating_sub(SHOWN);
    notes.truncate(SHOWN);
    if more > 0 {
        notes.push(format!("and {more} more like the last"));
    }
    notes
}

/// Joins an error with its sources.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn base(
    parts: &Parts,
    version: Option<&Version>,
    notes: &mut Vec<String>,
) -> Result<KernelVersion, LearnError> {
    if let Some(extra) = version.and_then(|version| version.extra.as_deref()) {
        notes.push(format!(
            "the tree's makefile says EXTRAVERSION {extra}: it may hold changes that its base version does not tell"
        ));
    }
    Ok(match (parts.base, version) {
        (Some(given), Some(Version { base: tree, .. }))
            if given.branch() != tree.branch() && parts.base_trust == BaseTrust::Makefile =>
        {
            return Err(LearnError::OtherBase { given, tree: *tree });
        }
        (Some(base), Some(version)) if base != version.base => {
            notes.push(format!(
                "the base version {base} was given, the tree's makefile says {}",
                version.base
            ));
            base
        }
        (Some(base), _) => base,
        (None, Some(version)) => version.base,
        (None, None) => unreachable!("a tree without version is refused where no base is given"),
    })
}

fn release(
    parts: &Parts,
    version: Option<&Version>,
    config: &Config,
    image: Option<&Image>,
) -> Result<KernelRelease, LearnError> {
    let built = tree::release(&parts.build)?;
    let shown = image.and_then(|image| image.release.clone());
    if let (Some(image), Some(found), Some(release)) =
        (image, &shown, parts.release.as_ref().or(built.as_ref()))
        && found != release
    {
        return Err(LearnError::OtherImage {
            vmlinux: image.path.clone(),
            found: found.clone(),
            release: release.clone(),
        });
    }
    let local = config.value("LOCALVERSION").unwrap_or_default();
    parts
        .release
        .clone()
        .or(built)
        .or(shown)
        .or_else(|| tree::evaluated_release(&parts.tree, version?, local))
        .ok_or(LearnError::NoRelease)
}

/// A vmlinux, without its debug data.
#[derive(Debug)]
struct Image {
    path: PathBuf,
    build_id: Option<BuildId>,
    /// The release in its banner.
    release: Option<KernelRelease>,
}

impl Image {
    fn find(parts: &Parts) -> Result<Option<Self>, LearnError> {
        let path = match &parts.vmlinux {
            Some(path) => path.clone(),
            None => parts.build.join("vmlinux"),
        };
        if parts.vmlinux.is_none() && !path.is_file() {
            return Ok(None);
        }
        let map = Map::open(&path)?;
        let file = ElfFile64::<object::LittleEndian>::parse(&*map).map_err(|source| {
            BuildError::Dwarf {
                path: path.clone(),
                source: DwarfError::Elf(source),
            }
        })?;
        let build_id = file
            .build_id()
            .ok()
            .flatten()
            .and_then(|bytes| BuildId::from_bytes(bytes).ok());
        let release = checks::banner(&file);
        drop(file);
        Ok(Some(Self {
            path,
            build_id,
            release,
        }))
    }
}

/// Tells whether `folder` is the top of a kernel tree.
pub fn is_tree(folder: &Path) -> bool {
    ["Makefile", "Kconfig", "init/main.c"]
        .iter()
        .all(|name| fs::metadata(folder.join(name)).is_ok_and(|found| found.is_file()))
}
