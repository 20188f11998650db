//! The steps of one replay: find the compiler, make originals, compile the patched source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tuxtape_sys::{durable, process};

use super::command::{self, SavedCommand};
use super::compile::{self, CompileError, Toolchain};
use super::select::{Changed, Target, contents};
use super::tree::{TreeError, WorkTree};
use super::{Budget, CompiledPair, ReplayError, flat, objtool};
use crate::files::KernelFiles;
use crate::unified::TreePath;

/// An object of the pristine source.
#[derive(Clone, Debug)]
pub(super) struct Original {
    pub path: PathBuf,
    pub command: SavedCommand,
    pub cached: bool,
}

/// What the steps of one replay share.
pub(super) struct Session<'a> {
    pub files: &'a KernelFiles,
    pub tree: &'a WorkTree,
    pub toolchain: &'a Toolchain,
    pub budget: &'a Budget,
}

impl Session<'_> {
    /// Finds or makes the objects of the pristine source. The tree must be pristine.
    pub(super) fn originals(
        &self,
        targets: &BTreeSet<Target>,
    ) -> Result<BTreeMap<String, Original>, ReplayError> {
        let cache = self.files.top.join("objects");
        fs::create_dir_all(&cache).map_err(|source| ReplayError::Keep {
            path: cache.clone(),
            source,
        })?;
        let top = self.tree.top();
        let mut found = BTreeMap::new();
        let mut wanted: Vec<(&str, String)> = Vec::new();
        for target in targets {
            let object = target.object.as_str();
            let key = self.key(target)?;
            match cached(&cache, &key, object) {
                Some(original) => {
                    found.insert(target.object.clone(), original);
                }
                None => wanted.push((object, key)),
            }
            compile::forget(top, object)?;
        }
        if wanted.is_empty() {
            return Ok(found);
        }
        let objects: Vec<&str> = wanted.iter().map(|(object, _)| *object).collect();
        let count = u32::try_from(objects.len()).unwrap_or(u32::MAX);
        let deadline = self.budget.per_unit.saturating_mul(count);
        let finished =
            compile::make_objects(top, self.toolchain, &objects, self.budget.jobs, deadline)
                .map_err(ReplayError::Make)?;
        let mut errors = Vec::new();
        for (object, key) in wanted {
            if !top.join(object).is_file() {
                errors.push(compile::refused(object, &finished));
                continue;
            }
            match keep_original(top, &cache, &key, object) {
                Ok(original) => {
                    found.insert(object.to_owned(), original);
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            Ok(found)
        } else {
            Err(ReplayError::Compile(errors))
        }
    }

    /// Names everything that the original object depends on.
    fn key(&self, target: &Target) -> Result<String, ReplayError> {
        let unit = self.tree.read(&target.unit)?.unwrap_or_default();
        let mut hash = Sha256::new();
        for part in [
            self.tree.stamp().as_bytes(),
            self.toolchain.release.as_str().as_bytes(),
            self.toolchain.version.as_bytes(),
            compile::EXTRA_FLAGS.as_bytes(),
            target.object.as_bytes(),
            unit.as_slice(),
        ] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        for argument in self.toolchain.objtool {
            hash.update(argument);
        }
        Ok(hex::encode(hash.finalize()))
    }

    /// Compiles the patched source: with line numbers kept, or plain where that does not compile.
    pub(super) fn patched(
        &self,
        targets: &BTreeSet<Target>,
        originals: &BTreeMap<String, Original>,
        changed: &BTreeMap<TreePath, Changed>,
        out: &Path,
    ) -> Result<Vec<CompiledPair>, ReplayError> {
        let jobs: Vec<(&Target, &Original)> = targets
            .iter()
            .filter_map(|target| Some((target, originals.get(&target.object)?)))
            .collect();
        self.tree.write(&contents(changed, true))?;
        let first = self.run(&jobs, out, true);
        let (mut pairs, mut failed) = (Vec::new(), Vec::new());
        for (job, outcome) in jobs.iter().zip(first) {
            match outcome {
                Ok(pair) => pairs.push(pair),
                Err(_) => failed.push(*job),
            }
        }
        if !failed.is_empty() {
            // The compiler's words should speak of lines as the fix has them, too.
            self.tree.write(&contents(changed, false))?;
            let mut errors = Vec::new();
            for outcome in self.run(&failed, out, false) {
                match outcome {
                    Ok(pair) => pairs.push(pair),
                    Err(error) => errors.push(error),
                }
            }
            if !errors.is_empty() {
                return Err(ReplayError::Compile(errors));
            }
        }
        pairs.sort_by(|a, b| a.object.cmp(&b.object));
        Ok(pairs)
    }

    /// Runs jobs side by side; outcomes in the order of the jobs.
    fn run(
        &self,
        jobs: &[(&Target, &Original)],
        out: &Path,
        lines_kept: bool,
    ) -> Vec<Result<CompiledPair, CompileError>> {
        let next = AtomicUsize::new(0);
        let outcomes: Mutex<BTreeMap<usize, Result<CompiledPair, CompileError>>> =
            Mutex::new(BTreeMap::new());
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some((target, original)) = jobs.get(index) else {
                    break;
                };
                let outcome = self.one(target, original, out, lines_kept);
                if let Ok(mut outcomes) = outcomes.lock() {
                    outcomes.insert(index, outcome);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.budget.jobs.clamp(1, jobs.len().max(1)) {
                scope.spawn(work);
            }
        });
        outcomes
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .into_values()
            .collect()
    }

    fn one(
        &self,
        target: &Target,
        original: &Original,
        out: &Path,
        lines_kept: bool,
    ) -> Result<CompiledPair, CompileError> {
        let object = target.object.as_str();
        let top = self.tree.top();
        let took = compile::replay(top, object, &original.command, self.budget.per_unit)?;
        let patched = out.join(format!("{}.patched.o", flat(object)));
        let failed = |source| TreeError::Io {
            path: patched.clone(),
            source,
        };
        fs::copy(top.join(object), &patched).map_err(failed)?;
        compile::forget(top, object)?;
        Ok(CompiledPair {
            unit: target.unit.clone(),
            object: target.object.clone(),
            parent: original.command.parent.clone(),
            original: original.path.clone(),
            patched,
            traceable: original.command.traceable,
            command: original.command.clone(),
            lines_kept,
            cached: original.cached,
            took,
        })
    }
}

/// Finds the compiler that the tree was prepared with, and checks that it is that one.
pub(super) fn toolchain(files: &KernelFiles) -> Result<Toolchain, ReplayError> {
    let config = files.source.join("include/config/auto.conf");
    let text = fs::read_to_string(&config).map_err(|source| TreeError::NotPrepared {
        path: config,
        source,
    })?;
    let wanted = text
        .lines()
        .find_map(|line| line.strip_prefix("CONFIG_CC_VERSION_TEXT="))
        .unwrap_or_default()
        .trim_matches('"')
        .to_owned();
    let compiler = wanted.split(' ').next().unwrap_or_default().to_owned();
    let mut command = Command::new(&compiler);
    compile::plain_environment(&mut command);
    let finished = process::run_ok(command.arg("--version"), Duration::from_secs(30))
        .map_err(ReplayError::Version)?;
    let found = String::from_utf8_lossy(&finished.stdout)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    if found != wanted {
        return Err(ReplayError::Compiler { wanted, found });
    }
    Ok(Toolchain {
        release: files.release.clone(),
        compiler,
        version: found,
        objtool: objtool::arguments(&text),
    })
}

/// Reads a cached original: the object, and the `.cmd` file beside it.
fn cached(cache: &Path, key: &str, object: &str) -> Option<Original> {
    let path = cache.join(format!("{key}.o"));
    let saved = fs::read(cache.join(format!("{key}.cmd"))).ok()?;
    let command = command::read(&saved, object).ok()?;
    path.is_file().then_some(Original {
        path,
        command,
        cached: true,
    })
}

fn keep_original(
    top: &Path,
    cache: &Path,
    key: &str,
    object: &str,
) -> Result<Original, CompileError> {
    let command = compile::saved_command(top, object)?;
    let path = cache.join(format!("{key}.o"));
    let saved = compile::saved_bytes(top, object)?;
    let bytes = fs::read(top.join(object)).map_err(|source| TreeError::Io {
        path: top.join(object),
        source,
    })?;
    durable::write(&path, &bytes).map_err(TreeError::from)?;
    // Written last: an original counts as cached only when both are there.
    durable::write(&cache.join(format!("{key}.cmd")), &saved).map_err(TreeError::from)?;
    Ok(Original {
        path,
        command,
        cached: false,
    })
}
