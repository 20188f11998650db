//! What kernels with padded functions and IBT want of a module's code.
//!
//! Padding is written to and calls are rewritten by kernels that count the depth of calls
//! (`arch/x86/kernel/callthunks.c`); where indirect branches may land is enforced by the processor.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Decoder, DecoderOptions};
use tuxtape_core::identity::ObjectName;

use super::code::{self, function_at, section_name};
use super::klp;
use super::module::{Module, Spot};
use super::{Check, Kernel, Problem};
use crate::elf::{Place, Relocation, Section, SectionIndex, Symbol, SymbolKind};
use crate::kallsyms::Parent;

const CALL_SITES: &str = ".call_sites";
const SEALED: &str = ".ibt_endbr_seal";
const PREFIX: &str = "__pfx_";
const NOP: u8 = 0x90;
const ENDBR: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

pub(super) fn check(module: &Module<'_>, kernel: &Kernel<'_, '_>, problems: &mut Vec<Problem>) {
    let vmlinux = kernel.vmlinux;
    if let Some(length) = padding(vmlinux) {
        check_padding(module, length, problems);
    }
    let decoded = decode(module);
    if vmlinux.global("__call_sites").is_some() {
        check_calls(module, &decoded, problems);
    }
    if vmlinux.global("__ibt_endbr_seal").is_some() {
        check_pointers(module, kernel, &decoded, problems);
    }
}

/// How many bytes lie before each function of the kernel: as objtool's first symbol for them says.
fn padding(vmlinux: &Parent<'_>) -> Option<u64> {
    let prefix = vmlinux.first_with_prefix(PREFIX, |symbol| {
        symbol.kind == SymbolKind::Function && symbol.size > 0
    })?;
    Some(prefix.size)
}

/// Functions that ftrace can hook into came from the compiler, which pads all of them.
fn check_padding(module: &Module<'_>, length: u64, problems: &mut Vec<Problem>) {
    for (section, start) in code::fentry_calls(module) {
        let Some(function) = function_at(module, (section, start)) else {
            continue;
        };
        let Some(home) = module.file.section(section) else {
            continue;
        };
        let before = function
            .value
            .checked_sub(length)
            .and_then(|start| home.bytes(start, length));
        if !before.is_some_and(|bytes| bytes.iter().all(|&byte| byte == NOP)) {
            let why =
                format!("no {length} bytes of padding before it, which the kernel may write to");
            problems.push(
                Problem::new(Check::Padding, why)
                    .at(home.name, function.value)
                    .of(function.name),
            );
        }
    }
}

/// What the instructions of the module's functions say.
#[derive(Default)]
struct Decoded {
    /// Where calls start, with the place of their distance.
    calls: BTreeMap<Spot, Spot>,
    /// The places of the distances of all direct branches.
    distances: BTreeSet<Spot>,
}

fn decode(module: &Module<'_>) -> Decoded {
    let mut decoded = Decoded::default();
    for (&index, functions) in module.functions() {
        let Some(section) = module.file.section(index) else {
            continue;
        };
        for function in functions {
            let code = section.bytes(function.value, function.size);
            let code = code.unwrap_or_default();
            let mut decoder = Decoder::with_ip(64, code, function.value, DecoderOptions::NONE);
            while decoder.can_decode() {
                let instruction = decoder.decode();
                let branches = instruction.is_call_near()
                    || instruction.is_jmp_near()
                    || instruction.is_jcc_near();
                let Some(field) = instruction.next_ip().checked_sub(4).filter(|_| branches) else {
                    continue;
                };
                decoded.distances.insert((index, field));
                if instruction.is_call_near() {
                    decoded
                        .calls
                        .insert((index, instruction.ip()), (index, field));
                }
            }
        }
    }
    decoded
}

/// Whether a call must be listed, must not, or may be.
enum Listing {
    Must,
    May,
    /// For this reason.
    MustNot(&'static str),
}

fn check_calls(module: &Module<'_>, decoded: &Decoded, problems: &mut Vec<Problem>) {
    let mut targets: BTreeMap<Spot, (&str, bool)> = BTreeMap::new();
    for table in module
        .tables
        .iter()
        .filter(|table| table.target.is_executable())
    {
        let late = klp::parse_section(table.section.name)
            .is_some_and(|(object, _)| object != ObjectName::VMLINUX);
        for relocation in &table.entries {
            let spot = (table.target.index, relocation.offset);
            let name = module.name_of(relocation);
            let name = klp::parse_symbol(name).map_or(name, |(_, name, _)| name);
            targets.insert(spot, (name, late));
        }
    }
    let listing = |call: &Spot, field: &Spot| {
        // What has tables of its own is listed there, and ftrace owns its calls.
        const ELSEWHERE: [&str; 3] = ["__SCT__", "__x86_indirect_thunk_", "__fentry__"];
        match targets.get(field) {
            Some((_, true)) => Listing::MustNot("leads nowhere yet when the kernel follows it"),
            Some((name, false)) if ELSEWHERE.iter().any(|other| name.starts_with(other)) => {
                Listing::May
            }
            Some(_) | None if section_name(module, call.0).starts_with(".init") => Listing::May,
            Some(_) | None => Listing::Must,
        }
    };
    let mut listed = BTreeSet::new();
    for relocation in module.relocations_of(CALL_SITES) {
        let problem = |why: &str| {
            Problem::new(Check::CallSite, why)
                .at(CALL_SITES, relocation.offset)
                .of(module.name_of(relocation))
        };
        let Some(spot) = module.spot(relocation) else {
            problems.push(problem("not a place in this module"));
            continue;
        };
        listed.insert(spot);
        match decoded.calls.get(&spot).map(|field| listing(&spot, field)) {
            Some(Listing::Must | Listing::May) => {}
            Some(Listing::MustNot(why)) => problems.push(problem(why)),
            // Nameless code is not decoded.
            None if function_at(module, spot).is_none() => {}
            None => problems.push(problem("does not point to a call")),
        }
    }
    for (spot, field) in &decoded.calls {
        if !listed.contains(spot) && matches!(listing(spot, field), Listing::Must) {
            let why = format!("a call that {CALL_SITES} does not list");
            let mut problem =
                Problem::new(Check::CallSite, why).at(section_name(module, spot.0), spot.1);
            if let Some(function) = function_at(module, *spot) {
                problem = problem.of(function.name);
            }
            problems.push(problem);
        }
    }
}

/// Pointers to the kernel's functions must lead to where an indirect branch may land.
fn check_pointers(
    module: &Module<'_>,
    kernel: &Kernel<'_, '_>,
    decoded: &Decoded,
    problems: &mut Vec<Problem>,
) {
    let mut lists: BTreeMap<&ObjectName, BTreeSet<Landing>> = BTreeMap::new();
    for table in &module.tables {
        let data = [".data", ".rodata"]
            .iter()
            .any(|prefix| table.target.name.starts_with(prefix));
        let code = table.target.is_executable();
        for relocation in &table.entries {
            let spot = (table.target.index, relocation.offset);
            let pointer = data
                || code
                    && !decoded.distances.contains(&spot)
                    && function_at(module, spot).is_some();
            if !pointer {
                continue;
            }
            let Some((parent, symbol)) = kernels(module, kernel, relocation) else {
                continue;
            };
            let Some(section) = symbol.section().and_then(|at| parent.file().section(at)) else {
                continue;
            };
            if symbol.kind != SymbolKind::Function || !section.is_executable() {
                continue;
            }
            let list = lists
                .entry(parent.object())
                .or_insert_with(|| sealed(parent));
            let first = symbol
                .value
                .checked_sub(section.address)
                .and_then(|offset| section.bytes(offset, 4));
            let why = if first != Some(&ENDBR) {
                "does not begin with ENDBR64"
            } else if list.contains(&landing(parent, section, symbol.value)) {
                "loses its ENDBR64 when the kernel starts"
            } else {
                continue;
            };
            problems.push(
                Problem::new(
                    Check::SealedTarget,
                    format!(
                        "a pointer to it is made, and in {} it {why}",
                        parent.object()
                    ),
                )
                .at(table.target.name, relocation.offset)
                .of(symbol.name),
            );
        }
    }
}

/// The kernel's symbol that a relocation refers to, if it is one of an object at hand.
pub(super) fn kernels<'run, 'data>(
    module: &Module<'_>,
    kernel: &Kernel<'run, 'data>,
    relocation: &Relocation,
) -> Option<(&'run Parent<'data>, Symbol<'data>)> {
    let symbol = module.file.symbol(relocation.symbol)?;
    match symbol.place {
        Place::Livepatch => {
            let (object, name, position) = klp::parse_symbol(symbol.name)?;
            let parent = klp::parent(kernel, object)?;
            let found = parent.resolve(name, position).ok()?;
            Some((parent, parent.file().symbol(found.symbol)?))
        }
        Place::Undefined => {
            let export = kernel.symvers.get(symbol.name)?;
            let parent = klp::parent(kernel, &export.object.0)?;
            Some((parent, parent.global(symbol.name)?))
        }
        Place::Section(_) | Place::Absolute | Place::Common | Place::Reserved(_) => None,
    }
}

/// A place where a branch lands: an address of vmlinux, or a place in a module's section.
type Landing = (Option<SectionIndex>, u64);

fn landing(parent: &Parent<'_>, section: &Section<'_>, value: u64) -> Landing {
    (
        (!parent.object().is_vmlinux()).then_some(section.index),
        value,
    )
}

/// The functions of an object that lose their ENDBR64. What cannot be read is treated as no list: then
/// the object itself would not load.
fn sealed(parent: &Parent<'_>) -> BTreeSet<Landing> {
    let file = parent.file();
    let edge = |name| parent.global(name);
    if let (Some(start), Some(end)) = (edge("__ibt_endbr_seal"), edge("__ibt_endbr_seal_end")) {
        let bytes = start
            .section()
            .and_then(|index| file.section(index))
            .and_then(|section| {
                let length = end.value.checked_sub(start.value)?;
                section.bytes(start.value.checked_sub(section.address)?, length)
            });
        let (fields, _) = bytes.unwrap_or_default().as_chunks::<4>();
        return fields
            .iter()
            .zip((start.value..).step_by(4))
            .map(|(field, at)| {
                let distance = i32::from_le_bytes(*field);
                (None, at.wrapping_add_signed(distance.into()))
            })
            .collect();
    }
    let Some(table) = file.section_named(SEALED) else {
        return BTreeSet::new();
    };
    file.relocation_sections(table.index)
        .filter_map(|section| file.relocations(section).ok())
        .flatten()
        .filter_map(|relocation| {
            let symbol = file.symbol(relocation.symbol)?;
            let value = symbol.value.checked_add_signed(relocation.addend)?;
            Some((Some(symbol.section()?), value))
        })
        .collect()
}
