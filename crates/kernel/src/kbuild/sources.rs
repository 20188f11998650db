//! From objects to the files they are compiled of.

use super::folder::place;
use super::functions::stem;
use super::scope::Rule;
use super::text::inside;
use super::tree::SourceTree;
use crate::profile::paths;

/// Ends of the files that make an object by the kernel's own rules, in their order.
const SOURCES: [&str; 3] = [".c", ".S", ".rs"];

/// What one object is compiled of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// A file of the tree.
    Source(String),
    /// A file that the build makes of these files of the tree.
    Generated { unit: String, sources: Vec<String> },
    /// Neither a file nor a rule for one is known.
    Nothing,
}

/// What is known of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) made: Made,
    /// Files that may be compiled for it beside or instead.
    pub(super) doubtful: Vec<String>,
}

/// Finds what `object` of `folder` is compiled of, whose makefile has `rules`.
pub(super) fn of(object: &str, folder: &str, rules: &[Rule], tree: &dyn SourceTree) -> Found {
    let files = tree.files();
    let stem = object.rsplit_once('.').map_or(object, |(stem, _)| stem);
    let mut plain = SOURCES.iter().map(|end| format!("{stem}{end}"));
    let plain = plain.find(|path| files.contains(path));
    let sources = |with_recipe: bool| -> Vec<String> {
        prerequisites(object, folder, rules, with_recipe)
            .into_iter()
            .filter(|path| files.contains(path) && SOURCES.iter().any(|end| path.ends_with(end)))
            .collect()
    };
    // A rule that says how the object is made comes before the kernel's own.
    let mut by_rule = sources(true);
    if !by_rule.is_empty() {
        let first = by_rule.remove(0);
        by_rule.extend(plain.filter(|path| *path != first));
        return Found {
            made: Made::Source(first),
            doubtful: by_rule,
        };
    }
    let certain = |made| Found {
        made,
        doubtful: Vec::new(),
    };
    if let Some(source) = plain {
        return certain(Made::Source(source));
    }
    if let Some(source) = sources(false).into_iter().next() {
        return certain(Made::Source(source));
    }
    for end in SOURCES {
        let unit = format!("{stem}{end}");
        let made_of = prerequisites(&unit, folder, rules, false);
        let known = paths::generators(&unit, files);
        if made_of.is_empty() && known.is_empty() && !has_rule(&unit, folder, rules) {
            continue;
        }
        let mut sources: Vec<String> = made_of
            .into_iter()
            .filter(|path| files.contains(path))
            .chain(known)
            .collect();
        sources.sort();
        sources.dedup();
        return certain(Made::Generated { unit, sources });
    }
    certain(Made::Nothing)
}

fn has_rule(target: &str, folder: &str, rules: &[Rule]) -> bool {
    rules
        .iter()
        .any(|rule| matched(rule, target, folder).is_some())
}

/// Returns the prerequisites of `target` by `rules`, as paths of the tree; by all of them or by those
/// with a recipe.
fn prerequisites(target: &str, folder: &str, rules: &[Rule], with_recipe: bool) -> Vec<String> {
    let mut found = Vec::new();
    for rule in rules {
        if with_recipe && !rule.recipe {
            continue;
        }
        let Some(stem) = matched(rule, target, folder) else {
            continue;
        };
        let named = rule
            .prerequisites
            .iter()
            .filter(|word| !matches!(word.as_str(), "FORCE" | "|"));
        found.extend(named.filter_map(|word| inside(&word.replacen('%', &stem, 1))));
    }
    found
}

/// Returns what `%` stands for where a target of `rule` is `wanted`.
fn matched(rule: &Rule, wanted: &str, folder: &str) -> Option<String> {
    rule.targets.iter().find_map(|target| {
        let path = inside(target)?;
        let name = stem(&path, wanted);
        // Targets without a folder are files of this one in a few makefiles.
        let name =
            name.or_else(|| stem(&place(folder, &path), wanted).filter(|_| !target.contains('/')));
        // `%.o: %.c` and the like say nothing of where a source comes from.
        name.filter(|_| path != "%").map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kbuild::tree::Memory;

    fn check(object: &str, rules: &[(&str, &str)], expected: &Made) {
        let files = [
            "net/a.c",
            "net/b.S",
            "lib/raid6/int.uc",
            "lib/raid6/unroll.awk",
            "crypto/key.asn1",
            "lib/crypto/sha256.c",
            "drivers/tty/vt/defkeymap.c_shipped",
        ];
        let tree = Memory::new(files.map(|path| (path.to_owned(), Vec::new())));
        let rules: Vec<Rule> = rules
            .iter()
            .map(|(target, prerequisites)| Rule {
                targets: vec![(*target).to_owned()],
                prerequisites: prerequisites.split(' ').map(str::to_owned).collect(),
                recipe: true,
                gap: None,
            })
            .collect();
        let folder = object.rsplit_once('/').unwrap().0;
        assert_eq!(
            of(object, folder, &rules, &tree).made,
            *expected,
            "{object}"
        );
    }

    #[test]
    fn an_object_has_the_source_of_its_name_or_of_its_rule() {
        check("net/a.o", &[], &Made::Source("net/a.c".to_owned()));
        check("net/b.o", &[], &Made::Source("net/b.S".to_owned()));
        check("net/c.o", &[], &Made::Nothing);
        check(
            "arch/x86/purgatory/sha256.o",
            &[("arch/x86/purgatory/sha256.o", "./lib/crypto/sha256.c FORCE")],
            &Made::Source("lib/crypto/sha256.c".to_owned()),
        );
    }

    #[test]
    fn a_generated_source_leads_to_what_it_is_made_of() {
        let made = |unit: &str, sources: &[&str]| Made::Generated {
            unit: unit.to_owned(),
            sources: sources.iter().map(|path| (*path).to_owned()).collect(),
        };
        check(
            "lib/raid6/int16.o",
            &[(
                "lib/raid6/int%.c",
                "lib/raid6/int.uc lib/raid6/unroll.awk FORCE",
            )],
            &made(
                "lib/raid6/int16.c",
                &["lib/raid6/int.uc", "lib/raid6/unroll.awk"],
            ),
        );
        check(
            "crypto/key.asn1.o",
            &[],
            &made("crypto/key.asn1.c", &["crypto/key.asn1"]),
        );
        check(
            "drivers/tty/vt/defkeymap.o",
            &[],
            &made(
                "drivers/tty/vt/defkeymap.c",
                &["drivers/tty/vt/defkeymap.c_shipped"],
            ),
        );
        check(
            "drivers/base/x.gen.o",
            &[("drivers/base/%.gen.S", "FORCE")],
            &made("drivers/base/x.gen.S", &[]),
        );
    }
}
