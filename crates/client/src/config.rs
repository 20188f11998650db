//! `/etc/tuxtape/client.toml`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tuxtape_archive::names::cap;

/// The client's configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the archive is: `https://…`, `http://…`, `file://…` or a folder.
    pub archive_url: Option<String>,
    /// PEM file of certificate authorities; `None` for the system's.
    pub ca_certs: Option<PathBuf>,
    /// Proxy for an archive at `http://`.
    pub http_proxy: Option<String>,
    /// Proxy for an archive at `https://`.
    pub https_proxy: Option<String>,
    /// Longest wait for a connection.
    pub dial_timeout: Duration,
    /// Longest time for one file.
    pub download_timeout: Duration,
    /// Largest module taken, bytes.
    pub max_module_size: u64,
    /// What to do when somebody else's livepatch is loaded.
    pub foreign: Foreign,
    /// How long a new level is watched before it counts as good.
    pub probation: Duration,
}

/// What to do when somebody else's livepatch is loaded; ours would replace it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Foreign {
    /// Load nothing.
    Refuse,
    /// Replace it.
    Replace,
}

/// Why a configuration is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not the file's format; the message names line and allowed keys.
    #[error("{0}")]
    Malformed(String),
    /// No duration.
    #[error("{key}: {text:?} is no duration (want a number and s, m, h, d or w, such as 15m)")]
    Duration {
        /// The key.
        key: &'static str,
        /// Its value.
        text: String,
    },
    /// No size.
    #[error("max-module-size: {0:?} is no size (want a number and K or M, such as 16M)")]
    Size(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    archive_url: String,
    ca_certs: String,
    http_proxy: String,
    https_proxy: String,
    dial_timeout: String,
    download_timeout: String,
    max_module_size: String,
    foreign_livepatches: Foreign,
    probation: String,
}

impl Default for File {
    fn default() -> Self {
        Self {
            archive_url: String::new(),
            ca_certs: String::new(),
            http_proxy: String::new(),
            https_proxy: String::new(),
            dial_timeout: "12s".to_owned(),
            download_timeout: "10m".to_owned(),
            max_module_size: "16M".to_owned(),
            foreign_livepatches: Foreign::Refuse,
            probation: "15m".to_owned(),
        }
    }
}

impl Config {
    /// Reads the text of the file; the empty text gives the defaults.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|e| ConfigError::Malformed(e.to_string()))?;
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(Self {
            http_proxy: some(&file.http_proxy),
            https_proxy: some(&file.https_proxy),
            archive_url: some(&file.archive_url),
            ca_certs: some(&file.ca_certs).map(PathBuf::from),
            dial_timeout: duration("dial-timeout", &file.dial_timeout)?,
            download_timeout: duration("download-timeout", &file.download_timeout)?,
            max_module_size: size(&file.max_module_size)?,
            foreign: file.foreign_livepatches,
            probation: duration("probation", &file.probation)?,
        })
    }

    /// Returns the proxy for the archive as it is named now; the file's may have been overridden.
    pub fn proxy(&self) -> Option<&str> {
        let plain = self
            .archive_url
            .as_ref()
            .is_some_and(|url| url.starts_with("http:"));
        let proxy = if plain {
            &self.http_proxy
        } else {
            &self.https_proxy
        };
        proxy.as_deref()
    }
}

/// Reads a duration such as `15m`.
pub fn duration(key: &'static str, text: &str) -> Result<Duration, ConfigError> {
    let bad = || ConfigError::Duration {
        key,
        text: text.chars().take(40).collect(),
    };
    let unit = text.chars().last().ok_or_else(bad)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(bad()),
    };
    let count: u64 = text
        .strip_suffix(unit)
        .and_then(|count| count.parse().ok())
        .ok_or_else(bad)?;
    count
        .checked_mul(seconds)
        .filter(|total| *total <= 365 * 86_400)
        .map(Duration::from_secs)
        .ok_or_else(bad)
}

fn size(text: &str) -> Result<u64, ConfigError> {
    let bad = || ConfigError::Size(text.chars().take(40).collect());
    let (count, unit) = match text.strip_suffix('K') {
        Some(count) => (count, 1024),
        None => (text.strip_suffix('M').ok_or_else(bad)?, 1024 * 1024),
    };
    let bytes = count
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(unit));
    bytes
        .filter(|bytes| (1..=4 * cap::MODULE).contains(bytes))
        .ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = Config::from_toml("archive-url = \"x\"\nprobatoin = \"1s\"\n").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("line 2") && text.contains("probatoin"),
            "{text}"
        );
    }

    #[test]
    fn the_proxy_is_that_of_the_address_in_use() {
        let text =
            "archive-url = \"https://a\"\nhttp-proxy = \"http://p\"\nhttps-proxy = \"http://s\"";
        let mut config = Config::from_toml(text).unwrap();
        assert_eq!(config.proxy(), Some("http://s"));
        config.archive_url = Some("http://b".to_owned());
        assert_eq!(config.proxy(), Some("http://p"));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for text in [
            "probation = \"15\"",
            "probation = \"m\"",
            "probation = \"99999999999999999999w\"",
            "max-module-size = \"0M\"",
            "max-module-size = \"1G\"",
            "foreign-livepatches = \"force\"",
        ] {
            assert!(Config::from_toml(text).is_err(), "{text}");
        }
        let config = Config::from_toml("probation = \"5s\"").unwrap();
        assert_eq!(config.probation, Duration::from_secs(5));
    }
}
