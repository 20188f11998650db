use super::*;
use crate::kbuild::{Folder, SourceTree as _};

/// Writes a small finished build: one built-in unit, one module of two units, a boot stub, a stale
/// object of an earlier configuration and a program of the build.
fn build(top: &Path, prefix: &str) {
    let write = |path: &str, text: &str| {
        let path = top.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let unit = |object: &str, source: &str, read: &[&str]| {
        let (folder, name) = object.rsplit_once('/').unwrap();
        let read: Vec<String> = read.iter().map(|path| format!("  {path} \\\n")).collect();
        let read = read.concat();
        write(
            &format!("{folder}/.{name}.cmd"),
            &format!(
                "{prefix}_{object} := gcc -c -o {object} {source}\n\nsource_{object} := {source}\n\n\
                 deps_{object} := \\\n    $(wildcard include/config/A) \\\n{read}\n{object}: $(deps_{object})\n"
            ),
        );
    };
    let command = |target: &str, text: &str| {
        let (folder, name) = target.rsplit_once('/').unwrap_or(("", target));
        let folder = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        write(
            &format!("{folder}.{name}.cmd"),
            &format!("{prefix}_{target} := {text}\n"),
        );
    };
    for source in [
        "net/a.c",
        "net/a.h",
        "net/rt.c",
        "net/old.c",
        "net/old.h",
        "net/unread.h",
        "fs/x/one.c",
        "fs/x/two.c",
        "fs/x/two.h",
        "fs/x/never.c",
        "arch/x86/boot/stub.c",
        "arch/x86/boot/stub.h",
        "scripts/tool.c",
        "net/names.h",
        "virt/v.c",
    ] {
        write(source, "");
    }
    unit(
        "net/a.o",
        "net/a.c",
        &["net/a.h", "net/rt.c", "/usr/lib/gcc/x/stdarg.h"],
    );
    unit("net/old.o", "net/old.c", &["net/old.h", "net/a.h"]);
    unit("fs/x/one.o", "fs/x/one.c", &["net/a.h"]);
    unit("fs/x/two.o", "fs/x/two.c", &["fs/x/two.h"]);
    unit("fs/x/x-y.mod.o", "fs/x/x-y.mod.c", &["net/a.h"]);
    unit(
        "arch/x86/boot/stub.o",
        "arch/x86/boot/stub.c",
        &["arch/x86/boot/stub.h"],
    );
    unit(
        "arch/x86/kvm/../../../virt/v.o",
        "arch/x86/kvm/../../../virt/v.c",
        &["net/a.h"],
    );
    unit("scripts/tool.o", "scripts/tool.c", &["net/a.h"]);
    command("net/names.c", "awk -f x ./net/names.h > net/names.c");
    command(
        "net/built-in.a",
        "rm -f net/built-in.a; printf \"net/%s \" a.o | xargs ar cDPrST net/built-in.a",
    );
    command(
        "arch/x86/built-in.a",
        "rm -f arch/x86/built-in.a; ar cDPrST arch/x86/built-in.a arch/x86/kvm/../../../virt/v.o",
    );
    command(
        "built-in.a",
        "rm -f built-in.a; printf \"./%s \" net/built-in.a arch/x86/built-in.a | xargs ar cDPrST built-in.a",
    );
    command(
        "vmlinux.a",
        "rm -f vmlinux.a; ar cDPrST vmlinux.a ./built-in.a",
    );
    command("vmlinux", "scripts/link-vmlinux.sh");
    command(
        "fs/x/x-y.ko",
        "ld -r -o fs/x/x-y.ko fs/x/x-y.o fs/x/x-y.mod.o",
    );
    write("vmlinux", "");
    write("fs/x/x-y.ko", "");
    write("fs/x/x-y.mod", "fs/x/one.o\nfs/x/two.o\n");
    write("modules.order", "fs/x/x-y.ko\n");
}

fn read_all(top: &Path) -> Result<Commanded, CommandsError> {
    read(top, top, Folder::open(top).unwrap().files(), true)
}

fn objects(names: &[&str]) -> BTreeSet<ObjectName> {
    names
        .iter()
        .map(|name| ObjectName((*name).to_owned()))
        .collect()
}

#[test]
fn units_and_everything_they_read_reach_the_object_they_were_linked_into() {
    for prefix in ["cmd", "savedcmd"] {
        let top = tempfile::tempdir().unwrap();
        build(top.path(), prefix);
        let found = read_all(top.path()).unwrap();
        let units: Vec<_> = found.units.iter().collect();
        let one = |path: &str, names: &[&str]| (path.to_owned(), objects(names));
        let expected: BTreeMap<_, _> = [
            one("net/a.c", &["vmlinux"]),
            one("virt/v.c", &["vmlinux"]),
            one("fs/x/one.c", &["x_y"]),
            one("fs/x/two.c", &["x_y"]),
            one("fs/x/x-y.mod.c", &["x_y"]),
        ]
        .into();
        assert_eq!(found.units, expected, "{units:?}");
        assert_eq!(found.contributors["net/a.h"], objects(&["vmlinux", "x_y"]));
        assert_eq!(found.contributors["net/rt.c"], objects(&["vmlinux"]));
        assert!(found.all_headers);
        assert_eq!(found.modules, objects(&["x_y"]));
    }
}

#[test]
fn what_was_made_and_not_linked_is_not_told() {
    let top = tempfile::tempdir().unwrap();
    build(top.path(), "cmd");
    let found = read_all(top.path()).unwrap();
    for file in [
        "net/old.c",
        "net/old.h",
        "arch/x86/boot/stub.c",
        "arch/x86/boot/stub.h",
        "net/names.h",
        "scripts/",
    ] {
        assert!(found.blind.contains_key(file), "{file}: {:?}", found.blind);
    }
    for file in ["net/a.h", "net/unread.h", "fs/x/never.c", "scripts/tool.c"] {
        assert!(!found.blind.contains_key(file), "{file}: {:?}", found.blind);
    }
}

#[test]
fn a_build_that_did_not_end_is_refused() {
    for missing in ["vmlinux", ".vmlinux.cmd", "modules.order", "fs/x/x-y.ko"] {
        let top = tempfile::tempdir().unwrap();
        build(top.path(), "cmd");
        fs::remove_file(top.path().join(missing)).unwrap();
        assert!(
            matches!(read_all(top.path()), Err(CommandsError::Unfinished { .. })),
            "{missing}"
        );
    }
}

#[test]
fn a_cut_command_file_is_refused_by_name_but_for_the_builds_programs() {
    let top = tempfile::tempdir().unwrap();
    build(top.path(), "cmd");
    fs::write(top.path().join("scripts/.tool.o.cmd"), "").unwrap();
    read_all(top.path()).unwrap();
    fs::write(top.path().join("net/.a.o.cmd"), "cmd_net").unwrap();
    let error = read_all(top.path()).unwrap_err();
    assert!(error.to_string().ends_with("net/.a.o.cmd"), "{error}");
}

#[test]
fn a_linked_object_without_its_command_hides_nothing() {
    let top = tempfile::tempdir().unwrap();
    build(top.path(), "cmd");
    fs::remove_file(top.path().join("fs/x/.two.o.cmd")).unwrap();
    let found = read_all(top.path()).unwrap();
    assert!(found.blind.contains_key("fs/x/two.c"));
    assert!(!found.all_headers);
}

#[test]
fn a_folder_whose_command_files_are_gone_is_blind() {
    for gone in [&["net"][..], &["net", "arch/x86"], &["fs/x"]] {
        let top = tempfile::tempdir().unwrap();
        build(top.path(), "cmd");
        for folder in gone {
            for entry in fs::read_dir(top.path().join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path
                    .extension()
                    .is_some_and(|end| end == "cmd" || end == "mod")
                {
                    fs::remove_file(path).unwrap();
                }
            }
        }
        let found = read_all(top.path()).unwrap();
        for folder in gone {
            let blind = found.blind.contains_key(&format!("{folder}/"));
            assert!(blind, "{folder}: {:?}", found.blind);
        }
        assert!(!found.all_headers);
    }
    // Older series name their archives nowhere: what lies there tells.
    let top = tempfile::tempdir().unwrap();
    build(top.path(), "cmd");
    fs::create_dir_all(top.path().join("lib")).unwrap();
    fs::write(top.path().join("lib/built-in.a"), "").unwrap();
    let found = read_all(top.path()).unwrap();
    assert!(found.blind.contains_key("lib/"), "{:?}", found.blind);
}

#[test]
fn what_a_unit_without_its_command_file_includes_is_blind() {
    let top = tempfile::tempdir().unwrap();
    build(top.path(), "cmd");
    fs::remove_file(top.path().join("net/.a.o.cmd")).unwrap();
    fs::write(
        top.path().join("net/a.c"),
        "#ifdef X\n#include \"a.h\"\n#endif\n",
    )
    .unwrap();
    fs::write(top.path().join("net/a.h"), "#include \"rt.c\"\n").unwrap();
    let found = read_all(top.path()).unwrap();
    for path in ["net/a.c", "net/rt.c"] {
        assert!(found.blind.contains_key(path), "{path}: {:?}", found.blind);
    }
}

#[test]
fn an_object_newer_than_the_image_is_of_another_build() {
    let top = tempfile::tempdir().unwrap();
    build(top.path(), "cmd");
    let object = top.path().join("net/a.o");
    fs::write(&object, "").unwrap();
    let late = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    fs::File::options()
        .write(true)
        .open(&object)
        .unwrap()
        .set_modified(late)
        .unwrap();
    let error = read_all(top.path()).unwrap_err();
    assert!(
        error.to_string().contains("net/a.o was compiled after"),
        "{error}"
    );
}
