//! Pointers to functions at which an indirect branch may not land.
//!
//! On kernels with IBT a function that an indirect branch reaches must begin with ENDBR64. The compiler
//! leaves it out where it sees that no address is taken, and at boot the kernel takes it away from all
//! functions of `.ibt_endbr_seal`, whose address objtool saw nobody take. A livepatch that takes the
//! address of such a function gives the first caller a `#CP` fault.

use std::collections::BTreeSet;

use crate::elf::{ElfFile, MalformedObject, Place, Section, SectionIndex, SymbolKind};
use crate::kallsyms::Parent;
use crate::unit::{Unit, UnitError};

const LIST: &str = ".ibt_endbr_seal";
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// Whether `vmlinux` is a kernel that enforces where indirect branches land.
pub fn is_enforced(vmlinux: &Parent<'_>) -> bool {
    vmlinux.global("__ibt_endbr_seal").is_some()
}

/// Names of undefined symbols that code or data of the emitted `object` points to, other than by
/// direct calls and jumps.
pub fn pointers(object: &[u8]) -> Result<BTreeSet<String>, UnitError> {
    let unit = Unit::read(object, &[])?;
    let mut names = BTreeSet::new();
    for section in unit.file.sections() {
        // Tables about code name places, not targets.
        let data = [".data", ".rodata", ".bss"]
            .iter()
            .any(|prefix| section.name.starts_with(prefix));
        if !section.is_executable() && !data {
            continue;
        }
        for relocation in unit.relocations(section.index, 0, section.size) {
            let symbol = unit.symbol(relocation.symbol);
            if symbol.place == Place::Undefined
                && !symbol.name.is_empty()
                && !unit.is_branch(section.index, relocation)
            {
                names.insert(symbol.name.to_owned());
            }
        }
    }
    Ok(names)
}

/// The functions of one object at which no indirect branch may land.
#[derive(Debug)]
pub struct Sealed<'run, 'data> {
    parent: &'run Parent<'data>,
    // In vmlinux addresses, in a module places in its sections.
    listed: BTreeSet<(Option<SectionIndex>, u64)>,
}

impl<'run, 'data> Sealed<'run, 'data> {
    /// Reads the list of `parent`.
    pub fn of(parent: &'run Parent<'data>) -> Result<Self, MalformedObject> {
        let listed = if parent.object().is_vmlinux() {
            linked(parent)
        } else {
            relocated(parent.file())?
        };
        Ok(Self { parent, listed })
    }

    /// Says why no indirect branch may land at the symbol `name` at `position`; `None` where it may,
    /// and for what is no function.
    pub fn why(&self, name: &str, position: u32) -> Option<&'static str> {
        let found = self.parent.resolve(name, position).ok();
        let index = found
            .map(|found| found.symbol)
            .or_else(|| Some(self.parent.global(name)?.index))?;
        let symbol = self.parent.file().symbol(index)?;
        let section = self.parent.file().section(symbol.section()?)?;
        if symbol.kind != SymbolKind::Function || !section.is_executable() {
            return None;
        }
        let offset = symbol.value.checked_sub(section.address)?;
        if section.bytes(offset, 4) != Some(&ENDBR64) {
            return Some("does not begin with ENDBR64");
        }
        let home = (!self.parent.object().is_vmlinux()).then_some(section.index);
        self.listed
            .contains(&(home, symbol.value))
            .then_some("loses its ENDBR64 when the kernel starts")
    }
}

/// The list of vmlinux: distances from each field, already filled in.
fn linked(vmlinux: &Parent<'_>) -> BTreeSet<(Option<SectionIndex>, u64)> {
    let bounds = || {
        let start = vmlinux.global("__ibt_endbr_seal")?;
        let end = vmlinux.global("__ibt_endbr_seal_end")?;
        let section = vmlinux.file().section(start.section()?)?;
        let offset = start.value.checked_sub(section.address)?;
        let bytes = section.bytes(offset, end.value.checked_sub(start.value)?)?;
        Some((start.value, bytes))
    };
    let Some((start, bytes)) = bounds() else {
        return BTreeSet::new();
    };
    let (fields, _) = bytes.as_chunks::<4>();
    (start..)
        .step_by(4)
        .zip(fields)
        .map(|(place, field)| {
            let distance = i64::from(i32::from_le_bytes(*field));
            (None, place.wrapping_add_signed(distance))
        })
        .collect()
}

/// The list of a module, which its relocations fill in.
fn relocated(
    module: &ElfFile<'_>,
) -> Result<BTreeSet<(Option<SectionIndex>, u64)>, MalformedObject> {
    let mut listed = BTreeSet::new();
    let tables = module.sections().iter().filter(|section| {
        let home = module.section(SectionIndex(section.info));
        section.is_rela() && home.is_some_and(|home: &Section<'_>| home.name == LIST)
    });
    for table in tables {
        for relocation in module.relocations(table)? {
            let place = module.symbol(relocation.symbol).and_then(|symbol| {
                let offset = symbol.value.checked_add_signed(relocation.addend)?;
                Some((Some(symbol.section()?), offset))
            });
            listed.extend(place);
        }
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use tuxtape_core::identity::ObjectName;

    use super::*;
    use crate::elf::fixture::{ALLOC, Fixture, R_32S, R_64, R_PC32, R_PLT32, RELA, TEXT, WRITE};
    use crate::elf::{Binding, Relocation};

    const FUNCTIONS: [(&str, u64); 3] = [("open", 0), ("listed", 8), ("bare", 16)];

    /// Functions of eight bytes each: two with ENDBR64, of which the second is listed, one without.
    fn code() -> Vec<u8> {
        let mut code = vec![0xc3; 24];
        code[..4].copy_from_slice(&ENDBR64);
        code[8..12].copy_from_slice(&ENDBR64);
        code
    }

    fn check(parent: &Parent<'_>) {
        let sealed = Sealed::of(parent).unwrap();
        assert_eq!(sealed.why("open", 0), None);
        assert_eq!(
            sealed.why("listed", 0),
            Some("loses its ENDBR64 when the kernel starts")
        );
        assert_eq!(sealed.why("bare", 0), Some("does not begin with ENDBR64"));
        assert_eq!(sealed.why("data", 0), None);
        assert_eq!(sealed.why("absent", 0), None);
    }

    #[test]
    fn functions_of_the_image_are_sealed_by_address() {
        let mut fixture = Fixture::new(2);
        let text = fixture.section_at(".text", TEXT, &code(), 0x1000);
        let list = (0x1008i32 - 0x2000).to_le_bytes();
        let list = fixture.section_at(LIST, ALLOC, &list, 0x2000);
        let data = fixture.section_at(".data", ALLOC | WRITE, &[0; 8], 0x3000);
        for (name, offset) in FUNCTIONS {
            fixture.function(name, text, 0x1000 + offset, 8, Binding::Local);
        }
        fixture.object("data", data, 0x3000, 8, Binding::Local);
        for (name, value) in [
            ("__ibt_endbr_seal", 0x2000),
            ("__ibt_endbr_seal_end", 0x2004),
        ] {
            let place = Place::Section(list);
            fixture.push(name, place, value, 0, SymbolKind::None, Binding::Global);
        }
        let bytes = fixture.build();
        let name = ObjectName(ObjectName::VMLINUX.to_owned());
        let parent = Parent::new(name, ElfFile::parse(&bytes).unwrap()).unwrap();
        assert!(is_enforced(&parent));
        check(&parent);
    }

    #[test]
    fn functions_of_a_module_are_sealed_by_place() {
        let mut fixture = Fixture::new(1);
        let text = fixture.section(".text", TEXT, &code());
        let list = fixture.section(LIST, ALLOC, &[0; 4]);
        let data = fixture.section(".data", ALLOC | WRITE, &[0; 8]);
        let symbol = fixture.section_symbol(text);
        for (name, offset) in FUNCTIONS {
            fixture.function(name, text, offset, 8, Binding::Local);
        }
        fixture.object("data", data, 0, 8, Binding::Local);
        let entry = relocation(0, symbol, R_PC32, 8);
        fixture.relocations(".rela.ibt_endbr_seal", RELA, list, &[entry]);
        let bytes = fixture.build();
        let name = ObjectName("driver".to_owned());
        check(&Parent::new(name, ElfFile::parse(&bytes).unwrap()).unwrap());
    }

    fn relocation(
        offset: u64,
        symbol: crate::elf::SymbolIndex,
        kind: u32,
        addend: i64,
    ) -> Relocation {
        Relocation {
            offset,
            symbol,
            kind,
            addend,
        }
    }

    #[test]
    fn what_is_called_is_not_pointed_to() {
        let mut fixture = Fixture::new(1);
        let code = [0xe8, 0, 0, 0, 0, 0x48, 0xc7, 0xc0, 0, 0, 0, 0, 0xc3];
        let text = fixture.section(".text.f", TEXT, &code);
        let data = fixture.section(".data.ops", ALLOC | WRITE, &[0; 8]);
        let hooks = fixture.section("__mcount_loc", ALLOC, &[0; 8]);
        fixture.function("f", text, 0, 13, Binding::Local);
        let [called, moved, held, hooked] =
            ["called", "moved", "held", "hooked"].map(|name| fixture.undefined(name));
        let calls = [
            relocation(1, called, R_PLT32, -4),
            relocation(8, moved, R_32S, 0),
        ];
        fixture.relocations(".rela.text.f", RELA, text, &calls);
        fixture.relocations(
            ".rela.data.ops",
            RELA,
            data,
            &[relocation(0, held, R_64, 0)],
        );
        fixture.relocations(
            ".rela__mcount_loc",
            RELA,
            hooks,
            &[relocation(0, hooked, R_64, 0)],
        );
        let names = pointers(&fixture.build()).unwrap();
        assert_eq!(
            names,
            BTreeSet::from(["held".to_owned(), "moved".to_owned()])
        );
    }
}
