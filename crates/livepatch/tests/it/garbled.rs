//! Damaged objects give errors: no panic, and no file that grows without bound.

use tuxtape_livepatch::convert::{ConvertError, convert};
use tuxtape_livepatch::diff::{compare, compare_anything};
use tuxtape_livepatch::tables::layout_for;
use tuxtape_livepatch::write::{OutSection, WriteError, relocatable};

use crate::emission::unit;
use crate::kernel::Pair;

fn joined(original: &[u8], patched: &[u8]) -> Vec<u8> {
    let length = u32::try_from(original.len()).expect("a small object");
    [&length.to_le_bytes(), original, patched].concat()
}

fn flipped(bytes: &[u8], at: usize, mask: u8) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    if let Some(byte) = damaged.get_mut(at) {
        *byte ^= mask;
    }
    damaged
}

#[test]
fn a_damaged_patched_version_is_no_panic() {
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    for at in 0..pair.patched().len() {
        for mask in [0x01, 0x40, 0xff] {
            compare_anything(&joined(pair.original(), &flipped(pair.patched(), at, mask)));
        }
    }
}

#[test]
fn a_damaged_original_is_no_panic() {
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    for at in (0..pair.original().len()).step_by(3) {
        for mask in [0x80, 0xff] {
            compare_anything(&joined(&flipped(pair.original(), at, mask), pair.patched()));
        }
    }
}

#[test]
fn a_cut_off_version_is_no_panic() {
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    for end in (0..pair.patched().len()).step_by(7) {
        let cut = pair.patched().get(..end).unwrap_or_default();
        compare_anything(&joined(pair.original(), cut));
        compare_anything(&joined(cut, pair.patched()));
        convert(cut).ok();
    }
}

#[test]
fn a_damaged_linked_module_is_no_panic() {
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    let object = pair.emitted().object;
    for at in 0..object.len() {
        for mask in [0x01, 0x80, 0xff] {
            convert(&flipped(&object, at, mask)).ok();
        }
    }
}

#[test]
fn no_alignment_makes_a_file_grow() {
    for alignment in [3, 1 << 13, 1 << 40, u64::MAX] {
        let section = OutSection {
            name: ".text".to_owned(),
            kind: 1,
            alignment,
            ..OutSection::default()
        };
        let expected = WriteError::Alignment {
            section: ".text".to_owned(),
            alignment,
        };
        assert_eq!(relocatable(&[section], &[]), Err(expected));
    }
}

/// Writes `value` over the field at `field` of the header of the section that `find` picks.
fn with_header_field(object: &[u8], name: &str, field: usize, value: u64) -> Vec<u8> {
    let file = tuxtape_livepatch::elf::ElfFile::parse(object).expect("an object");
    let index = file.section_named(name).expect("the section").index.0 as usize;
    let start = object
        .get(40..48)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_le_bytes);
    let at = usize::try_from(start.expect("a header")).expect("a small file") + index * 64 + field;
    let mut changed = object.to_vec();
    changed
        .get_mut(at..at + 8)
        .expect("in the file")
        .copy_from_slice(&value.to_le_bytes());
    changed
}

#[test]
fn a_hostile_alignment_is_refused() {
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    // sh_addralign
    for name in [".text.f", ".rodata.f.str1.1"] {
        let hostile = with_header_field(pair.patched(), name, 48, 1 << 40);
        compare_anything(&joined(pair.original(), &hostile));
    }
    let object = pair.emitted().object;
    let converted = convert(&with_header_field(&object, ".text.f", 48, 1 << 40));
    assert!(
        matches!(
            converted,
            Err(ConvertError::Write(WriteError::Alignment { .. }))
        ),
        "{converted:?}"
    );
}

#[test]
fn extreme_addends_are_no_panic() {
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    let file = tuxtape_livepatch::elf::ElfFile::parse(pair.patched()).expect("an object");
    let tables: Vec<_> = file
        .sections()
        .iter()
        .filter(|section| section.is_rela())
        .collect();
    for table in tables {
        for entry in 0..table.size / 24 {
            for addend in [i64::MIN, i64::MIN + 1, i64::MAX, -1] {
                let at = usize::try_from(table.offset + entry * 24 + 16).expect("a small file");
                let mut hostile = pair.patched().to_vec();
                let field = hostile.get_mut(at..at + 8).expect("in the file");
                field.copy_from_slice(&addend.to_le_bytes());
                compare_anything(&joined(pair.original(), &hostile));
            }
        }
    }
}

#[test]
fn an_object_without_symbols_is_no_panic() {
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    // sh_size
    let hostile = with_header_field(pair.patched(), ".symtab", 32, 0);
    compare_anything(&joined(pair.original(), &hostile));
    let tables = layout_for(6, 1).expect("the tables of 6.1 are known");
    assert!(compare("unit.c", pair.original(), &hostile, tables).is_err());
}

#[test]
fn what_grows_with_every_look_is_cut_off_and_counts_as_changed() {
    // Per-use-site variables are compared by content: 27 million copies of the innermost one.
    let unit = "void *f(int i) {
            static int __already_done;
            static void *_rs[300] = { [0 ... 299] = &__already_done };
            static void *__key[300] = { [0 ... 299] = _rs };
            static void *_entry_ptr[300] = { [0 ... 299] = __key };
            return _entry_ptr[i]; }";
    let Some(pair) = Pair::of(unit, unit) else {
        return;
    };
    assert_eq!(pair.compared().changed_functions(), ["f"]);
}
