//! What the kernel demands of a module before it takes it, predicted.

use tuxtape_archive::index::IndexedKernel;
use tuxtape_core::identity::PatchLevel;
use tuxtape_sys::kernel::policy::LoadPolicy;

use crate::plan::Obstacle;

/// What is known of a module's signature for the kernel's own check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelSigned {
    /// There is none.
    No,
    /// By the key with this subject key id, in hex, where the index names it.
    By(Option<String>),
}

impl KernelSigned {
    /// What the index says of a level; a level that it names no signer for has no signature.
    pub fn indexed(kernel: &IndexedKernel, level: PatchLevel) -> Self {
        match signer(kernel, level) {
            Some(skid) => Self::By(Some(skid)),
            None => Self::No,
        }
    }

    /// What the module itself says, and who the index says it was signed by.
    pub fn of(image: &[u8], kernel: &IndexedKernel, level: PatchLevel) -> Self {
        if image.ends_with(b"~Module signature appended~\n") {
            Self::By(signer(kernel, level))
        } else {
            Self::No
        }
    }
}

fn signer(kernel: &IndexedKernel, level: PatchLevel) -> Option<String> {
    let indexed = kernel.levels.iter().find(|known| known.level == level);
    indexed.and_then(|indexed| indexed.signer_skid.clone())
}

/// Predicts whether the kernel's switches would refuse the module.
///
/// That a key is not listed is taken for a refusal only where the kernel lists any: who sees none may not be
/// allowed to look.
pub fn demands(policy: &LoadPolicy, signed: &KernelSigned) -> Vec<Obstacle> {
    let mut found = Vec::new();
    if policy.modules_disabled == Some(true) {
        found.push(Obstacle::ModulesDisabled);
    }
    let enforced = policy.signatures_enforced == Some(true);
    let lockdown = policy.lockdown.as_deref().filter(|level| *level != "none");
    let why = enforced.then(|| "module.sig_enforce is Y".to_owned());
    let Some(why) = why.or_else(|| lockdown.map(|level| format!("lockdown is {level}"))) else {
        return found;
    };
    match (signed, &policy.keys) {
        (KernelSigned::No, _) => found.push(Obstacle::SignatureDemanded(why)),
        (KernelSigned::By(Some(skid)), Some(keys)) => {
            let skid = skid.to_ascii_lowercase();
            if !keys.contains(&skid) {
                found.push(Obstacle::KeyUnknown { why, skid });
            }
        }
        (KernelSigned::By(_), _) => {}
    }
    found
}
