use super::super::*;
use super::sample::{VERMAGIC, fault};

#[test]
fn modinfo_faults() {
    fault(
        |sample| sample.modinfo("livepatch=Y", "livepatch=N"),
        &["livepatch-flag: .modinfo: `livepatch=N`"],
    );
    fault(
        |sample| sample.modinfo("livepatch=Y", "x=Y"),
        &[
            "livepatch-flag: .modinfo: not marked as a livepatch module",
            "modinfo: .modinfo: `x=Y` is nothing that a livepatch module says",
        ],
    );
    fault(
        |sample| sample.modinfo("license=GPL", "license=MIT"),
        &[
            "license: klp_enable_patch: exported to GPL-compatible modules only",
            "license: .modinfo: `MIT`, must be `GPL`",
        ],
    );
    fault(
        |sample| sample.modinfo[1].push('x'),
        &[&format!(
            "vermagic: .modinfo: `{VERMAGIC}x`, this kernel wants `{VERMAGIC}`"
        )],
    );
    fault(
        |sample| {
            sample.modinfo(
                "tuxtape_kernel_build_id=deadbeef",
                "tuxtape_kernel_build_id=deadbeee",
            );
        },
        &["build-id: .modinfo: for kernel deadbeee, this is deadbeef"],
    );
    fault(
        |sample| sample.modinfo("tuxtape_kernel_build_id=deadbeef", "x=y"),
        &[
            "build-id: .modinfo: does not say which kernel it is for",
            "modinfo: .modinfo: `x=y` is nothing that a livepatch module says",
        ],
    );
}

#[test]
fn a_name_too_long_for_the_kernel_is_refused() {
    let name = "f".repeat(56);
    fault(
        |sample| {
            sample.modinfo[0] = format!("name={name}");
            sample.section(layout::THIS_MODULE).data = {
                let mut data = vec![0; 24];
                data.extend(name.bytes());
                data.resize(96, 0);
                data
            };
        },
        &[
            "name: .modinfo: 56 characters, the limit is 55",
            "nonzero-target: .rela.gnu.linkonce.this_module+0x40: init_module: the bytes it overwrites in .gnu.linkonce.this_module are not zero",
        ],
    );
    fault(
        |sample| sample.modinfo[0] = "name=fix-ture".to_owned(),
        &[
            "name: .modinfo: `fix-ture` is not made of letters, digits and `_`",
            "this-module: .gnu.linkonce.this_module: does not carry the name fix-ture",
        ],
    );
}

#[test]
fn another_struct_module_is_refused() {
    fault(
        |sample| sample.section(layout::THIS_MODULE).data.extend([0; 8]),
        &["this-module: .gnu.linkonce.this_module: 104 bytes, this kernel's modules have 96"],
    );
}

#[test]
fn layout_faults() {
    fault(
        |sample| sample.fixture.file_type = 2,
        &["layout: not a relocatable file"],
    );
    fault(
        |sample| sample.symbol("own_key").place = Place::Common,
        &[
            "layout: own_key: in common storage, which the loader refuses",
            "jump-entry: __jump_table+0x0: names no key",
        ],
    );
    fault(
        |sample| sample.symbol("own_key").size = 0x100,
        &["layout: own_key: reaches beyond its section"],
    );
    fault(
        |sample| sample.symbol("own_key").name = "k".repeat(512),
        &[&format!(
            "layout: {}: its name is longer than kallsyms can hold",
            "k".repeat(512)
        )],
    );
}
