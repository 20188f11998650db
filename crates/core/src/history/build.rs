//! A history from the commits of `git log --topo-order`.

use std::collections::{BTreeMap, BTreeSet};

use crate::git_id::GitId;

use super::marks::{Marks, Named, Plainness};
use super::{History, Undone};

/// Most commits of one history; the kernel has 1.4 million.
const MOST: usize = 8 << 20;
/// Most commits that are walked to tell whether one commit came after another, all pairs together.
const MOST_STEPS: usize = 64 << 20;
/// Most merges whose reverts are followed; each is a walk over the whole history.
const MOST_MERGES: usize = 256;

/// One commit as `git log` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged<'a> {
    /// Its name.
    pub id: GitId,
    /// Its files.
    pub tree: GitId,
    /// The commits it came after.
    pub parents: &'a [GitId],
    /// What it says.
    pub message: &'a str,
}

/// Why commits are no history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAHistory {
    /// There is none.
    #[error("it has no commit")]
    Empty,
    /// More than any kernel has.
    #[error("it has more than {MOST} commits")]
    TooMany,
    /// The same commit twice.
    #[error("commit {id} is in it twice")]
    Twice {
        /// The commit.
        id: GitId,
    },
}

/// Takes commits one by one, children before their parents.
#[derive(Debug, Default)]
pub struct Builder {
    nodes: Vec<Node>,
    parents: Vec<GitId>,
    /// By position, of the commits that say something.
    marks: BTreeMap<usize, Marks>,
    /// Titles that reverts name, with the reverts.
    titles: BTreeMap<String, Vec<usize>>,
    /// Reverts by title alone, each with a commit of that title.
    titled: Vec<(usize, usize)>,
}

#[derive(Debug)]
struct Node {
    id: GitId,
    tree: GitId,
    /// Where its parents start.
    parents: usize,
}

impl Builder {
    /// Takes the next commit: the newest first, none before its children.
    pub fn take(&mut self, commit: &Logged<'_>) -> Result<(), NotAHistory> {
        let at = self.nodes.len();
        if at >= MOST {
            return Err(NotAHistory::TooMany);
        }
        self.nodes.push(Node {
            id: commit.id,
            tree: commit.tree,
            parents: self.parents.len(),
        });
        self.parents.extend_from_slice(commit.parents);
        if !self.titles.is_empty() {
            let title = commit.message.lines().next().unwrap_or_default().trim_end();
            let reverts = self.titles.get(title).into_iter().flatten();
            self.titled.extend(reverts.map(|revert| (*revert, at)));
        }
        let marks = Marks::read(commit.message);
        if let Some(title) = &marks.reverts_title {
            self.titles.entry(title.clone()).or_default().push(at);
        }
        if !marks.is_empty() {
            self.marks.insert(at, marks);
        }
        Ok(())
    }

    /// Returns the history of the first commit taken; `is_cut_off` tells whether older ones are missing.
    pub fn finish(self, is_cut_off: bool) -> Result<History, NotAHistory> {
        let graph = Graph::new(&self.nodes, &self.parents)?;
        let head = self.nodes.first().ok_or(NotAHistory::Empty)?.id;
        let kept = graph.kept(&self.nodes);
        let covers = self.covers(&graph);
        let undone = standing(&covers);
        let id = |at: usize| self.nodes.get(at).map_or(head, |node| node.id);
        let mut commits = Vec::new();
        let mut dropped = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            if kept.get(at) == Some(&true) {
                commits.push(node.id);
            } else {
                dropped.push(node.id);
            }
        }
        commits.sort_unstable();
        dropped.sort_unstable();
        let mut backports: BTreeMap<Named, Vec<GitId>> = BTreeMap::new();
        let mut reverts = BTreeMap::new();
        for (at, marks) in &self.marks {
            for named in &marks.backport_of {
                backports.entry(named.clone()).or_default().push(id(*at));
            }
            // A revert that was taken back for certain says nothing any more.
            if undone
                .get(at)
                .is_none_or(|(_, how)| *how == Plainness::Loose)
            {
                for (named, _) in &marks.reverts {
                    reverts.entry(named.clone()).or_insert_with(|| id(*at));
                }
            }
        }
        Ok(History {
            commit: head,
            is_cut_off,
            commits,
            dropped,
            backports,
            undone: undone
                .into_iter()
                .map(|(at, (by, plainness))| {
                    let by = id(by);
                    (id(at), Undone { by, plainness })
                })
                .collect(),
            reverts,
        })
    }

    /// Lists the reverts that cover each commit, by positions.
    fn covers(&self, graph: &Graph) -> BTreeMap<usize, BTreeSet<(usize, Plainness)>> {
        let mut named: BTreeMap<&Named, Vec<usize>> = BTreeMap::new();
        for (at, marks) in &self.marks {
            for name in &marks.backport_of {
                named.entry(name).or_default().push(*at);
            }
        }
        let mut covers: BTreeMap<usize, BTreeSet<(usize, Plainness)>> = BTreeMap::new();
        let mut cover = |revert: usize, commit: usize, how: Plainness| {
            if revert != commit {
                covers.entry(commit).or_default().insert((revert, how));
            }
        };
        for (revert, commit) in &self.titled {
            cover(*revert, *commit, Plainness::Loose);
        }
        let mut steps = MOST_STEPS;
        let mut merges = MOST_MERGES;
        for (revert, marks) in &self.marks {
            for (name, how) in &marks.reverts {
                let own = graph.named(name);
                for commit in &own {
                    cover(*revert, *commit, *how);
                    if graph.parents(*commit).len() > 1 {
                        merges = merges.saturating_sub(1);
                        let brought = if merges == 0 {
                            graph.behind(&[*commit])
                        } else {
                            graph.brought_by(*commit)
                        };
                        for commit in brought {
                            cover(*revert, commit, Plainness::Loose);
                        }
                    }
                }
                // The same change under its other names.
                let backports = own
                    .iter()
                    .filter_map(|commit| self.marks.get(commit))
                    .flat_map(|marks| &marks.backport_of);
                let mut same: BTreeSet<usize> = BTreeSet::new();
                for name in backports.chain([name]) {
                    same.extend(graph.named(name));
                    let from = named.range::<&Named, _>(name..);
                    let longer =
                        from.take_while(|(other, _)| other.as_str().starts_with(name.as_str()));
                    same.extend(longer.flat_map(|(_, at)| at));
                    let shorter = (1..name.as_str().len())
                        .filter_map(|end| Named::new(name.as_str().get(..end)?))
                        .filter_map(|short| named.get(&short));
                    same.extend(shorter.flatten());
                }
                for commit in same.difference(&own) {
                    if commit > revert {
                        cover(*revert, *commit, *how);
                    } else if !graph.is_after(*commit, *revert, &mut steps) {
                        // Neither came after the other.
                        cover(*revert, *commit, Plainness::Loose);
                    }
                }
            }
        }
        covers
    }
}

/// Tells of each commit that was taken back by which revert and how plainly. A revert that was taken
/// back itself takes nothing back.
fn standing(
    covers: &BTreeMap<usize, BTreeSet<(usize, Plainness)>>,
) -> BTreeMap<usize, (usize, Plainness)> {
    let mut undone: BTreeMap<usize, (usize, Plainness)> = BTreeMap::new();
    // Newest first, so that a revert's own fate is known before what it takes back.
    for (commit, reverts) in covers {
        let mut worst: Option<(Plainness, usize)> = None;
        for (revert, how) in reverts {
            let how = match (undone.get(revert), revert < commit) {
                (Some((_, Plainness::Plain)), true) => continue,
                (None, true) => *how,
                // Perhaps taken back; or of an older position, where its fate is not known yet and the
                // two may be side by side.
                (Some((_, Plainness::Loose)), _) | (Some((_, Plainness::Plain)) | None, false) => {
                    Plainness::Loose
                }
            };
            // Plain comes first in order.
            if worst.is_none_or(|known| (how, *revert) < known) {
                worst = Some((how, *revert));
            }
        }
        if let Some((how, revert)) = worst {
            undone.insert(*commit, (revert, how));
        }
    }
    undone
}

/// Commits by position, with their parents by position.
struct Graph {
    /// Positions in the order of ids.
    sorted: Vec<(GitId, u32)>,
    starts: Vec<usize>,
    parents: Vec<u32>,
}

impl Graph {
    fn new(nodes: &[Node], parents: &[GitId]) -> Result<Self, NotAHistory> {
        let position = |at: usize| u32::try_from(at).map_err(|_| NotAHistory::TooMany);
        let mut sorted = Vec::with_capacity(nodes.len());
        for (at, node) in nodes.iter().enumerate() {
            sorted.push((node.id, position(at)?));
        }
        sorted.sort_unstable();
        let twice = sorted.windows(2).find_map(|pair| match pair {
            [(first, _), (second, _)] if first == second => Some(*first),
            _ => None,
        });
        if let Some(id) = twice {
            return Err(NotAHistory::Twice { id });
        }
        let mut graph = Self {
            sorted,
            starts: Vec::with_capacity(nodes.len() + 1),
            parents: Vec::with_capacity(parents.len()),
        };
        for (at, node) in nodes.iter().enumerate() {
            graph.starts.push(graph.parents.len());
            let end = nodes.get(at + 1).map_or(parents.len(), |next| next.parents);
            let own = parents.get(node.parents..end).unwrap_or_default();
            for parent in own {
                // One that is missing was cut off, and one before its child is no parent.
                if let Some(parent) = graph.position(*parent).filter(|parent| *parent > at) {
                    graph.parents.push(position(parent)?);
                }
            }
        }
        graph.starts.push(graph.parents.len());
        Ok(graph)
    }

    fn len(&self) -> usize {
        self.sorted.len()
    }

    fn position(&self, id: GitId) -> Option<usize> {
        let found = self.sorted.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.sorted.get(found).map(|(_, at)| *at as usize)
    }

    /// Lists the commits that a name may mean.
    fn named(&self, name: &Named) -> BTreeSet<usize> {
        let mut low = name.as_str().to_owned();
        while low.len() < 40 {
            low.push('0');
        }
        let Ok(low) = low.parse::<GitId>() else {
            return BTreeSet::new();
        };
        let from = self.sorted.partition_point(|(id, _)| *id < low);
        let rest = self.sorted.get(from..).unwrap_or_default();
        rest.iter()
            .take_while(|(id, _)| name.fits(*id))
            .map(|(_, at)| *at as usize)
            .collect()
    }

    fn parents(&self, at: usize) -> &[u32] {
        let end = self.starts.get(at + 1).copied().unwrap_or_default();
        let start = self.starts.get(at).copied().unwrap_or(end);
        self.parents.get(start..end).unwrap_or_default()
    }

    /// Marks the commits whose changes are in the first: a merge whose files are those of one of its
    /// parents took nothing of the others.
    fn kept(&self, nodes: &[Node]) -> Vec<bool> {
        let mut kept = vec![false; self.len()];
        mark(&mut kept, 0);
        for (at, node) in nodes.iter().enumerate() {
            if kept.get(at) != Some(&true) {
                continue;
            }
            let parents = self.parents(at);
            let is_same = |parent: &&u32| {
                let parent = nodes.get(**parent as usize);
                parent.is_some_and(|parent| parent.tree == node.tree)
            };
            let is_one_sided = parents.len() > 1 && parents.iter().any(|parent| is_same(&parent));
            for parent in parents.iter().filter(|it| !is_one_sided || is_same(it)) {
                mark(&mut kept, *parent as usize);
            }
        }
        kept
    }

    /// Lists the commits from which `from` can be reached backwards, with them.
    fn behind(&self, from: &[usize]) -> Vec<usize> {
        let reached = self.reached(from);
        let at = |(at, reached): (usize, bool)| reached.then_some(at);
        reached.into_iter().enumerate().filter_map(at).collect()
    }

    fn reached(&self, from: &[usize]) -> Vec<bool> {
        let mut reached = vec![false; self.len()];
        for at in from {
            mark(&mut reached, *at);
        }
        for at in 0..self.len() {
            if reached.get(at) == Some(&true) {
                for parent in self.parents(at) {
                    mark(&mut reached, *parent as usize);
                }
            }
        }
        reached
    }

    /// Lists what a merge brought to its first parent.
    fn brought_by(&self, merge: usize) -> Vec<usize> {
        let [first, others @ ..] = self.parents(merge) else {
            return Vec::new();
        };
        let own = self.reached(&[*first as usize]);
        let others: Vec<usize> = others.iter().map(|at| *at as usize).collect();
        let is_new = |at: &usize| own.get(*at) == Some(&false);
        self.behind(&others).into_iter().filter(is_new).collect()
    }

    /// Tells whether `newer` came after `older` for certain: the walk from one to the other is bounded
    /// by `steps`.
    fn is_after(&self, newer: usize, older: usize, steps: &mut usize) -> bool {
        let mut seen = BTreeSet::from([newer]);
        while let Some(at) = seen.pop_first() {
            if at == older {
                return true;
            }
            *steps = steps.saturating_sub(1);
            if *steps == 0 {
                return false;
            }
            let parents = self.parents(at).iter().map(|parent| *parent as usize);
            seen.extend(parents.filter(|parent| *parent <= older));
        }
        false
    }
}

fn mark(marks: &mut [bool], at: usize) {
    if let Some(mark) = marks.get_mut(at) {
        *mark = true;
    }
}
