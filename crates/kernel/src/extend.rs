//! A fix that does not compile alone: which further changes of a newer source it wants.
//!
//! What a compiler or the link misses names the changes to try, in headers, in the unit that fails,
//! and for the link in the units beside it. All that name something missing are taken, then every one
//! that is not needed is given back. The result is another fix, for a person to accept: nothing here
//! is ever added in silence.
//!
//! One more kind comes along although everything compiles without it: a change of a header that
//! drops a declaration which the fix stops using. A fix that moves a flag from a member to a bit would
//! compile with the bit alone, and read the bit of objects that hold the member.

mod edits;
mod material;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::unified::{Diff, Side, TreePath};

pub use edits::{Edit, EditId, Edits};
pub use material::{MaterialError, gather};

/// Most rounds of trying and adding.
const ROUNDS: usize = 10;
/// Most changes that are added; more is another release, not a fix.
const MOST: usize = 60;

/// Something that the fix needs and the kernel's source lacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lack {
    /// The unit that lacks it.
    pub unit: TreePath,
    /// Its name in C; for a header, the path it is included by.
    pub name: String,
    /// Who says so.
    pub by: Teller,
}

/// Who says that something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Teller {
    /// The compiler.
    Compiler,
    /// The search for a symbol in the kernel.
    Link,
}

/// What came of a fix that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Nothing is missing.
    Fits,
    /// These are missing.
    Lacks(BTreeSet<Lack>),
    /// It does not compile, for reasons that name nothing.
    Fails(String),
}

/// How far a trial goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The units that failed are compiled.
    Compile,
    /// Every unit is compiled, and every symbol is looked for.
    Link,
}

/// Why a change is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// It has something that was missing.
    Lacks(Lack),
    /// It drops a declaration that the fix stops using.
    Drops(String),
}

/// One change that is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    /// The file.
    pub path: TreePath,
    /// The change.
    pub edit: Edit,
    /// Why.
    pub because: Because,
}

/// A fix with what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The fix and the additions.
    pub diff: Diff,
    /// What was added, by file and line.
    pub additions: Vec<Addition>,
    /// What is still missing: its own unit refuses the whole then.
    pub missing: BTreeSet<Lack>,
}

/// What came of the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// This is enough.
    Extended(Box<Extension>),
    /// The newer source does not have it, either.
    Nothing(BTreeSet<Lack>),
    /// The fix does not compile, for reasons that name nothing.
    Fails(String),
    /// More changes than are tried would be needed.
    TooMany(usize),
    /// The time for it ended after so many trials.
    TooLong {
        /// The limit.
        limit: Duration,
        /// Trials held.
        trials: usize,
    },
}

/// Searches `edits`, the differences to a newer source, for what `fix` lacks. `trial` tells what is
/// missing of a fix.
///
/// Blocks on the trials: about four for each change that is added.
pub fn propose<E>(
    fix: &Diff,
    edits: &Edits,
    mut trial: impl FnMut(&Diff, Reach) -> Result<Trial, E>,
) -> Result<Proposal, E> {
    let mut chosen: BTreeMap<EditId, Because> = BTreeMap::new();
    let mut missing = BTreeSet::new();
    for round in 0.. {
        let diff = edits.extended(fix, &keys(&chosen));
        match trial(&diff, Reach::Link)? {
            Trial::Fails(words) => return Ok(Proposal::Fails(words)),
            Trial::Fits => {
                missing.clear();
                chosen = smallest(fix, edits, chosen, &mut trial)?;
                if !take_dropped(fix, edits, &mut chosen) {
                    break;
                }
            }
            Trial::Lacks(lacks) => {
                let before = chosen.len();
                for lack in &lacks {
                    for id in edits.with(lack) {
                        chosen
                            .entry(id)
                            .or_insert_with(|| Because::Lacks(lack.clone()));
                    }
                }
                if chosen.len() == before {
                    let compiles = lacks.iter().all(|lack| lack.by == Teller::Link);
                    if !compiles || chosen.is_empty() {
                        return Ok(Proposal::Nothing(lacks));
                    }
                    missing = lacks;
                    break;
                }
            }
        }
        if chosen.len() > MOST || round >= ROUNDS {
            return Ok(Proposal::TooMany(chosen.len()));
        }
    }
    let diff = edits.extended(fix, &keys(&chosen));
    let additions = chosen
        .into_iter()
        .filter_map(|(id, because)| {
            Some(Addition {
                edit: edits.get(&id)?.clone(),
                path: id.path,
                because,
            })
        })
        .collect();
    Ok(Proposal::Extended(Box::new(Extension {
        diff,
        additions,
        missing,
    })))
}

fn keys(chosen: &BTreeMap<EditId, Because>) -> BTreeSet<EditId> {
    chosen.keys().cloned().collect()
}

/// Gives back every change without which the fix still compiles, one after the other. What the link
/// asked for stays: compiling does not miss it.
fn smallest<E>(
    fix: &Diff,
    edits: &Edits,
    chosen: BTreeMap<EditId, Because>,
    trial: &mut impl FnMut(&Diff, Reach) -> Result<Trial, E>,
) -> Result<BTreeMap<EditId, Because>, E> {
    let mut smaller = chosen.clone();
    let doubtful: Vec<EditId> = chosen
        .iter()
        .filter(|(_, because)| match because {
            Because::Lacks(lack) => lack.by == Teller::Compiler,
            Because::Drops(_) => false,
        })
        .map(|(id, _)| id.clone())
        .collect();
    if doubtful.len() < 2 {
        return Ok(smaller);
    }
    for id in doubtful {
        let mut without = smaller.clone();
        without.remove(&id);
        if trial(&edits.extended(fix, &keys(&without)), Reach::Compile)? == Trial::Fits {
            smaller = without;
        }
    }
    if smaller.len() == chosen.len() {
        return Ok(chosen);
    }
    let whole = trial(&edits.extended(fix, &keys(&smaller)), Reach::Link)?;
    Ok(if whole == Trial::Fits {
        smaller
    } else {
        chosen
    })
}

/// Takes changes of headers that drop a name the fix stops using; tells whether there were any.
fn take_dropped(fix: &Diff, edits: &Edits, chosen: &mut BTreeMap<EditId, Because>) -> bool {
    let dropped = dropped(&edits.extended(fix, &keys(chosen)));
    let headers: BTreeSet<TreePath> = chosen
        .keys()
        .map(|id| id.path.clone())
        .chain(fix.files.iter().map(|file| file.path.clone()))
        .filter(|path| path.extension() == Some("h"))
        .collect();
    let mut found = false;
    for (id, edit) in edits.of(&headers) {
        if chosen.contains_key(&id) {
            continue;
        }
        if let Some(name) = edit.drops().intersection(&dropped).next() {
            chosen.insert(id, Because::Drops(name.clone()));
            found = true;
        }
    }
    found
}

/// Names that a change removes and does not bring back.
fn dropped(diff: &Diff) -> BTreeSet<String> {
    let (mut old, mut new) = (BTreeSet::new(), BTreeSet::new());
    for line in diff
        .files
        .iter()
        .flat_map(|file| &file.hunks)
        .flat_map(|hunk| &hunk.lines)
    {
        let names = edits::names(&String::from_utf8_lossy(&line.bytes));
        match line.side {
            Side::Both => {}
            Side::Old => old.extend(names),
            Side::New => new.extend(names),
        }
    }
    old.difference(&new).cloned().collect()
}

#[cfg(test)]
mod tests;
