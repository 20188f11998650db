use super::super::*;
use super::sample::fault;
use crate::elf::fixture::{ALLOC, RELA};

#[test]
fn klp_symbol_faults() {
    for name in [
        ".klp.sym.vmlinux.hidden",
        ".klp.sym.vmlinux.hidden,x",
        ".klp.sym.vmlinux.hidden,-1",
        ".klp.sym.vmlinux.hidden,00",
        ".klp.sym.vmlinux.hidden,1 ",
        ".klp.sym..hidden,0",
        ".klp.sym.vmlinux.,0",
    ] {
        fault(
            |sample| name.clone_into(&mut sample.symbol(".klp.sym.vmlinux.hidden,0").name),
            &[&format!(
                "klp-name: {name}: not of the form .klp.sym.OBJECT.NAME,POSITION"
            )],
        );
    }
    for (name, why) in [
        ("vmlinux.absent,0", "vmlinux: not in the symbol table"),
        (
            "vmlinux.victim,0",
            "vmlinux: 2 symbols have this name and no position is given",
        ),
        ("vmlinux.victim,3", "vmlinux: only 2 symbols have this name"),
        (
            "vmlinux.boot,0",
            "in init memory of vmlinux, which is freed",
        ),
    ] {
        let name = format!(".klp.sym.{name}");
        fault(
            |sample| {
                sample
                    .symbol(".klp.sym.vmlinux.hidden,0")
                    .name
                    .clone_from(&name);
            },
            &[&format!("klp-symbol: {name}: {why}")],
        );
    }
}

#[test]
fn a_module_symbol_whose_position_depends_on_init_memory_is_refused() {
    let name = ".klp.sym.driver.twice,1";
    fault(
        |sample| name.clone_into(&mut sample.symbol(".klp.sym.driver.quiet,0").name),
        &[&format!(
            "klp-symbol: {name}: its position changes when driver frees its init memory"
        )],
    );
}

#[test]
fn a_klp_symbol_the_loader_would_resolve_is_refused() {
    fault(
        |sample| sample.symbol(".klp.sym.vmlinux.hidden,0").place = Place::Undefined,
        &[
            "klp-name: .klp.sym.vmlinux.hidden,0: not marked as a livepatch symbol",
            "klp-name: .klp.rela.vmlinux..text.victim+0x6: .klp.sym.vmlinux.hidden,0: not marked as a livepatch symbol",
            "undefined: .klp.sym.vmlinux.hidden,0: exported by nobody",
        ],
    );
}

#[test]
fn klp_section_faults() {
    let table = ".klp.rela.vmlinux..text.victim";
    fault(
        |sample| sample.section(table).flags = RELA | ALLOC,
        &[
            &format!(
                "klp-section: {table}: not flagged for the livepatch core, so the loader would apply it itself"
            ),
            &format!(
                "klp-order: {table}+0x6: .klp.sym.vmlinux.hidden,0: only the livepatch core resolves it, but the loader applies this"
            ),
        ],
    );
    fault(
        |sample| sample.section(table).flags &= !ALLOC,
        &[&format!(
            "klp-section: {table}: lacks the flags ALLOC and INFO_LINK"
        )],
    );
    fault(
        |sample| ".klp.rela.vmlinux..text.other".clone_into(&mut sample.section(table).name),
        &["klp-section: .klp.rela.vmlinux..text.other: applies to section .text.victim"],
    );
    fault(
        |sample| ".klp.rela.vmlinux".clone_into(&mut sample.section(table).name),
        &["klp-section: .klp.rela.vmlinux: not of the form .klp.rela.OBJECT.SECTION"],
    );
}

#[test]
fn a_relocation_for_a_module_that_is_not_patched_is_never_applied() {
    fault(
        |sample| {
            sample.modinfo.retain(|line| !line.contains("driver:serve"));
        },
        &[
            "klp-section: .klp.rela.driver..text.serve: never applied: no function of driver is patched",
            "entry: .data+0x40: serve: patches driver:serve,0, which no tuxtape_func line says or another entry also does",
        ],
    );
}

#[test]
fn vmlinux_symbols_in_module_sections_and_the_reverse_are_refused() {
    fault(
        |sample| {
            let hidden = sample
                .symbol_index(".klp.sym.vmlinux.hidden,0")
                .0
                .to_le_bytes();
            sample.relocation(".klp.rela.driver..text.serve", 0, 12, &hidden);
        },
        &[
            "klp-order: .klp.rela.driver..text.serve+0x6: .klp.sym.vmlinux.hidden,0: vmlinux symbol in a module's relocation section",
        ],
    );
    fault(
        |sample| {
            let quiet = sample
                .symbol_index(".klp.sym.driver.quiet,0")
                .0
                .to_le_bytes();
            sample.relocation(".klp.rela.vmlinux..text.victim", 0, 12, &quiet);
        },
        &[
            "klp-order: .klp.rela.vmlinux..text.victim+0x6: .klp.sym.driver.quiet,0: driver need not be loaded when this is applied",
        ],
    );
}

#[test]
fn relocations_of_an_object_with_callbacks_alone_are_applied() {
    fault(
        |sample| {
            sample.modinfo(
                "tuxtape_func=driver:serve,0",
                "tuxtape_callback=driver:pre_patch",
            );
        },
        &[
            "entry: no klp_object has the callback driver:pre_patch",
            "entry: .data+0x40: serve: patches driver:serve,0, which no tuxtape_func line says or another entry also does",
        ],
    );
}
