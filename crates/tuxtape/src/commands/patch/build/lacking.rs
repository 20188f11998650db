//! What a fix lacks that does not compile alone: looked for, shown, and added when accepted.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;
use tuxtape_core::profile::KernelProfile;
use tuxtape_kernel::build::ModuleName;
use tuxtape_kernel::debian::version::DebianVersion;
use tuxtape_kernel::extend::{Addition, Because, Lack, Proposal, Teller};
use tuxtape_kernel::produce::extend::extension;
use tuxtape_kernel::produce::{For, NamedFix};
use tuxtape_kernel::replay::Budget;
use tuxtape_kernel::replay::compile::CompileError;

use crate::context::Context;
use crate::output;

/// Most lines of one change that are shown.
const SHOWN: usize = 6;

/// What the search needs.
pub(super) struct Search<'a> {
    pub context: &'a Context,
    pub target: For<'a>,
    pub fixes: &'a [NamedFix],
    pub name: &'a ModuleName,
    pub budget: &'a Budget,
    pub scratch: &'a Path,
}

/// What was found, and where.
pub(super) struct Found {
    proposal: Proposal,
    source: String,
}

impl Search<'_> {
    /// Searches the source at `newer`, else the oldest newer one that is unpacked in the cache; `None`
    /// where there is none.
    pub(super) fn run(
        &self,
        errors: &[CompileError],
        newer: Option<&Path>,
    ) -> anyhow::Result<Option<Found>> {
        let (source, tree) = match newer {
            Some(tree) => (tree.display().to_string(), tree.to_owned()),
            None => match unpacked(self.context, self.target.profile)? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        output::talk(&format!(
            "the fix does not compile alone; looking in {source} for what it lacks"
        ));
        let proposal = extension(
            self.target,
            self.fixes,
            errors,
            &tree,
            self.name,
            self.budget,
            self.scratch,
        )
        .with_context(|| format!("could not look in {source} for what the fix lacks"))?;
        Ok(Some(Found { proposal, source }))
    }
}

/// The oldest source package newer than the kernel's own that is unpacked in the cache.
fn unpacked(
    context: &Context,
    profile: &KernelProfile,
) -> anyhow::Result<Option<(String, PathBuf)>> {
    let Some((name, own)) = profile.origin.source.split_once(' ') else {
        return Ok(None);
    };
    let (folder, own) = (context.cache.join("sources"), DebianVersion::new(own));
    if !folder.is_dir() {
        return Ok(None);
    }
    let mut found: Vec<(DebianVersion, PathBuf)> = Vec::new();
    for entry in
        fs::read_dir(&folder).with_context(|| format!("could not read {}", folder.display()))?
    {
        let path = entry?.path();
        let version = path
            .file_name()
            .and_then(|file| file.to_str()?.strip_prefix(name)?.strip_prefix('_'))
            .map(DebianVersion::new);
        if let Some(version) = version
            && version > own
            && path.join("Makefile").is_file()
        {
            found.push((version, path));
        }
    }
    found.sort();
    Ok(found
        .into_iter()
        .next()
        .map(|(version, path)| (format!("{name} {version}"), path)))
}

impl Found {
    /// The extended fix, where enough was found.
    pub(super) fn fix(&self, fixes: &[NamedFix]) -> Option<NamedFix> {
        let Proposal::Extended(extension) = &self.proposal else {
            return None;
        };
        let names: Vec<&str> = fixes.iter().map(|fix| fix.name.as_str()).collect();
        Some(NamedFix {
            name: format!("{}, extended from {}", names.join(" and "), self.source),
            cves: fixes.iter().flat_map(|fix| fix.cves.clone()).collect(),
            diff: extension.diff.clone(),
        })
    }

    pub(super) fn to_text(&self) -> String {
        self.wire(false).to_text()
    }

    pub(super) fn wire(&self, accepted: bool) -> ExtensionWire {
        let mut wire = ExtensionWire {
            origin: "extended",
            source: self.source.clone(),
            accepted: false,
            additions: Vec::new(),
            missing: Vec::new(),
            why: None,
        };
        match &self.proposal {
            Proposal::Extended(extension) => {
                wire.accepted = accepted;
                wire.additions = extension.additions.iter().map(AdditionWire::from).collect();
                wire.missing = extension.missing.iter().map(lacks).collect();
            }
            Proposal::Nothing(missing) => {
                wire.missing = missing.iter().map(lacks).collect();
                wire.why = Some(format!("{} does not have it, either", self.source));
            }
            Proposal::Fails(words) => {
                wire.why = Some(format!("no name tells what is missing: {words}"));
            }
            Proposal::TooLong { limit, trials } => {
                wire.why = Some(format!(
                    "{trials} trials took more than {} s, and more would be needed: --extend-limit gives it longer",
                    limit.as_secs()
                ));
            }
            Proposal::TooMany(count) => {
                wire.why = Some(format!(
                    "{count} changes and more would be needed: take the newer kernel instead"
                ));
            }
        }
        wire
    }
}

fn lacks(lack: &Lack) -> String {
    match lack.by {
        Teller::Compiler => format!("{} lacks {}", lack.unit, lack.name),
        Teller::Link => format!("{} finds no symbol {}", lack.unit, lack.name),
    }
}

/// What a fix lacks, as printed.
#[derive(Debug, Serialize)]
pub(super) struct ExtensionWire {
    origin: &'static str,
    source: String,
    /// Whether it was added to the fix.
    accepted: bool,
    additions: Vec<AdditionWire>,
    missing: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Debug, Serialize)]
struct AdditionWire {
    file: String,
    /// Line in the kernel's file with the fix, from 1.
    line: usize,
    removed: Vec<String>,
    added: Vec<String>,
    because: String,
}

impl From<&Addition> for AdditionWire {
    fn from(addition: &Addition) -> Self {
        let lines = |lines: &[String]| -> Vec<String> {
            lines
                .iter()
                .map(|line| line.trim_end_matches('\n').to_owned())
                .collect()
        };
        Self {
            file: addition.path.to_string(),
            line: addition.edit.at.saturating_add(1),
            removed: lines(&addition.edit.old),
            added: lines(&addition.edit.new),
            because: match &addition.because {
                Because::Lacks(lack) => lacks(lack),
                Because::Drops(name) => {
                    format!("it drops {name}, which the fix stops using")
                }
            },
        }
    }
}

impl ExtensionWire {
    pub(super) fn to_text(&self) -> String {
        let mut text = match (&self.why, self.accepted) {
            (Some(why), _) => format!("  nothing to propose: {why}\n"),
            (None, true) => format!("  extended by --extend from {}:\n", self.source),
            (None, false) => format!(
                "  proposed from {}, to be added with --extend:\n",
                self.source
            ),
        };
        for addition in &self.additions {
            let AdditionWire {
                file,
                line,
                removed,
                added,
                because,
            } = addition;
            text.push_str(&format!("  {file}:{line}: {because}\n"));
            let lines = removed
                .iter()
                .map(|line| ('-', line))
                .chain(added.iter().map(|line| ('+', line)));
            let all = removed.len().saturating_add(added.len());
            for (sign, line) in lines.take(SHOWN) {
                text.push_str(&format!("    {sign}{line}\n"));
            }
            if all > SHOWN {
                text.push_str(&format!("    … {} more lines\n", all.saturating_sub(SHOWN)));
            }
        }
        for missing in &self.missing {
            text.push_str(&format!("  still missing: {missing}\n"));
        }
        text
    }
}
