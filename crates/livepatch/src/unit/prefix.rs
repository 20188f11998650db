//! The padding before a function's entry. Kernels with call thunks write code into it, so it travels
//! with its function.
//!
//! objtool names it `__pfx_NAME` (`elf_create_prefix_symbol`), compilers with kCFI `__cfi_NAME`.

use crate::elf::{Symbol, SymbolKind};

const NAMES: [&str; 2] = ["__pfx_", "__cfi_"];

/// Takes the symbols of padding out of those of one code section. One without a function right
/// behind it is padding of nothing, and stays.
pub(super) fn take<'unit, 'data>(
    symbols: &mut Vec<&'unit Symbol<'data>>,
) -> Vec<&'unit Symbol<'data>> {
    let is_named = |symbol: &Symbol<'_>| NAMES.iter().any(|name| symbol.name.starts_with(name));
    let mut entries: Vec<u64> = symbols
        .iter()
        .filter(|symbol| symbol.kind == SymbolKind::Function && !is_named(symbol))
        .map(|symbol| symbol.value)
        .collect();
    entries.sort_unstable();
    let is_prefix = |symbol: &&Symbol<'_>| {
        is_named(symbol)
            && symbol.size > 0
            && end(symbol).is_some_and(|end| entries.binary_search(&end).is_ok())
    };
    let (prefixes, rest) = symbols.drain(..).partition(is_prefix);
    *symbols = rest;
    prefixes
}

/// One past the last byte of padding.
pub(super) fn end(prefix: &Symbol<'_>) -> Option<u64> {
    prefix.value.checked_add(prefix.size)
}

/// How many bytes of padding lie before `entry`.
pub(super) fn length(prefixes: &[&Symbol<'_>], entry: u64) -> u64 {
    prefixes
        .iter()
        .filter(|prefix| end(prefix) == Some(entry))
        .map(|prefix| prefix.size)
        .max()
        .unwrap_or(0)
}
