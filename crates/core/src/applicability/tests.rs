use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::dyad;
use crate::identity::{Arch, BuildId, ObjectName};
use crate::profile::taken::{TakenIn, TakenInVersion};
use crate::profile::{ConfigFacts, ProfileId, ProfileOrigin, Sureness, Way};

fn objects(names: &[&str]) -> BTreeSet<ObjectName> {
    names
        .iter()
        .map(|name| ObjectName((*name).to_owned()))
        .collect()
}

fn profile(base: &str) -> KernelProfile {
    let files = |entries: &[(&str, &[&str])]| -> BTreeMap<String, BTreeSet<ObjectName>> {
        entries
            .iter()
            .map(|(file, names)| ((*file).to_owned(), objects(names)))
            .collect()
    };
    KernelProfile {
        id: ProfileId {
            arch: Arch::X86_64,
            release: "6.1.0-47-cloud-amd64".parse().unwrap(),
            build_id: Some(BuildId::from_bytes(&[1; 20]).unwrap()),
        },
        base_version: base.to_owned(),
        origin: ProfileOrigin {
            spec: "test".to_owned(),
            source: "test".to_owned(),
        },
        git: None,
        readable: None,
        taken_in: None,
        compiler: "gcc".to_owned(),
        config: ConfigFacts::default(),
        units: files(&[
            ("net/core/dev.c", &["vmlinux"]),
            ("kernel/sched/build_policy.c", &["vmlinux"]),
            ("drivers/scsi/sd.c", &["sd_mod"]),
        ]),
        contributors: files(&[
            ("kernel/sched/rt.c", &["vmlinux"]),
            ("include/net/sock.h", &["vmlinux", "sctp"]),
        ]),
        tree_files: [
            "arch/arm64/kernel/setup.c",
            "arch/arm64/include/asm/page.h",
            "arch/arm/boot/dts/imx.dts",
            "arch/x86/boot/compressed/misc.c",
            "arch/x86/kernel/head_64.S",
            "drivers/net/foo/Makefile",
            "drivers/net/foo/foo.c",
            "drivers/net/foo/foo.h",
            "drivers/scsi/sd.c",
            "drivers/tty/vt/conmakehash.c",
            "include/net/sock.h",
            "kernel/bpf/preload/iterators/iterators.bpf.c",
            "kernel/sched/build_policy.c",
            "kernel/sched/rt.c",
            "lib/gen_crc32table.c",
            "net/core/dev.c",
            "rust/kernel/lib.rs",
            "tools/objtool/check.c",
            "tools/perf/perf.c",
        ]
        .map(str::to_owned)
        .into(),
        functions: 3,
        sureness: Sureness {
            way: Way::DebugData,
            all_headers: false,
            blind: BTreeMap::new(),
        },
    }
}

fn cve(files: &[&str], spans: &[&str]) -> Cve {
    const COMMIT: &str = "1111111111111111111111111111111111111111";
    let side = |text: &str| match text {
        "" => "0:0".to_owned(),
        version => format!("{version}:{COMMIT}"),
    };
    let lines: Vec<String> = spans
        .iter()
        .map(|span| span.split_once("..").unwrap())
        .map(|(bug, fix)| format!("{}:{}", side(bug), side(fix)))
        .collect();
    Cve {
        id: "CVE-2024-0001".parse().unwrap(),
        state: State::Published,
        title: String::new(),
        description: String::new(),
        files: files.iter().map(|file| (*file).to_owned()).collect(),
        cvss: None,
        references: Vec::new(),
        mainline_fixes: Vec::new(),
        spans: dyad::parse(lines.join("\n").as_bytes()).unwrap(),
        doubts: Vec::new(),
        disputes: Vec::new(),
        rejection: None,
    }
}

fn horizons() -> Horizons {
    let mut horizons = Horizons::default();
    horizons.learn(&cve(&[], &["6.1.168..6.19"]).spans);
    horizons
}

fn judge(base: &str, cve: &Cve, freshness: Freshness<'_>) -> Judgement {
    Bench::new(&profile(base), &horizons())
        .unwrap()
        .judge(cve, freshness)
}

const IN_SPAN: &[&str] = &["5.10..6.3"];

/// Judges a record with `files` whose span holds, on a kernel within the horizon.
fn check(files: &[&str], expected: Applicability) {
    let judgement = judge("6.1.160", &cve(files, IN_SPAN), Freshness::Current);
    assert_eq!(judgement.verdict, expected, "{files:?}: {judgement:?}");
}

use Applicability::{Affected, NotAffected, Unknown};

#[test]
fn a_compiled_file_is_affected_with_its_objects() {
    check(&["drivers/scsi/sd.c"], Affected);
    let judgement = judge(
        "6.1.160",
        &cve(&["drivers/scsi/sd.c", "net/core/dev.c"], IN_SPAN),
        Freshness::Current,
    );
    let steps: Vec<&str> = judgement
        .evidence
        .iter()
        .map(|evidence| evidence.step.as_str())
        .collect();
    assert_eq!(
        steps,
        [
            "record", "horizon", "span", "carried", "built", "object", "function"
        ]
    );
    assert_eq!(judgement.evidence[5].found, "sd_mod, vmlinux");
    let span = &judgement.evidence[2].found;
    assert_eq!(
        span,
        "6.1.160 has the bug, since 5.10; no fix known on its branch"
    );
}

#[test]
fn an_included_source_is_built_through_its_unit() {
    check(&["kernel/sched/rt.c"], Affected);
    check(&["include/net/sock.h"], Affected);
}

#[test]
fn one_compiled_file_is_enough() {
    check(
        &["drivers/net/foo/foo.c", "fs/moved.c", "net/core/dev.c"],
        Affected,
    );
}

#[test]
fn known_files_none_of_them_compiled_are_not_built() {
    check(&["drivers/net/foo/foo.c"], NotAffected(Reason::NotBuilt));
    check(
        &["drivers/net/foo/foo.c", "arch/arm64/kernel/setup.c"],
        NotAffected(Reason::NotBuilt),
    );
    check(&["tools/perf/perf.c"], NotAffected(Reason::NotBuilt));
}

#[test]
fn another_architecture_is_not_built_headers_and_device_trees_too() {
    check(
        &["arch/arm64/kernel/setup.c"],
        NotAffected(Reason::NotBuilt),
    );
    check(
        &["arch/arm64/include/asm/page.h"],
        NotAffected(Reason::NotBuilt),
    );
    check(
        &["arch/arm/boot/dts/imx.dts"],
        NotAffected(Reason::NotBuilt),
    );
}

#[test]
fn an_absent_file_is_unknown_also_beside_files_not_built() {
    check(&["fs/smb/client/smb2ops.c"], Unknown(Gap::FileAbsent));
    check(
        &["drivers/net/foo/foo.c", "fs/smb/client/smb2ops.c"],
        Unknown(Gap::FileAbsent),
    );
    check(&["arch/loongarch/kernel/setup.c"], Unknown(Gap::FileAbsent));
    // An absent file is named before a header.
    check(
        &["drivers/net/foo/foo.h", "fs/smb/client/smb2ops.c"],
        Unknown(Gap::FileAbsent),
    );
}

#[test]
fn a_header_that_left_no_code_is_unknown() {
    check(&["drivers/net/foo/foo.h"], Unknown(Gap::HeaderGraph));
    check(
        &["drivers/net/foo/foo.c", "drivers/net/foo/foo.h"],
        Unknown(Gap::HeaderGraph),
    );
}

#[test]
fn what_a_profile_cannot_see_is_unknown() {
    for file in [
        "arch/x86/boot/compressed/misc.c",
        "arch/x86/kernel/head_64.S",
        "drivers/net/foo/Makefile",
        "drivers/tty/vt/conmakehash.c",
        "kernel/bpf/preload/iterators/iterators.bpf.c",
        "lib/gen_crc32table.c",
        "rust/kernel/lib.rs",
        "tools/objtool/check.c",
    ] {
        check(&[file], Unknown(Gap::NoProfile));
    }
    check(
        &["drivers/net/foo/foo.c", "drivers/net/foo/Makefile"],
        Unknown(Gap::NoProfile),
    );
    check(&[], Unknown(Gap::NoProfile));
}

/// Judges one file on a kernel whose profile was changed.
fn check_on(change: impl Fn(&mut KernelProfile), file: &str, expected: Applicability) {
    let mut profile = profile("6.1.160");
    change(&mut profile);
    let horizons = horizons();
    let judgement = Bench::new(&profile, &horizons)
        .unwrap()
        .judge(&cve(&[file], IN_SPAN), Freshness::Current);
    assert_eq!(judgement.verdict, expected, "{file}: {judgement:?}");
}

#[test]
fn a_header_that_no_unit_read_is_not_built_where_all_headers_are_known() {
    let all = |profile: &mut KernelProfile| profile.sureness.all_headers = true;
    check_on(all, "drivers/net/foo/foo.h", NotAffected(Reason::NotBuilt));
    check_on(all, "include/net/sock.h", Affected);
}

#[test]
fn a_finished_build_shows_boot_code_and_assembly_too() {
    let seen = |profile: &mut KernelProfile| profile.sureness.way = Way::CommandFiles;
    for file in [
        "arch/x86/boot/compressed/misc.c",
        "arch/x86/kernel/head_64.S",
    ] {
        check_on(seen, file, NotAffected(Reason::NotBuilt));
    }
    check_on(seen, "drivers/net/foo/Makefile", Unknown(Gap::NoProfile));
    let evaluated = |profile: &mut KernelProfile| profile.sureness.way = Way::Evaluation;
    check_on(
        evaluated,
        "arch/x86/boot/compressed/misc.c",
        Unknown(Gap::NoProfile),
    );
}

#[test]
fn what_the_profile_says_it_cannot_see_is_unknown_with_its_reason() {
    for name in ["drivers/net/", "drivers/net/foo/foo.c"] {
        let blind = |profile: &mut KernelProfile| {
            profile
                .sureness
                .blind
                .insert(name.to_owned(), "Makefile line 3: $(shell)".to_owned());
        };
        check_on(blind, "drivers/net/foo/foo.c", Unknown(Gap::NoProfile));
        // What was seen stays seen.
        check_on(blind, "net/core/dev.c", Affected);
    }
    // A folder's name is not the beginning of another's.
    let blind = |profile: &mut KernelProfile| {
        let entry = ("drivers/ne".to_owned(), String::new());
        profile.sureness.blind.extend([entry]);
    };
    check_on(
        blind,
        "drivers/net/foo/foo.c",
        NotAffected(Reason::NotBuilt),
    );
}

#[test]
fn a_moved_file_is_judged_at_the_place_it_has_in_this_tree() {
    let with = |built: bool| {
        move |profile: &mut KernelProfile| {
            profile.tree_files.insert("fs/cifs/smb2ops.c".to_owned());
            if built {
                let entry = ("fs/cifs/smb2ops.c".to_owned(), objects(&["cifs"]));
                profile.units.extend([entry]);
            }
        }
    };
    check_on(with(true), "fs/smb/client/smb2ops.c", Affected);
    check_on(
        with(false),
        "fs/smb/client/smb2ops.c",
        NotAffected(Reason::NotBuilt),
    );
    check_on(
        with(true),
        "fs/smb/client/other.c",
        Unknown(Gap::FileAbsent),
    );
}

#[test]
fn a_profile_without_tree_or_units_rules_nothing_out() {
    let record = cve(&["drivers/net/foo/foo.c"], IN_SPAN);
    let without_tree = KernelProfile {
        tree_files: BTreeSet::new(),
        ..profile("6.1.160")
    };
    let without_units = KernelProfile {
        units: BTreeMap::new(),
        contributors: BTreeMap::new(),
        ..profile("6.1.160")
    };
    for (profile, gap) in [
        (without_tree, Gap::NoSource),
        (without_units, Gap::NoProfile),
    ] {
        let horizons = horizons();
        let bench = Bench::new(&profile, &horizons).unwrap();
        assert_eq!(
            bench.judge(&record, Freshness::Current).verdict,
            Unknown(gap)
        );
    }
}

#[test]
fn outside_the_span_is_not_affected_within_the_horizon() {
    let record = cve(&["net/core/dev.c"], &["6.5..6.6"]);
    let verdict = judge("6.1.160", &record, Freshness::Current).verdict;
    assert_eq!(verdict, NotAffected(Reason::OutsideSpan));
    let record = cve(&["net/core/dev.c"], &["5.10..6.1.20", "5.10..6.3"]);
    let verdict = judge("6.1.160", &record, Freshness::Current).verdict;
    assert_eq!(verdict, NotAffected(Reason::OutsideSpan));
}

#[test]
fn beyond_the_horizon_a_span_alone_decides_nothing() {
    let beyond = |files: &[&str], spans: &[&str]| {
        judge("6.1.170", &cve(files, spans), Freshness::Current).verdict
    };
    assert_eq!(
        beyond(&["net/core/dev.c"], IN_SPAN),
        Unknown(Gap::BeyondHorizon)
    );
    assert_eq!(
        beyond(&["drivers/net/foo/foo.c"], IN_SPAN),
        NotAffected(Reason::NotBuilt)
    );
    assert_eq!(
        beyond(&["net/core/dev.c"], &["6.5..6.6"]),
        NotAffected(Reason::OutsideSpan)
    );
    // The bug was backported into 6.6: it may have come to 6.1 unseen.
    assert_eq!(
        beyond(&["net/core/dev.c"], &["6.6.51..6.6.90", "6.11..6.13"]),
        Unknown(Gap::BeyondHorizon)
    );
    assert_eq!(
        beyond(
            &["drivers/net/foo/foo.c"],
            &["6.6.51..6.6.90", "6.11..6.13"]
        ),
        NotAffected(Reason::NotBuilt)
    );
}

#[test]
fn a_rejected_record_affects_nothing() {
    let record = Cve {
        state: State::Rejected,
        ..cve(&["net/core/dev.c"], IN_SPAN)
    };
    assert_eq!(
        judge("6.1.160", &record, Freshness::Current).verdict,
        NotAffected(Reason::Rejected)
    );
}

#[test]
fn a_record_that_contradicts_itself_decides_nothing() {
    for spans in [IN_SPAN, &["6.5..6.6"]] {
        let record = Cve {
            doubts: vec!["commits differ".to_owned()],
            ..cve(&["drivers/net/foo/foo.c"], spans)
        };
        let verdict = judge("6.1.160", &record, Freshness::Current).verdict;
        assert_eq!(verdict, Unknown(Gap::InconsistentSpan));
    }
}

#[test]
fn two_readings_that_differ_here_decide_nothing_here() {
    let disputed = |at: &str| Cve {
        disputes: vec![at.parse().unwrap()],
        ..cve(&["drivers/net/foo/foo.c"], IN_SPAN)
    };
    let verdict = |record: &Cve| judge("6.1.160", record, Freshness::Current).verdict;
    assert_eq!(
        verdict(&disputed("6.1.100")),
        Unknown(Gap::InconsistentSpan)
    );
    assert_eq!(verdict(&disputed("6.6.100")), NotAffected(Reason::NotBuilt));
}

#[test]
fn a_no_from_a_replaced_edition_is_not_certain() {
    let stale = |record: &Cve| judge("6.1.160", record, Freshness::Stale(".json: cut")).verdict;
    assert_eq!(stale(&cve(&["net/core/dev.c"], IN_SPAN)), Affected);
    for no in [
        cve(&["net/core/dev.c"], &["6.5..6.6"]),
        cve(&["drivers/net/foo/foo.c"], IN_SPAN),
        Cve {
            state: State::Rejected,
            ..cve(&[], IN_SPAN)
        },
    ] {
        assert_eq!(stale(&no), Unknown(Gap::InconsistentSpan));
    }
    let judgement = unreadable(
        "CVE-2024-0009".parse().unwrap(),
        ".dyad: line 3: 3 fields instead of 4",
    );
    assert_eq!(judgement.verdict, Unknown(Gap::InconsistentSpan));
}

#[test]
fn what_the_spans_rule_out_is_judged_so_and_nothing_else_is() {
    let horizons = horizons();
    for base in ["5.4.1", "6.1.160", "6.1.168", "6.1.999", "6.19.1", "7.5"] {
        let profile = profile(base);
        let bench = Bench::new(&profile, &horizons).unwrap();
        for spans in [
            &["5.10..6.3"][..],
            &["6.1.168..6.19"],
            &["..6.1.168"],
            &["5.15.3..6.1.100", "5.15.3..6.3"],
        ] {
            for disputes in [vec![], vec!["6.1.160".parse().unwrap()]] {
                let mut cve = cve(&["drivers/scsi/sd.c"], spans);
                cve.disputes = disputes;
                let verdict = bench.judge(&cve, Freshness::Current).verdict;
                let ruled_out = bench.rules_out(&cve.spans, &cve.disputes);
                let expected = match verdict {
                    NotAffected(reason) => Some(reason),
                    Affected | Unknown(_) => None,
                };
                assert_eq!(ruled_out, expected, "{base} {spans:?}: {verdict:?}");
            }
        }
    }
}

fn seen() -> content::Seen {
    content::Seen {
        origin: "commit 1".to_owned(),
        ..content::Seen::default()
    }
}

fn with(base: &str, record: &Cve, freshness: Freshness<'_>, content: &Content) -> Judgement {
    Bench::new(&profile(base), &horizons())
        .unwrap()
        .judge_with(record, freshness, Some(content))
}

fn carried(carried: Carried) -> Content {
    Content {
        carried,
        ..Content::default()
    }
}

/// Judges each answer of the source in turn: yes, no, partial, nobody looked.
fn check_carried(base: &str, files: &[&str], spans: &[&str], expected: [Applicability; 4]) {
    let answers = [
        Carried::Yes(seen()),
        Carried::No(seen()),
        Carried::Partial(seen()),
        Carried::default(),
    ];
    for (answer, expected) in answers.into_iter().zip(expected) {
        let content = carried(answer);
        let judgement = with(base, &cve(files, spans), Freshness::Current, &content);
        assert_eq!(judgement.verdict, expected, "{content:?}: {judgement:?}");
    }
}

#[test]
fn within_the_horizon_a_span_holds_until_the_source_has_the_fix() {
    check_carried(
        "6.1.160",
        &["net/core/dev.c"],
        IN_SPAN,
        [
            NotAffected(Reason::Carries),
            Affected,
            Unknown(Gap::PartialFix),
            Affected,
        ],
    );
}

#[test]
fn beyond_the_horizon_the_source_decides() {
    check_carried(
        "6.1.170",
        &["net/core/dev.c"],
        IN_SPAN,
        [
            NotAffected(Reason::Carries),
            Affected,
            Unknown(Gap::PartialFix),
            Unknown(Gap::BeyondHorizon),
        ],
    );
    // The bug may have been backported here unseen; that its fix is missing does not say so.
    check_carried(
        "6.1.170",
        &["net/core/dev.c"],
        &["6.6.51..6.6.90", "6.11..6.13"],
        [
            NotAffected(Reason::Carries),
            Unknown(Gap::PartialFix),
            Unknown(Gap::PartialFix),
            Unknown(Gap::BeyondHorizon),
        ],
    );
}

#[test]
fn outside_the_span_what_the_fix_replaces_raises_a_doubt_and_is_always_told() {
    check_carried(
        "6.1.160",
        &["net/core/dev.c"],
        &["6.5..6.6"],
        [
            NotAffected(Reason::OutsideSpan),
            Unknown(Gap::PartialFix),
            NotAffected(Reason::OutsideSpan),
            NotAffected(Reason::OutsideSpan),
        ],
    );
    let record = cve(&["net/core/dev.c"], &["6.5..6.6"]);
    let content = carried(Carried::Yes(seen()));
    let judgement = with("6.1.160", &record, Freshness::Current, &content);
    assert!(
        judgement
            .evidence
            .iter()
            .any(|found| found.step == Step::Carried)
    );
}

#[test]
fn a_file_not_built_is_a_certain_no_beside_a_doubt() {
    check_carried(
        "6.1.160",
        &["drivers/net/foo/foo.c"],
        IN_SPAN,
        [
            NotAffected(Reason::Carries),
            NotAffected(Reason::NotBuilt),
            NotAffected(Reason::NotBuilt),
            NotAffected(Reason::NotBuilt),
        ],
    );
}

#[test]
fn a_fix_seen_by_a_replaced_edition_is_not_certain() {
    let record = cve(&["net/core/dev.c"], IN_SPAN);
    let content = carried(Carried::Yes(seen()));
    let judgement = with("6.1.160", &record, Freshness::Stale(".json: cut"), &content);
    assert_eq!(judgement.verdict, Unknown(Gap::InconsistentSpan));
}

#[test]
fn a_fix_that_the_distribution_says_it_took_in_is_a_doubt_and_no_proof() {
    let record = cve(&["net/core/dev.c"], IN_SPAN);
    let entries = TakenInVersion {
        version: "6.1.160-2".to_owned(),
        cves: [record.id].into(),
        titles: BTreeSet::new(),
    };
    let judge = |record: &Cve, base: &str, content: Option<&Content>| {
        let profile = KernelProfile {
            taken_in: Some(TakenIn {
                versions: vec![entries.clone()],
                reverted: BTreeSet::new(),
            }),
            ..profile(base)
        };
        let horizons = horizons();
        let bench = Bench::new(&profile, &horizons).unwrap();
        bench.judge_with(record, Freshness::Current, content)
    };
    let is_told = |judgement: &Judgement| {
        let mut steps = judgement.evidence.iter();
        steps.any(|it| it.step == Step::Carried && it.found.contains("changelog of 6.1.160-2"))
    };
    // Without a look at the source, too.
    let judgement = judge(&record, "6.1.160", None);
    assert_eq!(judgement.verdict, Unknown(Gap::NoFixDiff));
    assert!(is_told(&judgement), "{judgement:?}");
    for (found, base, expected) in [
        (Carried::default(), "6.1.160", Unknown(Gap::NoFixDiff)),
        // The source is asked first.
        (Carried::No(seen()), "6.1.160", Affected),
        (
            Carried::Yes(seen()),
            "6.1.160",
            NotAffected(Reason::Carries),
        ),
        (
            Carried::Partial(seen()),
            "6.1.160",
            Unknown(Gap::PartialFix),
        ),
        (Carried::default(), "6.1.170", Unknown(Gap::BeyondHorizon)),
    ] {
        let judgement = judge(&record, base, Some(&carried(found)));
        assert_eq!(judgement.verdict, expected, "{judgement:?}");
        assert!(is_told(&judgement), "{judgement:?}");
    }
    // What certainly is not there stays so, and another CVE is what it was.
    let outside = cve(&["net/core/dev.c"], &["6.5..6.6"]);
    let judgement = judge(&outside, "6.1.160", None);
    assert_eq!(judgement.verdict, NotAffected(Reason::OutsideSpan));
    assert!(!is_told(&judgement), "{judgement:?}");
    let unbuilt = cve(&["drivers/net/foo/foo.c"], IN_SPAN);
    let judgement = judge(&unbuilt, "6.1.160", None);
    assert_eq!(judgement.verdict, NotAffected(Reason::NotBuilt));
    let other = Cve {
        id: "CVE-2026-9999".parse().unwrap(),
        ..record
    };
    assert_eq!(judge(&other, "6.1.160", None).verdict, Affected);
}

#[test]
fn functions_without_code_are_a_doubt_and_no_proof() {
    let functions = |functions| Content {
        functions,
        ..carried(Carried::No(seen()))
    };
    let absent = Functions::Absent {
        functions: vec!["f() of net/core/dev.c:3".to_owned()],
    };
    let why = || "for a reason".to_owned();
    for (found, expected) in [
        (absent.clone(), Unknown(Gap::NoSymbols)),
        (Functions::Present { functions: vec![] }, Affected),
        (Functions::Unclear { why: why() }, Affected),
        (Functions::Skipped { why: why() }, Affected),
        (
            Functions::NotLooked {
                gap: Gap::NoSymbols,
                why: why(),
            },
            Affected,
        ),
    ] {
        let record = cve(&["net/core/dev.c"], IN_SPAN);
        let judgement = with("6.1.160", &record, Freshness::Current, &functions(found));
        assert_eq!(judgement.verdict, expected, "{judgement:?}");
    }
    // Also where the source left a doubt.
    let content = Content {
        functions: absent,
        ..carried(Carried::Partial(seen()))
    };
    let record = cve(&["net/core/dev.c"], IN_SPAN);
    let judgement = with("6.1.160", &record, Freshness::Current, &content);
    assert_eq!(judgement.verdict, Unknown(Gap::PartialFix));
}

#[test]
fn a_moved_file_is_followed_where_the_tree_lacks_the_old_path() {
    let record = cve(&["fs/moved.c"], IN_SPAN);
    for (to, expected) in [
        ("net/core/dev.c", Affected),
        ("drivers/net/foo/foo.c", NotAffected(Reason::NotBuilt)),
    ] {
        let content = Content {
            moved: [("fs/moved.c".to_owned(), to.to_owned())].into(),
            ..carried(Carried::No(seen()))
        };
        let judgement = with("6.1.160", &record, Freshness::Current, &content);
        assert_eq!(judgement.verdict, expected);
    }
}

#[test]
fn what_nodes_have_loaded_never_changes_a_verdict() {
    let record = cve(&["net/core/dev.c"], IN_SPAN);
    let content = Content {
        loaded: Some("blocked on all nodes".to_owned()),
        ..Content::default()
    };
    let judgement = with("6.1.160", &record, Freshness::Current, &content);
    assert_eq!(judgement.verdict, Affected);
    let last = judgement.evidence.last().unwrap();
    assert_eq!(
        (last.step, last.found.as_str()),
        (Step::Loaded, "blocked on all nodes")
    );
}

#[test]
fn a_header_that_no_compiled_file_could_read_is_not_built() {
    let readable = |files: &[&str]| Some(files.iter().map(|file| (*file).to_owned()).collect());
    let foo = "drivers/net/foo/foo.h";
    let unknown = Unknown(Gap::HeaderGraph);
    check_on(|it| it.readable = None, foo, unknown);
    check_on(|it| it.readable = readable(&[foo]), foo, unknown);
    check_on(
        |it| it.readable = readable(&[]),
        foo,
        NotAffected(Reason::NotBuilt),
    );
    // Shared headers are read by what the build generates.
    let shared = "include/net/other.h";
    let known = |it: &mut KernelProfile| {
        it.readable = readable(&[]);
        it.tree_files.insert(shared.to_owned());
    };
    check_on(known, shared, unknown);
}

mod histories {
    use super::*;
    use crate::applicability::content::Seen;
    use crate::applicability::lineage::HistoryAtHand;
    use crate::history::sample::{Sample, history, id};
    use crate::span::Landing;

    /// A record of `net/core/dev.c` whose bug is commit 10 of 5.10, fixed by 20 in 6.1.50 and by 30 in 6.3.
    fn record() -> Cve {
        let landing = |number, version: &str| {
            let commit = id(number);
            Some(Landing {
                version: version.parse().unwrap(),
                commit,
            })
        };
        let mut cve = cve(&["net/core/dev.c"], &["5.10..6.1.50"]);
        cve.spans = vec![
            Span {
                introduced: landing(10, "5.10"),
                fixed: landing(20, "6.1.50"),
            },
            Span {
                introduced: landing(10, "5.10"),
                fixed: landing(30, "6.3"),
            },
        ];
        cve
    }

    const BUG: Sample<'_> = (10, &[], 10, "bug");
    const BACKPORT: Sample<'_> = (40, &[10], 40, "fix\n\n[ Upstream commit #30 ]\n");
    const REVERT: Sample<'_> = (
        41,
        &[40],
        10,
        "Revert \"fix\"\n\nThis reverts commit #40.\n",
    );

    fn check(base: &str, commits: &[Sample<'_>], carried: Option<&Carried>, expected: &str) {
        let history = history(commits, false);
        let profile = profile(base);
        let horizons = Horizons::from_iter([(
            "6.1".parse::<KernelVersion>().unwrap().branch(),
            "6.1.170".parse().unwrap(),
        )]);
        let bench = Bench::new(&profile, &horizons)
            .unwrap()
            .with_history(HistoryAtHand::Known(&history));
        let mut content = Content::default();
        if let Some(carried) = carried {
            content.carried = carried.clone();
        }
        let cve = record();
        let found = bench.judge_with(&cve, Freshness::Current, Some(&content));
        assert_eq!(
            found.verdict.to_string(),
            expected,
            "{base} {commits:?} {carried:?}: {:#?}",
            found.evidence
        );
        // What versions rule out is not judged again, so it must be the same.
        if carried.is_none()
            && let Some(reason) = bench.rules_out(&cve.spans, &cve.disputes)
        {
            assert_eq!(found.verdict, NotAffected(reason));
        }
    }

    #[test]
    fn a_fix_in_the_history_is_carried_where_the_source_says_so_too() {
        let seen = || Seen::default();
        let commits = [BACKPORT, BUG];
        check("6.1.10", &commits, None, "unknown (no-fix-diff)");
        let carried = Carried::Yes(seen());
        let yes = Some(&carried);
        check("6.1.10", &commits, yes, "not-affected (carries)");
        let carried = Carried::Partial(seen());
        let partial = Some(&carried);
        check("6.1.10", &commits, partial, "unknown (partial-fix)");
        let seen_no = Carried::No(seen());
        let no = Some(&seen_no);
        check("6.1.10", &[BACKPORT, BUG], no, "unknown (partial-fix)");
    }

    #[test]
    fn a_fix_that_was_taken_back_leaves_the_bug() {
        let commits = [REVERT, BACKPORT, BUG];
        check("6.1.10", &commits, None, "affected");
        let seen_yes = Carried::Yes(Seen::default());
        let yes = Some(&seen_yes);
        check("6.1.10", &commits, yes, "unknown (partial-fix)");
        // Its version says that it is fixed.
        check("6.1.60", &commits, None, "unknown (partial-fix)");
        check("6.1.60", &commits, yes, "not-affected (outside-span)");
    }

    #[test]
    fn a_bug_in_the_history_is_there_whatever_the_version() {
        // A kernel of an older version that took the bug in.
        let bug: Sample<'_> = (11, &[1], 11, "bug\n\n[ Upstream commit #10 ]\n");
        let first: Sample<'_> = (1, &[], 1, "first");
        check("5.4.7", &[bug, first], None, "affected");
        check("5.4.7", &[first], None, "not-affected (outside-span)");
        check("6.1.10", &[BUG], None, "affected");
        // Its version has the fix, its history has not.
        check("6.1.60", &[BUG], None, "unknown (partial-fix)");
        let seen_no = Carried::No(Seen::default());
        let no = Some(&seen_no);
        check("6.1.60", &[BUG], no, "affected");
        let seen_yes = Carried::Yes(Seen::default());
        let yes = Some(&seen_yes);
        check("6.1.60", &[BUG], yes, "not-affected (outside-span)");
        check("6.1.10", &[BUG], yes, "not-affected (carries)");
    }

    #[test]
    fn a_history_that_is_missing_is_named_and_moves_nothing() {
        let profile = profile("6.1.10");
        let horizons = Horizons::from_iter([]);
        let bench = Bench::new(&profile, &horizons)
            .unwrap()
            .with_history(HistoryAtHand::Missing("it was fetched alone"));
        let found = bench.judge(&record(), Freshness::Current);
        let told = found
            .evidence
            .iter()
            .any(|it| it.found.contains("no-history"));
        assert!(told, "{:#?}", found.evidence);
    }
}
