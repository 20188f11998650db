//! What the module runs by itself: its init function hands one `klp_patch` to the kernel, its exit function
//! does nothing.
//!
//! All else that a module could do while it is loaded would be done outside the livepatch core, with no way
//! back.

use std::collections::BTreeMap;

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::code;
use super::flow::{Code, Step, Target};
use super::layout;
use super::module::{Module, Spot};
use super::{Check, Problem};
use crate::elf::{Place, SectionIndex};

const ENABLE: &str = "klp_enable_patch";

/// What the init function does.
#[derive(Debug, Default)]
pub(super) struct Init {
    /// The `klp_patch` it hands over.
    pub(super) patch: Option<Spot>,
    /// Pointers of the module that it sets before, with the instruction that does.
    pub(super) stores: BTreeMap<Spot, Spot>,
}

pub(super) fn check(module: &Module<'_>, code: &Code<'_>, problems: &mut Vec<Problem>) -> Init {
    let mut init = Init::default();
    if let Some(spot) = start(module, layout::INIT) {
        check_init(module, code, spot, &mut init, problems);
    }
    if let Some(spot) = start(module, layout::EXIT) {
        check_exit(module, code, spot, problems);
    }
    init
}

fn start(module: &Module<'_>, name: &str) -> Option<Spot> {
    let mut symbols = module.file.symbols().iter();
    symbols.find_map(|symbol| {
        let section = symbol.section().filter(|_| symbol.name == name)?;
        Some((section, symbol.value))
    })
}

fn steps<'a>(
    code: &'a Code<'_>,
    spot: Spot,
) -> impl Iterator<Item = (SectionIndex, &'a Step)> + 'a {
    let body = code.function_starting(spot);
    let range = body.map_or(0..0, |body| body.start..body.end);
    code.steps()
        .filter(move |(section, step)| *section == spot.0 && range.contains(&step.start()))
}

fn problem(module: &Module<'_>, spot: Spot, name: &str, why: &str) -> Problem {
    Problem::new(Check::Init, why)
        .at(code::section_name(module, spot.0), spot.1)
        .of(name)
}

fn check_init(
    module: &Module<'_>,
    code: &Code<'_>,
    start: Spot,
    init: &mut Init,
    problems: &mut Vec<Problem>,
) {
    let mut argument = None;
    let mut calls = 0usize;
    for (section, step) in steps(code, start) {
        let spot = (section, step.start());
        let instruction = &step.instruction;
        match code.target(module, section, step) {
            Some(Target::Foreign(relocation, 0)) => match module.name_of(&relocation) {
                "__fentry__" | "__x86_return_thunk" => {}
                ENABLE => {
                    calls = calls.saturating_add(1);
                    init.patch = argument;
                }
                _ => {
                    let why = format!("calls something else than {ENABLE}");
                    problems.push(problem(module, spot, layout::INIT, &why));
                }
            },
            Some(_) => {
                let why = "branches, and may so do something or leave it";
                problems.push(problem(module, spot, layout::INIT, why));
            }
            None if is_quiet(instruction) => {
                if writes(instruction, Register::RDI) {
                    argument = address(module, code, section, step);
                }
            }
            None if instruction.mnemonic() == Mnemonic::Mov
                && instruction.op0_kind() == OpKind::Memory =>
            {
                let to = address(module, code, section, step).filter(|_| calls == 0);
                if let Some(to) = to {
                    init.stores.insert(to, spot);
                } else {
                    let why = "writes to memory that is not the module's";
                    problems.push(problem(module, spot, layout::INIT, why));
                }
            }
            None => {
                let why = "does more than to hand over its patch";
                problems.push(problem(module, spot, layout::INIT, why));
            }
        }
    }
    if calls != 1 || init.patch.is_none() {
        let why = "does not hand one klp_patch of its own to klp_enable_patch";
        problems.push(problem(module, start, layout::INIT, why));
    }
}

fn check_exit(module: &Module<'_>, code: &Code<'_>, start: Spot, problems: &mut Vec<Problem>) {
    for (section, step) in steps(code, start) {
        let quiet = match code.target(module, section, step) {
            Some(Target::Foreign(relocation, 0)) => {
                ["__fentry__", "__x86_return_thunk"].contains(&module.name_of(&relocation))
            }
            Some(_) => false,
            None => is_quiet(&step.instruction),
        };
        if !quiet {
            let why = "does something when the module goes";
            let spot = (section, step.start());
            problems.push(problem(module, spot, layout::EXIT, why));
        }
    }
}

/// Whether an instruction changes nothing but registers and its own stack frame.
fn is_quiet(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Endbr64 | Mnemonic::Nop | Mnemonic::Ret | Mnemonic::Int3 => true,
        Mnemonic::Push | Mnemonic::Pop | Mnemonic::Mov | Mnemonic::Lea => {
            instruction.op0_kind() == OpKind::Register
                && instruction.segment_prefix() == Register::None
                && instruction.op0_register().is_gpr()
        }
        Mnemonic::Add | Mnemonic::Sub => instruction.op0_register() == Register::RSP,
        _ => false,
    }
}

fn writes(instruction: &Instruction, register: Register) -> bool {
    let loads = matches!(
        instruction.mnemonic(),
        Mnemonic::Mov | Mnemonic::Lea | Mnemonic::Pop
    );
    loads
        && instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().full_register() == register
}

/// The place of this module that an instruction's relocated address is.
fn address(
    module: &Module<'_>,
    code: &Code<'_>,
    section: SectionIndex,
    step: &Step,
) -> Option<Spot> {
    let instruction = &step.instruction;
    let reads = instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Register
        && instruction.op1_kind() == OpKind::Memory;
    if reads {
        return None;
    }
    let at = if step.constants.has_displacement() {
        step.constants.displacement_offset()
    } else {
        step.constants.immediate_offset()
    };
    let at = step.start().checked_add(u64::try_from(at).ok()?)?;
    let relocation = code.fields.get(&(section, at))?.relocation;
    let behind = if relocation.is_relative() {
        i64::try_from(step.end().checked_sub(at)?).ok()?
    } else {
        0
    };
    let symbol = module.file.symbol(relocation.symbol)?;
    let Place::Section(home) = symbol.place else {
        return None;
    };
    let distance = relocation.addend.checked_add(behind)?;
    Some((home, symbol.value.checked_add_signed(distance)?))
}
