//! What of a kernel and of outside engines lies on this machine.

use std::fs;

use crate::config::Config;
use crate::files::KernelFiles;
use crate::toolchain::{self, ToolchainError};

/// Where `klp-build` lies in a kernel tree.
const KLP_BUILD: &str = "scripts/livepatch/klp-build";

/// What lies at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtHand {
    /// The compiler.
    pub compiler: CompilerAtHand,
    /// Whether there is a vmlinux with debug data.
    pub vmlinux: bool,
    /// Whether the kernel's source is there.
    pub source: bool,
    /// Whether the source has `klp-build`.
    pub klp_build: bool,
    /// Which of the programs that outside engines need are not installed.
    pub missing: Vec<&'static str>,
}

/// Whether the compiler that made the kernel is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompilerAtHand {
    /// The exact one.
    Exact,
    /// Not that one.
    Other {
        /// What was looked for, and what was found.
        why: String,
        /// What to install.
        change: String,
    },
}

/// Programs of outside engines: a name, and whether `klp-build` needs it too.
pub(super) const PROGRAMS: [&str; 4] = ["kpatch-build", "gawk", "lsdiff", "recountdiff"];

/// Looks for what is at hand of the kernel at `files`. Runs compilers to ask for their versions.
pub fn look(files: &KernelFiles) -> AtHand {
    AtHand {
        compiler: compiler(files),
        vmlinux: files.vmlinux.is_file() || files.source.join("vmlinux").is_file(),
        source: files.source.join("Makefile").is_file(),
        klp_build: files.source.join(KLP_BUILD).is_file(),
        missing: PROGRAMS
            .into_iter()
            .filter(|program| !toolchain::on_path(program))
            .collect(),
    }
}

fn compiler(files: &KernelFiles) -> CompilerAtHand {
    // A build tree is copied when the first livepatch is built; until then it has its own.
    let own = files.source.join(".config");
    let config = if files.config.is_file() || !own.is_file() {
        &files.config
    } else {
        &own
    };
    let text = match fs::read_to_string(config) {
        Ok(text) => text,
        Err(error) => {
            return CompilerAtHand::Other {
                why: format!(
                    "the configuration that names the compiler is not at hand ({}: {error})",
                    files.config.display()
                ),
                change: "add the kernel again with its headers".to_owned(),
            };
        }
    };
    match toolchain::find_compiler(&Config::parse(&text)) {
        Ok(_) => CompilerAtHand::Exact,
        Err(error) => CompilerAtHand::Other {
            why: error.to_string(),
            change: match &error {
                ToolchainError::NoCompiler { package, .. } => {
                    format!("install {package}, of that very version")
                }
                ToolchainError::NotTheKernel { wanted, .. } => {
                    format!("install the compiler whose --version says {wanted:?}")
                }
                ToolchainError::NoVersionText => {
                    "add the kernel again with the .config it was built with".to_owned()
                }
                ToolchainError::Missing { packages, .. } => {
                    format!("install {}", packages.join(", "))
                }
            },
        },
    }
}
