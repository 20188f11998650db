//! Identities of kernels and of the things TuxTape makes for them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The exact `uname -r` text of a kernel, such as `6.1.0-47-cloud-amd64`; opaque.
///
/// Never blank, at most 128 bytes, and free of `/`, white space and control characters, so that it
/// can be one path component.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KernelRelease(String);

/// Why a text is no kernel release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no kernel release (want the text of `uname -r`, such as 6.1.0-47-cloud-amd64)"
)]
pub struct NotARelease {
    text: String,
}

impl KernelRelease {
    /// Returns the text as the kernel prints it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KernelRelease {
    type Err = NotARelease;

    fn from_str(text: &str) -> Result<Self, NotARelease> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_' | '~');
        let starts = text.starts_with(|c: char| c.is_ascii_digit());
        if starts && text.len() <= 128 && text.chars().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotARelease {
                text: text.chars().take(160).collect(),
            })
        }
    }
}

impl TryFrom<String> for KernelRelease {
    type Error = NotARelease;

    fn try_from(text: String) -> Result<Self, NotARelease> {
        text.parse()
    }
}

impl From<KernelRelease> for String {
    fn from(release: KernelRelease) -> Self {
        release.0
    }
}

impl fmt::Display for KernelRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The GNU build-id of a linked image: 1 to 32 bytes, written as lower-case hex.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BuildId(Vec<u8>);

/// Why a text or a byte string is no build-id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a build-id (want 1 to 32 bytes in lower-case hex)")]
pub struct NotABuildId;

impl BuildId {
    /// Takes the raw bytes of an `NT_GNU_BUILD_ID` note.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotABuildId> {
        if (1..=32).contains(&bytes.len()) {
            Ok(Self(bytes.to_vec()))
        } else {
            Err(NotABuildId)
        }
    }

    /// Returns the raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the first twelve hex digits, the short form used in file names.
    pub fn short(&self) -> String {
        self.to_string().chars().take(12).collect()
    }
}

impl FromStr for BuildId {
    type Err = NotABuildId;

    fn from_str(text: &str) -> Result<Self, NotABuildId> {
        let digit = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        if !text.len().is_multiple_of(2) {
            return Err(NotABuildId);
        }
        let bytes: Option<Vec<u8>> = text
            .as_bytes()
            .chunks_exact(2)
            .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
            .collect();
        Self::from_bytes(&bytes.ok_or(NotABuildId)?)
    }
}

impl TryFrom<String> for BuildId {
    type Error = NotABuildId;

    fn try_from(text: String) -> Result<Self, NotABuildId> {
        text.parse()
    }
}

impl From<BuildId> for String {
    fn from(id: BuildId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildId({self})")
    }
}

/// Machine architecture of a kernel, in the words of `uname -m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arch {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::X86_64 => f.write_str("x86_64"),
        }
    }
}

/// What a livepatch module is bound to: one build of one kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KernelId {
    /// Architecture.
    pub arch: Arch,
    /// `uname -r`.
    pub release: KernelRelease,
    /// Build-id of the vmlinux that runs. Rebuilt kernels share a release text, never this.
    pub build_id: BuildId,
}

/// Per-kernel counter of cumulative livepatch modules; the first published one is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PatchLevel(pub u32);

impl fmt::Display for PatchLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Name of a linked object a unit went into: `vmlinux`, or a module's kernel name (`_`, never `-`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObjectName(pub String);

impl ObjectName {
    /// The kernel image itself.
    pub const VMLINUX: &'static str = "vmlinux";

    /// Tells whether this is the kernel image and not a module.
    pub fn is_vmlinux(&self) -> bool {
        self.0 == Self::VMLINUX
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_one_path_component() {
        for good in [
            "6.1.0-47-cloud-amd64",
            "6.12.107+deb12-cloud-amd64",
            "7.3.4",
        ] {
            assert_eq!(
                good.parse::<KernelRelease>().map(String::from),
                Ok(good.to_owned())
            );
        }
        for bad in ["", "..", "6.1/../../x", "6.1 0", "v6.1", "6.1\n"] {
            assert!(bad.parse::<KernelRelease>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_build_id_survives_the_round_trip() {
        let id: BuildId = "2f4c1d0a9b33e8".parse().unwrap();
        assert_eq!(id.to_string(), "2f4c1d0a9b33e8");
        assert_eq!(id.short(), "2f4c1d0a9b33");
        for bad in ["", "2", "2F", "zz"] {
            assert_eq!(bad.parse::<BuildId>(), Err(NotABuildId), "{bad:?}");
        }
    }
}
