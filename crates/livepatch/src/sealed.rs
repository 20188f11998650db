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
