//! What a module was made of, so that anyone can make it again and compare it bit for bit.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::KernelProfile;
use tuxtape_livepatch::elf::{ElfFile, MalformedObject};

use super::{NamedFix, Produced};
use crate::build::ModuleName;

/// Largest recipe that is read, in bytes.
pub const LARGEST: u64 = 4 << 20;
/// The newest format that this program knows.
const FORMAT: u32 = 1;

/// What a module was made of; the JSON of `NAME.recipe.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Version of this format.
    pub format: u32,
    /// The module's name.
    pub module: String,
    /// SHA-256 of the module, in hex.
    pub sha256: String,
    /// Its bytes.
    pub length: u64,
    /// The kernel, as `uname -r` prints it.
    pub kernel: KernelRelease,
    /// Build-id of its vmlinux, in hex.
    pub build_id: String,
    /// Package and version of its source.
    pub source: String,
    /// What the compiler says of its version.
    pub compiler: String,
    /// Another text for every build of compiler, assembler, linker and objtool.
    pub toolchain: String,
    /// Version of this program.
    pub program: String,
    /// The change of the kernel's source, a file beside the recipe.
    pub change: String,
    /// SHA-256 of that file, in hex.
    pub change_sha256: String,
    /// The fixes that the change was put together from.
    pub fixes: Vec<FixRecord>,
}

/// One fix of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixRecord {
    /// File or CVE that it was given as.
    pub name: String,
    /// CVEs that it closes.
    pub cves: Vec<String>,
    /// SHA-256 of its change as this program writes it, in hex.
    pub sha256: String,
}

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// It is none.
    #[error("not a recipe of a livepatch")]
    Malformed(#[from] serde_json::Error),
    /// A newer program wrote it.
    #[error("a recipe of format {0}, and the newest this program knows is {FORMAT}")]
    Newer(u32),
    /// The change beside it is another one.
    #[error("{0} is not the change that the recipe names: its SHA-256 differs")]
    Change(String),
    /// The change names a file outside of the recipe's folder.
    #[error("{0:?} is no plain file name")]
    Path(String),
}

/// How a module made anew differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Section, or what was compared.
    pub place: String,
    /// What is different.
    pub what: String,
}

impl Recipe {
    /// Writes down what `produced` was made of. The change goes into a file called `change`.
    pub fn of(
        profile: &KernelProfile,
        name: &ModuleName,
        fixes: &[NamedFix],
        produced: &Produced,
        change: String,
        program: &str,
    ) -> Self {
        let build_id = profile.id.build_id.as_ref();
        Self {
            format: FORMAT,
            module: name.to_string(),
            sha256: digest(&produced.bytes),
            length: produced.bytes.len() as u64,
            kernel: profile.id.release.clone(),
            build_id: build_id.map(ToString::to_string).unwrap_or_default(),
            source: profile.origin.source.clone(),
            compiler: produced.toolchain.version.clone(),
            toolchain: produced.toolchain.identity.clone(),
            program: program.to_owned(),
            change,
            change_sha256: digest(&produced.change.to_bytes()),
            fixes: fixes
                .iter()
                .map(|fix| FixRecord {
                    name: fix.name.clone(),
                    cves: fix.cves.clone(),
                    sha256: digest(&fix.diff.to_bytes()),
                })
                .collect(),
        }
    }

    /// Reads a recipe.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecipeError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(bytes)?;
        if format > FORMAT {
            return Err(RecipeError::Newer(format));
        }
        let recipe: Self = serde_json::from_slice(bytes)?;
        let plain = !recipe.change.is_empty() && !recipe.change.starts_with('.');
        if !plain || recipe.change.contains(['/', '\0']) {
            return Err(RecipeError::Path(recipe.change));
        }
        Ok(recipe)
    }

    /// Checks that `bytes` are the change that was made.
    pub fn check_change(&self, bytes: &[u8]) -> Result<(), RecipeError> {
        if digest(bytes) == self.change_sha256 {
            Ok(())
        } else {
            Err(RecipeError::Change(self.change.clone()))
        }
    }

    /// Compares what the module was made with to what is here. Each difference alone explains other bytes.
    pub fn other_tools(
        &self,
        profile: &KernelProfile,
        produced: &Produced,
        program: &str,
    ) -> Vec<Difference> {
        let build_id = profile.id.build_id.as_ref();
        let build_id = build_id.map(ToString::to_string).unwrap_or_default();
        [
            ("kernel build-id", &self.build_id, build_id.as_str()),
            ("kernel source", &self.source, &profile.origin.source),
            ("compiler", &self.compiler, &produced.toolchain.version),
            ("toolchain", &self.toolchain, &produced.toolchain.identity),
            ("program", &self.program, program),
        ]
        .into_iter()
        .filter(|(_, then, now)| then.as_str() != *now)
        .map(|(place, then, now)| Difference {
            place: place.to_owned(),
            what: format!("{now} here, {then} then"),
        })
        .collect()
    }
}

/// SHA-256 in hex.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Names the sections in which two modules differ; empty where they are equal bit for bit.
pub fn differences(then: &[u8], now: &[u8]) -> Result<Vec<Difference>, MalformedObject> {
    if then == now {
        return Ok(Vec::new());
    }
    let (left, right) = (ElfFile::parse(then)?, ElfFile::parse(now)?);
    let sections = |file: &ElfFile<'_>| -> BTreeMap<String, Vec<u8>> {
        let named = file
            .sections()
            .iter()
            .filter(|section| !section.name.is_empty());
        named
            .map(|one| (one.name.to_owned(), one.data.to_vec()))
            .collect()
    };
    let (left, right) = (sections(&left), sections(&right));
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let mut found: Vec<Difference> = names
        .into_iter()
        .filter_map(|name| {
            let what = match (left.get(name), right.get(name)) {
                (Some(one), Some(other)) if one == other => return None,
                (Some(one), Some(other)) if one.len() == other.len() => {
                    let at = one
                        .iter()
                        .zip(other)
                        .position(|(one, other)| one != other)?;
                    format!("differs from byte {at} on")
                }
                (Some(one), Some(other)) => {
                    format!("has {} bytes now, {} then", other.len(), one.len())
                }
                (Some(_), None) => "is missing now".to_owned(),
                (None, _) => "is new".to_owned(),
            };
            Some(Difference {
                place: name.clone(),
                what,
            })
        })
        .collect();
    if found.is_empty() {
        found.push(Difference {
            place: "file".to_owned(),
            what: "the sections are equal and lie elsewhere, or their headers differ".to_owned(),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(change: &str, format: u32) -> String {
        format!(
            r#"{{"format":{format},"module":"tt_a","sha256":"00","length":1,"kernel":"6.1.0-1-amd64","build_id":"ab","source":"linux 6.1","compiler":"gcc","toolchain":"t","program":"0.1","change":"{change}","change_sha256":"{}","fixes":[]}}"#,
            digest(b"x")
        )
    }

    #[test]
    fn a_recipe_names_a_file_beside_it_and_its_content() {
        let recipe = Recipe::parse(text("tt_a.patch", 1).as_bytes()).unwrap();
        assert!(recipe.check_change(b"x").is_ok());
        assert!(recipe.check_change(b"y").is_err());
        for path in ["", "../a", "/etc/passwd", ".hidden", "a/b"] {
            let outcome = Recipe::parse(text(path, 1).as_bytes());
            assert!(matches!(outcome, Err(RecipeError::Path(_))), "{path:?}");
        }
    }

    #[test]
    fn a_newer_recipe_is_said_to_be_newer() {
        let newer = text("a", 2).replace("\"fixes\"", "\"more\":1,\"fixes\"");
        assert!(matches!(
            Recipe::parse(newer.as_bytes()),
            Err(RecipeError::Newer(2))
        ));
        assert!(Recipe::parse(b"{}").is_err());
    }

    #[test]
    fn equal_bytes_have_no_difference_whatever_they_are() {
        assert_eq!(differences(b"x", b"x").unwrap(), []);
        assert!(differences(b"x", b"y").is_err());
    }
}
