//! Whether a file is the one that was signed.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256, Sha512};

/// Why a file is not the one that was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unequal {
    /// Another length.
    #[error("length is {found} bytes, signed are {signed}")]
    Length {
        /// Bytes there.
        found: u64,
        /// Bytes signed.
        signed: u64,
    },
    /// Another digest.
    #[error("{algorithm} is {found}, signed is {signed}")]
    Digest {
        /// Hash algorithm.
        algorithm: &'static str,
        /// Digest of the bytes there.
        found: String,
        /// Digest signed.
        signed: String,
    },
    /// Only digests we cannot compute.
    #[error("no known hash algorithm (sha256, sha512) is signed")]
    Algorithm,
}

/// Checks `bytes` against a signed length and every signed digest that can be computed.
pub fn compare(
    bytes: &[u8],
    length: Option<u64>,
    hashes: &BTreeMap<String, String>,
) -> Result<(), Unequal> {
    let found = bytes.len() as u64;
    if let Some(signed) = length.filter(|&signed| signed != found) {
        return Err(Unequal::Length { found, signed });
    }
    let mut known = 0;
    for (algorithm, signed) in hashes {
        let (algorithm, found) = match algorithm.as_str() {
            "sha256" => ("sha256", hex::encode(Sha256::digest(bytes))),
            "sha512" => ("sha512", hex::encode(Sha512::digest(bytes))),
            _ => continue,
        };
        known += 1;
        if !found.eq_ignore_ascii_case(signed) {
            return Err(Unequal::Digest {
                algorithm,
                found,
                signed: signed.chars().take(128).collect(),
            });
        }
    }
    if known == 0 && !hashes.is_empty() {
        return Err(Unequal::Algorithm);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_only_unknown_digests_is_not_accepted() {
        let hashes = BTreeMap::from([("md5".to_owned(), "00".to_owned())]);
        assert_eq!(compare(b"x", Some(1), &hashes), Err(Unequal::Algorithm));
    }
}
