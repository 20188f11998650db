//! All sources of fixes as one: asked for many CVEs at a time, or for the one fix that applies.

mod ask;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tuxtape_core::cve::{Cve, CveId};
use tuxtape_core::git_id::GitId;
use tuxtape_core::version::KernelVersion;
use tuxtape_sys::url;

use super::choose::choose;
use super::commit::Mention;
use super::found::{DiffKind, Found, FoundDiff, PassedOver};
use super::repository::{self, Later};
use super::spec::{GitPlace, SourceSpec, UrlTemplate};
use super::{Fix, Origin, web};
use ask::{Asked, Enough, ask_folder, commits_of, one_by_one, say_if_unknown};

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

/// How a source is asked for the candidates of a CVE.
#[derive(Clone, Copy)]
enum How<'a> {
    /// For all, where that costs little; else for the nearest that there is.
    AtOnce,
    /// For one after the other, the nearest first.
    UntilEnough(Enough<'a>),
}

impl Library {
    /// Finds the diffs for each of `cves` that suit a kernel whose base version is `base`, the best
    /// first, with what gave none. Every CVE asked for is in the answer. A source that fails is passed
    /// over with its reason for each CVE it was to answer. From a server only the nearest diff that it
    /// has is fetched for each CVE; a repository at hand gives all.
    ///
    /// Newer source packages are not asked: what is cut from a tree says nothing about that tree. Blocks
    /// on `git` and, where allowed, on the network.
    pub fn diffs(&self, cves: &[&Cve], base: KernelVersion) -> BTreeMap<CveId, Found> {
        self.gather(cves, base, How::AtOnce)
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
        let applies =
            |diff: &FoundDiff| !diff.is_part && super::check(tree, diff.text.as_bytes()).is_ok();
        let found = self
            .gather(&[cve], base, How::UntilEnough(&applies))
            .remove(&cve.id);
        let Found {
            diffs,
            mut passed_over,
        } = found.unwrap_or_default();
        for diff in diffs {
            if diff.is_part {
                // Half of a fix would close nothing and be called closed.
                passed_over.push(PassedOver {
                    what: format!("{} ({})", diff.origin, diff.kind),
                    why: "it is one of several patches for this CVE that could not be put together"
                        .to_owned(),
                });
                continue;
            }
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

    fn gather(&self, cves: &[&Cve], base: KernelVersion, how: How<'_>) -> BTreeMap<CveId, Found> {
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
                SourceSpec::Git(place) => {
                    if let How::UntilEnough(_) = how {
                        // One CVE: the branch itself is worth a look.
                        for asked in &mut asked {
                            asked.look_in_branch(place, base.branch());
                        }
                    }
                    self.ask_git(place, source, &mut asked, how);
                }
                SourceSpec::Web(template) => self.ask_web(template, source, &mut asked, how),
                SourceSpec::Package(_) => {}
            }
        }
        let answers = asked.into_iter().map(|asked| (asked.cve.id, asked.found));
        answers.collect()
    }

    fn ask_git(
        &self,
        place: &GitPlace,
        source: &SourceSpec,
        asked: &mut [Asked<'_>],
        how: How<'_>,
    ) {
        say_if_unknown(source, asked);
        let read = |ids: &BTreeSet<GitId>| repository::read(place, ids, &self.cache, self.network);
        let origin = |commits| Origin::Git {
            place: place.to_string(),
            commits,
        };
        // A commit from a server brings the lists of files of its tree along.
        let dear = matches!((place, self.network), (GitPlace::Url(_), Network::Allowed));
        match how {
            How::UntilEnough(enough) => one_by_one(source, asked, enough, read, &origin),
            How::AtOnce if dear => one_by_one(source, asked, &|_| true, read, &origin),
            How::AtOnce => {
                let candidates = asked.iter().flat_map(|asked| &asked.candidates);
                let commits = read(&commits_of(candidates));
                for asked in asked {
                    for candidate in asked.candidates.clone() {
                        asked.take(source, &candidate, &commits, &origin);
                    }
                }
            }
        }
    }

    fn ask_web(
        &self,
        template: &UrlTemplate,
        source: &SourceSpec,
        asked: &mut [Asked<'_>],
        how: How<'_>,
    ) {
        say_if_unknown(source, asked);
        let origin = |commits: Vec<GitId>| Origin::Web {
            urls: commits
                .iter()
                .map(|commit| url::shown(&template.of(*commit)))
                .collect(),
            commits,
        };
        let mut server = web::Server::new(template, &self.cache, self.network);
        let read = |ids: &BTreeSet<GitId>| server.read(ids);
        let enough: Enough<'_> = match how {
            How::UntilEnough(enough) => enough,
            How::AtOnce => &|_| true,
        };
        one_by_one(source, asked, enough, read, &origin);
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

#[cfg(test)]
mod tests;
