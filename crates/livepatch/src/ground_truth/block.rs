//! Finding a unit among its parent's source files, and its symbols there.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cause, GroundTruthError, ParentSymbol, UnitMap};
use crate::elf::{Binding, ElfFile, Place, Symbol, SymbolKind};
use crate::kallsyms::{FileBlock, Parent};

/// Finds the one source file of `parent` whose local functions and objects are the unit's. A unit
/// without any has no need of one.
pub(super) fn find<'data>(
    unit: &ElfFile<'_>,
    parent: &Parent<'data>,
    path: &str,
) -> Result<Option<FileBlock<'data>>, GroundTruthError> {
    let ours = name_counts(
        unit.symbols()
            .iter()
            .copied()
            .filter(|symbol| travels(unit, symbol)),
    );
    if ours.is_empty() {
        return Ok(None);
    }
    let base = path.rsplit('/').next().unwrap_or(path);
    let mut equal = Vec::new();
    let mut nearest: Option<(usize, Vec<String>, Vec<String>)> = None;
    for block in parent.files_called(base) {
        let theirs = name_counts(
            parent
                .locals_of(&block)
                .filter(|symbol| travels(parent.file(), symbol)),
        );
        if ours == theirs {
            equal.push(block);
            continue;
        }
        let only_ours = missing_from(&ours, &theirs);
        let only_theirs = missing_from(&theirs, &ours);
        let distance = only_ours.len() + only_theirs.len();
        if nearest
            .as_ref()
            .is_none_or(|(least, _, _)| distance < *least)
        {
            nearest = Some((distance, only_ours, only_theirs));
        }
    }
    match equal.as_slice() {
        [one] => Ok(Some(*one)),
        [] => {
            let (_, only_in_unit, only_in_parent) =
                nearest.unwrap_or_else(|| (0, missing_from(&ours, &BTreeMap::new()), Vec::new()));
            let likely = likely_cause(&only_in_unit, &only_in_parent);
            Err(GroundTruthError::NotFound {
                unit: path.to_owned(),
                parent: parent.object().clone(),
                only_in_unit,
                only_in_parent,
                likely,
            })
        }
        several => Err(GroundTruthError::FoundTwice {
            unit: path.to_owned(),
            parent: parent.object().clone(),
            times: several.len(),
        }),
    }
}

/// Maps the unit's own functions and objects: locals within `block`, others by name.
pub(super) fn map<'data>(
    unit: &ElfFile<'_>,
    parent: &Parent<'data>,
    block: Option<&FileBlock<'data>>,
) -> UnitMap {
    let locals = block.into_iter().flat_map(|block| parent.locals_of(block));
    let mut by_key: BTreeMap<String, Vec<Symbol<'_>>> = BTreeMap::new();
    for symbol in locals.filter(|symbol| is_named(symbol)) {
        by_key.entry(key(symbol.name)).or_default().push(symbol);
    }
    let mut ours: BTreeMap<String, Vec<&Symbol<'_>>> = BTreeMap::new();
    let mut symbols = BTreeMap::new();
    let mut twice = BTreeSet::new();
    let mut insert = |symbol: &Symbol<'_>, found: &Symbol<'_>| {
        let Some(section) = found.section() else {
            return;
        };
        let place = ParentSymbol {
            name: found.name.to_owned(),
            symbol: found.index,
            section,
            address: found.value,
            size: found.size,
            sympos: parent.sympos(found.index),
            global: found.binding != Binding::Local,
        };
        if symbols.insert(symbol.name.to_owned(), place).is_some() {
            twice.insert(symbol.name.to_owned());
        }
    };
    for symbol in unit
        .symbols()
        .iter()
        .filter(|symbol| is_named(symbol) && !is_padding(symbol))
    {
        if symbol.binding == Binding::Local {
            ours.entry(key(symbol.name)).or_default().push(symbol);
        } else if let Some(found) = linked_global(parent, symbol.name) {
            insert(symbol, &found);
        }
    }
    for (key, group) in &ours {
        let theirs = by_key.get(key).map_or(&[][..], Vec::as_slice);
        if group.len() != theirs.len() {
            continue;
        }
        let exact = group
            .iter()
            .all(|symbol| theirs.iter().any(|found| found.name == symbol.name));
        if exact {
            for symbol in group {
                for found in theirs.iter().filter(|found| found.name == symbol.name) {
                    insert(symbol, found);
                }
            }
        } else if group
            .iter()
            .zip(theirs)
            .all(|(symbol, found)| symbol.size == found.size && symbol.kind == found.kind)
        {
            // Numbers of static locals may differ; the compiler emits them in the same order.
            for (symbol, found) in group.iter().zip(theirs) {
                insert(symbol, found);
            }
        }
    }
    for name in &twice {
        symbols.remove(name);
    }
    UnitMap { symbols }
}

/// The definition of a global the link chose. The link makes hidden symbols local: such a name must then
/// be the only one.
pub(super) fn linked_global<'data>(parent: &Parent<'data>, name: &str) -> Option<Symbol<'data>> {
    parent.global(name).or_else(|| {
        let only = parent.resolve(name, 0).ok()?;
        parent.file().symbol(only.symbol)
    })
}

/// What begins the names of the padding before functions: objtool's, and that of compilers with kCFI.
const PADDING_NAMES: [&str; 2] = ["__pfx_", "__cfi_"];

/// Whether `symbol` is the padding before a function rather than a function.
pub(super) fn is_padding(symbol: &Symbol<'_>) -> bool {
    symbol.kind == SymbolKind::Function
        && PADDING_NAMES
            .iter()
            .any(|prefix| symbol.name.starts_with(prefix))
}

fn is_named(symbol: &Symbol<'_>) -> bool {
    matches!(symbol.kind, SymbolKind::Function | SymbolKind::Object)
        && matches!(symbol.place, Place::Section(_))
        && !symbol.name.is_empty()
}

/// Whether a local symbol is still there after the link.
fn travels(file: &ElfFile<'_>, symbol: &Symbol<'_>) -> bool {
    const DROPPED: [&str; 7] = [
        // objtool puts those of the whole kernel behind all other symbols.
        PADDING_NAMES[0],
        PADDING_NAMES[1],
        "__exitcall_",
        "__addressable_",
        "__UNIQUE_ID_",
        ".L",
        "__ksymtab_",
    ];
    const DROPPED_SECTIONS: [&str; 4] = [".discard", ".exitcall", ".llvm", ".modinfo"];
    symbol.binding == Binding::Local
        && is_named(symbol)
        && !DROPPED.iter().any(|prefix| symbol.name.starts_with(prefix))
        && symbol
            .section()
            .and_then(|index| file.section(index))
            .is_some_and(|section| {
                section.is_allocated()
                    && !DROPPED_SECTIONS
                        .iter()
                        .any(|prefix| section.name.starts_with(prefix))
            })
}

/// The name without the numbers the compiler appends after dots.
pub(super) fn key(name: &str) -> String {
    let mut parts = name.split('.');
    let mut key = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        key.push('.');
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            key.push_str(part);
        }
    }
    key
}

fn name_counts<'a>(symbols: impl Iterator<Item = Symbol<'a>>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for symbol in symbols {
        *counts.entry(key(symbol.name)).or_insert(0) += 1;
    }
    counts
}

fn missing_from(ours: &BTreeMap<String, usize>, theirs: &BTreeMap<String, usize>) -> Vec<String> {
    ours.iter()
        .filter(|(name, count)| theirs.get(*name).is_none_or(|other| other < *count))
        .map(|(name, _)| name.clone())
        .collect()
}

fn likely_cause(only_in_unit: &[String], only_in_parent: &[String]) -> Cause {
    // Clones come and go with the optimiser, BTF id lists with the configuration.
    const CLONES: [&str; 4] = [".isra", ".constprop", ".part", ".cold"];
    let names = || only_in_unit.iter().chain(only_in_parent);
    if names().any(|name| name.starts_with("__BTF_ID") || name.starts_with("btf_")) {
        Cause::Config
    } else if names().any(|name| !CLONES.iter().any(|clone| name.contains(clone))) {
        Cause::Source
    } else {
        Cause::Compiler
    }
}
