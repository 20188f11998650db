//! Places that are not what code takes them for.

use super::super::*;
use super::sample::{Sample, World, entry};
use crate::elf::fixture::{R_PC32, RELA};

/// What one rule has to say.
fn said(rule: Check, seed: impl FnOnce(&mut Sample)) -> Vec<String> {
    let mut sample = Sample::new();
    seed(&mut sample);
    let report = World::new().verify(&sample.build());
    let problems = report.problems.iter();
    let own = problems.filter(|problem| problem.check == rule);
    own.map(ToString::to_string).collect()
}

#[test]
fn an_alignment_that_the_loader_does_not_keep_is_refused() {
    let aligned = |alignment| {
        said(Check::Layout, |sample| {
            sample.section(".data").alignment = alignment;
        })
    };
    assert_eq!(aligned(4096), [""; 0]);
    assert_eq!(
        aligned(8192),
        ["layout: .data: is aligned to more than a page, which the loader does not keep"]
    );
}

#[test]
fn a_breakpoint_that_is_run_is_refused() {
    let found = said(Check::BugEntry, |sample| {
        sample.section(".text.victim").data[0x1c..].fill(0xcc);
    });
    let why = "a breakpoint that is run and that nobody handles";
    assert_eq!(
        found,
        [
            format!("bug-entry: .text.victim+0x1c: victim: {why}"),
            format!("bug-entry: .text.victim+0x1d: victim: {why}"),
        ]
    );
}

#[test]
fn a_breakpoint_against_speculation_is_none() {
    let report = said(Check::BugEntry, |sample| {
        sample.section(".text.serve").data.extend([0xcc, 0xcc]);
        sample.symbol("serve").size += 2;
    });
    assert_eq!(report, [""; 0]);
}

/// Adds `mov own_key+DISTANCE(%rip), %rax` to a function; the section ends 0x18 bytes behind the variable's start.
fn reads(distance: i64) -> Vec<String> {
    said(Check::Reference, |sample| {
        let code = &mut sample.section(".text.serve").data;
        code.extend([0x48, 0x8b, 0x05, 0, 0, 0, 0]);
        sample.symbol("serve").size += 7;
        let (home, key) = (
            sample.section_index(".text.serve"),
            sample.symbol_index("own_key"),
        );
        let entries = [entry(0x12, key, R_PC32, distance - 4)];
        sample
            .fixture
            .relocations(".rela.more", RELA, home, &entries);
    })
}

#[test]
fn what_is_read_starts_in_its_section() {
    assert_eq!(reads(0), [""; 0]);
    assert_eq!(reads(8), [""; 0]);
    assert_eq!(
        reads(0x18),
        ["reference: .text.serve+0x12: own_key: is read or written where .data ends"]
    );
}
