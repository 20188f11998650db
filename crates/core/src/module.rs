//! A small bounded reader of what a kernel module says of itself.
//!
//! It reads only `.modinfo` and the GNU build-id note of a 64-bit little-endian relocatable file,
//! enough to tell whether a module is a livepatch for one build of one kernel. It does not say that
//! the kernel would accept the module.

use std::collections::BTreeMap;

use crate::identity::{Arch, BuildId};

/// Key of the `.modinfo` field that binds a livepatch to the vmlinux it was made for.
///
/// Its value is the GNU build-id of that vmlinux in lower-case hex. Kernels ignore the field.
pub const KERNEL_BUILD_ID: &str = "tuxtape_kernel_build_id";

/// Bytes a module's name may have: the kernel's `MODULE_NAME_LEN` less the closing NUL.
pub const NAME_LIMIT: usize = 55;

const SECTION_LIMIT: usize = 16_384;
const MODINFO_LIMIT: usize = 64 * 1024;
const NOTE_LIMIT: usize = 4096;

/// What a module says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleIdentity {
    /// Machine it was compiled for.
    pub arch: Arch,
    /// Name it gets in `/sys/module`.
    pub name: String,
    /// The whole version magic, with its trailing blank.
    pub vermagic: String,
    /// Whether `livepatch=Y` is set, without which the kernel refuses livepatch relocations.
    pub livepatch: bool,
    /// Licence text; absent counts as proprietary in the kernel.
    pub license: Option<String>,
    /// Source digest, present only in some configurations.
    pub srcversion: Option<String>,
    /// GNU build-id of the module itself.
    pub build_id: BuildId,
    /// Build-id of the vmlinux it was made for, from [`KERNEL_BUILD_ID`].
    pub kernel_build_id: Option<BuildId>,
}

impl ModuleIdentity {
    /// Returns the first word of the version magic, which is the `uname -r` it was compiled for.
    pub fn release(&self) -> &str {
        self.vermagic.split(' ').next().unwrap_or_default()
    }
}

/// Why bytes are no readable module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// No ELF file, or one of another class or byte order.
    #[error("not a 64-bit little-endian ELF file")]
    NotElf,
    /// ELF, but linked or a core.
    #[error("not a relocatable file (ELF type {0})")]
    NotRelocatable(u16),
    /// Compiled for another machine.
    #[error("compiled for another machine (ELF machine {0})")]
    Machine(u16),
    /// A table or section reaches past the end of the file.
    #[error("truncated: {0} reaches past the end of the file")]
    Truncated(&'static str),
    /// Two sections share bytes of the file.
    #[error("sections {0} and {1} overlap")]
    Overlap(usize, usize),
    /// A count or length beyond what modules have.
    #[error("{0} is too large")]
    TooLarge(&'static str),
    /// A needed section is missing or there twice.
    #[error("section {0} is missing or there twice")]
    Section(&'static str),
    /// A needed field is missing.
    #[error("modinfo has no field {0}")]
    NoField(&'static str),
    /// A field is there twice, so two readers could see different values.
    #[error("modinfo has the field {0} twice")]
    TwiceField(String),
    /// A field or note is malformed.
    #[error("{0} is malformed")]
    Malformed(&'static str),
}

/// Reads the identity of the module in `bytes`, with or without an appended signature.
pub fn read(bytes: &[u8]) -> Result<ModuleIdentity, ModuleError> {
    let arch = check_header(bytes)?;
    let sections = sections(bytes)?;
    let modinfo = one(&sections, ".modinfo")?;
    if modinfo.len() > MODINFO_LIMIT {
        return Err(ModuleError::TooLarge(".modinfo"));
    }
    let fields = fields(modinfo)?;
    let needed = |key: &'static str| fields.get(key).cloned().ok_or(ModuleError::NoField(key));
    let name = needed("name")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.len() > NAME_LIMIT || !name.chars().all(plain) {
        return Err(ModuleError::Malformed("the module's name"));
    }
    let kernel_build_id = fields
        .get(KERNEL_BUILD_ID)
        .map(|text| text.parse())
        .transpose()
        .map_err(|_| ModuleError::Malformed(KERNEL_BUILD_ID))?;
    let note = one(&sections, ".note.gnu.build-id")?;
    if note.len() > NOTE_LIMIT {
        return Err(ModuleError::TooLarge(".note.gnu.build-id"));
    }
    Ok(ModuleIdentity {
        arch,
        name,
        vermagic: needed("vermagic")?,
        livepatch: fields.get("livepatch").is_some_and(|value| value == "Y"),
        license: fields.get("license").cloned(),
        srcversion: fields.get("srcversion").cloned(),
        build_id: gnu_build_id(note).ok_or(ModuleError::Malformed(".note.gnu.build-id"))?,
        kernel_build_id,
    })
}

/// Finds the GNU build-id in a run of ELF notes, such as `/sys/kernel/notes`.
///
/// Notes of other owners (Xen, Linux) stand in the same file and are skipped. `None` when there is no
/// build-id, when the notes are malformed before it, or when two differ.
pub fn gnu_build_id(notes: &[u8]) -> Option<BuildId> {
    const NT_GNU_BUILD_ID: u32 = 3;
    let mut rest = notes;
    let mut found = None;
    while rest.len() >= 12 {
        let name_len = usize::try_from(word(rest, 0)?).ok()?;
        let value_len = usize::try_from(word(rest, 4)?).ok()?;
        let kind = word(rest, 8)?;
        let name_end = name_len.checked_add(12)?;
        let value_start = name_end.checked_next_multiple_of(4)?;
        let value_end = value_start.checked_add(value_len)?;
        let name = rest.get(12..name_end)?;
        let value = rest.get(value_start..value_end)?;
        if name == b"GNU\0" && kind == NT_GNU_BUILD_ID {
            let id = BuildId::from_bytes(value).ok()?;
            if found.as_ref().is_some_and(|other| *other != id) {
                return None;
            }
            found = Some(id);
        }
        // The last note may come without its padding.
        rest = rest
            .get(value_end.checked_next_multiple_of(4)?..)
            .unwrap_or_default();
    }
    found
}

fn check_header(bytes: &[u8]) -> Result<Arch, ModuleError> {
    const RELOCATABLE: u16 = 1;
    const X86_64: u16 = 62;
    if bytes.get(..6) != Some(b"\x7fELF\x02\x01") || bytes.len() < 64 {
        return Err(ModuleError::NotElf);
    }
    let kind = half(bytes, 16).ok_or(ModuleError::NotElf)?;
    if kind != RELOCATABLE {
        return Err(ModuleError::NotRelocatable(kind));
    }
    match half(bytes, 18).ok_or(ModuleError::NotElf)? {
        X86_64 => Ok(Arch::X86_64),
        other => Err(ModuleError::Machine(other)),
    }
}

/// Name and bytes of a section.
type Section<'a> = (&'a [u8], &'a [u8]);

/// Returns every section, after checking that none overlap.
fn sections(bytes: &[u8]) -> Result<Vec<Section<'_>>, ModuleError> {
    const NOBITS: u32 = 8;
    const HEADER: usize = 64;
    let table = offset(bytes, 40).ok_or(ModuleError::Truncated("section table"))?;
    let entry = half(bytes, 58).ok_or(ModuleError::NotElf)?;
    let count = usize::from(half(bytes, 60).ok_or(ModuleError::NotElf)?);
    let names_index = usize::from(half(bytes, 62).ok_or(ModuleError::NotElf)?);
    if usize::from(entry) != HEADER {
        return Err(ModuleError::Malformed("section table"));
    }
    if count > SECTION_LIMIT {
        return Err(ModuleError::TooLarge("section table"));
    }
    let header = |index: usize| {
        let start = index.checked_mul(HEADER)?.checked_add(table)?;
        bytes.get(start..start.checked_add(HEADER)?)
    };
    let mut ranges = Vec::new();
    for index in 0..count {
        let header = header(index).ok_or(ModuleError::Truncated("section table"))?;
        let truncated = || ModuleError::Truncated("section");
        let kind = word(header, 4).ok_or_else(truncated)?;
        let start = offset(header, 24).ok_or_else(truncated)?;
        let size = offset(header, 32).ok_or_else(truncated)?;
        // Index 0 is the null section; NOBITS has no bytes in the file.
        let range = if index == 0 || kind == NOBITS {
            0..0
        } else {
            start..start.checked_add(size).ok_or_else(truncated)?
        };
        if bytes.get(range.clone()).is_none() {
            return Err(truncated());
        }
        ranges.push((word(header, 0).ok_or_else(truncated)?, range));
    }
    let mut order: Vec<usize> = (0..ranges.len())
        .filter(|&index| {
            ranges
                .get(index)
                .is_some_and(|(_, range)| !range.is_empty())
        })
        .collect();
    order.sort_by_key(|&index| ranges.get(index).map_or(0, |(_, range)| range.start));
    for pair in order.windows(2) {
        let &[left, right] = pair else { continue };
        let end = ranges.get(left).map_or(0, |(_, range)| range.end);
        let start = ranges.get(right).map_or(0, |(_, range)| range.start);
        if start < end {
            return Err(ModuleError::Overlap(left, right));
        }
    }
    let names = ranges
        .get(names_index)
        .and_then(|(_, range)| bytes.get(range.clone()))
        .ok_or(ModuleError::Truncated("section names"))?;
    ranges
        .iter()
        .map(|(name, range)| {
            let name = usize::try_from(*name)
                .ok()
                .and_then(|start| names.get(start..))
                .and_then(|tail| tail.split(|&byte| byte == 0).next())
                .ok_or(ModuleError::Truncated("section names"))?;
            Ok((name, bytes.get(range.clone()).unwrap_or_default()))
        })
        .collect()
}

fn one<'a>(sections: &[Section<'a>], name: &'static str) -> Result<&'a [u8], ModuleError> {
    let mut found = sections
        .iter()
        .filter(|(other, _)| *other == name.as_bytes());
    match (found.next(), found.next()) {
        (Some((_, bytes)), None) => Ok(bytes),
        (Some(_) | None, _) => Err(ModuleError::Section(name)),
    }
}

/// Splits `.modinfo` into its fields. Fields that may repeat by nature (`alias`, `author`, …) are
/// left out.
fn fields(modinfo: &[u8]) -> Result<BTreeMap<String, String>, ModuleError> {
    const READ: [&str; 6] = [
        "name",
        "vermagic",
        "livepatch",
        "license",
        "srcversion",
        KERNEL_BUILD_ID,
    ];
    let mut fields = BTreeMap::new();
    for entry in modinfo.split(|&byte| byte == 0) {
        let Some(equals) = entry.iter().position(|&byte| byte == b'=') else {
            continue;
        };
        let (key, value) = entry.split_at(equals);
        let Some(key) = READ.iter().find(|known| known.as_bytes() == key) else {
            continue;
        };
        let value = value.get(1..).unwrap_or_default();
        let text = std::str::from_utf8(value).map_err(|_| ModuleError::Malformed(".modinfo"))?;
        if !text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
            return Err(ModuleError::Malformed(".modinfo"));
        }
        if fields.insert((*key).to_owned(), text.to_owned()).is_some() {
            return Err(ModuleError::TwiceField((*key).to_owned()));
        }
    }
    Ok(fields)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(field.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

fn offset(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    usize::try_from(u64::from_le_bytes(field.try_into().ok()?)).ok()
}

/// Reads anything as a module and as notes; for fuzzing.
pub fn fuzz(bytes: &[u8]) {
    read(bytes).ok();
    gnu_build_id(bytes);
}

/// Makes small modules for tests of this and other crates: real ELF, no code.
pub mod sample {
    /// Builds a relocatable file with the given `.modinfo` fields and GNU build-id.
    pub fn module(fields: &[(&str, &str)], build_id: &[u8]) -> Vec<u8> {
        let mut modinfo = Vec::new();
        for (key, value) in fields {
            modinfo.extend_from_slice(format!("{key}={value}\0").as_bytes());
        }
        let mut file = vec![0; 64];
        let names = b"\0.modinfo\0.note.gnu.build-id\0.shstrtab\0";
        let note = note(b"GNU\0", 3, build_id);
        let mut headers = vec![0; 64];
        for (name, kind, bytes) in [(1u32, 1u32, &modinfo[..]), (10, 7, &note), (29, 3, names)] {
            file.resize(file.len().next_multiple_of(4), 0);
            let mut header = [0; 64];
            header[0..4].copy_from_slice(&name.to_le_bytes());
            header[4..8].copy_from_slice(&kind.to_le_bytes());
            header[24..32].copy_from_slice(&(file.len() as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
            headers.extend_from_slice(&header);
            file.extend_from_slice(bytes);
        }
        file.resize(file.len().next_multiple_of(8), 0);
        let table = file.len() as u64;
        file.extend_from_slice(&headers);
        file[0..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[16..20].copy_from_slice(&[1, 0, 62, 0]);
        file[40..48].copy_from_slice(&table.to_le_bytes());
        file[58..64].copy_from_slice(&[64, 0, 4, 0, 3, 0]);
        file
    }

    /// Builds one ELF note, padded to four bytes.
    pub fn note(owner: &[u8], kind: u32, value: &[u8]) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut note = Vec::new();
        note.extend_from_slice(&length(owner));
        note.extend_from_slice(&length(value));
        note.extend_from_slice(&kind.to_le_bytes());
        for part in [owner, value] {
            note.extend_from_slice(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [(&str, &str); 5] = [
        ("license", "GPL"),
        ("livepatch", "Y"),
        ("name", "tt_2f4c1d0a_1"),
        (
            "vermagic",
            "6.1.0-47-cloud-amd64 SMP preempt mod_unload modversions ",
        ),
        (KERNEL_BUILD_ID, "2f4c1d0a9b33"),
    ];

    #[test]
    fn a_module_tells_what_it_is_for() {
        let identity = read(&sample::module(&FIELDS, &[0x77; 20])).unwrap();
        assert_eq!(identity.release(), "6.1.0-47-cloud-amd64");
        assert!(identity.vermagic.ends_with(' '));
        assert!(identity.livepatch);
        assert_eq!(identity.kernel_build_id, "2f4c1d0a9b33".parse().ok());
        assert_eq!(identity.build_id, BuildId::from_bytes(&[0x77; 20]).unwrap());
    }

    #[test]
    fn a_field_given_twice_is_refused() {
        let mut fields = FIELDS.to_vec();
        fields.push((KERNEL_BUILD_ID, "00"));
        assert_eq!(
            read(&sample::module(&fields, &[1; 20])),
            Err(ModuleError::TwiceField(KERNEL_BUILD_ID.to_owned()))
        );
    }

    #[test]
    fn another_machine_is_refused() {
        let mut bytes = sample::module(&FIELDS, &[1; 20]);
        bytes[18] = 183;
        assert_eq!(read(&bytes), Err(ModuleError::Machine(183)));
    }

    #[test]
    fn overlapping_sections_are_refused() {
        let mut bytes = sample::module(&FIELDS, &[1; 20]);
        let table = bytes.len() - 4 * 64;
        // The note section now starts where .modinfo starts.
        bytes.copy_within(table + 64 + 24..table + 64 + 32, table + 128 + 24);
        assert!(matches!(read(&bytes), Err(ModuleError::Overlap(_, _))));
    }

    #[test]
    fn no_prefix_of_a_module_is_read_as_one() {
        let bytes = sample::module(&FIELDS, &[1; 20]);
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn no_changed_byte_makes_the_reader_panic() {
        let bytes = sample::module(&FIELDS, &[1; 20]);
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                read(&changed).ok();
            }
        }
    }

    #[test]
    fn the_build_id_is_found_among_other_owners_notes() {
        let mut notes = sample::note(b"Xen\0", 6, b"linux\0");
        notes.extend(sample::note(b"GNU\0", 3, &[0xab; 20]));
        notes.extend(sample::note(b"Linux\0", 0x101, &[0; 4]));
        assert_eq!(gnu_build_id(&notes), BuildId::from_bytes(&[0xab; 20]).ok());
        notes.extend(sample::note(b"GNU\0", 3, &[0xcd; 20]));
        assert_eq!(gnu_build_id(&notes), None, "two that differ are no answer");
        assert_eq!(gnu_build_id(&sample::note(b"Xen\0", 3, &[1; 20])), None);
    }
}
