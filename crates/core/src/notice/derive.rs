//! What there is to tell, from what is known now.
//!
//! The rule looks at the state of things and at the keys told before, not at what a scan changed: a
//! run that was cut off between its scan and its notices loses nothing, a signal that raises an old
//! CVE is news whichever way it came, and the same state makes the same keys.
//!
//! What is known when watching starts is the baseline: its keys are kept and told to nobody. Records
//! and follow-ups start with the first run, every kernel with the first run that knows it.

mod words;

use std::collections::{BTreeMap, BTreeSet};

use super::{Notice, NoticeKind, one_line, plain_text};
use crate::applicability::Applicability;
use crate::cve::{Cve, CveId, State};
use crate::decision::{self, Choice, Decision};
use crate::follow::{FollowUp, Turn};
use crate::identity::KernelRelease;
use crate::instant::UtcSeconds;
use crate::priority::{Band, Priority};
use crate::signals::{Exploitation, Signals};

/// Edition of the rule for follow-ups: raised when it finds more among the same records, which then
/// are no news.
const FOLLOW_UPS: u32 = 1;

/// A kernel that is watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its `uname -r`.
    pub release: KernelRelease,
    /// What was found for each CVE; a CVE that is missing counts as unknown.
    pub verdicts: BTreeMap<CveId, Applicability>,
}

/// Everything that is known now.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// All records.
    pub records: &'a [Cve],
    /// How urgent each is.
    pub priorities: &'a BTreeMap<CveId, Priority>,
    /// What is known from outside.
    pub signals: &'a BTreeMap<CveId, Signals>,
    /// Kernels watched.
    pub kernels: &'a [Watched],
    /// What people decided, in the order in which they did.
    pub decisions: &'a [Decision],
    /// Records that scans found gone, with a number that tells each time apart; some may be back.
    pub gone: &'a [(CveId, u64)],
    /// Fixes that did not last.
    pub follow_ups: &'a [FollowUp],
    /// Keys told before, the baseline's among them.
    pub known: &'a BTreeSet<String>,
    /// The time.
    pub now: UtcSeconds,
}

/// Who hears of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hearing {
    /// The channels that want it.
    Channels,
    /// Nobody: it was so when watching started. Its key is to be kept.
    Nobody,
}

/// A notice to post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// The notice.
    pub notice: Notice,
    /// How urgent the CVE is that it is about.
    pub band: Option<Band>,
    /// Who hears of it.
    pub hearing: Hearing,
}

/// How much is known of attacks; a step up is news even where the CVE was told before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attacks {
    NoneKnown,
    ExploitPublic,
    Exploited,
}

/// Lists what is to be posted, sorted by key.
pub fn derive(situation: &Situation<'_>) -> Vec<Derived> {
    let records: BTreeMap<CveId, &Cve> =
        situation.records.iter().map(|cve| (cve.id, cve)).collect();
    let mut derived = Vec::new();
    withdrawals(situation, &mut derived);
    disappearances(situation, &records, &mut derived);
    follow_ups(situation, &records, &mut derived);
    for kernel in situation.kernels {
        urgent(situation, kernel, &mut derived);
    }
    derived.retain(|it| !situation.known.contains(&it.notice.key));
    derived.sort_by(|a, b| a.notice.key.cmp(&b.notice.key));
    derived
}

/// Names the CVEs whose verdicts [`derive()`] looks at; the others need not be judged.
pub fn asked(priorities: &BTreeMap<CveId, Priority>, follow_ups: &[FollowUp]) -> BTreeSet<CveId> {
    priorities
        .values()
        .filter(|priority| priority.band == Band::Act)
        .map(|priority| priority.cve)
        .chain(follow_ups.iter().map(|follow_up| follow_up.later))
        .collect()
}

/// Says who hears of what belongs to `scope`, and marks the scope as watched from now on.
fn hearing(situation: &Situation<'_>, scope: &str, derived: &mut Vec<Derived>) -> Hearing {
    let key = format!("baseline/{scope}");
    if situation.known.contains(&key) {
        return Hearing::Channels;
    }
    let subject = format!("watching {scope} from now on");
    let notice = notice(situation, key, NoticeKind::Urgent, &subject, "");
    derived.push(Derived {
        notice,
        band: None,
        hearing: Hearing::Nobody,
    });
    Hearing::Nobody
}

fn notice(
    situation: &Situation<'_>,
    key: String,
    kind: NoticeKind,
    subject: &str,
    body: &str,
) -> Notice {
    Notice {
        key,
        kind,
        at: situation.now,
        cve: None,
        kernel: None,
        subject: one_line(subject),
        body: plain_text(body),
    }
}

fn band(situation: &Situation<'_>, id: CveId) -> Option<Band> {
    situation.priorities.get(&id).map(|priority| priority.band)
}

/// Records that went, or came back.
fn withdrawals(situation: &Situation<'_>, derived: &mut Vec<Derived>) {
    let hearing = hearing(situation, "records", derived);
    for cve in situation.records {
        let key = |kind: NoticeKind, time: u32| format!("{kind}/{}/{time}", cve.id);
        let knows = |kind, time| situation.known.contains(&key(kind, time));
        let times = (1..u32::MAX)
            .take_while(|time| knows(NoticeKind::Rejected, *time))
            .last()
            .unwrap_or(0);
        let is_back = times == 0 || knows(NoticeKind::Reinstated, times);
        let (key, kind, (subject, body)) = match cve.state {
            State::Rejected if is_back => (
                key(NoticeKind::Rejected, times + 1),
                NoticeKind::Rejected,
                words::rejected(cve),
            ),
            State::Published if !is_back => (
                key(NoticeKind::Reinstated, times),
                NoticeKind::Reinstated,
                words::reinstated(cve),
            ),
            State::Rejected | State::Published => continue,
        };
        derived.push(Derived {
            notice: Notice {
                cve: Some(cve.id),
                ..notice(situation, key, kind, &subject, &body)
            },
            band: band(situation, cve.id),
            hearing,
        });
    }
}

/// Records that the feed lost.
fn disappearances(
    situation: &Situation<'_>,
    records: &BTreeMap<CveId, &Cve>,
    derived: &mut Vec<Derived>,
) {
    let hearing = hearing(situation, "gone", derived);
    for (cve, time) in situation.gone {
        if records.contains_key(cve) {
            continue;
        }
        let kind = NoticeKind::Gone;
        let (subject, body) = words::gone(*cve);
        derived.push(Derived {
            notice: Notice {
                cve: Some(*cve),
                ..notice(
                    situation,
                    format!("{kind}/{cve}/{time}"),
                    kind,
                    &subject,
                    &body,
                )
            },
            band: None,
            hearing,
        });
    }
}

/// Fixes that did not last.
fn follow_ups(
    situation: &Situation<'_>,
    records: &BTreeMap<CveId, &Cve>,
    derived: &mut Vec<Derived>,
) {
    let hearing = hearing(situation, &format!("follow-ups/{FOLLOW_UPS}"), derived);
    for follow_up in situation.follow_ups {
        let kind = match follow_up.turn {
            Turn::Reverted => NoticeKind::FixReverted,
            Turn::Corrected => NoticeKind::FixFollowedUp,
        };
        let key = format!("{kind}/{}/{}", follow_up.earlier, follow_up.later);
        let (Some(earlier), Some(later)) = (
            records.get(&follow_up.earlier),
            records.get(&follow_up.later),
        ) else {
            continue;
        };
        let ignored = decision::standing(situation.decisions, later.id, None, situation.now)
            .is_some_and(|it| it.choice == Choice::Ignore);
        if ignored || situation.known.contains(&key) {
            continue;
        }
        let (subject, body) = words::follow_up(follow_up, earlier, later, situation.kernels);
        derived.push(Derived {
            notice: Notice {
                cve: Some(later.id),
                ..notice(situation, key, kind, &subject, &body)
            },
            // Of the two the graver: a correction of an urgent fix is urgent to those who carry it.
            band: band(situation, earlier.id).max(band(situation, later.id)),
            hearing,
        });
    }
}

/// CVEs that ask for action now, in one kernel.
fn urgent(situation: &Situation<'_>, kernel: &Watched, derived: &mut Vec<Derived>) {
    let scope = format!("kernel/{}", kernel.release);
    let hearing = hearing(situation, &scope, derived);
    for cve in situation.records {
        let Some(priority) = situation
            .priorities
            .get(&cve.id)
            .filter(|it| it.band == Band::Act)
        else {
            continue;
        };
        let verdict = kernel.verdicts.get(&cve.id).copied();
        match verdict {
            Some(Applicability::NotAffected(_)) => continue,
            Some(Applicability::Affected | Applicability::Unknown(_)) | None => {}
        }
        let attacks = situation
            .signals
            .get(&cve.id)
            .map_or(Attacks::NoneKnown, attacks);
        let release = Some(&kernel.release);
        let standing = decision::standing(situation.decisions, cve.id, release, situation.now);
        match (standing, attacks) {
            (Some(_), Attacks::NoneKnown) => continue,
            // Whoever decided may not have known of the attacks: told once, by its key, all the same.
            (Some(_), Attacks::ExploitPublic | Attacks::Exploited) | (None, _) => {}
        }
        let mut key = format!("urgent/{}/{}", cve.id, kernel.release);
        key.push_str(match attacks {
            Attacks::NoneKnown => "",
            Attacks::ExploitPublic => "/exploit-public",
            Attacks::Exploited => "/exploited",
        });
        let expired = last_expiry(situation, cve.id, &kernel.release);
        if let Some(until) = expired {
            key.push_str(&format!("/after/{}", until.unix()));
        }
        if situation.known.contains(&key) {
            continue;
        }
        let (subject, body) =
            words::urgent(cve, priority, &kernel.release, verdict, attacks, expired);
        derived.push(Derived {
            notice: Notice {
                cve: Some(cve.id),
                kernel: Some(kernel.release.clone()),
                ..notice(situation, key, NoticeKind::Urgent, &subject, &body)
            },
            band: Some(priority.band),
            hearing,
        });
    }
}

fn attacks(signals: &Signals) -> Attacks {
    let ssvc = signals.ssvc.map(|ssvc| ssvc.exploitation);
    if signals.kev.is_some() || ssvc == Some(Exploitation::Active) {
        Attacks::Exploited
    } else if !signals.exploits.is_empty() || ssvc == Some(Exploitation::Poc) {
        Attacks::ExploitPublic
    } else {
        Attacks::NoneKnown
    }
}

/// Returns when the last decision about `cve` in `kernel` ran out, if one did.
fn last_expiry(
    situation: &Situation<'_>,
    cve: CveId,
    kernel: &KernelRelease,
) -> Option<UtcSeconds> {
    situation
        .decisions
        .iter()
        .filter(|it| it.cve == cve && it.kernel.as_ref().is_none_or(|of| of == kernel))
        .filter_map(|it| it.until)
        .filter(|until| *until <= situation.now)
        .max()
}

#[cfg(test)]
mod tests;
