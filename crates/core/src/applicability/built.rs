//! Whether a file of a record was compiled into a kernel.
//!
//! What a profile sees depends on the way its units were learned; see [`Sureness`]. What it cannot
//! see is `Unknown`, never "not built".

use std::collections::BTreeSet;

use super::{Gap, moved};
use crate::identity::{Arch, ObjectName};
use crate::profile::{KernelProfile, Sureness, Way};

/// What the profile says of a record's files together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Built {
    /// At least one went into these objects.
    Yes {
        /// The files that were compiled, by their places in this kernel's tree.
        files: Vec<String>,
        /// All objects they reached.
        objects: BTreeSet<ObjectName>,
    },
    /// All are known, and none was compiled.
    No {
        /// Each file with the reason.
        files: Vec<String>,
    },
    /// None is known to be compiled, and for this file it cannot be ruled out.
    Unknown {
        /// What is missing.
        gap: Gap,
        /// The file with the reason.
        file: String,
    },
}

/// What the profile says of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum One<'a> {
    Yes(BTreeSet<ObjectName>),
    No(&'static str),
    Unknown(Gap, &'a str),
}

/// Asks the profile about all `files` of one record.
pub fn look(files: &[String], profile: &KernelProfile) -> Built {
    let mut compiled = Vec::new();
    let mut objects = BTreeSet::new();
    let mut not = Vec::new();
    let mut open: Option<(Gap, String)> = None;
    for file in files {
        let place = moved::in_tree(file, &profile.tree_files).unwrap_or(file);
        let name = if place == file {
            file.clone()
        } else {
            format!("{file} (here {place})")
        };
        match one(place, profile) {
            One::Yes(reached) => {
                compiled.push(place.to_owned());
                objects.extend(reached);
            }
            One::No(why) => not.push(format!("{name}: {why}")),
            One::Unknown(gap, why) => {
                // One gap is named; the order of `Gap` puts an absent file first.
                if open.as_ref().is_none_or(|(known, _)| gap < *known) {
                    open = Some((gap, format!("{name}: {why}")));
                }
            }
        }
    }
    match (compiled.is_empty(), open) {
        (false, _) => Built::Yes {
            files: compiled,
            objects,
        },
        (true, Some((gap, file))) => Built::Unknown { gap, file },
        (true, None) if not.is_empty() => Built::Unknown {
            gap: Gap::NoProfile,
            file: "the record names no files".to_owned(),
        },
        (true, None) => Built::No { files: not },
    }
}

impl Built {
    /// Says what was found, for people; long lists are cut.
    pub fn found(&self) -> String {
        const SHOWN: usize = 8;
        let list = |files: &[String]| {
            let shown = files.get(..SHOWN).unwrap_or(files).join("; ");
            match files.len().saturating_sub(SHOWN) {
                0 => shown,
                more => format!("{shown}; and {more} more"),
            }
        };
        match self {
            Self::Yes { files, .. } => format!("compiled: {}", list(files)),
            Self::No { files } => list(files),
            Self::Unknown { file, .. } => file.clone(),
        }
    }
}

fn one<'a>(file: &str, profile: &'a KernelProfile) -> One<'a> {
    let mut objects = BTreeSet::new();
    for known in [&profile.units, &profile.contributors] {
        objects.extend(known.get(file).into_iter().flatten().cloned());
    }
    if !objects.is_empty() {
        return One::Yes(objects);
    }
    if profile.units.is_empty() {
        return One::Unknown(Gap::NoProfile, "no compiled units are known");
    }
    if profile.tree_files.is_empty() {
        return One::Unknown(Gap::NoSource, "the files of the tree are not known");
    }
    if !profile.tree_files.contains(file) {
        // Files move: the code may lie elsewhere in this tree, compiled.
        return One::Unknown(Gap::FileAbsent, "not in this kernel's tree");
    }
    if is_of_other_arch(file, profile.id.arch) {
        return One::No("of another architecture");
    }
    if file.starts_with("Documentation/") {
        return One::No("documentation");
    }
    let sureness = &profile.sureness;
    if let Some(why) = blind(file, sureness) {
        return One::Unknown(Gap::NoProfile, why);
    }
    // A finished build shows these folders as it shows all others.
    let seen = match sureness.way {
        Way::CommandFiles => true,
        Way::DebugData | Way::Evaluation => false,
    };
    if !seen && is_unseen(file) {
        return One::Unknown(
            Gap::NoProfile,
            "made into the image or used by the build outside of vmlinux and its modules",
        );
    }
    match file.rsplit_once('.').map(|(_, suffix)| suffix) {
        Some("c") => One::No("in the tree, not compiled"),
        Some("h") if sureness.all_headers => One::No("in the tree, and no compiled unit read it"),
        Some("h")
            if profile
                .readable
                .as_ref()
                .is_some_and(|readable| !is_shared_header(file) && !readable.contains(file)) =>
        {
            One::No("in the tree, and no compiled file could read it")
        }
        Some("h") => One::Unknown(
            Gap::HeaderGraph,
            "a header that left no code; who includes it is not known",
        ),
        Some("S") if seen => One::No("in the tree, not assembled"),
        // Assembly without code leaves no debug data; Makefiles, Kconfig, device trees, Rust and
        // generators' inputs act through other files.
        _ => One::Unknown(
            Gap::NoProfile,
            "no C source: what it brings into the kernel is not known",
        ),
    }
}

/// Returns why the profile cannot tell of `file`, by its own list.
pub fn blind<'a>(file: &str, sureness: &'a Sureness) -> Option<&'a str> {
    let folders = file.match_indices('/').map(|(at, _)| at + 1);
    let known = folders
        .filter_map(|end| file.get(..end))
        .chain([file])
        .find_map(|name| sureness.blind.get(name))?;
    Some(known)
}

/// Tells whether a header lies in a folder that every part of the kernel reads. Wrappers that the build
/// generates read them, too.
pub fn is_shared_header(file: &str) -> bool {
    ["include/", "arch/x86/include/"]
        .iter()
        .any(|folder| file.starts_with(folder))
}

fn is_of_other_arch(file: &str, arch: Arch) -> bool {
    let own = match arch {
        // `um` runs x86's own files and nothing of it goes the other way, but it is cheap to be sure.
        Arch::X86_64 => ["x86", "um"],
    };
    file.strip_prefix("arch/")
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(name, _)| !own.contains(&name))
}

/// Tells whether a file is compiled, if at all, where a profile does not look: the boot stub, the
/// vDSO, real-mode and kexec code are linked apart and put into the image as bytes, and host programs
/// generate sources.
pub fn is_unseen(file: &str) -> bool {
    const FOLDERS: [&str; 16] = [
        "arch/x86/boot/",
        "arch/x86/entry/vdso/",
        "arch/x86/vdso/",
        "arch/x86/purgatory/",
        "arch/x86/realmode/",
        "arch/x86/tools/",
        "arch/um/",
        "arch/x86/um/",
        "certs/",
        "drivers/firmware/efi/libstub/",
        "lib/raid6/",
        "lib/vdso/",
        "rust/",
        "scripts/",
        "tools/",
        "usr/",
    ];
    // Of `tools/` these are programs of their own, which no kernel build runs.
    const PROGRAMS: [&str; 3] = ["tools/perf/", "tools/power/", "tools/testing/"];
    let name = file.rsplit('/').next().unwrap_or(file);
    let generates = [
        "gen_",
        "gen-",
        "mk",
        "asm-offsets",
        "bounds.",
        "conmakehash",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
        || name.ends_with(".bpf.c");
    // The boot stub includes whole decompressors.
    let decompresses = file.starts_with("lib/")
        && [
            "decompress",
            "inflate",
            "/zstd/",
            "/lz4/",
            "/xz/",
            "/zlib_inflate/",
        ]
        .iter()
        .any(|part| file.contains(part));
    generates
        || decompresses
        || (FOLDERS.iter().any(|folder| file.starts_with(folder))
            && !PROGRAMS.iter().any(|folder| file.starts_with(folder)))
}
