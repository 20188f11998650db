//! Whether a kernel can be livepatched, by which engine, and if not, what to change.
//!
//! The decision is pure: it is made from the profile and from what lies at hand. Where a fact is not
//! known the answer is no.

mod at_hand;
mod rules;

pub use at_hand::{AtHand, CompilerAtHand, look};

use tuxtape_core::profile::KernelProfile;

/// A way to make a livepatch from a fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    /// TuxTape's own.
    Native,
    /// The `kpatch-build` program.
    KpatchBuild,
    /// The script `klp-build` in the kernel's own tree.
    KlpBuild,
}

impl Engine {
    /// Every engine, the one to be preferred first.
    pub const ALL: [Self; 3] = [Self::Native, Self::KpatchBuild, Self::KlpBuild];

    /// Returns its fixed name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::KpatchBuild => "kpatch-build",
            Self::KlpBuild => "klp-build",
        }
    }
}

/// One reason why a kernel cannot be livepatched, or what to mind when it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// Its fixed name for programs.
    pub slug: &'static str,
    /// Why it stands in the way, as a fragment.
    pub why: String,
    /// What to change, as a fragment.
    pub change: String,
}

/// Whether and how a kernel can be livepatched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// What stands in the way of every engine.
    pub common: Vec<Obstacle>,
    /// Every engine with what stands in its way alone.
    pub engines: Vec<(Engine, Vec<Obstacle>)>,
    /// What stands in nobody's way and must be minded.
    pub warnings: Vec<Obstacle>,
}

impl Support {
    /// Returns the engine to use: the first in whose way nothing stands.
    pub fn engine(&self) -> Option<Engine> {
        let mut free = self.engines.iter().filter(|(_, own)| own.is_empty());
        free.next()
            .filter(|_| self.common.is_empty())
            .map(|(engine, _)| *engine)
    }

    /// Returns everything that stands in the way of `engine`.
    pub fn obstacles(&self, engine: Engine) -> impl Iterator<Item = &Obstacle> {
        let own = self.engines.iter().filter(move |(it, _)| *it == engine);
        self.common.iter().chain(own.flat_map(|(_, own)| own))
    }
}

/// Says how `kernel` can be livepatched with what is at hand.
pub fn support(kernel: &KernelProfile, at_hand: &AtHand) -> Support {
    let engines = Engine::ALL.map(|engine| {
        let own = match engine {
            Engine::Native => rules::native(kernel),
            Engine::KpatchBuild => rules::kpatch_build(kernel, at_hand),
            Engine::KlpBuild => rules::klp_build(kernel, at_hand),
        };
        (engine, own)
    });
    let mut support = Support {
        common: rules::common(kernel, at_hand),
        engines: engines.to_vec(),
        warnings: rules::warnings(kernel),
    };
    let outside = support.engine().filter(|engine| *engine != Engine::Native);
    support.warnings.extend(outside.map(rules::run_by_hand));
    support
}

#[cfg(test)]
mod tests;
