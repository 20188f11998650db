//! Decompression with a bound, so that a small file cannot become a huge one.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

/// Why bytes were not decompressed.
#[derive(Debug, thiserror::Error)]
pub enum GunzipError {
    /// Damaged, or cut short.
    #[error("damaged gzip data")]
    Damaged(#[source] io::Error),
    /// More than the caller takes.
    #[error("more than {cap} bytes once decompressed")]
    TooLarge {
        /// Bytes allowed.
        cap: u64,
    },
}

/// Tells by their magic whether the bytes are gzip data.
pub fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Decompresses gzip data of at most `cap` bytes. The data's own checksum and length are checked, so
/// data cut short is an error.
pub fn gunzip(bytes: &[u8], cap: u64) -> Result<Vec<u8>, GunzipError> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(bytes)
        .take(cap.saturating_add(1))
        .read_to_end(&mut plain)
        .map_err(GunzipError::Damaged)?;
    if plain.len() as u64 > cap {
        return Err(GunzipError::TooLarge { cap });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_was_compressed_comes_back() {
        let packed = gzip(b"cve,epss\n");
        assert!(is_gzip(&packed) && !is_gzip(b"cve"));
        assert_eq!(gunzip(&packed, 9).unwrap(), b"cve,epss\n");
    }

    #[test]
    fn a_small_file_cannot_become_a_huge_one() {
        let packed = gzip(&vec![0; 10 << 20]);
        assert!(packed.len() < 20_000);
        let error = gunzip(&packed, 1 << 20).unwrap_err();
        assert_eq!(
            error.to_string(),
            "more than 1048576 bytes once decompressed"
        );
    }

    #[test]
    fn data_cut_anywhere_is_an_error() {
        let packed = gzip(b"CVE-2024-1001,0.00043,0.12345\n".repeat(20).as_slice());
        for end in 0..packed.len() {
            let cut = &packed[..end];
            assert!(
                end == 0 || matches!(gunzip(cut, 1 << 20), Err(GunzipError::Damaged(_))),
                "cut at {end}"
            );
        }
        let mut turned = packed.clone();
        let last = turned.len() - 5;
        turned[last] ^= 1;
        assert!(gunzip(&turned, 1 << 20).is_err());
    }
}
