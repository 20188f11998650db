use tuxtape_core::profile::EngineFacts;

use super::at_hand::PROGRAMS;
use super::*;
use crate::produce::cannot_be_patched;
use crate::profile::small;

/// A kernel such as Debian's 6.1, with everything at hand.
fn good() -> (KernelProfile, AtHand) {
    let mut kernel = small();
    let config = &mut kernel.config;
    config.livepatch = true;
    config.kallsyms_all = true;
    config.unwinder_orc = true;
    config.engines = Some(EngineFacts {
        modules: true,
        ftrace: true,
        reliable_stacks: true,
        debug_info: true,
        ..EngineFacts::default()
    });
    let at_hand = AtHand {
        compiler: CompilerAtHand::Exact,
        vmlinux: true,
        source: true,
        klp_build: false,
        missing: Vec::new(),
    };
    (kernel, at_hand)
}

fn facts(kernel: &mut KernelProfile) -> &mut EngineFacts {
    kernel.config.engines.as_mut().unwrap()
}

fn slugs(kernel: &KernelProfile, at_hand: &AtHand, engine: Engine) -> Vec<&'static str> {
    let support = support(kernel, at_hand);
    support.obstacles(engine).map(|it| it.slug).collect()
}

fn check(change: impl FnOnce(&mut KernelProfile, &mut AtHand), engine: Engine, expected: &[&str]) {
    let (mut kernel, mut at_hand) = good();
    change(&mut kernel, &mut at_hand);
    assert_eq!(slugs(&kernel, &at_hand, engine), expected);
}

#[test]
fn a_kernel_without_obstacles_is_for_the_native_engine() {
    let (kernel, at_hand) = good();
    let support = support(&kernel, &at_hand);
    assert_eq!(support.engine(), Some(Engine::Native));
    assert_eq!(support.obstacles(Engine::Native).count(), 0);
    assert_eq!(support.warnings, []);
}

#[test]
fn all_obstacles_are_named_not_the_first_alone() {
    check(
        |kernel, at_hand| {
            kernel.config.livepatch = false;
            kernel.config.lto = true;
            kernel.config.ibt = true;
            at_hand.vmlinux = false;
        },
        Engine::Native,
        &["no-livepatch", "no-vmlinux", "lto", "ibt"],
    );
}

#[test]
fn each_setting_that_no_engine_can_do_without_is_an_obstacle_for_all() {
    type Break = fn(&mut KernelProfile, &mut AtHand);
    let cases: [(&str, Break); 12] = [
        ("no-livepatch", |kernel, _| kernel.config.livepatch = false),
        ("no-modules", |kernel, _| facts(kernel).modules = false),
        ("no-ftrace", |kernel, _| facts(kernel).ftrace = false),
        ("no-kallsyms-all", |kernel, _| {
            kernel.config.kallsyms_all = false;
        }),
        ("no-reliable-stacks", |kernel, _| {
            facts(kernel).reliable_stacks = false;
        }),
        ("trimmed-exports", |kernel, _| {
            kernel.config.trim_unused_ksyms = true;
        }),
        ("randstruct", |kernel, _| kernel.config.randstruct = true),
        ("forced-signatures", |kernel, _| {
            kernel.config.module_sig_force = true;
        }),
        ("forced-lockdown", |kernel, _| {
            facts(kernel).forced_lockdown = true;
        }),
        ("no-build-id", |kernel, _| kernel.id.build_id = None),
        ("no-source", |_, at_hand| at_hand.source = false),
        ("unknown-config", |kernel, _| kernel.config.engines = None),
    ];
    for (slug, spoil) in cases {
        let (mut kernel, mut at_hand) = good();
        spoil(&mut kernel, &mut at_hand);
        for engine in Engine::ALL {
            assert!(
                slugs(&kernel, &at_hand, engine).contains(&slug),
                "{slug} {engine:?}"
            );
        }
        let support = support(&kernel, &at_hand);
        assert_eq!(support.engine(), None, "{slug}");
        assert!(support.common.iter().all(|it| !it.change.is_empty()));
    }
}

#[test]
fn another_compiler_is_an_obstacle() {
    check(
        |_, at_hand| {
            at_hand.compiler = CompilerAtHand::Other {
                why: "other".to_owned(),
                change: "install".to_owned(),
            };
        },
        Engine::Native,
        &["no-compiler"],
    );
}

#[test]
fn what_clang_does_is_not_for_the_native_engine() {
    check(
        |kernel, _| {
            facts(kernel).clang = true;
            facts(kernel).cfi = true;
            kernel.config.lto = true;
        },
        Engine::Native,
        &["lto", "cfi", "clang"],
    );
}

#[test]
fn frame_pointers_are_enough_for_kpatch_build_and_not_for_the_native_engine() {
    let (mut kernel, at_hand) = good();
    kernel.config.unwinder_orc = false;
    let support = support(&kernel, &at_hand);
    assert_eq!(support.engine(), Some(Engine::KpatchBuild));
    assert!(support.warnings.iter().any(|it| it.slug == "run-by-hand"));
}

#[test]
fn an_ibt_kernel_before_6_19_has_no_engine_but_the_native_one() {
    let (mut kernel, at_hand) = good();
    kernel.config.ibt = true;
    for (base, expected) in [
        ("6.12.107", &[][..]),
        ("6.6.30", &["ibt", "unknown-series"]),
        ("6.1.170", &["ibt"]),
    ] {
        kernel.base_version = base.to_owned();
        assert_eq!(slugs(&kernel, &at_hand, Engine::Native), expected, "{base}");
    }
    kernel.base_version = "6.12.107".to_owned();
    assert_eq!(support(&kernel, &at_hand).engine(), Some(Engine::Native));
    assert_eq!(slugs(&kernel, &at_hand, Engine::KpatchBuild), ["ibt"]);
    assert_eq!(
        slugs(&kernel, &at_hand, Engine::KlpBuild),
        ["unsupported-version"]
    );
}

#[test]
fn from_6_19_on_it_is_klp_build_and_no_longer_kpatch_build() {
    let (mut kernel, mut at_hand) = good();
    kernel.base_version = "6.19".to_owned();
    kernel.config.ibt = true;
    kernel.config.lto = true;
    assert!(slugs(&kernel, &at_hand, Engine::KpatchBuild).contains(&"unsupported-version"));
    assert_eq!(
        slugs(&kernel, &at_hand, Engine::KlpBuild),
        ["no-klp-build", "no-klp-build-script"]
    );
    facts(&mut kernel).klp_build = true;
    at_hand.klp_build = true;
    assert_eq!(support(&kernel, &at_hand).engine(), Some(Engine::KlpBuild));
    at_hand.missing = PROGRAMS.to_vec();
    assert_eq!(
        slugs(&kernel, &at_hand, Engine::KlpBuild),
        ["not-installed"]
    );
}

#[test]
fn a_base_version_that_is_none_is_for_no_outside_engine() {
    let (mut kernel, at_hand) = good();
    kernel.base_version = "new".to_owned();
    assert_eq!(support(&kernel, &at_hand).engine(), None);
}

#[test]
fn signatures_that_are_not_forced_are_minded_and_no_obstacle() {
    let (mut kernel, at_hand) = good();
    facts(&mut kernel).module_sig = true;
    facts(&mut kernel).secure_boot_lockdown = true;
    let support = support(&kernel, &at_hand);
    assert_eq!(support.engine(), Some(Engine::Native));
    let slugs: Vec<&str> = support.warnings.iter().map(|it| it.slug).collect();
    assert_eq!(slugs, ["unsigned-taints", "secure-boot"]);
}

#[test]
fn what_the_native_engine_refuses_to_build_for_is_an_obstacle_here() {
    for bits in 0_u32..512 {
        let (mut kernel, at_hand) = good();
        let on = |bit: u32| bits & (1 << bit) != 0;
        let config = &mut kernel.config;
        config.livepatch = on(0);
        config.kallsyms_all = on(1);
        config.unwinder_orc = on(2);
        config.ibt = on(3);
        config.lto = on(4);
        config.randstruct = on(5);
        config.trim_unused_ksyms = on(6);
        if on(7) {
            let series = if on(8) { "6.12.1" } else { "6.13.1" };
            kernel.base_version = series.to_owned();
        }
        let refused = !cannot_be_patched(&kernel).is_empty();
        let native = slugs(&kernel, &at_hand, Engine::Native);
        assert_eq!(refused, !native.is_empty(), "{bits:b} {native:?}");
    }
}
