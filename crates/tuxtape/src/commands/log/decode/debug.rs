//! Debug information of one ELF file: a kernel image or a module.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use gimli::{EndianArcSlice, RunTimeEndian};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationKind, RelocationTarget,
    SectionIndex, SymbolKind,
};
use tuxtape_klog::report::Frame;

type Reader = EndianArcSlice<RunTimeEndian>;

/// How far kallsyms may see a function end behind its symbol's end: it knows the next symbol alone.
const PADDING: u64 = 64;
/// A section of a module is put here, times its number: in the file all begin at 0.
const SECTION_STRIDE: u64 = 1 << 32;

/// One file.
pub(super) struct Debug {
    context: addr2line::Context<Reader>,
    functions: HashMap<String, Vec<(u64, u64)>>,
    build_id: Option<String>,
}

/// One place in the source.
pub(super) struct Place {
    pub(super) function: String,
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) inlined: bool,
}

impl Debug {
    /// Reads a file.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let what = || format!("could not read {}", path.display());
        let bytes = fs::read(path).with_context(what)?;
        let file = object::File::parse(bytes.as_slice()).with_context(what)?;
        let build_id = file.build_id().ok().flatten().map(hex::encode);
        let bases = bases(&file);
        let mut functions: HashMap<String, Vec<(u64, u64)>> = HashMap::new();
        for symbol in file.symbols() {
            if symbol.kind() != SymbolKind::Text {
                continue;
            }
            let base = symbol
                .section_index()
                .and_then(|index| bases.get(&index))
                .copied()
                .unwrap_or(0);
            if let Ok(name) = symbol.name() {
                functions
                    .entry(name.to_owned())
                    .or_default()
                    .push((base + symbol.address(), symbol.size()));
            }
        }
        let endian = if file.is_little_endian() {
            RunTimeEndian::Little
        } else {
            RunTimeEndian::Big
        };
        let dwarf = gimli::Dwarf::load(|id| -> anyhow::Result<Reader> {
            let data = section(&file, id.name(), &bases)?;
            Ok(EndianArcSlice::new(data.into(), endian))
        })
        .with_context(what)?;
        let context = addr2line::Context::from_dwarf(dwarf)
            .with_context(|| format!("{}: damaged debug information", path.display()))?;
        Ok(Self {
            context,
            functions,
            build_id,
        })
    }

    /// Returns the source lines of a frame, the innermost inlined function first. `exact`: its
    /// address is the instruction's own, not where a call returns to.
    pub(super) fn places(&self, frame: &Frame, exact: bool) -> Result<Vec<Place>, String> {
        if let (Some(want), Some(have)) = (&frame.build_id, &self.build_id)
            && want != have
        {
            return Err(format!("build id {have}, the log says {want}"));
        }
        let name = frame.function.as_deref().unwrap_or_default();
        let (Some(offset), Some(size)) = (frame.offset, frame.size) else {
            return Err("the log does not say where in the function".to_owned());
        };
        let all = self
            .functions
            .get(name)
            .ok_or_else(|| format!("no function {name} in the debug information"))?;
        let fits = |symbol: u64| symbol <= size && size <= symbol + PADDING;
        let mut fitting = all.iter().filter(|(_, symbol)| fits(*symbol));
        let Some((start, _)) = fitting.next() else {
            return Err(format!(
                "{name} has another size here: this is another build"
            ));
        };
        if fitting.next().is_some() {
            return Err(format!("several functions are called {name}"));
        }
        let address = start + offset - u64::from(!exact && offset > 0);
        self.at(address).map_err(|error| error.to_string())
    }

    fn at(&self, address: u64) -> Result<Vec<Place>, gimli::Error> {
        let mut frames = self.context.find_frames(address).skip_all_loads()?;
        let mut places = Vec::new();
        // As many as there are functions inlined into one another.
        while let Some(frame) = frames.next()? {
            let function = match &frame.function {
                Some(function) => function.raw_name()?.into_owned(),
                None => "?".to_owned(),
            };
            let (file, line) = frame.location.map_or(("?", 0), |location| {
                (location.file.unwrap_or("?"), location.line.unwrap_or(0))
            });
            places.push(Place {
                function,
                file: file.to_owned(),
                line,
                inlined: true,
            });
        }
        if let Some(outermost) = places.last_mut() {
            outermost.inlined = false;
        }
        Ok(places)
    }
}

/// Where each section of a module is put, so that addresses tell them apart.
fn bases(file: &object::File<'_>) -> HashMap<SectionIndex, u64> {
    if file.kind() != object::ObjectKind::Relocatable {
        return HashMap::new();
    }
    file.sections()
        .map(|section| {
            let index = section.index();
            (index, SECTION_STRIDE * (index.0 as u64 + 1))
        })
        .collect()
}

/// The bytes of a debug section, unpacked, and in a module with its relocations done.
fn section(
    file: &object::File<'_>,
    name: &str,
    bases: &HashMap<SectionIndex, u64>,
) -> anyhow::Result<Vec<u8>> {
    let Some(section) = file.section_by_name(name) else {
        return Ok(Vec::new());
    };
    let mut data = section
        .uncompressed_data()
        .with_context(|| format!("could not unpack its section {name}"))?
        .into_owned();
    if bases.is_empty() {
        return Ok(data);
    }
    for (offset, relocation) in section.relocations() {
        let RelocationTarget::Symbol(index) = relocation.target() else {
            continue;
        };
        if relocation.kind() != RelocationKind::Absolute {
            continue;
        }
        let symbol = file.symbol_by_index(index)?;
        // Offsets into debug sections stay as they are; addresses of code get their section's place.
        let debug = symbol
            .section_index()
            .and_then(|index| file.section_by_index(index).ok())
            .is_some_and(|section| section.name().is_ok_and(|name| name.starts_with(".debug")));
        let base = symbol
            .section_index()
            .filter(|_| !debug)
            .and_then(|index| bases.get(&index))
            .copied()
            .unwrap_or(0);
        let value = base
            .wrapping_add(symbol.address())
            .wrapping_add_signed(relocation.addend());
        let width = usize::from(relocation.size() / 8);
        let start = usize::try_from(offset)?;
        let Some(place) = data.get_mut(start..start.saturating_add(width)) else {
            continue;
        };
        let bytes = value.to_le_bytes();
        if let Some(low) = bytes.get(..width) {
            if file.is_little_endian() {
                place.copy_from_slice(low);
            } else {
                place.copy_from_slice(&value.to_be_bytes()[8 - width..]);
            }
        }
    }
    Ok(data)
}
