//! From paths as the compiler wrote them to paths of the kernel tree.

use std::collections::BTreeSet;

use super::dwarf::Written;

/// Returns the path of `written` relative to the top of the tree whose files are `tree`.
///
/// Packages are built with the tree's own place cut off, in a folder below the tree, or under an
/// absolute path that no longer exists. So: the path itself where the tree has it; else without the
/// compiler's working folder; else its longest suffix that the tree has. Generated files are in no
/// tree: they come out relative to the build folder, which mirrors the tree.
pub fn in_tree(written: &Written, tree: &BTreeSet<String>) -> String {
    let plain = without_dots(&written.path);
    if tree.contains(&plain) {
        return plain;
    }
    let folder = without_dots(&written.folder);
    let inside = plain
        .strip_prefix(&folder)
        .and_then(|rest| rest.strip_prefix('/'))
        .filter(|_| !folder.is_empty());
    if let Some(inside) = inside {
        return inside.to_owned();
    }
    let mut rest = plain.as_str();
    while let Some((_, shorter)) = rest.split_once('/') {
        // One bare name says nothing: the tree has dozens of `main.c`, and none of them at its top.
        if tree.contains(shorter) && shorter.contains('/') {
            return shorter.to_owned();
        }
        rest = shorter;
    }
    plain
}

/// Returns the files of the tree that the generated unit `path` was made from, by the rules of the
/// kernel's makefiles: shipped copies, ASN.1, parsers, assembly from Perl, unrolled RAID code.
pub fn generators(path: &str, tree: &BTreeSet<String>) -> Vec<String> {
    let Some((stem, end)) = path.rsplit_once('.') else {
        return Vec::new();
    };
    let unrolled = stem.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let mut found: Vec<String> = match end {
        "c" => vec![
            format!("{path}_shipped"),
            stem.to_owned(),
            format!("{stem}.y"),
            format!("{stem}.l"),
            format!("{unrolled}.uc"),
            format!("{stem}.map"),
        ],
        "S" => vec![
            format!("{stem}.pl"),
            format!("{}.pl", stem.trim_end_matches("-cryptogams")),
        ],
        _ => Vec::new(),
    };
    found.retain(|source| tree.contains(source));
    found.sort();
    found.dedup();
    found
}

/// Removes `.` and resolves `..` by text alone.
pub(super) fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    if path.starts_with('/') {
        format!("/{joined}")
    } else {
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(folder: &str, path: &str, expected: &str) {
        let tree = ["init/main.c", "arch/x86/entry/entry_64.S", "lib/crc32.c"]
            .map(str::to_owned)
            .into();
        let written = Written {
            folder: folder.to_owned(),
            path: path.to_owned(),
        };
        assert_eq!(in_tree(&written, &tree), expected, "{path}");
    }

    #[test]
    fn a_tree_relative_path_stays() {
        check("debian/build/x", "init/main.c", "init/main.c");
        check("debian/build/x", "./init/../init/main.c", "init/main.c");
    }

    #[test]
    fn an_absolute_path_is_cut_at_the_longest_suffix_of_the_tree() {
        check(
            "/b/linux-6.1.170/debian/build/x",
            "/b/linux-6.1.170/arch/x86/entry/entry_64.S",
            "arch/x86/entry/entry_64.S",
        );
    }

    #[test]
    fn a_generated_file_is_relative_to_the_build_folder() {
        check(
            "debian/build/x",
            "debian/build/x/lib/crc32table.h",
            "lib/crc32table.h",
        );
        check(
            "/b/debian/build/x",
            "/b/debian/build/x/kernel/y.c",
            "kernel/y.c",
        );
    }

    #[test]
    fn a_generated_unit_leads_to_its_source() {
        let tree: BTreeSet<String> = [
            "lib/raid6/int.uc",
            "crypto/rsapubkey.asn1",
            "drivers/tty/vt/defkeymap.c_shipped",
            "arch/x86/crypto/poly1305-x86_64-cryptogams.pl",
            "init/main.c",
        ]
        .map(str::to_owned)
        .into();
        for (unit, source) in [
            ("lib/raid6/int16.c", Some("lib/raid6/int.uc")),
            ("crypto/rsapubkey.asn1.c", Some("crypto/rsapubkey.asn1")),
            (
                "drivers/tty/vt/defkeymap.c",
                Some("drivers/tty/vt/defkeymap.c_shipped"),
            ),
            (
                "arch/x86/crypto/poly1305-x86_64-cryptogams.S",
                Some("arch/x86/crypto/poly1305-x86_64-cryptogams.pl"),
            ),
            ("init/main.mod.c", None),
        ] {
            assert_eq!(
                generators(unit, &tree),
                source.map(str::to_owned).into_iter().collect::<Vec<_>>(),
                "{unit}"
            );
        }
    }

    #[test]
    fn a_bare_name_is_never_guessed() {
        check("", "/elsewhere/main.c", "/elsewhere/main.c");
    }
}
