//! What each instruction leaves on the stack and in the registers that a function must give back.
//!
//! Every function is walked along all its paths with the addresses of its own stack frame kept apart from
//! all other values. What cannot be followed becomes unknown, and is never judged.

use std::collections::{BTreeMap, HashMap, VecDeque};

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register as Named,
};

use super::alternatives::Alternative;
use super::flow::{Code, Step, Target};
use super::module::{Module, Spot};
use super::{Check, Problem, code};
use crate::elf::SectionIndex;

/// A general register, by its number in instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register(usize);

impl Register {
    pub(super) const DX: Self = Self(2);
    pub(super) const SP: Self = Self(4);
    pub(super) const BP: Self = Self(5);
    pub(super) const DI: Self = Self(7);
    pub(super) const R10: Self = Self(10);
    pub(super) const R13: Self = Self(13);
    /// Those that a function must give back as it found them.
    const KEPT: [Self; 6] = [Self(3), Self::BP, Self(12), Self::R13, Self(14), Self(15)];

    pub(super) fn name(self) -> &'static str {
        const NAMES: [&str; 16] = [
            "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11",
            "r12", "r13", "r14", "r15",
        ];
        NAMES.get(self.0).copied().unwrap_or("no register")
    }

    /// The whole register that `named` is, or is a part of.
    fn of(named: Named) -> Option<Self> {
        let full = named.full_register();
        let number = full.number();
        (full.is_gpr64() && number < 16).then_some(Self(number))
    }
}

/// What a register or a place on the stack holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Unknown,
    /// So many bytes from the caller's stack pointer, as it is once the function has returned.
    Frame(i64),
    /// So many bytes from where the function aligned its stack pointer.
    Aligned(i64),
    /// What the register held when the function was entered.
    Entry(Register),
}

impl Value {
    pub(super) fn plus(self, distance: i64) -> Self {
        let moved = |from: i64| from.checked_add(distance);
        match self {
            Self::Frame(from) => moved(from).map_or(Self::Unknown, Self::Frame),
            Self::Aligned(from) => moved(from).map_or(Self::Unknown, Self::Aligned),
            Self::Entry(_) if distance == 0 => self,
            Self::Entry(_) | Self::Unknown => Self::Unknown,
        }
    }

    /// The place of the stack it is the address of.
    fn place(self) -> Option<(bool, i64)> {
        match self {
            Self::Frame(at) => Some((false, at)),
            Self::Aligned(at) => Some((true, at)),
            Self::Entry(_) | Self::Unknown => None,
        }
    }
}

/// What is known before an instruction runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    registers: [Value; 16],
    slots: BTreeMap<(bool, i64), Value>,
}

impl State {
    fn entry() -> Self {
        let mut state = Self {
            registers: [Value::Unknown; 16],
            slots: BTreeMap::new(),
        };
        for register in Register::KEPT {
            state.set(register, Value::Entry(register));
        }
        state.set(Register::SP, Value::Frame(-8));
        state
    }

    pub(super) fn register(&self, register: Register) -> Value {
        let held = self.registers.get(register.0);
        held.copied().unwrap_or(Value::Unknown)
    }

    fn set(&mut self, register: Register, value: Value) {
        if let Some(held) = self.registers.get_mut(register.0) {
            *held = value;
        }
    }

    /// The eight bytes that `address` points to.
    pub(super) fn loaded(&self, address: Value) -> Value {
        let place = address.place();
        let held = place.and_then(|place| self.slots.get(&place));
        held.copied().unwrap_or(Value::Unknown)
    }

    fn store(&mut self, address: Value, size: u64, value: Value) {
        let (Some((base, at)), Ok(size)) = (address.place(), i64::try_from(size)) else {
            return;
        };
        let (first, end) = (at.saturating_sub(7), at.saturating_add(size));
        self.slots
            .retain(|place, _| place.0 != base || place.1 < first || place.1 >= end);
        if size == 8 && value != Value::Unknown {
            self.slots.insert((base, at), value);
        }
    }

    /// Keeps what both know alike. Whether that is less than `self` knew.
    fn meet(&mut self, other: &Self) -> bool {
        let before = self.clone();
        for (held, coming) in self.registers.iter_mut().zip(&other.registers) {
            if held != coming {
                *held = Value::Unknown;
            }
        }
        self.slots
            .retain(|place, value| other.slots.get(place) == Some(value));
        *self != before
    }
}

/// Moves of control that instructions alone do not show, and calls that do not come back.
#[derive(Debug, Default)]
pub(super) struct Edges {
    /// Static branches and faults: from an instruction to where it may also lead.
    pub(super) also: HashMap<Spot, Vec<Spot>>,
    /// Traps after which a function goes on: warnings.
    pub(super) resumed: std::collections::HashSet<Spot>,
}

#[derive(Debug, Default)]
pub(super) struct Stacks {
    /// Before each instruction that was reached.
    pub(super) states: HashMap<Spot, State>,
    /// Instructions of replacements, with where they are put.
    pub(super) replaced: Vec<(Spot, Spot)>,
    originals: Vec<(Spot, u64)>,
}

impl Stacks {
    /// Whether an alternative may be put over `spot`.
    pub(super) fn is_replaced(&self, spot: Spot) -> bool {
        self.originals.iter().any(|((section, start), length)| {
            let distance = spot.1.checked_sub(*start);
            *section == spot.0 && distance.is_some_and(|distance| distance < *length)
        })
    }
}

/// Functions that do not return: what stands behind a call of one is never run.
const FINAL: [&str; 12] = [
    "__stack_chk_fail",
    "panic",
    "do_exit",
    "make_task_dead",
    "kthread_exit",
    "kthread_complete_and_exit",
    "__module_put_and_kthread_exit",
    "fortify_panic",
    "__fortify_panic",
    "usercopy_abort",
    "__ubsan_handle_builtin_unreachable",
    "nmi_panic",
];

/// Walks all functions and reports those that do not give back what they took.
pub(super) fn walk(
    module: &Module<'_>,
    code: &Code<'_>,
    alternatives: &[Alternative],
    edges: &Edges,
    problems: &mut Vec<Problem>,
) -> Stacks {
    let mut walk = Walk {
        module,
        code,
        edges,
        entered: HashMap::new(),
        left: HashMap::new(),
        stacks: Stacks::default(),
        waiting: VecDeque::new(),
        facts: InstructionInfoFactory::new(),
    };
    walk.place(alternatives);
    for body in code.bodies.iter().filter(|body| !body.is_part()) {
        walk.arrive((body.section, body.start), &State::entry());
    }
    // Each arrival that is queued made a state know less, and states know a bounded number of things.
    while let Some(spot) = walk.waiting.pop_front() {
        walk.run(spot);
    }
    walk.judge(problems);
    walk.stacks
}

struct Walk<'run, 'data> {
    module: &'run Module<'data>,
    code: &'run Code<'data>,
    edges: &'run Edges,
    /// Replacements by the instruction they replace, and where each returns to.
    entered: HashMap<Spot, Vec<Spot>>,
    left: HashMap<Spot, Spot>,
    stacks: Stacks,
    waiting: VecDeque<Spot>,
    facts: InstructionInfoFactory,
}

impl Walk<'_, '_> {
    fn place(&mut self, alternatives: &[Alternative]) {
        for alternative in alternatives {
            let (section, start) = alternative.original;
            let (home, first) = alternative.replacement;
            self.stacks
                .originals
                .push((alternative.original, alternative.length));
            let end = first.saturating_add(alternative.replacement_length);
            let (Some(after), false) = (
                start.checked_add(alternative.length),
                alternative.replacement_length == 0,
            ) else {
                continue;
            };
            self.entered
                .entry(alternative.original)
                .or_default()
                .push(alternative.replacement);
            self.left.insert((home, end), (section, after));
            let mut at = first;
            while at < end
                && let Some(step) = self.code.step((home, at))
            {
                let put = start.checked_add(at.saturating_sub(first));
                if let Some(put) = put {
                    self.stacks.replaced.push(((home, at), (section, put)));
                }
                at = step.end();
            }
        }
    }

    fn arrive(&mut self, spot: Spot, state: &State) {
        let changed = if let Some(held) = self.stacks.states.get_mut(&spot) {
            held.meet(state)
        } else {
            self.stacks.states.insert(spot, state.clone());
            true
        };
        if changed {
            self.waiting.push_back(spot);
        }
    }

    fn run(&mut self, spot: Spot) {
        let code = self.code;
        let (Some(step), Some(before)) = (code.step(spot), self.stacks.states.get(&spot)) else {
            return;
        };
        let before = before.clone();
        for to in self.edges.also.get(&spot).into_iter().flatten() {
            self.arrive(*to, &before);
        }
        for to in self.entered.get(&spot).cloned().unwrap_or_default() {
            self.arrive(to, &before);
        }
        let (section, _) = spot;
        let mut after = before;
        self.transfer(section, step, &mut after);
        // What lies behind the last instruction of a function is another one's.
        let inside = code
            .body(step)
            .is_some_and(|body| step.end() < body.end || body.names.is_empty());
        let next = self.left.get(&(section, step.end())).copied();
        let next = next.or(inside.then_some((section, step.end())));
        match step.instruction.flow_control() {
            FlowControl::Next | FlowControl::IndirectCall | FlowControl::XbeginXabortXend => {
                self.go_on(next, &after);
            }
            FlowControl::Call => {
                let last = FINAL
                    .iter()
                    .any(|name| code.leads_to(self.module, section, step, name));
                if !last {
                    self.go_on(next, &after);
                }
            }
            FlowControl::ConditionalBranch => {
                self.go_on(next, &after);
                self.branch(section, step, &after);
            }
            FlowControl::UnconditionalBranch => self.branch(section, step, &after),
            FlowControl::Exception | FlowControl::Interrupt => {
                if self.edges.resumed.contains(&spot) {
                    self.go_on(next, &after);
                }
            }
            FlowControl::IndirectBranch | FlowControl::Return => {}
        }
    }

    fn go_on(&mut self, next: Option<Spot>, state: &State) {
        if let Some(next) = next {
            self.arrive(next, state);
        }
    }

    /// Follows a branch that stays in its function; one that leaves is judged, not followed.
    fn branch(&mut self, section: SectionIndex, step: &Step, state: &State) {
        if let Some(Target::Own(spot)) = self.code.target(self.module, section, step)
            && self.stays(step, spot)
        {
            self.arrive(spot, state);
        }
    }

    fn stays(&self, step: &Step, spot: Spot) -> bool {
        let from = self.code.body(step);
        match (from, self.code.body_at(spot)) {
            (Some(from), Some(to)) => {
                let same = from.section == to.section && from.start == to.start;
                same || from.is_family(to)
                    && (spot.1 != to.start || to.is_part() || to.names.is_empty())
            }
            (None, _) | (_, None) => false,
        }
    }

    fn transfer(&mut self, section: SectionIndex, step: &Step, state: &mut State) {
        let instruction = &step.instruction;
        let sp = state.register(Register::SP);
        match instruction.mnemonic() {
            Mnemonic::Call => {
                if self.code.leads_to(self.module, section, step, "__fentry__") {
                    return;
                }
                for number in [0, 1, 2, 6, 7, 8, 9, 10, 11] {
                    state.set(Register(number), Value::Unknown);
                }
            }
            Mnemonic::Push if instruction.stack_pointer_increment() == -8 => {
                let value = match instruction.op0_kind() {
                    OpKind::Register => read(state, instruction.op0_register()),
                    OpKind::Memory => state.loaded(address(state, instruction)),
                    _ => Value::Unknown,
                };
                let to = sp.plus(-8);
                state.set(Register::SP, to);
                state.store(to, 8, value);
            }
            Mnemonic::Pop
                if instruction.stack_pointer_increment() == 8
                    && instruction.op0_kind() == OpKind::Register =>
            {
                let value = state.loaded(sp);
                state.store(sp, 8, Value::Unknown);
                state.set(Register::SP, sp.plus(8));
                write(state, instruction.op0_register(), value);
            }
            Mnemonic::Leave => {
                let from = state.register(Register::BP);
                let value = state.loaded(from);
                state.store(from, 8, Value::Unknown);
                state.set(Register::SP, from.plus(8));
                state.set(Register::BP, value);
            }
            Mnemonic::Mov if is_wide(instruction) => {
                match (instruction.op0_kind(), instruction.op1_kind()) {
                    (OpKind::Register, OpKind::Register) => {
                        let value = read(state, instruction.op1_register());
                        write(state, instruction.op0_register(), value);
                    }
                    (OpKind::Register, OpKind::Memory) => {
                        let value = state.loaded(address(state, instruction));
                        write(state, instruction.op0_register(), value);
                    }
                    (OpKind::Memory, OpKind::Register) => {
                        // A variable that holds an address of the stack, like the head of an empty list, may
                        // hold another one as soon as it is passed on.
                        let value = match read(state, instruction.op1_register()) {
                            Value::Entry(register) => Value::Entry(register),
                            Value::Frame(_) | Value::Aligned(_) | Value::Unknown => Value::Unknown,
                        };
                        state.store(address(state, instruction), 8, value);
                    }
                    _ => self.forget(instruction, state),
                }
            }
            Mnemonic::Lea if instruction.op0_register().is_gpr64() => {
                let value = address(state, instruction);
                write(state, instruction.op0_register(), value);
            }
            Mnemonic::Add | Mnemonic::Sub
                if instruction.op0_register().is_gpr64() && is_immediate(instruction) =>
            {
                let amount = instruction.immediate(1).cast_signed();
                let amount = match instruction.mnemonic() {
                    Mnemonic::Sub => amount.saturating_neg(),
                    _ => amount,
                };
                let value = read(state, instruction.op0_register()).plus(amount);
                write(state, instruction.op0_register(), value);
            }
            Mnemonic::And
                if instruction.op0_register() == Named::RSP && is_immediate(instruction) =>
            {
                state.slots.retain(|(aligned, _), _| !aligned);
                for held in &mut state.registers {
                    if matches!(held, Value::Aligned(_)) {
                        *held = Value::Unknown;
                    }
                }
                state.set(Register::SP, Value::Aligned(0));
            }
            _ => self.forget(instruction, state),
        }
    }

    /// Forgets what an instruction writes.
    fn forget(&mut self, instruction: &Instruction, state: &mut State) {
        let increment = instruction.stack_pointer_increment();
        let sp = state.register(Register::SP);
        let info = self.facts.info(instruction);
        let writes = |access| {
            matches!(
                access,
                OpAccess::Write
                    | OpAccess::CondWrite
                    | OpAccess::ReadWrite
                    | OpAccess::ReadCondWrite
            )
        };
        for memory in info
            .used_memory()
            .iter()
            .filter(|used| writes(used.access()))
        {
            if memory.index() == Named::None
                && let Some(base) = Register::of(memory.base())
            {
                let at = state.register(base);
                let at = at.plus(memory.displacement().cast_signed());
                let size = memory.memory_size().size() as u64;
                state.store(at, size.max(1), Value::Unknown);
            }
        }
        for used in info.used_registers() {
            if writes(used.access())
                && let Some(register) = Register::of(used.register())
            {
                state.set(register, Value::Unknown);
            }
        }
        if increment != 0 {
            state.set(Register::SP, sp.plus(increment.into()));
        }
    }

    /// Reports where a function leaves with another stack or other registers than it came with.
    fn judge(&self, problems: &mut Vec<Problem>) {
        for (section, step) in self.code.steps() {
            let spot = (section, step.start());
            let Some(state) = self.stacks.states.get(&spot) else {
                continue;
            };
            let jumps =
                step.instruction.is_jmp_short_or_near() || step.instruction.is_jcc_short_or_near();
            let leaves = match self.code.target(self.module, section, step) {
                Some(Target::Own(to)) => {
                    jumps && !self.stays(step, to) && self.code.function_starting(to).is_some()
                }
                Some(Target::Foreign(..)) => jumps,
                Some(Target::Lost) | None => step.instruction.flow_control() == FlowControl::Return,
            };
            if !leaves {
                continue;
            }
            let problem = |why: String| {
                Problem::new(Check::Stack, why)
                    .at(code::section_name(self.module, section), step.start())
                    .of(self.code.name(step))
            };
            match state.register(Register::SP) {
                Value::Frame(-8) => {}
                // Where paths meet that could not all be followed.
                Value::Unknown => continue,
                Value::Frame(at) => {
                    let over = at.saturating_add(8);
                    let side = if over < 0 {
                        "left on"
                    } else {
                        "taken too many from"
                    };
                    let why = format!("leaves with {} bytes {side} the stack", over.unsigned_abs());
                    problems.push(problem(why));
                    continue;
                }
                Value::Aligned(_) | Value::Entry(_) => {
                    problems.push(problem("leaves with another stack".to_owned()));
                    continue;
                }
            }
            for register in Register::KEPT {
                let held = match state.register(register) {
                    Value::Unknown => "something of its own".to_owned(),
                    Value::Entry(held) if held == register => continue,
                    Value::Entry(held) => format!("what was in {}", held.name()),
                    Value::Frame(_) | Value::Aligned(_) => "an address of its stack".to_owned(),
                };
                let why = format!("leaves {held} in {}", register.name());
                problems.push(problem(why));
            }
        }
    }
}

fn is_wide(instruction: &Instruction) -> bool {
    let wide = |number| match instruction.op_kind(number) {
        OpKind::Register => instruction.op_register(number).is_gpr64(),
        OpKind::Memory => instruction.memory_size().size() == 8,
        _ => false,
    };
    wide(0) && wide(1) && instruction.segment_prefix() == Named::None
}

fn is_immediate(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::Register
        && matches!(
            instruction.op1_kind(),
            OpKind::Immediate8 | OpKind::Immediate8to64 | OpKind::Immediate32to64
        )
}

fn read(state: &State, named: Named) -> Value {
    match Register::of(named) {
        Some(register) if named.is_gpr64() => state.register(register),
        Some(_) | None => Value::Unknown,
    }
}

fn write(state: &mut State, named: Named, value: Value) {
    if let Some(register) = Register::of(named) {
        let whole = if named.is_gpr64() {
            value
        } else {
            Value::Unknown
        };
        state.set(register, whole);
    }
}

/// The address of an instruction's memory operand, if it is one of the stack.
fn address(state: &State, instruction: &Instruction) -> Value {
    if instruction.memory_index() != Named::None {
        return Value::Unknown;
    }
    let base = read(state, instruction.memory_base());
    base.plus(instruction.memory_displacement64().cast_signed())
}
