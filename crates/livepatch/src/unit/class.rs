//! What a section is to the engine, by its name and flags.

use super::Class;
use crate::elf::Section;
use crate::tables::Table;

const IGNORED: [&str; 6] = [
    ".discard",
    ".note",
    ".llvm",
    ".modinfo",
    "__mcount_loc",
    "__patchable_function_entries",
];
const INIT: [&str; 6] = [
    ".init.",
    ".exit.",
    ".meminit",
    ".memexit",
    ".ref.",
    ".exitcall",
];

pub(super) fn classify(section: &Section<'_>, tables: &[Table]) -> Class {
    let name = section.name;
    if !section.is_allocated() || IGNORED.iter().any(|prefix| name.starts_with(prefix)) {
        return Class::Ignored;
    }
    if let Some(table) = tables.iter().find(|table| table.section == name) {
        return Class::Table(*table);
    }
    match name {
        ".orc_unwind" => return Class::OrcEntries,
        ".orc_unwind_ip" => return Class::OrcAddresses,
        ".altinstr_replacement" | ".altinstr_aux" => return Class::Chunks,
        "__dyndbg" => return Class::Data,
        _ => {}
    }
    if name.starts_with("__ksymtab") || name.starts_with("___k") || name.starts_with("__kcrctab") {
        return Class::Fixed;
    }
    if INIT.iter().any(|prefix| name.starts_with(prefix)) {
        return Class::Init;
    }
    if section.is_mergeable() {
        return if section.is_strings() {
            Class::Strings
        } else {
            Class::Constants
        };
    }
    if section.is_executable() {
        return Class::Code;
    }
    let plain = [".data", ".rodata", ".bss"];
    if plain.iter().any(|prefix| name.starts_with(prefix)) {
        Class::Data
    } else {
        Class::Fixed
    }
}
