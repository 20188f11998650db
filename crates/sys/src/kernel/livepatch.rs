//! `/sys/kernel/livepatch`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::{KernelError, KernelFs, read_text};

/// A livepatch the kernel knows, whether or not it is enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Livepatch {
    /// Name of its module.
    pub name: String,
    /// Whether its functions are, or are becoming, the ones that run.
    pub enabled: bool,
    /// Whether some task still runs old code.
    pub transition: bool,
    /// Objects it patches, by name.
    pub objects: BTreeMap<String, LivepatchObject>,
}

/// One object, `vmlinux` or a module, that a livepatch patches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LivepatchObject {
    /// Whether the object is loaded and patched; `None` before kernel 6.1, which does not say.
    pub patched: Option<bool>,
    /// Patched functions as `NAME,SYMPOS`.
    pub functions: BTreeSet<String>,
}

impl KernelFs {
    /// Returns the livepatches of this kernel, sorted by name; none when it has no livepatch support.
    pub fn livepatches(&self) -> Result<Vec<Livepatch>, KernelError> {
        let top = self.sys.join("kernel/livepatch");
        let mut found = Vec::new();
        for name in folders(&top)? {
            // None when it was removed since the folder was listed.
            found.extend(self.livepatch(&name)?);
        }
        Ok(found)
    }

    /// Returns the livepatch called `name`; `None` when the kernel does not know it.
    pub fn livepatch(&self, name: &str) -> Result<Option<Livepatch>, KernelError> {
        let folder = self.sys.join("kernel/livepatch").join(name);
        let (Some(enabled), Some(transition)) =
            (flag(&folder, "enabled")?, flag(&folder, "transition")?)
        else {
            return Ok(None);
        };
        let mut objects = BTreeMap::new();
        for object in folders(&folder)? {
            let below = folder.join(&object);
            objects.insert(
                object,
                LivepatchObject {
                    patched: flag(&below, "patched")?,
                    functions: folders(&below)?,
                },
            );
        }
        Ok(Some(Livepatch {
            name: name.to_owned(),
            enabled,
            transition,
            objects,
        }))
    }

    /// Asks the kernel to go back to the code the livepatch called `name` replaced.
    ///
    /// Returns at once; the transition follows. Writing 0 while it is being enabled reverses that.
    pub fn disable_livepatch(&self, name: &str) -> Result<(), KernelError> {
        let path = self.sys.join("kernel/livepatch").join(name).join("enabled");
        OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| file.write_all(b"0"))
            .map_err(|source| KernelError::Write {
                path,
                text: "0",
                source,
            })
    }

    /// Names up to `limit` threads that still run the code a transition leaves, as `TID COMMAND`,
    /// by rising id of their process.
    pub fn tasks_in_transition(&self, target: i8, limit: usize) -> Vec<String> {
        let mut lagging = Vec::new();
        for process in numbers(&self.proc) {
            let tasks = self.proc.join(process.to_string()).join("task");
            for thread in numbers(&tasks) {
                if lagging.len() >= limit {
                    return lagging;
                }
                let folder = tasks.join(thread.to_string());
                // -1 is "in no transition"; anything but the target state is still on the old side.
                let state = read_text(&folder.join("patch_state"));
                let state: Option<i8> = state.ok().and_then(|text| text.parse().ok());
                if state.is_some_and(|state| state >= 0 && state != target) {
                    let command = read_text(&folder.join("comm")).unwrap_or_default();
                    lagging.push(format!("{thread} {command}"));
                }
            }
        }
        lagging
    }
}

/// Lists the folders of `folder` whose names are numbers; none when it is gone.
fn numbers(folder: &Path) -> BTreeSet<u32> {
    let names = folders(folder).unwrap_or_default();
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// Reads a file of one digit; `None` when it is not there.
fn flag(folder: &Path, name: &str) -> Result<Option<bool>, KernelError> {
    let path = folder.join(name);
    match read_text(&path) {
        Ok(text) => match text.as_str() {
            "0" => Ok(Some(false)),
            "1" => Ok(Some(true)),
            _ => Err(KernelError::Malformed {
                path,
                what: "neither 0 nor 1",
            }),
        },
        Err(KernelError::Read { source, .. }) if gone(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

fn folders(folder: &Path) -> Result<BTreeSet<String>, KernelError> {
    let failed = |source| KernelError::Read {
        path: folder.to_owned(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if gone(&error) => return Ok(BTreeSet::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Ok(name) = entry.file_name().into_string()
        {
            names.insert(name);
        }
    }
    Ok(names)
}

/// A folder of sysfs can vanish between two looks; the file then says `ENOENT` or `ENODEV`.
fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_lags_behind_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let kernel = KernelFs {
            proc: folder.path().to_owned(),
            ..KernelFs::default()
        };
        let thread = |process: &str, thread: &str, state: &str, command: &str| {
            let path = folder.path().join(process).join("task").join(thread);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("patch_state"), format!("{state}\n")).unwrap();
            fs::write(path.join("comm"), format!("{command}\n")).unwrap();
            if process == thread {
                let process = folder.path().join(process);
                fs::write(process.join("patch_state"), format!("{state}\n")).unwrap();
                fs::write(process.join("comm"), format!("{command}\n")).unwrap();
            }
        };
        thread("7", "7", "1", "server");
        thread("7", "9", "0", "worker");
        thread("8", "8", "0", "sleeper");
        thread("10", "10", "-1", "idle");
        assert_eq!(kernel.tasks_in_transition(1, 8), ["9 worker", "8 sleeper"]);
        assert_eq!(kernel.tasks_in_transition(1, 1), ["9 worker"]);
    }

    #[test]
    fn the_state_of_a_livepatch_is_read_from_sysfs() {
        let folder = tempfile::tempdir().unwrap();
        let kernel = KernelFs {
            sys: folder.path().to_owned(),
            ..KernelFs::default()
        };
        assert_eq!(kernel.livepatches().unwrap(), []);
        let top = folder.path().join("kernel/livepatch/tt_1");
        fs::create_dir_all(top.join("vmlinux/cmdline_proc_show,1")).unwrap();
        fs::write(top.join("enabled"), "1\n").unwrap();
        fs::write(top.join("transition"), "0\n").unwrap();
        fs::write(top.join("vmlinux/patched"), "1\n").unwrap();
        let [livepatch] = &kernel.livepatches().unwrap()[..] else {
            panic!("one livepatch")
        };
        assert!(livepatch.enabled && !livepatch.transition);
        let object = &livepatch.objects["vmlinux"];
        assert_eq!(object.patched, Some(true));
        assert!(object.functions.contains("cmdline_proc_show,1"));
        kernel.disable_livepatch("tt_1").unwrap();
        assert!(!kernel.livepatch("tt_1").unwrap().unwrap().enabled);
    }
}
