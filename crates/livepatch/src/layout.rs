//! Whether a fix changes the layout of a type or what an exported function takes and gives, read from
//! the debug data of both compiled versions.
//!
//! Instances that live when the patch is applied were made with the old layout; patched code would
//! read them with the new one. Nothing here proves that a type has no such instances, so every
//! difference of a named type counts.

use std::collections::{BTreeMap, BTreeSet};

use crate::elf::{ElfFile, MalformedObject};
use crate::refusal::{Refusal, Rule};

mod dwarf;
mod types;

use types::{Member, Record, Types};

/// Why layouts could not be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The bytes are no usable object.
    #[error(transparent)]
    Malformed(#[from] MalformedObject),
    /// The debug data is damaged.
    #[error("malformed debug data: {0}")]
    Dwarf(#[from] gimli::Error),
    /// A compressed debug section is damaged.
    #[error("section {0} does not unpack")]
    Packed(String),
    /// The object was compiled without debug data.
    #[error("it has no debug data")]
    Missing,
    /// The debug data is written in a way this reader does not know.
    #[error("debug data with {0} is not read")]
    Unsupported(&'static str),
    /// Following it would take more time or memory than any unit needs.
    #[error("the debug data describes more than {0}")]
    TooLarge(&'static str),
}

/// A type that is complete in both versions and differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The type, as C names it.
    pub name: String,
    /// What is different, in words.
    pub what: String,
}

/// Compares the types that both versions of a unit describe; by name.
///
/// Types that only one version has are no difference: no instance is read with two layouts. A type
/// that changed only because one inside it did is left out, for that one is named.
pub fn changes(original: &[u8], patched: &[u8]) -> Result<Vec<Change>, LayoutError> {
    Ok(type_changes(&read(original)?, &read(patched)?))
}

fn type_changes(original: &Types, patched: &Types) -> Vec<Change> {
    let mut changes = record_changes(original, patched);
    changes.extend(constant_changes(original, patched));
    changes.sort();
    changes
}

/// Functions that `original` exports and that take or give something else in `patched`. Modules that
/// were compiled against the old prototype go on to call them that way.
fn export_changes(file: &ElfFile<'_>, original: &Types, patched: &Types) -> Vec<Change> {
    let exported = file
        .symbols()
        .iter()
        .filter_map(|symbol| symbol.name.strip_prefix("__ksymtab_"));
    let mut changes: Vec<Change> = exported
        .filter_map(|name| {
            let (old, new) = (
                original.prototypes.get(name)?,
                patched.prototypes.get(name)?,
            );
            (old != new).then(|| Change {
                name: name.to_owned(),
                what: format!("is exported and went from {old} to {new}"),
            })
        })
        .collect();
    changes.sort();
    changes.dedup();
    changes
}

/// Turns changed layouts and prototypes of exports into refusals; debug data that cannot be read
/// refuses, too.
pub fn refusals(unit: &str, original: &[u8], patched: &[u8]) -> Vec<Refusal> {
    let refusal = |rule, symbol, why| Refusal {
        rule,
        unit: unit.to_owned(),
        symbol,
        why,
    };
    let compare = || -> Result<Vec<Refusal>, LayoutError> {
        let file = ElfFile::parse(original)?;
        let (before, after) = (read(original)?, read(patched)?);
        let types = type_changes(&before, &after);
        let exports = export_changes(&file, &before, &after);
        let as_refusals = |rule, changes: Vec<Change>| {
            changes
                .into_iter()
                .map(move |change| refusal(rule, change.name, change.what))
        };
        Ok(as_refusals(Rule::TypeLayout, types)
            .chain(as_refusals(Rule::ExportCrc, exports))
            .collect())
    };
    compare().unwrap_or_else(|error| {
        let why = format!("the layout of its types could not be compared: {error}");
        vec![refusal(Rule::Unknown, unit.to_owned(), why)]
    })
}

/// Keeps one of several units' refusals for the same change of a type.
pub fn once_per_type(refusals: &mut Vec<Refusal>) {
    refusals.sort();
    let mut seen = BTreeSet::new();
    refusals.retain(|refusal| {
        refusal.rule != Rule::TypeLayout
            || seen.insert((refusal.symbol.clone(), refusal.why.clone()))
    });
}

/// Reads `bytes` as both versions; for fuzzing. Never panics.
pub fn read_anything(bytes: &[u8]) {
    changes(bytes, bytes).ok();
}

fn read(object: &[u8]) -> Result<Types, LayoutError> {
    let file = ElfFile::parse(object)?;
    let sections = dwarf::Sections::unpack(&file)?;
    types::collect(&dwarf::entries(&sections)?)
}

fn record_changes(original: &Types, patched: &Types) -> Vec<Change> {
    let mut differing: BTreeMap<&str, (&Record, &Record)> = BTreeMap::new();
    for (name, ours) in &original.records {
        let Some(theirs) = patched.records.get(name) else {
            continue;
        };
        // Two types of one name in one unit differ between functions or by scope.
        let lost = ours.difference(theirs).next();
        let gained = theirs.difference(ours).next();
        if let (Some(old), Some(new)) = (lost, gained) {
            differing.insert(name, (old, new));
        }
    }
    differing
        .iter()
        .filter(|(_, (old, new))| {
            let follows = old
                .embeds
                .iter()
                .any(|inner| differing.contains_key(inner.as_str()));
            !(follows && old.same_members(new))
        })
        .map(|(name, (old, new))| Change {
            name: (*name).to_owned(),
            what: summary(difference(old, new)),
        })
        .collect()
}

/// Most facts of one type that are told one by one.
const TOLD: usize = 4;

fn summary(mut facts: Vec<String>) -> String {
    if facts.is_empty() {
        // The members are told by name; two of one name may have traded places.
        return "its members are in another order".to_owned();
    }
    let more = facts.len().saturating_sub(TOLD);
    facts.truncate(TOLD);
    if more > 0 {
        facts.push(format!("and {more} more"));
    }
    facts.join("; ")
}

fn difference(old: &Record, new: &Record) -> Vec<String> {
    let names = |record: &Record| -> BTreeSet<String> {
        record
            .members
            .iter()
            .map(|member| member.name.clone())
            .collect()
    };
    let (before, after) = (names(old), names(new));
    let find = |record: &'_ Record, name: &str| -> Option<Member> {
        record
            .members
            .iter()
            .find(|member| member.name == name)
            .cloned()
    };
    let gone = old
        .members
        .iter()
        .filter(|member| !after.contains(&member.name));
    let come: Vec<&Member> = new
        .members
        .iter()
        .filter(|member| !before.contains(&member.name))
        .collect();
    let (mut facts, mut moved, mut others_changed) = (Vec::new(), Vec::new(), false);
    for member in gone {
        others_changed = true;
        facts.push(match come.iter().find(|other| other.replaces(member)) {
            Some(other) => format!("member {} became {}", member.name, other.name),
            None => format!("member {} is gone", member.name),
        });
    }
    for member in &old.members {
        let Some(other) = find(new, &member.name) else {
            continue;
        };
        if member.text != other.text {
            facts.push(format!(
                "member {} went from {} to {}",
                member.name, member.text, other.text
            ));
        } else if member.width != other.width {
            facts.push(format!(
                "member {} went from {} to {}",
                member.name,
                member.width_in_words(),
                other.width_in_words()
            ));
        }
        if member.bit != other.bit {
            moved.push(format!(
                "member {} moved from {} to {}",
                member.name,
                member.place(),
                other.place()
            ));
        }
    }
    others_changed |= !facts.is_empty() || !moved.is_empty() || old.size != new.size;
    for member in come {
        if old
            .members
            .iter()
            .any(|lost| !after.contains(&lost.name) && member.replaces(lost))
        {
            continue;
        }
        let padding = !others_changed && !old.members.iter().any(|other| other.overlaps(member));
        facts.push(if padding {
            format!(
                "new member {} in former padding at {}",
                member.name,
                member.place()
            )
        } else {
            format!("new member {} at {}", member.name, member.place())
        });
    }
    if old.size != new.size {
        facts.push(format!(
            "its size went from {} to {} bytes",
            old.size, new.size
        ));
    }
    facts.extend(moved);
    facts
}

fn constant_changes(original: &Types, patched: &Types) -> Vec<Change> {
    let mut by_enum: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, ours) in &original.constants {
        let Some(theirs) = patched.constants.get(name) else {
            continue;
        };
        let lost = ours.values.difference(&theirs.values).next();
        let gained = theirs.values.difference(&ours.values).next();
        if let (Some(old), Some(new)) = (lost, gained) {
            let fact = format!("constant {name} went from {old} to {new}");
            by_enum.entry(&ours.of).or_default().push(fact);
        }
    }
    by_enum
        .into_iter()
        .map(|(name, facts)| Change {
            name: name.to_owned(),
            what: summary(facts),
        })
        .collect()
}
