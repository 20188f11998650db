use super::sample::fault;

#[test]
fn export_faults() {
    fault(
        |sample| sample.undefined("nowhere", 0),
        &["undefined: nowhere: exported by nobody"],
    );
    fault(
        |sample| sample.undefined("spaced", 0x16),
        &["namespace: spaced: in namespace SPACE, which is not imported"],
    );
    fault(
        |sample| sample.undefined("key", 0x17),
        &["dependency: key: exported by helper, which is not a declared dependency"],
    );
    fault(
        |sample| sample.versions[1].1 = 0x10,
        &["crc: __versions: __fentry__: checksum 0x00000010, the kernel has 0x00000011"],
    );
    fault(
        |sample| sample.versions[0].1 = 0x10,
        &["crc: __versions: module_layout: checksum 0x00000010, the kernel has 0x00000015"],
    );
    fault(
        |sample| {
            sample.versions.remove(2);
        },
        &["crc: __versions: __x86_return_thunk: no checksum for it"],
    );
    fault(
        |sample| sample.versions.push(("__fentry__", 0x11)),
        &["crc: __versions+0x140: two checksums for one name"],
    );
}

#[test]
fn an_imported_namespace_and_a_declared_dependency_are_fine() {
    fault(
        |sample| {
            sample.undefined("spaced", 0x16);
            sample.undefined("key", 0x17);
            sample.modinfo.push("import_ns=SPACE".to_owned());
            sample.modinfo("depends=", "depends=helper");
        },
        &[],
    );
}
