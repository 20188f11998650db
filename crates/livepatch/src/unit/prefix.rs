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

#[cfg(test)]
mod tests {
    use crate::diff::{compare, is_traceable};
    use crate::elf::fixture::{Fixture, R_PLT32, RELA, TEXT};
    use crate::elf::{Binding, Relocation};
    use crate::emit::{Anywhere, emit};
    use crate::tables::layout_for;
    use crate::unit::{AtomId, Target, Unit};

    /// A padded function of a kernel with IBT, which ftrace can hook into and which calls itself.
    fn padded(last: u8) -> Vec<u8> {
        let mut fixture = Fixture::new(1);
        let mut code = vec![0x90; 16];
        code.extend([0xf3, 0x0f, 0x1e, 0xfa]); // endbr64
        code.extend([0xe8, 0, 0, 0, 0]); // call __fentry__
        code.extend([0xe8, 0, 0, 0, 0]); // call f
        code.extend([0xb0, last, 0xc3]); // mov $last, %al; ret
        let text = fixture.section(".text.f", TEXT, &code);
        let own = fixture.section_symbol(text);
        fixture.function("__pfx_f", text, 0, 16, Binding::Local);
        fixture.function("f", text, 16, code.len() as u64 - 16, Binding::Local);
        let fentry = fixture.undefined("__fentry__");
        let call = |offset, symbol, addend| Relocation {
            offset,
            symbol,
            kind: R_PLT32,
            addend,
        };
        // The assembler names local functions by their section.
        let calls = [call(21, fentry, -4), call(26, own, 12)];
        fixture.relocations(".rela.text.f", RELA, text, &calls);
        fixture.build()
    }

    #[test]
    fn padding_belongs_to_its_function_and_offsets_count_from_the_entry() {
        let tables = layout_for(6, 12).unwrap();
        let bytes = padded(1);
        let unit = Unit::read(&bytes, tables).unwrap();
        let [atom] = unit.atoms.as_slice() else {
            panic!("{:?}", unit.atoms);
        };
        assert_eq!((atom.start, atom.entry, atom.end), (0, 16, 33));
        assert_eq!((atom.name, atom.whole), ("f", true));
        assert_eq!((atom.symbols.len(), atom.prefixes.len()), (1, 1));
        assert!(is_traceable(&unit, AtomId(0)));
        let call = unit.relocations_of(AtomId(0))[1];
        let expected = Target::Atom {
            atom: AtomId(0),
            offset: 0,
        };
        assert_eq!(unit.target(atom.section, &call), expected);
    }

    #[test]
    fn a_changed_function_travels_with_its_padding_and_is_entered_behind_it() {
        let (before, after) = (padded(1), padded(2));
        let tables = layout_for(6, 12).unwrap();
        let comparison = compare("f.c", &before, &after, tables).unwrap();
        let emitted = emit(&comparison, &Anywhere, "0").unwrap();
        let object = crate::elf::ElfFile::parse(&emitted.object).unwrap();
        let value = |name: &str| {
            let mut symbols = object.symbols().iter();
            let found = symbols.find(|symbol| symbol.name == name).unwrap();
            (found.value, found.size)
        };
        assert_eq!(value("__pfx_f"), (0, 16));
        assert_eq!(value("f"), (16, 17));
        assert_eq!(value(&emitted.functions[0].replacement), (16, 17));
        let hooks = object.section_named("__mcount_loc").unwrap();
        let table = object.relocation_sections(hooks.index).next().unwrap();
        let entry = object.relocations(table).unwrap()[0];
        assert_eq!(entry.addend, 20);
    }

    #[test]
    fn padding_without_a_function_is_a_function_like_any_other() {
        let mut fixture = Fixture::new(1);
        let text = fixture.section(".text.f", TEXT, &[0x90; 32]);
        fixture.function("__pfx_f", text, 0, 16, Binding::Local);
        let bytes = fixture.build();
        let unit = Unit::read(&bytes, layout_for(6, 12).unwrap()).unwrap();
        assert_eq!(unit.atoms[0].name, "__pfx_f");
    }
}
