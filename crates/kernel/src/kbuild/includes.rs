//! Sources that a source includes.
//!
//! A `.c` file that another one includes has no object. First every file is skimmed for all that it may
//! include, whatever its conditions say; then the few that lead to code are read line by line. Which
//! `#include` lines the preprocessor reads is told from `CONFIG_` settings alone; where anything else
//! decides, it is not known.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use memchr::memmem;

use super::condition::{Read, both, condition, either, known, not, settings_in, split_name};
use super::text::inside;
use super::tree::SourceTree;
use crate::config::Config;

/// Largest source that is read, in bytes.
const LARGEST: u64 = 64 << 20;
/// What a build makes of the configuration.
const SETTINGS: &str = "include/generated/autoconf.h";

/// The files of a tree by their names.
#[derive(Debug)]
pub(crate) struct Names<'a> {
    files: &'a BTreeSet<String>,
    named: HashMap<&'a str, Vec<&'a str>>,
}

impl<'a> Names<'a> {
    pub(crate) fn new(files: &'a BTreeSet<String>) -> Self {
        let mut named: HashMap<&str, Vec<&str>> = HashMap::new();
        for path in files
            .iter()
            .filter(|path| !apart(path) && *path != SETTINGS)
        {
            let name = path.rsplit('/').next().unwrap_or(path);
            named.entry(name).or_default().push(path);
        }
        Self { files, named }
    }

    /// Returns the files called `name`, but for those of the build's programs and of other machines.
    pub(super) fn called(&self, name: &str) -> &[&'a str] {
        self.named.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns the files that `written` in the file `path` may mean: the one beside it, or else all
    /// that a folder given by a flag could lead to.
    pub(crate) fn meant(&self, path: &str, written: &Written) -> Vec<&'a str> {
        if let Written::Quoted(name) = written {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let beside = inside(&format!("{folder}/{name}"));
            if let Some(found) = beside.and_then(|path| self.files.get(&path)) {
                return vec![found];
            }
        }
        let written = written.name();
        let plain = written
            .split('/')
            .filter(|part| !matches!(*part, "" | "." | ".."))
            .collect::<Vec<_>>()
            .join("/");
        let end = format!("/{plain}");
        let name = plain.rsplit('/').next().unwrap_or(&plain);
        let all = self.called(name).iter().copied();
        all.filter(|path| **path == *plain || path.ends_with(&end))
            .collect()
    }
}

/// Tells whether a file holds code: what others include of it is compiled.
pub(super) fn is_code(path: &str) -> bool {
    [".c", ".S"].iter().any(|end| path.ends_with(end))
}

/// Tells whether a file can be part of a compilation as text.
pub(super) fn is_read(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    !matches!(name, "Kbuild" | "Kconfig") && !name.starts_with("Makefile")
}

/// Tells whether a file is one of the build's programs or of another architecture: kernel sources reach
/// none of those by flags.
pub(super) fn apart(path: &str) -> bool {
    ["tools/", "scripts/", "Documentation/"]
        .iter()
        .any(|folder| path.starts_with(folder))
        || (path.starts_with("arch/") && !path.starts_with("arch/x86/"))
}

/// A file name as an `#include` line or a `#define` line has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Written {
    /// In quotes: looked for beside the file itself first.
    Quoted(String),
    /// In angle brackets: looked for in the folders of the command line alone.
    Angled(String),
}

impl Written {
    /// The name itself.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Quoted(name) | Self::Angled(name) => name,
        }
    }
}

/// What a file may have to do with others, whatever its conditions say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Skimmed {
    /// What its `#include` lines name.
    pub(crate) named: BTreeSet<Written>,
    /// Macros that `#include` lines name instead of a file.
    pub(crate) macros: BTreeSet<String>,
    /// Settings that it defines or takes back.
    pub(super) settings: BTreeSet<String>,
    /// Files that its `#define` lines name, with the macro. Any text may be one.
    pub(crate) defined: BTreeSet<(String, Written)>,
}

/// Reads `path`; an error says why it cannot be.
pub(super) fn read(path: &str, tree: &dyn SourceTree) -> Result<Vec<u8>, String> {
    match tree.read(path, LARGEST) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(format!("it is larger than {LARGEST} bytes")),
        Err(error) => Err(format!("it could not be read: {error}")),
    }
}

/// Looks through a file for all that it may include.
pub(crate) fn skim(bytes: &[u8]) -> Skimmed {
    let mut found = Skimmed::default();
    for at in memchr::memchr_iter(b'#', bytes) {
        directive(bytes.get(at + 1..).unwrap_or_default(), &mut found);
    }
    for sign in [&b"%:"[..], b"??="] {
        for at in memmem::find_iter(bytes, sign) {
            directive(bytes.get(at + sign.len()..).unwrap_or_default(), &mut found);
        }
    }
    // The assembler's own; the preprocessor passes it on.
    for at in memmem::find_iter(bytes, b".include") {
        let rest = bytes.get(at + 8..).unwrap_or_default();
        // Within `asm()` its quotes are escaped.
        let rest = rest.trim_ascii_start();
        let rest = rest.strip_prefix(b"\\").unwrap_or(rest);
        if let Some(Operand::File(written)) = operand(rest) {
            let name = written.name().trim_end_matches('\\').to_owned();
            found.named.insert(Written::Angled(name.clone()));
            found.named.insert(Written::Quoted(name));
        }
    }
    found
}

/// Reads what stands behind the sign of a directive. Whether the sign opens its line is not asked:
/// rather one too many.
fn directive(rest: &[u8], found: &mut Skimmed) {
    let Some(first) = rest.iter().find(|byte| !matches!(byte, b' ' | b'\t')) else {
        return;
    };
    if matches!(first, b'i' | b'd' | b'u' | b'/' | b'\\') && !names_nothing(rest) {
        closely(rest, found);
    }
}

fn closely(rest: &[u8], found: &mut Skimmed) {
    let line = unspliced(logical_line(rest));
    let line = past_comments(&line);
    let end = line
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
        .unwrap_or(line.len());
    let (word, rest) = line.split_at_checked(end).unwrap_or((line, &[]));
    match word {
        b"include" | b"include_next" | b"import" => match operand(past_comments(rest)) {
            Some(Operand::File(Written::Quoted(name))) if word == b"include_next" => {
                found.named.insert(Written::Angled(name));
            }
            Some(Operand::File(name)) => {
                found.named.insert(name);
            }
            Some(Operand::Macro(name)) => {
                found.macros.insert(name);
            }
            None => {}
        },
        b"define" | b"undef" => {
            let rest = past_comments(rest);
            let name = identifier(rest);
            if let Some(setting) = name.strip_prefix("CONFIG_") {
                found.settings.insert(setting.to_owned());
            }
            if word == b"define" {
                let text = rest.get(name.len()..).unwrap_or_default();
                found.defined.extend(texts(&name, text));
            }
        }
        _ => {}
    }
}

/// Tells at a glance that a `#define` ends with its line and holds no text, comment or setting. Register
/// headers of graphics drivers have millions of these, and nothing else.
fn names_nothing(rest: &[u8]) -> bool {
    let line = rest.get(..memchr::memchr(b'\n', rest).unwrap_or(rest.len()));
    let line = line.unwrap_or_default().trim_ascii_start();
    let Some(text) = line.strip_prefix(b"define") else {
        return false;
    };
    let name = text.trim_ascii_start();
    !name.starts_with(b"CONFIG_")
        && !name.starts_with(b"TRACE_INCLUDE_FILE")
        && memchr::memchr3(b'"', b'<', b'\\', text).is_none()
        && memchr::memchr(b'*', text).is_none()
}

/// Cuts off behind the line, with what it joins by a backslash or a comment.
fn logical_line(rest: &[u8]) -> &[u8] {
    let mut end = 0;
    loop {
        let tail = rest.get(end..).unwrap_or_default();
        let Some(newline) = memchr::memchr(b'\n', tail) else {
            return rest;
        };
        end += newline + 1;
        let line = rest.get(..end).unwrap_or(rest);
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.ends_with(b"\\") {
            continue;
        }
        let opens = |at: &usize| line.get(at + 1) == Some(&b'*');
        let Some(open) = memchr::memrchr_iter(b'/', line).find(opens) else {
            return line;
        };
        let comment = line.get(open + 2..).unwrap_or_default();
        if memmem::find(comment, b"*/").is_some() {
            return line;
        }
        match memmem::find(rest.get(end..).unwrap_or_default(), b"*/") {
            Some(close) => end += close + 2,
            None => return rest,
        }
    }
}

/// Lists the texts that may be file names in what the macro `name` stands for.
fn texts(name: &str, text: &[u8]) -> Vec<(String, Written)> {
    let mut found = Vec::new();
    for at in memchr::memchr2_iter(b'"', b'<', text) {
        if let Some(Operand::File(written)) = operand(text.get(at..).unwrap_or_default()) {
            // The end of one text and the start of the next enclose no name.
            if written.name().contains('.') && !written.name().contains([' ', '\t', '%']) {
                found.push((name.to_owned(), written));
            }
        }
    }
    // include/trace/define_trace.h makes the name of this and `.h`.
    if name == "TRACE_INCLUDE_FILE" {
        let file = identifier(text.trim_ascii_start());
        found.push((name.to_owned(), Written::Quoted(format!("{file}.h"))));
    }
    found
}

/// Takes out what joins lines, as the compiler does before anything else.
fn unspliced(bytes: &[u8]) -> Cow<'_, [u8]> {
    let joined = |at: usize| {
        let tail = bytes.get(at + 1..).unwrap_or_default();
        tail.starts_with(b"\n") || tail.starts_with(b"\r\n")
    };
    if !memchr::memchr_iter(b'\\', bytes).any(joined) {
        return Cow::Borrowed(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (before, tail) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.extend_from_slice(before);
        let next = tail
            .strip_prefix(b"\\\n")
            .or_else(|| tail.strip_prefix(b"\\\r\n"));
        rest = next.unwrap_or_else(|| {
            out.push(b'\\');
            tail.get(1..).unwrap_or_default()
        });
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

fn past_comments(rest: &[u8]) -> &[u8] {
    let mut rest = rest;
    loop {
        rest = rest.trim_ascii_start();
        let Some(comment) = rest.strip_prefix(b"/*") else {
            return rest;
        };
        let Some(end) = memmem::find(comment, b"*/") else {
            return &[];
        };
        rest = comment.get(end + 2..).unwrap_or_default();
    }
}

/// What an `#include` line names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    File(Written),
    Macro(String),
}

fn operand(rest: &[u8]) -> Option<Operand> {
    let close = match rest.first()? {
        b'"' => b'"',
        b'<' => b'>',
        letter if letter.is_ascii_alphabetic() || *letter == b'_' => {
            return Some(Operand::Macro(identifier(rest)));
        }
        _ => return None,
    };
    let rest = rest.get(1..)?;
    let line = rest.get(..memchr::memchr(b'\n', rest).unwrap_or(rest.len()))?;
    let name = line.get(..memchr::memchr(close, line)?)?;
    let name = String::from_utf8_lossy(name).into_owned();
    Some(Operand::File(if close == b'"' {
        Written::Quoted(name)
    } else {
        Written::Angled(name)
    }))
}

fn identifier(bytes: &[u8]) -> String {
    let letters = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_');
    letters.map(|byte| char::from(*byte)).collect()
}

/// One `#include` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) operand: Operand,
    pub(super) read: Read,
    /// Settings that its conditions ask for.
    pub(super) settings: BTreeSet<String>,
}

/// An open condition.
struct Open {
    read: Read,
    /// Whether an earlier branch was read.
    earlier: Read,
    settings: BTreeSet<String>,
}

/// Returns the `#include` lines of a file in their order.
pub(super) fn lines(bytes: &[u8], config: &Config) -> Vec<Line> {
    let text = without_comments(&unspliced(bytes));
    let directives: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            let rest = ["#", "%:", "??="]
                .iter()
                .find_map(|sign| line.strip_prefix(sign))?;
            Some(split_word(rest.trim_start()))
        })
        .collect();
    let mut found = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for (index, (word, rest)) in directives.iter().enumerate() {
        match *word {
            "if" | "ifdef" | "ifndef" => {
                let next = directives.get(index + 1);
                let guards = next.is_some_and(|(word, name)| {
                    *word == "define" && guard(directives.get(index)) == Some(split_name(name))
                });
                let read = match *word {
                    _ if guards => Read::Yes,
                    "if" => condition(rest, config),
                    "ifdef" => known(split_name(rest), config),
                    _ => not(known(split_name(rest), config)),
                };
                open.push(Open {
                    read,
                    earlier: read,
                    settings: settings_in(rest),
                });
            }
            "elif" | "else" | "elifdef" | "elifndef" => {
                if let Some(last) = open.last_mut() {
                    let this = match *word {
                        "else" => Read::Yes,
                        "elifdef" => known(split_name(rest), config),
                        "elifndef" => not(known(split_name(rest), config)),
                        _ => condition(rest, config),
                    };
                    last.read = both(not(last.earlier), this);
                    last.earlier = either(last.earlier, this);
                    last.settings.extend(settings_in(rest));
                }
            }
            "endif" => {
                open.pop();
            }
            "include" | "include_next" | "import" => {
                let read = open.iter().fold(Read::Yes, |all, one| both(all, one.read));
                let settings = open.iter().flat_map(|one| one.settings.iter().cloned());
                found.extend(operand(rest.as_bytes()).map(|operand| Line {
                    operand,
                    read,
                    settings: settings.collect(),
                }));
            }
            _ => {}
        }
    }
    found
}

/// Returns the macro that a condition wants undefined, where it asks for nothing else.
fn guard<'a>(directive: Option<&(&'a str, &'a str)>) -> Option<&'a str> {
    match directive? {
        ("ifndef", rest) => Some(split_name(rest)),
        ("if", rest) => {
            let rest = rest
                .strip_prefix('!')?
                .trim_start()
                .strip_prefix("defined")?;
            Some(rest.trim_matches(['(', ')', ' ', '\t']))
        }
        _ => None,
    }
}

/// Replaces comments by blanks, and leaves texts as they are.
fn without_comments(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    let mut inside: Option<u8> = None;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (inside, byte) {
            (_, b'\n') => inside = None,
            (Some(_), b'\\') => {
                out.push(byte);
                if let Some((&next, tail)) = rest.split_first().filter(|(next, _)| **next != b'\n')
                {
                    out.push(next);
                    rest = tail;
                }
                continue;
            }
            (Some(quote), _) if quote == byte => inside = None,
            (None, b'"' | b'\'') => inside = Some(byte),
            (None, b'/') if tail.first() == Some(&b'*') => {
                let end = memmem::find(tail.get(1..).unwrap_or_default(), b"*/");
                rest = end.map_or(&[], |end| tail.get(end + 3..).unwrap_or_default());
                out.push(b' ');
                continue;
            }
            (None, b'/') if tail.first() == Some(&b'/') => {
                let end = memchr::memchr(b'\n', tail).unwrap_or(tail.len());
                rest = tail.get(end..).unwrap_or_default();
                continue;
            }
            _ => {}
        }
        out.push(byte);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn split_word(text: &str) -> (&str, &str) {
    let end = text
        .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    (word, rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives the files that are read, those that may be with a `?`.
    fn check(text: &str, expected: &[&str]) {
        let config = Config::parse("CONFIG_A=y\nCONFIG_M=m\n");
        let shown: Vec<String> = lines(text.as_bytes(), &config)
            .into_iter()
            .filter_map(|line| match (line.operand, line.read) {
                (Operand::File(file), Read::Yes) => Some(file.name().to_owned()),
                (Operand::File(file), Read::Maybe) => Some(format!("{}?", file.name())),
                (_, _) => None,
            })
            .filter(|name| name.strip_suffix(".h").is_none())
            .collect();
        assert_eq!(shown, expected, "{text}");
        let all = skim(text.as_bytes()).named;
        for name in shown {
            let name = name.trim_end_matches('?');
            assert!(all.iter().any(|file| file.name() == name), "{name}: {text}");
        }
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
            &["a.c?", "b.c?"],
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
            &["a.c?"],
        );
        check(
            "#if !defined CONFIG_A\n#include \"a.c\"\n#elif X\n#include \"b.c\"\n#endif",
            &["b.c?"],
        );
        check(
            "#if 0\n#include \"a.c\"\n#endif\n#include \"b.c\"",
            &["b.c"],
        );
        check(
            "#if defined(CONFIG_B) && X || Y\n#include \"a.c\"\n#endif",
            &["a.c?"],
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
    fn a_directive_is_read_as_the_compiler_does() {
        check("/* x */ #include \"a.c\"\n", &["a.c"]);
        check("#include \\\n  \"a.c\"\n", &["a.c"]);
        check("#include \\\r\n  \"a.c\"\r\n", &["a.c"]);
        check("#inc\\\nlude \"a.c\"\n", &["a.c"]);
        check("# /* x */ include /* y\n */ \"a.c\"\n", &["a.c"]);
        check("%:include \"a.c\"\n#import \"b.c\"", &["a.c", "b.c"]);
        check("#include_next <a.c>\n", &["a.c"]);
        check("/*\n#include \"a.c\"\n*/ // #include \"b.c\"\n", &[]);
        check(
            "char *s = \"/*\";\n#include \"a.c\"\nchar *t = \"*/\";",
            &["a.c"],
        );
        check("// don't\n#include \"a.c\"\n", &["a.c"]);
        check(
            "#ifndef _A_H\n#define _A_H\n#include \"a.c\"\n#endif\n",
            &["a.c"],
        );
        check(
            "#if !defined(_A_H)\n#define _A_H 1\n#include \"a.c\"\n#endif\n",
            &["a.c"],
        );
        check(
            "#if defined(CONFIG_B) && \\\n X\n#include \"a.c\"\n#endif\n",
            &[],
        );
        check("/* #ifdef CONFIG_B\n*/\n#include \"a.c\"\n", &["a.c"]);
        check(
            "#ifdef CONFIG_B\n#elifdef CONFIG_A\n#include \"a.c\"\n#endif\n",
            &["a.c"],
        );
    }

    #[test]
    fn macros_and_settings_of_a_file_are_seen() {
        let found = skim(
            b"#define X \"x.c\"\n# define Y <d/y.c>\n#define Z \\\n  \"z.h\" /*\n \"no file.c\" */ \"%s.c\"\n#define TRACE_INCLUDE_FILE t\n#include X\n#undef CONFIG_A\n#define\tCONFIG_B 1\nputs(\"CONFIG_C\");\n",
        );
        let expected = [
            ("TRACE_INCLUDE_FILE", Written::Quoted("t.h".to_owned())),
            ("X", Written::Quoted("x.c".to_owned())),
            ("Y", Written::Angled("d/y.c".to_owned())),
            ("Z", Written::Quoted("z.h".to_owned())),
        ];
        let expected = expected.map(|(name, file)| (name.to_owned(), file));
        assert_eq!(found.defined, expected.into());
        assert_eq!(found.macros, ["X".to_owned()].into());
        assert_eq!(found.settings, ["A".to_owned(), "B".to_owned()].into());
    }

    #[test]
    fn what_a_glance_passes_over_holds_nothing() {
        use proptest::prelude::*;

        const PIECES: [&str; 20] = [
            "define",
            "include",
            "undef",
            " ",
            "\t",
            "A",
            "CONFIG_X",
            "TRACE_INCLUDE_FILE",
            "\"a.c\"",
            "<b.h>",
            "\\",
            "\n",
            "\r\n",
            "/*",
            "*/",
            "\\\n",
            "0x1",
            "(",
            "\"",
            "#",
        ];
        let piece = prop::sample::select(&PIECES[..]);
        let text = prop::collection::vec(piece, 1..14);
        let passed = std::cell::Cell::new(0);
        proptest!(ProptestConfig::with_cases(4000), |(pieces in text)| {
            let text = format!("define {}", pieces.concat());
            let mut found = Skimmed::default();
            closely(text.as_bytes(), &mut found);
            if names_nothing(text.as_bytes()) {
                passed.set(passed.get() + 1);
                prop_assert_eq!(found, Skimmed::default(), "{}", text);
            }
        });
        assert!(passed.get() > 100, "{passed:?}");
    }

    #[test]
    fn an_include_is_found_beside_its_file_or_wherever_a_flag_could_lead() {
        let files = [
            "net/a.c",
            "net/b.c",
            "lib/x/c.c",
            "fs/d.c",
            "mm/d.c",
            "tools/d.c",
        ];
        let files = files.map(str::to_owned).into();
        let names = Names::new(&files);
        for (written, expected) in [
            ("b.c", &["net/b.c"][..]),
            ("../lib/x/c.c", &["lib/x/c.c"]),
            ("x/c.c", &["lib/x/c.c"]),
            ("d.c", &["fs/d.c", "mm/d.c"]),
            ("made.c", &[]),
        ] {
            let written = Written::Quoted(written.to_owned());
            assert_eq!(names.meant("net/a.c", &written), expected, "{written:?}");
        }
        // In brackets the file beside it is one among others.
        let written = Written::Angled("d.c".to_owned());
        assert_eq!(names.meant("mm/x.c", &written), ["fs/d.c", "mm/d.c"]);
    }
}
