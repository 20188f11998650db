//! The functions that a unit left in an object: with a body of their own, or as inlined copies.

use std::collections::{BTreeSet, HashMap};

use gimli::{AttributeValue, Reader as _};
use tuxtape_core::profile::functions::UnitFunctions;

use super::{DwarfError, Input};

/// Longest way from a function without a name to the entry that names it.
const LONGEST_WAY: usize = 8;

type Unit<'a> = gimli::Unit<Input<'a>>;
type Offset = gimli::UnitOffset<usize>;

/// Lists the functions of `unit`; `None` where its language has no C functions or where one of its
/// functions could not be named, as with code that was optimised across units.
pub(super) fn of(
    dwarf: &gimli::Dwarf<Input<'_>>,
    unit: &Unit<'_>,
) -> Result<Option<UnitFunctions>, DwarfError> {
    let mut entries = unit.entries_raw(None)?;
    let mut found = Found::default();
    while !entries.is_empty() {
        let offset = entries.next_offset();
        let Some(entry) = entries.read_abbreviation()? else {
            continue;
        };
        match entry.tag() {
            gimli::DW_TAG_compile_unit => {
                let mut language = None;
                for specification in entry.attributes() {
                    let attribute = entries.read_attribute(*specification)?;
                    if let AttributeValue::Language(value) = attribute.value() {
                        language = Some(value);
                    }
                }
                if !language.is_some_and(is_c) {
                    return Ok(None);
                }
            }
            gimli::DW_TAG_subprogram => {
                let mut function = Function::default();
                for specification in entry.attributes() {
                    let attribute = entries.read_attribute(*specification)?;
                    function.note(&attribute);
                }
                found.note(offset, function);
            }
            gimli::DW_TAG_inlined_subroutine => {
                let mut function = Function::default();
                for specification in entry.attributes() {
                    let attribute = entries.read_attribute(*specification)?;
                    function.note(&attribute);
                }
                match function.origin {
                    Some(origin) => found.inlined.push(origin),
                    None => return Ok(None),
                }
            }
            tag if entry.has_children() && is_type(tag) => {
                let mut sibling = None;
                for specification in entry.attributes() {
                    let attribute = entries.read_attribute(*specification)?;
                    if let (gimli::DW_AT_sibling, AttributeValue::UnitRef(next)) =
                        (attribute.name(), attribute.value())
                    {
                        sibling = Some(next);
                    }
                }
                // Only forwards, so that the walk ends.
                if let Some(next) = sibling.filter(|next| *next >= entries.next_offset()) {
                    entries = unit.entries_raw(Some(next))?;
                }
            }
            _ => entries.skip_attributes(entry.attributes())?,
        }
    }
    found.named(dwarf, unit)
}

fn is_c(language: gimli::DwLang) -> bool {
    matches!(
        language,
        gimli::DW_LANG_C
            | gimli::DW_LANG_C89
            | gimli::DW_LANG_C99
            | gimli::DW_LANG_C11
            | gimli::DW_LANG_C17
    )
}

/// Tells whether an entry's children are members or parameters: no code lies below.
fn is_type(tag: gimli::DwTag) -> bool {
    matches!(
        tag,
        gimli::DW_TAG_structure_type
            | gimli::DW_TAG_union_type
            | gimli::DW_TAG_enumeration_type
            | gimli::DW_TAG_array_type
            | gimli::DW_TAG_subroutine_type
    )
}

/// What one entry says of a function.
#[derive(Default)]
struct Function<'a> {
    name: Option<AttributeValue<Input<'a>>>,
    origin: Option<Offset>,
    elsewhere: bool,
    body: bool,
    declared: bool,
    inline: bool,
    inlined: bool,
}

impl<'a> Function<'a> {
    fn note(&mut self, attribute: &gimli::Attribute<Input<'a>>) {
        match (attribute.name(), attribute.value()) {
            (gimli::DW_AT_name, value) => self.name = Some(value),
            (gimli::DW_AT_low_pc | gimli::DW_AT_ranges, _) => self.body = true,
            (gimli::DW_AT_declaration, _) => self.declared = true,
            (gimli::DW_AT_inline, AttributeValue::Inline(how)) => {
                self.inline = true;
                self.inlined =
                    matches!(how, gimli::DW_INL_inlined | gimli::DW_INL_declared_inlined);
            }
            (
                gimli::DW_AT_abstract_origin | gimli::DW_AT_specification,
                AttributeValue::UnitRef(origin),
            ) => self.origin = Some(origin),
            (gimli::DW_AT_abstract_origin | gimli::DW_AT_specification, _) => self.elsewhere = true,
            _ => {}
        }
    }
}

#[derive(Default)]
struct Found<'a> {
    names: HashMap<Offset, AttributeValue<Input<'a>>>,
    origins: HashMap<Offset, Offset>,
    own: Vec<Offset>,
    inlined: Vec<Offset>,
    elsewhere: bool,
}

impl<'a> Found<'a> {
    fn note(&mut self, offset: Offset, function: Function<'a>) {
        if let Some(name) = function.name {
            self.names.insert(offset, name);
        } else if let Some(origin) = function.origin {
            self.origins.insert(offset, origin);
        }
        if function.body {
            self.own.push(offset);
            self.elsewhere |= function.elsewhere;
        }
        // One that is neither declared nor inlined and has no place of its own is dead, or was found
        // equal to another by the compiler and lives in that one's body: debug data do not tell which.
        let folded = !function.body && !function.declared && !function.inline;
        // An abstract instance stands for copies; those whose code was merged away lose their own
        // entries.
        if function.inlined || folded {
            self.inlined.push(offset);
        }
    }

    fn named(
        self,
        dwarf: &gimli::Dwarf<Input<'a>>,
        unit: &Unit<'a>,
    ) -> Result<Option<UnitFunctions>, DwarfError> {
        if self.elsewhere {
            return Ok(None);
        }
        let resolve = |offsets: &[Offset]| -> Result<Option<BTreeSet<String>>, DwarfError> {
            let distinct: std::collections::HashSet<Offset> = offsets.iter().copied().collect();
            let mut names = BTreeSet::new();
            for offset in distinct {
                let Some(value) = self.name_of(offset) else {
                    return Ok(None);
                };
                let text = dwarf.attr_string(unit, value.clone())?;
                let text = text.to_string_lossy()?;
                names.insert(plain(&text).to_owned());
            }
            Ok(Some(names))
        };
        Ok(match (resolve(&self.own)?, resolve(&self.inlined)?) {
            (Some(own), Some(inlined)) => Some(UnitFunctions { own, inlined }),
            (None, _) | (_, None) => None,
        })
    }

    fn name_of(&self, mut offset: Offset) -> Option<&AttributeValue<Input<'a>>> {
        for _ in 0..LONGEST_WAY {
            if let Some(name) = self.names.get(&offset) {
                return Some(name);
            }
            offset = *self.origins.get(&offset)?;
        }
        None
    }
}

/// Cuts what the compiler added: `f.isra.0`, `f.part.0`, `f.cold`. No name in C has a dot.
fn plain(name: &str) -> &str {
    name.split_once('.').map_or(name, |(plain, _)| plain)
}
