//! Where direct branches lead: to the start of a function, or about within one.

use iced_x86::{Code as Opcode, FlowControl};

use super::flow::{Code, Step, Target};
use super::module::{Module, Spot};
use super::padded;
use super::{Check, Kernel, Problem, code};
use crate::elf::{Relocation, SectionIndex, SymbolKind};

pub(super) fn check(
    module: &Module<'_>,
    kernel: &Kernel<'_, '_>,
    code: &Code<'_>,
    problems: &mut Vec<Problem>,
) {
    let problem = |spot: Spot, why: String| {
        let problem =
            Problem::new(Check::Branch, why).at(code::section_name(module, spot.0), spot.1);
        match code.body_at(spot) {
            Some(body) => problem.of(body.name()),
            None => problem,
        }
    };
    for spot in &code.undecodable {
        problems.push(problem(*spot, "no instruction".to_owned()));
    }
    for (section, step) in code.steps() {
        let Some(target) = code.target(module, section, step) else {
            continue;
        };
        let found = match target {
            Target::Lost => Err("leads to nothing that has a place".to_owned()),
            Target::Foreign(relocation, distance) => foreign(module, kernel, &relocation, distance),
            Target::Own(spot) => own(module, code, section, step, spot),
        };
        if let Err(why) = found {
            problems.push(problem((section, step.start()), why));
        }
    }
    check_ends(code, |spot, why| problems.push(problem(spot, why)));
}

fn foreign(
    module: &Module<'_>,
    kernel: &Kernel<'_, '_>,
    relocation: &Relocation,
    distance: i64,
) -> Result<(), String> {
    let name = module.name_of(relocation);
    if distance != 0 {
        return Err(format!("leads to {name} {distance:+}, not to its start"));
    }
    let Some((parent, symbol)) = padded::kernels(module, kernel, relocation) else {
        return Ok(());
    };
    let section = symbol.section().and_then(|at| parent.file().section(at));
    let executable = section.is_some_and(crate::elf::Section::is_executable);
    if symbol.kind == SymbolKind::Object || !executable {
        return Err(format!("leads to {name}, which is no function"));
    }
    Ok(())
}

fn own(
    module: &Module<'_>,
    code: &Code<'_>,
    section: SectionIndex,
    step: &Step,
    spot: Spot,
) -> Result<(), String> {
    let place = || format!("{}+{:#x}", code::section_name(module, spot.0), spot.1);
    let Some(body) = code.body_at(spot) else {
        let executable = module.file.section(spot.0);
        let executable = executable.is_some_and(crate::elf::Section::is_executable);
        // A weak function that lost at the link leaves its code behind without a name.
        return if executable && section == spot.0 && step.instruction.is_jmp_near() {
            Ok(())
        } else {
            Err(format!("leads to {}, where no function is", place()))
        };
    };
    if body.start == spot.1 && !body.names.is_empty() {
        return Ok(());
    }
    let family = code.body(step).is_some_and(|from| from.is_family(body));
    if !family {
        return Err(format!("leads into the middle of {}", body.name()));
    }
    if code.step(spot).is_none() {
        return Err(format!("leads to {}, inside an instruction", place()));
    }
    if step.instruction.is_call_near() {
        return Err(format!("calls {}, not the start of a function", place()));
    }
    Ok(())
}

/// A function must not run on into what lies behind it. Calls may: of functions that do not return.
fn check_ends(code: &Code<'_>, mut problem: impl FnMut(Spot, String)) {
    for body in code.bodies.iter().filter(|body| !body.names.is_empty()) {
        let last = body.end.checked_sub(1);
        let last = last.and_then(|last| code.around((body.section, last)));
        let Some(step) = last else {
            continue;
        };
        let nop = matches!(step.instruction.code(), Opcode::Nopd | Opcode::Int3)
            || step.instruction.mnemonic() == iced_x86::Mnemonic::Nop;
        let runs_on = match step.instruction.flow_control() {
            FlowControl::Next | FlowControl::ConditionalBranch => !nop,
            FlowControl::UnconditionalBranch
            | FlowControl::Call
            | FlowControl::IndirectBranch
            | FlowControl::Return
            | FlowControl::IndirectCall
            | FlowControl::Interrupt
            | FlowControl::XbeginXabortXend
            | FlowControl::Exception => false,
        };
        if step.end() != body.end {
            let why = "its last instruction reaches beyond its end".to_owned();
            problem((body.section, step.start()), why);
        } else if runs_on {
            let why = "runs on into what lies behind it".to_owned();
            problem((body.section, step.start()), why);
        }
    }
}
