//! How one kernel's build system links a module, learnt once and checked.
//!
//! What `make` runs for a module are a few commands, which it saves beside what they made: compiling the
//! module's own C file, joining the objects, modpost, compiling what that wrote and, in some series, what
//! all modules share, and the last link.
//! Run by themselves they take half the time. They count only after they gave, byte for byte, the
//! modules that `make` gave of the same inputs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use tuxtape_sys::durable;
use tuxtape_sys::process::{ProcessError, run_ok};

use super::DEADLINE;
use crate::replay::command;
use crate::replay::compile::plain_environment;

/// Name of the module by which a recipe is learnt, found in commands and exchanged for another.
pub(super) const SAMPLE: &str = "tuxtape_link_sample";

/// What stands for the folder and for the module's name in a recipe.
const FOLDER: &str = "@FOLDER@";
const NAME: &str = "@NAME@";

/// What newer series compile once for all modules of a folder.
const SHARED: &str = ".module-common.o";

/// First line of the file that keeps a recipe.
const HEAD: &str = "tuxtape link 2";

/// Longest recipe that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// The commands of one kernel, with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    /// What modpost is told to read: the one line of `modules.order`.
    order: String,
    /// Shell texts, in order, run from the top of the kernel's tree.
    commands: Vec<String>,
}

/// What is known of a kernel's way of linking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// These commands give what `make` gives.
    Proven(Recipe),
    /// They do not.
    Disproven,
    /// Nobody tried, or what was kept of it is not usable.
    Unknown,
}

impl Recipe {
    /// Reads from `folder` what `make` saved when it linked the module [`SAMPLE`] there; `None` where
    /// that is not what is known of it.
    pub(super) fn of(folder: &Path) -> Option<Self> {
        let place = folder.to_str()?;
        let general = |text: &str| -> Option<String> {
            let known = !text.contains(FOLDER) && !text.contains(NAME) && !text.contains('\n');
            known.then(|| text.replace(place, FOLDER).replace(SAMPLE, NAME))
        };
        let saved = |file: &str| -> Option<String> {
            let text = fs::read_to_string(folder.join(format!(".{file}.cmd"))).ok()?;
            let target = folder.join(file);
            general(&command::shell_of(&text, target.to_str()?)?)
        };
        let shared = folder.join(SHARED).exists().then(|| SHARED.to_owned());
        let commands = [
            "livepatch.o".to_owned(),
            format!("{SAMPLE}.o"),
            "Module.symvers".to_owned(),
            format!("{SAMPLE}.mod.o"),
        ]
        .into_iter()
        .chain(shared)
        .chain([format!("{SAMPLE}.ko")])
        .map(|file| saved(&file))
        .collect::<Option<Vec<_>>>()?;
        let order = fs::read_to_string(folder.join("modules.order")).ok()?;
        Some(Self {
            order: general(order.trim_end())?,
            commands,
        })
    }

    /// Links `name` of the objects `parts` in `folder`, which hold the module's C file and the parts,
    /// from the top of the tree at `source`. Returns the module's path.
    pub(super) fn run(
        &self,
        source: &Path,
        folder: &Path,
        name: &str,
        parts: &[String],
    ) -> Result<PathBuf, RecipeError> {
        let place = folder.to_str().ok_or(RecipeError::Folder)?;
        let fill = |text: &str| text.replace(FOLDER, place).replace(NAME, name);
        let write = |file: &str, text: &str| {
            let path = folder.join(file);
            fs::write(&path, text).map_err(|source| RecipeError::Write { path, source })
        };
        let list: String = parts
            .iter()
            .flat_map(|part| [place, "/", part, "\n"])
            .collect();
        write(&format!("{name}.mod"), &list)?;
        write("modules.order", &format!("{}\n", fill(&self.order)))?;
        for part in parts {
            // modpost looks for export checksums here, and fails without the file.
            write(&format!(".{part}.cmd"), "\n")?;
        }
        let script: String = self
            .commands
            .iter()
            .map(|command| fill(command) + "\n")
            .collect();
        let mut shell = Command::new("sh");
        plain_environment(&mut shell);
        // As make runs them: the first failing command ends it.
        shell.current_dir(source).args(["-e", "-c", &script]);
        run_ok(&mut shell, DEADLINE)?;
        Ok(folder.join(format!("{name}.ko")))
    }

    /// Writes it for `key`, a text that is another one for every tree and compiler.
    pub(super) fn save(&self, path: &Path, key: &str) -> Result<(), durable::WriteError> {
        let mut body = format!("{}\n", self.order);
        for command in &self.commands {
            body.push_str(command);
            body.push('\n');
        }
        durable::write(path, format!("{}\n{body}", head(key, &body)).as_bytes())
    }
}

impl Known {
    /// Reads what [`Recipe::save`] or [`Known::disprove`] wrote for the same `key`.
    pub(super) fn load(path: &Path, key: &str) -> Self {
        let short = fs::metadata(path).is_ok_and(|found| found.len() <= LONGEST);
        let Some(text) = short.then(|| fs::read_to_string(path).ok()).flatten() else {
            return Self::Unknown;
        };
        match text.split_once('\n') {
            Some((first, body)) if first == head(key, body) => {
                let mut lines = body.lines().map(str::to_owned);
                match lines.next() {
                    Some(order) => Self::Proven(Recipe {
                        order,
                        commands: lines.collect(),
                    }),
                    None => Self::Disproven,
                }
            }
            Some(_) | None => Self::Unknown,
        }
    }

    /// Notes that the commands do not give what `make` gives, so that they are not tried again.
    pub(super) fn disprove(path: &Path, key: &str) -> Result<(), durable::WriteError> {
        durable::write(path, format!("{}\n", head(key, "")).as_bytes())
    }
}

/// Why a recipe gave no module.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecipeError {
    /// The folder's name is no text.
    #[error("the temporary folder's name is not UTF-8")]
    Folder,
    /// A file could not be written.
    #[error("could not write {path}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A command failed.
    #[error(transparent)]
    Run(#[from] ProcessError),
}

fn head(key: &str, body: &str) -> String {
    let mut hash = Sha256::new();
    for part in [key, body] {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    format!("{HEAD} {}", hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `make` leaves in a folder, as far as a recipe is made of it; the commands copy files.
    fn linked(folder: &Path) {
        let place = folder.to_str().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        let command = |file: &str, shell: &str| {
            let text = format!("savedcmd_{place}/{file} := {shell}\n\nmore\n");
            write(&format!(".{file}.cmd"), &text);
        };
        command(
            "livepatch.o",
            &format!("cp {place}/livepatch.c {place}/livepatch.o"),
        );
        command(
            &format!("{SAMPLE}.o"),
            &format!("xargs cat < {place}/{SAMPLE}.mod > {place}/{SAMPLE}.o"),
        );
        command(
            "Module.symvers",
            &format!("cp {place}/modules.order {place}/Module.symvers"),
        );
        command(
            &format!("{SAMPLE}.mod.o"),
            &format!("echo $$(pwd) -DNAME='\"{SAMPLE}\"' > {place}/{SAMPLE}.mod.o"),
        );
        command(
            &format!("{SAMPLE}.ko"),
            &format!("cat {place}/{SAMPLE}.o {place}/{SAMPLE}.mod.o > {place}/{SAMPLE}.ko;  true"),
        );
        write("modules.order", &format!("{place}/{SAMPLE}.o\n"));
    }

    #[test]
    fn what_make_ran_is_run_for_another_module_in_another_folder() {
        let (learnt, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        linked(learnt.path());
        let recipe = Recipe::of(learnt.path()).unwrap();
        let parts = ["livepatch.o".to_owned(), "unit_0.o".to_owned()];
        fs::write(other.path().join("livepatch.c"), "one ").unwrap();
        fs::write(other.path().join("unit_0.o"), "two ").unwrap();
        let made = recipe
            .run("/".as_ref(), other.path(), "tt_cve", &parts)
            .unwrap();
        assert_eq!(made, other.path().join("tt_cve.ko"));
        assert_eq!(
            fs::read_to_string(made).unwrap(),
            "one two / -DNAME=\"tt_cve\"\n"
        );
        assert_eq!(
            fs::read_to_string(other.path().join("Module.symvers")).unwrap(),
            format!("{}/tt_cve.o\n", other.path().display())
        );
    }

    #[test]
    fn what_all_modules_of_a_folder_share_is_compiled_too() {
        let (learnt, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        linked(learnt.path());
        let place = learnt.path().to_str().unwrap();
        let write = |name: &str, text: &str| fs::write(learnt.path().join(name), text).unwrap();
        write(SHARED, "shared\n");
        let compile = format!("savedcmd_{place}/{SHARED} := echo shared > {place}/{SHARED}\n");
        write(&format!(".{SHARED}.cmd"), &compile);
        let link = format!("cat {place}/{SAMPLE}.o {place}/{SHARED} > {place}/{SAMPLE}.ko");
        let link = format!("savedcmd_{place}/{SAMPLE}.ko := {link}\n");
        write(&format!(".{SAMPLE}.ko.cmd"), &link);
        let recipe = Recipe::of(learnt.path()).unwrap();
        fs::write(other.path().join("livepatch.c"), "one ").unwrap();
        let parts = ["livepatch.o".to_owned()];
        let made = recipe.run("/".as_ref(), other.path(), "tt_cve", &parts);
        assert_eq!(fs::read_to_string(made.unwrap()).unwrap(), "one shared\n");
        // A command that is gone would leave a link without it.
        fs::remove_file(learnt.path().join(format!(".{SHARED}.cmd"))).unwrap();
        assert_eq!(Recipe::of(learnt.path()), None);
    }

    #[test]
    fn a_folder_that_lacks_a_command_teaches_nothing() {
        let folder = tempfile::tempdir().unwrap();
        linked(folder.path());
        fs::remove_file(folder.path().join(".Module.symvers.cmd")).unwrap();
        assert_eq!(Recipe::of(folder.path()), None);
    }

    #[test]
    fn a_recipe_is_read_back_for_the_same_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        linked(folder.path());
        let recipe = Recipe::of(folder.path()).unwrap();
        let path = folder.path().join("link");
        assert_eq!(Known::load(&path, "key"), Known::Unknown);
        recipe.save(&path, "key").unwrap();
        assert_eq!(Known::load(&path, "key"), Known::Proven(recipe.clone()));
        assert_eq!(Known::load(&path, "another"), Known::Unknown);
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            fs::write(&path, wrong).unwrap();
            assert_eq!(Known::load(&path, "key"), Known::Unknown, "byte {at}");
        }
        Known::disprove(&path, "key").unwrap();
        assert_eq!(Known::load(&path, "key"), Known::Disproven);
    }
}
