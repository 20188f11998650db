//! What one folder's makefiles see and say.

use std::collections::HashMap;
use std::sync::Arc;

use super::text::{Gap, Text, inside, words};
use super::tree::SourceTree;
use crate::config::Config;

/// Deepest nesting of references, calls and inclusions. Kernels stay below 20.
const DEEPEST: usize = 64;
/// Bytes that one folder's makefiles may expand. The largest of Linux 6.1, nouveau's, needs under 1 MiB.
const FUEL: usize = 16 << 20;

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
        }
    }
}

pub(super) type Variables = HashMap<String, Variable>;

/// The rule `targets: prerequisites`, expanded; of pattern rules with `%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) targets: Vec<String>,
    pub(super) prerequisites: Vec<String>,
}

/// What one makefile sees and has said so far.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) tree: TreeView<'a>,
    config: &'a Config,
    base: Arc<Variables>,
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
    /// Names of variables handed down to the folders below.
    pub(super) exported: Vec<String>,
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
            exported: Vec::new(),
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
        if let Some(found) = self.own.get(name).or_else(|| self.base.get(name)) {
            return Some(found.clone());
        }
        let value = self.config.value(name.strip_prefix("CONFIG_")?)?;
        // Builds turn `n` into "not set".
        (value != "n").then(|| Variable::simple(value))
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
