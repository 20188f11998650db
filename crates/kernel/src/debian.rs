//! Kernels from Debian packages: found and fetched by apt, unpacked without root, prepared, profiled.

pub mod fetch;
pub mod index;
pub mod lines;
pub mod unpack;
pub mod version;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tuxtape_core::identity::KernelRelease;
use tuxtape_sys::durable::{self, WriteError};
use tuxtape_sys::lock::{self, Lock, LockError, Taken};
use tuxtape_sys::process::{self, ProcessError};
use tuxtape_sys::space;

use self::fetch::FetchError;
use self::index::{IndexError, KernelPackages, Package};
use self::unpack::{Part, UnpackError};
use crate::config::Config;
use crate::files::KernelFiles;
use crate::prepare::{self, PrepareError};
use crate::profile::build::{self, BuildError, Built, Provenance};
use crate::progress::{Event, Progress};
use crate::toolchain::{self, Compiler, ToolchainError};

/// How many times its package file a source tree takes, with what preparing adds (measured: 10.6).
const SOURCE_GROWTH: u64 = 12;

/// Limit of refreshing apt's lists.
const REFRESH: Duration = Duration::from_secs(900);

/// Why a kernel could not be added. What was fetched and unpacked whole stays for the next try.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// Another command works on the cache.
    #[error("the cache {cache} is in use by {holder}", cache = cache.display())]
    Busy {
        /// The cache.
        cache: PathBuf,
        /// What the holder says of itself.
        holder: String,
    },
    /// The cache could not be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Programs are missing, or the compiler is not the kernel's.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// The packages were not found.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The disk is too small.
    #[error(
        "not enough space in {folder}: needs about {needed} MB, has {free} MB",
        folder = folder.display(), needed = needed / 1_000_000, free = free / 1_000_000
    )]
    NoSpace {
        /// The cache.
        folder: PathBuf,
        /// Bytes still to be written.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The free space is not known.
    #[error("could not ask for the free space of {path}", path = path.display())]
    Space {
        /// The cache.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A package could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A package could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A file could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The tree could not be prepared.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// No profile could be built.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Adds the kernel `release`: finds its packages, fetches what `cache` lacks, unpacks and prepares
/// what is not there yet, and builds its profile, which the caller saves.
///
/// Blocks for seconds to minutes. Holds the cache's lock. An interrupted call leaves whole packages
/// and whole parts, which the next one uses.
pub fn add(
    cache: &Path,
    release: &KernelRelease,
    progress: &dyn Progress,
) -> Result<Built, AddError> {
    let _lock = lock(cache, &format!("adding {release}"))?;
    toolchain::check_programs()?;
    let packages = step(progress, "find", || index::find(release))?;
    let files = KernelFiles::below(cache, release);
    let parts = Parts::of(&files, &packages);
    check_space(cache, &parts)?;

    if !parts.headers.finished() {
        let debs = fetched(cache, &parts.headers.packages, progress)?;
        step(progress, "unpack headers", || {
            unpack::packages(&parts.headers, &as_paths(&debs))
        })?;
    }
    // Before hundreds of megabytes are fetched for a kernel whose compiler is not here.
    let compiler = compiler(&files)?;
    toolchain::check_headers(&compiler)?;
    let missing: Vec<&Package> = [&parts.image, &parts.debug, &parts.source]
        .iter()
        .filter(|part| !part.finished())
        .filter_map(|part| part.packages.first().copied())
        .collect();
    let debs = step(progress, "fetch", || fetched(cache, &missing, progress))?;
    let deb = |part: &Part<'_>| {
        let wanted = part
            .packages
            .first()
            .map(|package| fetch::place(cache, package));
        debs.iter().find(|deb| Some(*deb) == wanted.as_ref())
    };
    thread::scope(|scope| {
        let binaries = scope.spawn(|| -> Result<(), AddError> {
            for (part, name) in [
                (&parts.image, "unpack image"),
                (&parts.debug, "unpack debug data"),
            ] {
                let Some(deb) = deb(part) else {
                    progress.tell(Event::Kept { step: name });
                    continue;
                };
                step(progress, name, || unpack::packages(part, &[deb]))?;
            }
            Ok(())
        });
        let tree = if let Some(deb) = deb(&parts.source) {
            tree(
                &parts.source,
                &packages.source,
                deb,
                &files,
                &compiler,
                progress,
            )
        } else {
            progress.tell(Event::Kept {
                step: "prepare source",
            });
            Ok(())
        };
        let binaries = binaries
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        tree.and(binaries)
    })?;

    let provenance = Provenance {
        spec: format!("debian:{release}"),
        source_package: packages.source.name.clone(),
        source_version: packages.source.version.to_string(),
    };
    let built = step(progress, "profile", || -> Result<Built, AddError> {
        Ok(build::build(&files, &provenance, tree_files(&files)?)?)
    })?;
    for text in &built.unchecked {
        progress.tell(Event::Note { text: text.clone() });
    }
    Ok(built)
}

/// Returns the compiler that made the kernel at `files`.
pub fn compiler(files: &KernelFiles) -> Result<Compiler, AddError> {
    let text = fs::read_to_string(&files.config).map_err(|source| AddError::Read {
        path: files.config.clone(),
        source,
    })?;
    Ok(toolchain::find_compiler(&Config::parse(&text))?)
}

/// Takes the lock of `cache`, also for the children started while it is held; `what` tells others
/// what for.
pub(crate) fn lock(cache: &Path, what: &str) -> Result<Lock, AddError> {
    let path = cache.join("lock");
    let failed = |source| LockError {
        path: path.clone(),
        source,
    };
    fs::create_dir_all(cache).map_err(failed)?;
    match lock::take(&path, &format!("process {}, {what}", std::process::id()))? {
        Taken::Ours(lock) => {
            lock.share_with_children().map_err(failed)?;
            Ok(lock)
        }
        Taken::Held { note } => Err(AddError::Busy {
            cache: cache.to_owned(),
            holder: note,
        }),
    }
}

/// Refreshes apt's package lists; needs root. Blocks on the network.
pub fn refresh() -> Result<(), ProcessError> {
    process::run_ok(
        Command::new("apt-get")
            .env("LC_ALL", "C")
            .args(["--quiet", "update"]),
        REFRESH,
    )
    .map(drop)
}

/// Runs `work` between its two events.
pub(crate) fn step<T, E>(
    progress: &dyn Progress,
    name: &'static str,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    progress.tell(Event::Started { step: name });
    let start = Instant::now();
    let outcome = work()?;
    progress.tell(Event::Ended {
        step: name,
        took: start.elapsed(),
    });
    Ok(outcome)
}

struct Parts<'a> {
    headers: Part<'a>,
    image: Part<'a>,
    debug: Part<'a>,
    source: Part<'a>,
}

impl<'a> Parts<'a> {
    fn of(files: &'a KernelFiles, packages: &'a KernelPackages) -> Self {
        let part = |name: &str, packages: Vec<&'a Package>| Part {
            top: &files.top,
            name: name.to_owned(),
            packages,
        };
        Self {
            headers: part(
                "headers",
                vec![
                    &packages.headers,
                    &packages.headers_common,
                    &packages.kbuild,
                ],
            ),
            image: part("image", vec![&packages.image]),
            debug: part("debug", vec![&packages.debug]),
            // Prepared with the configuration of the headers package.
            source: part("source", vec![&packages.source, &packages.headers]),
        }
    }
}

fn check_space(cache: &Path, parts: &Parts<'_>) -> Result<(), AddError> {
    let mut needed = 0_u64;
    for part in [&parts.headers, &parts.image, &parts.debug] {
        if !part.finished() {
            let absent = fetch::absent(cache, &part.packages);
            needed += absent.iter().map(|package| package.size).sum::<u64>();
            let unpacked = part.packages.iter().map(|package| package.installed_size);
            needed += unpacked.sum::<u64>();
        }
    }
    if let (false, Some(source)) = (parts.source.finished(), parts.source.packages.first()) {
        let absent = fetch::absent(cache, &[source]);
        needed += absent.iter().map(|package| package.size).sum::<u64>();
        needed += source.size * SOURCE_GROWTH;
    }
    require_space(cache, needed)
}

pub(crate) fn require_space(cache: &Path, needed: u64) -> Result<(), AddError> {
    let free = space::free(cache).map_err(|source| AddError::Space {
        path: cache.to_owned(),
        source,
    })?;
    if free >= needed {
        return Ok(());
    }
    Err(AddError::NoSpace {
        folder: cache.to_owned(),
        needed,
        free,
    })
}

fn fetched(
    cache: &Path,
    packages: &[&Package],
    progress: &dyn Progress,
) -> Result<Vec<PathBuf>, FetchError> {
    packages
        .iter()
        .map(|package| fetch::fetch(cache, package, progress))
        .collect()
}

fn as_paths(paths: &[PathBuf]) -> Vec<&Path> {
    paths.iter().map(PathBuf::as_path).collect()
}

fn tree(
    part: &Part<'_>,
    package: &Package,
    deb: &Path,
    files: &KernelFiles,
    compiler: &Compiler,
    progress: &dyn Progress,
) -> Result<(), AddError> {
    step(progress, "unpack source", || -> Result<(), AddError> {
        let work = part.workspace()?;
        let names = unpack::source(deb, package, &work)?;
        let text: String = names.iter().flat_map(|name| [name, "\n"]).collect();
        // The build programs that preparing makes remember their full path, so the tree is prepared
        // in its place; only the mark makes it count.
        part.place(&work)?;
        durable::write(&list_of_files(files), text.as_bytes())?;
        Ok(())
    })?;
    step(progress, "prepare source", || -> Result<(), AddError> {
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        for text in prepare::prepare(files, compiler, jobs)? {
            progress.tell(Event::Note { text });
        }
        part.finish()?;
        Ok(())
    })
}

/// The files of the tree as it was unpacked, before preparing added its own.
fn list_of_files(files: &KernelFiles) -> PathBuf {
    files.top.join("source-files")
}

fn tree_files(files: &KernelFiles) -> Result<BTreeSet<String>, AddError> {
    let path = list_of_files(files);
    let text = fs::read_to_string(&path).map_err(|source| AddError::Read { path, source })?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Returns the source package `package` unpacked below `cache`, unpacking it when it is not there.
///
/// Nothing in it is prepared. Fetches 150 MB and takes 20 s the first time.
pub fn source_tree(
    cache: &Path,
    package: &Package,
    progress: &dyn Progress,
) -> Result<PathBuf, AddError> {
    let top = cache.join("sources");
    let part = Part {
        top: &top,
        name: format!("{}_{}", package.name, package.version),
        packages: vec![package],
    };
    if part.finished() {
        return Ok(part.folder());
    }
    let _lock = lock(
        cache,
        &format!("unpacking {} {}", package.name, package.version),
    )?;
    toolchain::check_programs()?;
    let absent = fetch::absent(cache, &[package]).len() as u64;
    require_space(cache, package.size * (SOURCE_GROWTH + absent))?;
    let deb = step(progress, "fetch", || fetch::fetch(cache, package, progress))?;
    step(progress, "unpack source", || -> Result<(), AddError> {
        let work = part.workspace()?;
        unpack::source(&deb, package, &work)?;
        part.place(&work)?;
        part.finish()?;
        Ok(())
    })?;
    Ok(part.folder())
}
