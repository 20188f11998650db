//! Whether a fix changes the layout of a type or what an exported function takes and gives, read from
//! the debug data of both compiled versions.
//!
//! Instances that live when the patch is applied were made with the old layout; patched code would
//! read them with the new one. Nothing here proves that a type has no such instances, so every
//! difference of a named type counts. What has no name, or another one than before, is compared by
//! where it is used: variables that outlive calls, and pointers of functions that both versions have.

use std::collections::{BTreeMap, BTreeSet};

use crate::elf::{ElfFile, MalformedObject};
use crate::refusal::{Refusal, Rule};
use crate::symvers;

mod dwarf;
mod live;
mod types;
mod walk;

use dwarf::{Entries, Sections};
use types::{Member, Reader, Record, Types};

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

/// A type that is complete in both versions and differs, or a variable that changed its type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The type or the variable, as C names it.
    pub name: String,
    /// What is different, in words.
    pub what: String,
}

/// Compares the types that both versions of a unit describe by name, and what has no name, or another
/// one than before, by where it is used.
///
/// Types that only one version has are no difference: no instance is read with two layouts. A type
/// that changed only because one inside it did is left out, for that one is named.
pub fn changes(original: &[u8], patched: &[u8]) -> Result<Vec<Change>, LayoutError> {
    both(original, patched, |before, after| {
        type_changes(before, after)
    })
}

/// One version of a unit.
struct Version<'run> {
    file: &'run ElfFile<'run>,
    entries: &'run Entries<'run>,
    types: Types,
}

/// Reads both versions, and lets `compare` see them.
fn both<T>(
    original: &[u8],
    patched: &[u8],
    compare: impl FnOnce(&Version<'_>, &Version<'_>) -> Result<T, LayoutError>,
) -> Result<T, LayoutError> {
    let files = (ElfFile::parse(original)?, ElfFile::parse(patched)?);
    let sections = (Sections::unpack(&files.0)?, Sections::unpack(&files.1)?);
    let entries = (dwarf::entries(&sections.0)?, dwarf::entries(&sections.1)?);
    compare(
        &Version::describe(&files.0, &entries.0)?,
        &Version::describe(&files.1, &entries.1)?,
    )
}

impl<'run> Version<'run> {
    fn describe(file: &'run ElfFile<'_>, entries: &'run Entries<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            file,
            entries,
            types: types::collect(&mut Reader::new(entries))?,
        })
    }
}

fn type_changes(before: &Version<'_>, after: &Version<'_>) -> Result<Vec<Change>, LayoutError> {
    let mut changes = record_changes(&before.types, &after.types);
    changes.extend(constant_changes(&before.types, &after.types));
    changes.extend(live::changes(before, after)?);
    changes.sort();
    changes.dedup();
    Ok(changes)
}

/// What `original` exports and is something else in `patched`. Modules that were compiled against
/// the old declaration go on to use it that way.
fn export_changes(before: &Version<'_>, after: &Version<'_>) -> Result<Vec<Change>, LayoutError> {
    let exported: BTreeSet<&str> = symvers::exported(before.file).collect();
    let (original, patched) = (&before.types.prototypes, &after.types.prototypes);
    let mut changes: Vec<Change> = Vec::new();
    for &name in &exported {
        let (Some(old), Some(new)) = (original.get(name), patched.get(name)) else {
            continue;
        };
        let what = if old.text != new.text {
            format!("is exported and went from {} to {}", old.text, new.text)
        } else if old.shape != new.shape {
            format!(
                "is exported, and a type without a name in {} changed",
                old.text
            )
        } else {
            continue;
        };
        changes.push(Change {
            name: name.to_owned(),
            what,
        });
    }
    changes.extend(live::exported_variables(before, after, &exported)?);
    changes.sort();
    changes.dedup();
    Ok(changes)
}

/// Turns changed layouts and changed types of exports into refusals; debug data that cannot be read
/// refuses, too.
pub fn refusals(unit: &str, original: &[u8], patched: &[u8]) -> Vec<Refusal> {
    let refusal = |rule, symbol, why| Refusal {
        rule,
        unit: unit.to_owned(),
        symbol,
        why,
    };
    let found = both(original, patched, |before, after| {
        let types = type_changes(before, after)?;
        let exports = export_changes(before, after)?;
        let as_refusals = |rule, changes: Vec<Change>| {
            changes
                .into_iter()
                .map(move |change| refusal(rule, change.name, change.what))
        };
        Ok(as_refusals(Rule::TypeLayout, types)
            .chain(as_refusals(Rule::ExportCrc, exports))
            .collect())
    });
    found.unwrap_or_else(|error| {
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
        } else if member.shape != other.shape {
            facts.push(format!(
                "a type without a name in member {} ({}) changed",
                member.name, member.text
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
