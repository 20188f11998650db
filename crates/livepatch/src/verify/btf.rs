//! Layouts of the kernel's structures, from the type data that its vmlinux carries.
//!
//! The format is the kernel's `Documentation/bpf/btf.rst`. Only structures and the members asked for are
//! read; all others are stepped over.

use std::collections::BTreeMap;

/// Where a member is in its structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Bits from the start of the structure.
    pub(super) bit: u32,
    /// Width of a bit-field in bits, 0 for any other member.
    pub(super) width: u32,
}

impl Member {
    /// Bytes from the start of the structure.
    pub(super) fn byte(self) -> u64 {
        u64::from(self.bit / 8)
    }
}

/// One structure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Structure<'data> {
    /// Bytes.
    pub(super) size: u64,
    /// Its members with a name.
    pub(super) members: BTreeMap<&'data str, Member>,
}

impl Structure<'_> {
    /// The byte at which a member starts.
    pub(super) fn at(&self, member: &str) -> Option<u64> {
        Some(self.members.get(member)?.byte())
    }
}

const MAGIC: u16 = 0xeb9f;

/// Reads the structures called `names` out of a `.BTF` section, or `None` if it is malformed. One that the
/// kernel does not have is left out.
pub(super) fn structures<'data>(
    section: &'data [u8],
    names: &[&str],
) -> Option<BTreeMap<&'data str, Structure<'data>>> {
    let half = |at: usize| {
        let bytes = section.get(at..at.checked_add(2)?)?;
        Some(u16::from_le_bytes(<[u8; 2]>::try_from(bytes).ok()?))
    };
    let header_word = |at| word(section, at);
    if half(0)? != MAGIC {
        return None;
    }
    let header = usize::try_from(header_word(4)?).ok()?;
    let part = |offset: usize, length: usize| {
        let start = header.checked_add(usize::try_from(header_word(offset)?).ok()?)?;
        let end = start.checked_add(usize::try_from(header_word(length)?).ok()?)?;
        section.get(start..end)
    };
    let (mut types, strings) = (part(8, 12)?, part(16, 20)?);
    let mut found = BTreeMap::new();
    // Every round takes at least the twelve bytes of a type's head.
    while !types.is_empty() {
        let (head, rest) = types.split_at_checked(12)?;
        let (name, info, size) = (word(head, 0)?, word(head, 4)?, word(head, 8)?);
        let count = usize::try_from(info & 0xffff).ok()?;
        let kind = (info >> 24) & 0x1f;
        let bit_fields = info >> 31 != 0;
        let extra = match kind {
            // Integers, variables and declaration tags bring a word, arrays three.
            1 | 14 | 17 => 4,
            3 => 12,
            // Structures, unions, data sections and wide enumerations; enumerations and prototypes.
            4 | 5 | 15 | 19 => count.checked_mul(12)?,
            6 | 13 => count.checked_mul(8)?,
            2 | 7..=12 | 16 | 18 => 0,
            _ => return None,
        };
        let (body, rest) = rest.split_at_checked(extra)?;
        types = rest;
        if kind != 4 {
            continue;
        }
        let name = string(strings, name)?;
        if !names.contains(&name) {
            continue;
        }
        let mut structure = Structure {
            size: size.into(),
            members: BTreeMap::new(),
        };
        for member in body.as_chunks::<12>().0 {
            let place = word(member, 8)?;
            let (bit, width) = if bit_fields {
                (place & 0x00ff_ffff, place >> 24)
            } else {
                (place, 0)
            };
            let name = string(strings, word(member, 0)?)?;
            structure.members.insert(name, Member { bit, width });
        }
        found.entry(name).or_insert(structure);
    }
    Some(found)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(<[u8; 4]>::try_from(bytes).ok()?))
}

fn string(strings: &[u8], offset: u32) -> Option<&str> {
    let tail = strings.get(usize::try_from(offset).ok()?..)?;
    let end = tail.iter().position(|&byte| byte == 0)?;
    str::from_utf8(tail.get(..end)?).ok()
}
