use super::*;
use crate::applicability::{Gap, Reason};
use crate::follow::Proof;
use crate::signals::{Exploit, Kev};

const KERNEL: &str = "6.1.0-47-cloud-amd64";

/// A small world that is watched from `watch` on.
struct World {
    records: Vec<Cve>,
    bands: BTreeMap<CveId, Priority>,
    signals: BTreeMap<CveId, Signals>,
    kernels: Vec<Watched>,
    decisions: Vec<Decision>,
    gone: Vec<(CveId, u64)>,
    follow_ups: Vec<FollowUp>,
    known: BTreeSet<String>,
    now: UtcSeconds,
}

impl World {
    fn new() -> Self {
        Self {
            records: Vec::new(),
            bands: BTreeMap::new(),
            signals: BTreeMap::new(),
            kernels: vec![Watched {
                release: KERNEL.parse().unwrap(),
                verdicts: BTreeMap::new(),
            }],
            decisions: Vec::new(),
            gone: Vec::new(),
            follow_ups: Vec::new(),
            known: BTreeSet::new(),
            now: UtcSeconds::from_unix(1000),
        }
    }

    /// A world whose baseline is set.
    fn watched() -> Self {
        let mut world = Self::new();
        world.post();
        world
    }

    fn record(&mut self, name: &str, band: Band, verdict: Applicability) -> CveId {
        let id: CveId = name.parse().unwrap();
        self.records.push(Cve {
            id,
            state: State::Published,
            title: "net: foo: fix use after free".to_owned(),
            description: String::new(),
            files: vec!["net/foo/main.c".to_owned()],
            cvss: None,
            references: Vec::new(),
            mainline_fixes: Vec::new(),
            spans: Vec::new(),
            doubts: Vec::new(),
            disputes: Vec::new(),
            rejection: None,
        });
        self.band(id, band);
        for kernel in &mut self.kernels {
            kernel.verdicts.insert(id, verdict);
        }
        id
    }

    fn band(&mut self, id: CveId, band: Band) {
        let priority = Priority {
            cve: id,
            points: 70,
            band,
            model: None,
            factors: Vec::new(),
        };
        self.bands.insert(id, priority);
    }

    fn derive(&self) -> Vec<Derived> {
        derive(&Situation {
            records: &self.records,
            priorities: &self.bands,
            signals: &self.signals,
            kernels: &self.kernels,
            decisions: &self.decisions,
            gone: &self.gone,
            follow_ups: &self.follow_ups,
            known: &self.known,
            now: self.now,
        })
    }

    /// Derives, keeps the keys, and returns those that somebody hears of.
    fn post(&mut self) -> Vec<String> {
        let derived = self.derive();
        let told = derived
            .iter()
            .filter(|it| it.hearing == Hearing::Channels)
            .map(|it| it.notice.key.clone())
            .collect();
        self.known
            .extend(derived.into_iter().map(|it| it.notice.key));
        told
    }

    fn decide(&mut self, id: CveId, choice: Choice, until: Option<u64>) {
        self.decisions.push(Decision {
            cve: id,
            kernel: Some(KERNEL.parse().unwrap()),
            choice,
            who: "ann".to_owned(),
            why: "reasons".to_owned(),
            at: self.now,
            until: until.map(UtcSeconds::from_unix),
        });
    }
}

const NONE: [&str; 0] = [];

#[test]
fn a_record_that_the_feed_loses_is_told_each_time_and_not_once_it_is_back() {
    let mut world = World::new();
    let id: CveId = "CVE-2024-0009".parse().unwrap();
    world.gone.push((id, 3));
    assert_eq!(world.post(), NONE);
    world.gone.push((id, 7));
    assert_eq!(world.post(), ["gone/CVE-2024-0009/7"]);
    assert_eq!(world.post(), NONE);
    world.record("CVE-2024-0009", Band::Track, Applicability::Affected);
    world.gone.push((id, 9));
    assert_eq!(world.post(), NONE);
}

#[test]
fn the_first_run_tells_nothing_and_the_second_only_what_is_new() {
    let mut world = World::new();
    world.record("CVE-2024-0001", Band::Act, Applicability::Affected);
    let id = world.record("CVE-2024-0002", Band::Act, Applicability::Affected);
    world.records[1].state = State::Rejected;
    world.kernels[0]
        .verdicts
        .insert(id, Applicability::NotAffected(Reason::Rejected));
    assert_eq!(world.post(), NONE);
    assert_eq!(world.post(), NONE);
    world.record("CVE-2024-0003", Band::Act, Applicability::Affected);
    assert_eq!(world.post(), ["urgent/CVE-2024-0003/6.1.0-47-cloud-amd64"]);
    assert_eq!(world.post(), NONE);
}

#[test]
fn only_open_or_unknown_cves_of_band_act_are_urgent() {
    let mut world = World::watched();
    let unknown = Applicability::Unknown(Gap::FileAbsent);
    let clear = Applicability::NotAffected(Reason::NotBuilt);
    world.record("CVE-2024-0001", Band::Act, clear);
    world.record("CVE-2024-0002", Band::Attend, Applicability::Affected);
    world.record("CVE-2024-0003", Band::Act, unknown);
    let unjudged = world.record("CVE-2024-0004", Band::Act, unknown);
    world.kernels[0].verdicts.remove(&unjudged);
    assert_eq!(
        world.post(),
        [
            "urgent/CVE-2024-0003/6.1.0-47-cloud-amd64",
            "urgent/CVE-2024-0004/6.1.0-47-cloud-amd64"
        ]
    );
}

#[test]
fn an_old_cve_that_rises_is_told_and_once_more_when_it_is_exploited() {
    let mut world = World::new();
    let id = world.record("CVE-2024-0001", Band::Attend, Applicability::Affected);
    world.post();
    world.band(id, Band::Act);
    assert_eq!(world.post(), ["urgent/CVE-2024-0001/6.1.0-47-cloud-amd64"]);
    let signals = world.signals.entry(id).or_default();
    signals.exploits.push(Exploit {
        name: "x".to_owned(),
        requirements: Vec::new(),
    });
    assert_eq!(
        world.post(),
        ["urgent/CVE-2024-0001/6.1.0-47-cloud-amd64/exploit-public"]
    );
    world.signals.entry(id).or_default().kev = Some(Kev {
        added: world.now,
        product: "Android".to_owned(),
        ransomware: false,
    });
    let derived = world.derive();
    assert!(
        derived[0]
            .notice
            .subject
            .starts_with("exploited: CVE-2024-0001 in 6.1.0-47"),
        "{derived:?}"
    );
    assert_eq!(
        world.post(),
        ["urgent/CVE-2024-0001/6.1.0-47-cloud-amd64/exploited"]
    );
    assert_eq!(world.post(), NONE);
}

#[test]
fn a_decision_silences_until_it_expires() {
    let mut world = World::watched();
    let id = world.record("CVE-2024-0001", Band::Act, Applicability::Affected);
    world.decide(id, Choice::Defer, Some(2000));
    assert_eq!(world.post(), NONE);
    world.now = UtcSeconds::from_unix(2000);
    assert_eq!(
        world.post(),
        ["urgent/CVE-2024-0001/6.1.0-47-cloud-amd64/after/2000"]
    );
    assert_eq!(world.post(), NONE);
    world.decide(id, Choice::Ignore, None);
    world.known.clear();
    world.post();
    assert_eq!(world.post(), NONE);
}

#[test]
fn no_decision_silences_that_attacks_became_known() {
    let mut world = World::watched();
    let id = world.record("CVE-2024-0001", Band::Act, Applicability::Affected);
    world.decide(id, Choice::Ignore, None);
    assert_eq!(world.post(), NONE);
    world.signals.entry(id).or_default().kev = Some(Kev {
        added: world.now,
        product: "Linux Kernel".to_owned(),
        ransomware: false,
    });
    assert_eq!(
        world.post(),
        ["urgent/CVE-2024-0001/6.1.0-47-cloud-amd64/exploited"]
    );
    assert_eq!(world.post(), NONE);
}

#[test]
fn a_told_cve_is_told_again_when_its_deferral_ends() {
    let mut world = World::watched();
    let id = world.record("CVE-2024-0001", Band::Act, Applicability::Affected);
    assert_eq!(world.post().len(), 1);
    world.decide(id, Choice::Defer, Some(2000));
    assert_eq!(world.post(), NONE);
    world.now = UtcSeconds::from_unix(2001);
    assert_eq!(world.post().len(), 1);
}

#[test]
fn a_decision_for_one_kernel_leaves_the_other_loud() {
    let mut world = World::watched();
    world.kernels.push(Watched {
        release: "6.1.0-50-amd64".parse().unwrap(),
        verdicts: BTreeMap::new(),
    });
    world.post();
    let id = world.record("CVE-2024-0001", Band::Act, Applicability::Affected);
    world.decide(id, Choice::Ignore, None);
    assert_eq!(world.post(), ["urgent/CVE-2024-0001/6.1.0-50-amd64"]);
}

#[test]
fn a_new_kernel_starts_with_a_baseline_of_its_own() {
    let mut world = World::watched();
    world.record("CVE-2024-0001", Band::Act, Applicability::Affected);
    assert_eq!(world.post().len(), 1);
    let mut other = world.kernels[0].clone();
    other.release = "6.1.0-50-amd64".parse().unwrap();
    world.kernels.push(other);
    assert_eq!(world.post(), NONE);
    world.record("CVE-2024-0002", Band::Act, Applicability::Affected);
    assert_eq!(world.post().len(), 2);
}

#[test]
fn a_record_can_go_and_come_back_more_than_once() {
    let mut world = World::new();
    world.record("CVE-2024-0001", Band::Track, Applicability::Affected);
    world.post();
    let mut keys = Vec::new();
    for state in [
        State::Rejected,
        State::Rejected,
        State::Published,
        State::Rejected,
        State::Published,
    ] {
        world.records[0].state = state;
        keys.extend(world.post());
    }
    assert_eq!(
        keys,
        [
            "rejected/CVE-2024-0001/1",
            "reinstated/CVE-2024-0001/1",
            "rejected/CVE-2024-0001/2",
            "reinstated/CVE-2024-0001/2"
        ]
    );
}

#[test]
fn a_record_that_was_withdrawn_before_can_come_back() {
    let mut world = World::new();
    world.record("CVE-2024-0001", Band::Track, Applicability::Affected);
    world.records[0].state = State::Rejected;
    world.post();
    world.records[0].state = State::Published;
    assert_eq!(world.post(), ["reinstated/CVE-2024-0001/1"]);
}

#[test]
fn a_follow_up_is_told_with_its_proof_unless_it_is_ignored() {
    let mut world = World::watched();
    let earlier = world.record("CVE-2024-0001", Band::Attend, Applicability::Affected);
    let later = world.record("CVE-2025-0001", Band::Track, Applicability::Affected);
    world.follow_ups = vec![FollowUp {
        earlier,
        later,
        turn: Turn::Reverted,
        proofs: vec![Proof::Title("net: foo: fix use after free".to_owned())],
    }];
    let derived = world.derive();
    assert_eq!(derived[0].band, Some(Band::Attend));
    assert_eq!(
        derived[0].notice.body,
        "The fix of   CVE-2024-0001: net: foo: fix use after free\n\
         is reverted by CVE-2025-0001: net: foo: fix use after free\n\
         which takes it back: the bug is open again from there on.\n\
         \n\
         because\n  its title reverts \"net: foo: fix use after free\"\n\
         kernels\n  6.1.0-47-cloud-amd64: CVE-2025-0001 affected\n\
         \n\
         tuxtape cve show CVE-2025-0001\n"
    );
    world.decide(later, Choice::Ignore, None);
    world.decisions[0].kernel = None;
    assert_eq!(world.post(), NONE);
    world.decisions.clear();
    assert_eq!(world.post(), ["fix-reverted/CVE-2024-0001/CVE-2025-0001"]);
}

#[test]
fn a_fix_that_brings_a_bug_brings_it_into_levels_too() {
    let mut world = World::watched();
    let clear = Applicability::NotAffected(Reason::OutsideSpan);
    let earlier = world.record("CVE-2024-0001", Band::Track, clear);
    let later = world.record("CVE-2025-0001", Band::Track, clear);
    let bug = crate::span::Landing {
        version: "6.1.20".parse().unwrap(),
        commit: "1".repeat(40).parse().unwrap(),
    };
    world.follow_ups = vec![FollowUp {
        earlier,
        later,
        turn: Turn::Corrected,
        proofs: vec![Proof::Introduced(bug)],
    }];
    let body = &world.derive()[0].notice.body;
    for line in [
        "  its bug came with 111111111111 in 6.1.20, a fix of CVE-2024-0001",
        "  6.1.0-47-cloud-amd64: CVE-2025-0001 not-affected (outside-span)",
        "A level that carries the fix of CVE-2024-0001 brings this bug along, whatever is said above.",
    ] {
        assert!(body.lines().any(|found| found == line), "{body}");
    }
}

#[test]
fn feed_text_cannot_break_out_of_a_subject() {
    let mut world = World::watched();
    world.record("CVE-2024-0001", Band::Act, Applicability::Affected);
    world.records[0].title = "x\r\nBcc: evil@example.org\u{1b}[2J".to_owned();
    let notice = &world.derive()[0].notice;
    assert_eq!(
        notice.subject,
        "act: CVE-2024-0001 in 6.1.0-47-cloud-amd64: x Bcc: evil@example.org [2J"
    );
    assert!(!notice.body.contains(['\r', '\u{1b}']));
}
