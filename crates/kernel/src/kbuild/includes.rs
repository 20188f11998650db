//! Sources that a source includes.
//!
//! A `.c` file that another one includes has no object. Which `#include` lines the preprocessor reads
//! is told from `CONFIG_` settings alone: a line is passed over only where they rule it out.

use std::collections::{BTreeMap, BTreeSet};

use super::text::{bracketed, inside};
use super::tree::SourceTree;
use crate::config::Config;

/// Largest source that is read, in bytes. Kernels have none above 4 MiB outside of headers.
const LARGEST: u64 = 16 << 20;
/// Deepest nesting of a condition that is read.
const DEEPEST: usize = 16;

/// What an `#include` line leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Included {
    /// This file.
    File(String),
    /// One of these: the folder depends on flags.
    OneOf(Vec<String>),
}

/// The sources of a tree by their names.
#[derive(Debug)]
pub(super) struct Names<'a>(BTreeMap<&'a str, Vec<&'a str>>);

impl<'a> Names<'a> {
    pub(super) fn new(files: &'a BTreeSet<String>) -> Self {
        let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for path in files.iter().filter(|path| is_source(path)) {
            let name = path.rsplit('/').next().unwrap_or(path);
            names.entry(name).or_default().push(path);
        }
        Self(names)
    }

    /// Returns the files called `name`.
    pub(super) fn called(&self, name: &str) -> &[&'a str] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

/// Tells whether a file can be compiled or included as code.
pub(super) fn is_source(path: &str) -> bool {
    [".c", ".S", ".rs", ".h"]
        .iter()
        .any(|end| path.ends_with(end))
}

/// Tells whether the `#include` lines of a file are followed.
pub(super) fn may_include(path: &str) -> bool {
    holds_code(path)
}

/// Names the sources that the source `path` includes; an error where it cannot be read.
pub(super) fn of(
    path: &str,
    tree: &dyn SourceTree,
    names: &Names<'_>,
    config: &Config,
) -> Result<Vec<Included>, String> {
    let bytes = match tree.read(path, LARGEST) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(format!("it is larger than {LARGEST} bytes")),
        Err(error) => return Err(format!("it could not be read: {error}")),
    };
    Ok(lines(&bytes, config)
        .into_iter()
        .filter_map(|written| resolve(path, &written, tree, names))
        .collect())
}

fn resolve(
    path: &str,
    written: &str,
    tree: &dyn SourceTree,
    names: &Names<'_>,
) -> Option<Included> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let beside = inside(&format!("{folder}/{written}"));
    if let Some(found) = beside.filter(|path| tree.files().contains(path)) {
        return Some(Included::File(found));
    }
    let plain = written
        .split('/')
        .filter(|part| !matches!(*part, "" | "." | ".."))
        .collect::<Vec<_>>()
        .join("/");
    let end = format!("/{plain}");
    let name = plain.rsplit('/').next().unwrap_or(&plain);
    let mut found: Vec<String> = names
        .called(name)
        .iter()
        .filter(|path| **path == plain || path.ends_with(&end))
        .filter(|path| !apart(path))
        .map(|path| (*path).to_owned())
        .collect();
    match found.len() {
        0 => None,
        1 => found.pop().map(Included::File),
        _ => Some(Included::OneOf(found)),
    }
}

/// Tells whether a file is one of the build's programs or of another architecture: kernel sources reach
/// none of those by flags.
fn apart(path: &str) -> bool {
    ["tools/", "scripts/", "Documentation/", "samples/"]
        .iter()
        .any(|folder| path.starts_with(folder))
        || (path.starts_with("arch/") && !path.starts_with("arch/x86/"))
}

/// Whether the lines under a condition are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Yes,
    No,
    Maybe,
}

/// Returns what the `#include` lines of a source name, as written, of files that hold code.
fn lines(bytes: &[u8], config: &Config) -> Vec<String> {
    let wanted = [&b".c\""[..], b".c>", b".S\"", b".S>", b"_sources.h\""];
    if !wanted
        .iter()
        .any(|end| memchr::memmem::find(bytes, end).is_some())
    {
        return Vec::new();
    }
    let mut found = Vec::new();
    // Of each open condition: whether its lines are read, and whether an earlier branch was.
    let mut open: Vec<(Read, Read)> = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(directive) = line.trim_ascii_start().strip_prefix(b"#") else {
            continue;
        };
        let directive = String::from_utf8_lossy(directive.trim_ascii());
        let (word, rest) = split_word(&directive);
        match word {
            "if" => {
                let read = condition(rest, config);
                open.push((read, read));
            }
            "ifdef" | "ifndef" => {
                let defined = known(rest.split_whitespace().next().unwrap_or_default(), config);
                let read = if word == "ifdef" {
                    defined
                } else {
                    not(defined)
                };
                open.push((read, read));
            }
            "elif" | "else" => {
                if let Some((read, earlier)) = open.last_mut() {
                    let this = if word == "else" {
                        Read::Yes
                    } else {
                        condition(rest, config)
                    };
                    *read = both(not(*earlier), this);
                    *earlier = either(*earlier, this);
                }
            }
            "endif" => {
                open.pop();
            }
            "include" if !open.iter().any(|(read, _)| *read == Read::No) => {
                found.extend(
                    quoted(rest)
                        .filter(|name| holds_code(name))
                        .map(str::to_owned),
                );
            }
            _ => {}
        }
    }
    found
}

/// Headers hold no code of their own; those of this name are lists of `#include "….c"`.
fn holds_code(name: &str) -> bool {
    [".c", ".S", "_sources.h"]
        .iter()
        .any(|end| name.ends_with(end))
}

fn split_word(text: &str) -> (&str, &str) {
    let end = text
        .find(|letter: char| !letter.is_ascii_alphanumeric())
        .unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    (word, rest.trim())
}

fn quoted(rest: &str) -> Option<&str> {
    let (open, close) = match rest.chars().next()? {
        '"' => ('"', '"'),
        '<' => ('<', '>'),
        _ => return None,
    };
    rest.strip_prefix(open)?
        .split_once(close)
        .map(|(name, _)| name)
}

/// Tells whether the macro `name` is defined, where that is a setting's.
fn known(name: &str, config: &Config) -> Read {
    let Some(setting) = name.strip_prefix("CONFIG_") else {
        return Read::Maybe;
    };
    let (setting, wanted) = match setting.strip_suffix("_MODULE") {
        // `CONFIG_X_MODULE` may also be a setting that ends so.
        Some(stem) if config.value(setting).is_none() => (stem, "m"),
        _ => (setting, "y"),
    };
    match config.value(setting) {
        Some("m") => truth(wanted == "m"),
        Some("n") | None => Read::No,
        Some(_) => truth(wanted == "y"),
    }
}

/// Reads the forms of `#if` that ask for settings; anything else in it is `Maybe`.
fn condition(text: &str, config: &Config) -> Read {
    let text = text.split("/*").next().unwrap_or(text);
    let text = text.split("//").next().unwrap_or(text).trim();
    if text.ends_with('\\') {
        return Read::Maybe;
    }
    any_of(text, config, 0)
}

fn any_of(text: &str, config: &Config, depth: usize) -> Read {
    if depth > DEEPEST {
        return Read::Maybe;
    }
    split_outside(text, "||")
        .into_iter()
        .map(|part| {
            split_outside(part, "&&")
                .into_iter()
                .map(|part| term(part.trim(), config, depth))
                .fold(Read::Yes, both)
        })
        .fold(Read::No, either)
}

fn term(text: &str, config: &Config, depth: usize) -> Read {
    if let Some(rest) = text.strip_prefix('!') {
        if depth > DEEPEST {
            return Read::Maybe;
        }
        return not(term(rest.trim_start(), config, depth + 1));
    }
    if let Some((inner, "")) = bracketed(text).filter(|_| text.starts_with('(')) {
        return any_of(inner.trim(), config, depth + 1);
    }
    let call = |name: &str| {
        let rest = text.strip_prefix(name)?.trim_start();
        let rest = rest
            .strip_prefix('(')
            .and_then(|rest| rest.strip_suffix(')'))
            .unwrap_or(rest);
        let symbol = rest.trim();
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        (!symbol.is_empty() && symbol.chars().all(plain)).then_some(symbol)
    };
    if let Some(symbol) = call("IS_ENABLED") {
        let module = format!("{symbol}_MODULE");
        return either(known(symbol, config), known(&module, config));
    }
    if let Some(symbol) = call("IS_BUILTIN").or_else(|| call("defined")) {
        return known(symbol, config);
    }
    match text {
        "0" => Read::No,
        "1" => Read::Yes,
        _ => Read::Maybe,
    }
}

/// Splits `text` at `sign` outside of brackets.
fn split_outside<'a>(text: &'a str, sign: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let mut depth = 0_usize;
    let mut start = 0;
    let mut skip = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0
                && at >= skip
                && text.get(at..).is_some_and(|rest| rest.starts_with(sign)) =>
            {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + sign.len();
                skip = start;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

fn truth(holds: bool) -> Read {
    if holds { Read::Yes } else { Read::No }
}

fn not(read: Read) -> Read {
    match read {
        Read::Yes => Read::No,
        Read::No => Read::Yes,
        Read::Maybe => Read::Maybe,
    }
}

fn both(left: Read, right: Read) -> Read {
    match (left, right) {
        (Read::No, _) | (_, Read::No) => Read::No,
        (Read::Yes, Read::Yes) => Read::Yes,
        (Read::Maybe, _) | (_, Read::Maybe) => Read::Maybe,
    }
}

fn either(left: Read, right: Read) -> Read {
    not(both(not(left), not(right)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kbuild::tree::Memory;

    fn check(text: &str, expected: &[&str]) {
        let config = Config::parse("CONFIG_A=y\nCONFIG_M=m\n");
        assert_eq!(lines(text.as_bytes(), &config), expected, "{text}");
    }

    #[test]
    fn only_settings_rule_an_include_out() {
        check(
            "#include \"a.c\"\n # include <b.c>\n#include \"c.h\"",
            &["a.c", "b.c"],
        );
        check(
            "#ifdef CONFIG_A\n#include \"a.c\"\n#else\n#include \"b.c\"\n#endif",
            &["a.c"],
        );
        check(
            "#ifdef CONFIG_B\n#include \"a.c\"\n#else\n#include \"b.c\"\n#endif",
            &["b.c"],
        );
        check("#ifndef CONFIG_B\n#include \"a.c\"\n#endif", &["a.c"]);
        check(
            "#ifdef OTHER\n#include \"a.c\"\n#else\n#include \"b.c\"\n#endif",
            &["a.c", "b.c"],
        );
        check(
            "#if IS_ENABLED(CONFIG_M)\n#include \"a.c\"\n#endif",
            &["a.c"],
        );
        check("#if IS_BUILTIN(CONFIG_M)\n#include \"a.c\"\n#endif", &[]);
        check(
            "#if defined(CONFIG_B) && X > 2\n#include \"a.c\"\n#endif",
            &[],
        );
        check(
            "#if defined(CONFIG_B) || X > 2\n#include \"a.c\"\n#endif",
            &["a.c"],
        );
        check(
            "#if !defined CONFIG_A\n#include \"a.c\"\n#elif X\n#include \"b.c\"\n#endif",
            &["b.c"],
        );
        check(
            "#if 0\n#include \"a.c\"\n#endif\n#include \"b.c\"",
            &["b.c"],
        );
        check(
            "#if defined(CONFIG_B) && X || Y\n#include \"a.c\"\n#endif",
            &["a.c"],
        );
        check(
            "#if (defined(CONFIG_B) || X) && defined(CONFIG_B)\n#include \"a.c\"\n#endif",
            &[],
        );
        check("#ifdef CONFIG_M_MODULE\n#include \"a.c\"\n#endif", &["a.c"]);
        check(
            "#if (defined(CONFIG_B) || defined(CONFIG_A)) && defined(CONFIG_A)\n#include \"a.c\"\n#endif",
            &["a.c"],
        );
    }

    #[test]
    fn an_include_is_found_beside_its_file_or_by_its_only_place() {
        let files = ["net/a.c", "net/b.c", "lib/x/c.c", "fs/d.c", "mm/d.c"];
        let tree = Memory::new(files.map(|path| (path.to_owned(), Vec::new())));
        let names = Names::new(tree.files());
        for (written, expected) in [
            ("b.c", Some(Included::File("net/b.c".to_owned()))),
            ("../lib/x/c.c", Some(Included::File("lib/x/c.c".to_owned()))),
            ("x/c.c", Some(Included::File("lib/x/c.c".to_owned()))),
            (
                "d.c",
                Some(Included::OneOf(vec![
                    "fs/d.c".to_owned(),
                    "mm/d.c".to_owned(),
                ])),
            ),
            ("made.c", None),
        ] {
            assert_eq!(
                resolve("net/a.c", written, &tree, &names),
                expected,
                "{written}"
            );
        }
    }
}
