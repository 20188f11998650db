//! The steps of one replay: find the compiler, compile the pristine and the patched source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tuxtape_sys::process::{self, ProcessError};

use super::command::{self, SavedCommand};
use super::compile::{self, CompileError, Toolchain};
use super::handed_down::{HandedDown, Known};
use super::originals::{self, LIMIT, Original, Originals};
use super::select::{Changed, Target, contents};
use super::tree::{TreeError, WorkTree, at};
use super::{Budget, CompiledPair, ReplayError, checksums, flat, is_equal, objtool};
use crate::files::KernelFiles;
use crate::unified::TreePath;

/// What the steps of one replay share.
pub(super) struct Session<'a> {
    pub files: &'a KernelFiles,
    pub tree: &'a WorkTree,
    pub toolchain: &'a Toolchain,
    pub budget: &'a Budget,
}

/// Objects of the pristine source by object path, and the keys they are kept under.
struct Before<'a> {
    store: Originals<'a>,
    keys: BTreeMap<&'a str, String>,
    found: BTreeMap<&'a str, Original>,
}

impl Before<'_> {
    fn keep(
        &self,
        object: &str,
        tree: &Path,
        words: &str,
        mut inputs: Vec<String>,
    ) -> Result<Original, CompileError> {
        // Flags come from makefiles: the nearest says most of a unit's own.
        let folder = object.rsplit_once('/').map_or(".", |(folder, _)| folder);
        inputs.extend(["Kbuild", "Makefile"].map(|name| format!("{folder}/{name}")));
        let key = self.keys.get(object).cloned().unwrap_or_default();
        self.store.keep(&key, object, tree, words, &inputs)
    }
}

/// One run of the compiler.
enum Task<'a> {
    /// The pristine source, in the tree that holds no fix.
    Original(&'a Target, &'a SavedCommand, &'a str),
    /// The patched source.
    Patched(&'a Target, &'a SavedCommand),
}

/// What a run of the compiler gave.
enum Made<'a> {
    Original(&'a Target, Result<Original, CompileError>),
    Patched(&'a Target, Result<Object, CompileError>),
}

/// An object of the patched source.
struct Object {
    path: PathBuf,
    checksums: Vec<(String, u32)>,
    took: Duration,
    lines_kept: bool,
}

impl Session<'_> {
    /// Compiles `targets` before and after the fix, both at a time. The tree must hold no fix, and may
    /// hold this one afterwards.
    pub(super) fn pairs(
        &self,
        targets: &BTreeSet<Target>,
        changed: &BTreeMap<TreePath, Changed>,
        out: &Path,
    ) -> Result<Vec<CompiledPair>, ReplayError> {
        let folder = self.files.top.join("objects");
        let mut before = Before {
            store: Originals::below(folder, self.tree.pristine(), self.tree.top(), LIMIT)?,
            keys: BTreeMap::new(),
            found: BTreeMap::new(),
        };
        let mut wanted = Vec::new();
        for target in targets {
            let (object, key) = (target.object.as_str(), self.key(target)?);
            match before.store.find(&key, object)? {
                Some(original) => {
                    before.found.insert(object, original);
                }
                None => wanted.push(object),
            }
            before.keys.insert(object, key);
        }
        let lines = self.saved_lines(&wanted)?;
        let slow: Vec<&str> = wanted
            .into_iter()
            .filter(|object| !lines.contains_key(*object))
            .collect();
        self.by_kbuild(&slow, &mut before)?;

        let commands: BTreeMap<&str, SavedCommand> = targets
            .iter()
            .filter_map(|target| {
                let object = target.object.as_str();
                let known = before.found.get(object).map(|found| found.command.clone());
                let read = || Some(lines.get(object)?.1.clone());
                Some((object, known.or_else(read)?))
            })
            .collect();
        let mut tasks = Vec::new();
        for target in targets {
            let object = target.object.as_str();
            let Some(command) = commands.get(object) else {
                continue;
            };
            if !before.found.contains_key(object)
                && let Some((line, _)) = lines.get(object)
            {
                tasks.push(Task::Original(target, command, line));
            }
            tasks.push(Task::Patched(target, command));
        }
        self.tree.write(&contents(changed, true))?;
        let mut patched: BTreeMap<&str, Result<Object, CompileError>> = BTreeMap::new();
        let mut unmade: BTreeSet<&Target> = BTreeSet::new();
        for made in self.side_by_side(&tasks, &before, out) {
            match made {
                Made::Original(target, Ok(original)) => {
                    before.found.insert(&target.object, original);
                }
                // Some units include what Kbuild generates first, which it has not in that tree.
                Made::Original(target, Err(_)) => {
                    unmade.insert(target);
                }
                Made::Patched(target, outcome) => {
                    if outcome.as_ref().is_err_and(lacks_a_file) {
                        unmade.insert(target);
                    }
                    patched.insert(&target.object, outcome);
                }
            }
        }
        if !unmade.is_empty() {
            self.tree.restore()?;
            let objects: Vec<&str> = unmade.iter().map(|target| target.object.as_str()).collect();
            self.by_kbuild(&objects, &mut before)?;
            self.tree.write(&contents(changed, true))?;
            self.again(&unmade, &before, out, true, &mut patched);
        }
        let failed: BTreeSet<&Target> = targets
            .iter()
            .filter(|target| matches!(patched.get(target.object.as_str()), Some(Err(_))))
            .collect();
        if !failed.is_empty() {
            // The compiler's words should speak of lines as the fix has them, too.
            self.tree.write(&contents(changed, false))?;
            self.again(&failed, &before, out, false, &mut patched);
        }
        collect(targets, &before, patched)
    }

    /// Compiles the patched source of `targets` once more.
    fn again<'a>(
        &self,
        targets: &BTreeSet<&'a Target>,
        before: &Before<'_>,
        out: &Path,
        lines_kept: bool,
        patched: &mut BTreeMap<&'a str, Result<Object, CompileError>>,
    ) {
        let tasks: Vec<Task<'_>> = targets
            .iter()
            .filter_map(|&target| {
                let original = before.found.get(target.object.as_str())?;
                Some(Task::Patched(target, &original.command))
            })
            .collect();
        for made in self.side_by_side(&tasks, before, out) {
            if let Made::Patched(target, outcome) = made
                && let Some(target) = targets.get(target)
            {
                let outcome = outcome.map(|object| Object {
                    lines_kept,
                    ..object
                });
                patched.insert(&target.object, outcome);
            }
        }
    }

    /// What Kbuild would save with each of `objects`, where it is known how to ask without it: the
    /// line, and what it says.
    fn saved_lines(
        &self,
        objects: &[&str],
    ) -> Result<BTreeMap<String, (String, SavedCommand)>, ReplayError> {
        if objects.is_empty() {
            return Ok(BTreeMap::new());
        }
        let known = HandedDown::load(&self.handed_down(), &self.handed_key(), self.tree.top());
        let Known::Proven(handed) = known else {
            return Ok(BTreeMap::new());
        };
        let lines = handed
            .commands(self.tree.pristine(), objects, self.budget.per_unit)
            .map_err(ReplayError::Make)?;
        Ok(lines
            .into_iter()
            .filter_map(|(object, line)| {
                let command = command::read(line.as_bytes(), &object).ok()?;
                Some((object, (line, command)))
            })
            .collect())
    }

    /// Makes objects of the pristine source with the whole of Kbuild, in the second tree, which must
    /// hold no fix.
    fn by_kbuild<'a>(
        &self,
        objects: &[&'a str],
        before: &mut Before<'a>,
    ) -> Result<(), ReplayError> {
        if objects.is_empty() {
            return Ok(());
        }
        let top = self.tree.top();
        for object in objects {
            compile::forget(top, object)?;
        }
        let count = u32::try_from(objects.len()).unwrap_or(u32::MAX);
        let deadline = self.budget.per_unit.saturating_mul(count);
        let finished =
            compile::make_objects(top, self.toolchain, objects, self.budget.jobs, deadline)
                .map_err(ReplayError::Make)?;
        self.tree.check_generated()?;
        let mut errors = Vec::new();
        for &object in objects {
            if !top.join(object).is_file() {
                errors.push(compile::refused(object, &finished));
                continue;
            }
            let kept = compile::saved_text(top, object).and_then(|saved| {
                let inputs = originals::noted_inputs(&saved);
                let words: String = saved
                    .lines()
                    .enumerate()
                    .filter(|(number, line)| *number == 0 || line.starts_with(checksums::NOTED))
                    .flat_map(|(_, line)| [line, "\n"])
                    .collect();
                before.keep(object, top, &words, inputs)
            });
            match kept {
                Ok(original) => {
                    before.found.insert(object, original);
                }
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(ReplayError::Compile(errors));
        }
        self.learn(objects, before)?;
        for object in objects {
            compile::forget(top, object)?;
        }
        Ok(())
    }

    /// Learns to do without the whole of Kbuild, and proves it on what that has just made.
    fn learn(&self, objects: &[&str], before: &Before<'_>) -> Result<(), ReplayError> {
        let (path, key, top) = (self.handed_down(), self.handed_key(), self.tree.top());
        match HandedDown::load(&path, &key, top) {
            Known::Unknown => {}
            Known::Proven(_) | Known::Disproven => return Ok(()),
        }
        let scratch = self.files.top.join("work");
        let limit = self.budget.per_unit;
        // What cannot be learnt costs time only.
        let Ok(Some(handed)) = HandedDown::learn(top, self.toolchain, &scratch, limit) else {
            return Ok(());
        };
        let pristine = self.tree.pristine();
        let Ok(lines) = handed.commands(pristine, objects, limit) else {
            return Ok(());
        };
        let mut proven = false;
        for &object in objects {
            let Some(original) = before.found.get(object) else {
                continue;
            };
            let found = lines
                .get(object)
                .and_then(|line| command::read(line.as_bytes(), object).ok());
            if found.is_none_or(|found| found.shell != original.command.shell) {
                HandedDown::disprove(&path, &key, top)?;
                return Ok(());
            }
            // One that includes what Kbuild generates proves nothing either way.
            if !proven && compile::replay(pristine, object, &original.command, limit).is_ok() {
                let (one, other) = (pristine.join(object), &original.path);
                let one = fs::read(&one).map_err(at(&one))?;
                let other = fs::read(other).map_err(at(other))?;
                if !is_equal(&other, &one) {
                    HandedDown::disprove(&path, &key, top)?;
                    return Ok(());
                }
                proven = true;
            }
            compile::forget(pristine, object)?;
        }
        if proven {
            handed.save(&path, &key)?;
        }
        Ok(())
    }

    fn handed_down(&self) -> PathBuf {
        self.files.top.join("work").join("handed-down")
    }

    /// Names everything that the top makefile's answer depends on.
    fn handed_key(&self) -> String {
        let form = super::tree::FORM.to_string();
        let mut parts = vec![
            form.as_str(),
            self.tree.stamp(),
            self.toolchain.release.as_str(),
            &self.toolchain.compiler,
            &self.toolchain.version,
            &self.toolchain.identity,
            compile::EXTRA_FLAGS,
        ];
        parts.extend(self.toolchain.objtool);
        digest(parts.into_iter().map(str::as_bytes))
    }

    /// Names everything that the original object depends on and that its own inputs do not tell.
    fn key(&self, target: &Target) -> Result<String, ReplayError> {
        let unit = self.tree.read(&target.unit)?.unwrap_or_default();
        let handed = self.handed_key();
        Ok(digest(
            [
                originals::FORM.as_bytes(),
                handed.as_bytes(),
                target.object.as_bytes(),
                &unit,
            ]
            .into_iter(),
        ))
    }

    /// Runs tasks side by side; what they made, in their order.
    fn side_by_side<'a>(
        &self,
        tasks: &[Task<'a>],
        before: &Before<'_>,
        out: &Path,
    ) -> Vec<Made<'a>> {
        let next = AtomicUsize::new(0);
        let made: Mutex<BTreeMap<usize, Made<'a>>> = Mutex::new(BTreeMap::new());
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(task) = tasks.get(index) else {
                    break;
                };
                let outcome = match *task {
                    Task::Original(target, command, line) => {
                        Made::Original(target, self.original(target, command, line, before))
                    }
                    Task::Patched(target, command) => {
                        Made::Patched(target, self.patched(target, command, out))
                    }
                };
                if let Ok(mut made) = made.lock() {
                    made.insert(index, outcome);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.budget.jobs.clamp(1, tasks.len().max(1)) {
                scope.spawn(work);
            }
        });
        made.into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .into_values()
            .collect()
    }

    fn original(
        &self,
        target: &Target,
        command: &SavedCommand,
        line: &str,
        before: &Before<'_>,
    ) -> Result<Original, CompileError> {
        let (object, top) = (target.object.as_str(), self.tree.pristine());
        compile::forget(top, object)?;
        compile::replay(top, object, command, self.budget.per_unit)?;
        let rule = top.join(compile::dependencies_path(object));
        let rule = fs::read(&rule).map_err(at(&rule))?;
        let noted = checksums::of(top, object, command, self.budget.per_unit)?;
        let words = format!("{line}{}", checksums::lines(&noted));
        let original = match originals::inputs(&rule) {
            Some(inputs) => before.keep(object, top, &words, inputs),
            // What it was made of is not known: the next build makes it again.
            None => Err(compile::unreadable_rule(object)),
        };
        compile::forget(top, object)?;
        original
    }

    fn patched(
        &self,
        target: &Target,
        command: &SavedCommand,
        out: &Path,
    ) -> Result<Object, CompileError> {
        let (object, top) = (target.object.as_str(), self.tree.top());
        let took = compile::replay(top, object, command, self.budget.per_unit)?;
        let checksums = checksums::of(top, object, command, self.budget.per_unit)?;
        let path = out.join(format!("{}.patched.o", flat(object)));
        fs::copy(top.join(object), &path).map_err(at(&path))?;
        compile::forget(top, object)?;
        Ok(Object {
            path,
            checksums,
            took,
            lines_kept: true,
        })
    }
}

/// Whether a compiler missed a file, which may be one that Kbuild generates.
fn lacks_a_file(error: &CompileError) -> bool {
    matches!(error, CompileError::Refused { words, .. } if words.contains("No such file or directory"))
}

/// Puts together what was made of each target; all that do not compile otherwise.
fn collect(
    targets: &BTreeSet<Target>,
    before: &Before<'_>,
    mut patched: BTreeMap<&str, Result<Object, CompileError>>,
) -> Result<Vec<CompiledPair>, ReplayError> {
    let (mut pairs, mut errors) = (Vec::new(), Vec::new());
    for target in targets {
        let object = target.object.as_str();
        let Some(original) = before.found.get(object) else {
            continue;
        };
        match patched.remove(object) {
            Some(Ok(made)) => pairs.push(CompiledPair {
                unit: target.unit.clone(),
                object: target.object.clone(),
                parent: original.command.parent.clone(),
                original: original.path.clone(),
                patched: made.path,
                traceable: original.command.traceable,
                command: original.command.clone(),
                checksums: made.checksums,
                lines_kept: made.lines_kept,
                cached: original.cached,
                took: made.took,
            }),
            Some(Err(error)) => errors.push(error),
            None => {}
        }
    }
    if !errors.is_empty() {
        return Err(ReplayError::Compile(errors));
    }
    pairs.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(pairs)
}

fn digest<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
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
    let identity = identity(files, &compiler).map_err(ReplayError::Version)?;
    Ok(Toolchain {
        release: files.release.clone(),
        compiler,
        version: found,
        identity,
        objtool: objtool::arguments(&text),
    })
}

/// Asks the compiler driver for the programs behind it, which make the code, and tells them, the driver
/// itself and the tree's objtool from all others.
pub(super) fn identity(files: &KernelFiles, compiler: &str) -> Result<String, ProcessError> {
    let mut programs = vec![found(compiler)];
    for name in ["cc1", "as", "ld"] {
        let mut command = Command::new(compiler);
        compile::plain_environment(&mut command);
        command.arg(format!("-print-prog-name={name}"));
        let finished = process::run_ok(&mut command, Duration::from_secs(30))?;
        programs.push(found(String::from_utf8_lossy(&finished.stdout).trim()));
    }
    programs.push(files.source.join("tools/objtool/objtool"));
    let programs: Vec<&Path> = programs.iter().map(PathBuf::as_path).collect();
    Ok(originals::identity(&programs))
}

/// Where the program of that name is, as a shell would find it.
fn found(name: &str) -> PathBuf {
    if name.contains('/') {
        return name.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    let there = folders.find(|folder| folder.join(name).is_file());
    there.map_or_else(|| name.into(), |folder| folder.join(name))
}
