//! Threat models.

use std::fmt;
use std::str::FromStr;

/// Who attacks, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ThreatModel {
    /// An unprivileged account.
    Local,
    /// The same, where user namespaces give it capabilities.
    Userns,
    /// Root in a container.
    Container,
    /// Remote packets.
    Network,
    /// A neighbour on radio or link.
    Adjacent,
    /// Someone who plugs a device in.
    Usb,
    /// Code in a virtual machine, or a hostile host.
    Guest,
}

/// Why a text is no threat model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no threat model (want local, userns, container, network, adjacent, usb or guest)"
)]
pub struct NotAThreatModel {
    text: String,
}

/// One value for each threat model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Each<T>([T; 7]);

impl ThreatModel {
    /// Every model.
    pub const ALL: [Self; 7] = [
        Self::Local,
        Self::Userns,
        Self::Container,
        Self::Network,
        Self::Adjacent,
        Self::Usb,
        Self::Guest,
    ];

    /// Names it in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Userns => "userns",
            Self::Container => "container",
            Self::Network => "network",
            Self::Adjacent => "adjacent",
            Self::Usb => "usb",
            Self::Guest => "guest",
        }
    }
}

impl fmt::Display for ThreatModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ThreatModel {
    type Err = NotAThreatModel;

    fn from_str(text: &str) -> Result<Self, NotAThreatModel> {
        Self::ALL
            .into_iter()
            .find(|model| model.as_str() == text)
            .ok_or_else(|| NotAThreatModel {
                text: text.chars().take(40).collect(),
            })
    }
}

impl<T> Each<T> {
    pub(super) fn new(value: impl Fn(ThreatModel) -> T) -> Self {
        Self(ThreatModel::ALL.map(value))
    }

    pub(super) fn get(&self, model: ThreatModel) -> &T {
        let [local, userns, container, network, adjacent, usb, guest] = &self.0;
        match model {
            ThreatModel::Local => local,
            ThreatModel::Userns => userns,
            ThreatModel::Container => container,
            ThreatModel::Network => network,
            ThreatModel::Adjacent => adjacent,
            ThreatModel::Usb => usb,
            ThreatModel::Guest => guest,
        }
    }
}
