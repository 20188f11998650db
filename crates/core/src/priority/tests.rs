mod properties;

use super::*;
use crate::cve::{Cvss, Score};
use crate::instant::UtcSeconds;
use crate::signals::{Exploit, Exploitation, Kev, OutsideScore, Signal, Source, Ssvc};

fn cve(id: &str, title: &str, files: &[&str]) -> Cve {
    Cve {
        id: id.parse().unwrap(),
        state: State::Published,
        title: title.to_owned(),
        description: String::new(),
        files: files.iter().map(|&file| file.to_owned()).collect(),
        cvss: None,
        references: Vec::new(),
        mainline_fixes: Vec::new(),
        spans: Vec::new(),
        doubts: Vec::new(),
        disputes: Vec::new(),
        rejection: None,
    }
}

fn rank(cve: &Cve) -> Priority {
    prioritize(cve, &Signals::default(), &Policy::builtin())
}

fn sum(priority: &Priority) -> i64 {
    priority
        .factors
        .iter()
        .map(|factor| i64::from(factor.points))
        .sum()
}

fn causes(priority: &Priority) -> Vec<(&'static str, i32, &str)> {
    priority
        .factors
        .iter()
        .map(|it| (it.term, it.points, it.cause.as_str()))
        .collect()
}

fn cvss(tenths: u8, vector: &str) -> Cvss {
    Cvss {
        vector: vector.to_owned(),
        score: Score::from_tenths(tenths).unwrap(),
        reasons: Vec::new(),
    }
}

fn kev() -> Signal {
    Signal::Kev(Kev {
        added: UtcSeconds::from_unix(1_700_000_000),
        product: "Linux Kernel".to_owned(),
        ransomware: false,
    })
}

fn ssvc(exploitation: Exploitation) -> Signal {
    Signal::Ssvc(Ssvc {
        exploitation,
        automatable: false,
        total: false,
    })
}

fn exploit() -> Signal {
    Signal::Exploit(Exploit {
        name: "CVE-2024-1000_lts".to_owned(),
        requirements: Vec::new(),
    })
}

fn score(tenths: u8, vector: &str) -> Signal {
    Signal::Score(OutsideScore {
        source: Source::Adp,
        vector: vector.to_owned(),
        score: Score::from_tenths(tenths).unwrap(),
    })
}

fn with(signals: impl IntoIterator<Item = Signal>) -> Signals {
    let mut all = Signals::default();
    for signal in signals {
        all.add(signal);
    }
    all
}

#[test]
fn each_factor_names_the_span_or_file_that_made_it() {
    let mut cve = cve(
        "CVE-2024-1000",
        "netfilter: nf_tables: fix walk",
        &["net/netfilter/nf_tables_api.c"],
    );
    cve.description = "First line.\n\nThis is a slab-use-after-free\nthere.".to_owned();
    let priority = rank(&cve);
    assert_eq!(priority.points, 100 * 100);
    assert_eq!(priority.band, Band::Act);
    assert_eq!(priority.model, Some(ThreatModel::Userns));
    assert_eq!(
        causes(&priority),
        [
            (
                "reach",
                8000,
                "userns 100: net/netfilter/nf_tables_api.c (netfilter)"
            ),
            (
                "impact",
                2000,
                "use-after-free 100: \"use-after-free\" in line 3 of the description"
            ),
        ]
    );
    assert!(priority.factors.iter().all(|factor| factor.why.is_some()));
}

#[test]
fn what_no_rule_knows_is_neutral_not_zero() {
    let strange = cve("CVE-2024-1000", "frobnicate: fix it", &["frob/nicate.c"]);
    let priority = rank(&strange);
    assert_eq!(priority.points, 40 * 80);
    let low = rank(&cve("CVE-2024-1001", "clk: fix it", &["drivers/clk/clk.c"]));
    assert!(low.points < priority.points);
    let nothing = rank(&cve("CVE-2024-1002", "", &[]));
    assert_eq!(nothing.points, priority.points);
}

#[test]
fn the_longest_path_prefix_decides_for_a_file_and_the_most_exposed_file_for_a_record() {
    let check = |files: &[&str], rule: &str| {
        let priority = rank(&cve("CVE-2024-1000", "x", files));
        let (_, _, cause) = causes(&priority)[0];
        assert!(cause.ends_with(&format!("({rule})")), "{files:?}: {cause}");
    };
    check(&["net/ipv4/tcp.c"], "inet");
    check(&["net/ipv4/netfilter/ip_tables.c"], "netfilter");
    check(&["fs/eventpoll.c"], "vfs");
    check(&["fs/adfs/super.c"], "fs-rare");
    check(&["drivers/net/tun.c"], "tun");
    check(&["drivers/clk/clk.c", "net/sched/act_api.c"], "sched");
    check(&["net/sched/act_api.c", "drivers/clk/clk.c"], "sched");
    check(&["arch/mips/kernel/setup.c"], "arch-other");
}

#[test]
fn a_title_counts_only_where_no_source_file_is_known() {
    let check = |files: &[&str], cause: &str| {
        let cve = cve("CVE-2024-1000", "Netfilter: fix it", files);
        assert_eq!(causes(&rank(&cve))[0].2, cause);
    };
    let by_title = "userns 100: \"netfilter:\" in the title (netfilter)";
    check(&["include/linux/in.h"], by_title);
    check(&["strange/file.c"], by_title);
    check(&[], by_title);
    check(
        &["drivers/clk/clk.c"],
        "container 14: drivers/clk/clk.c (drivers)",
    );
}

#[test]
fn of_several_classes_the_strongest_counts() {
    let check = |title: &str, description: &str, class: &str| {
        let mut cve = cve("CVE-2024-1000", title, &["mm/mmap.c"]);
        cve.description = description.to_owned();
        let priority = rank(&cve);
        let (_, _, cause) = causes(&priority)[1];
        assert!(cause.starts_with(class), "{title:?}: {cause}");
    };
    check("mm: fix memory leak", "", "nuisance");
    check(
        "mm: fix memory leak",
        "a race leads to a use after free",
        "use-after-free",
    );
    check("mm: fix use-after-free", "no memory leak", "use-after-free");
    check(
        "mm: fix slab-out-of-bounds",
        "Write of size 8 at addr",
        "memory-corruption",
    );
    check(
        "mm: fix slab-out-of-bounds",
        "Read of size 8 at addr",
        "out-of-bounds-read",
    );
    check("mm: fix NULL pointer dereference", "", "crash");
    check("mm: this is not a use-after-free", "", "no words");
    check("mm: fix trace and braces", "", "no words");
}

#[test]
fn a_vector_only_raises() {
    let vector = "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H";
    let mut leak = cve("CVE-2024-1000", "tcp: fix memory leak", &["net/ipv4/tcp.c"]);
    let before = rank(&leak);
    leak.cvss = Some(cvss(78, vector));
    let after = rank(&leak);
    assert_eq!(
        causes(&after)[2],
        (
            "vector",
            85 * (89 - 58),
            "scored-high 89: CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H by the record"
        )
    );
    assert_eq!(i64::from(after.points), sum(&after));
    assert!(after.points > before.points);

    let mut free = cve("CVE-2024-1000", "tcp: fix UAF", &["net/ipv4/tcp.c"]);
    let before = rank(&free);
    free.cvss = Some(cvss(55, "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:N/I:N/A:H"));
    assert_eq!(rank(&free), before);
}

#[test]
fn tear_down_paths_of_drivers_count_less_but_not_for_who_pulls_the_plug() {
    let title = "HID: fix use-after-free in foo_remove()";
    let hid = cve("CVE-2024-1000", title, &["drivers/hid/hid-foo.c"]);
    let signals = Signals::default();
    let by = |model| prioritize(&hid, &signals, &Policy::builtin().declaring([model]));
    assert_eq!(by(ThreatModel::Usb).points, 100 * 100);
    let local = by(ThreatModel::Local);
    assert_eq!(local.points, 15 * (100 - 15));
    assert_eq!(
        causes(&local)[2],
        ("path", -15 * 15, "\"remove\" in the title")
    );
    let core = rank(&cve("CVE-2024-1001", "tcp: remove it", &["net/ipv4/tcp.c"]));
    assert!(core.factors.iter().all(|factor| factor.term != "path"));
}

#[test]
fn known_exploitation_acts_whatever_else_is_known() {
    let clk = cve("CVE-2024-1000", "clk: fix it", &["drivers/clk/clk.c"]);
    let policy = Policy::builtin();
    let check = |signals: Vec<Signal>, band: Band, terms: &[&str]| {
        let priority = prioritize(&clk, &with(signals), &policy);
        let found: Vec<&str> = priority
            .factors
            .iter()
            .map(|it| it.term)
            .filter(|term| !matches!(*term, "reach" | "impact"))
            .collect();
        assert_eq!((priority.band, found.as_slice()), (band, terms));
        assert!(priority.points >= policy.threshold(band));
        assert_eq!(i64::from(priority.points), sum(&priority));
    };
    check(vec![kev()], Band::Act, &["kev"]);
    check(
        vec![ssvc(Exploitation::Active)],
        Band::Act,
        &["ssvc-active"],
    );
    check(vec![exploit()], Band::Act, &["exploit"]);
    // Nobody who is declared gets there.
    check(vec![ssvc(Exploitation::Poc)], Band::Track, &[]);
    check(vec![ssvc(Exploitation::None)], Band::Track, &[]);
    check(vec![kev(), exploit()], Band::Act, &["kev", "exploit"]);

    let reached = cve("CVE-2024-1000", "tcp: fix it", &["net/ipv4/tcp.c"]);
    let poc = prioritize(&reached, &with([ssvc(Exploitation::Poc)]), &policy);
    assert_eq!(poc.band, Band::Act);
    let quiet = policy.clone().without_evidence();
    assert_eq!(prioritize(&clk, &with([kev()]), &quiet), rank(&clk));
}

#[test]
fn a_remote_nine_wants_the_network_declared() {
    let clk = cve("CVE-2024-1000", "clk: fix it", &["drivers/clk/clk.c"]);
    let check = |tenths, vector: &str, models: &[ThreatModel], band| {
        let policy = Policy::builtin().declaring(models.iter().copied());
        let signals = with([score(tenths, vector)]);
        assert_eq!(prioritize(&clk, &signals, &policy).band, band, "{vector}");
    };
    let remote = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";
    let local = "CVSS:3.1/AV:L/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";
    check(98, remote, &[ThreatModel::Network], Band::Attend);
    check(89, remote, &[ThreatModel::Network], Band::Track);
    check(98, local, &[ThreatModel::Network], Band::Track);
    check(98, remote, &[ThreatModel::Local], Band::Track);
}

#[test]
fn a_researchers_page_attends() {
    let mut clk = cve("CVE-2024-1000", "clk: fix it", &["drivers/clk/clk.c"]);
    clk.references = vec!["https://blog.example/clk".to_owned()];
    let priority = rank(&clk);
    assert_eq!(priority.band, Band::Attend);
    assert_eq!(causes(&priority)[2].2, "https://blog.example/clk");
}

#[test]
fn a_shut_door_lowers_points_but_never_the_records_band() {
    let policy = Policy::builtin();
    let signals = Signals::default();
    let check = |cve: &Cve, doors: &Doors, points: u32, cause: &str| {
        let open = prioritize(cve, &signals, &policy);
        let here = prioritize_on(cve, &signals, &policy, doors);
        assert_eq!((here.points, here.band), (points, open.band), "{cause}");
        let last = here.factors.last().unwrap();
        assert_eq!((last.term, last.cause.as_str()), ("door", cause));
        assert_eq!(i64::from(here.points), sum(&here));
    };
    let mut doors = Doors::default();
    doors.shut(Door::IoUring, "kernel.io_uring_disabled=2");
    let ring = cve("CVE-2024-1000", "io_uring: fix UAF", &["io_uring/poll.c"]);
    check(
        &ring,
        &doors,
        5 * 100,
        "kernel.io_uring_disabled=2; local reaches it at 5 of 100 here",
    );

    // Root of a container may hold the capability without the namespace.
    let mut doors = Doors::default();
    doors.shut(Door::UserNamespaces, "user.max_user_namespaces=0");
    let table = cve(
        "CVE-2024-1000",
        "x: fix UAF",
        &["net/netfilter/nf_tables_api.c"],
    );
    check(
        &table,
        &doors,
        95 * 100,
        "user.max_user_namespaces=0; container reaches it at 95 of 100 here",
    );

    let mut doors = Doors::default();
    doors.mark_absent("net/tls/tls_sw.c", "module tls is blocked");
    let tls = cve("CVE-2024-1000", "tls: fix UAF", &["net/tls/tls_sw.c"]);
    check(
        &tls,
        &doors,
        5 * 100,
        "module tls is blocked; local reaches it at 5 of 100 here",
    );

    let other = cve("CVE-2024-1000", "tcp: fix UAF", &["net/ipv4/tcp.c"]);
    assert_eq!(
        prioritize_on(&other, &signals, &policy, &doors),
        prioritize(&other, &signals, &policy)
    );
}

#[test]
fn one_present_file_keeps_the_title_open() {
    let files = ["strange/file.c", "strange/file.h"];
    let two = cve("CVE-2024-1000", "tls: fix UAF", &files);
    let points =
        |doors: &Doors| prioritize_on(&two, &Signals::default(), &Policy::builtin(), doors).points;
    let mut doors = Doors::default();
    doors.mark_absent("strange/file.c", "module strange is absent");
    assert_eq!(points(&doors), 90 * 100);
    doors.mark_absent("strange/file.h", "module strange is absent");
    assert_eq!(points(&doors), 5 * 100);
}

#[test]
fn equals_come_newest_id_first_in_any_order_of_input() {
    let ids = [
        "CVE-2024-9999",
        "CVE-2024-10000",
        "CVE-2025-1000",
        "CVE-2021-1000",
    ];
    let mut forward: Vec<Priority> = ids.iter().map(|id| rank(&cve(id, "", &[]))).collect();
    let mut backward: Vec<Priority> = forward.iter().rev().cloned().collect();
    sort(&mut forward);
    sort(&mut backward);
    assert_eq!(forward, backward);
    let order: Vec<String> = forward.iter().map(|it| it.cve.to_string()).collect();
    assert_eq!(
        order,
        [
            "CVE-2025-1000",
            "CVE-2024-10000",
            "CVE-2024-9999",
            "CVE-2021-1000"
        ]
    );
}

#[test]
fn hostile_bytes_never_panic() {
    let policy = BUILTIN.as_bytes();
    for end in (0..policy.len()).step_by(997) {
        exercise(policy.split_at(end).0);
    }
    exercise(b"format = 1\n[reach.\xff]");
    exercise("format = 1\n[reach.\"é\"]\nwhy = \"é\"\npaths = [\"é\"]\n".as_bytes());
    exercise(b"use-after-\xc3\nnet/sched/\x00\x1b[2J\n\xe2\x80");
}
