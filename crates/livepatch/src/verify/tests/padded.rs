//! Kernels with padded functions, listed calls and enforced landing places.

use super::super::*;
use super::sample::{Sample, World, entry};
use crate::elf::fixture::{ALLOC, KLP_RELA, R_64, R_PC32, RELA};
use crate::elf::{Binding, SymbolKind};

#[track_caller]
fn fault(kernel: impl FnOnce(&mut World), seed: impl FnOnce(&mut Sample), expected: &[&str]) {
    let (mut world, mut sample) = (World::new(), Sample::new());
    kernel(&mut world);
    seed(&mut sample);
    let report = world.verify(&sample.build());
    let problems: Vec<_> = report.problems.iter().map(Problem::to_string).collect();
    assert_eq!(problems, expected);
}

fn mark(world: &mut World, name: &str, value: u64) {
    let home = Place::Section(world.section(".init.data"));
    let none = SymbolKind::None;
    world
        .vmlinux
        .push(name, home, value, 0, none, Binding::Global);
}

#[test]
fn functions_without_the_kernels_padding_are_refused() {
    fault(
        |world| {
            let text = world.section(".text");
            let name = "__pfx_guarded";
            world
                .vmlinux
                .function(name, text, 0x1050, 16, Binding::Global);
        },
        |_| {},
        &[
            "padding: .text.serve+0x0: serve: no 16 bytes of padding before it, which the kernel may write to",
            "padding: .text.victim+0x0: victim: no 16 bytes of padding before it, which the kernel may write to",
        ],
    );
}

#[test]
fn calls_are_listed_where_the_kernel_counts_them() {
    let counts = |world: &mut World| mark(world, "__call_sites", 0x4000);
    fault(
        counts,
        |_| {},
        &["call-site: .text.victim+0x5: victim: a call that .call_sites does not list"],
    );
    // A static call has a table of its own, whoever resolves its trampoline.
    fault(
        |world| {
            counts(world);
            let text = world.section(".text");
            let name = "__SCT__hidden";
            world
                .vmlinux
                .function(name, text, 0x1058, 8, Binding::Local);
        },
        |sample| {
            ".klp.sym.vmlinux.__SCT__hidden,0"
                .clone_into(&mut sample.symbol(".klp.sym.vmlinux.hidden,0").name);
        },
        &[],
    );
    let list = |sample: &mut Sample, places: &[(&str, i64)]| {
        let calls = vec![0; places.len() * 4];
        let calls = sample.fixture.section(".call_sites", ALLOC, &calls);
        let entries: Vec<_> = (0..)
            .step_by(4)
            .zip(places)
            .map(|(at, (name, offset))| entry(at, sample.symbol_index(name), R_PC32, *offset))
            .collect();
        sample
            .fixture
            .relocations(".rela.call_sites", RELA, calls, &entries);
    };
    fault(counts, |sample| list(sample, &[("victim", 5)]), &[]);
    fault(
        counts,
        |sample| list(sample, &[("victim", 5), ("serve", 5)]),
        &["call-site: .call_sites+0x4: serve: leads nowhere yet when the kernel follows it"],
    );
    fault(
        counts,
        |sample| list(sample, &[("victim", 5), ("victim", 6)]),
        &["call-site: .call_sites+0x4: victim: does not point to a call"],
    );
}

#[test]
fn pointers_lead_to_where_a_branch_may_land() {
    let point = |name: &'static str| {
        move |sample: &mut Sample| {
            let data = sample.section_index(".data");
            let symbol = sample.fixture.livepatch(name);
            let table = ".klp.rela.vmlinux..data";
            let entries = [entry(0x140, symbol, R_64, 0)];
            sample.fixture.relocations(table, KLP_RELA, data, &entries);
        }
    };
    let with_list = |listed: &'static [i32]| {
        move |world: &mut World| {
            let text = &mut world.vmlinux.sections;
            let text = text
                .iter_mut()
                .find(|section| section.name == ".text")
                .unwrap();
            text.data[0x60..0x64].copy_from_slice(&[0xf3, 0x0f, 0x1e, 0xfa]);
            let fields = listed.iter().zip((0x6000..).step_by(4));
            let bytes: Vec<u8> = fields
                .flat_map(|(to, at)| (to - at).to_le_bytes())
                .collect();
            let end = 0x6000 + bytes.len() as u64;
            let list = world
                .vmlinux
                .section_at(".ibt_endbr_seal", ALLOC, &bytes, 0x6000);
            for (name, value) in [("__ibt_endbr_seal", 0x6000), ("__ibt_endbr_seal_end", end)] {
                let none = SymbolKind::None;
                let home = Place::Section(list);
                world
                    .vmlinux
                    .push(name, home, value, 0, none, Binding::Global);
            }
        }
    };
    let guarded = ".klp.sym.vmlinux.guarded,0";
    fault(|_| {}, point(".klp.sym.vmlinux.hidden,0"), &[]);
    fault(with_list(&[0x1040]), point(guarded), &[]);
    fault(
        with_list(&[0x1040, 0x1060]),
        point(guarded),
        &[
            "sealed-target: .data+0x140: guarded: a pointer to it is made, and in vmlinux it loses its ENDBR64 when the kernel starts",
        ],
    );
    fault(
        with_list(&[]),
        point(".klp.sym.vmlinux.hidden,0"),
        &[
            "sealed-target: .data+0x140: hidden: a pointer to it is made, and in vmlinux it does not begin with ENDBR64",
        ],
    );
}
