//! Names of git objects.

use std::fmt;
use std::str::FromStr;

/// Name of a git object (a commit, a blob): the 20 bytes of its SHA-1, written as 40 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GitId([u8; 20]);

/// Why a text or byte string is no full git object name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a full git object name (want 40 lower-case hex digits)")]
pub struct NotAGitId;

impl GitId {
    /// Takes the raw 20 bytes.
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// Returns the raw 20 bytes.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// Reads 40 lower-case hex digits.
    pub fn from_hex(digits: &[u8]) -> Result<Self, NotAGitId> {
        if digits.len() != 40 {
            return Err(NotAGitId);
        }
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            let [high, low] = *pair;
            *byte = digit(high).ok_or(NotAGitId)? << 4 | digit(low).ok_or(NotAGitId)?;
        }
        Ok(Self(bytes))
    }

    /// Returns the first twelve digits, the short form the kernel's developers use.
    pub fn short(&self) -> String {
        self.to_string().chars().take(12).collect()
    }
}

fn digit(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    }
}

impl FromStr for GitId {
    type Err = NotAGitId;

    fn from_str(text: &str) -> Result<Self, NotAGitId> {
        Self::from_hex(text.as_bytes())
    }
}

impl TryFrom<&[u8]> for GitId {
    type Error = NotAGitId;

    fn try_from(bytes: &[u8]) -> Result<Self, NotAGitId> {
        bytes.try_into().map(Self).map_err(|_| NotAGitId)
    }
}

impl fmt::Display for GitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for GitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GitId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_forty_lower_case_digits_are_a_name() {
        let text = "a49d25364dfb9f8a64037488a39ab1f56c5fa419";
        assert_eq!(text.parse::<GitId>().unwrap().to_string(), text);
        for bad in [
            "",
            "0",
            "a49d25364dfb",
            &text.to_uppercase(),
            &text.replace('f', "g"),
        ] {
            assert_eq!(bad.parse::<GitId>(), Err(NotAGitId), "{bad:?}");
        }
    }
}
