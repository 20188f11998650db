//! Tables by which the kernel tells what a fault or a trap means.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{FlowControl, Mnemonic};

use super::alternatives::Alternative;
use super::flow::Code;
use super::module::{Module, Spot};
use super::stack::{Edges, Stacks};
use super::structs::BugLayout;
use super::{Check, Kernel, Problem, code};
use crate::elf::ElfFile;

const BUGS: &str = "__bug_table";
const FAULTS: &str = "__ex_table";
/// Bytes of one `struct exception_table_entry`, and where its type is.
const FAULT: u64 = 12;
const TYPE: u64 = 8;
/// `BUGFLAG_WARNING`, and `BUGFLAG_DONE`, which only the kernel sets.
const WARNING: u16 = 1;
const DONE: u16 = 4;

/// The places of the module that a table's relocations refer to, by offset.
fn places(module: &Module<'_>, table: &str) -> BTreeMap<u64, Spot> {
    module
        .relocations_of(table)
        .filter_map(|relocation| Some((relocation.offset, module.spot(relocation)?)))
        .collect()
}

pub(super) fn check_bugs(
    module: &Module<'_>,
    layout: &BugLayout,
    code: &Code<'_>,
    alternatives: &[Alternative],
    edges: &mut Edges,
    problems: &mut Vec<Problem>,
) {
    let places = places(module, BUGS);
    let table = module.file.section_named(BUGS);
    let size = table.map_or(0, |table| table.data.len() as u64);
    if layout.size == 0 || !size.is_multiple_of(layout.size) {
        let why = format!("its size is no multiple of {}", layout.size);
        problems.push(Problem::new(Check::BugEntry, why).in_section(BUGS));
        return;
    }
    let mut listed = BTreeSet::new();
    for at in (0..size / layout.size).map(|number| number.saturating_mul(layout.size)) {
        let mut problem =
            |why: &str| problems.push(Problem::new(Check::BugEntry, why).at(BUGS, at));
        let address = places.get(&at.saturating_add(layout.address));
        let Some(spot) = address else {
            problem("does not say which instruction it is about");
            continue;
        };
        let traps = code
            .step(*spot)
            .is_some_and(|step| step.instruction.mnemonic() == Mnemonic::Ud2);
        if !traps && code.body_at(*spot).is_some() {
            problem("is not about a trap");
        }
        if !listed.insert(*spot) {
            problem("is the second one about its trap");
        }
        let flags = table
            .and_then(|table| table.bytes(at.checked_add(layout.flags)?, 2))
            .and_then(|bytes| Some(u16::from_le_bytes(<[u8; 2]>::try_from(bytes).ok()?)));
        match flags {
            Some(flags) if flags & DONE != 0 => problem("says that it was met before"),
            Some(flags) if flags & WARNING != 0 => {
                edges.resumed.insert(*spot);
            }
            Some(_) | None => {}
        }
    }
    let mut fatal = None;
    for (section, step) in code.steps() {
        let spot = (section, step.start());
        if step.instruction.mnemonic() != Mnemonic::Ud2 {
            continue;
        }
        // Where a path cannot be, the compiler itself puts a trap behind the one of a `BUG`.
        let spare = fatal == Some(spot);
        fatal = None;
        if listed.contains(&spot) {
            if !edges.resumed.contains(&spot) {
                fatal = Some((section, step.end()));
            }
        } else if !spare && !is_alternative(alternatives, spot) {
            let why = format!("a trap that {BUGS} does not list");
            problems.push(
                Problem::new(Check::BugEntry, why)
                    .at(code::section_name(module, section), step.start())
                    .of(code.name(step)),
            );
        }
    }
}

/// Whether an instruction is exchanged for another, or comes in the place of one: a trap there is for
/// processors that never get to it, and no entry could name it.
fn is_alternative(alternatives: &[Alternative], spot: Spot) -> bool {
    let within = |start: Spot, length: u64| {
        let distance = spot.1.checked_sub(start.1);
        start.0 == spot.0 && distance.is_some_and(|distance| distance < length)
    };
    alternatives.iter().any(|alternative| {
        within(alternative.original, alternative.length)
            || within(alternative.replacement, alternative.replacement_length)
    })
}

/// A trap that ends everything, with code behind it that nothing else leads to, was a warning.
pub(super) fn check_fatal(
    module: &Module<'_>,
    code: &Code<'_>,
    edges: &Edges,
    stacks: &Stacks,
    problems: &mut Vec<Problem>,
) {
    for (section, step) in code.steps() {
        let spot = (section, step.start());
        let next = (section, step.end());
        let fatal = step.instruction.mnemonic() == Mnemonic::Ud2
            && !edges.resumed.contains(&spot)
            && stacks.states.contains_key(&spot);
        let dead = code.step(next).is_some_and(|behind| {
            behind.body == step.body
                && behind.instruction.mnemonic() != Mnemonic::Ud2
                && behind.instruction.mnemonic() != Mnemonic::Int3
                && behind.instruction.mnemonic() != Mnemonic::Nop
        }) && !stacks.states.contains_key(&next);
        if fatal && dead {
            let why = "nothing leads to the code behind this trap, which is no warning";
            problems.push(
                Problem::new(Check::BugEntry, why)
                    .at(code::section_name(module, section), step.start())
                    .of(code.name(step)),
            );
        }
    }
}

/// The compiler puts `int3` only where nothing runs: behind a return or a jump, against speculation. The
/// kernel's own are at places that it lists while it runs, so one that is run stops the machine.
pub(super) fn check_breaks(
    module: &Module<'_>,
    code: &Code<'_>,
    stacks: &Stacks,
    problems: &mut Vec<Problem>,
) {
    let mut behind = None;
    for (section, step) in code.steps() {
        let spot = (section, step.start());
        let dead = behind == Some((spot, step.body));
        let breaks = step.instruction.mnemonic() == Mnemonic::Int3;
        let ends = match step.instruction.flow_control() {
            FlowControl::Return
            | FlowControl::UnconditionalBranch
            | FlowControl::IndirectBranch => true,
            FlowControl::Interrupt => breaks && dead,
            FlowControl::Next
            | FlowControl::Call
            | FlowControl::IndirectCall
            | FlowControl::ConditionalBranch
            | FlowControl::Exception
            | FlowControl::XbeginXabortXend => false,
        };
        behind = ends.then_some(((section, step.end()), step.body));
        if breaks && (!dead || stacks.states.contains_key(&spot)) {
            let why = "a breakpoint that is run and that nobody handles";
            problems.push(
                Problem::new(Check::BugEntry, why)
                    .at(code::section_name(module, section), step.start())
                    .of(code.name(step)),
            );
        }
    }
}

pub(super) fn check_faults(
    module: &Module<'_>,
    kernel: &Kernel<'_, '_>,
    code: &Code<'_>,
    edges: &mut Edges,
    problems: &mut Vec<Problem>,
) {
    let Some(table) = module.file.section_named(FAULTS) else {
        return;
    };
    let places = places(module, FAULTS);
    let known = types(kernel.vmlinux.file());
    let mut listed = BTreeSet::new();
    let count = (table.data.len() as u64) / FAULT;
    for at in (0..count).map(|number| number.saturating_mul(FAULT)) {
        let mut problem =
            |why: &str| problems.push(Problem::new(Check::ExceptionEntry, why).at(FAULTS, at));
        let (Some(faults), Some(resumes)) = (places.get(&at), places.get(&at.saturating_add(4)))
        else {
            // The rule about tables says which relocation is missing.
            continue;
        };
        let from = code.body_at(*faults);
        if from.is_some() && code.step(*faults).is_none() {
            problem("is about the middle of an instruction");
        }
        if !listed.insert(*faults) {
            problem("is the second one about its instruction");
        }
        let to = code.body_at(*resumes);
        match (from, to) {
            (Some(from), Some(to)) => {
                let same = from.section == to.section && from.start == to.start;
                if !same && !from.is_family(to) {
                    problem("goes on in another function");
                } else if code.step(*resumes).is_none() {
                    problem("goes on in the middle of an instruction");
                } else {
                    edges.also.entry(*faults).or_default().push(*resumes);
                }
            }
            (Some(from), None) if from.section != resumes.0 || from.end != resumes.1 => {
                problem("goes on where no function is");
            }
            (Some(_) | None, None) | (None, Some(_)) => {}
        }
        let handler = at.checked_add(TYPE).and_then(|at| table.bytes(at, 1));
        let handler = handler.and_then(|bytes| bytes.first().copied());
        if !handler.is_some_and(|handler| known.contains(&handler)) {
            problem("asks for a handler that no entry of the kernel asks for");
        }
    }
}

/// The kinds of handler that the kernel's own entries ask for.
fn types(vmlinux: &ElfFile<'_>) -> BTreeSet<u8> {
    let table = vmlinux.section_named(FAULTS);
    let (entries, _) = table
        .map(|table| table.data)
        .unwrap_or_default()
        .as_chunks::<12>();
    entries.iter().map(|entry| entry[8]).collect()
}
