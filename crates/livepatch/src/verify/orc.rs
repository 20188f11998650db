//! What the entries for the stack unwinder say, against what the code does.
//!
//! An entry holds from its address on to the next one (`arch/x86/kernel/unwind_orc.c`).

use std::collections::BTreeMap;

use super::flow::{Code, REPLACEMENTS};
use super::module::{Module, Spot};
use super::stack::{Register, Stacks, State, Value};
use super::structs::OrcFormat;
use super::{Check, Problem, StackCoverage, StockModule, code};
use crate::elf::SectionIndex;

const ORC: &str = ".orc_unwind";
const ORC_IP: &str = ".orc_unwind_ip";
const SIZE: u64 = 6;

/// Registers by the numbers of `asm/orc_types.h`.
const UNDEFINED: u8 = 0;
const PREVIOUS_SP: u8 = 1;
const BP: u8 = 4;
const SP: u8 = 5;
const BP_INDIRECT: u8 = 8;
const SP_INDIRECT: u8 = 9;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing is known from here on.
    Nothing,
    /// The stack ends here.
    End,
    /// A frame of a function.
    Call,
    /// Registers that an interrupt saved.
    Registers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    kind: Kind,
    sp: u8,
    sp_offset: i64,
    bp: u8,
    bp_offset: i64,
}

fn decode(format: OrcFormat, bytes: [u8; 6]) -> Result<Entry, &'static str> {
    let [sp_low, sp_high, bp_low, bp_high, registers, flags] = bytes;
    let (sp, bp) = (registers & 0xf, registers >> 4);
    let kind = match format {
        OrcFormat::Ends => match (flags & 3, flags & 4 != 0, sp) {
            _ if flags & !7 != 0 => return Err("has bits that mean nothing"),
            (_, true, _) => Kind::End,
            (0, false, UNDEFINED) => Kind::Nothing,
            (0, false, _) => Kind::Call,
            (1 | 2, false, _) => Kind::Registers,
            _ => return Err("is of a type the unwinder does not know"),
        },
        OrcFormat::Types => match flags & 7 {
            _ if flags & !15 != 0 => return Err("has bits that mean nothing"),
            // The signal flag: the address is where an interrupt came, not behind a call.
            2 if flags & 8 != 0 => return Err("takes a call for an interrupt"),
            0 => Kind::Nothing,
            1 => Kind::End,
            2 => Kind::Call,
            3 | 4 => Kind::Registers,
            _ => return Err("is of a type the unwinder does not know"),
        },
    };
    if kind == Kind::Call && (sp == UNDEFINED || sp == PREVIOUS_SP || sp > SP_INDIRECT) {
        return Err("takes the stack pointer from a register the unwinder does not know");
    }
    if kind == Kind::Call && ![UNDEFINED, PREVIOUS_SP, BP].contains(&bp) {
        return Err("takes the frame pointer from where the unwinder does not look");
    }
    Ok(Entry {
        kind,
        sp,
        sp_offset: i16::from_le_bytes([sp_low, sp_high]).into(),
        bp,
        bp_offset: i16::from_le_bytes([bp_low, bp_high]).into(),
    })
}

/// The section that says which form the entries have (from 6.4 on).
const HEADER: &str = ".orc_header";

pub(super) fn header<'data>(module: &Module<'data>) -> Option<&'data [u8]> {
    Some(module.file.section_named(HEADER)?.data)
}

pub(super) fn check_header(module: &Module<'_>, stock: &StockModule, problems: &mut Vec<Problem>) {
    if header(module) != stock.orc_header.as_deref() {
        let why =
            "is not what this kernel's modules have, so their entries may mean something else";
        problems.push(Problem::new(Check::Orc, why).in_section(HEADER));
    }
}

type Table = BTreeMap<SectionIndex, BTreeMap<u64, Entry>>;

pub(super) fn check(
    module: &Module<'_>,
    format: OrcFormat,
    code: &Code<'_>,
    stacks: &Stacks,
    problems: &mut Vec<Problem>,
) -> StackCoverage {
    let table = read(module, format, code, stacks, problems);
    let mut coverage = StackCoverage::default();
    let replacements = module.file.section_named(REPLACEMENTS);
    let mut wrong = Wrong::new();
    for (section, step) in code.steps() {
        if replacements.is_some_and(|replacements| replacements.index == section) {
            continue;
        }
        coverage.instructions = coverage.instructions.saturating_add(1);
        let spot = (section, step.start());
        if let Some(state) = stacks.states.get(&spot)
            && compare(module, code, &table, spot, spot, state, &mut wrong)
        {
            coverage.followed = coverage.followed.saturating_add(1);
        }
    }
    // While it runs, a replacement lies where the original was.
    for (at, original) in &stacks.replaced {
        if let Some(state) = stacks.states.get(at) {
            compare(module, code, &table, *original, *at, state, &mut wrong);
        }
    }
    // One wrong entry is in force for many instructions: the first of each function says enough.
    for (mut problem, more) in wrong.into_values() {
        if more > 0 {
            problem.why = format!("{}; {more} more of its instructions", problem.why);
        }
        problems.push(problem);
    }
    coverage
}

/// The first problem of each function and how many more it has.
type Wrong = BTreeMap<Option<Spot>, (Problem, usize)>;

fn read(
    module: &Module<'_>,
    format: OrcFormat,
    code: &Code<'_>,
    stacks: &Stacks,
    problems: &mut Vec<Problem>,
) -> Table {
    let mut table = Table::new();
    let entries = module.file.section_named(ORC).copied();
    for relocation in module.relocations_of(ORC_IP) {
        let number = relocation.offset / 4;
        let at = number.saturating_mul(SIZE);
        let problem = |why: &str| Problem::new(Check::Orc, why).at(ORC, at);
        let bytes = entries.and_then(|entries| entries.bytes(at, SIZE));
        let bytes = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        let (Some(spot), Some(bytes)) = (module.spot(relocation), bytes) else {
            continue;
        };
        let entry = match decode(format, bytes) {
            Ok(entry) => entry,
            Err(why) => {
                problems.push(problem(why));
                continue;
            }
        };
        let inside = code.body_at(spot).is_some();
        if inside && code.step(spot).is_none() && !stacks.is_replaced(spot) {
            problems.push(problem("is about the middle of an instruction"));
        }
        // The end of one section's code may be the start of another's: what ends there knows nothing,
        // and the kernel sorts it first.
        let places = table.entry(spot.0).or_default();
        match places.get(&spot.1) {
            Some(Entry {
                kind: Kind::Nothing,
                ..
            })
            | None => {
                places.insert(spot.1, entry);
            }
            Some(_) if entry.kind == Kind::Nothing => {}
            Some(_) => problems.push(problem("is the second one about its address")),
        }
    }
    table
}

/// Whether it could be told that the entry in force at `spot` is right or wrong. `at` is the instruction.
fn compare(
    module: &Module<'_>,
    code: &Code<'_>,
    table: &Table,
    spot: Spot,
    at: Spot,
    state: &State,
    wrong: &mut Wrong,
) -> bool {
    let entry = table
        .get(&spot.0)
        .and_then(|places| places.range(..=spot.1).next_back());
    let Some((_, entry)) = entry else {
        // The rule about missing entries says it once for each function.
        return false;
    };
    match judge(entry, state) {
        Ok(told) => told,
        Err(why) => {
            let (section, offset) = at;
            let mut problem =
                Problem::new(Check::Orc, why).at(code::section_name(module, section), offset);
            let body = code.body_at(spot);
            if let Some(body) = body {
                problem = problem.of(body.name());
            }
            let function = body.map(|body| (body.section, body.start));
            wrong
                .entry(function)
                .and_modify(|(_, more)| *more = more.saturating_add(1))
                .or_insert((problem, 0));
            true
        }
    }
}

fn judge(entry: &Entry, state: &State) -> Result<bool, String> {
    match entry.kind {
        Kind::Call => {}
        Kind::Nothing => return Err("the stack unwinder is told nothing here".to_owned()),
        Kind::End => return Err("the stack unwinder is told that the stack ends here".to_owned()),
        Kind::Registers => {
            return Err("the stack unwinder is told of saved registers of an interrupt".to_owned());
        }
    }
    let told = stack_pointer(entry, state)?;
    frame_pointer(entry, state)?;
    Ok(told)
}

fn stack_pointer(entry: &Entry, state: &State) -> Result<bool, String> {
    let register = match entry.sp {
        SP => Register::SP,
        BP => Register::BP,
        2 => Register::DX,
        3 => Register::DI,
        6 => Register::R10,
        7 => Register::R13,
        BP_INDIRECT | SP_INDIRECT => {
            let (base, offset, plus) = match entry.sp {
                BP_INDIRECT => (Register::BP, entry.sp_offset, 0),
                _ => (Register::SP, 0, entry.sp_offset),
            };
            let held = state.loaded(state.register(base).plus(offset)).plus(plus);
            return match held {
                Value::Frame(0) => Ok(true),
                Value::Frame(_) | Value::Aligned(_) | Value::Entry(_) | Value::Unknown => Err(
                    "the caller's stack pointer is not where the stack unwinder reads it"
                        .to_owned(),
                ),
            };
        }
        _ => return Ok(false),
    };
    match state.register(register).plus(entry.sp_offset) {
        Value::Frame(0) => Ok(true),
        Value::Frame(wrong) => Err(format!(
            "the stack unwinder takes {} {:+} for the caller's stack pointer, {} bytes {}",
            register.name(),
            entry.sp_offset,
            wrong.unsigned_abs(),
            if wrong > 0 { "too many" } else { "too few" }
        )),
        // Where paths meet that could not all be followed.
        Value::Unknown if register == Register::SP => Ok(false),
        Value::Aligned(_) | Value::Entry(_) | Value::Unknown => Err(format!(
            "the stack unwinder counts from {}, which holds no known place of the stack",
            register.name()
        )),
    }
}

fn frame_pointer(entry: &Entry, state: &State) -> Result<(), String> {
    let held = match entry.bp {
        PREVIOUS_SP => state.loaded(Value::Frame(entry.bp_offset)),
        BP => state.loaded(state.register(Register::BP).plus(entry.bp_offset)),
        _ => state.register(Register::BP),
    };
    match held {
        Value::Entry(Register::BP) => Ok(()),
        Value::Frame(_) | Value::Aligned(_) | Value::Entry(_) | Value::Unknown => {
            Err("the caller's frame pointer is not where the stack unwinder reads it".to_owned())
        }
    }
}
