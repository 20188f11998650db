//! `Module.symvers`: what a kernel and its modules export, with CRCs.

use std::collections::BTreeMap;

use tuxtape_core::identity::ObjectName;

use crate::elf::ElfFile;

#[cfg(test)]
mod tests;

/// A larger file is refused; a distribution's kernel has about 2 MB.
pub const SIZE_LIMIT: usize = 64 << 20;

/// Who may use an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExportType {
    /// `EXPORT_SYMBOL`: any module.
    Any,
    /// `EXPORT_SYMBOL_GPL`: modules under a compatible licence.
    Gpl,
}

/// One exported symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Checksum of its type, compared when a module is loaded.
    pub crc: u32,
    /// Which object exports it.
    pub object: ObjectName,
    /// Who may use it.
    pub export_type: ExportType,
    /// The namespace a user must import, if any.
    pub namespace: Option<String>,
}

/// Every export, by symbol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symvers {
    /// Exports by symbol name.
    pub exports: BTreeMap<String, Export>,
}

/// Why a file is not a `Module.symvers`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedSymvers {
    /// It is larger than [`SIZE_LIMIT`].
    #[error("Module.symvers has {0} bytes, the limit is {SIZE_LIMIT}")]
    Size(usize),
    /// A line cannot be read.
    #[error("Module.symvers line {line}: {why}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Symvers {
    /// Reads the tab-separated lines `CRC SYMBOL OBJECT TYPE NAMESPACE`; kernels before 5.4 leave out the
    /// last column.
    pub fn parse(bytes: &[u8]) -> Result<Self, MalformedSymvers> {
        if bytes.len() > SIZE_LIMIT {
            return Err(MalformedSymvers::Size(bytes.len()));
        }
        let mut exports = BTreeMap::new();
        for (line, text) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            if text.is_empty() {
                continue;
            }
            let wrong = |why| MalformedSymvers::Line { line, why };
            let text = str::from_utf8(text).map_err(|_| wrong("not UTF-8"))?;
            let (symbol, export) = read_line(text).map_err(wrong)?;
            if exports.insert(symbol.to_owned(), export).is_some() {
                return Err(wrong("symbol exported twice"));
            }
        }
        Ok(Self { exports })
    }

    /// The export called `symbol`.
    pub fn get(&self, symbol: &str) -> Option<&Export> {
        self.exports.get(symbol)
    }
}

/// What a compiled unit exports, by the marks that the kernel's macros leave: an entry of the list of
/// exports, or since Linux 6.5 a note for modpost, which makes that entry.
pub fn exported<'data>(unit: &ElfFile<'data>) -> impl Iterator<Item = &'data str> {
    unit.symbols().iter().filter_map(|symbol| {
        let name = symbol.name.strip_prefix("__ksymtab_");
        name.or_else(|| symbol.name.strip_prefix("__export_symbol_"))
    })
}

fn read_line(text: &str) -> Result<(&str, Export), &'static str> {
    let mut columns = text.split('\t');
    let mut next = |why| {
        columns
            .next()
            .filter(|column| !column.is_empty())
            .ok_or(why)
    };
    let crc = next("no CRC")?
        .strip_prefix("0x")
        .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or("CRC is not a hexadecimal number of 32 bits")?;
    let symbol = next("no symbol")?;
    let object = next("no object")?;
    let export_type = match next("no export type")? {
        "EXPORT_SYMBOL" => ExportType::Any,
        "EXPORT_SYMBOL_GPL" => ExportType::Gpl,
        _ => return Err("unknown export type"),
    };
    let namespace = columns.next().filter(|column| !column.is_empty());
    if columns.next().is_some() {
        return Err("more than five columns");
    }
    Ok((
        symbol,
        Export {
            crc,
            object: object_name(object),
            export_type,
            namespace: namespace.map(str::to_owned),
        },
    ))
}

/// Modules are named by path below the kernel tree: `fs/xfs/xfs`, `sound/core/snd-pcm`.
fn object_name(path: &str) -> ObjectName {
    let base = path.rsplit('/').next().unwrap_or(path);
    ObjectName(base.replace('-', "_"))
}

/// Reads `bytes`; for fuzzing. Never panics.
pub fn read_everything(bytes: &[u8]) {
    Symvers::parse(bytes).ok();
}
