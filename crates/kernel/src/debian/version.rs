//! Debian package versions and their order.

use std::cmp::Ordering;
use std::fmt;

/// A package version, ordered as dpkg orders them: `6.1.170-3` < `6.1.176-1`, `1~rc1` < `1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DebianVersion(String);

impl DebianVersion {
    /// Takes a version as a package index has it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the version as the index has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> (u64, &str, &str) {
        let (epoch, rest) = match self.0.split_once(':') {
            Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
            None => (0, self.0.as_str()),
        };
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (epoch, upstream, revision)
    }
}

impl fmt::Display for DebianVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialOrd for DebianVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DebianVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        let (left, right) = (self.parts(), other.parts());
        left.0
            .cmp(&right.0)
            .then_with(|| compare(left.1, right.1))
            .then_with(|| compare(left.2, right.2))
            // Texts that dpkg calls equal (`1.0` and `1.00`) still need one order.
            .then_with(|| self.0.cmp(&other.0))
    }
}

/// Compares alternating runs of other characters and digits, as `deb-version(7)` says.
fn compare(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    while !left.is_empty() || !right.is_empty() {
        let (left_run, left_rest) = run(left, false);
        let (right_run, right_rest) = run(right, false);
        let longest = left_run.len().max(right_run.len());
        for at in 0..longest {
            let order = weight(left_run.get(at)).cmp(&weight(right_run.get(at)));
            if order.is_ne() {
                return order;
            }
        }
        let (left_run, left_rest) = run(left_rest, true);
        let (right_run, right_rest) = run(right_rest, true);
        let (left_run, right_run) = (significant(left_run), significant(right_run));
        let order = left_run
            .len()
            .cmp(&right_run.len())
            .then_with(|| left_run.cmp(right_run));
        if order.is_ne() {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

fn run(text: &[u8], digits: bool) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| byte.is_ascii_digit() != digits)
        .unwrap_or(text.len());
    text.split_at(end)
}

fn significant(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.get(zeros..).unwrap_or_default()
}

/// `~` sorts before the end, the end before letters, letters before the rest.
fn weight(byte: Option<&u8>) -> (u8, u8) {
    match byte {
        Some(b'~') => (0, 0),
        None => (1, 0),
        Some(letter) if letter.is_ascii_alphabetic() => (2, *letter),
        Some(other) => (3, *other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_as_dpkg_orders_them() {
        let ordered = [
            "5.10.262-1",
            "6.1.9-1",
            "6.1.170-2",
            "6.1.170-3",
            "6.1.170-10",
            "6.1.176-1",
            "6.12~rc7-1",
            "6.12-1",
            "6.12.107-1~deb12u1",
            "6.12.107-1~deb12u2",
            "6.12.107-1",
            "6.12.107-1+b1",
            "1:1.0-1",
        ];
        for (at, left) in ordered.iter().enumerate() {
            for (other, right) in ordered.iter().enumerate() {
                let (left, right) = (DebianVersion::new(*left), DebianVersion::new(*right));
                assert_eq!(left.cmp(&right), at.cmp(&other), "{left} {right}");
            }
        }
    }
}
