//! Names of roles and targets, and the caps of their files.

use std::fmt::Write;

use tuxtape_core::identity::{Arch, KernelId, KernelRelease, PatchLevel};

/// Bytes a file of each kind may have; checked before parsing.
pub mod cap {
    /// `N.root.json`.
    pub const ROOT: u64 = 512 * 1024;
    /// `timestamp.json`.
    pub const TIMESTAMP: u64 = 16 * 1024;
    /// `N.snapshot.json`.
    pub const SNAPSHOT: u64 = 2 * 1024 * 1024;
    /// `N.targets.json`.
    pub const TARGETS: u64 = 1024 * 1024;
    /// `N.k__ARCH__RELEASE.json`.
    pub const KERNEL: u64 = 256 * 1024;
    /// `N.hold.json`.
    pub const HOLD: u64 = 64 * 1024;
    /// A module, when the client is not told otherwise.
    pub const MODULE: u64 = 16 * 1024 * 1024;
}

/// Why a release has no name in the archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name of kernel {release} is too long for the archive (at most 128 bytes encoded)")]
pub struct NameTooLong {
    release: KernelRelease,
}

/// Writes `release` with `[A-Za-z0-9.~-]` only: every other byte becomes `_` and two hex digits.
///
/// `+` becomes `_2b` because some object stores read `+` as a blank. `__` cannot occur, so it can
/// part the fields of a name.
pub fn encode(release: &KernelRelease) -> Result<String, NameTooLong> {
    let mut encoded = String::new();
    for byte in release.as_str().bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'~' | b'-') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            write!(encoded, "_{byte:02x}").ok();
        }
    }
    if encoded.len() > 128 {
        return Err(NameTooLong {
            release: release.clone(),
        });
    }
    Ok(encoded)
}

/// Names the delegated role of one kernel release.
pub fn role(arch: Arch, release: &KernelRelease) -> Result<String, NameTooLong> {
    Ok(format!("k__{arch}__{}", encode(release)?))
}

/// Names the role that may sign for a target of ours; `None` when its name is not one of ours.
pub fn role_of_target(target: &str) -> Option<String> {
    let mut parts = target.strip_prefix("tt__")?.split("__");
    let (arch, release) = (parts.next()?, parts.next()?);
    Some(format!("k__{arch}__{release}"))
}

/// Returns the one path pattern that role may sign for.
pub fn pattern(arch: Arch, release: &KernelRelease) -> Result<String, NameTooLong> {
    Ok(format!("tt__{arch}__{}__*", encode(release)?))
}

/// Names the module of one level of one kernel build.
pub fn target(kernel: &KernelId, level: PatchLevel) -> Result<String, NameTooLong> {
    let release = encode(&kernel.release)?;
    let build = kernel.build_id.short();
    Ok(format!(
        "tt__{}__{release}__{build}__{level}.ko",
        kernel.arch
    ))
}

/// Writes a role name as a file name: all but `[A-Za-z0-9_.~-]` percent-encoded.
pub fn file(role: &str) -> String {
    let mut encoded = String::new();
    for byte in role.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'~' | b'-') {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_role_owns_the_names_of_another_release() {
        let release = |text: &str| text.parse::<KernelRelease>().unwrap();
        let short = pattern(Arch::X86_64, &release("6.1.0-5")).unwrap();
        let long = role(Arch::X86_64, &release("6.1.0-5-amd64")).unwrap();
        let long = long.replacen("k__", "tt__", 1);
        assert!(!long.starts_with(short.trim_end_matches('*')));
    }

    #[test]
    fn plus_and_underscore_are_encoded() {
        let release: KernelRelease = "6.12.107+deb12_x".parse().unwrap();
        assert_eq!(encode(&release).unwrap(), "6.12.107_2bdeb12_5fx");
        let long: KernelRelease = format!("6{}", "+".repeat(100)).parse().unwrap();
        assert!(encode(&long).is_err());
    }

    #[test]
    fn a_role_name_never_leaves_its_folder() {
        assert_eq!(file("../x?#\0\u{e9}"), "..%2Fx%3F%23%00%C3%A9");
    }
}
