//! Which headers a compiled file could read, where the build itself was not seen.
//!
//! Debug data show headers that left code, and no others. What is not reachable by any `#include` line
//! from any compiled file was in none of them. Every line counts, whatever condition it stands under,
//! and a name that can mean several files means all of them: too many headers, never too few.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;

use rayon::prelude::*;
use tuxtape_core::applicability::built;
use tuxtape_core::profile::KernelProfile;
use tuxtape_sys::regular;

use crate::kbuild::includes::{self, Names};
use crate::unified::TreePath;

/// Largest file that is read, in bytes. Generated register headers have 14 MB.
const LARGEST: u64 = 32 << 20;

/// Lists the files outside of the shared folders of headers that a compiled file of `profile` could read
/// from the tree at `top`, the compiled ones among them. Blocks on reading some ten thousand files.
pub fn readable(top: &Path, profile: &KernelProfile) -> io::Result<BTreeSet<String>> {
    let tree = &profile.tree_files;
    let names = Names::new(tree);
    let mut headers: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut by_name: HashMap<&str, Vec<&str>> = HashMap::new();
    let is_header = |file: &&String| file.rsplit_once('.').is_some_and(|(_, end)| end == "h");
    for file in tree.iter().filter(is_header) {
        let folder = folder_of(file);
        headers.entry(folder).or_default().push(file);
        let name = file.rsplit('/').next().unwrap_or(file);
        by_name.entry(name).or_default().push(file);
    }
    let headers = Headers {
        of_folder: headers,
        by_name,
    };
    let mut roots: BTreeSet<&str> = BTreeSet::new();
    for file in tree {
        let is_compiled =
            profile.units.contains_key(file) || profile.contributors.contains_key(file);
        // Wrappers that the build generates, and flags such as `-include`, read shared headers; what is
        // made into the image beside vmlinux is compiled, too, and so may be what is not known.
        if is_compiled
            || built::is_shared_header(file)
            || built::is_unseen(file)
            || built::blind(file, &profile.sureness).is_some()
        {
            roots.insert(file);
        }
    }
    roots.extend(forced(top, tree, &headers.by_name)?);
    let mut reached = roots.clone();
    let mut next: Vec<&str> = roots.into_iter().collect();
    while !next.is_empty() {
        let found: Vec<BTreeSet<&str>> = next
            .par_iter()
            .map(|file| read_by(top, file, &names, &headers))
            .collect::<io::Result<_>>()?;
        let new: BTreeSet<&str> = found.into_iter().flatten().collect();
        next = new
            .into_iter()
            .filter(|file| reached.insert(file))
            .collect();
    }
    Ok(reached
        .into_iter()
        .filter(|file| !built::is_shared_header(file))
        .map(str::to_owned)
        .collect())
}

/// The headers of a tree.
struct Headers<'a> {
    of_folder: HashMap<&'a str, Vec<&'a str>>,
    by_name: HashMap<&'a str, Vec<&'a str>>,
}

/// Lists the files that `file` can read.
fn read_by<'a>(
    top: &Path,
    file: &str,
    names: &Names<'a>,
    headers: &Headers<'a>,
) -> io::Result<BTreeSet<&'a str>> {
    let found = includes::skim(&read(top, file)?);
    let mut meant: BTreeSet<&str> = BTreeSet::new();
    let defined = found.defined.iter().map(|(_, written)| written);
    for written in found.named.iter().chain(defined) {
        let files = names.meant(file, written);
        if files.is_empty() {
            // Made by the build, or reached through a link: any of that name.
            let name = written.name().rsplit('/').next().unwrap_or_default();
            meant.extend(headers.by_name.get(name).into_iter().flatten());
        }
        meant.extend(files);
    }
    if !found.macros.is_empty() {
        // A macro stands for a header that a `define` names, or for one of this folder.
        let folder = folder_of(file);
        meant.extend(headers.of_folder.get(folder).into_iter().flatten());
    }
    Ok(meant)
}

fn folder_of(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Lists the headers that makefiles name, as `-include` and `-D` flags do.
fn forced<'a>(
    top: &Path,
    tree: &BTreeSet<String>,
    by_name: &HashMap<&'a str, Vec<&'a str>>,
) -> io::Result<BTreeSet<&'a str>> {
    let is_makefile = |path: &&String| {
        let name = path.rsplit('/').next().unwrap_or(path);
        name.starts_with("Makefile") || name.starts_with("Kbuild")
    };
    let mut found = BTreeSet::new();
    for path in tree.iter().filter(is_makefile) {
        let bytes = read(top, path)?;
        let text = String::from_utf8_lossy(&bytes);
        let of_a_name = |letter: char| letter.is_ascii_alphanumeric() || "_-.+".contains(letter);
        for word in text.split(|letter| !of_a_name(letter)) {
            found.extend(by_name.get(word).into_iter().flatten().copied());
        }
    }
    Ok(found)
}

fn read(top: &Path, file: &str) -> io::Result<Vec<u8>> {
    let path: TreePath = file
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let path = top.join(path.as_str());
    // Links to folders stand among the files; what is in the folder is listed where it lies.
    if path.is_dir() {
        return Ok(Vec::new());
    }
    match regular::read_linked(&path, LARGEST)? {
        Some(bytes) => Ok(bytes),
        None => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tuxtape_core::identity::ObjectName;
    use tuxtape_core::profile::Way;

    use super::*;
    use crate::profile::small;

    fn check(files: &[(&str, &str)], units: &[&str], expected: &[&str]) {
        let top = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = top.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut profile = KernelProfile::blank(small().id, "6.1.170", Way::DebugData);
        profile.tree_files = files.iter().map(|(path, _)| (*path).to_owned()).collect();
        for unit in units {
            let objects = BTreeSet::from([ObjectName("vmlinux".to_owned())]);
            profile.units.insert((*unit).to_owned(), objects);
        }
        let found = readable(top.path(), &profile).unwrap();
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, expected, "{files:?}");
    }

    #[test]
    fn what_a_unit_includes_is_readable_and_what_others_include_is_not() {
        check(
            &[
                ("fs/a/a.c", "# include \"a.h\"\n"),
                ("fs/a/a.h", "#if 0\n#include \"sub/b.h\"\n#endif\n"),
                ("fs/a/sub/b.h", ""),
                ("fs/x/x.c", "#include \"x.h\"\n"),
                ("fs/x/x.h", "#include \"a.h\"\n"),
            ],
            &["fs/a/a.c"],
            &["fs/a/a.c", "fs/a/a.h", "fs/a/sub/b.h"],
        );
    }

    #[test]
    fn a_name_beside_the_file_means_that_one_and_else_all_of_that_name() {
        check(
            &[
                ("d/a/a.c", "#include \"core.h\"\n#include <more/far.h>\n"),
                ("d/a/core.h", ""),
                ("d/b/core.h", ""),
                ("d/b/more/far.h", ""),
                ("d/c/more/far.h", ""),
                ("d/c/far.h", ""),
                ("arch/arm/more/far.h", ""),
            ],
            &["d/a/a.c"],
            &["d/a/a.c", "d/a/core.h", "d/b/more/far.h", "d/c/more/far.h"],
        );
    }

    #[test]
    fn a_link_to_a_folder_is_no_file() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("include/real")).unwrap();
        std::os::unix::fs::symlink("real", top.path().join("include/link")).unwrap();
        let mut profile = KernelProfile::blank(small().id, "6.1.170", Way::DebugData);
        profile.tree_files.insert("include/link".to_owned());
        assert!(readable(top.path(), &profile).unwrap().is_empty());
        // What cannot be read leaves everything unknown.
        profile.tree_files.insert("include/gone.h".to_owned());
        assert!(readable(top.path(), &profile).is_err());
    }

    #[test]
    fn headers_are_found_by_links_flags_and_the_assembler() {
        check(
            &[
                (
                    "d/a.c",
                    "#include \"../link/far.h\"\n#include_next \"b.h\"\nasm(\".include \\\"d/s.h\\\"\");\n",
                ),
                ("d/b.h", ""),
                ("d/s.h", ""),
                ("e/b.h", ""),
                ("f/far.h", ""),
                (
                    "g/Makefile",
                    "CFLAGS_a.o += -DX=\\\"../x/named.h\\\" $(call cc-option,-include $(src)/forced.h)\n",
                ),
                ("x/forced.h", ""),
                ("x/named.h", ""),
                ("x/other.h", ""),
            ],
            &["d/a.c"],
            &[
                "d/a.c",
                "d/b.h",
                "d/s.h",
                "e/b.h",
                "f/far.h",
                "x/forced.h",
                "x/named.h",
            ],
        );
    }

    #[test]
    fn shared_headers_macros_flags_and_unseen_folders_are_followed() {
        check(
            &[
                ("include/linux/l.h", "#include \"../../d/by_shared.h\"\n"),
                ("d/by_shared.h", ""),
                ("d/a.c", "#define OTHER \"by_define.h\"\n#include OTHER\n"),
                ("d/beside.h", ""),
                ("e/by_define.h", ""),
                ("e/t.h", "#define TRACE_INCLUDE_FILE t2\n"),
                ("e/t2.h", ""),
                ("e/Makefile", "ccflags-y += -include $(src)/forced.h\n"),
                ("e/forced.h", "#include \"t.h\"\n"),
                ("arch/x86/boot/b.S", ".include \"s.inc\"\n"),
                ("arch/x86/boot/s.inc", ""),
                ("e/none.h", ""),
            ],
            &["d/a.c"],
            &[
                "arch/x86/boot/b.S",
                "arch/x86/boot/s.inc",
                "d/a.c",
                "d/beside.h",
                "d/by_shared.h",
                "e/by_define.h",
                "e/forced.h",
                "e/t.h",
                "e/t2.h",
            ],
        );
    }
}
