//! The record as a page for people.

use tuxtape_core::follow::{FollowUp, Proof, Turn};
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::signals::Source;
use tuxtape_core::version::Branch;
use tuxtape_store::Published;

use super::Facts;
use super::branches::{self, Window};
use crate::commands::cve::{decisions, links};
use crate::remembered::said;
use crate::remembered::shelf::{ages, day, inconsistencies};
use crate::screen::{Screen, Style, pad, wrap};

/// Widest text: longer lines are hard to read.
const WIDEST: usize = 100;
const INDENT: usize = 2;

/// A page that grows.
struct Page {
    text: String,
    screen: Screen,
    width: usize,
}

impl Page {
    fn heading(&mut self, text: &str) {
        let painted = self.screen.paint(Style::Heading, text);
        self.text.push_str(&format!("\n{painted}\n"));
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(&format!("  {}\n", text.trim_end()));
    }

    fn paragraph(&mut self, text: &str) {
        self.text.push_str(&wrap(text, self.width, INDENT));
    }

    /// A name and what is said of it; further lines stand below the first.
    fn entry(&mut self, name: &str, text: &str) {
        self.entry_of(14, name, text);
    }

    fn entry_of(&mut self, columns: usize, name: &str, text: &str) {
        let body = wrap(text, self.width, INDENT + columns);
        let first = pad(name, columns - 1);
        let rest = body.trim_start();
        self.text.push_str(&format!("  {first} {rest}"));
        if rest.is_empty() {
            self.text.push('\n');
        }
    }
}

pub(super) fn page(facts: &Facts, screen: Screen) -> String {
    let width = screen.columns.map_or(WIDEST, |columns| columns.min(WIDEST));
    let mut page = Page {
        text: String::new(),
        screen,
        width,
    };
    head(&mut page, facts);
    let cve = &facts.stored.cve;
    page.heading("What it is");
    match &cve.rejection {
        Some(why) => page.paragraph(why),
        None if cve.description.trim().is_empty() => page.line("the record has no description"),
        None => page.paragraph(&cve.description),
    }
    versions(&mut page, facts);
    follow_ups(&mut page, facts);
    if !cve.files.is_empty() {
        page.heading("Files");
        for file in &cve.files {
            page.line(file);
        }
    }
    factors(&mut page, facts);
    signals(&mut page, facts);
    if let Some(cvss) = &cve.cvss {
        page.heading("Severity, by the record's authority");
        page.line(&format!("{}  {}", cvss.score, cvss.vector));
        for reason in &cvss.reasons {
            page.paragraph(reason);
        }
    }
    if !facts.decisions.is_empty() {
        page.heading("Decisions");
        for decision in &facts.decisions {
            let state = decisions::state(decision, &facts.decisions, facts.now);
            page.paragraph(&format!("{} [{}]", said(decision), state.as_str()));
        }
    }
    if !facts.history.is_empty() {
        page.heading("Seen to change");
        for event in &facts.history {
            page.line(&format!(
                "{}  {}  feed {}",
                day(event.time),
                pad(event.change.as_str(), 10),
                event.commit.short()
            ));
        }
    }
    page.heading("Links");
    for link in links::all(cve) {
        page.line(&link);
    }
    page.text
}

fn head(page: &mut Page, facts: &Facts) {
    let stored = &facts.stored;
    let cve = &stored.cve;
    let id = page.screen.paint(Style::Heading, &cve.id.to_string());
    page.text
        .push_str(&format!("{id}  {}\n{}\n\n", cve.state, cve.title));
    let priority = &facts.priority;
    let band = page
        .screen
        .paint(Style::Band(priority.band), priority.band.as_str());
    let model = priority
        .model
        .map_or_else(String::new, |model| format!(", by {model}"));
    page.line(&format!(
        "band          {band}, {} points{model} (policy {})",
        priority.points,
        facts.policy.name()
    ));
    if let Some((release, judgement)) = &facts.judgement {
        page.entry("kernel", &format!("{release}: {}", judgement.verdict));
        for evidence in &judgement.evidence {
            page.entry(
                "",
                &format!("{}: {}", evidence.step.as_str(), evidence.found),
            );
        }
    }
    if let Some(decision) = facts.standing() {
        page.entry("decision", &said(decision));
    }
    match stored.dates {
        None => {}
        Some(dates) => {
            let published = match dates.published {
                Published::At(time) => day(time),
                Published::By(time) => format!("by {}", day(time)),
            };
            let changed = day(dates.changed);
            page.entry("published", &format!("{published}, changed {changed}"));
        }
    }
    for why in inconsistencies(stored) {
        page.entry("inconsistent", &why);
    }
    if let Some(why) = &stored.stale {
        page.entry(
            "stale",
            &format!("the newest edition could not be read: {why}"),
        );
    }
    page.entry("feed", &stored.commit.short());
}

fn versions(page: &mut Page, facts: &Facts) {
    let spans = &facts.stored.cve.spans;
    if spans.is_empty() {
        return;
    }
    page.heading("Versions");
    for row in branches::rows(spans, &facts.horizons) {
        let known = row
            .horizon
            .map_or_else(String::new, |horizon| format!("known up to {horizon}"));
        let windows: Vec<String> = row.windows.iter().map(window).collect();
        let windows = if windows.is_empty() {
            "no release has the bug".to_owned()
        } else {
            windows.join("; then ")
        };
        let fixes: Vec<String> = row
            .windows
            .iter()
            .filter_map(|window| Some(window.fix?.commit.short()))
            .collect();
        page.line(&format!(
            "{}  {}  {}  {known}",
            pad(&row.branch.to_string(), 7),
            pad(&windows, 38),
            pad(&fixes.join(" "), 12),
        ));
    }
    let inherited = branches::inherited(spans, &facts.horizons);
    if !inherited.is_empty() {
        page.paragraph(&format!(
            "also open, with no fix of their own: {}",
            runs(&inherited).join(", ")
        ));
    }
}

fn follow_ups(page: &mut Page, facts: &Facts) {
    if facts.follow_ups.is_empty() {
        return;
    }
    let id = facts.stored.cve.id;
    page.heading("Fixes that did not last");
    for FollowUp {
        earlier,
        later,
        turn,
        proofs,
    } in &facts.follow_ups
    {
        let verb = match turn {
            Turn::Reverted => "reverted",
            Turn::Corrected => "corrected",
        };
        let sentence = if *earlier == id {
            format!("its fix is {verb} by {later}")
        } else {
            format!("the fix of {earlier} is {verb} here")
        };
        let proofs: Vec<String> = proofs.iter().map(proof).collect();
        page.paragraph(&format!("{sentence}: {}", proofs.join("; ")));
    }
}

fn proof(proof: &Proof) -> String {
    match proof {
        Proof::Introduced(landing) => {
            format!(
                "the later bug came with {} in {}",
                landing.commit.short(),
                landing.version
            )
        }
        Proof::Title(title) => format!("its title reverts \"{title}\""),
        Proof::Text { commit, words } => {
            format!("its text says of {}: \"{words}\"", commit.short())
        }
    }
}

/// Writes branches that follow each other as one: `3.1 to 4.4`.
fn runs(branches: &[Branch]) -> Vec<String> {
    branches
        .chunk_by(|one, other| one.next() == *other)
        .map(|run| match run {
            [first, _, .., last] => format!("{first} to {last}"),
            [first, last] => format!("{first}, {last}"),
            _ => run.iter().map(ToString::to_string).collect(),
        })
        .collect()
}

fn window(window: &Window) -> String {
    if let (None, Some(fix)) = (window.since, window.fix)
        && fix.version.is_mainline()
    {
        return format!("fixed from {} on", fix.version);
    }
    let since = match window.since {
        Some(since) => format!("since {since}"),
        None => "since its start".to_owned(),
    };
    match window.fix {
        Some(fix) => format!("{since}, fixed in {}", fix.version),
        None => format!("{since}, still open"),
    }
}

fn factors(page: &mut Page, facts: &Facts) {
    page.heading("Why this band");
    for factor in &facts.priority.factors {
        let text = match &factor.why {
            Some(why) => format!("{} – {why}", factor.cause),
            None => factor.cause.clone(),
        };
        let text = if page.screen.unicode {
            text
        } else {
            text.replace('–', "-")
        };
        let name = format!("{:>6} {}", factor.points, factor.term);
        page.entry_of(19, &name, &text);
    }
    let (act, attend) = (
        facts.policy.threshold(tuxtape_core::priority::Band::Act),
        facts.policy.threshold(tuxtape_core::priority::Band::Attend),
    );
    page.line(&format!(
        "{:>6} in all; act from {act}, attend from {attend}",
        facts.priority.points
    ));
}

fn signals(page: &mut Page, facts: &Facts) {
    page.heading("Known from outside");
    let signals = &facts.signals;
    if let Some(kev) = &signals.kev {
        let ransom = if kev.ransomware { ", for ransom" } else { "" };
        let text = format!(
            "known exploited since {} as {}{ransom}",
            day(kev.added),
            kev.product
        );
        page.entry("KEV", &aged(&text, facts, Source::Kev));
    }
    if let Some(ssvc) = signals.ssvc {
        let text = format!(
            "exploitation {}, automatable {}, technical impact {}",
            ssvc.exploitation.as_str(),
            if ssvc.automatable { "yes" } else { "no" },
            if ssvc.total { "total" } else { "partial" }
        );
        page.entry("SSVC", &aged(&text, facts, Source::Adp));
    }
    for exploit in &signals.exploits {
        let needs = if exploit.requirements.is_empty() {
            String::new()
        } else {
            format!(", needs {}", exploit.requirements.join(", "))
        };
        let text = format!("{}{needs}", exploit.name);
        page.entry("exploit", &aged(&text, facts, Source::Exploits));
    }
    for score in &signals.scores {
        let text = format!("{} {}", score.score, score.vector);
        page.entry(&score.source.to_string(), &aged(&text, facts, score.source));
    }
    if let Some(epss) = signals.epss {
        let text = format!(
            "{} within 30 days, higher than {} of all",
            epss.probability, epss.percentile
        );
        page.entry("EPSS", &aged(&text, facts, Source::Epss));
    }
    page.entry("sources", &ages(&facts.stamps).join(", "));
}

/// Adds how old a source's data is.
fn aged(text: &str, facts: &Facts, source: Source) -> String {
    let stamp = facts.stamps.iter().find(|stamp| stamp.source == source);
    match stamp {
        None => text.to_owned(),
        Some(stamp) => {
            let dated = stamp.dated.unwrap_or(stamp.taken);
            format!("{text} ({})", age(dated, facts.now))
        }
    }
}

fn age(then: UtcSeconds, now: UtcSeconds) -> String {
    match now.since(then) / 86_400 {
        0 => "of today".to_owned(),
        1 => "1 day old".to_owned(),
        days => format!("{days} days old"),
    }
}
