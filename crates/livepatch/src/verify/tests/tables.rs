use super::sample::{Sample, entry, fault};
use crate::elf::fixture::{ALLOC, KLP_RELA, R_64, R_PC32, RELA, TEXT};

#[test]
fn thunks_without_their_sites_are_refused() {
    fault(
        |sample| sample.drop_last(".rela.return_sites", ".return_sites", 4),
        &[
            "thunk-site: .text.serve+0xa: serve: a thunk is used here and .return_sites does not say so",
        ],
    );
    fault(
        |sample| sample.drop_last(".rela.retpoline_sites", ".retpoline_sites", 4),
        &[
            "thunk-site: .text.victim+0xa: victim: a thunk is used here and .retpoline_sites does not say so",
        ],
    );
    // The site of a prefixed call is its prefix.
    fault(
        |sample| sample.relocation(".rela.retpoline_sites", 0, 16, &[0xb]),
        &[
            "thunk-site: .retpoline_sites+0x0: .text.victim: does not point to a jump or call of its thunk",
            "thunk-site: .text.victim+0xa: victim: a thunk is used here and .retpoline_sites does not say so",
        ],
    );
}

#[test]
fn keys_of_modules_are_refused() {
    let table = ".klp.rela.driver.__jump_table";
    fault(
        |sample| {
            let jumps = sample.section_index("__jump_table");
            let quiet = sample.symbol_index(".klp.sym.driver.quiet,0");
            sample.section(".rela__jump_table").data.truncate(48);
            let entries = [entry(8, quiet, R_64, 0)];
            sample.fixture.relocations(table, KLP_RELA, jumps, &entries);
        },
        &[
            "module-key: __jump_table+0x8: .klp.sym.driver.quiet,0: resolved only when driver is patched, long after its use",
            "jump-entry: __jump_table+0x0: its key is outside its variable",
        ],
    );
    fault(
        |sample| {
            sample.undefined("key", 0x17);
            sample.modinfo("depends=", "depends=helper");
            let key = sample.symbol_index("key").0.to_le_bytes();
            sample.relocation(".rela__jump_table", 2, 12, &key);
        },
        &["module-key: __jump_table+0x8: key: a key of module helper"],
    );
}

#[test]
fn tables_about_other_code_are_refused() {
    fault(
        |sample| {
            let enable = sample.symbol_index("klp_enable_patch").0.to_le_bytes();
            sample.relocation(".rela__bug_table", 0, 12, &enable);
        },
        &[
            "foreign-site: __bug_table+0x0: klp_enable_patch: refers to something outside this module",
            "bug-entry: .text.victim+0x15: victim: a trap that __bug_table does not list",
            "bug-entry: __bug_table+0x0: does not say which instruction it is about",
        ],
    );
    fault(
        |sample| {
            let data = sample.symbol_index("own_key").0.to_le_bytes();
            sample.relocation(".rela__jump_table", 0, 12, &data);
        },
        &["foreign-site: __jump_table+0x0: own_key: does not refer to code"],
    );
    fault(
        |sample| sample.relocation(".rela__jump_table", 1, 16, &[0x7f]),
        &[
            "foreign-site: __jump_table+0x4: .text.victim: refers to a place behind its section",
            "jump-entry: __jump_table+0x0: leads out of its function",
        ],
    );
}

/// Adds an alternative for `length` bytes of `serve`; at offset 5 it calls `driver`'s `quiet`.
fn with_alternative(sample: &mut Sample, start: i64, length: u8) {
    let mut table = [0; 12];
    table[10] = length;
    let table = sample.fixture.section(".altinstructions", ALLOC, &table);
    let code = sample
        .fixture
        .section(".altinstr_replacement", TEXT, &[0x90; 8]);
    let serve = sample.symbol_index("serve");
    let replacement = entry(4, sample.fixture.section_symbol(code), R_PC32, 0);
    let entries = [entry(0, serve, R_PC32, start), replacement];
    sample
        .fixture
        .relocations(".rela.altinstructions", RELA, table, &entries);
}

#[test]
fn a_modules_relocation_in_code_that_alternatives_rewrote_is_refused() {
    fault(|sample| with_alternative(sample, 0xa, 5), &[]);
    fault(
        |sample| with_alternative(sample, 5, 5),
        &[
            "klp-order: .klp.rela.driver..text.serve+0x6: .klp.sym.driver.quiet,0: alternatives have rewritten this code before it is relocated",
        ],
    );
}

#[test]
fn alternatives_of_an_unknown_kernel_are_refused() {
    fault(
        |sample| {
            with_alternative(sample, 5, 5);
            sample.section(".altinstructions").data.push(0);
            sample.section(".altinstructions").data.extend([0; 4]);
        },
        &["layout: .altinstructions: its size is no multiple of 12"],
    );
}
