//! Follows an address through the registers of a unit's code.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{
    ConstantOffsets, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfo,
    InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use super::callees::{ARGUMENTS, Argument, Use, use_of};
use super::{How, Leak};
use crate::elf::{Relocation, SectionIndex};
use crate::tables::Role;
use crate::unit::{AtomId, Target, Unit};

/// General registers that hold the address, one bit each.
type Held = u16;

const ALL_CALLER_SAVED: [Register; 9] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
];

/// What a function hands back: of a structure of two words, both (System V ABI).
const RETURNED: [Register; 2] = [Register::RAX, Register::RDX];

/// A place in the unit's code.
type Spot = (SectionIndex, u64);

fn bit(register: Register) -> Held {
    let full = register.full_register();
    if full.is_gpr64() {
        u32::try_from(full.number())
            .ok()
            .and_then(|number| 1_u16.checked_shl(number))
            .unwrap_or(0)
    } else {
        0
    }
}

fn bits(registers: &[Register]) -> Held {
    registers.iter().fold(0, |all, &one| all | bit(one))
}

/// Follows the address of `object` from every place in `readers` that names it. What is loaded from an
/// object that `holds` such addresses is a leak.
pub(super) fn follow(
    unit: &Unit<'_>,
    object: AtomId,
    holds: bool,
    readers: &BTreeSet<AtomId>,
) -> Result<(), Leak> {
    let mut walk = Walk::new(unit, object, holds);
    for &reader in readers {
        walk.begin(reader)?;
    }
    // Ends: a spot is taken up again only when it holds the address in one more of 16 registers.
    while let Some((spot, held)) = walk.queue.pop() {
        let before = walk.seen.get(&spot).copied();
        let merged = before.unwrap_or(0) | held;
        if before == Some(merged) {
            continue;
        }
        walk.seen.insert(spot, merged);
        walk.pass(spot, merged)?;
    }
    walk.check_comparisons()
}

/// An instruction and where its constants are.
struct Step {
    instruction: Instruction,
    constants: ConstantOffsets,
}

/// Code that the kernel may write over other code.
struct Alternative {
    start: u64,
    end: u64,
    section: SectionIndex,
    from: u64,
    to: u64,
}

struct Walk<'unit, 'data> {
    unit: &'unit Unit<'data>,
    object: AtomId,
    /// Whether the object holds the address of another one that is copied: what is loaded from it is
    /// such an address, and is not followed.
    holds: bool,
    code: BTreeMap<AtomId, BTreeMap<u64, Step>>,
    /// Where else an instruction may go on: a switched branch, a handled fault.
    edges: BTreeMap<Spot, Vec<Spot>>,
    alternatives: BTreeMap<SectionIndex, Vec<Alternative>>,
    seen: BTreeMap<Spot, Held>,
    queue: Vec<(Spot, Held)>,
    /// Comparisons of the address; what else they compare is known at the end.
    compared: BTreeMap<Spot, (Instruction, Option<Field>)>,
    factory: InstructionInfoFactory,
}

impl<'unit, 'data> Walk<'unit, 'data> {
    fn new(unit: &'unit Unit<'data>, object: AtomId, holds: bool) -> Self {
        let mut edges: BTreeMap<Spot, Vec<Spot>> = BTreeMap::new();
        let mut alternatives: BTreeMap<SectionIndex, Vec<Alternative>> = BTreeMap::new();
        for entry in unit.entries() {
            let spot = (entry.code_section, entry.code_offset);
            match entry.table.role {
                Role::JumpLabel | Role::Exception => {
                    let second = unit
                        .relocations(
                            entry.section,
                            entry.start.saturating_add(4),
                            entry.start.saturating_add(8),
                        )
                        .first()
                        .and_then(|field| unit.place(entry.section, field).ok());
                    edges.entry(spot).or_default().extend(second);
                }
                Role::Alternative { length_at } => {
                    let at = entry.start.saturating_add(length_at).saturating_sub(1);
                    let length = unit
                        .bytes(entry.section, at, entry.end)
                        .first()
                        .copied()
                        .unwrap_or(u8::MAX);
                    if let Some((section, from, to)) = crate::emit::replacement_range(unit, entry) {
                        alternatives
                            .entry(entry.code_section)
                            .or_default()
                            .push(Alternative {
                                start: entry.code_offset,
                                end: entry.code_offset.saturating_add(u64::from(length)),
                                section,
                                from,
                                to,
                            });
                    }
                }
                Role::Derived | Role::Bug | Role::StaticCall | Role::Paravirt => {}
            }
        }
        Self {
            unit,
            object,
            holds,
            code: BTreeMap::new(),
            edges,
            alternatives,
            seen: BTreeMap::new(),
            queue: Vec::new(),
            compared: BTreeMap::new(),
            factory: InstructionInfoFactory::new(),
        }
    }

    /// Takes up every instruction of `reader` that names the object.
    fn begin(&mut self, reader: AtomId) -> Result<(), Leak> {
        let atom = self.unit.atom(reader);
        for relocation in self.unit.relocations_of(reader) {
            let Target::Atom { atom: to, .. } = self.unit.target(atom.section, relocation) else {
                continue;
            };
            if to != self.object {
                continue;
            }
            let start = self
                .unit
                .instruction(atom.section, relocation.offset)
                .map(|instruction| instruction.start)
                .ok_or_else(|| {
                    self.leak(
                        (atom.section, relocation.offset),
                        How::Unfollowed("bytes that are no instruction"),
                    )
                })?;
            self.queue.push(((atom.section, start), 0));
        }
        Ok(())
    }

    fn leak(&self, spot: Spot, how: How) -> Leak {
        let atom = self.unit.atom_at(spot.0, spot.1);
        let (name, start) = atom.map_or(("unnamed code", 0), |id| {
            let atom = self.unit.atom(id);
            (atom.name, atom.start)
        });
        Leak::Code {
            function: name.to_owned(),
            offset: spot.1.saturating_sub(start),
            how,
        }
    }

    fn decode(&mut self, atom: AtomId) {
        if self.code.contains_key(&atom) {
            return;
        }
        let body = self.unit.atom(atom);
        let bytes = self.unit.bytes(body.section, body.start, body.end);
        let mut decoder = Decoder::with_ip(64, bytes, body.start, DecoderOptions::NONE);
        let mut steps = BTreeMap::new();
        while decoder.can_decode() {
            let instruction = decoder.decode();
            let constants = decoder.get_constant_offsets(&instruction);
            steps.insert(
                instruction.ip(),
                Step {
                    instruction,
                    constants,
                },
            );
        }
        self.code.insert(atom, steps);
    }

    /// Takes the instruction at `spot`, before which `held` hold the address.
    fn pass(&mut self, spot: Spot, held: Held) -> Result<(), Leak> {
        let atom = self
            .unit
            .atom_at(spot.0, spot.1)
            .filter(|&id| self.unit.atom(id).is_code())
            .ok_or_else(|| self.leak(spot, How::Unfollowed("code that does not travel")))?;
        self.decode(atom);
        let Some(step) = self.code.get(&atom).and_then(|code| code.get(&spot.1)) else {
            return Err(self.leak(spot, How::Unfollowed("the middle of an instruction")));
        };
        let (instruction, constants) = (step.instruction, step.constants);
        self.alternative(spot, &instruction, held)?;
        let field = self.field(spot, &instruction, constants);
        match instruction.flow_control() {
            FlowControl::Next => {
                let after = self.plain(spot, &instruction, field, held)?;
                self.go_on(spot, instruction.next_ip(), held | after, after);
                Ok(())
            }
            FlowControl::Return => {
                if held & bits(&RETURNED) == 0 {
                    Ok(())
                } else {
                    Err(self.leak(spot, How::Returned))
                }
            }
            FlowControl::Call | FlowControl::IndirectCall => {
                self.memory(spot, &instruction, field, held)?;
                let after = self.call(spot, &instruction, atom, held)?;
                self.go_on(spot, instruction.next_ip(), held, after);
                Ok(())
            }
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                self.branch(spot, &instruction, atom, held)
            }
            FlowControl::IndirectBranch => {
                self.memory(spot, &instruction, field, held)?;
                self.jump_anywhere(spot, held)
            }
            // A trap; WARN goes on after it.
            FlowControl::Exception | FlowControl::Interrupt => {
                self.go_on(spot, instruction.next_ip(), held, held);
                Ok(())
            }
            FlowControl::XbeginXabortXend => Err(self.leak(spot, How::Unfollowed("a transaction"))),
        }
    }

    /// Queues the next instruction, and where a fault or a switched branch leads.
    fn go_on(&mut self, spot: Spot, next: u64, either: Held, after: Held) {
        let other: Vec<Spot> = self.edges.get(&spot).cloned().unwrap_or_default();
        for edge in other {
            if either != 0 {
                self.queue.push((edge, either));
            }
        }
        // Without the address there is nothing to follow; other places that name it are taken up
        // on their own. The end of a function follows a call that does not return.
        let end = self
            .unit
            .atom_at(spot.0, spot.1)
            .map_or(0, |id| self.unit.atom(id).end);
        if after != 0 && next < end {
            self.queue.push(((spot.0, next), after));
        }
    }

    /// Which constant of the instruction is the object's address.
    fn field(
        &self,
        spot: Spot,
        instruction: &Instruction,
        constants: ConstantOffsets,
    ) -> Option<Field> {
        self.unit
            .relocations(spot.0, instruction.ip(), instruction.next_ip())
            .iter()
            .find(|relocation| self.names_object(spot.0, relocation))
            .map(|relocation| {
                let at = usize::try_from(relocation.offset.saturating_sub(instruction.ip())).ok();
                let is = |there, offset| there && at == Some(offset);
                if is(
                    constants.has_displacement(),
                    constants.displacement_offset(),
                ) {
                    Field::Displacement
                } else if is(constants.has_immediate(), constants.immediate_offset()) {
                    Field::Immediate
                } else {
                    Field::Other
                }
            })
    }

    fn names_object(&self, section: SectionIndex, relocation: &Relocation) -> bool {
        matches!(self.unit.target(section, relocation), Target::Atom { atom, .. } if atom == self.object)
    }

    /// Checks that memory is only read through the address; tells whether it is.
    fn memory(
        &mut self,
        spot: Spot,
        instruction: &Instruction,
        field: Option<Field>,
        held: Held,
    ) -> Result<bool, Leak> {
        let info = self.factory.info(instruction).clone();
        let direct = field == Some(Field::Displacement) && instruction.mnemonic() != Mnemonic::Lea;
        let mut through = false;
        for memory in info.used_memory() {
            // The memory a push, pop or call uses is named by the stack pointer alone.
            let stack = memory.base().full_register() == Register::RSP && !direct;
            let here = held & (bit(memory.base()) | bit(memory.index())) != 0 || direct && !stack;
            if !here {
                continue;
            }
            through = true;
            match memory.access() {
                OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess => {}
                OpAccess::Write
                | OpAccess::CondWrite
                | OpAccess::ReadWrite
                | OpAccess::ReadCondWrite => {
                    // A push of what the object holds reads there and writes to the stack.
                    let writes_stack = memory.base().full_register() == Register::RSP;
                    if !writes_stack {
                        return Err(self.leak(spot, How::Written));
                    }
                }
            }
        }
        Ok(through)
    }

    /// An instruction that goes on to the next one; the registers that hold the address after it.
    fn plain(
        &mut self,
        spot: Spot,
        instruction: &Instruction,
        field: Option<Field>,
        held: Held,
    ) -> Result<Held, Leak> {
        let through = self.memory(spot, instruction, field, held)?;
        let info = self.factory.info(instruction).clone();
        let used = Uses::of(instruction, &info);
        let lea = instruction.mnemonic() == Mnemonic::Lea;
        let named = match field {
            Some(Field::Immediate) => true,
            Some(Field::Displacement) => lea,
            Some(Field::Other) => {
                return Err(self.leak(spot, How::Unfollowed("an unknown field")));
            }
            None => false,
        };
        let by_lea = if lea { used.addressing & held } else { 0 };
        let value = used.read & held | by_lea;
        if through && self.holds {
            return Err(self.leak(spot, How::Unfollowed("what the object holds")));
        }
        if value == 0 && !named {
            return Ok(held & !used.overwritten);
        }
        let destination = instruction.op0_register();
        let to_register = instruction.op_count() > 0 && instruction.op0_kind() == OpKind::Register;
        let kept = held & !used.overwritten;
        match instruction.mnemonic() {
            Mnemonic::Mov
            | Mnemonic::Lea
            | Mnemonic::Movsxd
            | Mnemonic::Add
            | Mnemonic::Sub
            | Mnemonic::Inc
            | Mnemonic::Dec => {
                if to_register && bit(destination) != 0 {
                    Ok(kept | bit(destination))
                } else {
                    Err(self.leak(spot, How::Stored))
                }
            }
            Mnemonic::Cmp | Mnemonic::Test => {
                self.compared.insert(spot, (*instruction, field));
                Ok(held)
            }
            Mnemonic::Push => Err(self.leak(spot, How::Stored)),
            Mnemonic::Cmova
            | Mnemonic::Cmovae
            | Mnemonic::Cmovb
            | Mnemonic::Cmovbe
            | Mnemonic::Cmove
            | Mnemonic::Cmovg
            | Mnemonic::Cmovge
            | Mnemonic::Cmovl
            | Mnemonic::Cmovle
            | Mnemonic::Cmovne
            | Mnemonic::Cmovno
            | Mnemonic::Cmovnp
            | Mnemonic::Cmovns
            | Mnemonic::Cmovo
            | Mnemonic::Cmovp
            | Mnemonic::Cmovs
                if to_register =>
            {
                Ok(held | bit(destination))
            }
            _ => Err(self.leak(spot, How::Unfollowed("an instruction that is not followed"))),
        }
    }

    /// A comparison of the address with another one would tell a copy from the constant. With an end
    /// of its own it does not: both are the copy's then.
    fn check_comparisons(&self) -> Result<(), Leak> {
        for (&spot, (instruction, field)) in &self.compared {
            let held = self.seen.get(&spot).copied().unwrap_or(0);
            if !Self::compares_itself(instruction, *field, held) {
                return Err(self.leak(spot, How::Compared));
            }
        }
        Ok(())
    }

    /// Whether a comparison has the object's own address, or nothing, on both sides.
    fn compares_itself(instruction: &Instruction, field: Option<Field>, held: Held) -> bool {
        let side = |operand: u32| match instruction.op_kind(operand) {
            OpKind::Register => held & bit(instruction.op_register(operand)) != 0,
            OpKind::Memory => false,
            _ => field == Some(Field::Immediate),
        };
        let nothing = |operand: u32| field.is_none() && is_zero(instruction, operand);
        side(0) && (side(1) || nothing(1))
    }

    /// A call; the registers that hold the address after it.
    fn call(
        &mut self,
        spot: Spot,
        instruction: &Instruction,
        atom: AtomId,
        held: Held,
    ) -> Result<Held, Leak> {
        match self.callee(spot, instruction) {
            Callee::Outside(name) if name == "__fentry__" => return Ok(held),
            Callee::Outside(name) => {
                // Assembly such as `__put_user_8` takes it there.
                if held & bit(Register::RAX) != 0 {
                    return Err(self.leak(spot, How::Passed(name)));
                }
                self.pass_to(spot, atom, &name, held)?;
            }
            Callee::Own(to) => {
                let arguments = held & bits(&ARGUMENTS);
                if arguments != 0 {
                    self.queue.push((to, arguments));
                }
            }
            Callee::Unknown => self.anything(spot, held, "a function that is not known")?,
        }
        Ok(held & !bits(&ALL_CALLER_SAVED))
    }

    /// A jump by an address: a tail call, or to a label of this very function, where every register
    /// means what it did.
    fn jump_anywhere(&self, spot: Spot, held: Held) -> Result<(), Leak> {
        if held == 0 {
            Ok(())
        } else {
            Err(self.leak(spot, How::Unfollowed("an indirect jump")))
        }
    }

    fn anything(&self, spot: Spot, held: Held, what: &'static str) -> Result<(), Leak> {
        if held & bits(&ARGUMENTS) == 0 {
            Ok(())
        } else {
            Err(self.leak(spot, How::Passed(what.to_owned())))
        }
    }

    fn pass_to(&self, spot: Spot, atom: AtomId, name: &str, held: Held) -> Result<(), Leak> {
        for (index, &register) in ARGUMENTS.iter().enumerate() {
            if held & bit(register) == 0 {
                continue;
            }
            match use_of(name, index) {
                // A copy would carry on what the object holds.
                Use::Reads if self.holds => {
                    return Err(self.leak(spot, How::Passed(name.to_owned())));
                }
                Use::Reads => {}
                Use::KeepsUnlessNull(argument, words) => {
                    if !self.is_null(atom, spot.1, argument) {
                        return Err(self.leak(spot, How::Kept(name.to_owned(), words)));
                    }
                }
                Use::Unknown => return Err(self.leak(spot, How::Passed(name.to_owned()))),
            }
        }
        Ok(())
    }

    /// Whether the call at `at` surely gets null for `argument`: set in a straight line before it.
    fn is_null(&self, atom: AtomId, at: u64, argument: Argument) -> bool {
        let Some(code) = self.code.get(&atom) else {
            return false;
        };
        let section = self.unit.atom(atom).section;
        let joins: BTreeSet<u64> = code
            .values()
            .map(|step| step.instruction.near_branch_target())
            .chain(
                self.edges
                    .values()
                    .flatten()
                    .filter(|spot| spot.0 == section)
                    .map(|spot| spot.1),
            )
            .collect();
        let mut factory = InstructionInfoFactory::new();
        let mut here = at;
        for (&start, step) in code.range(..at).rev() {
            let instruction = &step.instruction;
            if joins.contains(&here)
                || instruction.next_ip() != here
                || instruction.flow_control() != FlowControl::Next
            {
                return false;
            }
            here = start;
            let plain = self
                .unit
                .relocations(section, instruction.ip(), instruction.next_ip())
                .is_empty();
            let info = factory.info(instruction);
            match argument {
                Argument::In(register) => {
                    let writes = info.used_registers().iter().any(|used| {
                        used.register().full_register() == register && is_write(used.access())
                    });
                    if writes {
                        return plain && is_zeroing(instruction, register);
                    }
                }
                Argument::Stacked => {
                    let moves = info.used_registers().iter().any(|used| {
                        used.register().full_register() == Register::RSP && is_write(used.access())
                    });
                    let writes = info.used_memory().iter().any(|memory| {
                        memory.base().full_register() == Register::RSP
                            && !matches!(memory.access(), OpAccess::Read | OpAccess::CondRead)
                    });
                    if moves || writes {
                        return plain && puts_zero_on_top(instruction);
                    }
                }
            }
        }
        false
    }

    fn callee(&self, spot: Spot, instruction: &Instruction) -> Callee {
        if instruction.flow_control() == FlowControl::IndirectCall {
            return Callee::Unknown;
        }
        match self.leads(spot, instruction) {
            Some(Lead::Outside(name)) => Callee::Outside(name),
            Some(Lead::Inside(to)) => Callee::Own(to),
            None => Callee::Unknown,
        }
    }

    /// Where a direct call or jump leads.
    fn leads(&self, spot: Spot, instruction: &Instruction) -> Option<Lead> {
        let field = self
            .unit
            .relocations(spot.0, instruction.ip(), instruction.next_ip())
            .first();
        let Some(field) = field else {
            return Some(Lead::Inside((spot.0, instruction.near_branch_target())));
        };
        match self.unit.target(spot.0, field) {
            Target::Outside { symbol, .. } => {
                Some(Lead::Outside(self.unit.symbol(symbol).name.to_owned()))
            }
            Target::Atom { atom, offset } => {
                let body = self.unit.atom(atom);
                let at = body.start.checked_add_signed(offset)?;
                // What runs under a weak name may be another unit's.
                (!body.weak).then_some(Lead::Inside((body.section, at)))
            }
            Target::Content { section, offset } => Some(Lead::Inside((section, offset))),
            Target::Absolute(_) | Target::Lost { .. } => None,
        }
    }

    fn branch(
        &mut self,
        spot: Spot,
        instruction: &Instruction,
        atom: AtomId,
        held: Held,
    ) -> Result<(), Leak> {
        if instruction.flow_control() == FlowControl::ConditionalBranch {
            self.go_on(spot, instruction.next_ip(), held, held);
        } else {
            // A switched branch is a jump or nothing.
            let switched = self.edges.contains_key(&spot);
            if switched {
                self.go_on(spot, instruction.next_ip(), held, held);
            }
        }
        if held == 0 {
            return Ok(());
        }
        match self.leads(spot, instruction) {
            Some(Lead::Inside(to)) => {
                self.queue.push((to, held));
                Ok(())
            }
            Some(Lead::Outside(name)) if name.starts_with("__x86_return_thunk") => {
                if held & bits(&RETURNED) == 0 {
                    Ok(())
                } else {
                    Err(self.leak(spot, How::Returned))
                }
            }
            Some(Lead::Outside(name)) if name.starts_with("__x86_indirect") => {
                self.jump_anywhere(spot, held)
            }
            Some(Lead::Outside(name)) => self.pass_to(spot, atom, &name, held),
            None => self.jump_anywhere(spot, held),
        }
    }

    /// Code that may stand in the place of this instruction may not touch the address.
    fn alternative(
        &mut self,
        spot: Spot,
        instruction: &Instruction,
        held: Held,
    ) -> Result<(), Leak> {
        if held == 0 {
            return Ok(());
        }
        let none = Vec::new();
        for alternative in self.alternatives.get(&spot.0).unwrap_or(&none) {
            let here =
                instruction.ip() < alternative.end && alternative.start < instruction.next_ip();
            if !here {
                continue;
            }
            let bytes = self
                .unit
                .bytes(alternative.section, alternative.from, alternative.to);
            let mut decoder = Decoder::with_ip(64, bytes, alternative.from, DecoderOptions::NONE);
            while decoder.can_decode() {
                let other = decoder.decode();
                let info = self.factory.info(&other);
                let touched = info
                    .used_registers()
                    .iter()
                    .fold(0, |all, used| all | bit(used.register()));
                if other.is_invalid()
                    || other.flow_control() != FlowControl::Next
                    || touched & held != 0
                {
                    return Err(self.leak(spot, How::Unfollowed("alternative code")));
                }
            }
        }
        Ok(())
    }
}

/// Which constant of an instruction names the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Displacement,
    Immediate,
    Other,
}

enum Callee {
    Outside(String),
    Own(Spot),
    Unknown,
}

enum Lead {
    Outside(String),
    Inside(Spot),
}

/// Registers by what an instruction does with them.
struct Uses {
    /// Read as values, not to address memory.
    read: Held,
    /// Used to address memory.
    addressing: Held,
    /// Overwritten as a whole.
    overwritten: Held,
}

impl Uses {
    fn of(instruction: &Instruction, info: &InstructionInfo) -> Self {
        let mut addressing = 0;
        for memory in info.used_memory() {
            addressing |= bit(memory.base()) | bit(memory.index());
        }
        let mut explicit = 0;
        for (operand, access) in (0..instruction.op_count()).zip(info_accesses(info)) {
            if instruction.op_kind(operand) == OpKind::Register && is_read(access) {
                explicit |= bit(instruction.op_register(operand));
            }
        }
        let (mut read, mut overwritten) = (explicit, 0);
        for used in info.used_registers() {
            let own = bit(used.register());
            if is_read(used.access()) {
                // A register that addresses memory and is no operand is no value.
                if addressing & own == 0 {
                    read |= own;
                }
            } else if used.access() == OpAccess::Write && used.register().size() >= 4 {
                overwritten |= own;
            }
        }
        // `xor eax, eax` names a register twice and reads nothing.
        let zeroing = instruction.op_count() == 2
            && instruction.op0_kind() == OpKind::Register
            && instruction.op1_kind() == OpKind::Register
            && instruction.op0_register() == instruction.op1_register()
            && matches!(instruction.mnemonic(), Mnemonic::Xor | Mnemonic::Sub);
        if zeroing {
            read = 0;
            overwritten |= bit(instruction.op0_register());
        }
        Self {
            read,
            addressing,
            overwritten,
        }
    }
}

fn info_accesses(info: &InstructionInfo) -> [OpAccess; 5] {
    [
        info.op0_access(),
        info.op1_access(),
        info.op2_access(),
        info.op3_access(),
        info.op4_access(),
    ]
}

fn is_read(access: OpAccess) -> bool {
    matches!(
        access,
        OpAccess::Read | OpAccess::CondRead | OpAccess::ReadWrite | OpAccess::ReadCondWrite
    )
}

fn is_write(access: OpAccess) -> bool {
    matches!(
        access,
        OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
    )
}

/// `xor r, r` or `mov r, 0`.
fn is_zeroing(instruction: &Instruction, register: Register) -> bool {
    let same = |operand: u32| {
        instruction.op_kind(operand) == OpKind::Register
            && instruction.op_register(operand).full_register() == register
            && instruction.op_register(operand).size() >= 4
    };
    match instruction.mnemonic() {
        Mnemonic::Xor => same(0) && same(1),
        Mnemonic::Mov => same(0) && is_zero(instruction, 1),
        _ => false,
    }
}

fn is_zero(instruction: &Instruction, operand: u32) -> bool {
    instruction
        .try_immediate(operand)
        .is_ok_and(|value| value == 0)
}

/// `push 0` or `mov qword ptr [rsp], 0`.
fn puts_zero_on_top(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Push => is_zero(instruction, 0) && instruction.stack_pointer_increment() == -8,
        Mnemonic::Mov => {
            instruction.op0_kind() == OpKind::Memory
                && instruction.memory_base() == Register::RSP
                && instruction.memory_index() == Register::None
                && instruction.memory_displacement64() == 0
                && instruction.memory_size().size() == 8
                && is_zero(instruction, 1)
        }
        _ => false,
    }
}
