//! How CVEs are weighed, as the command line says.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use tuxtape_core::priority::{Policy, ThreatModel};

/// The policy and the threat models to rank by.
#[derive(Clone, Debug, Default, Args)]
pub struct Weights {
    /// Rank by this attacker instead of the policy's; can be repeated
    ///
    /// One of local, userns, container, network, adjacent, usb and guest.
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<ThreatModel>,
    /// A policy in TOML; what it does not say is as in the built-in one
    #[arg(long, env = "TUXTAPE_POLICY", value_name = "FILE")]
    policy: Option<PathBuf>,
}

impl Weights {
    /// Reads the policy.
    pub fn policy(&self) -> anyhow::Result<Policy> {
        let policy = match &self.policy {
            None => Policy::builtin(),
            Some(path) => {
                let text = fs::read_to_string(path)
                    .with_context(|| format!("could not read {}", path.display()))?;
                Policy::parse(&text).with_context(|| path.display().to_string())?
            }
        };
        Ok(policy.declaring(self.models.iter().copied()))
    }
}
