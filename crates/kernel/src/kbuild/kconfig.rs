//! Whether a `.config` fits the Kconfig files of a tree.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::tree::SourceTree;
use crate::config::Config;

/// Largest Kconfig file that is read, in bytes.
const LARGEST: u64 = 4 << 20;

/// Returns the settings of `config` that no Kconfig file of `tree` knows, sorted: those of another
/// tree. A setting of this tree that is missing cannot be told from one that is switched off.
pub(super) fn unknown<'a>(tree: &dyn SourceTree, config: &'a Config) -> Vec<&'a str> {
    let files: Vec<&String> = tree
        .files()
        .iter()
        .filter(|path| {
            let name = path.rsplit('/').next().unwrap_or(path);
            name.starts_with("Kconfig") && !path.starts_with("scripts/kconfig/tests/")
        })
        .collect();
    let known: BTreeSet<String> = files
        .par_iter()
        .flat_map_iter(|path| {
            let bytes = tree.read(path, LARGEST).ok().flatten().unwrap_or_default();
            names(&String::from_utf8_lossy(&bytes))
        })
        .collect();
    config
        .names()
        .filter(|name| !known.contains(*name))
        .collect()
}

fn names(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let (word, rest) = line.trim_start().split_once([' ', '\t'])?;
            let name = rest.split_whitespace().next()?;
            matches!(word, "config" | "menuconfig").then(|| name.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kbuild::tree::Memory;

    #[test]
    fn settings_of_another_tree_are_found() {
        let tree = Memory::new([
            (
                "Kconfig".to_owned(),
                b"config A\n\tbool\nmenuconfig\tB\n".to_vec(),
            ),
            (
                "x/Kconfig.more".to_owned(),
                b"if A\n  config C\nendif\n".to_vec(),
            ),
            ("x/text".to_owned(), b"config D\n".to_vec()),
        ]);
        let config = Config::parse("CONFIG_A=y\nCONFIG_B=m\nCONFIG_C=1\nCONFIG_D=y\n");
        assert_eq!(unknown(&tree, &config), ["D"]);
    }
}
