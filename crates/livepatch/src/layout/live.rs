//! Types without a name, or with another one than before, by where they are used.
//!
//! What a variable that outlives calls holds was put there by the old code. What a parameter or a
//! local variable points to may have been: objects are handed from function to function.

use std::collections::{BTreeMap, BTreeSet};

use gimli::constants as dw;

use super::dwarf::{Entries, Entry};
use super::types::{DEPTH, Reader};
use super::walk::{self, Renamed, Walk};
use super::{Change, LayoutError, Version};
use crate::elf::ElfFile;

/// Where a variable is known by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'run> {
    /// The function; none for a variable of the whole unit.
    function: Option<&'run str>,
    name: &'run str,
}

/// The variables of one version, with their types; several where blocks have a variable of this name
/// each, or a declaration leaves something open.
#[derive(Debug, Default)]
struct Variables<'run> {
    /// Those that outlive calls.
    lasting: BTreeMap<Place<'run>, BTreeSet<usize>>,
    /// Parameters, results and local variables.
    passing: BTreeMap<Place<'run>, BTreeSet<usize>>,
}

/// Compares variables, and what functions of both versions have pointers to.
pub(super) fn changes(
    before: &Version<'_>,
    after: &Version<'_>,
) -> Result<Vec<Change>, LayoutError> {
    let (old, new) = (variables(before.entries)?, variables(after.entries)?);
    let mut walk = Walk::new(before, after);
    let mut changes = Vec::new();
    let gone = boot_names(before.file);
    for (place, theirs) in &old.lasting {
        if gone.contains(place.name) {
            continue;
        }
        let found = new
            .lasting
            .get(place)
            .or_else(|| elsewhere(&old, &new, place));
        let Some(ours) = found else { continue };
        let mut words = Vec::new();
        for &one in theirs {
            if is_constant(before.entries, one)? {
                continue;
            }
            words.extend(nearest(&mut walk, one, ours)?);
        }
        changes.extend(words.into_iter().map(|words| Change {
            name: place.name.to_owned(),
            what: format!("is a variable that lives on and {words}"),
        }));
    }
    let mut renamed = pointers(&mut walk, &old, &new)?;
    for one in lookalikes(&mut walk, before, after)? {
        renamed.entry(one).or_default();
    }
    changes.extend(renamed.into_iter().map(|(renamed, place)| Change {
        name: renamed.name,
        what: match place {
            Some(place) => format!("{}; {place} points to it", renamed.what),
            None => renamed.what,
        },
    }));
    Ok(changes)
}

/// Compares variables that other modules were compiled with.
pub(super) fn exported_variables(
    before: &Version<'_>,
    after: &Version<'_>,
    exported: &BTreeSet<&str>,
) -> Result<Vec<Change>, LayoutError> {
    let (old, new) = (variables(before.entries)?, variables(after.entries)?);
    let mut walk = Walk::new(before, after);
    let mut changes = Vec::new();
    for &name in exported {
        let place = Place {
            function: None,
            name,
        };
        let (Some(theirs), Some(ours)) = (old.lasting.get(&place), new.lasting.get(&place)) else {
            continue;
        };
        for &one in theirs {
            changes.extend(nearest(&mut walk, one, ours)?.map(|words| Change {
                name: name.to_owned(),
                what: format!("is exported and {words}"),
            }));
        }
    }
    Ok(changes)
}

/// Says how `one` differs from each of `others`; nothing where it is equal to any.
fn nearest(
    walk: &mut Walk<'_>,
    one: usize,
    others: &BTreeSet<usize>,
) -> Result<Option<String>, LayoutError> {
    let mut first = None;
    for &other in others {
        match walk.difference(one, other)? {
            None => return Ok(None),
            Some(words) => first = first.or(Some(words)),
        }
    }
    Ok(first)
}

/// A variable of the same name that took the place of one, in another function or outside of all.
fn elsewhere<'all>(
    old: &Variables<'_>,
    new: &'all Variables<'_>,
    place: &Place<'_>,
) -> Option<&'all BTreeSet<usize>> {
    let mut come = new.lasting.iter();
    come.find(|(other, _)| other.name == place.name && !old.lasting.contains_key(other))
        .map(|(_, types)| types)
}

/// Compares what parameters, results and local variables point to; one of them is told for each type.
fn pointers(
    walk: &mut Walk<'_>,
    old: &Variables<'_>,
    new: &Variables<'_>,
) -> Result<BTreeMap<Renamed, Option<String>>, LayoutError> {
    let mut found = BTreeMap::new();
    for (place, theirs) in &old.passing {
        let Some(ours) = new.passing.get(place) else {
            continue;
        };
        let mut texts = (BTreeSet::new(), BTreeSet::new());
        for &one in theirs {
            texts.0.insert(walk.old.text(Some(one), DEPTH)?);
        }
        for &other in ours {
            texts.1.insert(walk.new.text(Some(other), DEPTH)?);
        }
        for &one in theirs {
            let mine = walk.old.text(Some(one), DEPTH)?;
            for &other in ours {
                let text = walk.new.text(Some(other), DEPTH)?;
                // With several of one name, those that both versions have belong to each other.
                let apart = !texts.1.contains(&mine) && !texts.0.contains(&text);
                if mine != text && !apart {
                    continue;
                }
                if let Some(renamed) = walk.renamed(one, other)? {
                    let function = place.function.unwrap_or_default();
                    let told = format!("{} of {function}", place.name);
                    found.entry(renamed).or_insert(Some(told));
                }
            }
        }
    }
    Ok(found)
}

/// Compares types that only one version has and that look like one, wherever they are used.
fn lookalikes(
    walk: &mut Walk<'_>,
    before: &Version<'_>,
    after: &Version<'_>,
) -> Result<Vec<Renamed>, LayoutError> {
    let gone = only(&walk.old, |name| !after.types.records.contains_key(name))?;
    let come = only(&walk.new, |name| !before.types.records.contains_key(name))?;
    let mut found = Vec::new();
    for &old in gone.values() {
        for &new in come.values() {
            found.extend(walk.lookalike(old, new)?);
        }
    }
    Ok(found)
}

/// Structs and unions that something points to, by name.
fn only(
    reader: &Reader<'_, '_>,
    wanted: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, usize>, LayoutError> {
    let mut found = BTreeMap::new();
    for (_, entry) in reader.entries.all() {
        if entry.tag == dw::DW_TAG_pointer_type
            && let Some((name, index)) = walk::pointed(reader, entry)?
            && wanted(&name)
        {
            found.insert(name, index);
        }
    }
    Ok(found)
}

/// Names of what lies in sections that are gone after boot.
fn boot_names<'run>(file: &'run ElfFile<'_>) -> BTreeSet<&'run str> {
    file.symbols()
        .iter()
        .filter(|symbol| {
            let section = symbol.section().and_then(|section| file.section(section));
            section.is_some_and(|section| section.name.starts_with(".init."))
        })
        .map(|symbol| match symbol.name.rsplit_once('.') {
            // A static variable of a function is numbered.
            Some((name, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => name,
            Some(_) | None => symbol.name,
        })
        .collect()
}

/// Whether a variable of this type is never written: its bytes are compared, and copied if they changed.
fn is_constant(entries: &Entries<'_>, variable: usize) -> Result<bool, LayoutError> {
    let mut target = Some(variable);
    for _ in 0..DEPTH {
        let Some(entry) = target.and_then(|index| entries.get(index)) else {
            return Ok(false);
        };
        match entry.tag {
            dw::DW_TAG_const_type => return Ok(true),
            dw::DW_TAG_typedef | dw::DW_TAG_volatile_type | dw::DW_TAG_array_type => {
                target = entries.target(entry)?;
            }
            _ => return Ok(false),
        }
    }
    Err(LayoutError::TooLarge("types chained 64 deep"))
}

fn variables<'run>(entries: &'run Entries<'_>) -> Result<Variables<'run>, LayoutError> {
    let mut owners: BTreeMap<usize, &'run str> = BTreeMap::new();
    let mut found = Variables::default();
    for (index, entry) in entries.all() {
        // An entry without a name of its own is a copy of one that has it.
        let Some(function) = entry.name.filter(|_| entry.tag == dw::DW_TAG_subprogram) else {
            continue;
        };
        if entry.declaration {
            continue;
        }
        if let Some(result) = entries.target(entry)? {
            let name = "the result";
            let place = Place {
                function: Some(function),
                name,
            };
            found.passing.entry(place).or_default().insert(result);
        }
        let mut waiting = vec![index];
        // Ends: children come after their parents.
        while let Some(index) = waiting.pop() {
            let Some(entry) = entries.get(index) else {
                continue;
            };
            for &child in &entry.children {
                owners.insert(child, function);
                if entries.get(child).is_some_and(is_block) {
                    waiting.push(child);
                }
            }
        }
    }
    // The address, or the whole type, may be told of a copy alone.
    let mut copies: BTreeMap<usize, Vec<&Entry<'_>>> = BTreeMap::new();
    for (_, entry) in entries.all().filter(|(_, entry)| is_variable(entry)) {
        if let Some(origin) = entries.of(entry) {
            copies.entry(origin).or_default().push(entry);
        }
    }
    for (index, entry) in entries.all().filter(|(_, entry)| is_variable(entry)) {
        let Some(name) = entry.name else { continue };
        let copies = copies.get(&index).map(Vec::as_slice).unwrap_or_default();
        let outside = entry.declaration && entry.external;
        let lasting = outside || entry.in_memory || copies.iter().any(|copy| copy.in_memory);
        let place = Place {
            function: owners.get(&index).copied().filter(|_| !outside),
            name,
        };
        let kept = if lasting {
            found.lasting.entry(place).or_default()
        } else if place.function.is_some() {
            found.passing.entry(place).or_default()
        } else {
            continue;
        };
        for told in copies.iter().copied().chain([entry]) {
            kept.extend(entries.target(told)?);
        }
    }
    Ok(found)
}

fn is_block(entry: &Entry<'_>) -> bool {
    entry.tag == dw::DW_TAG_lexical_block
}

fn is_variable(entry: &Entry<'_>) -> bool {
    matches!(entry.tag, dw::DW_TAG_variable | dw::DW_TAG_formal_parameter)
}
