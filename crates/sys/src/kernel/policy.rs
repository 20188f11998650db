//! What this kernel demands of modules before it takes them.

use super::{KernelFs, read_text};

/// The kernel's switches on module loading; `None` where the kernel does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadPolicy {
    /// `kernel.modules_disabled`: no module can be loaded until the next boot.
    pub modules_disabled: Option<bool>,
    /// `module.sig_enforce`: unsigned modules are refused.
    pub signatures_enforced: Option<bool>,
    /// Lockdown level: `none`, `integrity` or `confidentiality`; unsigned modules are refused from
    /// `integrity` on.
    pub lockdown: Option<String>,
}

impl KernelFs {
    /// Reads the switches.
    pub fn load_policy(&self) -> LoadPolicy {
        let text = |path: std::path::PathBuf| read_text(&path).ok();
        let disabled = text(self.proc.join("sys/kernel/modules_disabled"));
        let enforced = text(self.sys.join("module/module/parameters/sig_enforce"));
        let lockdown = text(self.sys.join("kernel/security/lockdown"));
        LoadPolicy {
            modules_disabled: disabled.map(|text| text == "1"),
            signatures_enforced: enforced.map(|text| text == "Y"),
            lockdown: lockdown.and_then(|text| chosen(&text)),
        }
    }
}

/// Takes the word in brackets out of `none [integrity] confidentiality`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lockdown_level_is_the_word_in_brackets() {
        let level = chosen("none [integrity] confidentiality");
        assert_eq!(level.as_deref(), Some("integrity"));
        assert_eq!(chosen("none integrity"), None);
    }
}
