use super::*;

/// A top makefile as those of Linux 6.1 and newer are, and one folder `x/` with `makefile`.
pub(super) fn tree(makefile: &str, files: &[(&str, &str)]) -> Memory {
    let top = "\
VERSION = 6
PATCHLEVEL = 1
SUBLEVEL = 0
EXTRAVERSION =
SRCARCH := $(if $(filter x86_64,$(ARCH)),x86)
libs-y := lib/
include $(srctree)/arch/$(SRCARCH)/Makefile
export SRCARCH
export ARCH_LIB := $(filter %/, $(libs-y))
";
    let mut all: Vec<(String, Vec<u8>)> = [
        ("Makefile", top),
        ("Kbuild", "obj-y += x/ arch/$(SRCARCH)/ $(ARCH_LIB)\n"),
        (
            "arch/x86/Makefile",
            "BITS := 64\nexport BITS\nlibs-y += arch/x86/lib/\n",
        ),
        ("arch/x86/Kbuild", "obj-y += a_$(BITS).o\n"),
        ("arch/x86/a_64.c", ""),
        ("arch/x86/lib/Makefile", "lib-y := l.o\n"),
        ("arch/x86/lib/l.S", ""),
        ("lib/Makefile", "lib-y := l.o\n"),
        ("lib/l.c", ""),
        (
            "scripts/Kbuild.include",
            "comma := ,\ntest-ge = $(shell test $(strip $1) -ge $(strip $2) && echo y)\n",
        ),
        ("x/Makefile", makefile),
    ]
    .iter()
    .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
    .collect();
    for (path, text) in files {
        all.push(((*path).to_owned(), text.as_bytes().to_vec()));
    }
    Memory::new(all)
}

pub(super) fn config() -> Config {
    Config::parse("CONFIG_Y=y\nCONFIG_M=m\nCONFIG_N=n\nCONFIG_NUMBER=120200\n")
}

pub(super) fn run(makefile: &str, files: &[(&str, &str)]) -> Evaluated {
    evaluate(&tree(makefile, files), &config()).unwrap()
}

/// Evaluates `x/Makefile` beside empty sources; gives what lies in `x/`, as `a.c=vmlinux`.
fn units(makefile: &str) -> Vec<String> {
    let names = ["a", "b", "c", "d"].map(|name| format!("x/{name}.c"));
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    listed(&run(makefile, &files))
}

pub(super) fn listed(found: &Evaluated) -> Vec<String> {
    let inside = found.units.iter().filter_map(|(path, objects)| {
        let name = path.strip_prefix("x/")?;
        let objects: Vec<&str> = objects.iter().map(|object| object.0.as_str()).collect();
        Some(format!("{name}={}", objects.join("+")))
    });
    inside.collect()
}

fn reason(makefile: &str, folder: &str) -> String {
    let found = run(makefile, &[("x/a.c", ""), ("x/b.c", "")]);
    assert!(found.is_blind("x/b.c"), "{makefile}: {:?}", found.blind);
    found.blind.get(folder).cloned().unwrap_or_default()
}

#[test]
fn a_source_goes_where_its_folder_and_its_setting_say() {
    for (makefile, expected) in [
        ("obj-y += a.o b.o\n", &["a.c=vmlinux", "b.c=vmlinux"][..]),
        (
            "obj-$(CONFIG_Y) += a.o\nobj-$(CONFIG_N) += b.o\nobj-$(CONFIG_ABSENT) += c.o\n",
            &["a.c=vmlinux"],
        ),
        ("obj-$(CONFIG_M) += a.o\n", &["a.c=a"]),
        (
            "obj-$(CONFIG_M) += my-mod.o\nmy-mod-y := a.o\nmy-mod-$(CONFIG_Y) += b.o\n",
            &["a.c=my_mod", "b.c=my_mod"],
        ),
        (
            "obj-m += m.o\nm-objs := a.o\nm-m := b.o\n",
            &["a.c=m", "b.c=m"],
        ),
        (
            "obj-y += m.o\nm-objs := a.o\nm-m := b.o\n",
            &["a.c=vmlinux"],
        ),
        (
            "obj-m += m.o n.o\nm-y := a.o\nn-y := a.o b.o\n",
            &["a.c=m+n", "b.c=n"],
        ),
        ("obj-m += a.o\nobj-y += a.o\n", &["a.c=vmlinux"]),
        ("obj-y += $(obj)/a.o\n", &["a.c=vmlinux"]),
        ("obj-$(subst m,y,$(CONFIG_M)) += a.o\n", &["a.c=vmlinux"]),
        (
            "ifdef CONFIG_M\nobj-y += a.o\nelse\nobj-y += b.o\nendif\n",
            &["a.c=vmlinux"],
        ),
        (
            "ifeq ($(CONFIG_M),y)\nobj-y += a.o\nelse ifneq ($(CONFIG_Y),)\n\tobj-y += b.o\nelse\nobj-y += c.o\nendif\n",
            &["b.c=vmlinux"],
        ),
        (
            "ifndef CONFIG_N\nifdef CONFIG_ABSENT\nelse\nobj-y += a.o\nendif\nendif\n",
            &["a.c=vmlinux"],
        ),
        (
            "files := a \\\n\tb # c\nobj-y += $(files:=.o)\n",
            &["a.c=vmlinux", "b.c=vmlinux"],
        ),
        (
            "list = $(foreach f,a b,$(addsuffix .o,$(f)))\nobj-y = $(list)\n",
            &["a.c=vmlinux", "b.c=vmlinux"],
        ),
        ("n := Y\nobj-$(CONFIG_$(n)) += a.o\n", &["a.c=vmlinux"]),
        (
            "pick = $(if $(1),$(2),$(3))\nobj-y += $(call pick,$(CONFIG_Y),a.o,b.o)\n",
            &["a.c=vmlinux"],
        ),
        (
            "define both\nobj-y += $(1).o\nobj-y += $(2).o\nendef\n$(eval $(call both,a,b))\n",
            &["a.c=vmlinux", "b.c=vmlinux"],
        ),
        (
            "obj-y += a.o\nall:\n\tobj-y += b.o\n\n\techo\nc := x\nobj-y += c.o\n",
            &["a.c=vmlinux", "c.c=vmlinux"],
        ),
        ("all: obj-y += a.o\nobj-y += b.o\n", &["b.c=vmlinux"]),
        (
            "obj-y ?= a.o\nv ?= b.o\nv ?= c.o\nobj-y += $(v)\n",
            &["b.c=vmlinux"],
        ),
        (
            "obj-y += $(if $(call test-ge,$(CONFIG_NUMBER),110000),a.o,b.o)\n",
            &["a.c=vmlinux"],
        ),
        (
            "obj-y += a.o\nobj-y := $(filter-out a.o,$(obj-y)) b.o\n",
            &["b.c=vmlinux"],
        ),
        (
            "extra-y += a.o\nalways-y += b.o\nhostprogs := c\nlib-y += d.o\n",
            &[],
        ),
    ] {
        assert_eq!(units(makefile), expected, "{makefile}");
    }
}

#[test]
fn what_is_compiled_beside_the_kernel_is_blind() {
    let makefile = "extra-y += a.o\ntargets += b.s\nhostprogs := c\nlib-y += d.o\nuserprogs := e\ne-objs := f.o\nobj-m += g.o\ng-$(CONFIG_N) := g1.o\n$(obj)/i.bin: $(obj)/i.o\n";
    let names = ["a", "b", "c", "d", "f", "g", "h", "i"].map(|name| format!("x/{name}.c"));
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let found = run(makefile, &files);
    let blind: Vec<&str> = found.blind.keys().map(String::as_str).collect();
    assert_eq!(
        blind,
        [
            "x/a.c", "x/b.c", "x/c.c", "x/d.c", "x/f.c", "x/g.c", "x/i.c"
        ]
    );
    assert!(listed(&found).is_empty());
}

#[test]
fn a_reason_names_the_folder_also_where_it_is_the_top() {
    let kbuild = "obj-y += x/\nalways-y += bounds.s\n";
    let files = [("Kbuild", kbuild), ("bounds.c", ""), ("x/a.c", "")];
    let found = run("always-y += a.s\n", &files);
    for (file, folder) in [
        ("bounds.c", "the top folder has it "),
        ("x/a.c", "x/ has it "),
    ] {
        let reason = found.blind.get(file).expect("it is blind");
        assert!(reason.starts_with(folder), "{reason}");
    }
}

#[test]
fn a_folder_made_without_linking_is_blind_unless_another_line_links_it() {
    let found = run(
        "subdir-y += sub other\nobj-y += sub/\n",
        &[
            ("x/sub/Makefile", "obj-y += a.o\n"),
            ("x/sub/a.c", ""),
            ("x/sub/b.c", ""),
            ("x/other/c.c", ""),
        ],
    );
    assert_eq!(listed(&found), ["sub/a.c=vmlinux"]);
    assert!(!found.is_blind("x/sub/b.c") && found.is_blind("x/other/c.c"));
}

#[test]
fn libraries_of_the_top_makefile_are_linked() {
    let found = run("", &[]);
    let vmlinux = BTreeSet::from([ObjectName("vmlinux".to_owned())]);
    for path in ["arch/x86/lib/l.S", "lib/l.c", "arch/x86/a_64.c"] {
        assert_eq!(found.units.get(path), Some(&vmlinux), "{path}");
    }
}

#[test]
fn a_folder_entered_for_its_modules_links_nothing_into_vmlinux() {
    let found = run(
        "obj-$(CONFIG_M) += sub/\n",
        &[
            (
                "x/sub/Kbuild",
                "obj-y += a.o low/\nobj-$(CONFIG_M) += b.o\n",
            ),
            ("x/sub/Makefile", "obj-y += never.o\n"),
            ("x/sub/a.c", ""),
            ("x/sub/b.c", ""),
            ("x/sub/low/Makefile", "obj-m += c.o\nobj-y += d.o\n"),
            ("x/sub/low/c.c", ""),
            ("x/sub/low/d.c", ""),
        ],
    );
    assert_eq!(listed(&found), ["sub/b.c=b", "sub/low/c.c=c"]);
    let blind: Vec<&str> = found.blind.keys().map(String::as_str).collect();
    assert_eq!(blind, ["x/sub/a.c", "x/sub/low/d.c"]);
}

#[test]
fn older_trees_name_their_folders_in_the_top_makefile() {
    let top = "\
VERSION = 5
PATCHLEVEL = 10
SUBLEVEL = 223
SRCARCH := x86
export SRCARCH
core-y := x/
drivers-$(CONFIG_M) := late/
libs-y := lib/
head-y := x/head.o
include $(srctree)/arch/x86/Makefile
vmlinux-dirs := $(patsubst %/,%,$(filter %/, $(core-y) $(core-m) $(drivers-y) $(drivers-m) $(libs-y)))
core-y := $(patsubst %/, %/built-in.a, $(core-y))
libs-y := $(patsubst %/, %/lib.a, $(libs-y))
";
    let found = run(
        "extra-y := head.o other.o\nobj-y += a.o\n",
        &[
            ("Makefile", top),
            ("Kbuild", "always-y += y.h\n"),
            ("x/head.S", ""),
            ("x/other.c", ""),
            ("x/a.c", ""),
            ("late/Makefile", "obj-m += l.o\n"),
            ("late/l.c", ""),
        ],
    );
    assert_eq!(listed(&found), ["a.c=vmlinux", "head.S=vmlinux"]);
    assert!(found.units.contains_key("late/l.c") && found.units.contains_key("lib/l.c"));
    assert!(found.is_blind("x/other.c"));
}

#[test]
fn what_cannot_be_evaluated_makes_its_folder_blind_and_names_the_place() {
    for (makefile, expected) in [
        ("\nobj-y += $(shell ls)\n", "x/Makefile:2: $(shell ls)"),
        (
            "obj-y += $(call unheard,of)\n",
            "x/Makefile:1: $(call unheard,of)",
        ),
        ("v != ls\nobj-m += $(v)\n", "x/Makefile:1: v != ls"),
        (
            "ifeq ($(shell id),0)\nobj-y += a.o\nendif\n",
            "x/Makefile:1: $(shell id)",
        ),
        (
            "ifdef CONFIG_Y\nelse ifeq (a)\nendif\nifeq (a)\nlib-y += a.o\nendif\n",
            "x/Makefile:4: ifeq (a)",
        ),
        ("obj-$(shell x) += a.o\n", "x/Makefile:1: $(shell x)"),
        (
            "obj-m += m.o\nm-y += $(shell x)\n",
            "x/Makefile:2: $(shell x)",
        ),
        (
            "obj-y += $(wildcard *.absent)\n",
            "x/Makefile:1: $(wildcard *.absent)",
        ),
        (
            "include $(obj)/absent.mk\n",
            "x/Makefile:1: include x/absent.mk: not in the tree",
        ),
        ("$(error stop)\n", "x/Makefile:1: $(error stop)"),
        (
            "obj-y += ../../../a.o\n",
            "x/Makefile: ../../../a.o lies outside of the tree",
        ),
        (
            "include x/Makefile\n",
            "x/Makefile:1: nests deeper than 64: include x/Makefile",
        ),
        (
            "v = $(v)\nobj-y += $(v)\n",
            "x/Makefile:2: nests deeper than 64: $(v)",
        ),
        (
            "ifdef CONFIG_Y\n",
            "x/Makefile:1: the file ends within a condition or a define",
        ),
        ("endif\n", "x/Makefile:1: endif without a condition"),
        ("obj-y += sub/\n", ""),
        (
            "what is this\n",
            "x/Makefile:1: no assignment, rule or directive: what is this",
        ),
        ("obj-y += $(a\n", "x/Makefile:1: unterminated $(a"),
        (
            "obj-y += absent.o\n",
            "x/absent.o is asked for, and no source of it is in the tree",
        ),
    ] {
        if expected.is_empty() {
            let found = run(makefile, &[]);
            assert!(found.is_blind("x/sub/a.c") || found.blind.is_empty());
            continue;
        }
        assert_eq!(reason(makefile, "x/"), expected, "{makefile}");
    }
}

#[test]
fn doubt_stays_in_its_folder() {
    let found = run(
        "obj-y += $(shell ls)\nobj-m += b.o\n",
        &[("x/a.c", ""), ("x/b.c", "")],
    );
    // What is certain in a blind folder is still told, and all other folders are.
    assert_eq!(listed(&found), ["b.c=b"]);
    assert!(found.units.contains_key("lib/l.c"));
    assert_eq!(found.blind.keys().collect::<Vec<_>>(), ["x/"]);
}

#[test]
fn flags_in_doubt_leave_the_folder_known() {
    for makefile in [
        "ccflags-y += $(shell pkg-config x)\nobj-y += a.o\n",
        "ifeq ($(call cc-option,-x),)\nccflags-y += -y\nelse\nCFLAGS_a.o := -z\nendif\nobj-y += a.o\n",
        "cflags-$(shell x) += -y\nobj-y += a.o\n",
        "all:\n\t$(shell x)\nobj-y += a.o\n",
    ] {
        assert_eq!(units(makefile), ["a.c=vmlinux"], "{makefile}");
        assert!(
            run(makefile, &[("x/a.c", "")]).blind.is_empty(),
            "{makefile}"
        );
    }
}

#[test]
fn a_blind_makefile_leaves_the_sources_of_other_folders_that_it_names_in_doubt() {
    let found = run(
        "obj-y += $(shell ls)\nm-y += ../y/other.o $(DIR)/far.o near.o\n",
        &[
            ("x/in.c", "#include \"../y/text.c\"\n"),
            ("y/other.c", ""),
            ("y/text.c", ""),
            ("z/far.c", ""),
            ("z/near.c", ""),
        ],
    );
    for path in ["y/other.c", "y/text.c", "z/far.c"] {
        assert!(found.is_blind(path), "{path}");
    }
    assert!(!found.is_blind("z/near.c"));
}

#[test]
fn included_sources_belong_to_the_object_that_includes_them() {
    let found = run(
        "obj-m += a.o\n",
        &[
            (
                "x/a.c",
                "#include \"b.c\"\n#ifdef CONFIG_ABSENT\n#include \"c.c\"\n#endif\n",
            ),
            ("x/b.c", "#include \"a.c\"\n#include \"../y/d.c\"\n"),
            ("x/c.c", ""),
            ("y/d.c", ""),
        ],
    );
    let of = |path: &str| found.contributors.get(path).map(BTreeSet::len);
    assert_eq!(
        (of("x/b.c"), of("y/d.c"), of("x/c.c")),
        (Some(1), Some(1), None)
    );
    assert!(found.blind.is_empty());
}

#[test]
fn work_is_bounded() {
    let double: Vec<String> = (0..60)
        .map(|n| format!("v{} = $(v{n})$(v{n})\n", n + 1))
        .collect();
    let double = double.concat();
    let deep = format!("obj-y += {}x{}\n", "$(".repeat(5000), ")".repeat(5000));
    let wide = format!(
        "v := {}\n{}obj-y += $(v)\n",
        "w ".repeat(10_000),
        "v += $(v)\n".repeat(40)
    );
    for makefile in [
        format!("v0 = aaaaaaaa\n{double}obj-y += $(v60)\n"),
        deep,
        wide,
        "v = $(foreach a,1 2 3 4 5 6 7 8 9,$(foreach b,1 2 3 4 5 6 7 8 9,$(v)))\nobj-y += $(v)\n"
            .to_owned(),
        "f = $(eval $(value f))$(f)\n$(f)\n".to_owned(),
        "e = $(eval $(call e))\n$(call e)\n".to_owned(),
    ] {
        let found = run(&makefile, &[("x/a.c", "")]);
        assert!(
            found.is_blind("x/a.c"),
            "{}",
            makefile.get(..60).unwrap_or(&makefile)
        );
    }
    let large = format!("# {}\nobj-y += a.o\n", "x".repeat(5 << 20));
    assert!(run(&large, &[("x/a.c", "")]).is_blind("x/a.c"));
}

#[test]
fn folders_that_lead_back_are_entered_once() {
    let found = run(
        "obj-y += sub/ a.o\nobj-m += ../x/\n",
        &[
            ("x/sub/Makefile", "obj-y += ../ ../sub/ b.o\n"),
            ("x/sub/b.c", ""),
            ("x/a.c", ""),
        ],
    );
    assert_eq!(listed(&found), ["a.c=vmlinux", "sub/b.c=vmlinux"]);
}

#[test]
fn garbled_makefiles_are_no_panic() {
    let whole = "obj-$(CONFIG_Y) += a.o \\\n b.o\nifeq ($(subst a,b,$(c:x=y)),\"z\")\ndefine q\n\tx\nendef\nelse ifdef M\n\ta: b ; c\nendif\n$(eval $(call q,1,2)) # x\n-include $(wildcard x/*)\n";
    for end in 0..whole.len() {
        run(whole.get(..end).unwrap(), &[]);
        let mut bytes = whole.as_bytes().to_vec();
        if let Some(byte) = bytes.get_mut(end) {
            *byte ^= 0x55;
        }
        run(&String::from_utf8_lossy(&bytes), &[]);
    }
}

#[test]
fn changed_seeds_are_no_panic() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/kbuild");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below.max(1)
    };
    let parts = [
        "$(",
        ")",
        "ifdef X\n",
        "endif\n",
        "else\n",
        "=== x/z/Makefile\n",
        ":=",
        "\\\n",
        "$(eval ",
        "$(call ",
        ",",
        "../",
        "obj-y += ",
        "\n",
        "\t",
        "#",
        "define a\n",
        "endef\n",
        "%",
        "*",
    ];
    for entry in std::fs::read_dir(folder).unwrap() {
        let seed = std::fs::read(entry.unwrap().path()).unwrap();
        fuzz(&seed);
        for _ in 0..60 {
            let mut bytes = seed.clone();
            for _ in 0..=random(4) {
                let at = random(bytes.len());
                let part = parts.get(random(parts.len())).unwrap();
                let end = (at + random(8)).min(bytes.len());
                bytes.splice(at..end, part.bytes());
            }
            fuzz(&bytes);
        }
    }
}

#[test]
fn a_tree_without_its_top_makefile_is_no_kernel() {
    let empty = Memory::new([]);
    let error = evaluate(&empty, &config()).unwrap_err();
    assert!(matches!(error, KbuildError::Missing { .. }), "{error}");
    let bare = Memory::new([("Makefile".to_owned(), b"all:\n\techo\n".to_vec())]);
    let error = evaluate(&bare, &config()).unwrap_err();
    assert!(matches!(error, KbuildError::Top { .. }), "{error}");
    for kbuild in [
        "obj-y += $(shell ls)\n",
        "$(error no)\n",
        "obj-y += x/\nobj-m += absent.o\n",
    ] {
        let doubted = tree("obj-y += a.o\n", &[("Kbuild", kbuild), ("x/a.c", "")]);
        let error = evaluate(&doubted, &config()).unwrap_err();
        assert!(
            matches!(error, KbuildError::Top { .. }),
            "{kbuild}: {error}"
        );
    }
    let stops = Memory::new([("Makefile".to_owned(), b"$(error no)\n".to_vec())]);
    let error = evaluate(&stops, &config()).unwrap_err();
    assert!(
        error.to_string().contains("Makefile:1: $(error no)"),
        "{error}"
    );
}

const CONFIG: &str = "#
# Linux/x86 6.1.0 Kernel Configuration
#
CONFIG_CC_VERSION_TEXT=\"gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0\"
CONFIG_LOCALVERSION=\"-small\"
CONFIG_HZ=250
CONFIG_X86_64=y
CONFIG_MODULES=y
CONFIG_LIVEPATCH=y
CONFIG_M=m
# end of Kernel hacking
";

fn request() -> Request {
    Request {
        spec: "dir:/usr/src/linux".to_owned(),
        source: String::new(),
        release: None,
        other_version: OtherVersion::Refused,
    }
}

fn made(config: &str, request: &Request) -> Result<Profiled, KbuildError> {
    let files = [
        ("x/a.c", ""),
        ("localversion-next", "-next\n"),
        ("localversion~", "-old\n"),
    ];
    let known = [
        "CC_VERSION_TEXT",
        "LOCALVERSION",
        "HZ",
        "X86_64",
        "MODULES",
        "LIVEPATCH",
        "M",
    ];
    let kconfig: Vec<String> = known
        .iter()
        .map(|name| format!("config {name}\n"))
        .collect();
    let kconfig = kconfig.concat();
    let files = [&files[..], &[("Kconfig", kconfig.as_str())]].concat();
    profile(&tree("obj-$(CONFIG_M) += a.o\n", &files), config, request)
}

#[test]
fn a_profile_by_evaluation_says_what_it_is() {
    let made = made(CONFIG, &request()).unwrap();
    let profile = made.profile;
    // Mainline calls the release 6.1 and its kernel 6.1.0.
    assert_eq!(profile.base_version, "6.1");
    assert_eq!(profile.id.release.as_str(), "6.1.0-next-small");
    assert_eq!(profile.id.build_id, None);
    assert_eq!(profile.sureness.way, Way::Evaluation);
    assert!(!profile.sureness.all_headers);
    assert!(profile.config.livepatch);
    assert_eq!(profile.compiler, "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0");
    assert!(profile.units.contains_key("x/a.c") && profile.tree_files.contains("lib/l.c"));
    assert_eq!(made.modules, BTreeSet::from([ObjectName("a".to_owned())]));
    assert_eq!(made.unchecked, Vec::<String>::new());
}

#[test]
fn the_release_of_a_distribution_is_taken_as_given() {
    let release: KernelRelease = "6.1.0-47-cloud-amd64".parse().unwrap();
    let asked = Request {
        release: Some(release.clone()),
        ..request()
    };
    assert_eq!(made(CONFIG, &asked).unwrap().profile.id.release, release);
}

#[test]
fn a_configuration_that_cannot_be_the_trees_is_refused() {
    for (change, to, expected) in [
        (
            "x86 6.1.0",
            "x86 6.1.170",
            "not-the-kernel: the configuration is of Linux 6.1.170, the tree is Linux 6.1.0",
        ),
        (
            "Linux/x86",
            "Linux/arm64",
            "the configuration is for arm64, only x86 kernels of 64 bits can be evaluated",
        ),
        (
            "CONFIG_X86_64=y\n",
            "",
            "the configuration is for another architecture (CONFIG_X86_64 is not set), only x86 kernels of 64 bits can be evaluated",
        ),
        (
            "CONFIG_CC_VERSION_TEXT",
            "CONFIG_OTHER",
            "the configuration is not a complete one: it lacks CONFIG_CC_VERSION_TEXT",
        ),
        (
            "CONFIG_MODULES=y\n",
            "",
            "the configuration has CONFIG_M=m without CONFIG_MODULES=y",
        ),
        (
            "CONFIG_M=m\n# end of",
            "# end of a menu\nCONFIG_M=m\n# not the end of",
            "the configuration ends within a menu: it was cut short, or lines were added to it by hand",
        ),
    ] {
        let config = CONFIG.replace(change, to);
        assert_ne!(config, CONFIG);
        let error = made(&config, &request()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn another_version_can_be_allowed_and_is_told() {
    let asked = Request {
        other_version: OtherVersion::Allowed,
        ..request()
    };
    let other = CONFIG.replace("6.1.0", "6.1.170");
    let bare = CONFIG.replace("# Linux/x86 6.1.0 Kernel Configuration\n", "");
    for (config, expected) in [
        (
            other,
            "the configuration is of Linux 6.1.170, the tree is Linux 6.1.0",
        ),
        (
            bare,
            "the configuration does not say of which version it is",
        ),
    ] {
        assert_eq!(made(&config, &asked).unwrap().unchecked, [expected]);
    }
}

#[test]
fn settings_that_the_tree_does_not_know_are_told() {
    let config = CONFIG.replace("CONFIG_M=m\n", "CONFIG_FOREIGN=y\nCONFIG_M=m\n");
    let unchecked = made(&config, &request()).unwrap().unchecked;
    assert_eq!(unchecked.len(), 1);
    assert!(unchecked.iter().all(|line| line.contains("CONFIG_FOREIGN")));
}

#[test]
fn the_version_is_the_makefiles() {
    for (makefile, base, release) in [
        (
            "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 170\nEXTRAVERSION =\n",
            "6.1.170",
            "6.1.170",
        ),
        (
            "VERSION = 6\nPATCHLEVEL = 13\nSUBLEVEL = 0\nEXTRAVERSION = -rc4\n",
            "6.13-rc4",
            "6.13.0-rc4",
        ),
        (
            "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\nEXTRAVERSION = -vendor2\n",
            "6.1",
            "6.1.0-vendor2",
        ),
        (
            "# SPDX\nVERSION=5\nPATCHLEVEL=10\nSUBLEVEL=7\n",
            "5.10.7",
            "5.10.7",
        ),
    ] {
        let tree = Memory::new([("Makefile".to_owned(), makefile.as_bytes().to_vec())]);
        let named = release::read(&tree, &Config::default()).unwrap();
        assert_eq!(
            (named.base.as_str(), named.release.as_str()),
            (base, release)
        );
    }
    for bad in [
        "",
        "VERSION = 6\n",
        "VERSION = six\nPATCHLEVEL = 1\nSUBLEVEL = 0\n",
    ] {
        let tree = Memory::new([("Makefile".to_owned(), bad.as_bytes().to_vec())]);
        let error = release::read(&tree, &Config::default()).unwrap_err();
        assert!(matches!(error, KbuildError::Version { .. }), "{bad}");
    }
}
