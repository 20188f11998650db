//! From paths as Kbuild wrote them to paths of the build folder and of the tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::super::dwarf::Written;
use super::super::paths;
use super::CommandsError;

/// The folders a build knew: its own, and the tree's, which may lie elsewhere now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// Where the build folder is.
    build: String,
    /// Where the tree is, and where it was when the build ran.
    sources: Vec<String>,
    /// Whether both are one folder.
    same: bool,
}

impl Places {
    pub(super) fn of(build: &Path, source: &Path) -> Result<Self, CommandsError> {
        let real = |path: &Path| {
            fs::canonicalize(path)
                .map(|path| path.to_string_lossy().into_owned())
                .map_err(|source| CommandsError::Read {
                    path: path.to_owned(),
                    source,
                })
        };
        let (build_text, source_text) = (real(build)?, real(source)?);
        let mut sources = vec![source_text.clone()];
        // `make O=` leaves a link to the tree as it was named then.
        if let Ok(target) = fs::read_link(build.join("source")) {
            sources.push(target.to_string_lossy().into_owned());
        }
        Ok(Self {
            same: build_text == source_text,
            build: build_text,
            sources,
        })
    }

    /// Returns `written` relative to the build folder; `None` where it lies outside.
    pub(super) fn in_build(&self, written: &str) -> Option<String> {
        let plain = paths::without_dots(written);
        match plain.strip_prefix('/') {
            None => (!plain.starts_with("..")).then_some(plain),
            Some(_) => below(&plain, &self.build).map(str::to_owned),
        }
    }

    /// Returns `written` relative to the top of the tree; a file that the build made comes out
    /// relative to the build folder, which mirrors it. `None` for the compiler's and the system's.
    pub(super) fn in_tree(&self, written: &str, tree: &BTreeSet<String>) -> Option<String> {
        let plain = paths::without_dots(written);
        let whole = if plain.starts_with('/') {
            plain
        } else if self.same || !plain.starts_with("..") {
            return (!plain.starts_with("..")).then_some(plain);
        } else {
            paths::without_dots(&format!("{}/{written}", self.build))
        };
        let known = self.sources.iter().chain([&self.build]);
        for top in known {
            if let Some(path) = below(&whole, top) {
                return Some(path.to_owned());
            }
        }
        if ["/usr/lib/", "/usr/include/", "/usr/local/", "/opt/"]
            .iter()
            .any(|system| whole.starts_with(system))
        {
            return None;
        }
        let written = Written {
            folder: String::new(),
            path: whole,
        };
        let path = paths::in_tree(&written, tree);
        (!path.starts_with('/')).then_some(path)
    }
}

fn below<'a>(path: &'a str, top: &str) -> Option<&'a str> {
    path.strip_prefix(top)?.strip_prefix('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_apart_from_its_tree_names_both() {
        let tree: BTreeSet<String> = ["init/main.c", "net/a.h"].map(str::to_owned).into();
        let places = Places {
            build: "/w/out".to_owned(),
            sources: vec!["/w/tree".to_owned(), "/old/tree".to_owned()],
            same: false,
        };
        for (written, expected) in [
            ("/w/tree/init/main.c", Some("init/main.c")),
            ("/old/tree/init/main.c", Some("init/main.c")),
            ("../tree/init/main.c", Some("init/main.c")),
            (
                "include/generated/autoconf.h",
                Some("include/generated/autoconf.h"),
            ),
            ("/moved/away/tree/net/a.h", Some("net/a.h")),
            ("/usr/lib/gcc/x86_64-linux-gnu/12/include/stdarg.h", None),
            ("/elsewhere/x.c", None),
        ] {
            assert_eq!(
                places.in_tree(written, &tree).as_deref(),
                expected,
                "{written}"
            );
        }
        assert_eq!(
            places
                .in_build("arch/x86/kvm/../../../virt/kvm/kvm_main.o")
                .as_deref(),
            Some("virt/kvm/kvm_main.o")
        );
        assert_eq!(
            places.in_build("/w/out/tools/a.o").as_deref(),
            Some("tools/a.o")
        );
        assert_eq!(places.in_build("../x.o"), None);
    }
}
