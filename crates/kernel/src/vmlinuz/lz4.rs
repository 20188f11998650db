//! The legacy LZ4 frame, which kernel builds use for their image.

/// Why a frame does not unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lz4Error {
    /// It ends inside a block.
    #[error("lz4 data is cut short")]
    Short,
    /// A match points before the start of its block.
    #[error("lz4 match outside its block")]
    Match,
    /// It would unpack to more than the limit.
    #[error("lz4 data is too large")]
    Large,
}

/// Unpacks the legacy frame `data` (magic, then blocks each led by its packed size in 32 bits).
///
/// Kernel builds append the unpacked size; it is told from a block by leaving no room for one.
pub(super) fn legacy(data: &[u8], limit: usize) -> Result<Vec<u8>, Lz4Error> {
    let mut rest = data.get(4..).ok_or(Lz4Error::Short)?;
    let mut out = Vec::new();
    while let Some((size, after)) = rest.split_first_chunk::<4>() {
        if after.is_empty() {
            break;
        }
        let size = usize::try_from(u32::from_le_bytes(*size)).map_err(|_| Lz4Error::Large)?;
        let (packed, after) = after.split_at_checked(size).ok_or(Lz4Error::Short)?;
        block(packed, &mut out, limit)?;
        rest = after;
    }
    Ok(out)
}

fn block(mut packed: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Lz4Error> {
    let start = out.len();
    while let Some((token, rest)) = packed.split_first() {
        packed = rest;
        let literals = length(usize::from(token >> 4), &mut packed)?;
        let (copied, rest) = packed.split_at_checked(literals).ok_or(Lz4Error::Short)?;
        packed = rest;
        if copied.len() > limit.saturating_sub(out.len()) {
            return Err(Lz4Error::Large);
        }
        out.extend_from_slice(copied);
        // The last sequence of a block has literals only.
        let Some((distance, rest)) = packed.split_first_chunk::<2>() else {
            return if packed.is_empty() {
                Ok(())
            } else {
                Err(Lz4Error::Short)
            };
        };
        packed = rest;
        let distance = usize::from(u16::from_le_bytes(*distance));
        let count = length(usize::from(token & 15), &mut packed)? + 4;
        if count > limit.saturating_sub(out.len()) {
            return Err(Lz4Error::Large);
        }
        let mut from = out.len().checked_sub(distance).ok_or(Lz4Error::Match)?;
        if distance == 0 || from < start {
            return Err(Lz4Error::Match);
        }
        let mut left = count;
        while left > 0 {
            // Source and target may overlap: the bytes just written are copied again.
            let step = left.min(out.len() - from);
            out.extend_from_within(from..from + step);
            from += step;
            left -= step;
        }
    }
    Ok(())
}

fn length(base: usize, packed: &mut &[u8]) -> Result<usize, Lz4Error> {
    let mut length = base;
    if base == 15 {
        loop {
            let (more, rest) = packed.split_first().ok_or(Lz4Error::Short)?;
            *packed = rest;
            length += usize::from(*more);
            if *more != 255 {
                break;
            }
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(block: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x02, 0x21, 0x4c, 0x18];
        frame.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
        frame.extend(block);
        frame
    }

    #[test]
    fn an_overlapping_match_repeats_its_own_bytes() {
        // "ab", then eight bytes from two back, then "c".
        let packed = frame(&[0x24, b'a', b'b', 2, 0, 0x10, b'c']);
        assert_eq!(legacy(&packed, 100).unwrap(), b"ababababab\x63");
    }

    #[test]
    fn the_size_appended_by_the_build_is_no_block() {
        let mut packed = frame(&[0x10, b'x']);
        packed.extend(1_u32.to_le_bytes());
        assert_eq!(legacy(&packed, 100).unwrap(), b"x");
    }

    #[test]
    fn bad_blocks_are_errors() {
        assert_eq!(legacy(&frame(&[0x20, b'a']), 100), Err(Lz4Error::Short));
        assert_eq!(
            legacy(&frame(&[0x14, b'a', 2, 0]), 100),
            Err(Lz4Error::Match)
        );
        assert_eq!(
            legacy(&frame(&[0x1f, b'a', 1, 0, 255, 255, 0]), 100),
            Err(Lz4Error::Large)
        );
    }
}
