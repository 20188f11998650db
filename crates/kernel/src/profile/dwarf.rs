//! What the debug data of one linked object says of its making: compiled units, the files that gave
//! them code, functions, build-id and compiler.

mod functions;
mod relocations;

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use gimli::{EndianSlice, LittleEndian, Reader as _, RelocateReader, SectionId};
use object::elf;
use object::read::elf::{ElfFile64, FileHeader as _, Sym as _};
use object::{Object as _, ObjectSection as _};
use rayon::prelude::*;
use tuxtape_core::applicability::loaded::ModuleFacts;
use tuxtape_core::identity::BuildId;
use tuxtape_core::profile::functions::UnitFunctions;

use self::relocations::Relocations;
use crate::aliases;

/// Largest debug section that is decompressed, in bytes.
const SECTION_LIMIT: u64 = 1 << 30;

/// Facts of one linked object. Paths are as the compiler wrote them; see [`super::paths`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// The GNU build-id note, where there is one.
    pub build_id: Option<BuildId>,
    /// The strings of `.comment`: one per compiler that made a unit.
    pub compilers: BTreeSet<String>,
    /// Compiled units, assembly too.
    pub units: BTreeSet<Written>,
    /// Files other than the unit itself that gave it code (a row in its line table), and every `.c`
    /// file it took in, with code or with data alone.
    pub contributors: BTreeSet<Written>,
    /// Defined function symbols.
    pub functions: u64,
    /// The functions of each unit, also under the name of every `.c` file it took in; `None` where
    /// they could not all be told: assembly, Rust, code that was optimised across units.
    pub tables: BTreeMap<Written, Option<UnitFunctions>>,
    /// How it is loaded, for a module.
    pub loading: ModuleFacts,
}

/// A path as the compiler wrote it, with the folder it worked in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Written {
    /// `DW_AT_comp_dir`, or empty.
    pub folder: String,
    /// Relative to `folder`, to the top of the tree, or absolute.
    pub path: String,
}

/// Why the debug data could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DwarfError {
    /// It is no 64-bit x86 ELF file, or a table of it is damaged.
    #[error("malformed object: {0}")]
    Elf(#[from] object::read::Error),
    /// Its architecture is another.
    #[error("an object for machine {machine}, want x86-64")]
    Machine {
        /// The ELF machine number.
        machine: u16,
    },
    /// A debug section is damaged.
    #[error("malformed debug data: {0}")]
    Dwarf(#[from] gimli::Error),
    /// It was stripped, or built without debug data.
    #[error("it has no debug data")]
    Stripped,
    /// It was stripped, and names the file its debug data went to.
    #[error("its debug data is in {file}, which is not read along with it")]
    Linked {
        /// The file name in `.gnu_debuglink`.
        file: String,
    },
    /// Most of its debug data lies in `.dwo` or `.dwp` files.
    #[error(
        "its debug data is split: that of {unit} is in a .dwo file, which is not read (build without CONFIG_DEBUG_INFO_SPLIT)"
    )]
    Split {
        /// The first such unit, or its `.dwo` file.
        unit: String,
    },
    /// Texts of its debug data lie in a file of `dwz`.
    #[error("its debug data was shared out by dwz to {file}, which is not read")]
    Shared {
        /// The file name in `.gnu_debugaltlink`.
        file: String,
    },
    /// A section would unpack to more than is read.
    #[error("section {section} would unpack to {size} bytes, limit {SECTION_LIMIT}")]
    TooLarge {
        /// Section name.
        section: &'static str,
        /// Its unpacked size in bytes.
        size: u64,
    },
    /// A unit without a name.
    #[error("the unit at {offset:#x} of .debug_info has no name")]
    Nameless {
        /// Where its header starts.
        offset: u64,
    },
}

type Elf<'a> = ElfFile64<'a, object::LittleEndian>;
type Input<'a> = RelocateReader<EndianSlice<'a, LittleEndian>, Relocations<'a>>;

/// Reads the debug data of one object: a vmlinux or a `.ko`.
///
/// `bytes` should be a memory map: little of it is touched. Units are read in parallel.
pub fn read(bytes: &[u8]) -> Result<Compiled, DwarfError> {
    let file = Elf::parse(bytes)?;
    let endian = file.endian();
    let machine = file.elf_header().e_machine(endian);
    if machine != elf::EM_X86_64 {
        return Err(DwarfError::Machine { machine: machine.0 });
    }
    let build_id = file
        .build_id()?
        .and_then(|bytes| BuildId::from_bytes(bytes).ok());
    if let Some((file, _)) = file.gnu_debugaltlink()? {
        let file = String::from_utf8_lossy(file).into_owned();
        return Err(DwarfError::Shared { file });
    }
    let sections = Sections::unpack(&file)?;
    let relocations = |id| -> Result<Relocations<'_>, DwarfError> { Relocations::of(&file, id) };
    let dwarf = gimli::Dwarf::load(|id| -> Result<Input<'_>, DwarfError> {
        let slice = EndianSlice::new(sections.get(id), LittleEndian);
        Ok(RelocateReader::new(slice, relocations(id)?))
    })?;
    if sections.get(SectionId::DebugInfo).is_empty() {
        return Err(match file.gnu_debuglink()? {
            Some((file, _)) => DwarfError::Linked {
                file: String::from_utf8_lossy(file).into_owned(),
            },
            None => DwarfError::Stripped,
        });
    }
    let mut headers = Vec::new();
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        headers.push(header);
    }
    let found = headers
        .into_par_iter()
        .map(|header| unit(&dwarf, header))
        .try_fold(Found::default, |all, one| Ok(all.with(one?)))
        .try_reduce(Found::default, |left, right| {
            Ok::<_, DwarfError>(left.with(right))
        })?;
    Ok(Compiled {
        build_id,
        compilers: comment(&file),
        units: found.units,
        contributors: found.contributors,
        functions: defined(&file),
        tables: found.tables,
        loading: loading(&file),
    })
}

/// What units gave.
#[derive(Default)]
struct Found {
    units: BTreeSet<Written>,
    contributors: BTreeSet<Written>,
    tables: BTreeMap<Written, Option<UnitFunctions>>,
}

impl Found {
    fn with(mut self, other: Self) -> Self {
        self.units.extend(other.units);
        self.contributors.extend(other.contributors);
        for (unit, table) in other.tables {
            join(&mut self.tables, unit, table);
        }
        self
    }
}

/// Adds the functions of a unit to those of another of the same name: where one could not be told,
/// both cannot.
pub(super) fn join<K: Ord>(
    tables: &mut BTreeMap<K, Option<UnitFunctions>>,
    unit: K,
    table: Option<UnitFunctions>,
) {
    match tables.entry(unit) {
        Entry::Vacant(place) => {
            place.insert(table);
        }
        Entry::Occupied(mut place) => {
            let both = place.get_mut().take().zip(table).map(|(mut one, other)| {
                one.own.extend(other.own);
                one.inlined.extend(other.inlined);
                one
            });
            *place.get_mut() = both;
        }
    }
}

/// Debug sections, borrowed from the file or unpacked.
struct Sections<'a>(Vec<(SectionId, Cow<'a, [u8]>)>);

impl<'a> Sections<'a> {
    const WANTED: [SectionId; 5] = [
        SectionId::DebugInfo,
        SectionId::DebugAbbrev,
        SectionId::DebugLine,
        SectionId::DebugStr,
        SectionId::DebugLineStr,
    ];

    fn unpack(file: &Elf<'a>) -> Result<Self, DwarfError> {
        let mut sections = Vec::new();
        for id in Self::WANTED {
            let Some(section) = file.section_by_name(id.name()) else {
                continue;
            };
            let packed = section.compressed_data()?;
            let size = packed.uncompressed_size;
            if packed.format != object::CompressionFormat::None && size > SECTION_LIMIT {
                let section = id.name();
                return Err(DwarfError::TooLarge { section, size });
            }
            sections.push((id, packed.decompress()?));
        }
        Ok(Self(sections))
    }

    fn get(&self, id: SectionId) -> &[u8] {
        self.0
            .iter()
            .find(|(known, _)| *known == id)
            .map_or(&[], |(_, bytes)| bytes)
    }
}

fn unit<'a>(
    dwarf: &gimli::Dwarf<Input<'a>>,
    header: gimli::UnitHeader<Input<'a>>,
) -> Result<Found, DwarfError> {
    let mut files = Found::default();
    match header.type_() {
        gimli::UnitType::Compilation => {}
        // What is left of a unit beside its `.dwo` file says nothing of what it is made of.
        gimli::UnitType::Skeleton(_) | gimli::UnitType::SplitCompilation(_) => {
            return Err(DwarfError::Split {
                unit: format!("unit {:#x}", offset_of(&header)),
            });
        }
        gimli::UnitType::Type { .. }
        | gimli::UnitType::Partial
        | gimli::UnitType::SplitType { .. } => return Ok(files),
    }
    let offset = offset_of(&header);
    let unit = dwarf.unit(header)?;
    // Before DWARF 5 the compiler's own extension says the same.
    if unit.dwo_id.is_some() {
        let name = unit.dwo_name()?;
        let name = name.and_then(|name| dwarf.attr_string(&unit, name).ok());
        let name = name.and_then(|name| Some(name.to_string_lossy().ok()?.into_owned()));
        return Err(DwarfError::Split {
            unit: name.unwrap_or_else(|| format!("unit {offset:#x}")),
        });
    }
    let text = |bytes: &Input<'a>| -> Result<String, DwarfError> {
        Ok(bytes.to_string_lossy()?.into_owned())
    };
    let name = unit.name.as_ref().ok_or(DwarfError::Nameless { offset })?;
    let written = Written {
        folder: unit
            .comp_dir
            .as_ref()
            .map(text)
            .transpose()?
            .unwrap_or_default(),
        path: text(name)?,
    };
    if let Some(program) = unit.line_program.clone() {
        let mut coded = BTreeSet::new();
        let mut rows = program.rows();
        while let Some((_, row)) = rows.next_row()? {
            if !row.end_sequence() {
                coded.insert(row.file_index());
            }
        }
        let header = rows.header();
        // Version 5 counts files from 0, older ones from 1; `file` takes either.
        for index in 0..=header.file_names().len() as u64 {
            let Some(file) = header.file(index) else {
                continue;
            };
            let name = text(&dwarf.attr_string(&unit, file.path_name())?)?;
            // A file named only for its declarations gave no code; but a `.c` is taken in for what
            // it defines, and tables leave no rows.
            let source = name.rsplit_once('.').is_some_and(|(_, end)| end == "c");
            if !coded.contains(&index) && !source {
                continue;
            }
            let folder = match file.directory(header) {
                Some(folder) => text(&dwarf.attr_string(&unit, folder)?)?,
                None => String::new(),
            };
            let path = if name.starts_with('/') || folder.is_empty() {
                name
            } else {
                format!("{folder}/{name}")
            };
            if path != written.path {
                files.contributors.insert(Written {
                    folder: written.folder.clone(),
                    path,
                });
            }
        }
    }
    // Where these entries are damaged the rest still holds: only what is said of functions is not
    // known.
    let table = functions::of(dwarf, &unit).unwrap_or(None);
    for included in &files.contributors {
        let end = included.path.rsplit_once('.').map(|(_, end)| end);
        if end == Some("c") {
            files.tables.insert(included.clone(), table.clone());
        }
    }
    files.tables.insert(written.clone(), table);
    files.units.insert(written);
    Ok(files)
}

/// Returns where the unit's header starts in its section.
fn offset_of(header: &gimli::UnitHeader<Input<'_>>) -> u64 {
    header
        .offset()
        .to_debug_info_offset(header)
        .map_or(0, |offset| offset.0 as u64)
}

fn comment(file: &Elf<'_>) -> BTreeSet<String> {
    let bytes = file
        .section_by_name(".comment")
        .and_then(|section| section.data().ok())
        .unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .filter(|text| !text.is_empty())
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect()
}

fn loading(file: &Elf<'_>) -> ModuleFacts {
    let section = file.section_by_name(".modinfo");
    let bytes = section.and_then(|section| section.data().ok());
    bytes.map(aliases::from_modinfo).unwrap_or_default()
}

fn defined(file: &Elf<'_>) -> u64 {
    let endian = file.endian();
    let table = file.elf_symbol_table();
    let defined = table.iter().filter(|symbol| {
        symbol.st_type() == elf::STT_FUNC
            && symbol.st_shndx(endian) != elf::SHN_UNDEF
            // Padding before a function has a symbol of its own in kernels with call padding.
            && !symbol
                .name(endian, table.strings())
                .is_ok_and(|name| name.starts_with(b"__pfx_") || name.starts_with(b"__cfi_"))
    });
    defined.count() as u64
}

/// Entry for fuzzing: reads bytes as an object with debug data.
pub fn fuzz(bytes: &[u8]) {
    read(bytes).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_object_are_an_error() {
        for bytes in [b"".as_slice(), b"\x7fELF", &[0; 4096]] {
            assert!(matches!(read(bytes), Err(DwarfError::Elf(_))));
        }
    }

    /// A real object, its every prefix and many corruptions of it.
    #[test]
    fn a_cut_or_garbled_object_is_read_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("x.c");
        let object = folder.path().join("x.o");
        std::fs::write(&source, "int f(int a) { return a + 1; }\n").unwrap();
        let compiled = std::process::Command::new("gcc")
            .args(["-g", "-O1", "-c", "x.c", "-o", "x.o"])
            .current_dir(folder.path())
            .status();
        if !compiled.is_ok_and(|status| status.success()) {
            eprintln!("skipped: gcc is not here");
            return;
        }
        let whole = std::fs::read(object).unwrap();
        let found = read(&whole).unwrap();
        assert_eq!(found.functions, 1);
        let table = found.tables.into_values().next().flatten().unwrap();
        assert_eq!(table.own, BTreeSet::from(["f".to_owned()]));
        assert_eq!(
            found.units.first().map(|unit| unit.path.as_str()),
            Some("x.c")
        );
        for end in (0..whole.len()).step_by(7) {
            fuzz(&whole[..end]);
        }
        let mut state = 1_u64;
        for _ in 0..2000 {
            let mut bytes = whole.clone();
            for _ in 0..4 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let at = usize::try_from(state >> 33).unwrap() % bytes.len();
                bytes[at] = state.to_le_bytes()[2];
            }
            fuzz(&bytes);
        }
    }

    /// Compiles one unit with `options`, does `then` to it, and returns the object; `None`, aloud,
    /// where a program is missing or does not know an option.
    fn compiled(options: &[&str], then: &[&[&str]]) -> Option<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("x.c"),
            "int f(int a) { return a + 1; }\n",
        )
        .unwrap();
        let compile = [&["gcc"], options, &["-c", "x.c", "-o", "x.o"]].concat();
        for words in [&[compile.as_slice()], then].concat() {
            let (program, arguments) = words.split_first()?;
            let done = std::process::Command::new(program)
                .args(arguments)
                .current_dir(folder.path())
                .output();
            if !done.is_ok_and(|done| done.status.success()) {
                eprintln!("skipped: {words:?} does not run here");
                return None;
            }
        }
        Some(std::fs::read(folder.path().join("x.o")).unwrap())
    }

    #[test]
    fn compressed_debug_data_is_read_in_every_form() {
        for form in ["zlib", "zlib-gnu", "zstd"] {
            let flag = format!("--compress-debug-sections={form}");
            let Some(bytes) = compiled(&["-g", "-O1"], &[&["objcopy", &flag, "x.o"]]) else {
                continue;
            };
            let found = read(&bytes).unwrap_or_else(|error| panic!("{form}: {error}"));
            assert_eq!(found.units.len(), 1, "{form}");
        }
    }

    #[test]
    fn split_debug_data_is_refused_and_not_taken_for_nothing() {
        for version in ["-gdwarf-5", "-gdwarf-4"] {
            let Some(bytes) = compiled(&["-gsplit-dwarf", version], &[]) else {
                continue;
            };
            let outcome = read(&bytes);
            assert!(
                matches!(outcome, Err(DwarfError::Split { .. })),
                "{version}: {outcome:?}"
            );
        }
    }

    #[test]
    fn debug_data_that_lies_elsewhere_is_named() {
        let link: [&[&str]; 3] = [
            &["objcopy", "--only-keep-debug", "x.o", "x.debug"],
            &["objcopy", "--strip-debug", "x.o"],
            &["objcopy", "--add-gnu-debuglink=x.debug", "x.o"],
        ];
        if let Some(bytes) = compiled(&["-g"], &link) {
            let error = read(&bytes).unwrap_err();
            assert!(
                matches!(&error, DwarfError::Linked { file } if file == "x.debug"),
                "{error}"
            );
        }
        if let Some(bytes) = compiled(&[], &[]) {
            assert!(matches!(read(&bytes), Err(DwarfError::Stripped)));
        }
    }

    /// Twins whose bodies the compiler folds into one, a function that is inlined everywhere, one of
    /// which it keeps a cold part, and one that is only declared.
    #[test]
    fn every_function_that_left_code_is_in_the_table() {
        let folder = tempfile::tempdir().unwrap();
        let text = "int elsewhere(int);\n\
            static int inlined(int a) { return elsewhere(a) * 5; }\n\
            static int one(int a) { return elsewhere(a) + 7; }\n\
            static int twin(int a) { return elsewhere(a) + 7; }\n\
            static int unused(int a) { return a; }\n\
            int (*table[])(int) = { one, twin };\n\
            void __attribute__((cold, noinline)) broken(void) { elsewhere(-1); }\n\
            int whole(int a) { if (a < 0) broken(); return inlined(a) + inlined(a + 1); }\n\
            #include \"y.c\"\n";
        std::fs::write(folder.path().join("x.c"), text).unwrap();
        let included = "int included(int a) { return elsewhere(a + 9); }\n";
        std::fs::write(folder.path().join("y.c"), included).unwrap();
        let compiled = std::process::Command::new("gcc")
            .args(["-g", "-O2", "-w", "-c", "x.c", "-o", "x.o"])
            .current_dir(folder.path())
            .status();
        if !compiled.is_ok_and(|status| status.success()) {
            eprintln!("skipped: gcc is not here");
            return;
        }
        let found = read(&std::fs::read(folder.path().join("x.o")).unwrap()).unwrap();
        let table = |name: &str| {
            let mut tables = found.tables.iter();
            let found = tables.find(|(unit, _)| unit.path.ends_with(name));
            found.and_then(|(_, table)| table.clone()).unwrap()
        };
        let UnitFunctions { own, inlined } = table("x.c");
        for name in ["broken", "included", "whole"] {
            assert!(own.contains(name), "{name}");
        }
        for name in ["inlined", "one", "twin"] {
            assert!(own.contains(name) || inlined.contains(name), "{name}");
        }
        for name in ["unused", "elsewhere"] {
            assert!(!own.contains(name) && !inlined.contains(name), "{name}");
        }
        assert_eq!(table("y.c"), table("x.c"));
    }
}
