//! Upstream kernel versions and their order.

use std::fmt;
use std::str::FromStr;

/// The line of development a version lies on: its first two numbers, for `2.6.N` the first three.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Branch {
    major: u16,
    minor: u16,
    /// `N` of `2.6.N`, else 0.
    third: u16,
}

/// An upstream release (`6.1.170`, `6.11`, `2.6.32.71`) or release candidate (`6.17-rc3`).
///
/// Ordered as released: `6.17-rc3` < `6.17` < `6.17.1` < `6.18-rc1`. `6.1.0` and `6.1` are the same
/// version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    branch: Branch,
    point: Point,
}

// Candidates come before the releases of their branch: the derived order is the wanted one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Point {
    Candidate(u16),
    Release(u16),
}

/// Why a text is no upstream kernel version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no upstream kernel version (want a form such as 6.1.170, 6.11, 6.17-rc3 or 2.6.32.71)"
)]
pub struct NotAVersion {
    text: String,
}

impl KernelVersion {
    /// A version below every other.
    pub const OLDEST: Self = Self {
        branch: Branch {
            major: 0,
            minor: 0,
            third: 0,
        },
        point: Point::Candidate(1),
    };

    /// Returns the line of development this version lies on.
    pub fn branch(self) -> Branch {
        self.branch
    }

    /// Tells whether this is a mainline release or candidate, in the history of all newer branches.
    pub fn is_mainline(self) -> bool {
        match self.point {
            Point::Candidate(_) => true,
            Point::Release(patch) => patch == 0,
        }
    }

    /// Takes the version apart into numbers, whose order is the order of versions.
    pub fn pack(self) -> [u16; 5] {
        let (kind, number) = match self.point {
            Point::Candidate(number) => (0, number),
            Point::Release(number) => (1, number),
        };
        let branch = self.branch;
        [branch.major, branch.minor, branch.third, kind, number]
    }

    /// Puts a version together; `None` for numbers that no version is taken apart into.
    pub fn unpack([major, minor, third, kind, number]: [u16; 5]) -> Option<Self> {
        let point = match kind {
            0 if number > 0 => Point::Candidate(number),
            1 => Point::Release(number),
            _ => return None,
        };
        let branch = Branch {
            major,
            minor,
            third,
        };
        let whole = third == 0 || (major, minor) == (2, 6);
        whole.then_some(Self { branch, point })
    }
}

impl Branch {
    /// Returns the mainline release that opens this branch.
    pub fn first(self) -> KernelVersion {
        KernelVersion {
            branch: self,
            point: Point::Release(0),
        }
    }

    /// Returns the first version there can be on this branch: its first release candidate.
    pub fn earliest(self) -> KernelVersion {
        KernelVersion {
            branch: self,
            point: Point::Candidate(1),
        }
    }

    /// Returns the branch that follows: 6.2 after 6.1, 7.0 after 6.19.
    ///
    /// Where it is not known that a major line has ended, the next minor number.
    #[must_use]
    pub fn next(self) -> Self {
        let branch = |major, minor, third| Self {
            major,
            minor,
            third,
        };
        match (self.major, self.minor, self.third) {
            (2, 6, 39) => branch(3, 0, 0),
            (2, 6, third) => branch(2, 6, third.saturating_add(1)),
            (3 | 5 | 6, 19, _) | (4, 20, _) => branch(self.major + 1, 0, 0),
            (major, minor, _) => match minor.checked_add(1) {
                Some(minor) => branch(major, minor, 0),
                None => branch(major.saturating_add(1), 0, 0),
            },
        }
    }
}

impl FromStr for Branch {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let version: KernelVersion = text.parse()?;
        if version == version.branch.first() {
            Ok(version.branch)
        } else {
            Err(not_a_version(text))
        }
    }
}

impl FromStr for KernelVersion {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        parse(text).ok_or_else(|| not_a_version(text))
    }
}

fn not_a_version(text: &str) -> NotAVersion {
    NotAVersion {
        text: text.chars().take(80).collect(),
    }
}

fn parse(text: &str) -> Option<KernelVersion> {
    let (numbers, candidate) = match text.split_once("-rc") {
        Some((numbers, candidate)) => (numbers, Some(number(candidate)?)),
        None => (text, None),
    };
    let mut parts = numbers.split('.').map(number);
    let major = parts.next()??;
    let minor = parts.next()??;
    let mut next = || parts.next().map_or(Some(None), |part| part.map(Some));
    // 2.6.N was what X.Y is today, and 2.6.N.P its stable releases.
    let third = if (major, minor) == (2, 6) {
        next()?.unwrap_or(0)
    } else {
        0
    };
    let patch = next()?;
    if parts.next().is_some() {
        return None;
    }
    let point = match (candidate, patch) {
        (None, patch) => Point::Release(patch.unwrap_or(0)),
        (Some(candidate @ 1..), None) => Point::Candidate(candidate),
        (Some(_), _) => return None,
    };
    let branch = Branch {
        major,
        minor,
        third,
    };
    Some(KernelVersion { branch, point })
}

/// Reads a decimal number without sign or leading zeros.
fn number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|c| c.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok())?
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if (self.major, self.minor) == (2, 6) {
            write!(f, ".{}", self.third)?;
        }
        Ok(())
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.branch.fmt(f)?;
        match self.point {
            Point::Candidate(candidate) => write!(f, "-rc{candidate}"),
            Point::Release(0) => Ok(()),
            Point::Release(patch) => write!(f, ".{patch}"),
        }
    }
}

impl fmt::Debug for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> KernelVersion {
        text.parse().unwrap()
    }

    #[test]
    fn versions_survive_packing() {
        let mut packed = Vec::new();
        for text in [
            "2.6.12-rc2",
            "2.6.12",
            "2.6.32.71",
            "4.9.337",
            "6.17-rc3",
            "6.17",
            "6.17.1",
        ] {
            let numbers = version(text).pack();
            assert_eq!(
                KernelVersion::unpack(numbers),
                Some(version(text)),
                "{text}"
            );
            packed.push(numbers);
        }
        assert!(packed.is_sorted());
        for bad in [[6, 1, 1, 1, 0], [6, 1, 0, 0, 0], [6, 1, 0, 2, 1]] {
            assert_eq!(KernelVersion::unpack(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn versions_order_as_they_were_released() {
        let released = [
            "2.6.12",
            "2.6.32-rc1",
            "2.6.32",
            "2.6.32.9",
            "2.6.32.10",
            "2.6.33",
            "3.0",
            "4.9.337",
            "5.10.9",
            "5.10.260",
            "6.17-rc3",
            "6.17-rc10",
            "6.17",
            "6.17.1",
            "6.18-rc1",
            "7.0",
        ];
        for pair in released.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        assert_eq!(version("6.1.0"), version("6.1"));
    }

    #[test]
    fn the_branch_is_two_numbers_and_three_for_2_6() {
        for (text, branch, mainline) in [
            ("6.1.170", "6.1", false),
            ("6.11", "6.11", true),
            ("6.1.0", "6.1", true),
            ("6.17-rc3", "6.17", true),
            ("2.6.32", "2.6.32", true),
            ("2.6.32.71", "2.6.32", false),
        ] {
            let version = version(text);
            assert_eq!(version.branch().to_string(), branch);
            assert_eq!(version.is_mainline(), mainline, "{text}");
        }
    }

    #[test]
    fn branches_follow_each_other() {
        for (branch, next) in [
            ("2.6.38", "2.6.39"),
            ("2.6.39", "3.0"),
            ("3.19", "4.0"),
            ("4.20", "5.0"),
            ("5.19", "6.0"),
            ("6.1", "6.2"),
            ("6.19", "7.0"),
            ("7.0", "7.1"),
            ("7.65535", "8.0"),
        ] {
            let branch: Branch = branch.parse().unwrap();
            assert_eq!(branch.next().to_string(), next);
            assert!(branch.first() < branch.next().earliest());
        }
        let branch: Branch = "6.1".parse().unwrap();
        assert_eq!(branch.earliest().to_string(), "6.1-rc1");
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in [
            "",
            "6",
            "6.",
            ".1",
            "6.1.",
            "v6.1",
            "6.1.170-3",
            "6.1.0-47-cloud-amd64",
            "6.1.1.1",
            "6.1.1-rc1",
            "6.1-rc0",
            "6.1-rc",
            "6.01",
            "6.1 ",
            "+6.1",
            "6.70000",
            "2.6.1.2.3",
            "6.1-rc1-rc2",
        ] {
            assert!(bad.parse::<KernelVersion>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn text_and_back(text in "[0-9.rc-]{0,12}") {
            if let Ok(version) = text.parse::<KernelVersion>() {
                prop_assert_eq!(version.to_string().parse(), Ok(version));
            }
        }
    }
}
