//! Trees that are legal and odd: where one of them cannot be told, it must be blind, and never pass for
//! "not built".

use super::tests::{config, listed, run, tree};
use super::*;

/// Checks what `x/b.c` is: `built`, `blind`, or `not`.
fn check(makefile: &str, files: &[(&str, &str)], expected: &str) {
    let all = [&[("x/a.c", ""), ("x/b.c", "")], files].concat();
    let found = run(makefile, &all);
    let built = found.units.contains_key("x/b.c") || found.contributors.contains_key("x/b.c");
    let told = match (built, found.is_blind("x/b.c")) {
        (true, _) => "built",
        (false, true) => "blind",
        (false, false) => "not",
    };
    assert_eq!(told, expected, "{makefile:?} {files:?}: {:?}", found.blind);
}

#[test]
fn a_source_that_another_includes_is_found_however_it_is_written() {
    let unit = "obj-y += a.o\n";
    for (text, expected) in [
        ("#include \"b.c\"\n", "built"),
        ("#include \\\n \"b.c\"\n", "built"),
        ("/* x */ #include \"b.c\"\n", "built"),
        ("/* x\n*/ # include <b.c>\n", "built"),
        ("%:include \"b.c\"\n", "built"),
        ("#import \"b.c\"\n", "built"),
        ("#include \"h.h\"\n", "built"),
        ("#define F \"b.c\"\n#include F\n", "built"),
        ("#define F G\n#define G <b.c>\n#include F\n", "blind"),
        ("#define F \"b.c\"\n#include \"m.h\"\n", "built"),
        ("#include CONFIG_FILE\n", "built"),
        ("#ifdef X\n#include \"b.c\"\n#endif\n", "blind"),
        ("#ifdef X\n#include \"h.h\"\n#endif\n", "blind"),
        ("/*\n#include \"b.c\"\n*/\n", "not"),
        ("#ifdef CONFIG_ABSENT\n#include \"b.c\"\n#endif\n", "not"),
        ("#ifdef CONFIG_ABSENT\n#include \"h.h\"\n#endif\n", "not"),
        (
            "#define CONFIG_ABSENT 1\n#ifdef CONFIG_ABSENT\n#include \"b.c\"\n#endif\n",
            "blind",
        ),
        (
            "#undef CONFIG_Y\n#ifndef CONFIG_Y\n#include \"b.c\"\n#endif\n",
            "blind",
        ),
        (
            "#include \"s.h\"\n#ifdef CONFIG_ABSENT\n#include \"b.c\"\n#endif\n",
            "blind",
        ),
    ] {
        let files = [
            ("x/a.c", text),
            (
                "x/h.h",
                "#ifndef H_H\n#define H_H\n#include \"i.h\"\n#endif\n",
            ),
            ("include/i.h", "#include <b.c>\n"),
            ("x/m.h", "#include F\n"),
            ("x/s.h", "#define CONFIG_ABSENT\n"),
        ];
        let all = [("x/b.c", "")]
            .iter()
            .chain(&files)
            .copied()
            .collect::<Vec<_>>();
        let config = Config::parse("CONFIG_Y=y\nCONFIG_FILE=\"b.c\"\n");
        let found = evaluate(&tree(unit, &all), &config).unwrap();
        let built = found.contributors.contains_key("x/b.c");
        let told = match (built, found.is_blind("x/b.c")) {
            (true, _) => "built",
            (false, true) => "blind",
            (false, false) => "not",
        };
        assert_eq!(told, expected, "{text:?}: {:?}", found.blind);
    }
}

#[test]
fn flags_that_bring_in_a_source_or_a_setting_are_seen() {
    let asks: (&str, &str) = ("x/a.c", "#ifdef CONFIG_ABSENT\n#include \"b.c\"\n#endif\n");
    check("obj-y += a.o\n", &[asks], "not");
    for flags in [
        "ccflags-y += -DCONFIG_ABSENT\n",
        "CFLAGS_a.o := -D CONFIG_ABSENT=1\n",
        "ccflags-$(call cc-option,-x) += -UCONFIG_Y\nsubdir-ccflags-y := -DCONFIG_ABSENT\n",
    ] {
        check(&format!("obj-y += a.o\n{flags}"), &[asks], "blind");
    }
    for flags in [
        "ccflags-y += -include $(src)/b.c\n",
        "ccflags-y += -include $(srctree)/$(src)/b.c\n",
        "n := b\nCFLAGS_a.o += -include x/$(n).c\n",
        "CFLAGS_a.o += -DFILE=\\\"b.c\\\"\n",
        "ccflags-y += -include $(src)/h.h\n",
        "ldflags-y += $(obj)/b.o\n",
        "LDFLAGS_a.o := x/b.o\n",
    ] {
        let files = [("x/h.h", "#include \"b.c\"\n")];
        check(&format!("obj-y += a.o\n{flags}"), &files, "blind");
    }
}

#[test]
fn a_rule_may_make_an_object_of_another_source() {
    for (rule, expected) in [
        (
            "$(obj)/a.o: $(src)/b.c FORCE\n\t$(call if_changed_rule,cc_o_c)\n",
            "built",
        ),
        ("$(obj)/a.o: $(src)/b.c ; cc\n", "built"),
        ("$(obj)/a.o: $(src)/b.c\n", "not"),
        ("$(obj)/%.o: $(src)/b.c\n\tcc\n", "built"),
        ("$(obj)/a.o: FORCE\n\tcc $(srctree)/$(src)/b.c\n", "blind"),
        (
            "cmd_x = cp $(src)/b.c $@\n$(obj)/a.o:\n\t$(call cmd,x)\n",
            "blind",
        ),
        (
            "$(call rule,a.o)\ndefine rule\n$(obj)/$(1): $(src)/b.c\n\tcc\nendef\n$(eval $(call rule,a.o))\n",
            "blind",
        ),
        (
            "define rule\n$(obj)/$(1): $(src)/b.c\n\tcc\nendef\n$(eval $(call rule,a.o))\n",
            "built",
        ),
    ] {
        // What the rule adds to a line without recipe is named, but known to be no source of it.
        let expected = if rule.ends_with("b.c\n") {
            "blind"
        } else {
            expected
        };
        check(&format!("obj-y += a.o\n{rule}"), &[], expected);
    }
    // The source of its own name may be compiled as well.
    let found = run(
        "obj-y += a.o\n$(obj)/a.o: $(src)/b.c\n\tcc\n",
        &[("x/a.c", ""), ("x/b.c", "")],
    );
    assert!(found.is_blind("x/a.c"));
}

#[test]
fn sources_may_lie_elsewhere_only_where_the_folder_is_blind() {
    for makefile in [
        "vpath %.c x/sub\nobj-y += a.o\n",
        "VPATH := x/sub\nobj-y += a.o\n",
        "obj-y += a.o\n-include $(obj)/made.mk\n",
        "obj-y += a.o\n-include /etc/kernel.mk\n",
        "obj-y += $(EXTRA_OBJECTS) a.o\n",
        "ifdef EXTRA\nobj-y += b.o\nendif\n",
        "ifeq ($(EXTRA),1)\nobj-y += b.o\nendif\n",
        "obj-$(EXTRA) += b.o\n",
        "load plugin.so\nobj-y += a.o\n",
        "obj-y += $(CONFIG_DOLLAR)\n",
        "obj-y += a.o\n$(obj)/$(shell echo a).o: $(src)/b.c\n\tcc\n",
        "obj-y += a.o\n$(obj)/a.o: $(shell echo b).c\n\tcc\n",
        "obj-y += a.o\n$(call unheard_of,b)\n",
        "export EXTRA\nobj-$(EXTRA) += b.o\n",
    ] {
        let found = evaluate(
            &tree(makefile, &[("x/a.c", ""), ("x/b.c", "")]),
            &Config::parse("CONFIG_Y=y\nCONFIG_DOLLAR=\"$(X)\"\n"),
        );
        assert!(found.unwrap().is_blind("x/b.c"), "{makefile:?}");
    }
    check(
        "VPATH :=\nvpath\nobj-y += a.o\n-include $(obj)/.a.o.d\n",
        &[],
        "not",
    );
    check(
        "ifeq ($(KBUILD_EXTMOD),)\nobj-y += b.o\nendif\n",
        &[],
        "built",
    );
}

#[test]
fn folders_can_be_named_by_a_pattern() {
    let files = [
        ("x/one/Makefile", "obj-y += c.o\n"),
        ("x/one/c.c", ""),
        ("x/.off/Makefile", "obj-y += d.o\n"),
        ("x/.off/d.c", ""),
    ];
    for makefile in [
        "obj-y += $(addsuffix /,$(notdir $(patsubst %/Makefile,%,$(wildcard $(src)/*/Makefile))))\n",
        "obj-y += $(patsubst $(src)/%,%/,$(filter-out %.c %/Makefile,$(wildcard $(src)/*)))\n",
        "obj-y += $(patsubst $(src)/%,%,$(wildcard $(src)/[a-o]*/))\n",
        "obj-y += $(patsubst $(src)/%,%,$(wildcard $(src)/on?/))\n",
    ] {
        assert_eq!(
            listed(&run(makefile, &files)),
            ["one/c.c=vmlinux"],
            "{makefile}"
        );
    }
}

#[test]
fn lines_are_read_as_make_reads_them() {
    for (makefile, expected) in [
        ("all: V = 1\n\tobj-y += b.o\n", "built"),
        ("all: a\n\tobj-y += b.o\n", "not"),
        (
            "v := y\nundefine v\nifndef v\nobj-y += b.o\nendif\n",
            "built",
        ),
        ("v := y\nundefine v\nv ?= b.o\nobj-y += $(v)\n", "built"),
        ("override v := n\nv := y\nobj-$(v) += b.o\n", "not"),
        ("\u{feff}obj-y += b.o\n", "built"),
        (
            "obj-y += \\\r\n b.o\r\nifdef CONFIG_Y\r\nelse\r\nobj-m += a.o\r\nendif\r\n",
            "built",
        ),
        ("v = y \nifeq ($(v),y)\nobj-y += b.o\nendif\n", "not"),
        ("obj-$(CONFIG_M:m=y) += b.o\n", "built"),
        ("obj-y += $(patsubst a\\%b,b.o,a%b)\n", "built"),
        ("define v\nobj-y += b.o\nendef\n$(v)\n", "blind"),
        ("define v =\nb.o\nendef\nobj-y += $(v)\n", "built"),
        (
            "obj-y += a.o\nobj-y += x.o\nx-y := b.o\nb-y := c.o\n",
            "built",
        ),
        (
            "ifneq ($(filter y,$(CONFIG_N) $(CONFIG_M:m=y)),)\nifeq ($(strip $(CONFIG_ABSENT)),)\nobj-y += b.o\nendif\nendif\n",
            "built",
        ),
        ("lib-y := b.o\nobj- += a.o\n", "blind"),
        ("hostprogs := b\nobj-y += b.o\n", "built"),
        ("subdir-y += ../x\nobj-y += ../x/b.o\n", "built"),
        ("obj-y += /abs/b.o\n", "blind"),
        ("obj-y += sub/../b.o\n", "built"),
        (
            "v = $(foreach n,a b,$(eval obj-y += $(n).o))\n$(v)\n",
            "built",
        ),
        ("include $(srctree)/y/in.mk\n", "built"),
        ("b.o: ccflags-y := -DX\nobj-y += b.o\n", "built"),
        ("export V := b.o\nobj-y += $(V)\n", "built"),
        (
            ".SECONDEXPANSION:\nobj-y += a.o\n$(obj)/a.o: $$(wildcard x/b.c)\n\tcc\n",
            "blind",
        ),
    ] {
        check(
            makefile,
            &[("y/in.mk", "obj-$(CONFIG_Y) += b.o\n")],
            expected,
        );
    }
}

#[test]
fn what_a_folder_exports_reaches_those_below_as_make_hands_it_down() {
    for (makefile, below, expected) in [
        (
            "VALUE := b.o\nexport VALUE\n",
            "obj-y += $(VALUE)\n",
            "built",
        ),
        ("VALUE := b.o\nexport\n", "obj-y += $(VALUE)\n", "built"),
        (
            "VALUE := b.o\n.EXPORT_ALL_VARIABLES:\n",
            "obj-y += $(VALUE)\n",
            "built",
        ),
        (
            "VALUE := b.o\nexport VALUE\nunexport VALUE\n",
            "obj-y += a.o $(v)\n",
            "not",
        ),
        (
            "export VALUE = a.o\n",
            "VALUE += $(w)\nw := b.o\nobj-y += $(VALUE)\n",
            "built",
        ),
        (
            "export CONFIG_Y := n\n",
            "obj-$(CONFIG_Y) += b.o\n",
            "built",
        ),
        (
            "export CONFIG_ABSENT := y\n",
            "obj-$(CONFIG_ABSENT) += b.o\n",
            "built",
        ),
        (
            "ifeq ($(shell id),0)\nexport VALUE := y\nendif\n",
            "obj-$(VALUE) += b.o\n",
            "blind",
        ),
        ("VALUE := b.o\n", "obj-y += $(VALUE)\n", "blind"),
    ] {
        let files = [
            ("x/sub/Makefile", below),
            ("x/sub/a.c", ""),
            ("x/sub/b.c", ""),
        ];
        let found = run(&format!("{makefile}obj-y += sub/\n"), &files);
        let told = match (
            found.units.contains_key("x/sub/b.c"),
            found.is_blind("x/sub/b.c"),
        ) {
            (true, _) => "built",
            (false, true) => "blind",
            (false, false) => "not",
        };
        assert_eq!(told, expected, "{makefile:?} {below:?} {:?}", found.blind);
    }
}

#[test]
fn a_folder_entered_with_two_sets_of_variables_is_blind() {
    let files = [
        ("x/one/Makefile", "export V := y\nobj-y += ../both/\n"),
        ("x/two/Makefile", "export V := n\nobj-y += ../both/\n"),
        ("x/both/Makefile", "obj-$(V) += b.o\n"),
        ("x/both/b.c", ""),
        ("x/both/c.c", ""),
    ];
    let found = run("obj-y += one/ two/\n", &files);
    assert!(found.is_blind("x/both/c.c"), "{:?}", found.blind);
    assert_eq!(listed(&found), ["both/b.c=vmlinux"]);
}

#[test]
fn before_5_17_texts_of_the_configuration_keep_their_quotes() {
    let makefile = "ifeq ($(CONFIG_TEXT),b.o)\nobj-y += b.o\nendif\nifeq ($(CONFIG_TEXT),\"b.o\")\nobj-y += a.o\nendif\n";
    let config = Config::parse("CONFIG_TEXT=\"b.o\"\n");
    for (version, minor, expected) in [
        ("5", "16", "a.c=vmlinux"),
        ("5", "17", "b.c=vmlinux"),
        ("6", "1", "b.c=vmlinux"),
    ] {
        let files = [("x/a.c", ""), ("x/b.c", "")];
        let old = tree(makefile, &files);
        let top = old.read("Makefile", 1 << 20).unwrap().unwrap();
        let top = String::from_utf8(top)
            .unwrap()
            .replace("VERSION = 6", &format!("VERSION = {version}"))
            .replace("PATCHLEVEL = 1", &format!("PATCHLEVEL = {minor}"));
        let found = evaluate(
            &tree(
                makefile,
                &[&files[..], &[("Makefile", top.as_str())]].concat(),
            ),
            &config,
        )
        .unwrap();
        assert_eq!(listed(&found), [expected], "{version}.{minor}");
    }
}

#[test]
fn a_file_with_two_names_is_one_file() {
    let place = tempfile::tempdir().unwrap();
    let memory = tree(
        "obj-y += linked/ c_link.o\n",
        &[
            ("y/real/Makefile", "obj-y += a.o\n"),
            ("y/real/a.c", "#include \"b.c\"\n"),
            ("y/real/b.c", ""),
            ("y/real/off.c", ""),
            ("y/c.c", ""),
            ("y/blind/Makefile", "obj-y += $(shell ls)\n"),
            ("y/blind/d.c", ""),
            ("z/Makefile", "obj-y += $(shell ls)\n"),
        ],
    );
    for path in memory.files() {
        let bytes = memory.read(path, 1 << 20).unwrap().unwrap();
        let path = place.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, place.path().join(name)).unwrap();
    };
    link("../y/real", "x/linked");
    link("../y/c.c", "x/c_link.c");
    link("..", "x/round");
    let found = evaluate(&Folder::open(place.path()).unwrap(), &config()).unwrap();
    for path in [
        "x/linked/a.c",
        "y/real/a.c",
        "y/real/b.c",
        "y/c.c",
        "x/c_link.c",
    ] {
        let built = found.units.contains_key(path) || found.contributors.contains_key(path);
        assert!(built, "{path}: {found:?}");
    }
    assert!(!found.is_blind("y/real/off.c"));
    // The other way round: what is in doubt under one name is in doubt under the other.
    std::fs::write(place.path().join("x/Makefile"), "obj-y += blind/ ../z/\n").unwrap();
    link("../y/blind", "x/blind");
    link("../y/real", "z/inner");
    let found = evaluate(&Folder::open(place.path()).unwrap(), &config()).unwrap();
    for path in ["y/blind/d.c", "x/blind/d.c", "y/real/off.c"] {
        assert!(found.is_blind(path), "{path}: {:?}", found.blind);
    }
}
