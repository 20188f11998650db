//! Addresses that the module's code and data hold: each field fits its instruction, each place exists.

use iced_x86::{Mnemonic, Register};

use super::flow::{Code, Step};
use super::module::Module;
use super::padded;
use super::{Check, Kernel, Problem};
use crate::elf::{Place, Relocation, Section, SymbolKind};

/// How far behind an array an address may lie that is only compared with: a member of the element that
/// would come next.
const SLACK: u64 = 0x100;
/// `R_X86_64_64`.
const POINTER: u32 = 1;

pub(super) fn check(
    module: &Module<'_>,
    kernel: &Kernel<'_, '_>,
    code: &Code<'_>,
    problems: &mut Vec<Problem>,
) {
    for table in &module.tables {
        let name = table.target.name;
        let is_code = table.target.is_executable();
        let is_data = [".data", ".rodata", "__dyndbg", "__param", ".bss"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if !is_code && !is_data {
            continue;
        }
        for relocation in table
            .entries
            .iter()
            .filter(|entry| entry.width() != Some(0))
        {
            let problem = |check, why: String| {
                Problem::new(check, why)
                    .at(name, relocation.offset)
                    .of(module.name_of(relocation))
            };
            let step = code.around((table.target.index, relocation.offset));
            let step = step.filter(|_| is_code);
            let mut behind = 0;
            if let Some(step) = step {
                match operand(step, relocation) {
                    Err(why) => {
                        problems.push(problem(Check::Operand, why.to_owned()));
                        continue;
                    }
                    Ok(distance) => behind = distance,
                }
                if step.is_branch() {
                    continue;
                }
            } else if is_code {
                // Code that belongs to no function.
                continue;
            }
            let found = reference(module, kernel, code, relocation, behind, step);
            if let Err(why) = found {
                problems.push(problem(Check::Reference, why));
            }
        }
    }
}

/// Whether a relocation is of the kind and width that its instruction reads, and how far behind the field
/// the instruction ends if it counts from there.
fn operand(step: &Step, relocation: &Relocation) -> Result<i64, &'static str> {
    let instruction = &step.instruction;
    let at = relocation.offset.checked_sub(step.start());
    let at = at.and_then(|at| usize::try_from(at).ok());
    let constants = &step.constants;
    let displacement = constants.has_displacement() && at == Some(constants.displacement_offset());
    let immediate = constants.has_immediate() && at == Some(constants.immediate_offset());
    let size = match (displacement, immediate) {
        (true, _) => constants.displacement_size(),
        (_, true) => constants.immediate_size(),
        (false, false) => return Err("is no field of the instruction it is in"),
    };
    let relative = step.is_branch() || displacement && instruction.is_ip_rel_memory_operand();
    if relative != relocation.is_relative() {
        return Err(if relative {
            "an address where the instruction counts from its own place"
        } else {
            "a distance where the instruction takes an address"
        });
    }
    if relocation.width() != Some(size as u64) {
        return Err("is not as wide as the field of the instruction");
    }
    let behind = step.end().saturating_sub(relocation.offset);
    Ok(if relative {
        i64::try_from(behind).unwrap_or_default()
    } else {
        0
    })
}

fn reference(
    module: &Module<'_>,
    kernel: &Kernel<'_, '_>,
    code: &Code<'_>,
    relocation: &Relocation,
    behind: i64,
    step: Option<&Step>,
) -> Result<(), String> {
    let distance = relocation.addend.saturating_add(behind);
    // With an index the address is but a base: the element may lie where it does not.
    let indexed = step.is_some_and(|step| {
        let instruction = &step.instruction;
        !instruction.is_ip_rel_memory_operand()
            && step.constants.has_displacement()
            && u64::try_from(step.constants.displacement_offset()).ok()
                == relocation.offset.checked_sub(step.start())
            && (instruction.memory_index() != Register::None
                || instruction.memory_base() != Register::None)
    });
    let Some(symbol) = module.file.symbol(relocation.symbol) else {
        return Ok(());
    };
    let accessed = step
        .filter(|_| !indexed)
        .map_or(0, |step| accessed(step, relocation));
    match symbol.place {
        Place::Section(home) => {
            let Some(section) = module.file.section(home) else {
                return Ok(());
            };
            let offset = symbol.value.checked_add_signed(distance);
            let computed = step.is_some_and(|step| {
                !step.constants.has_displacement() || step.instruction.mnemonic() == Mnemonic::Lea
            });
            let slack = if computed { SLACK } else { 0 };
            let limit = section.size.saturating_add(slack);
            let offset = offset.filter(|offset| *offset <= limit);
            let Some(offset) = offset else {
                return if indexed {
                    Ok(())
                } else {
                    Err(format!(
                        "{distance:+} is outside {}, which has {:#x} bytes",
                        section.name, section.size
                    ))
                };
            };
            // Code of the kernel reads a word where a shorter variable starts, but none where all end.
            if accessed > 0 && offset >= section.size {
                return Err(format!("is read or written where {} ends", section.name));
            }
            if !section.is_executable() || code.function_starting((home, offset)).is_some() {
                return Ok(());
            }
            // `_THIS_IP_` is a place in the function that asks.
            let same = step.is_some_and(|step| {
                code.step((home, offset))
                    .is_some_and(|to| to.body == step.body)
            });
            let pointer = step.is_some() || relocation.kind == POINTER;
            if same || !pointer || code.body_at((home, offset)).is_none() && step.is_none() {
                Ok(())
            } else {
                Err(format!(
                    "{}+{offset:#x} is not the start of a function",
                    section.name
                ))
            }
        }
        Place::Undefined | Place::Livepatch => {
            foreign(module, kernel, relocation, distance, indexed, accessed)
        }
        Place::Absolute | Place::Common | Place::Reserved(_) => Ok(()),
    }
}

/// Bytes that an instruction reads or writes at the very address that a relocation fills in; none where
/// it takes the address alone, which may be the end of an array.
fn accessed(step: &Step, relocation: &Relocation) -> u64 {
    let field = step
        .start()
        .saturating_add(step.constants.displacement_offset() as u64);
    let takes = matches!(step.instruction.mnemonic(), Mnemonic::Lea | Mnemonic::Nop);
    if takes || !step.constants.has_displacement() || field != relocation.offset {
        return 0;
    }
    step.instruction.memory_size().size() as u64
}

fn foreign(
    module: &Module<'_>,
    kernel: &Kernel<'_, '_>,
    relocation: &Relocation,
    distance: i64,
    indexed: bool,
    accessed: u64,
) -> Result<(), String> {
    let Some((parent, symbol)) = padded::kernels(module, kernel, relocation) else {
        return Ok(());
    };
    let section = symbol.section().and_then(|at| parent.file().section(at));
    let function =
        symbol.kind == SymbolKind::Function && section.is_some_and(Section::is_executable);
    if function && distance != 0 {
        return Err(format!("{distance:+} is not the start of the function"));
    }
    // What is read or written starts in the variable; an address alone may be its end.
    let limit = symbol.size.saturating_add(u64::from(accessed == 0));
    let inside = u64::try_from(distance).is_ok_and(|distance| distance < limit);
    if symbol.kind == SymbolKind::Object && symbol.size > 0 && !inside && !indexed {
        return Err(format!(
            "{distance:+} is outside it, it has {:#x} bytes in {}",
            symbol.size,
            parent.object()
        ));
    }
    Ok(())
}
