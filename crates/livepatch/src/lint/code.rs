//! What changed functions are: system calls, loops of threads, clones, frames, and addresses of new code.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::calls::{Body, Call, bodies};
use super::{Found, Lint, words};
use crate::diff::Comparison;
use crate::names;
use crate::unit::{Target, Unit};

/// Bytes of stack by which a function may grow before it is told.
const GROWTH: u64 = 256;
/// Bytes of stack that are much for one function: the build warns from here (`CONFIG_FRAME_WARN`).
const DEEP: u64 = 2048;

pub(super) fn look(comparison: &Comparison<'_>, found: &mut Found<'_>) {
    let bodies = bodies(comparison);
    for (name, before, after) in &bodies {
        let source = names::source_function(name);
        if let Some(before) = before {
            if let Some(call) = system_call(source) {
                found.note(Lint::Syscall, name, format!("is the system call {call}"));
            }
            if words::is_foundation(&comparison.name, source) {
                found.note(
                    Lint::SelfReference,
                    name,
                    "is what livepatching itself runs on",
                );
            }
            if words::is_hot(source) {
                found.note(
                    Lint::Cost,
                    name,
                    "runs for nearly every packet, fault or wake-up",
                );
            }
            if let Some(call) = loops_around(before) {
                found.note(
                    Lint::SelfReference,
                    name,
                    format!(
                        "waits in a loop around {call}: a task in it may never leave the old code"
                    ),
                );
            }
        }
        let depth = |body: &Body<'_, '_>| body.instructions().map(|one| frame(&one)).max();
        let now = depth(after).unwrap_or(0);
        let then = before.as_ref().and_then(depth).unwrap_or(0);
        if now >= then.saturating_add(GROWTH) && (before.is_some() || now >= DEEP) {
            found.note(
                Lint::Cost,
                name,
                format!("needs {now} bytes of stack, before {then}"),
            );
        }
        atomics(name, before.as_ref(), after, found);
    }
    clones(comparison, found);
    removed(comparison, found);
    addresses(comparison, found);
}

/// The system call that a function is an entry or the body of, by the names of
/// `arch/x86/include/asm/syscall_wrapper.h`.
fn system_call(name: &str) -> Option<&str> {
    [
        "__do_sys_",
        "__se_sys_",
        "__do_compat_sys_",
        "__se_compat_sys_",
        "__x64_sys_",
        "__ia32_sys_",
        "__x64_compat_sys_",
        "__ia32_compat_sys_",
    ]
    .iter()
    .find_map(|start| name.strip_prefix(start))
}

impl Body<'_, '_> {
    fn instructions(&self) -> impl Iterator<Item = Instruction> {
        self.atoms.iter().flat_map(|&id| {
            let atom = self.unit.atom(id);
            let bytes = self.unit.bytes(atom.section, atom.start, atom.end);
            let mut decoder = Decoder::with_ip(64, bytes, atom.start, DecoderOptions::NONE);
            std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
        })
    }
}

/// Bytes by which an instruction makes the stack deeper at once. 128 bytes are taken by adding -128, which
/// is shorter, and given back by subtracting it.
fn frame(instruction: &Instruction) -> u64 {
    let immediate = matches!(
        instruction.op1_kind(),
        OpKind::Immediate8to64 | OpKind::Immediate32to64
    );
    if !immediate || instruction.op0_register() != Register::RSP {
        return 0;
    }
    let value = instruction.immediate(1).cast_signed();
    let deeper = match instruction.mnemonic() {
        Mnemonic::Sub => value,
        Mnemonic::Add => value.saturating_neg(),
        _ => 0,
    };
    u64::try_from(deeper).unwrap_or(0)
}

/// Finds a call that gives the processor away with a jump from behind it to before it.
fn loops_around<'data>(body: &Body<'_, 'data>) -> Option<&'data str> {
    let waits: Vec<Call<'data>> = body
        .calls()
        .into_iter()
        .filter(|call| call.part == 0 && words::gives_way(call.to))
        .collect();
    let back: Vec<(u64, u64)> = body
        .instructions()
        .filter(|one| {
            matches!(
                one.flow_control(),
                FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
            ) && one.op0_kind() == OpKind::NearBranch64
                && one.near_branch64() < one.ip()
        })
        .map(|one| (one.near_branch64(), one.ip()))
        .collect();
    let around = |at: u64| back.iter().any(|&(to, from)| to <= at && at < from);
    waits
        .iter()
        .find(|call| around(call.at))
        .map(|call| call.to)
}

/// Atomic operations and switching interrupts, which the headers write as instructions.
fn atomics(name: &str, before: Option<&Body<'_, '_>>, after: &Body<'_, '_>, found: &mut Found<'_>) {
    let count = |body: &Body<'_, '_>| {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for one in body.instructions() {
            let word = match one.mnemonic() {
                Mnemonic::Cli => "switches interrupts off",
                Mnemonic::Sti => "switches interrupts on",
                _ if one.has_lock_prefix() => "operates atomically on shared memory",
                _ => continue,
            };
            *counts.entry(word).or_default() += 1;
        }
        counts
    };
    let then = before.map(count).unwrap_or_default();
    let now = count(after);
    let words: BTreeSet<&str> = then.keys().chain(now.keys()).copied().collect();
    for word in words {
        let at = |counts: &BTreeMap<&str, usize>| counts.get(word).copied().unwrap_or(0);
        if at(&then) != at(&now) {
            let what = format!("{word} in {} places, before in {}", at(&now), at(&then));
            found.note(Lint::Locking, name, what);
        }
    }
}

/// Clones (`.isra`, `.constprop`, `.part`) of travelling functions that only one version has.
fn clones(comparison: &Comparison<'_>, found: &mut Found<'_>) {
    let of = |unit: &Unit<'_>| {
        let mut clones: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for atom in unit.atoms.iter().filter(|atom| atom.is_code()) {
            if names::cold_parent(atom.name).is_some() {
                continue;
            }
            let source = names::source_function(atom.name).to_owned();
            clones
                .entry(source)
                .or_default()
                .insert(names::base(atom.name));
        }
        clones
    };
    let (before, after) = (of(&comparison.original), of(&comparison.patched));
    let travelling: BTreeSet<&str> = comparison
        .travels
        .iter()
        .map(|&id| comparison.patched.atom(id))
        .filter(|atom| atom.is_code())
        .map(|atom| names::source_function(atom.name))
        .collect();
    for (source, then) in &before {
        let Some(now) = after.get(source) else {
            continue;
        };
        if travelling.contains(source.as_str()) && then != now {
            let list =
                |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
            let what = format!(
                "the kernel has {}, with the fix it is {}",
                list(then),
                list(now)
            );
            found.note(Lint::ClonesDiffer, source, what);
        }
    }
}

/// Functions that only the original has.
fn removed(comparison: &Comparison<'_>, found: &mut Found<'_>) {
    let kept: BTreeSet<&str> = comparison
        .patched
        .atoms
        .iter()
        .filter(|atom| atom.is_code())
        .map(|atom| names::source_function(atom.name))
        .collect();
    for id in comparison.original.atom_ids() {
        let atom = comparison.original.atom(id);
        let gone = atom.is_code()
            && comparison.pairing.patched_of(id).is_none()
            && names::cold_parent(atom.name).is_none()
            && !kept.contains(names::source_function(atom.name));
        if gone {
            found.note(
                Lint::Removed,
                atom.name,
                "goes with the fix, or is inlined now; it stays in the kernel",
            );
        }
    }
}

/// Addresses of new functions that code or data takes: nothing takes them back when the module goes.
fn addresses(comparison: &Comparison<'_>, found: &mut Found<'_>) {
    let unit = &comparison.patched;
    for &from in &comparison.travels {
        let holder = unit.atom(from);
        // The livepatch core, which calls these, forgets them with the module.
        if holder.name.starts_with("__klp_") && holder.name.contains("_callback_") {
            continue;
        }
        for relocation in unit.relocations_of(from) {
            if unit.is_branch(holder.section, relocation) {
                continue;
            }
            let Target::Atom { atom, offset: 0 } = unit.target(holder.section, relocation) else {
                continue;
            };
            let new = comparison.pairing.original_of(atom).is_none();
            if new && unit.atom(atom).is_code() && comparison.travels.contains(&atom) {
                let what = format!("is new, and {} takes its address", holder.name);
                found.note(Lint::StoredPointer, unit.atom(atom).name, what);
            }
        }
    }
}
