//! A kernel's `.config`.

use std::collections::{BTreeMap, BTreeSet};

use tuxtape_core::profile::{ConfigFacts, EngineFacts};

/// Settings of one `.config`, by name without `CONFIG_`; values as written, text without quotes.
///
/// An option that is not set is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    settings: BTreeMap<String, String>,
    /// Names of the settings whose values are written in quotes.
    texts: BTreeSet<String>,
}

impl Config {
    /// Reads the text of a `.config`; comments and lines of other forms say nothing. Of several lines
    /// about one setting the last one counts, as for `make`.
    pub fn parse(text: &str) -> Self {
        let mut config = Self::default();
        for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
            let off = line
                .strip_prefix("# CONFIG_")
                .and_then(|rest| rest.strip_suffix(" is not set"));
            if let Some(name) = off {
                config.settings.remove(name);
                config.texts.remove(name);
            }
            let Some((name, value)) = line
                .strip_prefix("CONFIG_")
                .and_then(|rest| rest.split_once('='))
            else {
                continue;
            };
            let text = value
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'));
            if text.is_some() {
                config.texts.insert(name.to_owned());
            } else {
                config.texts.remove(name);
            }
            let value = text.unwrap_or(value).to_owned();
            config.settings.insert(name.to_owned(), value);
        }
        config
    }

    /// Returns the settings with texts in quotes, as makefiles before Linux 5.17 see them.
    #[must_use]
    pub fn quoted(&self) -> Self {
        let mut quoted = self.clone();
        for (name, value) in &mut quoted.settings {
            if quoted.texts.contains(name) {
                *value = format!("\"{value}\"");
            }
        }
        quoted
    }

    /// Returns the value of `name`, which is given without `CONFIG_`.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// Tells whether `name` is `y`.
    pub fn on(&self, name: &str) -> bool {
        self.value(name) == Some("y")
    }

    /// Names all settings, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.settings.keys().map(String::as_str)
    }

    /// Returns the first setting that is `m`.
    pub fn first_module(&self) -> Option<&str> {
        let mut settings = self.settings.iter();
        settings
            .find(|(_, value)| *value == "m")
            .map(|(name, _)| name.as_str())
    }

    /// Returns the facts that decide whether and how this kernel can be livepatched.
    pub fn facts(&self) -> ConfigFacts {
        let any = |prefix: &str, none: &str| {
            self.settings
                .iter()
                .any(|(name, value)| value == "y" && name.starts_with(prefix) && name != none)
        };
        ConfigFacts {
            livepatch: self.on("LIVEPATCH"),
            ibt: self.on("X86_KERNEL_IBT"),
            modversions: self.on("MODVERSIONS"),
            lto: self.on("LTO") || any("LTO_CLANG", "") || any("LTO_GCC", ""),
            randstruct: self.on("RANDSTRUCT")
                || any("RANDSTRUCT_", "RANDSTRUCT_NONE")
                || any("GCC_PLUGIN_RANDSTRUCT", ""),
            kallsyms_all: self.on("KALLSYMS_ALL"),
            unwinder_orc: self.on("UNWINDER_ORC"),
            module_sig_force: self.on("MODULE_SIG_FORCE"),
            trim_unused_ksyms: self.on("TRIM_UNUSED_KSYMS"),
            engines: Some(self.engine_facts()),
        }
    }

    fn engine_facts(&self) -> EngineFacts {
        let either = |names: [&str; 2]| names.iter().any(|name| self.on(name));
        EngineFacts {
            modules: self.on("MODULES"),
            ftrace: either(["DYNAMIC_FTRACE_WITH_ARGS", "DYNAMIC_FTRACE_WITH_REGS"]),
            reliable_stacks: self.on("HAVE_RELIABLE_STACKTRACE"),
            cfi: either(["CFI_CLANG", "CFI"]),
            clang: self.on("CC_IS_CLANG"),
            module_sig: self.on("MODULE_SIG"),
            forced_lockdown: either([
                "LOCK_DOWN_KERNEL_FORCE_INTEGRITY",
                "LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY",
            ]),
            secure_boot_lockdown: self.on("LOCK_DOWN_IN_EFI_SECURE_BOOT"),
            debug_info: self.on("DEBUG_INFO"),
            debug_info_split: self.on("DEBUG_INFO_SPLIT"),
            latent_entropy: self.on("GCC_PLUGIN_LATENT_ENTROPY"),
            dead_code_elimination: self.on("LD_DEAD_CODE_DATA_ELIMINATION"),
            klp_build: self.on("KLP_BUILD"),
        }
    }

    /// Returns every setting that differs: name, value here, value in `other`.
    pub fn differences<'a>(
        &'a self,
        other: &'a Self,
    ) -> Vec<(&'a str, Option<&'a str>, Option<&'a str>)> {
        let names: BTreeSet<&str> = self
            .settings
            .keys()
            .chain(other.settings.keys())
            .map(String::as_str)
            .collect();
        names
            .into_iter()
            .map(|name| (name, self.value(name), other.value(name)))
            .filter(|(_, here, there)| here != there)
            .collect()
    }
}

/// Entry for fuzzing: reads bytes as a `.config`.
pub fn fuzz(bytes: &[u8]) {
    let config = Config::parse(&String::from_utf8_lossy(bytes));
    config.facts();
    config.first_module();
    assert!(config.differences(&config).is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_not_set_is_absent() {
        let config =
            Config::parse("# CONFIG_A is not set\nCONFIG_B=m\nCONFIG_C=\"x y\"\n\nCONFIG_D=y\n");
        assert_eq!(config.value("A"), None);
        assert_eq!(config.value("B"), Some("m"));
        assert_eq!(config.value("C"), Some("x y"));
        assert!(config.on("D") && !config.on("B"));
    }

    #[test]
    fn having_an_lto_or_randstruct_choice_is_not_using_it() {
        let facts = Config::parse(
            "CONFIG_LTO_NONE=y\nCONFIG_ARCH_SUPPORTS_LTO_CLANG=y\nCONFIG_RANDSTRUCT_NONE=y\n",
        )
        .facts();
        let nothing = ConfigFacts {
            engines: Some(EngineFacts::default()),
            ..ConfigFacts::default()
        };
        assert_eq!(facts, nothing);
        assert!(Config::parse("CONFIG_LTO_CLANG_THIN=y").facts().lto);
        assert!(Config::parse("CONFIG_RANDSTRUCT_FULL=y").facts().randstruct);
        assert!(
            Config::parse("CONFIG_GCC_PLUGIN_RANDSTRUCT=y")
                .facts()
                .randstruct
        );
    }

    #[test]
    fn differences_name_both_sides() {
        let ours = Config::parse("CONFIG_A=y\nCONFIG_B=1\n");
        let theirs = Config::parse("CONFIG_B=2\nCONFIG_C=m\n");
        assert_eq!(
            ours.differences(&theirs),
            [
                ("A", Some("y"), None),
                ("B", Some("1"), Some("2")),
                ("C", None, Some("m"))
            ]
        );
    }
}
