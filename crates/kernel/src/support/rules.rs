//! What stands in the way of each engine.

use tuxtape_core::profile::{EngineFacts, KernelProfile};
use tuxtape_core::version::KernelVersion;
use tuxtape_livepatch::tables::{is_proven_with_ibt, layout_for};

use super::at_hand::{AtHand, CompilerAtHand};
use super::{Engine, Obstacle};

/// The first series whose tree has `klp-build`, and the first for which `kpatch-build` gets no fixes.
const KLP_BUILD_SINCE: &str = "6.19";

fn obstacle(slug: &'static str, why: impl Into<String>, change: impl Into<String>) -> Obstacle {
    Obstacle {
        slug,
        why: why.into(),
        change: change.into(),
    }
}

/// A setting that must be on.
fn needs(on: bool, slug: &'static str, name: &str, why: &str) -> Option<Obstacle> {
    (!on).then(|| {
        obstacle(
            slug,
            format!("CONFIG_{name} is not set: {why}"),
            format!("rebuild with CONFIG_{name}=y"),
        )
    })
}

/// A setting that must be off.
fn forbids(on: bool, slug: &'static str, name: &str, why: &str) -> Option<Obstacle> {
    on.then(|| {
        obstacle(
            slug,
            format!("CONFIG_{name} is set: {why}"),
            format!("rebuild without CONFIG_{name}"),
        )
    })
}

/// What stands in the way of every engine.
pub(super) fn common(kernel: &KernelProfile, at_hand: &AtHand) -> Vec<Obstacle> {
    let config = &kernel.config;
    let Some(facts) = config.engines else {
        return vec![obstacle(
            "unknown-config",
            "the profile does not say enough of the kernel's configuration",
            "add the kernel again with `tuxtape kernel add`",
        )];
    };
    let settings = [
        needs(
            config.livepatch,
            "no-livepatch",
            "LIVEPATCH",
            "the kernel has no livepatch support",
        ),
        needs(
            facts.modules,
            "no-modules",
            "MODULES",
            "the kernel loads no modules",
        ),
        needs(
            facts.ftrace,
            "no-ftrace",
            "DYNAMIC_FTRACE_WITH_ARGS",
            "and neither is CONFIG_DYNAMIC_FTRACE_WITH_REGS, so calls cannot be redirected",
        ),
        needs(
            config.kallsyms_all,
            "no-kallsyms-all",
            "KALLSYMS_ALL",
            "a livepatch cannot find the kernel's data symbols",
        ),
        reliable_stacks(facts),
        forbids(
            config.trim_unused_ksyms,
            "trimmed-exports",
            "TRIM_UNUSED_KSYMS",
            "exports a livepatch needs may be gone",
        ),
        forbids(
            config.randstruct,
            "randstruct",
            "RANDSTRUCT",
            "structure layouts are random, by a seed that only the builder has",
        ),
        signatures(config.module_sig_force, facts),
    ];
    let mut obstacles: Vec<Obstacle> = settings.into_iter().flatten().collect();
    if kernel.id.build_id.is_none() {
        obstacles.push(obstacle(
            "no-build-id",
            "no image of this kernel was seen, so a livepatch could not be bound to it",
            "add the kernel again with its vmlinux",
        ));
    }
    if !at_hand.vmlinux {
        obstacles.push(obstacle(
            "no-vmlinux",
            "its vmlinux with debug data is not at hand",
            "add the kernel again with its -dbg package or vmlinux",
        ));
    }
    if !at_hand.source {
        obstacles.push(obstacle(
            "no-source",
            "its source is not at hand",
            "add the kernel again with its source",
        ));
    }
    if let CompilerAtHand::Other { why, change } = &at_hand.compiler {
        obstacles.push(obstacle("no-compiler", why.clone(), change.clone()));
    }
    obstacles
}

fn reliable_stacks(facts: EngineFacts) -> Option<Obstacle> {
    (!facts.reliable_stacks).then(|| {
        obstacle(
            "no-reliable-stacks",
            "CONFIG_HAVE_RELIABLE_STACKTRACE is not set: a transition may never end",
            "rebuild with CONFIG_UNWINDER_ORC=y",
        )
    })
}

fn signatures(forced: bool, facts: EngineFacts) -> Option<Obstacle> {
    let change = "sign modules with a key that the kernel trusts";
    if forced {
        let why =
            "CONFIG_MODULE_SIG_FORCE is set: only modules signed with a key the kernel trusts load";
        return Some(obstacle(
            "forced-signatures",
            why,
            format!("{change}, or rebuild without CONFIG_MODULE_SIG_FORCE"),
        ));
    }
    facts.forced_lockdown.then(|| {
        if facts.module_sig {
            obstacle(
                "forced-lockdown",
                "CONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY or _CONFIDENTIALITY is set: only signed modules load",
                format!("{change}, or rebuild with CONFIG_LOCK_DOWN_KERNEL_FORCE_NONE=y"),
            )
        } else {
            obstacle(
                "forced-lockdown",
                "the kernel is locked down and CONFIG_MODULE_SIG is not set: no module loads",
                "rebuild with CONFIG_MODULE_SIG=y, or with CONFIG_LOCK_DOWN_KERNEL_FORCE_NONE=y",
            )
        }
    })
}

/// What stands in the way of the native engine alone.
pub(super) fn native(kernel: &KernelProfile) -> Vec<Obstacle> {
    let config = &kernel.config;
    let facts = config.engines.unwrap_or_default();
    let mut obstacles: Vec<Obstacle> = [
        needs(
            config.unwinder_orc,
            "no-orc",
            "UNWINDER_ORC",
            "the native engine writes ORC tables for the new code",
        ),
        forbids(
            config.lto,
            "lto",
            "LTO",
            "units compiled alone do not match the kernel",
        ),
        forbids(
            config.ibt && !is_series(&kernel.base_version, is_proven_with_ibt),
            "ibt",
            "X86_KERNEL_IBT",
            "on this series the native engine has not been proven with its padded functions",
        ),
        forbids(
            facts.cfi,
            "cfi",
            "CFI_CLANG",
            "the native engine does not carry its type hashes",
        ),
        facts.clang.then(|| {
            obstacle(
                "clang",
                "it was built with clang: the native engine compiles with gcc alone",
                "build it with gcc",
            )
        }),
        forbids(
            facts.latent_entropy,
            "latent-entropy",
            "GCC_PLUGIN_LATENT_ENTROPY",
            "code compiled again differs from the kernel's",
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    let is_known = |major, minor| layout_for(major, minor).is_some();
    if !is_series(&kernel.base_version, is_known) {
        obstacles.push(obstacle(
            "unknown-series",
            format!(
                "{} is of a series on which the native engine has not been proven",
                kernel.base_version
            ),
            "use a kernel of series 6.1 or 6.12",
        ));
    }
    obstacles
}

fn is_series(base_version: &str, accept: impl FnOnce(u32, u32) -> bool) -> bool {
    let mut numbers = base_version.split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => accept(major, minor),
        _ => false,
    }
}

/// What stands in the way of `kpatch-build` alone, in its own words where it has some.
pub(super) fn kpatch_build(kernel: &KernelProfile, at_hand: &AtHand) -> Vec<Obstacle> {
    let config = &kernel.config;
    let facts = config.engines.unwrap_or_default();
    let refuses = |name: &str| format!("kernel option 'CONFIG_{name}' not supported");
    let mut obstacles: Vec<Obstacle> = [
        forbids(
            config.ibt,
            "ibt",
            "X86_KERNEL_IBT",
            &refuses("X86_KERNEL_IBT"),
        ),
        forbids(
            config.lto,
            "lto",
            "LTO",
            "it compares objects that LTO does not leave",
        ),
        forbids(
            facts.cfi,
            "cfi",
            "CFI_CLANG",
            "it does not carry its type hashes",
        ),
        forbids(
            facts.debug_info_split,
            "split-debug-info",
            "DEBUG_INFO_SPLIT",
            &refuses("DEBUG_INFO_SPLIT"),
        ),
        forbids(
            facts.latent_entropy,
            "latent-entropy",
            "GCC_PLUGIN_LATENT_ENTROPY",
            &refuses("GCC_PLUGIN_LATENT_ENTROPY"),
        ),
        needs(
            facts.debug_info,
            "no-debug-info",
            "DEBUG_INFO",
            "kernel doesn't have 'CONFIG_DEBUG_INFO' enabled",
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    if has_klp_build(&kernel.base_version) != Some(false) {
        obstacles.push(obstacle(
            "unsupported-version",
            format!(
                "{}: kpatch-build takes no fixes for {KLP_BUILD_SINCE} and later",
                kernel.base_version
            ),
            "use klp-build, which is in the kernel's tree",
        ));
    }
    obstacles.extend(missing(
        at_hand,
        &["kpatch-build", "gawk", "lsdiff"],
        "kpatch, gawk and patchutils",
    ));
    obstacles
}

/// What stands in the way of `klp-build` alone.
pub(super) fn klp_build(kernel: &KernelProfile, at_hand: &AtHand) -> Vec<Obstacle> {
    let facts = kernel.config.engines.unwrap_or_default();
    if has_klp_build(&kernel.base_version) != Some(true) {
        // Nothing else matters: its setting is not there either.
        return vec![obstacle(
            "unsupported-version",
            format!(
                "{}: klp-build is in the tree from {KLP_BUILD_SINCE} on",
                kernel.base_version
            ),
            format!("use a kernel of series {KLP_BUILD_SINCE} or later"),
        )];
    }
    let mut obstacles: Vec<Obstacle> = [
        needs(
            facts.klp_build,
            "no-klp-build",
            "KLP_BUILD",
            "klp-build refuses",
        ),
        forbids(
            facts.latent_entropy,
            "latent-entropy",
            "GCC_PLUGIN_LATENT_ENTROPY",
            "klp-build refuses",
        ),
        forbids(
            facts.dead_code_elimination,
            "dead-code-elimination",
            "LD_DEAD_CODE_DATA_ELIMINATION",
            "klp-build refuses",
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !at_hand.klp_build {
        obstacles.push(obstacle(
            "no-klp-build-script",
            "scripts/livepatch/klp-build is not in the source at hand",
            "add the kernel again with its whole source",
        ));
    }
    obstacles.extend(missing(
        at_hand,
        &["gawk", "recountdiff"],
        "gawk and patchutils",
    ));
    obstacles
}

/// Tells whether the tree of a version has `klp-build`; `None` for what is no version.
fn has_klp_build(base_version: &str) -> Option<bool> {
    let version: KernelVersion = base_version.parse().ok()?;
    let since: KernelVersion = KLP_BUILD_SINCE.parse().ok()?;
    Some(version >= since)
}

fn missing(at_hand: &AtHand, needed: &[&str], packages: &str) -> Option<Obstacle> {
    let gone = at_hand.missing.iter().filter(|name| needed.contains(name));
    let gone: Vec<&str> = gone.copied().collect();
    (!gone.is_empty()).then(|| {
        obstacle(
            "not-installed",
            format!("not installed: {}", gone.join(", ")),
            format!("install {packages}"),
        )
    })
}

/// What is to be minded on this kernel, whatever the engine.
pub(super) fn warnings(kernel: &KernelProfile) -> Vec<Obstacle> {
    let facts = kernel.config.engines.unwrap_or_default();
    let forced = kernel.config.module_sig_force || facts.forced_lockdown;
    let mut warnings = Vec::new();
    if facts.module_sig && !forced {
        warnings.push(obstacle(
            "unsigned-taints",
            "CONFIG_MODULE_SIG is set and not forced: an unsigned module loads and taints the kernel",
            "sign modules with a key that the kernel trusts",
        ));
    }
    if facts.secure_boot_lockdown && !forced {
        warnings.push(obstacle(
            "secure-boot",
            "CONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT is set: nodes booted with Secure Boot load only signed modules",
            "enrol a key on those nodes and sign modules with it",
        ));
    }
    warnings
}

/// An engine that `patch build` does not drive.
pub(super) fn run_by_hand(engine: Engine) -> Obstacle {
    obstacle(
        "run-by-hand",
        format!(
            "`tuxtape patch build` drives the native engine alone, not {}",
            engine.as_str()
        ),
        format!(
            "run {} by hand, and check its module with `tuxtape patch verify`",
            engine.as_str()
        ),
    )
}
