//! How CVEs are weighed, as the command line says.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use tuxtape_core::priority::{Policy, ThreatModel};

/// Largest policy, in bytes; the built-in one has 6 KB.
const LARGEST: u64 = 1 << 20;

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
                let text =
                    read(path).with_context(|| format!("could not read {}", path.display()))?;
                Policy::parse(&text).with_context(|| path.display().to_string())?
            }
        };
        Ok(policy.declaring(self.models.iter().copied()))
    }
}

/// Reads a file that anybody may have named: it need not end.
fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    file.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        bail!("larger than {LARGEST} bytes");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_without_an_end_is_refused_by_name() {
        let weights = |path: &str| Weights {
            models: Vec::new(),
            policy: Some(path.into()),
        };
        let error = weights("/dev/zero").policy().unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "could not read /dev/zero: larger than 1048576 bytes"
        );
    }
}
