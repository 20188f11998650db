//! Subjects and texts of notices.

use std::fmt::Write as _;

use super::{Attacks, Watched};
use crate::applicability::Applicability;
use crate::cve::{Cve, CveId};
use crate::follow::{FollowUp, Proof, Turn};
use crate::identity::KernelRelease;
use crate::instant::UtcSeconds;
use crate::priority::Priority;

/// Most lines of one list; the rest is counted.
const MOST_LINES: usize = 12;

/// A text that takes every line.
#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: &str) {
        writeln!(self.0, "{line}").expect("a String takes everything");
    }

    fn list<T>(&mut self, head: &str, items: &[T], show: impl Fn(&T) -> String) {
        if items.is_empty() {
            return;
        }
        self.line(head);
        for item in items.iter().take(MOST_LINES) {
            self.line(&format!("  {}", show(item)));
        }
        let rest = items.len().saturating_sub(MOST_LINES);
        if rest > 0 {
            self.line(&format!("  and {rest} more"));
        }
    }
}

pub(super) fn urgent(
    cve: &Cve,
    priority: &Priority,
    kernel: &KernelRelease,
    verdict: Option<Applicability>,
    attacks: Attacks,
    expired: Option<UtcSeconds>,
) -> (String, String) {
    let state = match attacks {
        Attacks::Exploited => "exploited",
        Attacks::ExploitPublic => "exploit public",
        Attacks::NoneKnown => "act",
    };
    let open = match verdict {
        Some(Applicability::Affected) => "in",
        Some(Applicability::Unknown(_) | Applicability::NotAffected(_)) | None => "maybe in",
    };
    let subject = format!("{state}: {} {open} {kernel}: {}", cve.id, cve.title);
    let mut text = Text::default();
    text.line(&format!("{}: {}", cve.id, cve.title));
    text.line("");
    text.line(&format!("kernel   {kernel}: {}", verdict_words(verdict)));
    text.line(&format!(
        "band     {}, {} points",
        priority.band, priority.points
    ));
    if let Some(cvss) = &cve.cvss {
        text.line(&format!("cvss     {} {}", cvss.score, cvss.vector));
    }
    if let Some(until) = expired {
        text.line(&format!("decided  until {until}, which has passed"));
    }
    text.list("because", &priority.factors, |factor| {
        format!("{:>4}  {}: {}", factor.points, factor.term, factor.cause)
    });
    text.list("files", &cve.files, Clone::clone);
    text.list("vulnerable", &cve.spans, ToString::to_string);
    text.line("");
    text.line(&format!("tuxtape cve show {}", cve.id));
    text.line(&format!("tuxtape gauge {kernel} --cve {}", cve.id));
    (subject, text.0)
}

pub(super) fn rejected(cve: &Cve) -> (String, String) {
    let subject = named(&format!("rejected: {}", cve.id), &cve.title);
    let mut text = Text::default();
    text.line(&format!(
        "{} was withdrawn by the kernel's CVE authority.",
        named(&cve.id.to_string(), &cve.title)
    ));
    text.line("");
    match &cve.rejection {
        Some(reason) => text.line(reason),
        None => text.line("The record gives no reason."),
    }
    text.line("");
    text.line("A level that carries its fix may keep it: the change is in the kernel's history.");
    text.line(&format!("tuxtape cve show {}", cve.id));
    (subject, text.0)
}

pub(super) fn gone(cve: CveId) -> (String, String) {
    let subject = format!("gone: {cve} is no longer in the feed");
    let mut text = Text::default();
    text.line(&format!(
        "{cve} was in the feed, and is neither among the valid records nor among the withdrawn ones."
    ));
    text.line("");
    text.line("Nothing says that it was wrong: a level that carries its fix should keep it.");
    text.line("TuxTape gauges it no more, because its spans are unknown.");
    (subject, text.0)
}

pub(super) fn reinstated(cve: &Cve) -> (String, String) {
    let subject = named(&format!("reinstated: {}", cve.id), &cve.title);
    let mut text = Text::default();
    text.line(&format!(
        "{} had been withdrawn and is valid again.",
        named(&cve.id.to_string(), &cve.title)
    ));
    text.list("vulnerable", &cve.spans, ToString::to_string);
    text.line("");
    text.line(&format!("tuxtape cve show {}", cve.id));
    (subject, text.0)
}

pub(super) fn follow_up(
    follow_up: &FollowUp,
    earlier: &Cve,
    later: &Cve,
    kernels: &[Watched],
) -> (String, String) {
    let (word, says) = match follow_up.turn {
        Turn::Reverted => (
            "reverted",
            "takes it back: the bug is open again from there on",
        ),
        Turn::Corrected => (
            "followed up",
            "corrects it: whoever carries it wants this too",
        ),
    };
    let subject = format!(
        "fix {word}: {} by {}: {}",
        earlier.id, later.id, later.title
    );
    let mut text = Text::default();
    text.line(&format!("The fix of   {}: {}", earlier.id, earlier.title));
    text.line(&format!("is {word} by {}: {}", later.id, later.title));
    text.line(&format!("which {says}."));
    text.line("");
    text.list("because", &follow_up.proofs, |proof| match proof {
        Proof::Introduced(bug) => format!(
            "its bug came with {} in {}, a fix of {}",
            bug.commit.short(),
            bug.version,
            earlier.id
        ),
        Proof::Title(title) => format!("its title reverts \"{title}\""),
        Proof::Text { commit, words } => format!("it says of {}: {words}", commit.short()),
    });
    text.list("kernels", kernels, |kernel| {
        let verdict = |cve: &Cve| verdict_words(kernel.verdicts.get(&cve.id).copied());
        format!("{}: {} {}", kernel.release, later.id, verdict(later))
    });
    let brings = |proof: &Proof| matches!(proof, Proof::Introduced(_));
    if !kernels.is_empty() && follow_up.proofs.iter().any(brings) {
        // Verdicts are about the kernel as it was installed, and a level changes just that.
        text.line(&format!(
            "A level that carries the fix of {} brings this bug along, whatever is said above.",
            earlier.id
        ));
    }
    text.line("");
    text.line(&format!("tuxtape cve show {}", later.id));
    (subject, text.0)
}

fn named(what: &str, title: &str) -> String {
    if title.is_empty() {
        return what.to_owned();
    }
    format!("{what}: {title}")
}

fn verdict_words(verdict: Option<Applicability>) -> String {
    match verdict {
        Some(verdict) => match verdict.reason() {
            Some(reason) => format!("{} ({reason})", verdict.as_str()),
            None => verdict.as_str().to_owned(),
        },
        None => "not judged".to_owned(),
    }
}
