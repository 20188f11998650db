//! The lines of a makefile: assignments, conditions, inclusions, rules.

use std::sync::Arc;

use super::scope::{Handed, Rule, Scope, Variable, owned_words};
use super::syntax::{Assignment, Operator, assignment, compared, end_of_word};
use super::text::{
    Gap, Text, blank, find_outside, inside, is_object, joined, lines, without_comment, words,
};

/// Largest makefile that is read, in bytes. The largest of Linux 6.12 has 70 KiB.
const LARGEST: u64 = 4 << 20;
/// Largest text of one variable, in bytes.
const LONGEST: usize = 4 << 20;
/// Most makefiles that one folder may include.
const MOST_FILES: usize = 1000;

/// One open condition.
#[derive(Debug)]
enum Branch {
    /// Its lines are read.
    Taken,
    /// They are not, a later branch may be.
    Passed,
    /// They are not, nor is any later branch.
    Done,
    /// It is not known whether they are read.
    Unknown(Gap),
}

/// What a condition says.
enum Truth {
    Yes,
    No,
    Unknown(Gap),
}

impl Scope<'_> {
    /// Reads the makefile `path` of the tree; notes a gap where it cannot be.
    pub(super) fn include(&mut self, path: &str) -> Result<(), Gap> {
        if self.makefiles.len() >= MOST_FILES {
            return Err(self.gap(&format!("more than {MOST_FILES} makefiles, at {path}")));
        }
        let bytes = match self.tree.0.read(path, LARGEST) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(self.gap(&format!("{path} is larger than {LARGEST} bytes"))),
            Err(error) => return Err(self.gap(&format!("could not read {path}: {error}"))),
        };
        self.makefiles.push(path.to_owned());
        let known = self.value("MAKEFILE_LIST").text;
        self.own.insert(
            "MAKEFILE_LIST".to_owned(),
            Variable::simple(&format!("{known} {path}")),
        );
        let place = (Arc::clone(&self.file), self.line);
        let text = String::from_utf8_lossy(&bytes);
        // make passes over both, in files alone.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let text = text.replace("\r\n", "\n");
        let gap = self.deeper(&format!("include {path}"), |scope| {
            (scope.file, scope.line) = (path.into(), 0);
            scope.evaluate(&text);
        });
        (self.file, self.line) = place;
        match gap {
            Some(gap) => Err(gap),
            None => Ok(()),
        }
    }

    /// Evaluates the lines of `text`.
    pub(super) fn evaluate(&mut self, text: &str) {
        let start = self.line;
        let outer = self.doubt.clone();
        let mut branches: Vec<Branch> = Vec::new();
        let mut after_rule = false;
        let mut define: Option<(String, usize, String)> = None;
        for line in lines(text) {
            self.line = start + line.number;
            if let Some(gap) = self.burn(line.raw.len()) {
                self.lost.get_or_insert(gap);
                return;
            }
            if let Some((head, depth, body)) = &mut define {
                let collapsed = joined(line.raw);
                // Lines that start with a tab end nothing.
                let word = if line.raw.starts_with('\t') {
                    ""
                } else {
                    first_word(&collapsed)
                };
                match word {
                    "define" => *depth += 1,
                    "endef" if *depth > 0 => *depth -= 1,
                    "endef" => {
                        let body = std::mem::take(body);
                        let body = body.strip_suffix('\n').unwrap_or(&body);
                        let head = std::mem::take(head);
                        define = None;
                        if let (Some(head), false) = (assignment(&head), ignoring(&branches)) {
                            self.assign_line(&head, body);
                        }
                        continue;
                    }
                    _ => {}
                }
                body.push_str(&collapsed);
                body.push('\n');
                continue;
            }
            if line.raw.starts_with('\t') && after_rule {
                if !ignoring(&branches) {
                    self.recipe(line.raw);
                }
                continue;
            }
            let plain = without_comment(&joined(line.raw));
            let plain = plain.trim_start_matches(blank);
            if plain.is_empty() {
                continue;
            }
            if let Some(assignment) = assignment(plain) {
                if assignment.define {
                    after_rule = false;
                    define = Some((plain.to_owned(), 0, String::new()));
                    continue;
                }
                if ignoring(&branches) {
                    continue;
                }
                after_rule = false;
                self.assign_line(&assignment, assignment.value);
                continue;
            }
            let plain = plain.trim_end_matches(blank);
            let (word, rest) = plain
                .split_once(blank)
                .map_or((plain, ""), |(word, rest)| (word, rest.trim_matches(blank)));
            if self.condition_line(word, rest, &mut branches) {
                self.doubt = outer.clone().or_else(|| doubt(&branches));
                continue;
            }
            if ignoring(&branches) {
                continue;
            }
            match word {
                "include" | "-include" | "sinclude" => {
                    after_rule = false;
                    self.include_line(rest, word == "include");
                }
                "export" | "unexport" => {
                    after_rule = false;
                    self.export_line(word == "export", rest);
                }
                "undefine" => {
                    after_rule = false;
                    self.undefine(rest, false);
                }
                "override" if first_word(rest) == "undefine" => {
                    after_rule = false;
                    let name = rest.strip_prefix("undefine").unwrap_or_default();
                    self.undefine(name, true);
                }
                "vpath" => {
                    after_rule = false;
                    // Without a folder it takes back what others said.
                    if words(rest).count() > 1 {
                        let gap = self.gap(&format!("vpath {rest}"));
                        self.lost.get_or_insert(gap);
                    }
                }
                "load" | "-load" => {
                    let gap = self.gap(&format!("{word} {rest}"));
                    self.lost.get_or_insert(gap);
                }
                _ => after_rule = self.rule_line(plain),
            }
            if self.lost.is_some() {
                self.doubt = outer;
                return;
            }
        }
        if !branches.is_empty() || define.is_some() {
            let gap = self.gap("the file ends within a condition or a define");
            self.lost.get_or_insert(gap);
        }
        self.doubt = outer;
    }

    /// Follows a line that opens, turns or closes a condition; tells whether it is one.
    fn condition_line(&mut self, word: &str, rest: &str, branches: &mut Vec<Branch>) -> bool {
        match word {
            "ifeq" | "ifneq" | "ifdef" | "ifndef" => {
                let branch = if ignoring(branches) {
                    Branch::Done
                } else {
                    branch(self.condition(word, rest))
                };
                branches.push(branch);
            }
            "else" => {
                let Some(last) = branches.pop() else {
                    let gap = self.gap("else without a condition");
                    self.lost.get_or_insert(gap);
                    return true;
                };
                let next = match last {
                    Branch::Taken | Branch::Done => Branch::Done,
                    Branch::Passed => self.otherwise(rest, branches),
                    // An earlier branch may have been read, so no later one is certain.
                    Branch::Unknown(gap) => Branch::Unknown(gap),
                };
                branches.push(next);
            }
            "endif" => {
                if branches.pop().is_none() {
                    let gap = self.gap("endif without a condition");
                    self.lost.get_or_insert(gap);
                }
            }
            _ => return false,
        }
        true
    }

    fn otherwise(&mut self, rest: &str, outer: &[Branch]) -> Branch {
        if ignoring(outer) {
            return Branch::Done;
        }
        match rest.split_once(blank) {
            Some((word @ ("ifeq" | "ifneq" | "ifdef" | "ifndef"), rest)) => {
                branch(self.condition(word, rest.trim_matches(blank)))
            }
            _ => Branch::Taken,
        }
    }

    fn condition(&mut self, word: &str, rest: &str) -> Truth {
        let (holds, gap) = match word {
            "ifdef" | "ifndef" => {
                let name = self.expand(rest);
                let unset = self.unset(name.text.trim_matches(blank));
                let variable = self.variable(name.text.trim_matches(blank));
                let defined = variable.as_ref().is_some_and(|found| !found.raw.is_empty());
                let gap = name
                    .gap
                    .or_else(|| variable.and_then(|found| found.gap))
                    .or(unset);
                (defined == (word == "ifdef"), gap)
            }
            _ => match compared(rest) {
                Some((left, right)) => {
                    let (left, right) = (self.expand(left), self.expand(right));
                    let equal = left.text == right.text;
                    (equal == (word == "ifeq"), left.gap.or(right.gap))
                }
                None => (false, Some(self.gap(&format!("{word} {rest}")))),
            },
        };
        match gap {
            Some(gap) => Truth::Unknown(gap),
            None if holds => Truth::Yes,
            None => Truth::No,
        }
    }

    fn include_line(&mut self, rest: &str, needed: bool) {
        let paths = self.expand(rest);
        // What the build itself writes beside objects names no objects.
        let harmless = |path: &str| {
            [".cmd", ".d", "include/config/auto.conf", ".kernelvariables"]
                .iter()
                .any(|end| path.ends_with(end))
        };
        if let Some(gap) = &paths.gap
            && (needed || !paths.words().all(harmless))
        {
            self.lost.get_or_insert(gap.clone());
        }
        for path in owned_words(&paths.text) {
            // The configuration is known without the file that a build makes of it.
            if path.ends_with("include/config/auto.conf") || path.ends_with("auto.conf.cmd") {
                continue;
            }
            let there = inside(&path).filter(|path| self.tree.0.files().contains(path));
            match there {
                Some(path) => {
                    if let Err(gap) = self.include(&path) {
                        self.lost.get_or_insert(gap);
                    }
                }
                // A build may make it before it is read.
                None if needed || !harmless(&path) => {
                    let gap = self.gap(&format!("include {path}: not in the tree"));
                    self.lost.get_or_insert(gap);
                }
                None => {}
            }
        }
    }

    /// Reads a rule, or a line that expands to nothing; tells whether recipe lines may follow.
    fn rule_line(&mut self, line: &str) -> bool {
        let cut = find_outside(line, ';').and_then(|at| line.get(..at));
        let recipe = cut.is_some();
        let line = cut.unwrap_or(line);
        let Some(at) = find_outside(line, ':') else {
            let expanded = self.expand(line);
            let Some((left, right)) = expanded.text.split_once(':') else {
                if !expanded.text.trim_matches(blank).is_empty() {
                    let gap = self.gap(&format!("no assignment, rule or directive: {line}"));
                    self.lost.get_or_insert(gap);
                }
                // What it leaves out may be lines.
                if let (Some(gap), None) = (expanded.gap, &self.doubt) {
                    self.lost.get_or_insert(gap);
                }
                return false;
            };
            let side = |text: &str| Text {
                text: text.to_owned(),
                gap: expanded.gap.clone(),
            };
            self.rule(&side(left), &side(right), recipe);
            return true;
        };
        let after = line.get(at + 1..).unwrap_or_default();
        let after = after.strip_prefix(':').unwrap_or(after);
        // Variables of one target alone make no source, and no recipe follows them.
        if assignment(after.trim_start_matches(blank)).is_some() {
            return false;
        }
        let targets = self.expand(line.get(..at).unwrap_or_default().trim_end_matches('&'));
        // Of a static pattern rule the middle part is the pattern of its targets.
        let (targets, prerequisites) = match find_outside(after, ':') {
            Some(second) => (
                self.expand(after.get(..second).unwrap_or_default()),
                self.expand(after.get(second + 1..).unwrap_or_default()),
            ),
            None => (targets, self.expand(after)),
        };
        self.rule(&targets, &prerequisites, recipe);
        true
    }

    fn rule(&mut self, targets: &Text, prerequisites: &Text, recipe: bool) {
        let targets_named = owned_words(&targets.text);
        for target in &targets_named {
            if target == ".EXPORT_ALL_VARIABLES" {
                self.export_all = true;
            }
        }
        // What a source is generated of is named by whole names elsewhere in the makefile; of an
        // object it decides what is compiled.
        let objects = targets_named
            .iter()
            .any(|target| is_object(target) || target.ends_with('%'));
        let made_of = prerequisites.gap.clone().filter(|_| objects);
        let gap = targets.gap.clone().or(made_of);
        self.rules.push(Rule {
            targets: targets_named,
            prerequisites: owned_words(&prerequisites.text),
            recipe,
            gap,
        });
    }

    /// Follows `export` and `unexport`, with names or for everything.
    fn export_line(&mut self, on: bool, rest: &str) {
        if rest.is_empty() {
            if let Some(gap) = &self.doubt {
                self.lost.get_or_insert(gap.clone());
            }
            self.export_all = on;
            return;
        }
        let names = self.expand(rest);
        for name in owned_words(&names.text) {
            // A name that has no value yet gets an empty one, which `?=` leaves as it is.
            if self.variable(&name).is_none() {
                let empty = Variable {
                    gap: self.doubt.clone().or_else(|| self.unset(&name)),
                    named: true,
                    ..Variable::simple("")
                };
                self.own.insert(name, empty);
            }
        }
        if let Some(gap) = names.gap.clone().or_else(|| self.doubt.clone()) {
            for name in names.words() {
                self.handed
                    .insert(name.to_owned(), Handed::Doubt(gap.clone()));
            }
            if names.gap.is_some() {
                // Which variables the folders below see is not known.
                self.lost.get_or_insert(gap);
            }
            return;
        }
        let how = if on { Handed::Down } else { Handed::Not };
        for name in names.words() {
            self.handed.insert(name.to_owned(), how.clone());
        }
    }

    fn undefine(&mut self, name: &str, forced: bool) {
        let name = self.expand(name);
        if let Some(gap) = name.gap {
            self.lost.get_or_insert(gap);
            return;
        }
        let name = name.text.trim_matches(blank).to_owned();
        if self.variable(&name).is_some_and(|old| old.forced) && !forced {
            return;
        }
        let place = (Arc::clone(&self.file), self.line);
        let mut variable = match &self.doubt {
            None => Variable {
                undefined: true,
                ..Variable::simple("")
            },
            Some(gap) => Variable {
                gap: Some(gap.clone()),
                ..self.variable(&name).unwrap_or_else(|| Variable::simple(""))
            },
        };
        variable.place = place;
        self.own.insert(name, variable);
    }

    /// Looks through a recipe for other folders it runs make in.
    fn recipe(&mut self, raw: &str) {
        if let Some(rule) = self.rules.last_mut() {
            rule.recipe = true;
        }
        for reference in ["$(build)=", "${build}="] {
            for tail in raw.split(reference).skip(1) {
                let end = end_of_word(tail);
                let folder = self.expand(tail.get(..end).unwrap_or(tail));
                self.side_folders.push(folder);
            }
        }
    }

    fn assign_line(&mut self, assignment: &Assignment<'_>, value: &str) {
        let mut name = self.expand(assignment.name);
        if let Some(gap) = name.gap.take_if(|gap| gap.outside) {
            // Without that variable the line counts as it is; with it, for another variable.
            let mut value = self.expand(value);
            value.doubt(Some(&gap));
            self.optional.push(value);
        }
        if let Some(gap) = name.gap {
            // Which variable is set is not known. Flags never decide what is compiled.
            let start = assignment.name.split('$').next().unwrap_or_default();
            if !start.to_ascii_lowercase().contains("flags") {
                self.lost.get_or_insert(gap);
            }
            return;
        }
        let name = name.text.trim_matches(blank).to_owned();
        self.assign(&name, assignment.operator, value, assignment.forced);
        if assignment.export {
            let how = self.doubt.clone().map_or(Handed::Down, Handed::Doubt);
            self.handed.insert(name, how);
        }
    }

    fn assign(&mut self, name: &str, operator: Operator, value: &str, forced: bool) {
        let old = self.variable(name);
        // Of a variable that was set with `override` other lines change nothing.
        if old.as_ref().is_some_and(|old| old.forced) && !forced {
            return;
        }
        if operator == Operator::IfAbsent && old.is_some() && self.doubt.is_none() {
            return;
        }
        let simple = match operator {
            Operator::Simple | Operator::Shell => true,
            Operator::Append => old.as_ref().is_some_and(|old| old.simple),
            Operator::Recursive | Operator::IfAbsent => false,
        };
        let mut new = if operator == Operator::Shell {
            Text {
                text: String::new(),
                gap: Some(self.gap(&format!("{name} != {value}"))),
            }
        } else if simple {
            self.expand(value)
        } else {
            Text::from(value.to_owned())
        };
        let gap = self.burn(value.len());
        new.doubt(gap.as_ref());
        new.doubt(self.doubt.clone().as_ref());
        // Where it is not known whether this line counts, both values stay, and the gap says so.
        let kept = old.filter(|_| operator == Operator::Append || self.doubt.is_some());
        let place = (Arc::clone(&self.file), self.line);
        let mut variable = match kept {
            Some(old) if simple && !old.simple => {
                let text = self.value(name);
                Variable {
                    raw: Arc::new(text.text),
                    simple,
                    gap: text.gap,
                    ..old
                }
            }
            Some(old) => {
                // The text is appended to in place once nobody else holds it.
                self.own.remove(name);
                Variable { simple, ..old }
            }
            None => Variable {
                simple,
                ..Variable::simple("")
            },
        };
        let raw = Arc::make_mut(&mut variable.raw);
        if !raw.is_empty() && !new.text.is_empty() {
            raw.push(' ');
        }
        raw.push_str(&new.text);
        if raw.len() > LONGEST {
            raw.clear();
            let gap = self.gap(&format!("{name} is longer than {LONGEST} bytes"));
            variable.gap = Some(self.lost.get_or_insert(gap).clone());
        }
        if variable.gap.is_none() {
            variable.gap = new.gap;
        }
        variable.place = place;
        variable.forced |= forced && self.doubt.is_none();
        variable.named = false;
        self.own.insert(name.to_owned(), variable);
    }
}

fn first_word(text: &str) -> &str {
    words(text).next().unwrap_or_default()
}

fn branch(truth: Truth) -> Branch {
    match truth {
        Truth::Yes => Branch::Taken,
        Truth::No => Branch::Passed,
        Truth::Unknown(gap) => Branch::Unknown(gap),
    }
}

fn ignoring(branches: &[Branch]) -> bool {
    branches
        .iter()
        .any(|branch| matches!(branch, Branch::Passed | Branch::Done))
}

fn doubt(branches: &[Branch]) -> Option<Gap> {
    branches.iter().find_map(|branch| match branch {
        Branch::Unknown(gap) => Some(gap.clone()),
        Branch::Taken | Branch::Passed | Branch::Done => None,
    })
}
