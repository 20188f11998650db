use proptest::prelude::*;

use super::fixture::{ALLOC, Fixture, KLP_RELA, R_PC32, TEXT};
use super::*;

fn sample() -> Fixture {
    let mut fixture = Fixture::new(1);
    let text = fixture.section(".text.f", TEXT, &[0xe8, 0, 0, 0, 0, 0xc3]);
    fixture.section(".rodata.str1.1", ALLOC | 0x30, b"one\0two\0");
    fixture.function("f", text, 0, 6, Binding::Local);
    let target = fixture.livepatch(".klp.sym.vmlinux.g,2");
    let relocation = Relocation {
        offset: 1,
        symbol: target,
        kind: R_PC32,
        addend: -4,
    };
    fixture.relocations(".klp.rela.vmlinux..text.f", KLP_RELA, text, &[relocation]);
    fixture
}

#[test]
fn sections_symbols_and_relocations_come_back_as_written() {
    let bytes = sample().build();
    let file = ElfFile::parse(&bytes).unwrap();
    assert_eq!(file.kind, FileKind::Relocatable);
    let text = file.section_named(".text.f").unwrap();
    assert!(text.is_executable() && text.is_allocated());
    assert_eq!(text.data, [0xe8, 0, 0, 0, 0, 0xc3]);
    let strings = file.section_named(".rodata.str1.1").unwrap();
    assert_eq!(strings.string(4), Some(&b"two"[..]));
    assert_eq!(strings.string(8), None);
    let names: Vec<_> = file.symbols().iter().map(|symbol| symbol.name).collect();
    assert_eq!(names, ["", "f", ".klp.sym.vmlinux.g,2"]);
    assert_eq!(file.symbols()[1].section(), Some(text.index));
    assert_eq!(file.symbols()[2].place, Place::Livepatch);
    let klp: Vec<_> = file.relocation_sections(text.index).collect();
    assert_eq!(klp.len(), 1);
    assert!(klp[0].is_livepatch());
    assert_eq!(
        file.relocations(klp[0]).unwrap(),
        [Relocation {
            offset: 1,
            symbol: SymbolIndex(2),
            kind: R_PC32,
            addend: -4,
        }]
    );
}

#[test]
fn extended_section_indices_are_followed() {
    let mut fixture = sample();
    fixture.symbols[1].place = Place::Reserved(0xffff);
    let indices = [0u32, 1, 0].map(u32::to_le_bytes).concat();
    fixture.section(".symtab_shndx", 0, &indices);
    let table = fixture.sections.len() - 1;
    fixture.sections[table].kind = 18;
    let mut bytes = fixture.build();
    // Its `sh_link` names the symbol table, the third from the end.
    let count = usize::from(u16::from_le_bytes([bytes[60], bytes[61]]));
    let start = usize::try_from(u64::from_le_bytes(bytes[40..48].try_into().unwrap())).unwrap();
    let link = start + table * 64 + 40;
    bytes[link..link + 4].copy_from_slice(&u32::try_from(count - 3).unwrap().to_le_bytes());
    let file = ElfFile::parse(&bytes).unwrap();
    assert_eq!(file.symbols()[1].section(), Some(SectionIndex(1)));

    fixture.sections.pop();
    assert_eq!(
        ElfFile::parse(&fixture.build()).unwrap_err().to_string(),
        "malformed object: .symtab: no table of extended section indices"
    );
}

#[test]
fn what_points_outside_is_named() {
    fn check(change: impl Fn(&mut Fixture), expected: &str) {
        let mut fixture = sample();
        change(&mut fixture);
        let bytes = fixture.build();
        let answer = ElfFile::parse(&bytes).and_then(|file| {
            let klp = file
                .sections()
                .iter()
                .find(|section| section.is_rela())
                .unwrap();
            file.relocations(klp)
        });
        assert_eq!(answer.unwrap_err().to_string(), expected);
    }
    check(
        |fixture| fixture.symbols[1].place = Place::Section(SectionIndex(99)),
        "malformed object: .symtab: section 0x63 is beyond 0x7",
    );
    check(
        |fixture| fixture.sections[3].data[12..16].copy_from_slice(&[7, 0, 0, 0]),
        "malformed object: .klp.rela.vmlinux..text.f: symbol 0x7 is beyond 0x3",
    );
    check(
        |fixture| fixture.sections[3].data.truncate(23),
        "malformed object: .klp.rela.vmlinux..text.f: its size is no multiple of a relocation",
    );
}

#[test]
fn a_section_beyond_the_file_is_refused() {
    let mut bytes = sample().build();
    let start = usize::try_from(u64::from_le_bytes(bytes[40..48].try_into().unwrap())).unwrap();
    let size = start + 64 + 32;
    bytes[size..size + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(
        ElfFile::parse(&bytes).unwrap_err().to_string(),
        "malformed object: .text.f: its end overflows"
    );
    bytes[size..size + 8].copy_from_slice(&0x10_0000u64.to_le_bytes());
    let length = bytes.len();
    assert_eq!(
        ElfFile::parse(&bytes).unwrap_err().to_string(),
        format!("malformed object: .text.f: its end 0x100040 is beyond {length:#x}")
    );
}

#[test]
fn other_machines_and_classes_are_foreign() {
    for (at, value, why) in [
        (0, 0, "no ELF magic"),
        (4, 1, "not 64-bit"),
        (5, 2, "not little-endian"),
        (18, 0xb7, "another machine"),
        (16, 4, "neither relocatable nor linked"),
    ] {
        let mut bytes = sample().build();
        bytes[at] = value;
        assert_eq!(
            ElfFile::parse(&bytes).unwrap_err(),
            MalformedObject::Foreign(why)
        );
    }
}

#[test]
fn every_truncation_is_an_error_not_a_panic() {
    let bytes = sample().build();
    for length in 0..bytes.len() {
        assert!(ElfFile::parse(&bytes[..length]).is_err(), "{length}");
    }
}

proptest! {
    #[test]
    fn no_change_of_bytes_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = sample().build();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        read_everything(&bytes);
    }
}
