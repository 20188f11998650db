//! Jumps and calls of the return and indirect-branch thunks, which the kernel rewrites at load time.
//!
//! It finds them by tables alone: one it does not find stays as it is, and with it an open door for
//! speculation or, for returns, a warning and a crash.

use std::collections::BTreeSet;

use iced_x86::{Decoder, DecoderOptions, FlowControl};

use super::code::{function_at, section_name};
use super::flow::Code;
use super::module::{Module, Spot};
use super::{Check, Problem};
use crate::elf::{Relocation, Section, Symbol};

const RETURN_SITES: &str = ".return_sites";
const RETPOLINE_SITES: &str = ".retpoline_sites";
const LOCKS: &str = ".smp_locks";
const LOCK: u8 = 0xf0;
/// What the kernel makes of a lock prefix where one processor runs.
const NO_LOCK: u8 = 0x3e;

pub(super) fn check(module: &Module<'_>, problems: &mut Vec<Problem>) {
    let mut returns = BTreeSet::new();
    let mut branches = BTreeSet::new();
    let mut nameless = BTreeSet::new();
    for table in module
        .tables
        .iter()
        .filter(|table| table.target.is_executable())
    {
        for relocation in &table.entries {
            let name = module.name_of(relocation);
            let found = if name == "__x86_return_thunk" {
                &mut returns
            } else if name.starts_with("__x86_indirect_thunk_") {
                &mut branches
            } else {
                continue;
            };
            let spot = (table.target.index, relocation.offset);
            // Replacement code of alternatives belongs to no function and is patched where it goes; a weak
            // function that lost the link leaves nameless code behind. Their sites may be listed, from
            // the opcode or its prefixes on.
            let Some(function) = function_at(module, spot) else {
                let before = |distance| relocation.offset.checked_sub(distance);
                let starts = (1..=3).filter_map(before);
                nameless.extend(starts.map(|start| (table.target.index, start)));
                continue;
            };
            if let Some(start) = instruction_at(&table.target, function, relocation) {
                found.insert((table.target.index, start));
            } else {
                let why = format!("refers to {name} other than by a jump or call");
                problems.push(
                    Problem::new(Check::ThunkSite, why)
                        .at(table.target.name, relocation.offset)
                        .of(function.name),
                );
            }
        }
    }
    check_branches(module, problems);
    compare(module, RETURN_SITES, &returns, &nameless, problems);
    compare(module, RETPOLINE_SITES, &branches, &nameless, problems);
}

/// Returns and indirect branches that use no thunk, on kernels that have them: no table lists them, so
/// nothing makes them safe. `rewritten` are those that the kernel makes direct ones.
pub(super) fn check_bare(
    module: &Module<'_>,
    code: &Code<'_>,
    exported: impl Fn(&str) -> bool,
    rewritten: impl Fn(Spot) -> bool,
    problems: &mut Vec<Problem>,
) {
    let (returns, branches) = (
        exported("__x86_return_thunk"),
        exported("__x86_indirect_thunk_rax"),
    );
    for (section, step) in code.steps() {
        let Some(body) = code.body(step).filter(|body| !body.names.is_empty()) else {
            continue;
        };
        let spot = (section, step.start());
        let why = match step.instruction.flow_control() {
            FlowControl::Return if returns && !rewritten(spot) => "returns without the thunk",
            FlowControl::IndirectCall | FlowControl::IndirectBranch
                if branches && !rewritten(spot) =>
            {
                "an indirect branch without a thunk"
            }
            FlowControl::Call | FlowControl::ConditionalBranch
                if code.leads_to(module, section, step, "__x86_return_thunk") =>
            {
                "uses the thunk of returns for something else than to return"
            }
            _ => continue,
        };
        problems.push(
            Problem::new(Check::ThunkSite, why)
                .at(section_name(module, section), step.start())
                .of(body.name()),
        );
    }
}

/// The kernel overwrites one byte at each place it is told of.
pub(super) fn check_locks(module: &Module<'_>, code: &Code<'_>, problems: &mut Vec<Problem>) {
    let mut listed = BTreeSet::new();
    for relocation in module.relocations_of(LOCKS) {
        let Some(spot) = module.spot(relocation) else {
            continue;
        };
        let byte = module
            .file
            .section(spot.0)
            .and_then(|section| section.bytes(spot.1, 1)?.first().copied());
        let starts = code.body_at(spot).is_none() || code.step(spot).is_some();
        let why = match byte {
            Some(LOCK | NO_LOCK) if starts && listed.insert(spot) => continue,
            Some(LOCK | NO_LOCK) if starts => "is the second one about its instruction",
            Some(_) | None => "is not about an instruction with a lock prefix",
        };
        problems.push(
            Problem::new(Check::LockSite, why)
                .at(LOCKS, relocation.offset)
                .of(module.name_of(relocation)),
        );
    }
}

/// A branch to the very next instruction is one whose relocation is missing.
fn check_branches(module: &Module<'_>, problems: &mut Vec<Problem>) {
    let mut relocated: BTreeSet<Spot> = BTreeSet::new();
    for table in module
        .tables
        .iter()
        .filter(|table| table.target.is_executable())
    {
        let fields = table
            .entries
            .iter()
            .filter(|entry| entry.width() != Some(0));
        relocated.extend(fields.map(|entry| (table.target.index, entry.offset)));
    }
    for (index, functions) in module.functions() {
        let Some(section) = module.file.section(*index) else {
            continue;
        };
        for function in functions {
            let Some(code) = section.bytes(function.value, function.size) else {
                continue;
            };
            let mut decoder = Decoder::with_ip(64, code, function.value, DecoderOptions::NONE);
            while decoder.can_decode() {
                let instruction = decoder.decode();
                let next = instruction.next_ip();
                let near = instruction.is_call_near()
                    || instruction.is_jmp_near()
                    || instruction.is_jcc_near();
                let field = next.checked_sub(4);
                if near
                    && instruction.near_branch_target() == next
                    && !field.is_some_and(|field| relocated.contains(&(*index, field)))
                {
                    let why = "branches to the next instruction: its relocation is missing";
                    problems.push(
                        Problem::new(Check::Relocation, why)
                            .at(section.name, instruction.ip())
                            .of(function.name),
                    );
                }
            }
        }
    }
}

fn compare(
    module: &Module<'_>,
    table: &str,
    wanted: &BTreeSet<Spot>,
    allowed: &BTreeSet<Spot>,
    problems: &mut Vec<Problem>,
) {
    let mut listed = BTreeSet::new();
    for relocation in module.relocations_of(table) {
        match module.spot(relocation) {
            Some(spot) if wanted.contains(&spot) => {
                listed.insert(spot);
            }
            Some(spot) if allowed.contains(&spot) => {}
            Some(_) | None => {
                let why = "does not point to a jump or call of its thunk";
                problems.push(
                    Problem::new(Check::ThunkSite, why)
                        .at(table, relocation.offset)
                        .of(module.name_of(relocation)),
                );
            }
        }
    }
    for spot in wanted.difference(&listed) {
        let why = format!("a thunk is used here and {table} does not say so");
        let mut problem =
            Problem::new(Check::ThunkSite, why).at(section_name(module, spot.0), spot.1);
        if let Some(function) = function_at(module, *spot) {
            problem = problem.of(function.name);
        }
        problems.push(problem);
    }
}

/// The start of the jump or call that holds a relocated field, decoded from its function's start.
fn instruction_at(
    section: &Section<'_>,
    function: &Symbol<'_>,
    relocation: &Relocation,
) -> Option<u64> {
    let code = section.bytes(function.value, function.size)?;
    let mut decoder = Decoder::with_ip(64, code, function.value, DecoderOptions::NONE);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return None;
        }
        if instruction.next_ip() > relocation.offset {
            // The distance must be the last field of the instruction.
            let ends = relocation.offset.checked_add(4) == Some(instruction.next_ip());
            let branches = match instruction.flow_control() {
                FlowControl::UnconditionalBranch
                | FlowControl::ConditionalBranch
                | FlowControl::Call => true,
                FlowControl::Next
                | FlowControl::IndirectBranch
                | FlowControl::Return
                | FlowControl::IndirectCall
                | FlowControl::Interrupt
                | FlowControl::XbeginXabortXend
                | FlowControl::Exception => false,
            };
            return (ends && branches).then(|| instruction.ip());
        }
    }
    None
}
