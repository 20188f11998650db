//! Asks Kbuild which units the configuration builds, and under which object paths.
//!
//! Each folder's makefile is read by `make` itself, with the kernel's own rules, in about 20 ms; no
//! object is built. So a unit that a fix touches and the configuration leaves out is known as such,
//! which `make DIR/x.o` alone would happily compile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tuxtape_sys::process::{self, ProcessError};

use crate::unified::TreePath;

/// Reads a folder's makefile and prints its objects.
const QUESTION: &str = "\
srctree := .
objtree := .
src := $(obj)
include include/config/auto.conf
include scripts/Kbuild.include
include $(or $(wildcard $(obj)/Kbuild),$(obj)/Makefile)
include scripts/Makefile.lib
.PHONY: tuxtape-units
tuxtape-units:
\t@:
\t$(foreach unit,$(real-obj-y) $(lib-y),$(info y $(unit)))
\t$(foreach unit,$(real-obj-m),$(info m $(unit)))
\t$(foreach folder,$(subdir-ym),$(info d $(folder)))
";

/// Folders that the top makefile descends into, for x86; those a series lacks are skipped.
const ROOTS: [&str; 22] = [
    "arch/x86",
    "arch/x86/lib",
    "arch/x86/math-emu",
    "arch/x86/pci",
    "arch/x86/power",
    "arch/x86/video",
    "block",
    "certs",
    "crypto",
    "drivers",
    "fs",
    "init",
    "io_uring",
    "ipc",
    "kernel",
    "lib",
    "mm",
    "net",
    "security",
    "sound",
    "usr",
    "virt",
];

/// Units of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuiltUnits {
    /// Each unit (`net/core/dev.c`) with the paths Kbuild gives its objects. Most have one, which
    /// differs from the unit only in its ending; `virt/kvm/kvm_main.c` has
    /// `arch/x86/kvm/../../../virt/kvm/kvm_main.o`.
    pub units: BTreeMap<TreePath, BTreeSet<String>>,
    /// Names (without folder) of `.c` files that some file of the tree includes.
    pub included: BTreeSet<String>,
}

/// Why the units could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum KbuildError {
    /// `make` could not read a folder's makefile.
    #[error("could not list the units of {folder}")]
    Folder {
        /// The folder.
        folder: String,
        /// What `make` said.
        source: ProcessError,
    },
    /// The question could not be written.
    #[error("could not write the question for make")]
    Question(#[source] tuxtape_sys::durable::WriteError),
}

/// Lists the units below the folders Kbuild descends into, from the prepared tree `tree`.
///
/// Blocks for about 10 s. `scratch` is a file that may be written.
pub fn built_units(tree: &Path, scratch: &Path) -> Result<BuiltUnits, KbuildError> {
    tuxtape_sys::durable::write(scratch, QUESTION.as_bytes()).map_err(KbuildError::Question)?;
    let mut built = BuiltUnits::default();
    let mut waiting: Vec<String> = ROOTS.iter().map(|&root| root.to_owned()).collect();
    let mut seen: BTreeSet<String> = waiting.iter().cloned().collect();
    while let Some(folder) = waiting.pop() {
        let there = |name| tree.join(&folder).join(name).is_file();
        if !there("Kbuild") && !there("Makefile") {
            continue;
        }
        let answer = ask(tree, scratch, &folder)?;
        for line in answer.lines() {
            match line.split_once(' ') {
                Some(("y" | "m", object)) => built.insert(object),
                Some(("d", below)) => {
                    let below = below.trim_end_matches('/').to_owned();
                    // A folder may be entered through `..`, never forever: each name once.
                    if seen.insert(below.clone()) {
                        waiting.push(below);
                    }
                }
                Some(_) | None => {}
            }
        }
    }
    Ok(built)
}

impl BuiltUnits {
    fn insert(&mut self, object: &str) {
        let Some(stem) = object.strip_suffix(".o") else {
            return;
        };
        if let Some(unit) = normal(&format!("{stem}.c")) {
            self.units
                .entry(unit)
                .or_default()
                .insert(object.to_owned());
        }
    }

    /// Writes the list as text: `included NAME` and `UNIT OBJECT` lines.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for name in &self.included {
            text.push_str("included ");
            text.push_str(name);
            text.push('\n');
        }
        for (unit, objects) in &self.units {
            for object in objects {
                text.push_str(unit.as_str());
                text.push(' ');
                text.push_str(object);
                text.push('\n');
            }
        }
        text
    }

    /// Reads what [`BuiltUnits::to_text`] wrote; nothing if a line is not of that form.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut built = Self::default();
        for line in text.lines() {
            let (unit, object) = line.split_once(' ')?;
            if unit == "included" {
                built.included.insert(object.to_owned());
                continue;
            }
            let unit: TreePath = unit.parse().ok()?;
            built
                .units
                .entry(unit)
                .or_default()
                .insert(object.to_owned());
        }
        Some(built)
    }
}

/// Resolves `..` in a path of the tree.
pub fn normal(path: &str) -> Option<TreePath> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    parts.join("/").parse().ok()
}

fn ask(tree: &Path, question: &Path, folder: &str) -> Result<String, KbuildError> {
    let mut command = Command::new("make");
    super::compile::plain_environment(&mut command);
    command
        .current_dir(tree)
        .env("SRCARCH", "x86")
        .args(["-rR", "-s", "--no-print-directory", "-f"])
        .arg(question)
        .arg(format!("obj={folder}"))
        .arg("tuxtape-units");
    let finished = process::run_ok(&mut command, Duration::from_secs(60)).map_err(|source| {
        KbuildError::Folder {
            folder: folder.to_owned(),
            source,
        }
    })?;
    Ok(String::from_utf8_lossy(&finished.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_reached_through_another_folder_belongs_to_the_unit_it_is_made_from() {
        let mut built = BuiltUnits::default();
        built.insert("arch/x86/kvm/../../../virt/kvm/kvm_main.o");
        built.insert("fs/../../etc/x.o");
        built.included.insert("tick.c".to_owned());
        assert_eq!(
            built.to_text(),
            "included tick.c\nvirt/kvm/kvm_main.c arch/x86/kvm/../../../virt/kvm/kvm_main.o\n"
        );
        assert_eq!(BuiltUnits::from_text(&built.to_text()), Some(built));
    }
}
