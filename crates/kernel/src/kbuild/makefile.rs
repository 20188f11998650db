//! The lines of a makefile: assignments, conditions, inclusions, rules.

use std::sync::Arc;

use super::scope::{Rule, Scope, Variable, owned_words};
use super::syntax::{Assignment, Operator, assignment, compared, definition, end_of_word};
use super::text::{Gap, Text, blank, find_outside, inside, joined, lines, without_comment, words};

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
        let mut define: Option<(Assignment<'_>, usize, String)> = None;
        for line in lines(text) {
            self.line = start + line.number;
            if let Some(gap) = self.burn(line.raw.len()) {
                self.lost.get_or_insert(gap);
                return;
            }
            if let Some((assignment, depth, body)) = &mut define {
                let word = words(line.raw).next().unwrap_or_default();
                match word {
                    "define" => *depth += 1,
                    "endef" if *depth > 0 => *depth -= 1,
                    "endef" => {
                        let body = std::mem::take(body);
                        let body = body.strip_suffix('\n').unwrap_or(&body);
                        if !ignoring(&branches) {
                            let (name, operator) =
                                (assignment.name.to_owned(), assignment.operator);
                            self.assign(&name, operator, body);
                        }
                        define = None;
                        continue;
                    }
                    _ => {}
                }
                body.push_str(line.raw);
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
            let plain = plain.trim_matches(blank);
            if plain.is_empty() {
                continue;
            }
            if let Some(assignment) = assignment(plain) {
                if assignment.define {
                    // Its text outlives this turn, so it is taken from the line as written.
                    define = definition(line.raw.trim_matches(blank))
                        .map(|kept| (kept, 0, String::new()));
                    continue;
                }
                if ignoring(&branches) {
                    continue;
                }
                after_rule = false;
                self.assign_line(&assignment);
                continue;
            }
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
                "export" => {
                    let names = self.expand(rest);
                    self.exported.extend(names.words().map(str::to_owned));
                }
                "undefine" => {
                    let name = self.expand(rest);
                    self.assign(&name.text, Operator::Simple, "");
                }
                "unexport" | "vpath" | "override" | "private" | "load" | "-load" | "endef" => {}
                _ => after_rule |= self.rule_line(plain),
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
                let variable = self.variable(name.text.trim_matches(blank));
                let defined = variable.as_ref().is_some_and(|found| !found.raw.is_empty());
                let gap = name.gap.or_else(|| variable.and_then(|found| found.gap));
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
        if let (Some(gap), true) = (&paths.gap, needed) {
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
                None if needed && self.doubt.is_none() => {
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
        let line = cut.unwrap_or(line);
        let Some(at) = find_outside(line, ':') else {
            let expanded = self.expand(line);
            if expanded.text.contains(':') {
                return true;
            }
            if !expanded.text.trim_matches(blank).is_empty() {
                let gap = self.gap(&format!("no assignment, rule or directive: {line}"));
                self.lost.get_or_insert(gap);
            }
            return false;
        };
        let after = line
            .get(at + 1..)
            .unwrap_or_default()
            .trim_start_matches(':');
        // Variables of one target alone, and what has no prerequisites, make no source.
        if assignment(after.trim_matches(blank)).is_some() {
            return true;
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
        if targets.gap.is_none() {
            self.rules.push(Rule {
                targets: owned_words(&targets.text),
                prerequisites: owned_words(&prerequisites.text),
            });
        }
        true
    }

    /// Looks through a recipe for other folders it runs make in.
    fn recipe(&mut self, raw: &str) {
        for reference in ["$(build)=", "${build}="] {
            for tail in raw.split(reference).skip(1) {
                let end = end_of_word(tail);
                let folder = self.expand(tail.get(..end).unwrap_or(tail));
                self.side_folders.push(folder);
            }
        }
    }

    fn assign_line(&mut self, assignment: &Assignment<'_>) {
        let name = self.expand(assignment.name);
        if let Some(gap) = name.gap {
            // Which variable is set is not known. Flags never decide what is compiled.
            let start = assignment.name.split('$').next().unwrap_or_default();
            if !start.to_ascii_lowercase().contains("flags") {
                self.lost.get_or_insert(gap);
            }
            return;
        }
        let name = name.text.trim_matches(blank).to_owned();
        self.assign(&name, assignment.operator, assignment.value);
        if assignment.export {
            self.exported.push(name);
        }
    }

    fn assign(&mut self, name: &str, operator: Operator, value: &str) {
        let old = self.variable(name);
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
                    place: old.place,
                }
            }
            Some(old) => {
                // The text is appended to in place once nobody else holds it.
                self.own.remove(name);
                Variable { simple, ..old }
            }
            None => Variable {
                raw: Arc::default(),
                simple,
                gap: None,
                place: ("".into(), 0),
            },
        };
        let raw = Arc::make_mut(&mut variable.raw);
        if !raw.is_empty() {
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
        self.own.insert(name.to_owned(), variable);
    }
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
