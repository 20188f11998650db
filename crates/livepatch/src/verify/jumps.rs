//! Branches that the kernel switches while it runs: static keys and static calls.
//!
//! The kernel compares what it finds with what it expects, and stops where they differ
//! (`arch/x86/kernel/jump_label.c`, `arch/x86/kernel/static_call.c`).

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::Mnemonic;

use super::flow::{Code, Step, Target};
use super::module::{Module, Spot};
use super::stack::Edges;
use super::{Check, Kernel, Problem, layout, padded};
use crate::elf::{Place, Relocation, Section, Symbol};

const KEYS: &str = "__jump_table";
const CALLS: &str = ".static_call_sites";
/// Bytes of a `struct static_key`.
const KEY: u64 = 16;
const TRAMPOLINE: &str = "__SCT__";
const CALL_KEY: &str = "__SCK__";

fn relocations<'a>(module: &'a Module<'_>, table: &'a str) -> BTreeMap<u64, &'a Relocation> {
    let relocations = module.relocations_of(table);
    relocations.map(|entry| (entry.offset, entry)).collect()
}

pub(super) fn check_keys(
    module: &Module<'_>,
    kernel: &Kernel<'_, '_>,
    code: &Code<'_>,
    edges: &mut Edges,
    problems: &mut Vec<Problem>,
) {
    let relocations = relocations(module, KEYS);
    let size = module.file.section_named(KEYS);
    let size = size.map_or(0, |table| table.data.len() as u64);
    let mut listed = BTreeSet::new();
    for at in (0..size / 16).map(|number| number.saturating_mul(16)) {
        let mut problem =
            |why: &str| problems.push(Problem::new(Check::JumpEntry, why).at(KEYS, at));
        let entry = |field: u64| relocations.get(&at.saturating_add(field)).copied();
        // The rule about tables says which relocation is missing.
        let (Some(source), Some(target), Some(key)) = (entry(0), entry(4), entry(8)) else {
            continue;
        };
        let (Some(source), Some(target)) = (module.spot(source), module.spot(target)) else {
            continue;
        };
        if !listed.insert(source) {
            problem("is the second one about its branch");
        }
        let named = code.body_at(source).is_some();
        let Some(step) = code.step(source) else {
            if named {
                problem("is about the middle of an instruction");
            }
            continue;
        };
        match code.body_at(target) {
            Some(body)
                if code.body(step).is_some_and(|from| {
                    (from.section, from.start) == (body.section, body.start) || from.is_family(body)
                }) =>
            {
                if code.step(target).is_none() {
                    problem("leads into the middle of an instruction");
                }
            }
            Some(_) | None => problem("leads out of its function"),
        }
        let Some(form) = form(module, code, source, step) else {
            problem("is about neither a jump nor a no-operation of two or five bytes");
            continue;
        };
        edges.also.entry(source).or_default().push(target);
        match initial(module, kernel, key) {
            Err(why) => problem(why),
            Ok(on) => {
                let branch = key.addend & 1 != 0;
                match (on.map(|on| on != branch), form) {
                    (Some(true), Form::Nop) => {
                        problem("the kernel expects a jump here, which is not there");
                    }
                    (Some(false), Form::Jump(_)) => {
                        problem("the kernel expects a no-operation here, which is not there");
                    }
                    (_, Form::Jump(to)) if to != target => {
                        problem("its jump leads elsewhere than the entry says");
                    }
                    (_, Form::Nop)
                        if step.instruction.len() == SHORT && !reaches(source, target) =>
                    {
                        problem("two bytes do not jump as far as the entry says");
                    }
                    (_, Form::Nop | Form::Jump(_)) => {}
                }
            }
        }
    }
}

/// Bytes of the shorter of the two jumps that the kernel writes.
const SHORT: usize = 2;

/// Whether a jump of two bytes at `from` gets to `to`. The kernel stops at one that does not
/// (`text_gen_insn` in arch/x86/include/asm/text-patching.h).
fn reaches(from: Spot, to: Spot) -> bool {
    let (Ok(end), Ok(to_at)) = (i64::try_from(from.1), i64::try_from(to.1)) else {
        return false;
    };
    from.0 == to.0 && i8::try_from(to_at.saturating_sub(end.saturating_add(2))).is_ok()
}

enum Form {
    Nop,
    Jump(Spot),
}

/// What stands at a static branch, if the kernel can switch it.
fn form(module: &Module<'_>, code: &Code<'_>, spot: Spot, step: &Step) -> Option<Form> {
    let length = step.instruction.len();
    match step.instruction.mnemonic() {
        Mnemonic::Nop if [2, 5].contains(&length) => {
            let bytes = module.file.section(spot.0)?.bytes(spot.1, length as u64)?;
            // It compares bytes: these two are the only ones it writes.
            let known: [&[u8]; 2] = [&[0x66, 0x90], &[0x0f, 0x1f, 0x44, 0, 0]];
            known.contains(&bytes).then_some(Form::Nop)
        }
        Mnemonic::Jmp if [2, 5].contains(&length) => match code.target(module, spot.0, step)? {
            Target::Own(to) => Some(Form::Jump(to)),
            Target::Foreign(..) | Target::Lost => None,
        },
        _ => None,
    }
}

/// Whether a key is on in the file that defines it; `None` inside if that file is not at hand.
fn initial(
    module: &Module<'_>,
    kernel: &Kernel<'_, '_>,
    relocation: &Relocation,
) -> Result<Option<bool>, &'static str> {
    // The lowest bits say which way the branch was written.
    let distance = relocation.addend & !3;
    let Some(symbol) = module.file.symbol(relocation.symbol) else {
        return Err("names no key");
    };
    match symbol.place {
        Place::Section(section) => {
            let section = module.file.section(section).ok_or("names no key")?;
            let at = symbol.value.checked_add_signed(distance);
            let at = at.ok_or("its key is outside its section")?;
            if section.name == layout::THIS_MODULE || section.is_executable() {
                return Err("what it names is no key");
            }
            let relocated = module
                .relocations_of(section.name)
                .any(|other| other.offset.saturating_add(8) > at && other.offset < at + KEY);
            if relocated {
                return Err("what it names is no key: it holds an address");
            }
            value(section, at).map(Some)
        }
        Place::Undefined | Place::Livepatch => {
            let Some((parent, found)) = padded::kernels(module, kernel, relocation) else {
                return Ok(None);
            };
            let distance =
                u64::try_from(distance).map_err(|_| "its key is outside its variable")?;
            if distance.checked_add(KEY).is_none_or(|end| end > found.size) {
                return Err("its key is outside its variable");
            }
            let holds = found.size.is_multiple_of(KEY) && distance.is_multiple_of(KEY)
                || found.name.starts_with("__tracepoint_")
                    && distance == kernel.structures.tracepoint_key
                || is_listed(kernel, &found, distance);
            if !holds {
                return Err("what it names is no key");
            }
            let section = found.section().and_then(|at| parent.file().section(at));
            let section = section.ok_or("names no key")?;
            let at = found.value.checked_sub(section.address);
            let at = at.and_then(|at| at.checked_add(distance));
            value(section, at.ok_or("its key is outside its section")?).map(Some)
        }
        Place::Absolute | Place::Common | Place::Reserved(_) => Err("names no key"),
    }
}

/// Whether vmlinux itself has a static branch on the key at `distance` into `found`.
fn is_listed(kernel: &Kernel<'_, '_>, found: &Symbol<'_>, distance: u64) -> bool {
    let vmlinux = kernel.vmlinux;
    let (Some(start), Some(end)) = (
        vmlinux.global("__start___jump_table"),
        vmlinux.global("__stop___jump_table"),
    ) else {
        return false;
    };
    let bytes = start
        .section()
        .and_then(|index| vmlinux.file().section(index))
        .and_then(|section| {
            let length = end.value.checked_sub(start.value)?;
            section.bytes(start.value.checked_sub(section.address)?, length)
        });
    let wanted = found.value.wrapping_add(distance);
    let (entries, _) = bytes.unwrap_or_default().as_chunks::<16>();
    entries
        .iter()
        .zip((start.value..).step_by(16))
        .any(|(entry, at)| {
            let Some(distance) = entry.last_chunk::<8>() else {
                return false;
            };
            let distance = i64::from_le_bytes(*distance);
            at.wrapping_add(8).wrapping_add_signed(distance) & !3 == wanted
        })
}

/// Reads a `struct static_key`: a count that is 0 or 1, and a type that says the same.
fn value(section: &Section<'_>, at: u64) -> Result<bool, &'static str> {
    if section.is_nobits() {
        let inside = at.checked_add(KEY).is_some_and(|end| end <= section.size);
        return inside
            .then_some(false)
            .ok_or("its key is outside its section");
    }
    let bytes = section
        .bytes(at, KEY)
        .ok_or("its key is outside its section")?;
    match bytes {
        [1, 0, 0, 0, _, _, _, _, 1, 0, 0, 0, 0, 0, 0, 0] => Ok(true),
        // Old keys say on only by their count.
        [0 | 1, 0, 0, 0, _, _, _, _, 0, 0, 0, 0, 0, 0, 0, 0] => Ok(false),
        _ => Err("what it names is no key"),
    }
}

/// A call that is not listed goes by way of the trampoline for ever, and is right all the same.
pub(super) fn check_calls(module: &Module<'_>, code: &Code<'_>, problems: &mut Vec<Problem>) {
    let relocations = relocations(module, CALLS);
    let size = module.file.section_named(CALLS);
    let size = size.map_or(0, |table| table.data.len() as u64);
    let mut listed = BTreeSet::new();
    for at in (0..size / 8).map(|number| number.saturating_mul(8)) {
        let mut problem =
            |why: &str| problems.push(Problem::new(Check::StaticCall, why).at(CALLS, at));
        let entry = |field: u64| relocations.get(&at.saturating_add(field)).copied();
        let (Some(source), Some(key)) = (entry(0), entry(4)) else {
            continue;
        };
        let Some(spot) = module.spot(source) else {
            continue;
        };
        if !listed.insert(spot) {
            problem("is the second one about its call");
        }
        let Some(step) = code.step(spot) else {
            if code.body_at(spot).is_some() {
                problem("is about the middle of an instruction");
            }
            continue;
        };
        let called = match code.target(module, spot.0, step) {
            Some(Target::Foreign(relocation, 0)) => Some(module.name_of(&relocation)),
            Some(Target::Own(to)) => module
                .file
                .symbols()
                .iter()
                .find(|symbol| {
                    symbol.section() == Some(to.0)
                        && symbol.value == to.1
                        && symbol.name.starts_with(TRAMPOLINE)
                })
                .map(|symbol| symbol.name),
            Some(Target::Foreign(..) | Target::Lost) | None => None,
        };
        let called = called
            .map(plain)
            .and_then(|name| name.strip_prefix(TRAMPOLINE));
        let Some(called) = called else {
            problem("is not about a call of a trampoline");
            continue;
        };
        // The lowest bits say whether it is a jump, and whether it is init code.
        let tail = key.addend & 1 != 0;
        if tail == step.instruction.is_call_near() {
            problem("takes a call for a jump, or a jump for a call");
        }
        let name = plain(module.name_of(key));
        let name = name
            .strip_prefix(CALL_KEY)
            .or_else(|| name.strip_prefix(TRAMPOLINE));
        let own = module
            .file
            .symbol(key.symbol)
            .and_then(|symbol| symbol.section());
        if name != Some(called) && own.is_none() || key.addend & !3 != 0 && own.is_none() {
            problem("its key is another one's than the trampoline's");
        }
    }
}

/// The name that a livepatch symbol stands for.
fn plain(name: &str) -> &str {
    super::klp::parse_symbol(name).map_or(name, |(_, name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::SectionIndex;

    #[test]
    fn two_bytes_jump_within_128_bytes_of_their_end() {
        let text = SectionIndex(1);
        let from = (text, 0x200);
        for (to, reach) in [
            (0x202, true),
            (0x202 + 127, true),
            (0x202 + 128, false),
            (0x202 - 128, true),
            (0x202 - 129, false),
            (u64::MAX, false),
        ] {
            assert_eq!(reaches(from, (text, to)), reach, "{to:#x}");
        }
        assert!(!reaches(from, (SectionIndex(2), 0x202)));
    }
}
