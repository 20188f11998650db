use super::sample::{entry, fault};
use crate::elf::fixture::{R_32S, RELA};

#[test]
fn relocation_faults() {
    let table = ".rela.text.victim";
    fault(
        |sample| sample.relocation(".rela.init.text", 0, 0, &[0x0e]),
        &[
            "relocation: .init.text+0x7: init_module: branches to the next instruction: its relocation is missing",
            "relocation: .rela.init.text+0xe: klp_enable_patch: beyond .init.text, which has 0x11 bytes",
            "init: .init.text+0x0: init_module: does not hand one klp_patch of its own to klp_enable_patch",
            "init: .init.text+0x7: init_module: branches, and may so do something or leave it",
            "operand: .init.text+0xe: klp_enable_patch: is no field of the instruction it is in",
        ],
    );
    fault(
        |sample| sample.relocation(".rela.init.text", 0, 8, &[9]),
        &[
            "relocation: .rela.init.text+0x8: klp_enable_patch: type 9 is not one the loader knows",
            "operand: .init.text+0x8: klp_enable_patch: an address where the instruction counts from its own place",
        ],
    );
    fault(
        |sample| sample.relocation(".rela.init.text", 0, 8, &[10]),
        &[
            "relocation: .rela.init.text+0x8: klp_enable_patch: an address of the kernel does not fit 32 unsigned bits",
            "operand: .init.text+0x8: klp_enable_patch: an address where the instruction counts from its own place",
        ],
    );
    fault(
        |sample| sample.section(".text.victim").data[6] = 1,
        &[
            "nonzero-target: .klp.rela.vmlinux..text.victim+0x6: .klp.sym.vmlinux.hidden,0: the bytes it overwrites in .text.victim are not zero",
        ],
    );
    fault(
        |sample| {
            let victim = sample.section_index(".text.victim");
            let enable = sample.symbol_index("klp_enable_patch");
            let entries = [entry(6, enable, R_32S, 0)];
            sample
                .fixture
                .relocations(".rela.again", RELA, victim, &entries);
        },
        &[
            "overlap: .rela.again+0x6: overwrites what .klp.rela.vmlinux..text.victim wrote",
            "branch: .text.victim+0x5: victim: leads to klp_enable_patch +4, not to its start",
            "operand: .text.victim+0x6: klp_enable_patch: an address where the instruction counts from its own place",
        ],
    );
    fault(
        |sample| sample.relocation(table, 0, 12, &0xffff_ffff_u32.to_le_bytes()),
        &["malformed: malformed object: .rela.text.victim: symbol 0xffffffff is beyond 0x12"],
    );
}

#[test]
fn a_moved_pointer_is_seen() {
    fault(
        |sample| sample.relocation(".rela.data", 4, 0, &[0xb9]),
        &[
            "relocation: .rela.data+0xb9: .data: is not aligned",
            "overlap: .rela.data+0xb9: overwrites what .rela.data wrote",
            "entry: serve: no klp_func entry patches driver:serve,0",
            "entry: victim: no klp_func entry patches vmlinux:victim,2",
        ],
    );
}

#[test]
fn a_missing_relocation_is_missed() {
    fault(
        |sample| {
            sample
                .section(".klp.rela.vmlinux..text.victim")
                .data
                .clear();
        },
        &[
            "relocation: .text.victim+0x5: victim: branches to the next instruction: its relocation is missing",
            "branch: .text.victim+0x5: victim: calls .text.victim+0xa, not the start of a function",
        ],
    );
    fault(
        |sample| sample.section(".rela.orc_unwind_ip").data.truncate(48),
        &[
            "orc: .init.text+0x0: init_module: the stack unwinder has no entry for it",
            "orc: .init.text+0xc: cleanup_module: the stack unwinder has no entry for it",
            "orc: .orc_unwind: 18 bytes for 12 bytes of addresses with 2 relocations",
            "foreign-site: .orc_unwind_ip+0x8: no relocation fills this in",
        ],
    );
    fault(
        |sample| sample.relocation(".rela__bug_table", 1, 8, &[0]),
        &["relocation: .rela__bug_table+0x4: .rodata.str1.1: does nothing"],
    );
    fault(
        |sample| {
            sample
                .section(".rela.gnu.linkonce.this_module")
                .data
                .truncate(24);
        },
        &["this-module: .gnu.linkonce.this_module: no pointer to cleanup_module at offset 0x50"],
    );
}
