//! What of a file undoes a change that stands in one of its definitions.

use std::collections::{BTreeMap, BTreeSet};

use super::doubt::Doubt;
use super::drift::{Change, Drift};
use super::undone::{called, is_lock};
use super::whole::{is_same, likeness};
use super::{align, flow};
use crate::ctext::{Chunk, ChunkKind, Role, Unit, is_name, operands};

/// Words by which a macro leaves where it stands.
pub(super) const JUMPS: [&str; 4] = ["return", "goto", "break", "continue"];

/// How far calls are followed.
const DEEPEST: usize = 4;

/// A file beside the side after of a change.
pub(super) struct Beside<'a> {
    own: &'a [Chunk],
    old: &'a [Chunk],
    new: &'a [Chunk],
    own_macros: &'a BTreeMap<String, Vec<String>>,
    new_macros: &'a BTreeMap<String, Vec<String>>,
    /// Functions of the file that are not, unit by unit, those of the side after.
    strangers: Vec<&'a Chunk>,
}

/// One change of a definition that both sides have, and the file's own.
pub(super) struct Place<'a> {
    pub(super) old: &'a Chunk,
    pub(super) new: &'a Chunk,
    pub(super) own: &'a Chunk,
    pub(super) change: &'a Change,
}

impl<'a> Beside<'a> {
    pub(super) fn of(
        own: (&'a [Chunk], &'a BTreeMap<String, Vec<String>>),
        old: &'a [Chunk],
        new: (&'a [Chunk], &'a BTreeMap<String, Vec<String>>),
    ) -> Self {
        let mut known: BTreeMap<&str, Vec<&Chunk>> = BTreeMap::new();
        for chunk in new.0.iter().filter(|it| it.kind == ChunkKind::Function) {
            known.entry(&chunk.key).or_default().push(chunk);
        }
        let is_known = |own: &&Chunk| {
            let same = known.get(own.key.as_str());
            same.is_some_and(|same| same.iter().any(|new| is_same(own, new)))
        };
        let functions = own.0.iter().filter(|it| it.kind == ChunkKind::Function);
        Self {
            own: own.0,
            old,
            new: new.0,
            own_macros: own.1,
            new_macros: new.1,
            strangers: functions.filter(|own| !is_known(own)).collect(),
        }
    }

    /// Returns what makes it doubtful that a change has its effect.
    pub(super) fn doubts(&self, place: &Place<'_>) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        doubts.extend(self.other_macro(place));
        doubts.extend(self.other_value(place));
        if place.new.kind == ChunkKind::Function {
            doubts.extend(self.twin(place));
            doubts.extend(self.not_used(place));
            doubts.extend(self.called_again(place));
            doubts.extend(self.other_callee(place));
        }
        doubts
    }

    /// A name in the definition of which the preprocessor makes a jump, or anything at all where after the
    /// change it makes nothing.
    fn other_macro(&self, place: &Place<'_>) -> Option<Doubt> {
        let known: BTreeSet<&str> = words(place.new).collect();
        let is_other = |name: &str| self.own_macros.get(name) != self.new_macros.get(name);
        // Each name with the one of the definition that led to it.
        let mut open: Vec<(&str, &str)> = words(place.own).map(|name| (name, name)).collect();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        while let Some((name, first)) = open.pop() {
            let Some(own) = self.own_macros.get(name) else {
                continue;
            };
            if !seen.insert(name) {
                continue;
            }
            let is_made = known.contains(name)
                && !self.new_macros.contains_key(name)
                && name.bytes().any(|byte| byte.is_ascii_lowercase());
            let words = own.iter().flat_map(|body| body.split(' '));
            let jumps = words.clone().any(|word| JUMPS.contains(&word));
            if is_made || (jumps && is_other(name)) {
                return Some(Doubt::OtherMacro(first.to_owned()));
            }
            open.extend(words.filter(|word| is_name(word)).map(|word| (word, first)));
        }
        None
    }

    /// A value that the change names and that is another one than after the change.
    fn other_value(&self, place: &Place<'_>) -> Option<Doubt> {
        let added = added(place).iter().flat_map(|unit| unit.code.split(' '));
        let names: BTreeSet<&str> = added.filter(|name| is_name(name)).collect();
        let values = |chunks: &'_ [Chunk], name: &str| -> BTreeSet<String> {
            let within = |kind| matches!(kind, ChunkKind::Braced | ChunkKind::Single);
            let units = chunks
                .iter()
                .filter(|it| within(it.kind))
                .flat_map(|it| &it.units);
            let sets = units.filter(|unit| is_value_of(&unit.code, name));
            sets.map(|unit| unit.code.clone()).collect()
        };
        let is_other = |name: &&str| values(self.own, name) != values(self.new, name);
        names
            .into_iter()
            .find(is_other)
            .map(|name| Doubt::OtherValue(name.to_owned()))
    }

    /// A function under another name that is as the changed one was before.
    fn twin(&self, place: &Place<'_>) -> Option<Doubt> {
        let is_twin = |other: &Chunk| {
            likeness(&other.units, &place.old.units).saturating_mul(2)
                >= align::tokens(&place.old.units)
                && Drift::of(place.old, place.new, other).is_before(place.change)
        };
        let is_known = |other: &Chunk| {
            let mut same = self.functions(other.key.as_str());
            same.any(is_twin)
        };
        let mut others = self
            .strangers
            .iter()
            .filter(|other| other.key != place.new.key);
        others
            .find(|other| is_twin(other) && !is_known(other))
            .map(|other| Doubt::Twin(other.key.clone()))
    }

    fn functions(&self, name: &str) -> impl Iterator<Item = &'a Chunk> {
        let same = move |it: &&Chunk| it.kind == ChunkKind::Function && it.key == name;
        self.new.iter().filter(same)
    }

    /// A table that names the function after the change, and does not in the file; or the file uses it
    /// nowhere any more.
    fn not_used(&self, place: &Place<'_>) -> Option<Doubt> {
        let name = place.new.key.as_str();
        let uses = |chunk: &Chunk| words(chunk).any(|word| word == name);
        let is_user = |chunk: &&Chunk| chunk.kind == ChunkKind::Braced && uses(chunk);
        for user in self.new.iter().filter(is_user) {
            let same = |own: &&Chunk| (own.kind, &own.key) == (user.kind, &user.key);
            let mut own = self.own.iter().filter(same).peekable();
            if own.peek().is_some() && !own.any(uses) {
                return Some(Doubt::NotUsed(user.key.clone()));
            }
        }
        let is_used = |chunks: &'_ [Chunk]| {
            let others = |chunk: &&Chunk| chunk.key != name;
            chunks.iter().filter(others).any(uses)
        };
        (is_used(self.new) && !is_used(self.own)).then(|| Doubt::NotUsed("the file".to_owned()))
    }

    /// A function called from the changed one that does what the change removes.
    fn called_again(&self, place: &Place<'_>) -> Option<Doubt> {
        let removed = place
            .old
            .units
            .get(place.change.old.clone())
            .unwrap_or_default();
        let kept = called(added(place));
        let gone: BTreeSet<String> = called(removed)
            .difference(&kept)
            .filter(|name| !is_lock(name))
            .cloned()
            .collect();
        if gone.is_empty() {
            return None;
        }
        let mut seen: BTreeSet<&str> = BTreeSet::from([place.new.key.as_str()]);
        let mut open: Vec<(String, usize)> = names_called(&place.own.units)
            .map(|name| (name, 0))
            .collect();
        while let Some((name, depth)) = open.pop() {
            let Some(helper) = self.strangers.iter().find(|it| it.key == name) else {
                continue;
            };
            if !seen.insert(&helper.key) || depth >= DEEPEST {
                continue;
            }
            let known = self.functions(&helper.key).next();
            let count =
                |units: &[Unit], name: &str| names_called(units).filter(|it| it == name).count();
            let is_more = |name: &String| {
                let before = known.map_or(0, |known| count(&known.units, name));
                count(&helper.units, name) > before
            };
            if gone.iter().any(is_more) {
                return Some(Doubt::CalledAgain(helper.key.clone()));
            }
            open.extend(names_called(&helper.units).map(|name| (name, depth + 1)));
        }
        None
    }

    /// A function that the change asks and that has lost most of what it does after the change, or leaves
    /// before that.
    fn other_callee(&self, place: &Place<'_>) -> Option<Doubt> {
        let asks = added(place)
            .iter()
            .filter(|unit| unit.code.starts_with("if ("));
        let names: BTreeSet<String> = asks
            .flat_map(|unit| names_called(std::slice::from_ref(unit)))
            .collect();
        // One that the change itself makes another is judged by itself.
        let is_kept = |new: &&Chunk| {
            let mut same = self
                .old
                .iter()
                .filter(|it| it.kind == new.kind && it.key == new.key);
            same.any(|old| is_same(old, new))
        };
        let is_lost = |own: &Chunk, new: &Chunk| {
            // Heads are alike wherever names are.
            let body =
                |chunk: &'_ Chunk| chunk.units.iter().skip(1).cloned().collect::<Vec<Unit>>();
            let shared = likeness(&body(new), &body(own)).saturating_mul(2);
            let leaves = |chunk: &Chunk| {
                let mut units = chunk.units.iter().zip(flow::unreached(&chunk.units));
                units.any(|(unit, is_unreached)| is_unreached && unit.code != "}")
            };
            shared < align::tokens(&body(new)) || (leaves(own) && !leaves(new))
        };
        let is_other = |name: &&String| {
            let known: Vec<&Chunk> = self.functions(name).filter(is_kept).collect();
            let mut own = self.strangers.iter().filter(|it| it.key == **name);
            !known.is_empty() && own.any(|own| known.iter().all(|new| is_lost(own, new)))
        };
        names
            .iter()
            .find(is_other)
            .map(|name| Doubt::OtherCallee(name.clone()))
    }
}

/// Returns the tokens of a definition.
fn words(chunk: &Chunk) -> impl Iterator<Item = &str> {
    chunk.units.iter().flat_map(|unit| unit.code.split(' '))
}

fn added<'a>(place: &Place<'a>) -> &'a [Unit] {
    place
        .new
        .units
        .get(place.change.new.clone())
        .unwrap_or_default()
}

fn names_called(units: &[Unit]) -> impl Iterator<Item = String> {
    let operands = units.iter().flat_map(|unit| operands(&unit.code));
    operands
        .filter(|it| it.role == Role::Called)
        .map(|it| it.path)
}

/// Tells whether a unit outside of functions gives `name` its value.
fn is_value_of(code: &str, name: &str) -> bool {
    if !code.contains(name) {
        return false;
    }
    let tokens: Vec<&str> = code.split(' ').collect();
    let is_at = |at: usize| {
        let token = |at: Option<usize>| at.and_then(|at| tokens.get(at)).copied();
        token(Some(at)) == Some(name)
            && token(at.checked_add(1)) == Some("=")
            && token(at.checked_sub(1)) != Some(".")
    };
    (0..tokens.len()).any(is_at)
}
