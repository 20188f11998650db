//! The entries of a unit's debug data that describe types, variables and functions.
//!
//! A relocatable object's debug sections still want their relocations: every name in `.debug_info` is
//! an offset that the linker would fill in.

use std::borrow::Cow;
use std::io::Read as _;

use gimli::{
    AttributeValue, DebugAbbrev, DebugInfo, DebugLineStr, DebugStr, DwTag, EndianSlice,
    LittleEndian, constants as dw,
};
use object::elf;

use super::LayoutError;
use crate::elf::{ElfFile, FileKind, MalformedObject, NAME_LIMIT, Section};

/// Largest debug section that is read, in bytes; a kernel unit's is a few megabytes.
const SECTION_LIMIT: u64 = 1 << 28;
/// Most entries that are kept.
const ENTRY_LIMIT: usize = 1 << 22;

/// The debug sections, unpacked and with their relocations applied.
pub(super) struct Sections<'data> {
    info: Cow<'data, [u8]>,
    abbrev: Cow<'data, [u8]>,
    strings: Cow<'data, [u8]>,
    line_strings: Cow<'data, [u8]>,
}

impl<'data> Sections<'data> {
    pub(super) fn unpack(file: &ElfFile<'data>) -> Result<Self, LayoutError> {
        let load = |name| match file.section_named(name) {
            Some(section) => load(file, section),
            None => Ok(Cow::Borrowed(&[][..])),
        };
        let sections = Self {
            info: load(".debug_info")?,
            abbrev: load(".debug_abbrev")?,
            strings: load(".debug_str")?,
            line_strings: load(".debug_line_str")?,
        };
        if sections.info.is_empty() {
            return Err(LayoutError::Missing);
        }
        Ok(sections)
    }
}

fn load<'data>(
    file: &ElfFile<'data>,
    section: &Section<'data>,
) -> Result<Cow<'data, [u8]>, LayoutError> {
    let mut bytes = if section.flags & elf::SHF_COMPRESSED.0 == 0 {
        Cow::Borrowed(section.data)
    } else {
        Cow::Owned(inflate(section)?)
    };
    if file.kind == FileKind::Relocatable {
        for table in file.relocation_sections(section.index) {
            relocate(file, section, table, bytes.to_mut())?;
        }
    }
    Ok(bytes)
}

/// Unpacks an `SHF_COMPRESSED` section: `Elf64_Chdr`, then a zlib stream.
fn inflate(section: &Section<'_>) -> Result<Vec<u8>, LayoutError> {
    let damaged = || LayoutError::Packed(section.name.to_owned());
    let field = |at, width| section.bytes(at, width).ok_or_else(damaged);
    let kind = u32::from_le_bytes(field(0, 4)?.try_into().map_err(|_| damaged())?);
    let size = u64::from_le_bytes(field(8, 8)?.try_into().map_err(|_| damaged())?);
    if kind != elf::ELFCOMPRESS_ZLIB.0 {
        return Err(LayoutError::Unsupported("a compression other than zlib"));
    }
    if size > SECTION_LIMIT {
        return Err(LayoutError::TooLarge("256 MiB in a section"));
    }
    let packed = section.data.get(24..).ok_or_else(damaged)?;
    let mut bytes = Vec::new();
    flate2::read::ZlibDecoder::new(packed)
        .take(size.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|_| damaged())?;
    if bytes.len() as u64 == size {
        Ok(bytes)
    } else {
        Err(damaged())
    }
}

fn relocate(
    file: &ElfFile<'_>,
    section: &Section<'_>,
    table: &Section<'_>,
    bytes: &mut [u8],
) -> Result<(), LayoutError> {
    for relocation in file.relocations(table)? {
        let width = match relocation.kind {
            0 => continue,
            // R_X86_64_64
            1 => 8,
            // R_X86_64_32, R_X86_64_32S
            10 | 11 => 4,
            _ => return Err(LayoutError::Unsupported("an unknown relocation")),
        };
        let value = file
            .symbol(relocation.symbol)
            .map_or(0, |symbol| symbol.value)
            .wrapping_add_signed(relocation.addend);
        let bound = bytes.len() as u64;
        let place = usize::try_from(relocation.offset)
            .ok()
            .and_then(|start| bytes.get_mut(start..)?.get_mut(..width))
            .ok_or_else(|| MalformedObject::Bounds {
                place: section.name.to_owned(),
                what: "relocation",
                offset: relocation.offset,
                bound,
            })?;
        place.copy_from_slice(value.to_le_bytes().get(..width).unwrap_or_default());
    }
    Ok(())
}

/// One entry about a type, a variable or a function.
#[derive(Clone, Debug)]
pub(super) struct Entry<'data> {
    /// What it describes.
    pub tag: DwTag,
    /// Its name.
    pub name: Option<&'data str>,
    /// The entries inside it.
    pub children: Vec<usize>,
    /// The type it refers to, as an offset; see [`Entries::target`].
    pub refers: Option<u64>,
    /// Bytes of an instance.
    pub size: Option<u64>,
    /// Offset of a member, in bytes.
    pub at: Option<u64>,
    /// Offset of a bit-field from the start of its type, in bits.
    pub bit_at: Option<u64>,
    /// Offset of a bit-field from the most significant bit of its storage unit, as DWARF 2 counts.
    pub old_bit_at: Option<u64>,
    /// Bits of a bit-field.
    pub bits: Option<u64>,
    /// Elements of an array.
    pub count: Option<u64>,
    /// Value of a constant.
    pub value: Option<i128>,
    /// How the bytes of a basic type are to be understood.
    pub encoding: Option<u8>,
    /// Whether it only says that there is such a type.
    pub declaration: bool,
    /// Whether other units may know it.
    pub external: bool,
    /// Whether it has an address of its own, as a variable that outlives calls has.
    pub in_memory: bool,
    /// The entry that it completes, or is a copy of, as an offset; see [`Entries::of`].
    pub of: Option<u64>,
}

/// All entries about types, variables and functions, in file order.
#[derive(Debug, Default)]
pub(super) struct Entries<'data> {
    all: Vec<Entry<'data>>,
    offsets: Vec<u64>,
}

impl<'data> Entries<'data> {
    pub(super) fn get(&self, index: usize) -> Option<&Entry<'data>> {
        self.all.get(index)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (usize, &Entry<'data>)> {
        self.all.iter().enumerate()
    }

    /// The entry that this one completes, or is a copy of, where it is one that is kept.
    pub(super) fn of(&self, entry: &Entry<'_>) -> Option<usize> {
        self.offsets.binary_search(&entry.of?).ok()
    }

    /// The type that an entry refers to; `None` stands for `void`.
    pub(super) fn target(&self, entry: &Entry<'_>) -> Result<Option<usize>, LayoutError> {
        let Some(offset) = entry.refers else {
            return Ok(None);
        };
        match self.offsets.binary_search(&offset) {
            Ok(index) => Ok(Some(index)),
            Err(_) => Err(LayoutError::Unsupported(
                "a reference to something that is no type",
            )),
        }
    }
}

type Input<'data> = EndianSlice<'data, LittleEndian>;

/// Reads every entry about a type, a variable or a function.
pub(super) fn entries<'data>(sections: &'data Sections<'_>) -> Result<Entries<'data>, LayoutError> {
    let info = DebugInfo::new(&sections.info, LittleEndian);
    let abbrev = DebugAbbrev::new(&sections.abbrev, LittleEndian);
    let strings = Strings {
        plain: DebugStr::new(&sections.strings, LittleEndian),
        line: DebugLineStr::from(EndianSlice::new(&sections.line_strings, LittleEndian)),
    };
    let mut found = Entries::default();
    let mut units = info.units();
    while let Some(header) = units.next()? {
        match header.type_() {
            gimli::UnitType::Compilation => {}
            gimli::UnitType::Skeleton(_) | gimli::UnitType::SplitCompilation(_) => {
                return Err(LayoutError::Unsupported("types in another file"));
            }
            gimli::UnitType::Type { .. }
            | gimli::UnitType::Partial
            | gimli::UnitType::SplitType { .. } => {
                return Err(LayoutError::Unsupported("shared units"));
            }
        }
        let base = header
            .offset()
            .to_debug_info_offset(&header)
            .ok_or(LayoutError::Unsupported("shared units"))?
            .0 as u64;
        let abbreviations = header.abbreviations(&abbrev)?;
        let mut raw = header.entries_raw(&abbreviations, None)?;
        let mut above: Vec<Option<usize>> = Vec::new();
        while !raw.is_empty() {
            let depth = usize::try_from(raw.next_depth()).unwrap_or(0);
            let offset = base.saturating_add(raw.next_offset().0 as u64);
            let Some(kind) = raw.read_abbreviation()? else {
                continue;
            };
            above.truncate(depth);
            let parent = above.last().copied().flatten();
            let wanted = is_wanted(kind.tag(), parent.and_then(|parent| found.all.get(parent)));
            if !wanted {
                raw.skip_attributes(kind.attributes())?;
                above.resize(depth, None);
                above.push(None);
                continue;
            }
            let mut entry = blank(kind.tag());
            for &attribute in kind.attributes() {
                let attribute = raw.read_attribute(attribute)?;
                fill(
                    &mut entry,
                    attribute.name(),
                    attribute.value(),
                    base,
                    &strings,
                )?;
            }
            let index = found.all.len();
            if index >= ENTRY_LIMIT {
                return Err(LayoutError::TooLarge("four million entries"));
            }
            if let Some(parent) = parent.and_then(|parent| found.all.get_mut(parent)) {
                parent.children.push(index);
            }
            found.all.push(entry);
            found.offsets.push(offset);
            above.resize(depth, None);
            above.push(Some(index));
        }
    }
    Ok(found)
}

struct Strings<'data> {
    plain: DebugStr<Input<'data>>,
    line: DebugLineStr<Input<'data>>,
}

fn blank<'data>(tag: DwTag) -> Entry<'data> {
    Entry {
        tag,
        name: None,
        children: Vec::new(),
        refers: None,
        size: None,
        at: None,
        bit_at: None,
        old_bit_at: None,
        bits: None,
        count: None,
        value: None,
        encoding: None,
        declaration: false,
        external: false,
        in_memory: false,
        of: None,
    }
}

fn is_wanted(tag: DwTag, parent: Option<&Entry<'_>>) -> bool {
    match tag {
        dw::DW_TAG_base_type
        | dw::DW_TAG_pointer_type
        | dw::DW_TAG_structure_type
        | dw::DW_TAG_union_type
        | dw::DW_TAG_enumeration_type
        | dw::DW_TAG_typedef
        | dw::DW_TAG_array_type
        | dw::DW_TAG_const_type
        | dw::DW_TAG_volatile_type
        | dw::DW_TAG_restrict_type
        | dw::DW_TAG_atomic_type
        | dw::DW_TAG_subroutine_type
        | dw::DW_TAG_unspecified_type
        // Also in inlined copies: a static variable's address may be told there alone.
        | dw::DW_TAG_variable => true,
        // Not those inside of other functions or blocks.
        dw::DW_TAG_subprogram => parent.is_none(),
        dw::DW_TAG_lexical_block => parent.is_some_and(|parent| {
            matches!(parent.tag, dw::DW_TAG_subprogram | dw::DW_TAG_lexical_block)
        }),
        // Of these only the ones inside types and functions: an inlined copy has parameters, too.
        dw::DW_TAG_member
        | dw::DW_TAG_enumerator
        | dw::DW_TAG_subrange_type
        | dw::DW_TAG_formal_parameter
        | dw::DW_TAG_unspecified_parameters => parent.is_some(),
        _ => false,
    }
}

fn fill<'data>(
    entry: &mut Entry<'data>,
    name: gimli::DwAt,
    value: AttributeValue<Input<'data>>,
    base: u64,
    strings: &Strings<'data>,
) -> Result<(), LayoutError> {
    match name {
        dw::DW_AT_name => entry.name = Some(text(value, strings)?),
        dw::DW_AT_type => {
            entry.refers = Some(match value {
                AttributeValue::UnitRef(offset) => base.saturating_add(offset.0 as u64),
                AttributeValue::DebugInfoRef(offset) => offset.0 as u64,
                _ => return Err(LayoutError::Unsupported("shared units")),
            });
        }
        dw::DW_AT_byte_size => entry.size = value.udata_value(),
        dw::DW_AT_data_member_location => {
            let at = value.udata_value();
            entry.at = Some(at.ok_or(LayoutError::Unsupported("a computed member offset"))?);
        }
        dw::DW_AT_data_bit_offset => entry.bit_at = value.udata_value(),
        dw::DW_AT_bit_offset => entry.old_bit_at = value.udata_value(),
        dw::DW_AT_bit_size => entry.bits = value.udata_value(),
        dw::DW_AT_count => entry.count = value.udata_value(),
        // gcc writes the upper bound of `[0]` as -1, and none for `[]`.
        dw::DW_AT_upper_bound => {
            entry.count = match value.sdata_value() {
                Some(-1) => Some(0),
                _ => value.udata_value().and_then(|last| last.checked_add(1)),
            };
        }
        dw::DW_AT_const_value => {
            entry.value = match value {
                AttributeValue::Sdata(value) => Some(i128::from(value)),
                other => other.udata_value().map(i128::from),
            };
        }
        dw::DW_AT_encoding => {
            entry.encoding = match value {
                AttributeValue::Encoding(encoding) => Some(encoding.0),
                other => other
                    .udata_value()
                    .and_then(|value| u8::try_from(value).ok()),
            };
        }
        dw::DW_AT_declaration => entry.declaration = value == AttributeValue::Flag(true),
        dw::DW_AT_external => entry.external = value == AttributeValue::Flag(true),
        dw::DW_AT_location => {
            entry.in_memory = match value {
                AttributeValue::Exprloc(words) => words.0.first() == Some(&dw::DW_OP_addr.0),
                AttributeValue::Block(words) => words.first() == Some(&dw::DW_OP_addr.0),
                _ => false,
            };
        }
        dw::DW_AT_specification | dw::DW_AT_abstract_origin => {
            entry.of = match value {
                AttributeValue::UnitRef(offset) => Some(base.saturating_add(offset.0 as u64)),
                AttributeValue::DebugInfoRef(offset) => Some(offset.0 as u64),
                _ => return Err(LayoutError::Unsupported("shared units")),
            };
        }
        _ => {}
    }
    Ok(())
}

fn text<'data>(
    value: AttributeValue<Input<'data>>,
    strings: &Strings<'data>,
) -> Result<&'data str, LayoutError> {
    let bytes = match value {
        AttributeValue::String(bytes) => bytes,
        AttributeValue::DebugStrRef(offset) => strings.plain.get_str(offset)?,
        AttributeValue::DebugLineStrRef(offset) => strings.line.get_str(offset)?,
        _ => return Err(LayoutError::Unsupported("names in another file")),
    };
    if bytes.len() > NAME_LIMIT {
        return Err(LayoutError::TooLarge("4096 bytes in a name"));
    }
    str::from_utf8(bytes.slice()).map_err(|_| LayoutError::Unsupported("a name that is not UTF-8"))
}
