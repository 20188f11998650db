//! Symbols the loader must find among the kernel's exports.

use std::collections::BTreeMap;

use tuxtape_core::identity::ObjectName;

use super::{Check, Kernel, Problem, module::Module};
use crate::elf::{Binding, Place};
use crate::symvers::ExportType;

const VERSIONS: &str = "__versions";
/// One `struct modversion_info`: eight bytes of CRC, 56 of name.
const VERSION_SIZE: usize = 64;
/// Licences that may use GPL-only exports.
const COMPATIBLE: [&str; 6] = [
    "GPL",
    "GPL v2",
    "GPL and additional rights",
    "Dual BSD/GPL",
    "Dual MIT/GPL",
    "Dual MPL/GPL",
];

pub(super) fn check(module: &Module<'_>, kernel: &Kernel<'_, '_>, problems: &mut Vec<Problem>) {
    let versions = versions(module, problems);
    // The word is part of vermagic exactly when the kernel compares CRCs.
    let compares = kernel
        .stock
        .vermagic
        .split(' ')
        .any(|word| word == "modversions");
    let compatible = module
        .infos("license")
        .all(|license| COMPATIBLE.contains(&license))
        && module.info("license").is_some();
    let depends: Vec<String> = module
        .infos("depends")
        .flat_map(|depends| depends.split(','))
        .map(|name| name.replace('-', "_"))
        .collect();
    for symbol in module.file.symbols().iter().skip(1) {
        if symbol.place != Place::Undefined || symbol.name.is_empty() {
            continue;
        }
        let problem = |check, why: String| Problem::new(check, why).of(symbol.name);
        let Some(export) = kernel.symvers.get(symbol.name) else {
            // The linker's own name on x86; the loader skips it, and weak names may stay unresolved.
            if symbol.binding != Binding::Weak && symbol.name != "_GLOBAL_OFFSET_TABLE_" {
                problems.push(problem(Check::Undefined, "exported by nobody".to_owned()));
            }
            continue;
        };
        if export.export_type == ExportType::Gpl && !compatible {
            let why = "exported to GPL-compatible modules only";
            problems.push(problem(Check::License, why.to_owned()));
        }
        if let Some(namespace) = &export.namespace
            && !module.infos("import_ns").any(|import| import == namespace)
        {
            let why = format!("in namespace {namespace}, which is not imported");
            problems.push(problem(Check::Namespace, why));
        }
        if export.object.0 != ObjectName::VMLINUX && !depends.contains(&export.object.0) {
            let why = format!(
                "exported by {}, which is not a declared dependency",
                export.object
            );
            problems.push(problem(Check::Dependency, why));
        }
        if compares {
            check_crc(&versions, symbol.name, export.crc, problems);
        }
    }
    if compares && let Some(layout) = kernel.symvers.get("module_layout") {
        check_crc(&versions, "module_layout", layout.crc, problems);
    }
}

fn check_crc(
    versions: &BTreeMap<&str, u64>,
    symbol: &str,
    expected: u32,
    problems: &mut Vec<Problem>,
) {
    let why = match versions.get(symbol) {
        None => "no checksum for it".to_owned(),
        Some(found) if *found != u64::from(expected) => {
            format!("checksum {found:#010x}, the kernel has {expected:#010x}")
        }
        Some(_) => return,
    };
    problems.push(
        Problem::new(Check::Crc, why)
            .in_section(VERSIONS)
            .of(symbol),
    );
}

fn versions<'data>(
    module: &Module<'data>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<&'data str, u64> {
    let mut versions = BTreeMap::new();
    let mut problem = |why: &str, offset: usize| {
        problems.push(Problem::new(Check::Crc, why).at(VERSIONS, offset as u64));
    };
    let data = module
        .file
        .section_named(VERSIONS)
        .map(|section| section.data)
        .unwrap_or_default();
    if !data.len().is_multiple_of(VERSION_SIZE) {
        problem("its size is no multiple of 64", data.len());
    }
    for (number, entry) in data.chunks_exact(VERSION_SIZE).enumerate() {
        let offset = number.saturating_mul(VERSION_SIZE);
        let Some((crc, name)) = entry.split_first_chunk::<8>() else {
            continue;
        };
        let end = name.iter().position(|&byte| byte == 0);
        let name = end
            .and_then(|end| name.get(..end))
            .and_then(|name| str::from_utf8(name).ok());
        match name {
            None => problem("a name does not end", offset),
            Some(name) => {
                if versions.insert(name, u64::from_le_bytes(*crc)).is_some() {
                    problem("two checksums for one name", offset);
                }
            }
        }
    }
    versions
}
