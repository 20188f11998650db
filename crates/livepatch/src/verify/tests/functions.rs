use super::super::*;
use super::sample::{Sample, World, fault};

#[test]
fn patched_functions_must_exist_be_unique_and_be_traceable() {
    fn check(line: &str, expected: &[&str]) {
        let mut sample = Sample::new();
        sample.modinfo(
            "tuxtape_func=vmlinux:victim,2",
            &format!("tuxtape_func={line}"),
        );
        let report = World::new().verify(&sample.build());
        let problems: Vec<_> = report
            .problems
            .iter()
            .filter(|problem| problem.check == Check::Function)
            .map(|problem| problem.why.as_str())
            .collect();
        assert_eq!(problems, expected, "{line}");
    }
    check("vmlinux:guarded,0", &[]);
    check(
        "vmlinux:victim,1",
        &["has no entry for ftrace, so nothing can redirect it"],
    );
    check(
        "vmlinux:hidden,0",
        &["has no entry for ftrace, so nothing can redirect it"],
    );
    check(
        "driver:quiet,0",
        &["has no entry for ftrace, so nothing can redirect it"],
    );
    check(
        "vmlinux:victim,0",
        &["vmlinux: 2 symbols have this name and no position is given"],
    );
    check("vmlinux:absent,0", &["vmlinux: not in the symbol table"]);
    check(
        "vmlinux:boot,0",
        &["in init memory of vmlinux, which is freed"],
    );
    check("elsewhere:victim,2", &["no debug file of elsewhere"]);
    check(
        "victim,2",
        &["not of the form tuxtape_func=OBJECT:NAME,POSITION"],
    );
    check(
        "driver:serve,1",
        &["patched twice under one name and position"],
    );
}

#[test]
fn the_table_of_patched_functions_must_say_what_modinfo_says() {
    fault(
        |sample| sample.section(".data").data[0x10] = 1,
        &[
            "entry: victim: no klp_func entry patches vmlinux:victim,2",
            "entry: .data+0x0: victim: patches vmlinux:victim,1, which no tuxtape_func line says or another entry also does",
        ],
    );
    fault(
        |sample| sample.relocation(".rela.data", 1, 16, &[5]),
        &[
            "entry: .data+0x0: victim: its new code is not the start of a function with a size",
            "mcount: victim: its new code does not start with a call of __fentry__",
            "reference: .data+0x8: .text.victim: .text.victim+0x5 is not the start of a function",
        ],
    );
    fault(
        |sample| "klp_disable".clone_into(&mut sample.symbol("klp_enable_patch").name),
        &[
            "undefined: klp_disable: exported by nobody",
            "entry: never calls klp_enable_patch",
            "init: .init.text+0x0: init_module: does not hand one klp_patch of its own to klp_enable_patch",
            "init: .init.text+0x7: init_module: calls something else than klp_enable_patch",
        ],
    );
}

#[test]
fn code_without_its_entries_is_refused() {
    fault(
        |sample| sample.drop_last(".rela__mcount_loc", "__mcount_loc", 8),
        &["mcount: .text.serve+0x0: serve: a call of __fentry__ that ftrace does not know of"],
    );
    fault(
        |sample| sample.relocation(".rela__mcount_loc", 1, 16, &[5]),
        &[
            "mcount: .text.serve+0x0: serve: a call of __fentry__ that ftrace does not know of",
            "mcount: __mcount_loc+0x8: .text.serve: does not point to a call of __fentry__",
        ],
    );
    fault(
        |sample| {
            sample.drop_last(".rela.orc_unwind_ip", ".orc_unwind_ip", 4);
            sample.section(".orc_unwind").data.truncate(12);
        },
        &[
            "orc: .init.text+0x0: init_module: the stack unwinder has no entry for it",
            "orc: .init.text+0xc: cleanup_module: the stack unwinder has no entry for it",
        ],
    );
    fault(
        |sample| sample.section(".orc_unwind").data.truncate(12),
        &["orc: .orc_unwind: 12 bytes for 12 bytes of addresses with 3 relocations"],
    );
}
