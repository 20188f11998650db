//! What one folder's makefiles see and say.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::text::{Gap, Text, inside, words};
use super::tree::SourceTree;
use crate::config::Config;

/// Deepest nesting of references, calls and inclusions. Kernels stay below 20.
const DEEPEST: usize = 64;
/// Bytes that one folder's makefiles may expand. The largest of Linux 6.1, nouveau's, needs under 1 MiB.
const FUEL: usize = 16 << 20;

/// Variables for the command line of make that `Documentation/kbuild` names, with which a kernel built
/// without them is the same kernel, and those that are for modules from outside of the tree.
const KNOBS: [&str; 9] = ["C", "CF", "KBUILD_EXTMOD", "M", "O", "V", "W", "LLVM", "MO"];

/// A variable as it was written.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    /// Its text; still to be expanded where it is not `simple`.
    pub(super) raw: Arc<String>,
    /// Whether it was expanded when it was set.
    pub(super) simple: bool,
    /// Why it may have another value.
    pub(super) gap: Option<Gap>,
    /// Where it was last set.
    pub(super) place: Place,
    /// Whether it was set with `override`.
    pub(super) forced: bool,
    /// Whether it was taken back by `undefine`.
    pub(super) undefined: bool,
    /// Whether it came from the run of make above.
    pub(super) inherited: bool,
    /// Whether it is only named by `export`, and set nowhere.
    pub(super) named: bool,
}

/// Makefile and line.
pub(super) type Place = (Arc<str>, usize);

impl Variable {
    pub(super) fn simple(text: &str) -> Self {
        Self {
            raw: Arc::new(text.to_owned()),
            simple: true,
            gap: None,
            place: ("".into(), 0),
            forced: false,
            undefined: false,
            inherited: false,
            named: false,
        }
    }

    /// A variable as another run of make hands it down: its text is expanded once more.
    pub(super) fn handed(value: Text) -> Self {
        Self {
            simple: false,
            gap: value.gap,
            inherited: true,
            ..Self::simple(&value.text)
        }
    }
}

/// Whether a variable reaches the folders below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Handed {
    Down,
    Not,
    Doubt(Gap),
}

pub(super) type Variables = HashMap<String, Variable>;

/// The rule `targets: prerequisites`, expanded; of pattern rules with `%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) targets: Vec<String>,
    pub(super) prerequisites: Vec<String>,
    /// Whether it says how its targets are made; else it only adds prerequisites.
    pub(super) recipe: bool,
    /// Why it may name other files.
    pub(super) gap: Option<Gap>,
}

impl Rule {
    /// Tells whether one of its targets may be an object or a source.
    pub(super) fn may_make_code(&self) -> bool {
        let ends = [".o", ".c", ".S", "%"];
        let code = |target: &String| ends.iter().any(|end| target.ends_with(end));
        self.targets.is_empty() || self.targets.iter().any(code)
    }
}

/// What one makefile sees and has said so far.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) tree: TreeView<'a>,
    config: &'a Config,
    pub(super) base: Arc<Variables>,
    pub(super) own: Variables,
    /// Arguments of the calls under way, innermost last; `$0` first.
    pub(super) calls: Vec<Vec<Text>>,
    /// Variables of `foreach` and `let` under way.
    pub(super) bound: Vec<(String, Text)>,
    /// Where the line under way stands.
    pub(super) file: Arc<str>,
    pub(super) line: usize,
    depth: usize,
    fuel: usize,
    /// Why the lines under way may not be read at all.
    pub(super) doubt: Option<Gap>,
    /// Why nothing these makefiles say can be relied on.
    pub(super) lost: Option<Gap>,
    pub(super) rules: Vec<Rule>,
    /// Folders given to other runs of make.
    pub(super) side_folders: Vec<Text>,
    /// Texts that count only where make is called with some variable.
    pub(super) optional: Vec<Text>,
    /// Variables that `export` and `unexport` name.
    pub(super) handed: BTreeMap<String, Handed>,
    /// Whether variables that no makefile sets may be set from outside.
    pub(super) outside: bool,
    /// Whether all variables are handed down.
    pub(super) export_all: bool,
    pub(super) makefiles: Vec<String>,
}

/// A tree that can be asked with a debug representation.
#[derive(Clone, Copy)]
pub(super) struct TreeView<'a>(pub(super) &'a dyn SourceTree);

impl std::fmt::Debug for TreeView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SourceTree")
    }
}

impl<'a> Scope<'a> {
    pub(super) fn new(tree: &'a dyn SourceTree, config: &'a Config, base: Arc<Variables>) -> Self {
        Self {
            tree: TreeView(tree),
            config,
            base,
            own: Variables::new(),
            calls: Vec::new(),
            bound: Vec::new(),
            file: "".into(),
            line: 0,
            depth: 0,
            fuel: FUEL,
            doubt: None,
            lost: None,
            rules: Vec::new(),
            side_folders: Vec::new(),
            optional: Vec::new(),
            handed: BTreeMap::new(),
            outside: false,
            export_all: false,
            makefiles: Vec::new(),
        }
    }

    pub(super) fn gap(&self, construct: &str) -> Gap {
        Gap::new(&self.file, self.line, construct)
    }

    /// Runs `step` one level deeper; where that is too deep, nothing these makefiles say counts.
    pub(super) fn deeper(&mut self, what: &str, step: impl FnOnce(&mut Self)) -> Option<Gap> {
        if self.lost.is_none() && self.depth >= DEEPEST {
            let what: String = what.chars().take(80).collect();
            self.lost = Some(self.gap(&format!("nests deeper than {DEEPEST}: {what}")));
        }
        if self.lost.is_some() {
            return self.lost.clone();
        }
        self.depth += 1;
        step(self);
        self.depth -= 1;
        None
    }

    /// Takes `bytes` of the work that is allowed; a gap once there is none left.
    pub(super) fn burn(&mut self, bytes: usize) -> Option<Gap> {
        self.fuel = self.fuel.saturating_sub(bytes.saturating_add(1));
        (self.fuel == 0).then(|| {
            let gap = self.gap("expands to more than a kernel's makefiles do");
            self.lost.get_or_insert(gap).clone()
        })
    }

    pub(super) fn variable(&self, name: &str) -> Option<Variable> {
        if let Some(found) = self.own.get(name) {
            return (!found.undefined).then(|| found.clone());
        }
        // The configuration is read by every run of make, and so it wins over what is handed down.
        self.setting(name).or_else(|| {
            self.base
                .get(name)
                .filter(|found| !found.undefined)
                .cloned()
        })
    }

    /// Returns the gap that a variable leaves which no makefile sets, and which the command line or the
    /// environment of make may.
    pub(super) fn unset(&self, name: &str) -> Option<Gap> {
        if self.outside && self.variable(name).is_none() {
            self.given_outside(name)
        } else {
            None
        }
    }

    /// Returns the gap of a variable that may be set from outside: only names in capitals are.
    pub(super) fn given_outside(&self, name: &str) -> Option<Gap> {
        let capital = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        let given = name.starts_with(|letter: char| letter.is_ascii_uppercase())
            && name.bytes().all(capital)
            && !name.starts_with("CONFIG_")
            && !KNOBS.contains(&name);
        let what = "is set by no makefile, if at all by the command line of make";
        given.then(|| self.gap(&format!("$({name}) {what}")).outside())
    }

    fn setting(&self, name: &str) -> Option<Variable> {
        let name = name.strip_prefix("CONFIG_")?;
        let value = self.config.value(name)?;
        // Builds turn `n` into "not set".
        if value == "n" {
            return None;
        }
        let mut variable = Variable::simple(value);
        if value.contains(['$', '#', '\\']) {
            variable.gap = Some(Gap::new(
                ".config",
                0,
                &format!("CONFIG_{name} holds a sign that make reads: {value}"),
            ));
        }
        Some(variable)
    }
}

/// Returns the words of `text` that name objects or folders, with their places below `folder`.
pub(super) fn below(folder: &str, word: &str) -> Option<String> {
    if folder.is_empty() {
        inside(word)
    } else {
        inside(&format!("{folder}/{word}"))
    }
}

/// Splits a text into words that own their bytes.
pub(super) fn owned_words(text: &str) -> Vec<String> {
    words(text).map(str::to_owned).collect()
}
