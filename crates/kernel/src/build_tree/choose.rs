//! Which files of a build tree are copied.

use std::fs;
use std::path::{Path, PathBuf};

use super::{TakeError, at};

/// Deeper folders than this are not a kernel's.
const DEPTH: usize = 32;

/// More files than this are not a kernel's.
const MOST: usize = 2_000_000;

/// What the final links of a build make, and what follows from it.
const LINKED: [&str; 9] = [
    "vmlinux",
    "vmlinux.a",
    "vmlinux.bin",
    "vmlinux.bin.gz",
    "vmlinux.map",
    "vmlinux.o",
    "vmlinux.unstripped",
    "bzImage",
    "System.map",
];

/// Endings of what is compiled or linked, and of what Kbuild notes of it.
const MADE: [&str; 7] = [".o", ".a", ".ko", ".mod", ".mod.c", ".o.d", ".order"];

/// Endings of files that hold private keys.
const KEYS: [&str; 5] = [".pem", ".key", ".priv", ".p12", ".pfx"];

/// A file to copy: from the tree, to below the copy.
pub(super) type Pair = (PathBuf, PathBuf);

/// What of a tree is copied.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// Folders below the copy, each after the one that it is in.
    pub folders: Vec<PathBuf>,
    /// Files.
    pub files: Vec<Pair>,
    /// Links that stay links: what they hold, and where below the copy.
    pub links: Vec<Pair>,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Lists what of `tree` is copied. Blocks on the disk.
pub(super) fn choose(tree: &Path) -> Result<Chosen, TakeError> {
    let mut chosen = Chosen::default();
    let mut waiting = vec![PathBuf::new()];
    while let Some(folder) = waiting.pop() {
        let full = tree.join(&folder);
        for entry in fs::read_dir(&full).map_err(at(&full))? {
            let entry = entry.map_err(at(&full))?;
            let (from, to) = (entry.path(), folder.join(entry.file_name()));
            let kind = entry.file_type().map_err(at(&from))?;
            if !travels(&to) {
                continue;
            }
            if kind.is_dir() {
                if to.components().count() < DEPTH {
                    chosen.folders.push(to.clone());
                    waiting.push(to);
                }
            } else if kind.is_symlink() {
                link(tree, &from, to, &mut chosen)?;
            } else if kind.is_file() {
                chosen.bytes += entry.metadata().map_err(at(&from))?.len();
                chosen.files.push((from, to));
            }
            if chosen.files.len() + chosen.folders.len() > MOST {
                return Err(TakeError::NoBuild {
                    tree: tree.to_owned(),
                    what: format!("it has more than {MOST} files"),
                });
            }
        }
    }
    Ok(chosen)
}

/// A link that leads out of the tree would let what runs in the copy write there: its file is copied
/// in its place, and a folder, which no kernel has, is left out. So is a link to nothing.
fn link(tree: &Path, from: &Path, to: PathBuf, chosen: &mut Chosen) -> Result<(), TakeError> {
    let target = fs::read_link(from).map_err(at(from))?;
    let Ok(real) = fs::canonicalize(from) else {
        return Ok(());
    };
    if !target.is_absolute() && real.starts_with(tree) {
        chosen.links.push((target, to));
    } else if real.is_file() {
        chosen.bytes += fs::metadata(&real).map_err(at(&real))?.len();
        chosen.files.push((real, to));
    }
    Ok(())
}

/// Whether the file or folder at `path` of the tree is copied.
fn travels(path: &Path) -> bool {
    let mut parts = path.iter().map(|part| part.to_string_lossy());
    let top = parts.next().unwrap_or_default();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if path == Path::new(".git") || LINKED.contains(&name.as_ref()) || name.starts_with(".tmp_") {
        return false;
    }
    // Kbuild notes each file that it makes in `.NAME.cmd`.
    let made = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(".cmd"));
    let made = made.unwrap_or(&name);
    let ends = |endings: &[&str]| endings.iter().any(|end| made.ends_with(end));
    match top.as_ref() {
        "certs" if ends(&KEYS) => false,
        // The programs of the build, with what `make` compares them with.
        "scripts" => true,
        // Their makefiles write full paths of this tree into what they note.
        "tools" => !ends(&MADE) && !name.ends_with(".cmd") && !name.ends_with(".d"),
        _ => !ends(&MADE) && !LINKED.contains(&made),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_and_what_is_generated_travel_and_objects_and_keys_do_not() {
        for path in [
            ".config",
            "net/core/dev.c",
            "include/generated/autoconf.h",
            "include/config/auto.conf",
            "arch/x86/kernel/vmlinux.lds.S",
            "include/asm-generic/vmlinux.lds.h",
            "scripts/mod/modpost",
            "scripts/mod/modpost.o",
            "scripts/mod/.modpost.o.cmd",
            "kernel/bounds.s",
            "kernel/.bounds.s.cmd",
            "lib/crc32table.h",
            "lib/.crc32table.h.cmd",
            "tools/objtool/objtool.c",
            "tools/objtool/objtool",
            "certs/system_keyring.c",
            "Documentation/x.pem",
            "net/.gitignore",
        ] {
            assert!(travels(path.as_ref()), "{path}");
        }
        for path in [
            ".git",
            "vmlinux",
            "vmlinux.o",
            ".vmlinux.cmd",
            ".tmp_vmlinux.kallsyms1",
            "System.map",
            "arch/x86/boot/bzImage",
            "arch/x86/boot/compressed/vmlinux.bin",
            "net/core/dev.o",
            "net/core/.dev.o.cmd",
            "net/core/.dev.o.d",
            "net/built-in.a",
            "net/.built-in.a.cmd",
            "net/ipv4/esp4.ko",
            "net/ipv4/esp4.mod",
            "net/ipv4/esp4.mod.c",
            "net/ipv4/.esp4.mod.cmd",
            "net/modules.order",
            "tools/objtool/check.o",
            "tools/objtool/.check.o.cmd",
            "certs/signing_key.pem",
            "certs/own.priv",
        ] {
            assert!(!travels(path.as_ref()), "{path}");
        }
    }

    #[test]
    fn a_link_that_leads_out_of_the_tree_becomes_a_file_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        fs::create_dir_all(outside.join("folder")).unwrap();
        fs::write(outside.join("file"), "12345").unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("own.h"), "1").unwrap();
        for (target, name) in [
            ("own.h", "inside"),
            ("../outside/file", "relative"),
            ("../outside/folder", "folder"),
            ("nothing", "dangling"),
        ] {
            std::os::unix::fs::symlink(target, tree.join(name)).unwrap();
        }
        std::os::unix::fs::symlink(outside.join("file"), tree.join("absolute")).unwrap();
        let tree = fs::canonicalize(&tree).unwrap();
        let chosen = choose(&tree).unwrap();
        assert_eq!(chosen.links, [("own.h".into(), "inside".into())]);
        let mut files: Vec<&Path> = chosen.files.iter().map(|(_, to)| to.as_path()).collect();
        files.sort();
        assert_eq!(files, ["absolute", "own.h", "relative"].map(Path::new));
        assert_eq!(chosen.bytes, 11);
        assert!(chosen.folders.is_empty());
    }
}
