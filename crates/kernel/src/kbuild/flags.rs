//! What compiler and linker flags say of sources: settings they define, files they include, objects
//! they link.

use std::collections::BTreeSet;

use super::folder::place;
use super::scope::Scope;
use super::text::{inside, is_object, words};

/// What the flags of one folder say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Settings that are defined or taken back, without `CONFIG_`.
    pub(super) settings: BTreeSet<String>,
    /// Files that are included, as they may be called from the top.
    pub(super) files: BTreeSet<String>,
    /// Objects that are linked, by their paths.
    pub(super) objects: BTreeSet<String>,
}

/// Reads every variable of `scope` that is called flags. Where one is in doubt, what is known of it
/// counts.
pub(super) fn of(scope: &mut Scope<'_>, folder: &str) -> Said {
    let mut said = Said::default();
    let names: Vec<String> = scope
        .own
        .keys()
        .filter(|name| name.to_ascii_lowercase().contains("flags") && !name.starts_with("MAKE"))
        .cloned()
        .collect();
    let before = scope.lost.clone();
    for name in names {
        let value = scope.value(&name);
        let links = name.to_ascii_lowercase().contains("ldflags");
        read(&value.text, folder, links, &mut said);
    }
    // Flags that cannot be evaluated make nothing else doubtful.
    scope.lost = before;
    said
}

fn read(text: &str, folder: &str, links: bool, said: &mut Said) {
    let mut pending = "";
    for word in words(text) {
        let word = word.trim_matches(['"', '\'', '\\']);
        if matches!(
            word,
            "-D" | "-U" | "-include" | "-imacros" | "--include" | "--imacros"
        ) {
            pending = word;
            continue;
        }
        let flag = std::mem::take(&mut pending);
        let macro_of = |flag: &str| match flag {
            "-D" | "-U" => Some(word),
            _ => word.strip_prefix("-D").or_else(|| word.strip_prefix("-U")),
        };
        let file_of = |flag: &str| match flag {
            "-include" | "-imacros" | "--include" | "--imacros" => Some(word),
            _ => ["--include=", "--imacros=", "-include", "-imacros"]
                .iter()
                .find_map(|start| word.strip_prefix(start)),
        };
        if let Some(name) = macro_of(flag).and_then(|name| name.strip_prefix("CONFIG_")) {
            let name = name.split('=').next().unwrap_or(name);
            said.settings
                .insert(name.strip_suffix("_MODULE").unwrap_or(name).to_owned());
        } else if let Some(file) = file_of(flag) {
            let places = [inside(file), inside(&place(folder, file))];
            said.files.extend(places.into_iter().flatten());
        } else if links && (is_object(word) || word.strip_suffix(".a").is_some()) {
            let places = [inside(word), inside(&place(folder, word))];
            said.objects.extend(places.into_iter().flatten());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_define_settings_include_files_and_link_objects() {
        let mut said = Said::default();
        let text = "-DCONFIG_A -UCONFIG_B -D CONFIG_C=1 -DX=\"y\" -include x/b.c -imacros ../c.h -O2 -r x/z.o";
        read(text, "x", true, &mut said);
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(said.settings, set(&["A", "B", "C"]));
        assert_eq!(said.files, set(&["x/b.c", "x/x/b.c", "c.h"]));
        assert_eq!(said.objects, set(&["x/z.o", "x/x/z.o"]));
    }
}
