//! The engine on one pair of objects, without a kernel tree.

use std::collections::{BTreeMap, BTreeSet};

use tuxtape_core::identity::ObjectName;
use tuxtape_livepatch::diff::compare;
use tuxtape_livepatch::elf::{ElfFile, SymbolKind};
use tuxtape_livepatch::emit::{EmitError, emit};
use tuxtape_livepatch::kallsyms::Parent;
use tuxtape_livepatch::layout;
use tuxtape_livepatch::lint::{self, Finding};
use tuxtape_livepatch::refusal::Refusal;
use tuxtape_livepatch::symvers::Symvers;
use tuxtape_livepatch::tables::layout_for;

use super::checksums::Checksums;
use super::names::Names;
use super::parents::DebugModules;
use super::{
    BuildError, Owners, UnitPair, notes, owned, parents, refused_by_writer, runs, sorted, truth,
};

/// What one pair of objects gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Single {
    /// Functions redirected.
    pub changed: Vec<String>,
    /// Functions that are new.
    pub new: Vec<String>,
    /// Why nothing can be made of it; all reasons.
    pub refusals: Vec<Refusal>,
    /// What a reviewer should know.
    pub warnings: Vec<String>,
    /// What a reviewer must look at.
    pub findings: Vec<Finding>,
    /// The relocatable object with what travels; none where nothing does, or was refused.
    pub object: Option<Vec<u8>>,
}

/// Compares `original` and `patched`, which are compiled versions of one unit of `parent`.
///
/// `symbols` is the parent's debug file. For a module it is all there is to look in: what vmlinux
/// keeps private is out of a module's reach anyway.
pub fn compare_objects(
    parent: &ObjectName,
    original: &[u8],
    patched: &[u8],
    symbols: &[u8],
    symvers: &[u8],
) -> Result<Single, BuildError> {
    let symbols = parents::parent(parent.clone(), symbols)?;
    let symvers = Symvers::parse(symvers)?;
    let (major, minor) = series(&symbols).ok_or(BuildError::Nameless)?;
    let tables = layout_for(major, minor).ok_or(BuildError::Series { major, minor })?;
    let unit = unit_name(original);
    let mut comparison =
        compare(&unit, original, patched, tables).map_err(|source| BuildError::Unit {
            unit: unit.clone(),
            source,
        })?;
    if parent.is_vmlinux() && runs(&comparison) {
        comparison.leave_out_boot_code();
    }
    let mut single = Single {
        changed: owned(comparison.changed_functions()),
        new: owned(comparison.new_functions()),
        refusals: comparison.refusals.clone(),
        ..Single::default()
    };
    single
        .refusals
        .extend(layout::refusals(&unit, original, patched));
    if comparison.is_unchanged() {
        single.refusals = sorted(single.refusals);
        return Ok(single);
    }
    let pair = UnitPair {
        unit: unit.clone(),
        parent: parent.clone(),
        original: unit.clone().into(),
        patched: unit.into(),
        checksums: Checksums::default(),
    };
    let owners = Owners {
        vmlinux: &symbols,
        modules: &BTreeMap::new(),
    };
    match truth(&pair, original, &comparison, &owners) {
        Err(found) => single.refusals.extend(found),
        Ok(truth) if single.refusals.is_empty() => {
            let names = Names {
                parent: &symbols,
                vmlinux: &symbols,
                symvers: &symvers,
                modules: &DebugModules::default(),
                brought: &BTreeSet::new(),
                opened: &BTreeMap::new(),
                map: &truth.map,
            };
            match emit(&comparison, &names, "0") {
                Ok(emitted) => {
                    single.warnings = notes(&pair, &comparison, &emitted).collect();
                    single.warnings.sort();
                    single.warnings.dedup();
                    single.findings = lint::findings(&comparison);
                    single.object = Some(emitted.object);
                }
                Err(EmitError::Refused(found)) => single.refusals.extend(found),
                Err(EmitError::Write(error)) => {
                    single.refusals.push(refused_by_writer(&pair, &error));
                }
            }
        }
        Ok(_) => {}
    }
    single.refusals = sorted(single.refusals);
    Ok(single)
}

/// The unit's source file as the compiler noted it, by which it is found in its parent.
fn unit_name(original: &[u8]) -> String {
    ElfFile::parse(original)
        .ok()
        .and_then(|file| {
            let mut symbols = file.symbols().iter();
            let name = symbols.find(|symbol| symbol.kind == SymbolKind::File)?.name;
            Some(name.to_owned())
        })
        .unwrap_or_default()
}

/// The series of a vmlinux by its banner, of a module by its version magic.
fn series(parent: &Parent<'_>) -> Option<(u32, u32)> {
    let file = parent.file();
    if let Some(modinfo) = file.section_named(".modinfo") {
        let mut entries = modinfo.data.split(|&byte| byte == 0);
        return first_two(entries.find_map(|entry| entry.strip_prefix(b"vermagic="))?);
    }
    let banner = file
        .symbols()
        .iter()
        .find(|symbol| symbol.name == "linux_banner")?;
    let section = file.section(banner.section()?)?;
    let text = section.string(banner.value.checked_sub(section.address)?)?;
    first_two(text.strip_prefix(b"Linux version ")?)
}

fn first_two(version: &[u8]) -> Option<(u32, u32)> {
    let text = str::from_utf8(version).ok()?;
    let mut parts = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_tells_its_series() {
        assert_eq!(first_two(b"6.1.0-47-cloud-amd64 SMP"), Some((6, 1)));
        assert_eq!(first_two(b"6.12"), Some((6, 12)));
        assert_eq!(first_two(b"six"), None);
    }
}
