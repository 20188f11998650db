//! Kernels of a distribution as lines of releases that replace each other, and until when they are
//! supported.

use std::collections::BTreeMap;
use std::fmt;

use tuxtape_core::identity::KernelRelease;

use super::version::DebianVersion;

/// Releases of one series and flavour: of these the newest is the one to run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// Upstream series, `6.1`.
    pub series: String,
    /// The distribution's release that the kernel was made for besides its own, `deb12`; empty for its
    /// stock kernels.
    pub made_for: String,
    /// `cloud-amd64`.
    pub flavour: String,
}

impl Line {
    /// Reads the line of `release`; `None` where it is not named as the distribution names its
    /// kernels.
    pub fn of(release: &KernelRelease) -> Option<Self> {
        let text = release.as_str();
        let at = text.match_indices('-').map(|(at, _)| at).find(|at| {
            text.get(at + 1..)
                .is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_alphabetic()))
        })?;
        let (numbers, flavour) = (text.get(..at)?, text.get(at + 1..)?);
        let (numbers, made_for) = match numbers.split_once('+') {
            Some((numbers, rest)) => {
                let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric());
                (numbers, end.and_then(|end| rest.get(..end)).unwrap_or(rest))
            }
            None => (numbers, ""),
        };
        let mut parts = numbers.split(['.', '-']);
        let number = |part: Option<&str>| {
            part.filter(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
                .map(str::to_owned)
        };
        Some(Self {
            series: format!("{}.{}", number(parts.next())?, number(parts.next())?),
            made_for: made_for.to_owned(),
            flavour: flavour.to_owned(),
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.series)?;
        if !self.made_for.is_empty() {
            write!(f, "+{}", self.made_for)?;
        }
        write!(f, "-{}", self.flavour)
    }
}

/// Finds the newest release of each line.
pub fn newest(listed: &[KernelRelease]) -> BTreeMap<Line, KernelRelease> {
    let mut newest: BTreeMap<Line, KernelRelease> = BTreeMap::new();
    for release in listed {
        let Some(line) = Line::of(release) else {
            continue;
        };
        let replace = newest
            .get(&line)
            .is_none_or(|known| is_newer(release, known));
        if replace {
            newest.insert(line, release.clone());
        }
    }
    newest
}

/// Lists the releases to be added: of each line that a kernel of `known` is in, the newest one listed
/// where it is newer than all that are known.
pub fn due(known: &[KernelRelease], listed: &[KernelRelease]) -> Vec<KernelRelease> {
    let have = newest(known);
    let offered = newest(listed);
    have.iter()
        .filter_map(|(line, known)| {
            let offered = offered.get(line)?;
            is_newer(offered, known).then(|| offered.clone())
        })
        .collect()
}

/// Compares releases as versions of packages are: `6.1.0-9` is older than `6.1.0-47`.
pub fn is_newer(one: &KernelRelease, other: &KernelRelease) -> bool {
    DebianVersion::new(one.as_str()) > DebianVersion::new(other.as_str())
}

/// Until when the distribution makes fixes for a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Support {
    /// The distribution's release, `Debian 12`.
    pub of: &'static str,
    /// Last day of its security team's support, `2026-06-10`.
    pub full: &'static str,
    /// Last day of long term support.
    pub lts: &'static str,
}

/// Day of the package that `SUPPORT` was read from.
pub const SUPPORT_AS_OF: &str = "2026-04-25";
/// The package that `SUPPORT` was read from: its `debian.csv`, columns `eol` and `eol-lts`.
pub const SUPPORT_SOURCE: &str = "distro-info-data 0.58+deb12u7";

/// Stock series of each release with the days on which its support ends.
const SUPPORT: [(&str, Support); 3] = [
    (
        "5.10",
        Support {
            of: "Debian 11",
            full: "2024-08-14",
            lts: "2026-08-31",
        },
    ),
    (
        "6.1",
        Support {
            of: "Debian 12",
            full: "2026-07-11",
            lts: "2028-06-30",
        },
    ),
    (
        "6.12",
        Support {
            of: "Debian 13",
            full: "2028-08-09",
            lts: "2030-06-30",
        },
    ),
];

/// Says until when `line` is supported; `None` for others than stock kernels: no day was promised for
/// those.
pub fn support(line: &Line) -> Option<Support> {
    if !line.made_for.is_empty() && own_release(line) != Some(line.made_for.as_str()) {
        return None;
    }
    SUPPORT
        .iter()
        .find(|(series, _)| *series == line.series)
        .map(|(_, support)| *support)
}

/// The mark that a release's own kernels carry, where they carry one.
fn own_release(line: &Line) -> Option<&'static str> {
    (line.series == "6.12").then_some("deb13")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn releases(texts: &[&str]) -> Vec<KernelRelease> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn line(text: &str) -> Option<String> {
        Line::of(&text.parse().unwrap()).map(|line| line.to_string())
    }

    #[test]
    fn a_release_names_its_line() {
        for (release, expected) in [
            ("6.1.0-47-cloud-amd64", Some("6.1-cloud-amd64")),
            ("6.1.0-9-amd64", Some("6.1-amd64")),
            ("6.12.107+deb12-cloud-amd64", Some("6.12+deb12-cloud-amd64")),
            ("6.12.9+deb13.1-amd64", Some("6.12+deb13-amd64")),
            ("6.1.0-47", None),
            ("6.1.170", None),
        ] {
            assert_eq!(line(release).as_deref(), expected, "{release}");
        }
    }

    #[test]
    fn only_newer_releases_of_lines_that_are_followed_are_due() {
        let known = releases(&[
            "6.1.0-9-cloud-amd64",
            "6.1.0-47-cloud-amd64",
            "6.12.107+deb12-amd64",
            "6.1.170",
        ]);
        let listed = releases(&[
            "6.1.0-50-cloud-amd64",
            "6.1.0-49-cloud-amd64",
            "6.1.0-50-amd64",
            "6.12.107+deb12-amd64",
            "6.12.117+deb13-amd64",
        ]);
        assert_eq!(due(&known, &listed), releases(&["6.1.0-50-cloud-amd64"]));
        assert!(due(&[], &listed).is_empty());
    }

    #[test]
    fn a_day_is_given_for_stock_kernels_alone() {
        let of = |text: &str| {
            let line = Line::of(&text.parse().unwrap()).unwrap();
            support(&line).map(|support| support.of)
        };
        assert_eq!(of("6.1.0-47-cloud-amd64"), Some("Debian 12"));
        assert_eq!(of("6.12.9+deb13-amd64"), Some("Debian 13"));
        assert_eq!(of("6.12.107+deb12-cloud-amd64"), None);
        assert_eq!(of("6.19.2+deb13-amd64"), None);
    }
}
