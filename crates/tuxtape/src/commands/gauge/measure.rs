//! One kernel with the verdicts about it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, bail};
use tuxtape_core::applicability::content::{Carried, Content, Functions};
use tuxtape_core::applicability::loaded::node::Node;
use tuxtape_core::applicability::loaded::{Loading, Standing};
use tuxtape_core::applicability::{
    Applicability, Bench, Evidence, Freshness, Gap, Judgement, Reason, Step,
};
use tuxtape_core::cve::{Cve, CveId};
use tuxtape_core::identity::ObjectName;
use tuxtape_core::profile::KernelProfile;
use tuxtape_core::span::Horizons;
use tuxtape_core::version::KernelVersion;
use tuxtape_kernel::content::changelog::{Changelog, ReadError};
use tuxtape_kernel::content::{FixDiff, Looker};
use tuxtape_kernel::debian::version::DebianVersion;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::fix_source::found::Found;
use tuxtape_kernel::fix_source::library::Library;
use tuxtape_kernel::profile::stamp::{self, TreeStamp};
use tuxtape_kernel::{aliases, profile};
use tuxtape_store::{Lines, Store, Stored};

use super::{bench, judge};
use crate::context::Context;
use crate::output::{self, Hint};
use crate::remembered::{self, KnownHistory};

/// Which records are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Those that versions alone do not rule out for all of the kernels: the others are counted.
    Open,
    /// All.
    All,
    /// This one.
    One(CveId),
}

/// The records that kernels are judged by.
#[derive(Debug)]
pub(crate) struct Records {
    /// Those that were read, by id.
    pub stored: Vec<Stored>,
    /// All that are published.
    pub published: BTreeSet<CveId>,
    pub horizons: Horizons,
    skipped: BTreeMap<CveId, String>,
}

/// What is known of one kernel.
#[derive(Debug)]
pub(crate) struct Known {
    pub profile: KernelProfile,
    pub history: KnownHistory,
}

impl Known {
    pub(crate) fn new(context: &Context, profile: KernelProfile) -> Self {
        Self {
            history: remembered::history(context, &profile),
            profile,
        }
    }

    fn bench<'a>(&'a self, horizons: &'a Horizons) -> anyhow::Result<Bench<'a>> {
        bench(&self.profile, horizons, self.history.at_hand())
    }
}

/// One kernel with the verdicts about it.
#[derive(Debug)]
pub(crate) struct Measured {
    pub profile: KernelProfile,
    history: KnownHistory,
    /// How far the feed knows its branch.
    pub horizon: Option<KernelVersion>,
    /// By id, of the records that were read.
    pub judgements: BTreeMap<CveId, Judgement>,
    /// How many published records their versions ruled out unread.
    pub ruled_out: usize,
    /// How its modules stand; `None` where that is not known.
    pub standings: Option<BTreeMap<ObjectName, Standing>>,
    /// What was found in its source, of the CVEs that were looked at.
    pub contents: BTreeMap<CveId, Content>,
}

impl Records {
    /// Takes records that were read already, and those of which no edition could be read.
    pub(crate) fn taken(
        stored: Vec<Stored>,
        horizons: Horizons,
        skipped: BTreeMap<CveId, String>,
    ) -> Self {
        Self {
            published: stored.iter().map(|stored| stored.cve.id).collect(),
            stored,
            horizons,
            skipped,
        }
    }

    pub(super) fn read(
        store: &Store,
        lines: &[Lines],
        profiles: &[Known],
        extent: &Extent,
    ) -> anyhow::Result<Self> {
        let skipped = store.skipped()?;
        let horizons = tuxtape_store::horizons(lines);
        let published = lines.iter().map(|record| record.id).collect();
        let stored = match extent {
            Extent::All => store.records()?,
            Extent::One(id) => store.cve(*id)?.into_iter().collect(),
            Extent::Open => {
                let mut open: BTreeSet<CveId> = skipped.keys().copied().collect();
                for profile in profiles {
                    let bench = profile.bench(&horizons)?;
                    let left = lines.iter().filter(|record| {
                        record.doubtful
                            || bench.rules_out(&record.spans, &record.disputes).is_none()
                    });
                    open.extend(left.map(|record| record.id));
                }
                store.records_of(&open)?
            }
        };
        // Of one record alone the others are no concern.
        let skipped = match extent {
            Extent::All | Extent::Open => skipped,
            Extent::One(id) => skipped.into_iter().filter(|(it, _)| it == id).collect(),
        };
        Ok(Self {
            stored,
            published,
            horizons,
            skipped,
        })
    }

    pub(super) fn of(&self, id: CveId) -> Option<&Cve> {
        let found = self
            .stored
            .binary_search_by_key(&id, |stored| stored.cve.id);
        let stored = found.ok().and_then(|index| self.stored.get(index))?;
        Some(&stored.cve)
    }
}

impl Measured {
    /// Judges every record that was read by what the record and the profile say.
    pub(crate) fn new(known: Known, records: &Records) -> anyhow::Result<Self> {
        let bench = known.bench(&records.horizons)?;
        let judgements = judge(&records.stored, records.skipped.clone(), &bench);
        let Known { profile, history } = known;
        let read = |id: &&CveId| judgements.contains_key(id);
        let ruled_out = records.published.len() - records.published.iter().filter(read).count();
        let base = profile.base_version.parse().ok();
        Ok(Self {
            horizon: base.and_then(|base| records.horizons.of(base)),
            profile,
            history,
            judgements,
            ruled_out,
            standings: None,
            contents: BTreeMap::new(),
        })
    }

    /// Says how the objects stand, and adds it to the evidence of every CVE whose code is in one.
    pub(super) fn load(&mut self, context: &Context, node: Option<&Node>) {
        let modules = aliases::load(&context.home, &self.profile.id).unwrap_or_else(|error| {
            // No verdict stands on it.
            output::talk(&format!("warning: {:#}", anyhow::Error::new(error)));
            None
        });
        // Without a list of modules a node that has them loaded still says so, and vmlinux runs.
        let known = modules.is_some();
        let modules = modules.unwrap_or_default();
        let loading = Loading::new(&modules, node);
        let objects: BTreeSet<&ObjectName> = self
            .judgements
            .values()
            .flat_map(|judgement| &judgement.objects)
            .collect();
        let standings: BTreeMap<ObjectName, Standing> = objects
            .into_iter()
            .filter_map(|object| Some((object.clone(), loading.of(object)?)))
            .collect();
        for judgement in self.judgements.values_mut() {
            if judgement.objects.is_empty() {
                continue;
            }
            judgement.evidence.retain(|it| it.step != Step::Loaded);
            judgement.evidence.push(Evidence {
                step: Step::Loaded,
                found: told(&judgement.objects, &standings),
            });
        }
        self.standings = (known || node.is_some()).then_some(standings);
    }

    /// Returns how the most urgent of the objects of a CVE stands.
    pub(super) fn standing(&self, judgement: &Judgement) -> Option<&Standing> {
        let standings = self.standings.as_ref()?;
        judgement
            .objects
            .iter()
            .filter_map(|object| standings.get(object))
            .min()
    }

    /// Looks for the fixes of all CVEs that versions do not rule out in the kernel's source and
    /// functions, on all cores, and judges again by what was found.
    pub(crate) fn look(
        &mut self,
        context: &Context,
        records: &Records,
        library: &Library,
        tell: &(dyn Fn(usize, usize) + Sync),
    ) -> anyhow::Result<()> {
        let release = &self.profile.id.release;
        let files = KernelFiles::below(&context.cache, release);
        let table = match profile::functions::load(&context.home, &self.profile.id) {
            Ok(table) => table,
            Err(error) => {
                // Without it the functions are not looked at, and the evidence says so.
                let error = anyhow::Error::new(error);
                output::talk(&format!("warning: {error:#}"));
                None
            }
        };
        let changelog = changelog(&files, &self.profile);
        let stamp = match stamp::load(&context.home, &self.profile.id) {
            Ok(stamp) => stamp,
            // Without diffs nothing is looked for in the tree.
            Err(_) if library.sources.is_empty() => None,
            // Nothing that is found in a tree of which this is not known is believed.
            Err(error) => bail!(anyhow::Error::new(error).context(Hint::new(
                "run `tuxtape kernel add` again, or leave --content out"
            ))),
        };
        let mut looker = Looker::new(&files.source, table.as_ref());
        if let Some(changelog) = &changelog {
            looker = looker.with_changelog(changelog);
        }
        let open: Vec<&Stored> = records
            .stored
            .iter()
            .filter(|stored| self.judgements.get(&stored.cve.id).is_some_and(is_open))
            .collect();
        let cves: Vec<&Cve> = open.iter().map(|stored| &stored.cve).collect();
        let base: KernelVersion = self
            .profile
            .base_version
            .parse()
            .with_context(|| format!("the profile of {release} has no base version"))?;
        let found = library.diffs(&cves, base);
        // A profile of before does not know.
        if let (None, Some(changelog)) = (&self.profile.taken_in, &changelog) {
            self.profile.taken_in = Some(changelog.taken_in(base));
        }
        let bench = bench(&self.profile, &records.horizons, self.history.at_hand())?;
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::with_capacity(open.len()));
        let work = || {
            let mut own = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(stored) = open.get(index) else {
                    break;
                };
                let diffs = found.get(&stored.cve.id);
                let mut content = look(&looker, &stored.cve, diffs);
                if let Some(stamp) = &stamp {
                    distrust(&mut content, stamp, &stored.cve, diffs);
                }
                let freshness = stored
                    .stale
                    .as_deref()
                    .map_or(Freshness::Current, Freshness::Stale);
                let judgement = bench.judge_with(&stored.cve, freshness, Some(&content));
                own.push((judgement, content));
                tell(index + 1, open.len());
            }
            if let Ok(mut all) = results.lock() {
                all.extend(own);
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        let results = results.into_inner().unwrap_or_default();
        for (judgement, content) in results {
            self.contents.insert(judgement.cve, content);
            self.judgements.insert(judgement.cve, judgement);
        }
        Ok(())
    }
}

/// Reads the changelog that came with the kernel's image; `None` where there is none that can be read,
/// or no version up to which it counts. It only ever gives hints.
fn changelog(files: &KernelFiles, profile: &KernelProfile) -> Option<Changelog> {
    let (_, version) = profile.origin.source.rsplit_once(' ')?;
    match Changelog::open(&files.changelog(), Some(&DebianVersion::new(version))) {
        Ok(changelog) => changelog,
        Err(ReadError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            output::talk(&format!("warning: {:#}", anyhow::Error::new(error)));
            None
        }
    }
}

/// Tells whether a look at the source could change or support a verdict.
fn is_open(judgement: &Judgement) -> bool {
    !matches!(
        judgement.verdict,
        Applicability::NotAffected(Reason::Rejected | Reason::OutsideSpan)
    )
}

fn look(looker: &Looker<'_>, cve: &Cve, found: Option<&Found>) -> Content {
    let diffs = found.map_or(&[][..], |found| &found.diffs);
    let origins: Vec<String> = diffs
        .iter()
        .map(|diff| format!("{}, {}", diff.origin, diff.kind))
        .collect();
    let diffs: Vec<FixDiff<'_>> = diffs
        .iter()
        .zip(&origins)
        .map(|(diff, origin)| FixDiff {
            origin,
            text: diff.text.as_bytes(),
            whole: diff.whole.as_deref().map(str::as_bytes),
            is_part: diff.is_part,
            tie: &diff.tie,
        })
        .collect();
    looker.look(cve, &diffs)
}

/// Takes back what was found in files that are not the kernel's any more.
fn distrust(content: &mut Content, stamp: &TreeStamp, cve: &Cve, found: Option<&Found>) {
    if matches!(content.carried, Carried::NotLooked { .. }) {
        return;
    }
    let diffs = found.map_or(&[][..], |found| &found.diffs);
    let named = diffs.iter().flat_map(|diff| diff_files(&diff.text));
    let files = cve.files.iter().chain(content.moved.values());
    let changed = stamp.changed(files.map(String::as_str).chain(named));
    if let Some(why) = changed {
        let gap = Gap::NoSource;
        *content = Content {
            carried: Carried::NotLooked {
                gap,
                why: why.clone(),
            },
            functions: Functions::NotLooked {
                gap,
                why: why.clone(),
            },
            changed: Some(why),
            ..Content::default()
        };
    }
}

/// Lists the files that a diff names on either side.
fn diff_files(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let rest = line
            .strip_prefix("--- a/")
            .or_else(|| line.strip_prefix("+++ b/"))?;
        Some(rest.split('\t').next().unwrap_or(rest))
    })
}

/// Says how each object stands.
fn told(objects: &BTreeSet<ObjectName>, standings: &BTreeMap<ObjectName, Standing>) -> String {
    let one = |object: &ObjectName| match standings.get(object) {
        Some(standing) => format!("{object} {standing}"),
        None => format!("{object} not known"),
    };
    objects.iter().map(one).collect::<Vec<_>>().join("; ")
}
