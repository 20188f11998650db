//! All sources of fixes as one: asked for many CVEs at a time, or for the one fix that applies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use tuxtape_core::cve::{Cve, CveId};
use tuxtape_core::git_id::GitId;
use tuxtape_core::version::KernelVersion;
use tuxtape_sys::url;

use super::choose::{Candidate, choose};
use super::commit::{CommitDiff, Mention};
use super::folder::Patches;
use super::found::{DiffKind, Found, FoundDiff, PassedOver};
use super::repository::{self, Commits, Later};
use super::spec::{GitPlace, SourceSpec, UrlTemplate};
use super::{Fix, Origin, web};

/// The sources that are asked, in order, and where what they gave is kept.
#[derive(Clone, Debug)]
pub struct Library {
    /// The sources, the first asked first.
    pub sources: Vec<SourceSpec>,
    /// The cache; may be deleted at any time.
    pub cache: PathBuf,
    /// Whether servers may be asked.
    pub network: Network,
}

/// Whether servers may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Yes.
    Allowed,
    /// No: what is at hand or in the cache is all there is.
    Never,
}

/// The fix that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The fix; it applies to the kernel's source without fuzz.
    pub fix: Fix,
    /// How near to the kernel it was made.
    pub kind: DiffKind,
    /// What a person must know of it, one sentence each.
    pub notes: Vec<String>,
    /// What was tried before it, and why it was passed over.
    pub passed_over: Vec<PassedOver>,
}

/// Tells of a diff that was found whether no further one is needed.
type Enough<'a> = &'a dyn Fn(&FoundDiff) -> bool;

impl Library {
    /// Finds the diffs for each of `cves` that suit a kernel whose base version is `base`, the best
    /// first, with what gave none. Every CVE asked for is in the answer. A source that fails is passed
    /// over with its reason for each CVE it was to answer. Of a server that is asked commit by commit,
    /// only the nearest diff is fetched.
    ///
    /// Newer source packages are not asked: what is cut from a tree says nothing about that tree. Blocks
    /// on `git` and, where allowed, on the network.
    pub fn diffs(&self, cves: &[&Cve], base: KernelVersion) -> BTreeMap<CveId, Found> {
        self.gather(cves, base, &|_| true)
    }

    /// Chooses the first diff for `cve` that applies to the kernel source at `tree`, whose base version
    /// is `base`: moved lines are found, none is guessed. Where none does, returns what was tried, each
    /// with its reason. Newer source packages are not asked here, see [`cut`](super::cut). Blocks as
    /// [`Library::diffs`].
    pub fn fix(
        &self,
        cve: &Cve,
        base: KernelVersion,
        tree: &Path,
    ) -> Result<Box<Chosen>, Vec<PassedOver>> {
        let applies = |diff: &FoundDiff| super::check(tree, diff.text.as_bytes()).is_ok();
        let found = self.gather(&[cve], base, &applies).remove(&cve.id);
        let Found {
            diffs,
            mut passed_over,
        } = found.unwrap_or_default();
        for diff in diffs {
            match super::check(tree, diff.text.as_bytes()) {
                Ok(files) => {
                    let mut notes = diff.notes.clone();
                    notes.extend(self.later_notes(cve, &diff));
                    return Ok(Box::new(Chosen {
                        fix: Fix {
                            origin: diff.origin,
                            files,
                            diff: diff.text,
                        },
                        kind: diff.kind,
                        notes,
                        passed_over,
                    }));
                }
                Err(error) => passed_over.push(PassedOver {
                    what: format!("{} ({})", diff.origin, diff.kind),
                    why: repository::told(&error),
                }),
            }
        }
        Err(passed_over)
    }

    fn gather(
        &self,
        cves: &[&Cve],
        base: KernelVersion,
        enough: Enough<'_>,
    ) -> BTreeMap<CveId, Found> {
        let mut asked: Vec<Asked<'_>> = cves
            .iter()
            .map(|cve| Asked {
                cve,
                candidates: choose(cve, base),
                found: Found::default(),
            })
            .collect();
        for source in &self.sources {
            match source {
                SourceSpec::Folder(path) => ask_folder(path, source, &mut asked),
                SourceSpec::Git(place) => self.ask_git(place, source, &mut asked),
                SourceSpec::Web(template) => self.ask_web(template, source, &mut asked, enough),
                SourceSpec::Package(_) => {}
            }
        }
        let answers = asked.into_iter().map(|asked| (asked.cve.id, asked.found));
        answers.collect()
    }

    fn ask_git(&self, place: &GitPlace, source: &SourceSpec, asked: &mut [Asked<'_>]) {
        let candidates = asked.iter().flat_map(|asked| &asked.candidates);
        let ids: BTreeSet<GitId> = candidates
            .flat_map(|it| it.commits.iter().copied())
            .collect();
        let commits = repository::read(place, &ids, &self.cache, self.network);
        let origin = |commits| Origin::Git {
            place: place.to_string(),
            commits,
        };
        for asked in asked {
            asked.say_if_unknown(source);
            for candidate in asked.candidates.clone() {
                asked.take(source, &candidate, &commits, &origin);
            }
        }
    }

    fn ask_web(
        &self,
        template: &UrlTemplate,
        source: &SourceSpec,
        asked: &mut [Asked<'_>],
        enough: Enough<'_>,
    ) {
        let urls = |commits: &[GitId]| -> Vec<String> {
            let urls = commits.iter().map(|commit| template.of(*commit));
            urls.map(|it| url::shown(&it)).collect()
        };
        let origin = |commits: Vec<GitId>| Origin::Web {
            urls: urls(&commits),
            commits,
        };
        for asked in &mut *asked {
            asked.say_if_unknown(source);
        }
        // The nearest of each CVE first: a further one is asked for only where that is not enough.
        let mut open: Vec<&mut Asked<'_>> = asked.iter_mut().collect();
        for rank in 0.. {
            open.retain(|asked| asked.candidates.len() > rank);
            if open.is_empty() {
                break;
            }
            let candidates = open.iter().filter_map(|asked| asked.candidates.get(rank));
            let ids: BTreeSet<GitId> = candidates
                .flat_map(|it| it.commits.iter().copied())
                .collect();
            let commits = web::read(template, &ids, &self.cache, self.network);
            open.retain_mut(|asked| {
                let candidate = asked.candidates.get(rank).cloned();
                let took = candidate
                    .is_some_and(|candidate| asked.take(source, &candidate, &commits, &origin));
                let last = asked.found.diffs.last().filter(|_| took);
                !last.is_some_and(enough)
            });
        }
    }

    /// Says what commits after those of `diff` repair or take it back, as far as a source knows.
    fn later_notes(&self, cve: &Cve, diff: &FoundDiff) -> Vec<String> {
        let mut ids: Vec<GitId> = cve.mainline_fixes.clone();
        if let Origin::Git { commits, .. } | Origin::Web { commits, .. } = &diff.origin {
            ids.extend(commits);
        }
        ids.sort();
        ids.dedup();
        if ids.is_empty() {
            return Vec::new();
        }
        let mut notes = Vec::new();
        for source in &self.sources {
            let SourceSpec::Git(place) = source else {
                continue;
            };
            match repository::later(place, &ids, &self.cache) {
                Later::Found(found) => {
                    notes.extend(found.into_iter().map(|(mention, id, subject)| {
                        let does = match mention {
                            Mention::Fixes => "repairs it",
                            Mention::Reverts => "takes it back",
                            Mention::Backport => "is the same change",
                        };
                        format!("a later commit {does}: {} {subject}", id.short())
                    }));
                }
                Later::NotSeen(why) => notes.push(format!(
                    "commits that repair it later were not looked for in {source}: {why}"
                )),
            }
        }
        notes.dedup();
        notes
    }
}

/// One CVE while its sources are asked.
struct Asked<'a> {
    cve: &'a Cve,
    candidates: Vec<Candidate>,
    found: Found,
}

impl Asked<'_> {
    fn say_if_unknown(&mut self, source: &SourceSpec) {
        if self.candidates.is_empty() {
            self.found.passed_over.push(PassedOver {
                what: source.to_string(),
                why: format!(
                    "the record of {} names no commit that fixes it on this branch, a newer one or mainline",
                    self.cve.id
                ),
            });
        }
    }

    /// Puts the commits of `candidate` together; tells whether they all were there.
    fn take(
        &mut self,
        source: &SourceSpec,
        candidate: &Candidate,
        commits: &Commits,
        origin: &dyn Fn(Vec<GitId>) -> Origin,
    ) -> bool {
        let mut whole: Vec<&CommitDiff> = Vec::new();
        let mut lacking = Vec::new();
        for id in &candidate.commits {
            match commits.get(id) {
                Some(Ok(commit)) => whole.push(commit),
                Some(Err(error)) => lacking.push(format!("{}: {error}", id.short())),
                None => lacking.push(format!("{}: it was not asked for", id.short())),
            }
        }
        if !lacking.is_empty() {
            self.found.passed_over.push(PassedOver {
                what: format!("{source} ({})", candidate.kind),
                why: format!("commit {}", lacking.join("; commit ")),
            });
            return false;
        }
        // A branch's own order; a source without times leaves the record's.
        if whole.iter().all(|commit| commit.time > 0) {
            whole.sort_by_key(|commit| commit.time);
        }
        let mut notes = candidate.notes.clone();
        for commit in &whole {
            notes.extend(commit_notes(commit, candidate.kind, self.cve));
        }
        let origin = origin(whole.iter().map(|commit| commit.id).collect());
        if matches!(origin, Origin::Web { .. }) {
            notes.push("as the server gave it: a patch does not prove its commit's id".to_owned());
        }
        self.found.diffs.push(FoundDiff {
            origin,
            kind: candidate.kind,
            text: whole.iter().map(|commit| commit.diff.as_str()).collect(),
            notes,
        });
        true
    }
}

/// Says what is worth knowing of one commit.
fn commit_notes(commit: &CommitDiff, kind: DiffKind, cve: &Cve) -> Vec<String> {
    let short = commit.id.short();
    let moves = commit.renames.iter();
    let mut notes: Vec<String> = moves
        .map(|(old, new)| format!("commit {short} moves {old} to {new}"))
        .collect();
    let backport = match kind {
        DiffKind::OwnBranch | DiffKind::NewerBranch(_) => true,
        DiffKind::Mainline | DiffKind::Hand | DiffKind::Package => false,
    };
    if !backport || cve.mainline_fixes.is_empty() || cve.mainline_fixes.contains(&commit.id) {
        return notes;
    }
    let upstream = commit.upstream();
    if upstream.is_empty() {
        notes.push(format!(
            "commit {short} does not say of which mainline commit it is the backport"
        ));
    } else if !upstream.iter().any(|id| cve.mainline_fixes.contains(id)) {
        let others: Vec<String> = upstream.iter().map(GitId::short).collect();
        notes.push(format!(
            "suspect: commit {short} says that it is the backport of {}, which the record does not name",
            others.join(", ")
        ));
    }
    notes
}

fn ask_folder(path: &Path, source: &SourceSpec, asked: &mut [Asked<'_>]) {
    let patches = Patches::list(path);
    for Asked { cve, found, .. } in asked {
        let mut pass = |why: String| {
            found.passed_over.push(PassedOver {
                what: source.to_string(),
                why,
            });
        };
        let patches = match &patches {
            Ok(patches) => patches,
            Err(error) => {
                pass(repository::told(error));
                continue;
            }
        };
        let mut any = false;
        for patch in patches.of(cve.id) {
            any = true;
            match patch.read() {
                Ok(text) => found.diffs.push(FoundDiff {
                    origin: Origin::Folder {
                        file: patch.file.clone(),
                        cves: patch.cves.clone(),
                    },
                    kind: DiffKind::Hand,
                    text,
                    notes: closes_also(cve.id, &patch.cves),
                }),
                Err(error) => pass(error.to_string()),
            }
        }
        if !any {
            found.passed_over.push(PassedOver {
                what: source.to_string(),
                why: format!("it has no patch for {}", cve.id),
            });
        }
    }
}

fn closes_also(cve: CveId, all: &[CveId]) -> Vec<String> {
    let others: Vec<String> = all
        .iter()
        .filter(|other| **other != cve)
        .map(ToString::to_string)
        .collect();
    if others.is_empty() {
        Vec::new()
    } else {
        vec![format!("it closes {} too", others.join(", "))]
    }
}

/// A fragment for a line of text.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ids: &[GitId]| {
            let ids: Vec<String> = ids.iter().map(GitId::short).collect();
            ids.join(", ")
        };
        match self {
            Self::Package { package, version } => write!(f, "cut from {package} {version}"),
            Self::Hand { person, file } => write!(f, "given by {person}, from {file}"),
            Self::Git { place, commits } => write!(f, "commit {} of {place}", list(commits)),
            Self::Web { urls, .. } => f.write_str(&urls.join(", ")),
            Self::Folder { file, .. } => write!(f, "{}", file.display()),
        }
    }
}

#[cfg(test)]
mod tests;
