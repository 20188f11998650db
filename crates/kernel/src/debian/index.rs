//! apt's package index: what is listed, and which packages make up one kernel.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use tuxtape_core::identity::KernelRelease;
use tuxtape_sys::process::{self, ProcessError};

use super::version::DebianVersion;

/// Limit of one look-up in apt's index.
const LOOK_UP: Duration = Duration::from_secs(120);

/// One package of one version, as the index lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Package name.
    pub name: String,
    /// Package version.
    pub version: DebianVersion,
    /// `amd64` or `all`.
    pub architecture: String,
    /// Size of the package file in bytes.
    pub size: u64,
    /// Size of what it unpacks to in bytes, as the package says.
    pub installed_size: u64,
    /// SHA-256 of the package file, in hex.
    pub sha256: String,
    /// The `Depends` line.
    pub depends: String,
}

impl Package {
    /// Returns the name apt gives the downloaded file.
    pub fn file_name(&self) -> String {
        let version = self.version.as_str().replace(':', "%3a");
        format!("{}_{version}_{}.deb", self.name, self.architecture)
    }
}

/// The packages that make up one kernel, each at exactly one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelPackages {
    /// `linux-image-RELEASE-unsigned`.
    pub image: Package,
    /// `linux-image-RELEASE-dbg`.
    pub debug: Package,
    /// `linux-headers-RELEASE`.
    pub headers: Package,
    /// The headers shared by the flavours.
    pub headers_common: Package,
    /// The build programs the headers need.
    pub kbuild: Package,
    /// `linux-source-X.Y`.
    pub source: Package,
}

impl KernelPackages {
    /// Returns them all.
    pub fn all(&self) -> [&Package; 6] {
        [
            &self.image,
            &self.headers,
            &self.headers_common,
            &self.kbuild,
            &self.debug,
            &self.source,
        ]
    }
}

/// Why the packages of a kernel were not found.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// apt could not be asked.
    #[error("could not ask apt")]
    Apt(#[from] ProcessError),
    /// apt has no package lists.
    #[error("apt's package lists are empty")]
    Empty,
    /// The release is in none of them.
    #[error("no package of kernel {release} is listed")]
    UnknownRelease {
        /// The release asked for.
        release: KernelRelease,
        /// Releases that are listed, oldest first.
        known: Vec<String>,
    },
    /// The release is listed, one of its packages is not.
    #[error("package {package} is not listed, kernel {release} cannot be taken apart without it")]
    MissingPackage {
        /// The kernel.
        release: KernelRelease,
        /// Name, with the version wanted where it is not any.
        package: String,
    },
}

/// Finds the packages of `release` in apt's index. Blocks on `apt-cache`.
pub fn find(release: &KernelRelease) -> Result<KernelPackages, IndexError> {
    let image = format!("linux-image-{release}-unsigned");
    let debug = format!("linux-image-{release}-dbg");
    let headers = format!("linux-headers-{release}");
    let mut listed = show(&[&image, &debug, &headers])?;
    if newest_first(&listed, &image).is_empty() {
        return Err(unlisted(release)?);
    }
    let more: Vec<String> = newest_first(&listed, &image)
        .into_iter()
        .filter_map(|package| source_name(&package.version))
        .chain(
            newest_first(&listed, &headers)
                .into_iter()
                .flat_map(depended)
                .map(|(name, _)| name.to_owned())
                .filter(|name| name.starts_with("linux-headers-") || is_kbuild(name)),
        )
        .collect();
    listed.extend(show(&more.iter().map(String::as_str).collect::<Vec<_>>())?);
    choose(release, &listed)
}

/// Lists the versions of package `name`, newest first. Blocks on `apt-cache`.
pub fn versions(name: &str) -> Result<Vec<Package>, IndexError> {
    let listed = show(&[name])?;
    Ok(newest_first(&listed, name).into_iter().cloned().collect())
}

/// Returns the name of the source package of a kernel version: `6.1.170-3` → `linux-source-6.1`.
pub fn source_name(version: &DebianVersion) -> Option<String> {
    let base = crate::profile::build::base_version(version.as_str())?;
    let numbers = base
        .split_once("-rc")
        .map_or(base.as_str(), |(left, _)| left);
    let mut parts = numbers.split('.');
    Some(format!("linux-source-{}.{}", parts.next()?, parts.next()?))
}

/// Chooses among the packages `listed`: the newest image for which everything else is there.
pub fn choose(release: &KernelRelease, listed: &[Package]) -> Result<KernelPackages, IndexError> {
    let image = format!("linux-image-{release}-unsigned");
    let mut first_gap = None;
    for image in newest_first(listed, &image) {
        match complete(release, listed, image) {
            Ok(packages) => return Ok(packages),
            Err(package) => first_gap = first_gap.or(Some(package)),
        }
    }
    Err(IndexError::MissingPackage {
        release: release.clone(),
        package: first_gap.unwrap_or(image),
    })
}

/// Completes `image`; the error names the package that is missing.
fn complete(
    release: &KernelRelease,
    listed: &[Package],
    image: &Package,
) -> Result<KernelPackages, String> {
    let version = &image.version;
    let exactly = |name: &str| {
        listed
            .iter()
            .find(|package| package.name == name && package.version == *version)
            .cloned()
            .ok_or_else(|| format!("{name}={version}"))
    };
    let headers = exactly(&format!("linux-headers-{release}"))?;
    let common = depended(&headers)
        .map(|(name, _)| name)
        .find(|name| name.starts_with("linux-headers-"))
        .ok_or_else(|| format!("linux-headers-…-common={version}"))?;
    let kbuild = depended(&headers)
        .map(|(name, _)| name)
        .find(|name| is_kbuild(name))
        .ok_or_else(|| format!("linux-kbuild-…={version}"))?;
    // Its programs are shared by a series, so a newer one serves where the exact one is gone.
    let kbuild = newest_first(listed, kbuild)
        .into_iter()
        .rfind(|package| package.version >= *version)
        .cloned()
        .ok_or_else(|| format!("{kbuild} (at least {version})"))?;
    let source = source_name(version).ok_or_else(|| format!("linux-source-…={version}"))?;
    Ok(KernelPackages {
        image: image.clone(),
        debug: exactly(&format!("linux-image-{release}-dbg"))?,
        headers_common: exactly(common)?,
        kbuild,
        source: exactly(&source)?,
        headers,
    })
}

fn is_kbuild(name: &str) -> bool {
    name.starts_with("linux-kbuild-")
}

/// Lists the names in `Depends`, the first of each group of alternatives, with their conditions.
fn depended(package: &Package) -> impl Iterator<Item = (&str, &str)> {
    package.depends.split(',').filter_map(|group| {
        let first = group.split('|').next()?.trim();
        let (name, condition) = first.split_once(' ').unwrap_or((first, ""));
        (!name.is_empty()).then_some((name, condition))
    })
}

fn newest_first<'a>(listed: &'a [Package], name: &str) -> Vec<&'a Package> {
    let mut found: Vec<&Package> = listed
        .iter()
        .filter(|package| package.name == name)
        .collect();
    found.sort_by(|left, right| right.version.cmp(&left.version));
    found
}

fn show(names: &[&str]) -> Result<Vec<Package>, IndexError> {
    // Names that are not listed make it fail, with those that are on its output all the same.
    let finished = process::run(
        Command::new("apt-cache")
            .env("LC_ALL", "C")
            .args(["--quiet=2", "show", "--"])
            .args(names),
        LOOK_UP,
    )?;
    Ok(parse(&String::from_utf8_lossy(&finished.stdout)))
}

/// Lists every release that has an unsigned image in apt's index, oldest first. Blocks on
/// `apt-cache`.
pub fn releases() -> Result<Vec<KernelRelease>, IndexError> {
    let finished = process::run_ok(
        Command::new("apt-cache").args(["pkgnames", "linux-image-"]),
        LOOK_UP,
    )?;
    let text = String::from_utf8_lossy(&finished.stdout);
    let mut known: Vec<DebianVersion> = text
        .lines()
        .filter_map(|name| name.strip_prefix("linux-image-")?.strip_suffix("-unsigned"))
        .map(DebianVersion::new)
        .collect();
    known.sort();
    known.dedup();
    Ok(known
        .iter()
        .filter_map(|known| known.as_str().parse().ok())
        .collect())
}

/// Says why an image is not listed.
fn unlisted(release: &KernelRelease) -> Result<IndexError, IndexError> {
    let known = releases()?;
    if known.is_empty() {
        return Ok(IndexError::Empty);
    }
    Ok(IndexError::UnknownRelease {
        release: release.clone(),
        known: known.into_iter().map(String::from).collect(),
    })
}

/// Reads the stanzas `apt-cache show` prints; those that name no file to download are left out.
pub fn parse(text: &str) -> Vec<Package> {
    text.split("\n\n").filter_map(stanza).collect()
}

fn stanza(text: &str) -> Option<Package> {
    let fields: BTreeMap<&str, &str> = text
        .lines()
        .filter(|line| !line.starts_with([' ', '\t']))
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name, value.trim()))
        .collect();
    let field = |name: &str| fields.get(name).map(|value| (*value).to_owned());
    let sha256 = field("SHA256")?;
    let plain = |text: &str, more: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.~".contains(c) || more.contains(c))
    };
    let package = Package {
        name: field("Package")?,
        version: DebianVersion::new(field("Version")?),
        architecture: field("Architecture")?,
        size: field("Size")?.parse().ok()?,
        installed_size: field("Installed-Size")
            .and_then(|size| size.parse::<u64>().ok())
            .unwrap_or(0)
            .saturating_mul(1024),
        depends: field("Depends").unwrap_or_default(),
        sha256,
    };
    // They become file names and arguments.
    let sound = plain(&package.name, "")
        && plain(package.version.as_str(), ":")
        && plain(&package.architecture, "")
        && package.sha256.len() == 64
        && package.sha256.bytes().all(|c| c.is_ascii_hexdigit());
    sound.then_some(package)
}

/// Entry for fuzzing: reads bytes as package stanzas.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        for package in parse(text) {
            assert!(!package.file_name().contains('/'));
            depended(&package).count();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, depends: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: DebianVersion::new(version),
            architecture: "amd64".to_owned(),
            size: 1,
            installed_size: 2,
            sha256: "0".repeat(64),
            depends: depends.to_owned(),
        }
    }

    fn kernel(version: &str) -> Vec<Package> {
        let depends = format!(
            "linux-headers-6.1.0-47-common (= {version}), linux-kbuild-6.1 (>= {version}), gcc-12"
        );
        vec![
            package("linux-image-6.1.0-47-amd64-unsigned", version, ""),
            package("linux-image-6.1.0-47-amd64-dbg", version, ""),
            package("linux-headers-6.1.0-47-amd64", version, &depends),
            package("linux-headers-6.1.0-47-common", version, ""),
            package("linux-source-6.1", version, ""),
        ]
    }

    fn release() -> KernelRelease {
        "6.1.0-47-amd64".parse().unwrap()
    }

    #[test]
    fn every_package_but_the_build_programs_has_the_images_version() {
        let mut listed = kernel("6.1.170-3");
        listed.push(package("linux-source-6.1", "6.1.176-1", ""));
        listed.push(package("linux-kbuild-6.1", "6.1.164-1", ""));
        listed.push(package("linux-kbuild-6.1", "6.1.192-2", ""));
        listed.push(package("linux-kbuild-6.1", "6.1.176-1", ""));
        let chosen = choose(&release(), &listed).unwrap();
        assert_eq!(chosen.source.version.as_str(), "6.1.170-3");
        assert_eq!(chosen.kbuild.version.as_str(), "6.1.176-1");
    }

    #[test]
    fn an_older_complete_build_is_taken_before_a_newer_incomplete_one() {
        let mut listed = kernel("6.1.170-3");
        listed.push(package("linux-kbuild-6.1", "6.1.170-3", ""));
        listed.push(package(
            "linux-image-6.1.0-47-amd64-unsigned",
            "6.1.170-4",
            "",
        ));
        let chosen = choose(&release(), &listed).unwrap();
        assert_eq!(chosen.image.version.as_str(), "6.1.170-3");
    }

    #[test]
    fn the_missing_package_is_named_with_its_version() {
        for gone in [
            "linux-image-6.1.0-47-amd64-dbg",
            "linux-source-6.1",
            "linux-headers-6.1.0-47-common",
        ] {
            let mut listed = kernel("6.1.170-3");
            listed.push(package("linux-kbuild-6.1", "6.1.170-3", ""));
            listed.retain(|package| package.name != gone);
            let error = choose(&release(), &listed).unwrap_err().to_string();
            assert!(error.contains(&format!("{gone}=6.1.170-3")), "{error}");
        }
    }

    #[test]
    fn a_stanza_that_could_escape_the_cache_is_left_out() {
        let text = |name: &str, version: &str| {
            format!(
                "Package: {name}\nVersion: {version}\nArchitecture: all\nSize: 5\nInstalled-Size: 7\n\
                 Description: x\n more: y\nSHA256: {}\n",
                "ab".repeat(32)
            )
        };
        let all = [
            text("linux-source-6.1", "6.1.170-3"),
            text("../x", "1"),
            text("x", "1/2"),
            "Package: y\nVersion: 1\n".to_owned(),
        ]
        .join("\n");
        let found = parse(&all);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].file_name(), "linux-source-6.1_6.1.170-3_all.deb");
        assert_eq!(found[0].installed_size, 7 * 1024);
    }

    #[test]
    fn a_version_leads_to_its_source_package() {
        for (version, name) in [
            ("6.1.170-3", Some("linux-source-6.1")),
            ("6.12.107-1~deb12u1", Some("linux-source-6.12")),
            ("7.2~rc1-1", Some("linux-source-7.2")),
            ("x", None),
        ] {
            assert_eq!(source_name(&DebianVersion::new(version)).as_deref(), name);
        }
    }
}
