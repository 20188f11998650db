//! The build-id inside a bootable x86 image.

mod lz4;

use std::borrow::Cow;
use std::io::Read as _;

use flate2::read::GzDecoder;
use object::Object as _;
use object::read::elf::ElfFile64;
use tuxtape_core::identity::BuildId;

/// Largest kernel that is unpacked, in bytes.
const LIMIT: usize = 256 << 20;

/// What an image says of its build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageBuild {
    /// The build-id of the kernel inside.
    Known(BuildId),
    /// The kernel inside is packed in a way that is not read here.
    Packed(&'static str),
}

/// Why an image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is no bzImage, or its header points outside of it.
    #[error("not a bootable x86 image ({0})")]
    Header(&'static str),
    /// The kernel inside does not unpack.
    #[error("its kernel does not unpack ({0})")]
    Payload(String),
    /// The kernel inside has no build-id note.
    #[error("its kernel has no build-id")]
    NoBuildId,
}

/// Unpacks the kernel inside the bzImage `image` and reads its build-id.
///
/// Takes memory for the unpacked kernel (about 50 MB, at most 256 MiB).
pub fn build_id(image: &[u8]) -> Result<ImageBuild, ImageError> {
    let payload = payload(image)?;
    let kernel: Cow<'_, [u8]> = match payload {
        [0x7f, b'E', b'L', b'F', ..] => Cow::Borrowed(payload),
        [0x1f, 0x8b, ..] => gunzip(payload)?.into(),
        [0x02, 0x21, 0x4c, 0x18, ..] => lz4::legacy(payload, LIMIT)
            .map_err(|error| ImageError::Payload(error.to_string()))?
            .into(),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => unzstd(payload)?.into(),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => return Ok(ImageBuild::Packed("xz")),
        [b'B', b'Z', b'h', ..] => return Ok(ImageBuild::Packed("bzip2")),
        [0x5d, 0, ..] => return Ok(ImageBuild::Packed("lzma")),
        [0x89, b'L', b'Z', b'O', ..] => return Ok(ImageBuild::Packed("lzo")),
        _ => return Err(ImageError::Payload("unknown packing".to_owned())),
    };
    let file = ElfFile64::<object::LittleEndian>::parse(kernel.as_ref())
        .map_err(|error| ImageError::Payload(error.to_string()))?;
    let note = file
        .build_id()
        .map_err(|error| ImageError::Payload(error.to_string()))?;
    note.and_then(|bytes| BuildId::from_bytes(bytes).ok())
        .map(ImageBuild::Known)
        .ok_or(ImageError::NoBuildId)
}

/// Finds the packed kernel by the boot protocol's header (2.08 and later).
fn payload(image: &[u8]) -> Result<&[u8], ImageError> {
    let byte = |at: usize| {
        image
            .get(at)
            .copied()
            .ok_or(ImageError::Header("too short"))
    };
    let word = |at: usize| {
        image
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_le_bytes)
            .and_then(|word| usize::try_from(word).ok())
            .ok_or(ImageError::Header("too short"))
    };
    if image.get(0x202..0x206) != Some(b"HdrS".as_slice()) {
        return Err(ImageError::Header("no HdrS at 0x202"));
    }
    // A zero means four sectors, for ancient loaders.
    let sectors = match byte(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = ((sectors + 1) * 512).checked_add(word(0x248)?);
    let end = start.and_then(|start| start.checked_add(word(0x24c).ok()?));
    start
        .zip(end)
        .and_then(|(start, end)| image.get(start..end))
        .ok_or(ImageError::Header("its payload lies outside"))
}

fn gunzip(payload: &[u8]) -> Result<Vec<u8>, ImageError> {
    let mut kernel = Vec::new();
    GzDecoder::new(payload)
        .take(LIMIT as u64)
        .read_to_end(&mut kernel)
        .map_err(|error| ImageError::Payload(error.to_string()))?;
    Ok(kernel)
}

fn unzstd(payload: &[u8]) -> Result<Vec<u8>, ImageError> {
    // The build appends the unpacked size.
    let (data, size) = payload
        .split_last_chunk::<4>()
        .ok_or(ImageError::Header("no size after its payload"))?;
    let size = u32::from_le_bytes(*size);
    if usize::try_from(size).map_or(true, |size| size > LIMIT) {
        return Err(ImageError::Payload(format!("{size} bytes are too many")));
    }
    let packed = object::CompressedData {
        format: object::CompressionFormat::Zstandard,
        data,
        uncompressed_size: u64::from(size),
    };
    let kernel = packed
        .decompress()
        .map_err(|error| ImageError::Payload(error.to_string()))?;
    Ok(kernel.into_owned())
}

/// Entry for fuzzing: reads bytes as a bootable image.
pub fn fuzz(bytes: &[u8]) {
    build_id(bytes).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        let length = u32::try_from(payload.len()).unwrap();
        image[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
        image.extend_from_slice(payload);
        image
    }

    #[test]
    fn a_packing_not_read_here_is_named() {
        assert_eq!(
            build_id(&image(b"\xfd7zXZ\0")).unwrap(),
            ImageBuild::Packed("xz")
        );
    }

    #[test]
    fn garbage_is_an_error() {
        for bytes in [
            b"".as_slice(),
            &[0; 0x400],
            &image(b"????"),
            &image(b"\x1f\x8b"),
        ] {
            assert!(build_id(bytes).is_err());
        }
        let whole = image(b"\x02\x21\x4c\x18\x04\0\0\0\x30abc");
        for end in 0..whole.len() {
            assert!(build_id(&whole[..end]).is_err(), "{end}");
        }
    }
}
