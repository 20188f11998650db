//! Links emitted objects and the module's own C file into a `.ko`, as the kernel's build system does.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tuxtape_sys::durable::WriteError;
use tuxtape_sys::process::{ProcessError, run_ok};

use super::Label;
use crate::files::KernelFiles;
use crate::replay::compile::plain_environment;
use crate::replay::tree::{TreeError, stamp};
use crate::replay::{compiler_identity, objtool};

mod recipe;

use recipe::{Known, Recipe, RecipeError, SAMPLE};

/// The build system compiles one small file and links; minutes mean it hangs.
const DEADLINE: Duration = Duration::from_secs(300);

/// Why a module could not be linked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The temporary folder cannot be used.
    #[error("could not write to {path}", path = path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel's build system failed.
    #[error("could not link the module")]
    Make(#[from] ProcessError),
    /// The kernel's tree cannot be used.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// What was learnt cannot be kept.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What goes into a module.
struct Inputs<'a> {
    kernel: &'a KernelFiles,
    compiler: &'a str,
    /// The module's own C file.
    source: &'a str,
    objects: &'a [&'a [u8]],
}

/// Links `objects` and the C file `source` into the module that `label` names, and returns its bytes.
///
/// The first time for a kernel this also learns how that is done without `make`.
pub fn link<'object>(
    kernel: &KernelFiles,
    label: &Label,
    source: &str,
    objects: impl Iterator<Item = &'object [u8]>,
) -> Result<Vec<u8>, LinkError> {
    let objects: Vec<&[u8]> = objects.collect();
    let inputs = Inputs {
        kernel,
        compiler: &label.compiler,
        source,
        objects: &objects,
    };
    let name = label.name.as_str();
    let path = kernel.top.join("work").join("link");
    let key = inputs.key()?;
    let known = if inputs.is_plain() {
        Known::load(&path, &key)
    } else {
        // Shells would misread it, too.
        Known::Disproven
    };
    match known {
        // A command that fails has been told by `make` in better words.
        Known::Proven(recipe) => inputs
            .by_recipe(&recipe, name)
            .or_else(|_| Ok(inputs.by_make(name)?.1)),
        Known::Disproven => Ok(inputs.by_make(name)?.1),
        Known::Unknown => {
            let (_, made) = inputs.by_make(name)?;
            let work = kernel.top.join("work");
            fs::create_dir_all(&work).map_err(|source| LinkError::Folder { path: work, source })?;
            match inputs.learn(name, &made)? {
                Some(recipe) => recipe.save(&path, &key)?,
                None => Known::disprove(&path, &key)?,
            }
            Ok(made)
        }
    }
}

impl Inputs<'_> {
    /// Names everything that decides how modules of this kernel are linked.
    fn key(&self) -> Result<String, LinkError> {
        let mut hash = Sha256::new();
        for part in [
            stamp(&self.kernel.source)?.as_str(),
            self.kernel.release.as_str(),
            self.compiler,
            &compiler_identity(self.kernel, self.compiler)?,
        ] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let modpost = self.kernel.source.join("scripts/mod/modpost");
        hash.update(read(&modpost)?);
        Ok(hex::encode(hash.finalize()))
    }

    /// Learns from a run of `make` how it links, and checks that with a module of another name, and
    /// with the module `name` that `make` has `made` of the same inputs.
    fn learn(&self, name: &str, made: &[u8]) -> Result<Option<Recipe>, LinkError> {
        let (folder, sample) = self.by_make(SAMPLE)?;
        let Some(recipe) = Recipe::of(folder.path()) else {
            return Ok(None);
        };
        let same = |name: &str, wanted: &[u8]| {
            let found = self.by_recipe(&recipe, name);
            found.is_ok_and(|found| found == wanted)
        };
        let proven = same(SAMPLE, &sample) && same(name, made);
        Ok(proven.then_some(recipe))
    }

    fn by_recipe(&self, recipe: &Recipe, name: &str) -> Result<Vec<u8>, RecipeError> {
        let write = |path: PathBuf, bytes: &[u8]| {
            fs::write(&path, bytes).map_err(|source| RecipeError::Write { path, source })
        };
        let folder = self.folder().map_err(|error| match error {
            LinkError::Folder { path, source } => RecipeError::Write { path, source },
            LinkError::Make(_) | LinkError::Tree(_) | LinkError::Write(_) => RecipeError::Folder,
        })?;
        write(folder.path().join("livepatch.c"), self.source.as_bytes())?;
        let mut parts = vec!["livepatch.o".to_owned()];
        for (number, object) in self.objects.iter().enumerate() {
            let part = format!("unit_{number}.o");
            write(folder.path().join(&part), object)?;
            parts.push(part);
        }
        let path = recipe.run(&self.kernel.source, folder.path(), name, &parts)?;
        fs::read(&path).map_err(|source| RecipeError::Write { path, source })
    }

    /// Links with the kernel's own build system; returns the folder it did so in and the module.
    fn by_make(&self, name: &str) -> Result<(TempDir, Vec<u8>), LinkError> {
        let kernel = self.kernel;
        let folder = self.folder()?;
        let write = |file: &str, bytes: &[u8]| {
            let path = folder.path().join(file);
            fs::write(&path, bytes).map_err(|source| LinkError::Folder { path, source })
        };
        write("livepatch.c", self.source.as_bytes())?;
        let mut parts = String::from("livepatch.o");
        for (number, object) in self.objects.iter().enumerate() {
            // Kbuild copies a `_shipped` file where there is no source to compile.
            write(&format!("unit_{number}.o_shipped"), object)?;
            // modpost looks for export checksums here, and fails without the file.
            write(&format!(".unit_{number}.o.cmd"), b"\n")?;
            parts.extend([" ", &format!("unit_{number}.o")]);
        }
        write(
            "Kbuild",
            format!("obj-m := {name}.o\n{name}-y := {parts}\n").as_bytes(),
        )?;
        let configuration = read(&kernel.source.join("include/config/auto.conf"))?;
        let mut make = Command::new("make");
        plain_environment(&mut make);
        make.arg("-s").arg("-C").arg(&kernel.source);
        make.arg(format!("M={}", folder.path().display()));
        make.arg(format!("KERNELRELEASE={}", kernel.release));
        make.arg(format!("CC={}", self.compiler));
        make.args(objtool::arguments(&String::from_utf8_lossy(&configuration)));
        // Placeholders are undefined until the conversion; debug data would hold this folder's name.
        make.args(["KBUILD_MODPOST_WARN=1", "KCFLAGS=-g0", "modules"]);
        run_ok(&mut make, DEADLINE)?;
        let bytes = read(&folder.path().join(format!("{name}.ko")))?;
        Ok((folder, bytes))
    }

    fn folder(&self) -> Result<TempDir, LinkError> {
        let below = place(std::env::temp_dir(), self.kernel);
        tempfile::Builder::new()
            .prefix("tuxtape-link-")
            .tempdir_in(&below)
            .map_err(|source| LinkError::Folder {
                path: below,
                source,
            })
    }

    fn is_plain(&self) -> bool {
        is_plain(&place(std::env::temp_dir(), self.kernel))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LinkError> {
    fs::read(path).map_err(|source| LinkError::Folder {
        path: path.to_owned(),
        source,
    })
}

/// Returns where to link: the temporary folder, unless make would misread its path. The kernel's own
/// folder holds a tree that was made, so make reads that path.
fn place(temporary: PathBuf, kernel: &KernelFiles) -> PathBuf {
    if is_plain(&temporary) {
        temporary
    } else {
        kernel.top.clone()
    }
}

/// Whether no program would misread the path.
fn is_plain(path: &Path) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    path.as_os_str().as_bytes().iter().copied().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_make_would_misread_is_not_linked_in() {
        let kernel = KernelFiles::below("/cache".as_ref(), &"6.1.0-1-test".parse().unwrap());
        for plain in ["/tmp", "/var/tmp/a_b-c.d+e"] {
            assert_eq!(place(plain.into(), &kernel), PathBuf::from(plain));
        }
        for odd in ["/tmp/a b", "/tmp/$x", "/tmp/a:b", "/tmp/a#b", "/tmp/%"] {
            assert_eq!(place(odd.into(), &kernel), kernel.top);
        }
    }
}
