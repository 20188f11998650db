//! The pairs of objects that kpatch publishes for tests of its own, from a copy named by
//! `$TUXTAPE_KPATCH_OBJECTS`: what must differ differs in as many functions as they say, what must not
//! build is refused or no change. `docs/engine-published.md` explains what this engine says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use tuxtape_livepatch::diff::compare;
use tuxtape_livepatch::elf::ElfFile;
use tuxtape_livepatch::tables::{Role, Table, layout_for};

use crate::properties::said;
use crate::shuffle::shuffled;

/// Where this engine says something else, and what.
const OTHERWISE: [(&str, &str); 18] = [
    ("ASSERT_RTNL-detect", "44"),
    ("bug-table-section", "12"),
    ("cmdline-ubsan", "1"),
    ("cold-change-parent", "2"),
    ("data-read-mostly", "42"),
    ("dynamic-debug-jump-label-issue-1253", "5"),
    ("dynamic-debug-special-static-issue-990", "4"),
    ("fixup-section", "3"),
    ("gcc-static-local-var-5", "11"),
    ("line-detect-issue-1253", "7"),
    ("mangled-symbol-modification-issue-1048", "9"),
    ("new-function", "3"),
    ("printk-index-1-issue-1206", "5"),
    ("printk-index-2-issue-1206", "6"),
    ("replace-section-references", "2"),
    ("smp-locks-section", "6"),
    ("special-static", "4"),
    ("special-static-2", "3"),
];

/// The tables of 6.1 with the entry sizes of the kernel that the object is of, which the distance between
/// the first relocations of two entries tells.
fn tables(object: &[u8]) -> Vec<Table> {
    let file = ElfFile::parse(object).expect("an object");
    let plain = layout_for(6, 1).expect("the tables of 6.1 are known");
    let distance = |name: &str, per_entry: usize| -> Option<u64> {
        let section = file.section_named(name)?;
        let table = file.relocation_sections(section.index).next()?;
        let offsets: Vec<u64> = file
            .relocations(table)
            .ok()?
            .into_iter()
            .map(|relocation| relocation.offset)
            .collect();
        match offsets.get(per_entry) {
            Some(second) => second.checked_sub(*offsets.first()?),
            None => Some(section.size),
        }
    };
    let sized = plain.iter().map(|table| {
        let found = match table.role {
            Role::JumpLabel => distance(table.section, 3),
            Role::Alternative { .. } => distance(table.section, 2),
            Role::Derived | Role::Bug | Role::Exception | Role::StaticCall | Role::Paravirt => None,
        };
        Table {
            entry: found.unwrap_or(table.entry),
            ..*table
        }
    });
    sized.collect()
}

/// One pair, and what is known of it.
struct Published {
    original: PathBuf,
    patched: PathBuf,
    must_fail: bool,
    /// How many functions must travel.
    functions: Option<usize>,
}

fn published(folder: &Path) -> BTreeMap<String, Published> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".ORIG.o") else {
            continue;
        };
        let plain = stem.strip_suffix(".NOSTRIP").unwrap_or(stem);
        let at = |ending: &str| folder.join(format!("{stem}{ending}"));
        let text = |ending: &str| {
            fs::read_to_string(folder.join(format!("{plain}{ending}"))).unwrap_or_default()
        };
        let must_fail = at(".PATCHED.FAIL.o").exists();
        let count = text(".test").lines().find_map(|line| {
            line.trim()
                .strip_prefix("assert_num_funcs ")?
                .trim()
                .parse()
                .ok()
        });
        let pair = Published {
            original: at(".ORIG.o"),
            patched: at(if must_fail {
                ".PATCHED.FAIL.o"
            } else {
                ".PATCHED.o"
            }),
            must_fail,
            functions: count,
        };
        found.insert(plain.to_owned(), pair);
    }
    found
}

/// What the engine says of a pair: how many functions travel, and which rules refuse.
fn verdict(pair: &Published) -> (String, String) {
    let (Ok(original), Ok(patched)) = (fs::read(&pair.original), fs::read(&pair.patched)) else {
        return ("unreadable".to_owned(), String::new());
    };
    let compared = match compare("unit.c", &original, &patched, &tables(&original)) {
        Ok(compared) => compared,
        Err(error) => return ("no unit".to_owned(), error.to_string()),
    };
    let rules: BTreeSet<&str> = compared
        .refusals
        .iter()
        .map(|refusal| refusal.rule.slug())
        .collect();
    // Their count is of all functions that travel, new ones and unlikely parts among them.
    let functions: BTreeSet<&str> = compared
        .travels
        .iter()
        .map(|&id| compared.patched.atom(id))
        .filter(|atom| atom.is_code() && !atom.name.starts_with('.'))
        .map(|atom| atom.name)
        .collect();
    let names: Vec<&str> = functions.iter().copied().take(8).collect();
    let words = format!(
        "{} | {}",
        rules.into_iter().collect::<Vec<_>>().join(", "),
        names.join(", ")
    );
    let word = if compared.is_unchanged() {
        "no change".to_owned()
    } else {
        functions.len().to_string()
    };
    (word, words)
}

#[test]
fn lab_the_published_pairs_are_told_apart() {
    let Some(folder) = env::var_os("TUXTAPE_KPATCH_OBJECTS").map(PathBuf::from) else {
        eprintln!("skipped: TUXTAPE_KPATCH_OBJECTS is not set");
        return;
    };
    let pairs = published(&folder.join("x86_64"));
    assert!(!pairs.is_empty(), "no pairs in {}", folder.display());
    let otherwise: BTreeMap<&str, &str> = OTHERWISE.into_iter().collect();
    let mut wrong = Vec::new();
    for (name, pair) in &pairs {
        let (word, words) = verdict(pair);
        let refused = word == "no unit" || word == "no change" || !words.starts_with(" |");
        let (wanted, as_expected) = match (pair.must_fail, pair.functions) {
            (true, _) => ("fails".to_owned(), refused),
            (false, Some(count)) => (count.to_string(), word == count.to_string()),
            (false, None) => ("builds".to_owned(), word.parse::<u32>().is_ok()),
        };
        eprintln!("| {name} | {wanted} | {word} | {words} |");
        let known = otherwise.get(name.as_str());
        if as_expected && known.is_some() || !as_expected && known != Some(&word.as_str()) {
            wrong.push(format!("{name}: wanted {wanted}, found {word}: {words}"));
        }
    }
    eprintln!("{} pairs", pairs.len());
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn lab_the_published_pairs_say_the_same_in_another_order() {
    let Some(folder) = env::var_os("TUXTAPE_KPATCH_OBJECTS").map(PathBuf::from) else {
        eprintln!("skipped: TUXTAPE_KPATCH_OBJECTS is not set");
        return;
    };
    for (name, pair) in published(&folder.join("x86_64")) {
        let (original, patched) = (
            fs::read(&pair.original).expect("it was listed"),
            fs::read(&pair.patched).expect("each original has a patched version"),
        );
        let tables = tables(&original);
        if compare("unit.c", &original, &patched, &tables).is_err() {
            eprintln!("{name} is no unit");
            continue;
        }
        let plain = said(&original, &patched, &tables);
        for seed in 0..4 {
            let (other, another) = (shuffled(&original, seed), shuffled(&patched, seed + 100));
            assert_eq!(
                said(&other, &another, &tables),
                plain,
                "{name}, seed {seed}"
            );
        }
    }
}
