//! What within a function undoes a change that stands in it.
//!
//! A function that is, unit by unit, that of the side after holds nothing that the change does not know.
//! In one that has drifted each unit by which it differs from the side after is looked at: one that
//! touches what the change touches makes the change doubtful, any other is no matter.

use std::collections::BTreeSet;

use super::align::{self, TELLING};
use super::doubt::Doubt;
use super::drift::{Change, Drift};
use crate::ctext::{Operand, Role, Unit, operands};

/// What a change does to the state of its function.
#[derive(Default)]
struct Touched {
    /// What it sets.
    set: BTreeSet<String>,
    /// What its conditions read.
    asked: BTreeSet<String>,
    /// What of that it asks for being there at all: `!a`, `a == NULL`, `IS_ERR(a)`.
    missed: BTreeSet<String>,
    /// What it compares with a bound.
    bounded: BTreeSet<String>,
    /// What it gives up: sets to nothing, or hands over by its address.
    given_up: BTreeSet<String>,
}

impl Touched {
    fn by(added: &[Unit], removed: &[Unit]) -> Self {
        let mut touched = Self::default();
        for unit in added.iter().filter(|unit| !is_talk(&unit.code)) {
            let is_condition = is_condition(&unit.code);
            let gives_up = [" = NULL ;", " = 0 ;"]
                .iter()
                .any(|end| unit.code.ends_with(end));
            for operand in operands(&unit.code) {
                if is_constant(&operand.path) {
                    continue;
                }
                let path = operand.path;
                if operand.is_bounded {
                    touched.bounded.insert(path.clone());
                }
                match operand.role {
                    Role::Called => {}
                    Role::Set => {
                        if gives_up {
                            touched.given_up.insert(path.clone());
                        }
                        touched.set.insert(path);
                    }
                    Role::Addressed if is_condition => {}
                    Role::Addressed => drop(touched.given_up.insert(path)),
                    Role::Read => {
                        if is_condition {
                            touched.asked.insert(path);
                        }
                    }
                }
            }
            if is_condition {
                let is_missed = |path: &&String| asks_whether_missing(&unit.code, path);
                touched
                    .missed
                    .extend(touched.asked.iter().filter(is_missed).cloned());
            }
        }
        // What was handed over before the change, too, is not its matter.
        let mut before = removed.iter().flat_map(|unit| operands(&unit.code));
        touched
            .given_up
            .retain(|path| !before.any(|it| it.role == Role::Addressed && it.path == *path));
        touched
    }
}

/// Tells whether a unit is a condition, with what it controls not among it.
fn is_condition(code: &str) -> bool {
    let heads = ["if (", "while (", "for (", "switch ("];
    heads.iter().any(|head| code.starts_with(head))
}

/// Tells whether a condition asks for `path` being there at all.
fn asks_whether_missing(code: &str, path: &str) -> bool {
    // The normal form has its parts apart.
    let apart = path.replace("->", " - > ").replace('.', " . ");
    [
        format!(" ! {apart} )"),
        format!(" ! {apart} |"),
        format!(" ! {apart} &"),
        format!(" {apart} = = NULL "),
        format!(" IS_ERR ( {apart} ) "),
        format!(" IS_ERR_OR_NULL ( {apart} ) "),
    ]
    .iter()
    .any(|asked| code.contains(asked))
}

/// Tells whether a unit only says or locks something.
fn is_talk(code: &str) -> bool {
    let Some((name, _)) = code.split_once(" ( ") else {
        return false;
    };
    let starts = [
        "pr_", "dev_", "netdev_", "trace_", "WARN", "printk", "lockdep_",
    ];
    let ends = [
        "_dbg",
        "_err",
        "_warn",
        "_info",
        "_lock",
        "_unlock",
        "_lock_bh",
        "_unlock_bh",
    ];
    !name.contains(' ')
        && (starts.iter().any(|start| name.starts_with(start))
            || ends.iter().any(|end| name.ends_with(end))
            || is_lock(name))
}

/// Tells whether a function is of locks: what is under which is seen by the blocks and neighbours.
pub(super) fn is_lock(name: &str) -> bool {
    name.contains("lock") && !name.contains("block")
}

/// Tells whether a name is written as those of constants are.
pub(super) fn is_constant(path: &str) -> bool {
    !path.bytes().any(|byte| byte.is_ascii_lowercase())
}

/// One function of a file that has drifted, with the change of which it holds the side after.
struct Undone<'a> {
    own: &'a [Unit],
    new: &'a [Unit],
    /// Units of the file's own that the side after does not have.
    extra: Vec<usize>,
    /// Units of the side after that the file does not have.
    missing: Vec<usize>,
    places: &'a [Option<usize>],
    change: &'a Change,
    /// Where the change stands in the file's own, and where it ends.
    at: usize,
    end: usize,
}

/// Returns what makes it doubtful that `change`, whose side after stands at `at`, has its effect.
pub(super) fn doubts(drift: &Drift<'_>, change: &Change, at: usize) -> Vec<Doubt> {
    let known: BTreeSet<usize> = drift.new_places.iter().copied().flatten().collect();
    let own = drift.own.units.as_slice();
    let numbered = drift.new_places.iter().enumerate();
    let undone = Undone {
        own,
        new: &drift.new.units,
        extra: (0..own.len()).filter(|at| !known.contains(at)).collect(),
        missing: numbered
            .filter(|(_, place)| place.is_none())
            .map(|(at, _)| at)
            .collect(),
        places: &drift.new_places,
        change,
        at,
        end: at.saturating_add(change.new.len()),
    };
    let added = drift.new.units.get(change.new.clone()).unwrap_or_default();
    let removed = drift.old.units.get(change.old.clone()).unwrap_or_default();
    let touched = Touched::by(added, removed);
    let mut doubts = Vec::new();
    doubts.extend(undone.jumped_over(&touched));
    doubts.extend(undone.parted());
    doubts.extend(undone.set_again(&touched));
    doubts.extend(undone.used(&touched));
    doubts.extend(undone.called_again(added, removed));
    doubts
}

impl Undone<'_> {
    fn unit(&self, at: usize) -> Option<&str> {
        self.own.get(at).map(|unit| unit.code.as_str())
    }

    /// A jump from before the change to a label behind it, as the side after has none.
    fn jumped_over(&self, touched: &Touched) -> Option<Doubt> {
        let jumps = self.own.iter().take(self.at);
        jumps
            .filter_map(|unit| target(&unit.code))
            .find(|target| !self.is_known_jump(target, touched))
            .map(|target| Doubt::JumpedOver(target.to_owned()))
    }

    fn is_known_jump(&self, target: &str, touched: &Touched) -> bool {
        let find = |units: &[Unit]| {
            units
                .iter()
                .position(|unit| label(&unit.code) == Some(target))
        };
        let Some(own) = find(self.own) else {
            // One that is computed, or that a macro makes.
            let mut known = self.new.iter().filter_map(|unit| self::target(&unit.code));
            return known.any(|known| known == target);
        };
        if own < self.end {
            return true;
        }
        let Some(new) = find(self.new) else {
            return false;
        };
        let mut jumps = self.new.iter().take(self.change.new.end);
        self.places.get(new) == Some(&Some(own))
            && (jumps.any(|unit| self::target(&unit.code) == Some(target))
                || !self.is_touched_from(own, touched))
    }

    /// Tells whether what follows the unit at `at` is not that of the side after, or uses what the change
    /// touches: then a jump there is no way out.
    fn is_touched_from(&self, at: usize, touched: &Touched) -> bool {
        let all = [
            &touched.set,
            &touched.asked,
            &touched.bounded,
            &touched.given_up,
        ];
        let behind = self.own.get(at..).unwrap_or_default();
        let mut operands = behind.iter().flat_map(|unit| operands(&unit.code));
        self.extra.iter().any(|extra| *extra > at)
            || operands.any(|it| all.iter().any(|paths| paths.contains(&it.path)))
    }

    /// A label behind the change, in its block, that control reaches without it.
    fn parted(&self) -> Option<Doubt> {
        let mut depth = 0_u32;
        let mut is_controlled = false;
        for at in self.end..self.own.len() {
            let code = self.unit(at)?;
            let is_arm = code.starts_with("case ") || code.starts_with("default");
            if depth == 0 && is_arm && code.ends_with(':') && self.extra.contains(&at) {
                return Some(Doubt::Parted(code.to_owned()));
            }
            if code == "{" {
                depth = depth.saturating_add(1);
            } else if code == "}" {
                depth = depth.checked_sub(1)?;
            } else if depth == 0 && align::is_jump(code) && !is_controlled {
                return None;
            }
            is_controlled = align::is_head(code);
        }
        None
    }

    /// What the change sets or asks for is set more often than after it, before it or behind it.
    fn set_again(&self, touched: &Touched) -> Option<Doubt> {
        let paths = touched.set.union(&touched.asked);
        let mut paths = paths.filter(|path| {
            let first = self.change.new.start;
            let is_more_before =
                count_sets(self.own.get(..self.at), path) > count_sets(self.new.get(..first), path);
            // The value that the change sees is that of the last of them.
            let nearest = (0..self.at).rev().find(|at| sets(self.own, *at, path));
            let is_other = nearest.is_some_and(|at| self.extra.contains(&at));
            let last = self.change.new.end;
            let is_more_behind =
                count_sets(self.own.get(self.end..), path) > count_sets(self.new.get(last..), path);
            (is_more_before && is_other)
                || (is_more_behind && (touched.set.contains(*path) || self.is_needed(path)))
        });
        paths.next().map(|path| Doubt::SetAgain(path.clone()))
    }

    /// Tells whether the value that `path` has at the change is used after it, but for being returned.
    fn is_needed(&self, path: &str) -> bool {
        let behind = self.change.new.end..self.new.len();
        for at in behind {
            let Some(unit) = self.new.get(at) else {
                continue;
            };
            if unit.code.starts_with("return ") {
                continue;
            }
            let operands = operands(&unit.code).into_iter();
            let mut used = operands.filter(|it| it.overlaps(path)).peekable();
            // What begins by setting it reads no more than that, but for `a = f(a)`.
            let is_set_first = used.peek().is_some_and(|it| it.role == Role::Set);
            let is_read = used.any(|it| matches!(it.role, Role::Read | Role::Addressed));
            match (is_set_first, is_read) {
                (true, is_read) => return is_read && !unit.code.starts_with("for ("),
                (false, true) => return true,
                (false, false) => {}
            }
        }
        false
    }

    /// A unit by which the function differs uses what the change bounds, gives up, or asks for.
    fn used(&self, touched: &Touched) -> Vec<Doubt> {
        let mut doubts = BTreeSet::new();
        for at in &self.extra {
            let code = self.unit(*at).unwrap_or_default();
            if is_talk(code)
                || (code.starts_with("if (") && !self.lets_pass(*at))
                || self.is_same_head(*at, touched)
            {
                continue;
            }
            // What is set is counted elsewhere.
            for operand in operands(code).iter().filter(|it| it.role != Role::Set) {
                let uses = |path: &String| operand.path == *path || is_within(operand, path);
                if touched.bounded.iter().chain(&touched.given_up).any(uses)
                    && (*at == 0 || !self.is_reworded(code, operand))
                {
                    doubts.insert(Doubt::UsedOtherwise(operand.path.clone()));
                }
                let uses = |path: &String| is_within(operand, path) && !self.is_used_before(path);
                if *at < self.at && touched.missed.iter().any(uses) {
                    doubts.insert(Doubt::UsedBefore(operand.path.clone()));
                }
            }
        }
        // A loop that no longer ends where the change has it end.
        for at in &self.missing {
            let Some(unit) = self.new.get(*at) else {
                continue;
            };
            if unit.code.starts_with("for (") || unit.code.starts_with("while (") {
                let operands = operands(&unit.code).into_iter();
                let used = operands.filter(|it| touched.bounded.contains(&it.path));
                doubts.extend(used.map(|it| Doubt::UsedOtherwise(it.path)));
            }
        }
        doubts.into_iter().collect()
    }

    /// Tells whether a unit calls what one of the side after calls that is not there, and reads `operand`
    /// as often: the same with another argument.
    fn is_reworded(&self, code: &str, operand: &Operand) -> bool {
        let reads = |code: &str| {
            let same = operands(code)
                .into_iter()
                .filter(|it| it.path == operand.path);
            let roles: Vec<Role> = same.map(|it| it.role).collect();
            roles
        };
        let calls = |code: &str| -> BTreeSet<String> {
            let calls = operands(code)
                .into_iter()
                .filter(|it| it.role == Role::Called);
            calls.map(|it| it.path).collect()
        };
        let (own_reads, own_calls) = (reads(code), calls(code));
        let missing = self.missing.iter().filter_map(|at| self.new.get(*at));
        own_reads.iter().all(|role| *role == Role::Read)
            && missing.into_iter().any(|unit| {
                reads(&unit.code) == own_reads && !calls(&unit.code).is_disjoint(&own_calls)
            })
    }

    /// Tells whether the condition at `at` stands before the change and leaves with no error.
    fn lets_pass(&self, at: usize) -> bool {
        let next = at
            .checked_add(1)
            .and_then(|at| self.unit(at))
            .unwrap_or_default();
        let passes = ["return 0 ;", "return ;", "return true ;", "return 1 ;"];
        at < self.at && passes.contains(&next)
    }

    /// Tells whether the unit at `at` is the function's head, and names what the change touches as that of
    /// the side after does.
    fn is_same_head(&self, at: usize, touched: &Touched) -> bool {
        let (0, Some(own), Some(new)) = (at, self.unit(at), self.new.first()) else {
            return false;
        };
        let part = |code: &'_ str, path: &str| -> Vec<String> {
            let parts = code.split([',', '(', ')']);
            let named = parts.filter(|part| part.split(' ').any(|word| word == path));
            named.map(|part| part.trim().to_owned()).collect()
        };
        let mut paths = touched.bounded.iter().chain(&touched.given_up);
        paths.all(|path| part(own, path) == part(&new.code, path))
    }

    /// Tells whether the side after, too, uses what `path` points to before the change.
    fn is_used_before(&self, path: &str) -> bool {
        let before = self.new.get(..self.change.new.start).unwrap_or_default();
        let mut operands = before.iter().flat_map(|unit| operands(&unit.code));
        operands.any(|it| is_within(&it, path))
    }

    /// A call that the change removes is made more often than after it.
    fn called_again(&self, added: &[Unit], removed: &[Unit]) -> Option<Doubt> {
        let kept = called(added);
        let gone = called(removed);
        gone.difference(&kept)
            .filter(|name| !is_lock(name) && !is_constant(name))
            .find(|name| {
                let count = |units: &[Unit]| {
                    let operands = units.iter().flat_map(|unit| operands(&unit.code));
                    operands
                        .filter(|it| it.role == Role::Called && it.path == **name)
                        .count()
                };
                count(self.own) > count(self.new)
            })
            .map(|name| Doubt::CalledAgain(name.clone()))
    }
}

fn sets(units: &[Unit], at: usize, path: &str) -> bool {
    let unit = at.checked_add(1).and_then(|end| units.get(at..end));
    count_sets(unit, path) > 0
}

/// Counts how often `units` set `path`, or hand its address over.
fn count_sets(units: Option<&[Unit]>, path: &str) -> usize {
    let units = units.unwrap_or_default().iter();
    let operands = units.flat_map(|unit| operands(&unit.code));
    operands
        .filter(|it| matches!(it.role, Role::Set | Role::Addressed) && it.holds(path))
        .count()
}

/// Tells whether an operand is a member of `path`, or what it points to.
fn is_within(operand: &Operand, path: &str) -> bool {
    operand.path != path && operand.overlaps(path) && operand.path.len() > path.len()
}

/// Returns what `units` call.
pub(super) fn called(units: &[Unit]) -> BTreeSet<String> {
    let units = units.iter().filter(|unit| unit.tokens >= TELLING);
    units
        .flat_map(|unit| operands(&unit.code))
        .filter(|operand| operand.role == Role::Called)
        .map(|operand| operand.path)
        .collect()
}

/// Returns the label to which a unit jumps.
fn target(code: &str) -> Option<&str> {
    code.strip_prefix("goto ")?.strip_suffix(" ;")
}

/// Returns the label that a unit is.
fn label(code: &str) -> Option<&str> {
    let name = code.strip_suffix(" :")?;
    (!name.contains(' ') && name != "default").then_some(name)
}

#[cfg(test)]
pub(super) mod tests;
