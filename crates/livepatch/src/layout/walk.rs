//! Compares two types member by member, where a name does not tell that they are the same.

use std::collections::{BTreeMap, BTreeSet};

use gimli::constants as dw;

use super::dwarf::Entry;
use super::types::{
    DEPTH, Reader, Record, basic, counts, first_bit, is_record, key, names_a_record,
};
use super::{LayoutError, Version, difference, summary};

/// Most pairs of types that are looked at for a unit.
const STEPS: usize = 1 << 20;

/// A type without typedefs and qualifiers, and the name under which it is compared; `None` stands for
/// `void`.
type Bare<'run, 'data> = Option<(usize, &'run Entry<'data>, Option<String>)>;

/// A type that the fix has under another name, with another layout.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Renamed {
    /// The type, as C names it.
    pub name: String,
    /// What became of it, in words.
    pub what: String,
}

/// The types of both versions, compared pair by pair.
pub(super) struct Walk<'run> {
    pub old: Reader<'run, 'run>,
    pub new: Reader<'run, 'run>,
    known_before: &'run BTreeMap<String, BTreeSet<Record>>,
    known_after: &'run BTreeMap<String, BTreeSet<Record>>,
    /// Pairs that are equal if nothing else differs: types may refer to themselves.
    assumed: BTreeSet<(usize, usize)>,
    steps_left: usize,
}

impl<'run> Walk<'run> {
    pub(super) fn new(before: &'run Version<'_>, after: &'run Version<'_>) -> Self {
        Self {
            old: Reader::new(before.entries),
            new: Reader::new(after.entries),
            known_before: &before.types.records,
            known_after: &after.types.records,
            assumed: BTreeSet::new(),
            steps_left: STEPS,
        }
    }

    /// Says how the types differ; `None` where bytes mean the same with both, whatever the types are
    /// called. Types of one name are the same: they are compared by it.
    pub(super) fn difference(
        &mut self,
        old: usize,
        new: usize,
    ) -> Result<Option<String>, LayoutError> {
        let Some(deeper) = self.types(Some(old), Some(new), DEPTH)? else {
            return Ok(None);
        };
        // What was assumed on the way may have hung on what turned out to differ.
        self.assumed.clear();
        let words = self.in_words(Some(old), Some(new))?;
        Ok(Some(join(words, &deeper)))
    }

    /// Says how what `old` and `new` point to differs, where one is the other under a new name.
    pub(super) fn renamed(
        &mut self,
        old: usize,
        new: usize,
    ) -> Result<Option<Renamed>, LayoutError> {
        self.count()?;
        let (mut old, mut new) = (Some(old), Some(new));
        let mut pointed = false;
        for _ in 0..DEPTH {
            let (Some(one), Some(other)) = (self.old_bare(old)?, self.new_bare(new)?) else {
                return Ok(None);
            };
            let tags = (one.1.tag, other.1.tag);
            match tags {
                (dw::DW_TAG_pointer_type, dw::DW_TAG_pointer_type) => pointed = true,
                (dw::DW_TAG_array_type, dw::DW_TAG_array_type) => {}
                _ if pointed && is_record(one.1) && is_record(other.1) => {
                    if !self.is_renaming(&one, &other)? {
                        return Ok(None);
                    }
                    return self.another_layout(&one, &other);
                }
                _ => return Ok(None),
            }
            old = self.old.entries.target(one.1)?;
            new = self.new.entries.target(other.1)?;
        }
        Err(LayoutError::TooLarge("types chained 64 deep"))
    }

    /// Says how two structs that look like one differ.
    pub(super) fn lookalike(
        &mut self,
        old: usize,
        new: usize,
    ) -> Result<Option<Renamed>, LayoutError> {
        self.count()?;
        match (self.old_bare(Some(old))?, self.new_bare(Some(new))?) {
            (Some(one), Some(other)) if self.resemble(one.0, other.0)? => {
                self.another_layout(&one, &other)
            }
            (Some(_) | None, Some(_) | None) => Ok(None),
        }
    }

    fn another_layout(
        &mut self,
        one: &(usize, &Entry<'_>, Option<String>),
        other: &(usize, &Entry<'_>, Option<String>),
    ) -> Result<Option<Renamed>, LayoutError> {
        let Some(deeper) = self.records(one, other, DEPTH)? else {
            return Ok(None);
        };
        self.assumed.clear();
        let name = match &one.2 {
            Some(name) => name.clone(),
            None => self.old.text(Some(one.0), DEPTH)?,
        };
        let words = match &other.2 {
            Some(other) => format!("went from {name} to {other}"),
            None => self.in_words(Some(one.0), Some(other.0))?,
        };
        Ok(Some(Renamed {
            name,
            what: join(words, &deeper),
        }))
    }

    /// Whether at least half of the members of `old` are in `new`.
    fn resemble(&mut self, old: usize, new: usize) -> Result<bool, LayoutError> {
        let (Some(one), Some(other)) = (self.old.entries.get(old), self.new.entries.get(new))
        else {
            return Ok(false);
        };
        let mine = self.old.record(old, one)?;
        let theirs = self.new.record(new, other)?;
        let outer = |record: &Record| -> BTreeSet<(String, String)> {
            let members = record.members.iter();
            members
                .filter(|member| !member.name.contains('.'))
                .map(|member| (member.name.clone(), member.text.clone()))
                .collect()
        };
        let (mine, theirs) = (outer(&mine), outer(&theirs));
        let shared = mine.intersection(&theirs).count();
        Ok(shared > 0 && shared.saturating_mul(2) >= mine.len())
    }

    /// Whether the fix may have put the one in the place of the other. Where both versions know both
    /// names, each is compared by its own.
    fn is_renaming(
        &mut self,
        (old, _, one): &(usize, &Entry<'_>, Option<String>),
        (new, _, other): &(usize, &Entry<'_>, Option<String>),
    ) -> Result<bool, LayoutError> {
        if one == other {
            return Ok(one.is_none());
        }
        let gone = one
            .as_ref()
            .is_none_or(|name| !self.known_after.contains_key(name));
        let come = other
            .as_ref()
            .is_none_or(|name| !self.known_before.contains_key(name));
        Ok((gone && come) || ((gone || come) && self.resemble(*old, *new)?))
    }

    fn count(&mut self) -> Result<(), LayoutError> {
        let left = self.steps_left.checked_sub(1);
        self.steps_left = left.ok_or(LayoutError::TooLarge("a million pairs of types"))?;
        Ok(())
    }

    fn old_bare(&self, target: Option<usize>) -> Result<Bare<'run, 'run>, LayoutError> {
        bare(&self.old, target)
    }

    fn new_bare(&self, target: Option<usize>) -> Result<Bare<'run, 'run>, LayoutError> {
        bare(&self.new, target)
    }

    fn in_words(&mut self, old: Option<usize>, new: Option<usize>) -> Result<String, LayoutError> {
        let (old, new) = (self.old.text(old, DEPTH)?, self.new.text(new, DEPTH)?);
        Ok(if old == new {
            format!("{old} changed")
        } else {
            format!("went from {old} to {new}")
        })
    }

    /// Says what is deeper inside and differs; nothing where the types themselves do.
    fn types(
        &mut self,
        old: Option<usize>,
        new: Option<usize>,
        depth: u32,
    ) -> Result<Option<String>, LayoutError> {
        self.count()?;
        let deeper = depth
            .checked_sub(1)
            .ok_or(LayoutError::TooLarge("types chained 64 deep"))?;
        let (one, other) = match (self.old_bare(old)?, self.new_bare(new)?) {
            (None, None) => return Ok(None),
            (Some(one), Some(other)) => (one, other),
            (Some(_), None) | (None, Some(_)) => return Ok(Some(String::new())),
        };
        if is_record(one.1) && is_record(other.1) {
            return self.records(&one, &other, depth);
        }
        if one.1.tag != other.1.tag {
            return Ok(Some(String::new()));
        }
        let next = (
            self.old.entries.target(one.1)?,
            self.new.entries.target(other.1)?,
        );
        match one.1.tag {
            dw::DW_TAG_base_type => {
                let same = basic(one.1) == basic(other.1);
                Ok((!same).then(String::new))
            }
            dw::DW_TAG_array_type => {
                // A declaration may leave a length open.
                let mine: Vec<Option<u64>> = counts(self.old.entries, one.1).collect();
                let theirs: Vec<Option<u64>> = counts(self.new.entries, other.1).collect();
                let fit =
                    |(a, b): (&Option<u64>, &Option<u64>)| a.is_none() || b.is_none() || a == b;
                if mine.len() != theirs.len() || !mine.iter().zip(&theirs).all(fit) {
                    return Ok(Some(String::new()));
                }
                self.types(next.0, next.1, deeper)
            }
            dw::DW_TAG_subroutine_type => {
                let mine = parameters(&self.old, one.1)?;
                let theirs = parameters(&self.new, other.1)?;
                if mine.len() != theirs.len() {
                    return Ok(Some(String::new()));
                }
                for (mine, theirs) in mine.into_iter().zip(theirs).chain([next]) {
                    if let Some(words) = self.types(mine, theirs, deeper)? {
                        return Ok(Some(words));
                    }
                }
                Ok(None)
            }
            _ => self.types(next.0, next.1, deeper),
        }
    }

    fn records(
        &mut self,
        one: &(usize, &Entry<'_>, Option<String>),
        other: &(usize, &Entry<'_>, Option<String>),
        depth: u32,
    ) -> Result<Option<String>, LayoutError> {
        let (old, new) = (one.1, other.1);
        if one.2.is_some() && one.2 == other.2 {
            return Ok(None);
        }
        if old.tag != new.tag || old.declaration || new.declaration {
            return Ok(Some(String::new()));
        }
        if !self.assumed.insert((one.0, other.0)) {
            return Ok(None);
        }
        let deeper = depth
            .checked_sub(1)
            .ok_or(LayoutError::TooLarge("types chained 64 deep"))?;
        let (mine, theirs) = (members(&self.old, old)?, members(&self.new, new)?);
        let same = |(a, b): (&Place<'_>, &Place<'_>)| a.outside() == b.outside();
        if old.size != new.size || mine.len() != theirs.len() || !mine.iter().zip(&theirs).all(same)
        {
            let mine = self.old.record(one.0, old)?;
            let theirs = self.new.record(other.0, new)?;
            return Ok(Some(summary(difference(&mine, &theirs))));
        }
        for (mine, theirs) in mine.iter().zip(&theirs) {
            let Some(inner) = self.types(mine.target, theirs.target, deeper)? else {
                continue;
            };
            let words = self.in_words(mine.target, theirs.target)?;
            let name = mine.name.unwrap_or("without a name");
            return Ok(Some(join(format!("member {name} {words}"), &inner)));
        }
        Ok(None)
    }
}

fn join(words: String, deeper: &str) -> String {
    if deeper.is_empty() {
        words
    } else {
        format!("{words}: {deeper}")
    }
}

/// A member and where it lies.
struct Place<'run> {
    name: Option<&'run str>,
    bit: u64,
    bits: Option<u64>,
    target: Option<usize>,
}

impl Place<'_> {
    /// All but its type.
    fn outside(&self) -> (Option<&str>, u64, Option<u64>) {
        (self.name, self.bit, self.bits)
    }
}

fn members<'run>(
    reader: &Reader<'run, 'run>,
    record: &Entry<'_>,
) -> Result<Vec<Place<'run>>, LayoutError> {
    let entries = reader.entries;
    let children = record.children.iter();
    children
        .filter_map(|&child| entries.get(child))
        .filter(|child| child.tag == dw::DW_TAG_member)
        .map(|child| {
            let target = entries.target(child)?;
            let bytes = reader.size(target, DEPTH)?;
            Ok(Place {
                name: child.name,
                bit: first_bit(child, bytes),
                bits: child.bits,
                target,
            })
        })
        .collect()
}

fn parameters(
    reader: &Reader<'_, '_>,
    function: &Entry<'_>,
) -> Result<Vec<Option<usize>>, LayoutError> {
    let entries = reader.entries;
    let children = function.children.iter();
    children
        .filter_map(|&child| entries.get(child))
        .filter(|child| child.tag == dw::DW_TAG_formal_parameter)
        .map(|child| entries.target(child))
        .collect()
}

/// Takes typedefs and qualifiers off; with the name under which the type is compared.
fn bare<'run>(
    reader: &Reader<'run, 'run>,
    target: Option<usize>,
) -> Result<Bare<'run, 'run>, LayoutError> {
    let entries = reader.entries;
    let mut target = target;
    let mut name = None;
    for _ in 0..DEPTH {
        let Some((index, entry)) = target.and_then(|index| Some((index, entries.get(index)?)))
        else {
            return Ok(None);
        };
        match entry.tag {
            dw::DW_TAG_typedef
            | dw::DW_TAG_const_type
            | dw::DW_TAG_volatile_type
            | dw::DW_TAG_restrict_type
            | dw::DW_TAG_atomic_type => {
                target = entries.target(entry)?;
                if entry.tag == dw::DW_TAG_typedef && names_a_record(entries, target) {
                    name = key(entry);
                }
            }
            dw::DW_TAG_unspecified_type => return Ok(None),
            _ => return Ok(Some((index, entry, key(entry).or(name)))),
        }
    }
    Err(LayoutError::TooLarge("types chained 64 deep"))
}

/// The type that a pointer leads to, by name, where it is a struct or union that is known whole; the
/// entry is the one that names it.
pub(super) fn pointed<'run>(
    reader: &Reader<'run, 'run>,
    pointer: &Entry<'_>,
) -> Result<Option<(String, usize)>, LayoutError> {
    let target = reader.entries.target(pointer)?;
    Ok(match bare(reader, target)? {
        Some((_, entry, Some(name))) if is_record(entry) && !entry.declaration => {
            target.map(|target| (name, target))
        }
        Some(_) | None => None,
    })
}
