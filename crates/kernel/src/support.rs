//! Whether a kernel can be livepatched by the native engine.

use tuxtape_core::profile::KernelProfile;

/// One reason why a kernel cannot be livepatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// The kernel has no livepatch support.
    NoLivepatch,
    /// Not every symbol can be found at run time.
    NoKallsymsAll,
    /// Stacks are not reliable enough for the consistency model.
    NoOrc,
    /// Built with link-time optimisation.
    Lto,
    /// Structure layouts are random.
    Randstruct,
    /// Indirect branch tracking.
    Ibt,
    /// Exports that no module used were dropped.
    TrimmedExports,
    /// Only modules signed with the kernel builder's key load.
    ForcedSignatures,
}

impl Obstacle {
    /// Returns its fixed name for programs.
    pub fn slug(self) -> &'static str {
        match self {
            Self::NoLivepatch => "no-livepatch",
            Self::NoKallsymsAll => "no-kallsyms-all",
            Self::NoOrc => "no-orc",
            Self::Lto => "lto",
            Self::Randstruct => "randstruct",
            Self::Ibt => "ibt",
            Self::TrimmedExports => "trimmed-exports",
            Self::ForcedSignatures => "forced-signatures",
        }
    }

    /// Says why it stands in the way.
    pub fn why(self) -> &'static str {
        match self {
            Self::NoLivepatch => "CONFIG_LIVEPATCH is not set: the kernel has no livepatch support",
            Self::NoKallsymsAll => {
                "CONFIG_KALLSYMS_ALL is not set: a livepatch cannot find the kernel's data symbols"
            }
            Self::NoOrc => {
                "CONFIG_UNWINDER_ORC is not set: stacks are not reliable, so a transition may never end"
            }
            Self::Lto => {
                "built with link-time optimisation: units compiled alone do not match the kernel"
            }
            Self::Randstruct => "structure layouts are randomised with a seed only the builder has",
            Self::Ibt => {
                "CONFIG_X86_KERNEL_IBT is set: the native engine does not handle its padded functions yet"
            }
            Self::TrimmedExports => {
                "CONFIG_TRIM_UNUSED_KSYMS is set: exports a livepatch needs may be gone"
            }
            Self::ForcedSignatures => {
                "CONFIG_MODULE_SIG_FORCE is set: only modules signed with a key the kernel trusts load"
            }
        }
    }
}

/// Returns everything that stands in the way of livepatching `kernel`; empty where nothing does.
pub fn obstacles(kernel: &KernelProfile) -> Vec<Obstacle> {
    let config = &kernel.config;
    [
        (!config.livepatch, Obstacle::NoLivepatch),
        (!config.kallsyms_all, Obstacle::NoKallsymsAll),
        (!config.unwinder_orc, Obstacle::NoOrc),
        (config.lto, Obstacle::Lto),
        (config.randstruct, Obstacle::Randstruct),
        (config.ibt, Obstacle::Ibt),
        (config.trim_unused_ksyms, Obstacle::TrimmedExports),
        (config.module_sig_force, Obstacle::ForcedSignatures),
    ]
    .into_iter()
    .filter_map(|(stands, obstacle)| stands.then_some(obstacle))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::small;

    #[test]
    fn all_obstacles_are_named_not_the_first_alone() {
        let mut kernel = small();
        kernel.config.livepatch = true;
        kernel.config.kallsyms_all = true;
        kernel.config.unwinder_orc = true;
        assert_eq!(obstacles(&kernel), []);
        kernel.config.ibt = true;
        kernel.config.lto = true;
        kernel.config.livepatch = false;
        assert_eq!(
            obstacles(&kernel),
            [Obstacle::NoLivepatch, Obstacle::Lto, Obstacle::Ibt]
        );
    }
}
