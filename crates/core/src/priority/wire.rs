//! The policy as it is written in TOML.
//!
//! Every key may be missing: a file names what differs from the built-in policy.

mod over;

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::words::Phrase;
use super::{Band, Door, ThreatModel};

/// The format that this program reads.
pub(super) const FORMAT: i64 = 1;
/// Longest text of one entry, in bytes.
const LONGEST: usize = 500;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wire {
    pub(super) format: Format,
    pub(super) name: Option<Text>,
    pub(super) models: Option<Vec<Model>>,
    #[serde(default)]
    pub(super) bands: Bands,
    #[serde(default)]
    pub(super) neutral: Neutral,
    #[serde(default)]
    pub(super) reach: BTreeMap<Text, Spanned<Reach>>,
    #[serde(default)]
    pub(super) impact: BTreeMap<Text, Spanned<Impact>>,
    #[serde(default)]
    pub(super) negation: Negation,
    #[serde(default)]
    pub(super) lower: Lower,
    #[serde(default)]
    pub(super) evidence: Evidence,
}

/// Only the format, so that a file of another one says so first.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    #[expect(dead_code, reason = "reading it is the check")]
    format: Format,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "i64")]
pub(super) struct Format;

/// 0 to 100.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "i64")]
pub(super) struct Weight(pub(super) u8);

/// 0 to 20,000.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "i64")]
pub(super) struct Points(pub(super) u16);

/// 0 to a million.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "i64")]
pub(super) struct Millionths(pub(super) u32);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Text(pub(super) String);

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Words(pub(super) Phrase);

/// A path prefix, or `FOLDER/*` for the files right in a folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Path(pub(super) String);

/// `KEY:VALUE` of a CVSS 3.1 vector.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Metric(pub(super) String);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Model {
    Local,
    Userns,
    Container,
    Network,
    Adjacent,
    Usb,
    Guest,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DoorName {
    IoUring,
    UnprivilegedBpf,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum BandName {
    Track,
    Attend,
    Act,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bands {
    pub(super) act: Option<Spanned<Points>>,
    pub(super) attend: Option<Spanned<Points>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Neutral {
    pub(super) reach: Option<Weight>,
    pub(super) impact: Option<Weight>,
    pub(super) elsewhere: Option<Weight>,
    pub(super) closed: Option<Weight>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reach {
    pub(super) why: Option<Text>,
    pub(super) paths: Option<Vec<Path>>,
    pub(super) titles: Option<Vec<Text>>,
    pub(super) door: Option<DoorName>,
    pub(super) local: Option<Weight>,
    pub(super) userns: Option<Weight>,
    pub(super) container: Option<Weight>,
    pub(super) network: Option<Weight>,
    pub(super) adjacent: Option<Weight>,
    pub(super) usb: Option<Weight>,
    pub(super) guest: Option<Weight>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Impact {
    pub(super) why: Option<Text>,
    pub(super) points: Option<Weight>,
    pub(super) words: Option<Vec<Words>>,
    pub(super) vectors: Option<Vec<Metric>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Negation {
    pub(super) words: Option<Vec<Words>>,
    pub(super) articles: Option<Vec<Words>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lower {
    pub(super) why: Option<Text>,
    pub(super) points: Option<Weight>,
    pub(super) words: Option<Vec<Words>>,
    pub(super) paths: Option<Vec<Path>>,
    pub(super) models: Option<Vec<Model>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Evidence {
    #[serde(default)]
    pub(super) kev: Override,
    #[serde(default)]
    pub(super) ssvc_active: Override,
    #[serde(default)]
    pub(super) exploit: Override,
    #[serde(default)]
    pub(super) ssvc_poc: ReachedOverride,
    #[serde(default)]
    pub(super) reference: Override,
    #[serde(default)]
    pub(super) score: ScoreOverride,
    #[serde(default)]
    pub(super) epss: EpssOverride,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Override {
    pub(super) band: Option<BandName>,
    pub(super) add: Option<Points>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReachedOverride {
    pub(super) band: Option<BandName>,
    pub(super) add: Option<Points>,
    pub(super) reach: Option<Weight>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScoreOverride {
    pub(super) band: Option<BandName>,
    pub(super) add: Option<Points>,
    pub(super) score: Option<Weight>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EpssOverride {
    pub(super) band: Option<BandName>,
    pub(super) add: Option<Points>,
    pub(super) probability: Option<Millionths>,
}

impl TryFrom<i64> for Format {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        if number == FORMAT {
            Ok(Self)
        } else {
            Err(format!(
                "format {number} is not known: this program reads {FORMAT}"
            ))
        }
    }
}

fn bounded(number: i64, most: u32) -> Result<u32, String> {
    u32::try_from(number)
        .ok()
        .filter(|it| *it <= most)
        .ok_or_else(|| format!("{number} is not from 0 to {most}"))
}

impl TryFrom<i64> for Weight {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        let number = bounded(number, 100)?;
        Ok(Self(u8::try_from(number).map_err(|e| e.to_string())?))
    }
}

impl TryFrom<i64> for Points {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        let number = bounded(number, 20_000)?;
        Ok(Self(u16::try_from(number).map_err(|e| e.to_string())?))
    }
}

impl TryFrom<i64> for Millionths {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        bounded(number, 1_000_000).map(Self)
    }
}

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("the text is empty".to_owned());
        }
        if text.len() > LONGEST || text.chars().any(char::is_control) {
            return Err(format!(
                "a text is one line of at most {LONGEST} bytes without control characters"
            ));
        }
        Ok(Self(text))
    }
}

impl TryFrom<String> for Words {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Phrase::parse(&text).map(Self).map_err(|e| e.to_string())
    }
}

impl TryFrom<String> for Path {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Text(text) = Text::try_from(text)?;
        let stem = text.strip_suffix("/*").unwrap_or(&text);
        if stem.starts_with('/') || stem.contains('*') || stem.split('/').any(|it| it == "..") {
            return Err(format!(
                "{text:?} is no path prefix below the top folder (such as \"net/sched/\" or \"fs/*\")"
            ));
        }
        Ok(Self(text))
    }
}

impl TryFrom<String> for Metric {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let known = text.split_once(':').is_some_and(|(key, value)| {
            let letters = |it: &str| it.bytes().all(|c| c.is_ascii_uppercase());
            (1..=2).contains(&key.len()) && value.len() == 1 && letters(key) && letters(value)
        });
        if known {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is no CVSS metric (such as \"C:H\")"))
        }
    }
}

impl From<Model> for ThreatModel {
    fn from(model: Model) -> Self {
        match model {
            Model::Local => Self::Local,
            Model::Userns => Self::Userns,
            Model::Container => Self::Container,
            Model::Network => Self::Network,
            Model::Adjacent => Self::Adjacent,
            Model::Usb => Self::Usb,
            Model::Guest => Self::Guest,
        }
    }
}

impl From<DoorName> for Door {
    fn from(name: DoorName) -> Self {
        match name {
            DoorName::IoUring => Self::IoUring,
            DoorName::UnprivilegedBpf => Self::UnprivilegedBpf,
        }
    }
}

impl From<BandName> for Band {
    fn from(name: BandName) -> Self {
        match name {
            BandName::Track => Self::Track,
            BandName::Attend => Self::Attend,
            BandName::Act => Self::Act,
        }
    }
}

impl Reach {
    pub(super) fn weight(&self, model: ThreatModel) -> Option<u8> {
        let weight = match model {
            ThreatModel::Local => self.local,
            ThreatModel::Userns => self.userns,
            ThreatModel::Container => self.container,
            ThreatModel::Network => self.network,
            ThreatModel::Adjacent => self.adjacent,
            ThreatModel::Usb => self.usb,
            ThreatModel::Guest => self.guest,
        };
        weight.map(|weight| weight.0)
    }
}
