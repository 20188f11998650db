//! Links emitted objects and the module's own C file into a `.ko`, with the kernel's build system.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tuxtape_sys::process::{ProcessError, run_ok};

use super::Label;
use crate::files::KernelFiles;
use crate::replay::compile::plain_environment;
use crate::replay::objtool;

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
}

/// Links `objects` and the C file `source` into the module that `label` names, and returns its bytes.
pub fn link<'object>(
    kernel: &KernelFiles,
    label: &Label,
    source: &str,
    objects: impl Iterator<Item = &'object [u8]>,
) -> Result<Vec<u8>, LinkError> {
    let name = &label.name;
    let below = place(std::env::temp_dir(), kernel);
    let folder = tempfile::Builder::new()
        .prefix("tuxtape-link-")
        .tempdir_in(&below)
        .map_err(|source| LinkError::Folder {
            path: below,
            source,
        })?;
    let write = |file: &str, bytes: &[u8]| {
        let path = folder.path().join(file);
        fs::write(&path, bytes).map_err(|source| LinkError::Folder { path, source })
    };
    write("livepatch.c", source.as_bytes())?;
    let mut parts = String::from("livepatch.o");
    for (number, object) in objects.enumerate() {
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
    let path = kernel.source.join("include/config/auto.conf");
    let configuration =
        fs::read_to_string(&path).map_err(|source| LinkError::Folder { path, source })?;
    let mut make = Command::new("make");
    plain_environment(&mut make);
    make.arg("-s").arg("-C").arg(&kernel.source);
    make.arg(format!("M={}", folder.path().display()));
    make.arg(format!("KERNELRELEASE={}", kernel.release));
    make.arg(format!("CC={}", label.compiler));
    make.args(objtool::arguments(&configuration));
    // Placeholders are undefined until the conversion; debug data would hold this folder's name.
    make.args(["KBUILD_MODPOST_WARN=1", "KCFLAGS=-g0", "modules"]);
    run_ok(&mut make, DEADLINE)?;
    let path = folder.path().join(format!("{name}.ko"));
    fs::read(&path).map_err(|source| LinkError::Folder { path, source })
}

/// Returns where to link: the temporary folder, unless make would misread its path. The kernel's own
/// folder holds a tree that was made, so make reads that path.
fn place(temporary: PathBuf, kernel: &KernelFiles) -> PathBuf {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if temporary.as_os_str().as_bytes().iter().copied().all(plain) {
        temporary
    } else {
        kernel.top.clone()
    }
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
