//! Functions that differ only in how long their jumps are.
//!
//! With one section per function the assembler cannot know the distance of a jump to another function of
//! the unit and takes the long form; in the parent both share a section and the short form may fit.

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind};

use crate::elf::Relocation;

/// A relocated field of the unit and what corresponds to it in the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// The unit's relocation, its offset counted from the function.
    pub(super) relocation: Relocation,
    /// Where the parent says the same.
    pub(super) theirs: Counterpart,
}

/// Where the parent says what a relocated field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counterpart {
    /// In a field at this offset into the parent's function.
    At(u64),
    /// In a short jump to this offset, counted from the start of the parent's function.
    Jump(u64),
}

/// Pairs the fields of two functions that are equal but for the length of their jumps, or `None`.
/// `relocations` count from the function, in order.
pub(super) fn pair(ours: &[u8], theirs: &[u8], relocations: &[Relocation]) -> Option<Vec<Field>> {
    let our_code = decode(ours)?;
    let their_code = decode(theirs)?;
    if our_code.len() != their_code.len() {
        return None;
    }
    let our_starts = starts(&our_code, ours);
    let their_starts = starts(&their_code, theirs);
    let mut remaining = relocations;
    let mut fields = Vec::with_capacity(relocations.len());
    for (our, their) in our_code.iter().zip(&their_code) {
        let inside = remaining.partition_point(|entry| entry.offset < our.next_ip());
        let (here, rest) = remaining.split_at_checked(inside)?;
        remaining = rest;
        if is_jump(our) && is_jump(their) && our.mnemonic() == their.mnemonic() {
            match here {
                [] => {
                    let our_target = our_starts.get(&our.near_branch_target())?;
                    let their_target = their_starts.get(&their.near_branch_target())?;
                    if our_target != their_target {
                        return None;
                    }
                }
                [one] if our.len() != their.len() => fields.push(Field {
                    relocation: *one,
                    theirs: Counterpart::Jump(their.near_branch_target()),
                }),
                _ => fields.extend(same(our, their, ours, theirs, here)?),
            }
        } else {
            fields.extend(same(our, their, ours, theirs, here)?);
        }
    }
    remaining.is_empty().then_some(fields)
}

/// The fields of two instructions that are equal but for their relocated fields.
fn same(
    our: &Instruction,
    their: &Instruction,
    ours: &[u8],
    theirs: &[u8],
    relocations: &[Relocation],
) -> Option<Vec<Field>> {
    let cut = |bytes: &[u8], instruction: &Instruction| {
        let start = usize::try_from(instruction.ip()).ok()?;
        bytes
            .get(start..start.checked_add(instruction.len())?)
            .map(<[u8]>::to_vec)
    };
    let mut ours = cut(ours, our)?;
    let mut theirs = cut(theirs, their)?;
    let mut fields = Vec::new();
    for relocation in relocations {
        let within = relocation.offset.checked_sub(our.ip())?;
        let start = usize::try_from(within).ok()?;
        let end = start.checked_add(usize::try_from(relocation.width()?).ok()?)?;
        ours.get_mut(start..end)?.fill(0);
        theirs.get_mut(start..end)?.fill(0);
        fields.push(Field {
            relocation: *relocation,
            theirs: Counterpart::At(their.ip().checked_add(within)?),
        });
    }
    (ours == theirs).then_some(fields)
}

fn is_jump(instruction: &Instruction) -> bool {
    instruction.op_count() == 1
        && instruction.op0_kind() == OpKind::NearBranch64
        && (instruction.is_jmp_short_or_near() || instruction.is_jcc_short_or_near())
}

/// All instructions of `code` counted from 0, or `None` if some bytes are none.
fn decode(code: &[u8]) -> Option<Vec<Instruction>> {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut all = Vec::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return None;
        }
        all.push(instruction);
    }
    Some(all)
}

/// The number of the instruction that starts at each offset; the end counts as one more.
fn starts(code: &[Instruction], bytes: &[u8]) -> BTreeMap<u64, usize> {
    code.iter()
        .map(Instruction::ip)
        .chain([bytes.len() as u64])
        .zip(0..)
        .collect()
}
