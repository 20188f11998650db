//! What the types of a unit look like in memory, by name.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use gimli::constants as dw;

use super::LayoutError;
use super::dwarf::{Entries, Entry};

/// Types nested or chained deeper than this are not a kernel's.
pub(super) const DEPTH: u32 = 64;
/// Most members that are looked at, over all types of a unit.
const MEMBER_LIMIT: usize = 1 << 22;
/// Longest description of a type; what is cut off is compared by its shape alone.
const TEXT_LIMIT: usize = 2048;
/// Most bytes of names and descriptions that are kept for a unit.
const KEPT_LIMIT: usize = 1 << 28;

/// One member, also of an unnamed struct or union inside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member {
    /// Its name, `inner.name` in a named member of an unnamed type.
    pub name: String,
    /// Offset from the start of the outermost type, in bits.
    pub bit: u64,
    /// Bits that it takes; none for a flexible array.
    pub width: u64,
    /// Whether it is a bit-field.
    pub is_bit_field: bool,
    /// Its type.
    pub text: String,
    /// Its type with the members of every unnamed type that it refers to; see [`Reader::shape`].
    pub shape: u64,
}

impl Member {
    pub(super) fn place(&self) -> String {
        match (self.is_bit_field, self.bit / 8, self.bit % 8) {
            (false, byte, _) => format!("byte {byte}"),
            (true, byte, bit) => format!("byte {byte} bit {bit}"),
        }
    }

    pub(super) fn width_in_words(&self) -> String {
        if self.is_bit_field {
            format!("{} bits", self.width)
        } else {
            format!("{} bytes", self.width / 8)
        }
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.bit < other.bit.saturating_add(other.width)
            && other.bit < self.bit.saturating_add(self.width)
    }

    /// Whether it takes exactly the bits of `other`.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        (self.bit, self.width) == (other.bit, other.width)
    }
}

/// A struct, union or enumeration.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Record {
    /// Bytes of an instance.
    pub size: u64,
    /// Its members, in the order of its definition; none for an enumeration.
    pub members: Vec<Member>,
    /// Named types that lie inside it.
    pub embeds: BTreeSet<String>,
}

impl Record {
    /// Whether the members are the same but for where they lie and how long they are.
    pub(super) fn same_members(&self, other: &Self) -> bool {
        let key = |member: &Member| {
            (
                member.name.clone(),
                member.text.clone(),
                member.shape,
                member.is_bit_field,
            )
        };
        self.members
            .iter()
            .map(key)
            .eq(other.members.iter().map(key))
    }
}

/// A constant of an enumeration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Constant {
    /// Its value; several where functions have a constant of this name each.
    pub values: BTreeSet<i128>,
    /// The enumeration.
    pub of: String,
}

/// The types of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Types {
    /// By name; several where functions have a type of this name each.
    pub records: BTreeMap<String, BTreeSet<Record>>,
    /// By name.
    pub constants: BTreeMap<String, Constant>,
    /// What functions that other units may know take and give, by name.
    pub prototypes: BTreeMap<String, Prototype>,
}

/// What a function takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prototype {
    /// In C's words.
    pub text: String,
    /// The same with what unnamed types hold; see [`Reader::shape`].
    pub shape: u64,
}

/// Describes every named type that is complete.
pub(super) fn collect(reader: &mut Reader<'_, '_>) -> Result<Types, LayoutError> {
    let entries = reader.entries;
    let mut types = Types::default();
    for (index, entry) in entries.all() {
        if entry.tag == dw::DW_TAG_enumeration_type {
            reader.constants(entry, &mut types)?;
        }
        if entry.tag == dw::DW_TAG_subprogram {
            if let Some(name) = entry.name.filter(|_| entry.external && !entry.declaration)
                && let Some((result, parameters)) = reader.function(Some(index), DEPTH)?
            {
                let text = format!("{result} ({parameters})");
                reader.keep(name.len().saturating_add(text.len()))?;
                let shape = reader.shape(Some(index), DEPTH)?;
                let prototype = Prototype { text, shape };
                types.prototypes.insert(name.to_owned(), prototype);
            }
            continue;
        }
        let described = match entry.tag {
            dw::DW_TAG_typedef => entries
                .target(entry)?
                .filter(|&target| names_a_record(entries, Some(target))),
            _ if is_record(entry) && entry.name.is_some() => Some(index),
            _ => None,
        };
        let Some(target) = described else { continue };
        let Some(name) = key(entry) else { continue };
        let Some(body) = entries.get(target).filter(|body| !body.declaration) else {
            continue;
        };
        let record = reader.record(target, body)?;
        types.records.entry(name).or_default().insert(record);
    }
    Ok(types)
}

pub(super) fn is_record(entry: &Entry<'_>) -> bool {
    matches!(
        entry.tag,
        dw::DW_TAG_structure_type | dw::DW_TAG_union_type | dw::DW_TAG_enumeration_type
    )
}

/// Describes types, and remembers those it described.
pub(super) struct Reader<'run, 'data> {
    pub entries: &'run Entries<'data>,
    texts: BTreeMap<usize, String>,
    shapes: BTreeMap<usize, u64>,
    members_left: usize,
    bytes_left: usize,
}

impl<'run, 'data> Reader<'run, 'data> {
    pub(super) fn new(entries: &'run Entries<'data>) -> Self {
        Self {
            entries,
            texts: BTreeMap::new(),
            shapes: BTreeMap::new(),
            members_left: MEMBER_LIMIT,
            bytes_left: KEPT_LIMIT,
        }
    }

    /// Describes one struct, union or enumeration, named or not.
    pub(super) fn record(&mut self, index: usize, body: &Entry<'_>) -> Result<Record, LayoutError> {
        let mut record = Record {
            size: body.size.unwrap_or(0),
            ..Record::default()
        };
        self.members(index, 0, "", &mut record, DEPTH)?;
        Ok(record)
    }

    /// Counts what a hostile file could make grow without end.
    fn keep(&mut self, bytes: usize) -> Result<(), LayoutError> {
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.ok_or(LayoutError::TooLarge("256 MiB of names"))?;
        Ok(())
    }

    fn constants(&mut self, entry: &Entry<'_>, types: &mut Types) -> Result<(), LayoutError> {
        let entries = self.entries;
        let children = || {
            entry
                .children
                .iter()
                .filter_map(|&child| entries.get(child))
        };
        let first = children().find_map(|child| child.name).unwrap_or_default();
        let of = match entry.name {
            Some(name) => format!("enum {name}"),
            None => format!("enum {{ {first}, … }}"),
        };
        for child in children() {
            if let (Some(name), Some(value)) = (child.name, child.value) {
                self.keep(name.len().saturating_add(of.len()))?;
                let constant = types.constants.entry(name.to_owned()).or_default();
                constant.values.insert(value);
                constant.of.clone_from(&of);
            }
        }
        Ok(())
    }

    fn members(
        &mut self,
        record: usize,
        start: u64,
        prefix: &str,
        into: &mut Record,
        depth: u32,
    ) -> Result<(), LayoutError> {
        let entries = self.entries;
        let Some(entry) = entries.get(record) else {
            return Ok(());
        };
        let Some(deeper) = depth.checked_sub(1) else {
            return Err(LayoutError::TooLarge("types nested 64 deep"));
        };
        let children = entry
            .children
            .iter()
            .filter_map(|&child| entries.get(child));
        for child in children.filter(|child| child.tag == dw::DW_TAG_member) {
            self.count_member()?;
            let target = entries.target(child)?;
            let bytes = self.size(target, DEPTH)?;
            let bit = start.saturating_add(first_bit(child, bytes));
            let (body, by_value) = self.held(target, DEPTH)?;
            into.embeds.extend(by_value);
            let nested = match child.name {
                None => prefix.to_owned(),
                Some(name) => {
                    let text = self.text(target, DEPTH)?;
                    let name = format!("{prefix}{name}");
                    self.keep(name.len().saturating_add(text.len()))?;
                    let nested = format!("{name}.");
                    // The members of an unnamed type inside are told one by one.
                    let shape = match body {
                        Some(_) => 0,
                        None => self.shape(target, DEPTH)?,
                    };
                    into.members.push(Member {
                        name,
                        bit,
                        width: child.bits.unwrap_or_else(|| bytes.saturating_mul(8)),
                        is_bit_field: child.bits.is_some(),
                        text,
                        shape,
                    });
                    nested
                }
            };
            if let Some(body) = body {
                self.members(body, bit, &nested, into, deeper)?;
            }
        }
        Ok(())
    }

    fn count_member(&mut self) -> Result<(), LayoutError> {
        let left = self.members_left.checked_sub(1);
        self.members_left = left.ok_or(LayoutError::TooLarge("four million members"))?;
        Ok(())
    }

    /// A number that is equal for equal types, whatever unnamed types they refer to; a type with a
    /// name counts by it. Equal within one run of one program.
    fn shape(&mut self, target: Option<usize>, depth: u32) -> Result<u64, LayoutError> {
        let entries = self.entries;
        let mut hasher = DefaultHasher::new();
        let Some((index, entry)) = target.and_then(|index| Some((index, entries.get(index)?)))
        else {
            return Ok(hasher.finish());
        };
        if let Some(&shape) = self.shapes.get(&index) {
            return Ok(shape);
        }
        let deeper = depth
            .checked_sub(1)
            .ok_or(LayoutError::TooLarge("types chained 64 deep"))?;
        let next = entries.target(entry)?;
        let shape = match entry.tag {
            _ if is_record(entry) => {
                match key(entry) {
                    Some(key) => key.hash(&mut hasher),
                    None => self.unnamed(entry, &mut hasher, deeper)?,
                }
                hasher.finish()
            }
            dw::DW_TAG_typedef if names_a_record(entries, next) => {
                key(entry).hash(&mut hasher);
                hasher.finish()
            }
            dw::DW_TAG_typedef
            | dw::DW_TAG_const_type
            | dw::DW_TAG_volatile_type
            | dw::DW_TAG_restrict_type
            | dw::DW_TAG_atomic_type => self.shape(next, deeper)?,
            dw::DW_TAG_base_type => {
                basic(entry).hash(&mut hasher);
                hasher.finish()
            }
            tag => {
                tag.0.hash(&mut hasher);
                self.shape(next, deeper)?.hash(&mut hasher);
                for count in counts(entries, entry) {
                    count.hash(&mut hasher);
                }
                for &child in &entry.children {
                    let Some(child) = entries.get(child) else {
                        continue;
                    };
                    if child.tag == dw::DW_TAG_formal_parameter {
                        self.count_member()?;
                        self.shape(entries.target(child)?, deeper)?
                            .hash(&mut hasher);
                    } else if child.tag == dw::DW_TAG_unspecified_parameters {
                        "...".hash(&mut hasher);
                    }
                }
                hasher.finish()
            }
        };
        self.shapes.insert(index, shape);
        Ok(shape)
    }

    fn unnamed(
        &mut self,
        entry: &Entry<'_>,
        hasher: &mut DefaultHasher,
        depth: u32,
    ) -> Result<(), LayoutError> {
        let entries = self.entries;
        (entry.tag.0, entry.size).hash(hasher);
        // Constants are compared by name, and a new one is no change.
        for &child in &entry.children {
            let Some(child) = entries.get(child) else {
                continue;
            };
            if child.tag == dw::DW_TAG_member {
                self.count_member()?;
                let target = entries.target(child)?;
                let bytes = self.size(target, DEPTH)?;
                (child.name, first_bit(child, bytes), child.bits).hash(hasher);
                self.shape(target, depth)?.hash(hasher);
            }
        }
        Ok(())
    }

    /// What a member of this type holds by value: an unnamed type to look into, or a named one.
    fn held(
        &self,
        target: Option<usize>,
        depth: u32,
    ) -> Result<(Option<usize>, Option<String>), LayoutError> {
        let entries = self.entries;
        let Some((index, entry)) = target.and_then(|index| Some((index, entries.get(index)?)))
        else {
            return Ok((None, None));
        };
        let deeper = depth
            .checked_sub(1)
            .ok_or(LayoutError::TooLarge("types chained 64 deep"))?;
        match entry.tag {
            _ if is_record(entry) => match key(entry) {
                Some(key) => Ok((None, Some(key))),
                None => Ok((Some(index), None)),
            },
            dw::DW_TAG_typedef => match self.held(entries.target(entry)?, deeper)? {
                (Some(_), _) => Ok((None, key(entry))),
                named => Ok(named),
            },
            dw::DW_TAG_array_type
            | dw::DW_TAG_const_type
            | dw::DW_TAG_volatile_type
            | dw::DW_TAG_restrict_type
            | dw::DW_TAG_atomic_type => self.held(entries.target(entry)?, deeper),
            _ => Ok((None, None)),
        }
    }

    pub(super) fn size(&self, target: Option<usize>, depth: u32) -> Result<u64, LayoutError> {
        let entries = self.entries;
        let Some(entry) = target.and_then(|index| entries.get(index)) else {
            return Ok(0);
        };
        let deeper = depth
            .checked_sub(1)
            .ok_or(LayoutError::TooLarge("types chained 64 deep"))?;
        if let Some(size) = entry.size {
            return Ok(size);
        }
        Ok(match entry.tag {
            dw::DW_TAG_pointer_type => 8,
            dw::DW_TAG_array_type => {
                let element = self.size(entries.target(entry)?, deeper)?;
                counts(entries, entry).fold(element, |size, count| {
                    size.saturating_mul(count.unwrap_or(0))
                })
            }
            dw::DW_TAG_typedef
            | dw::DW_TAG_const_type
            | dw::DW_TAG_volatile_type
            | dw::DW_TAG_restrict_type
            | dw::DW_TAG_atomic_type => self.size(entries.target(entry)?, deeper)?,
            _ => 0,
        })
    }

    /// The type in C's words, but for typedefs and qualifiers, which change no byte.
    pub(super) fn text(
        &mut self,
        target: Option<usize>,
        depth: u32,
    ) -> Result<String, LayoutError> {
        let entries = self.entries;
        let Some((index, entry)) = target.and_then(|index| Some((index, entries.get(index)?)))
        else {
            return Ok("void".to_owned());
        };
        if let Some(text) = self.texts.get(&index) {
            return Ok(text.clone());
        }
        let deeper = depth
            .checked_sub(1)
            .ok_or(LayoutError::TooLarge("types chained 64 deep"))?;
        let mut text = match entry.tag {
            dw::DW_TAG_base_type => basic(entry),
            dw::DW_TAG_structure_type | dw::DW_TAG_union_type | dw::DW_TAG_enumeration_type => {
                let kind = match entry.tag {
                    dw::DW_TAG_structure_type => "struct { … }",
                    dw::DW_TAG_union_type => "union { … }",
                    _ => "enum { … }",
                };
                key(entry).unwrap_or_else(|| kind.to_owned())
            }
            dw::DW_TAG_pointer_type => {
                let to = entries.target(entry)?;
                match self.function(to, deeper)? {
                    Some((result, parameters)) => format!("{result} (*)({parameters})"),
                    None => format!("{} *", self.text(to, deeper)?),
                }
            }
            dw::DW_TAG_typedef => {
                let target = entries.target(entry)?;
                let unnamed = names_a_record(entries, target);
                match key(entry) {
                    Some(key) if unnamed => key,
                    _ => self.text(target, deeper)?,
                }
            }
            dw::DW_TAG_array_type => {
                let mut text = self.text(entries.target(entry)?, deeper)?;
                for count in counts(entries, entry) {
                    let count = count.map_or_else(String::new, |count| count.to_string());
                    text.extend(["[", &count, "]"]);
                }
                text
            }
            dw::DW_TAG_subroutine_type => match self.function(Some(index), deeper)? {
                Some((result, parameters)) => format!("{result} ({parameters})"),
                None => "void ()".to_owned(),
            },
            dw::DW_TAG_const_type
            | dw::DW_TAG_volatile_type
            | dw::DW_TAG_restrict_type
            | dw::DW_TAG_atomic_type => self.text(entries.target(entry)?, deeper)?,
            _ => "void".to_owned(),
        };
        if let Some((cut, _)) = text.char_indices().nth(TEXT_LIMIT) {
            text.truncate(cut);
        }
        self.keep(text.len())?;
        self.texts.insert(index, text.clone());
        Ok(text)
    }

    /// Result and parameters, where `target` is a function.
    fn function(
        &mut self,
        target: Option<usize>,
        depth: u32,
    ) -> Result<Option<(String, String)>, LayoutError> {
        let entries = self.entries;
        let Some(entry) = target.and_then(|index| entries.get(index)) else {
            return Ok(None);
        };
        if !matches!(
            entry.tag,
            dw::DW_TAG_subroutine_type | dw::DW_TAG_subprogram
        ) {
            return Ok(None);
        }
        let deeper = depth
            .checked_sub(1)
            .ok_or(LayoutError::TooLarge("types chained 64 deep"))?;
        let result = self.text(entries.target(entry)?, deeper)?;
        let mut parameters = Vec::new();
        let mut length = 0;
        for child in entry
            .children
            .iter()
            .filter_map(|&child| entries.get(child))
        {
            let parameter = match child.tag {
                dw::DW_TAG_formal_parameter => self.text(entries.target(child)?, deeper)?,
                dw::DW_TAG_unspecified_parameters => "...".to_owned(),
                _ => continue,
            };
            length += parameter.len();
            parameters.push(parameter);
            if length > TEXT_LIMIT {
                break;
            }
        }
        Ok(Some((result, parameters.join(", "))))
    }
}

/// Whether a typedef of `target` is the only name that type has.
pub(super) fn names_a_record(entries: &Entries<'_>, target: Option<usize>) -> bool {
    target
        .and_then(|target| entries.get(target))
        .is_some_and(|target| is_record(target) && target.name.is_none())
}

/// Offset of a member from the start of its type, in bits; `bytes` is the size of what it holds.
pub(super) fn first_bit(member: &Entry<'_>, bytes: u64) -> u64 {
    match (member.bit_at, member.old_bit_at, member.bits) {
        (Some(bits), ..) => bits,
        (None, Some(from_top), Some(bits)) => {
            let unit = member.size.unwrap_or(bytes).saturating_mul(8);
            let at = member.at.unwrap_or(0).saturating_mul(8);
            at.saturating_add(unit)
                .saturating_sub(from_top)
                .saturating_sub(bits)
        }
        (None, ..) => member.at.unwrap_or(0).saturating_mul(8),
    }
}

/// The name under which a type is compared.
pub(super) fn key(entry: &Entry<'_>) -> Option<String> {
    let name = entry.name?;
    Some(match entry.tag {
        dw::DW_TAG_structure_type => format!("struct {name}"),
        dw::DW_TAG_union_type => format!("union {name}"),
        dw::DW_TAG_enumeration_type => format!("enum {name}"),
        _ => name.to_owned(),
    })
}

pub(super) fn counts<'run>(
    entries: &'run Entries<'_>,
    entry: &'run Entry<'_>,
) -> impl Iterator<Item = Option<u64>> + use<'run> {
    let children = entry
        .children
        .iter()
        .filter_map(|&child| entries.get(child));
    children
        .filter(|child| child.tag == dw::DW_TAG_subrange_type)
        .map(|child| child.count)
}

/// Names a basic type as the kernel does: `long` and `long long` are the same bytes.
pub(super) fn basic(entry: &Entry<'_>) -> String {
    let bits = entry.size.unwrap_or(0).saturating_mul(8);
    match entry.encoding.map(gimli::DwAte) {
        Some(dw::DW_ATE_boolean) => "bool".to_owned(),
        Some(dw::DW_ATE_signed) => format!("s{bits}"),
        Some(dw::DW_ATE_unsigned | dw::DW_ATE_unsigned_char) => format!("u{bits}"),
        Some(dw::DW_ATE_signed_char) if bits == 8 => "char".to_owned(),
        _ => format!("{} of {bits} bits", entry.name.unwrap_or("number")),
    }
}
