use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::Config;

use super::*;
use crate::signals::{Epss, PartsPerMillion};

fn any_cve() -> impl Strategy<Value = Cve> {
    let words = [
        "netfilter:",
        "wifi: ath9k:",
        "tcp:",
        "fix",
        "use-after-free",
        "memory leak",
        "race",
        "in",
        "foo_probe()",
        "remove",
        "not",
        "a",
        "out-of-bounds",
        "write",
        "NULL pointer",
        "é",
        "\n",
        "UAF",
        "Bluetooth:",
        "io_uring:",
        "refcount",
    ];
    let files = [
        "net/netfilter/nf_tables_api.c",
        "drivers/clk/clk.c",
        "net/ipv4/tcp.c",
        "io_uring/poll.c",
        "kernel/bpf/verifier.c",
        "drivers/hid/hid-core.c",
        "net/bluetooth/hci_core.c",
        "strange/file.c",
        "arch/x86/kvm/mmu.c",
        "fs/eventpoll.c",
        "",
    ];
    let text = |most| vec(select(words.to_vec()), 0..most).prop_map(|words| words.join(" "));
    let vectors = [
        "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
        "CVSS:3.1/AV:L/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N",
        "CVSS:3.1/AV:L/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H",
        "",
    ];
    (
        text(7),
        text(25),
        vec(select(files.to_vec()), 0..4),
        proptest::option::of((0..=100_u8, select(vectors.to_vec()))),
        2000..2030_u16,
        1..90_000_u32,
    )
        .prop_map(|(title, description, files, score, year, number)| {
            let id = CveId::new(year, number).unwrap().to_string();
            let mut cve = cve(&id, &title, &files);
            cve.description = description;
            cve.cvss = score.map(|(tenths, vector)| cvss(tenths, vector));
            cve
        })
}

fn any_signal() -> impl Strategy<Value = Signal> {
    prop_oneof![
        Just(kev()),
        select(vec![
            Exploitation::None,
            Exploitation::Poc,
            Exploitation::Active
        ])
        .prop_map(ssvc),
        Just(exploit()),
        (0..=100_u8, any::<bool>(), any::<bool>()).prop_map(|(tenths, remote, grave)| {
            let (av, cia) = (
                if remote { 'N' } else { 'L' },
                if grave { "C:H/I:H/A:H" } else { "C:H/I:L/A:N" },
            );
            score(
                tenths,
                &format!("CVSS:3.1/AV:{av}/AC:L/PR:N/UI:N/S:U/{cia}"),
            )
        }),
        (0..=1_000_000_u32).prop_map(|parts| {
            let parts = PartsPerMillion::new(parts).unwrap();
            Signal::Epss(Epss {
                probability: parts,
                percentile: parts,
            })
        }),
    ]
}

fn any_doors() -> impl Strategy<Value = Doors> {
    let files = vec![
        "net/ipv4/tcp.c",
        "net/netfilter/nf_tables_api.c",
        "strange/file.c",
    ];
    (
        subsequence(Door::ALL.to_vec(), 0..=3),
        subsequence(files, 0..=3),
    )
        .prop_map(|(shut, absent)| {
            let mut doors = Doors::default();
            for door in shut {
                doors.shut(door, door.as_str());
            }
            for file in absent {
                doors.mark_absent(file, "module absent");
            }
            doors
        })
}

fn any_models() -> impl Strategy<Value = Vec<ThreatModel>> {
    subsequence(ThreatModel::ALL.to_vec(), 1..=7)
}

fn declaring(models: &[ThreatModel]) -> Policy {
    Policy::builtin().declaring(models.iter().copied())
}

proptest! {
    #![proptest_config(Config { cases: 2_000, ..Config::default() })]

    #[test]
    fn the_factors_sum_to_the_points(
        cve in any_cve(),
        signals in vec(any_signal(), 0..5),
        models in any_models(),
        doors in any_doors(),
    ) {
        let priority = prioritize_on(&cve, &with(signals), &declaring(&models), &doors);
        prop_assert_eq!(sum(&priority), i64::from(priority.points));
        for factor in &priority.factors {
            prop_assert!(!factor.cause.is_empty());
            prop_assert!(!factor.cause.chars().any(char::is_control));
        }
    }

    #[test]
    fn shut_doors_never_raise_and_never_change_the_band(
        cve in any_cve(),
        signals in vec(any_signal(), 0..5),
        models in any_models(),
        doors in any_doors(),
    ) {
        let (signals, policy) = (with(signals), declaring(&models));
        let open = prioritize(&cve, &signals, &policy);
        let here = prioritize_on(&cve, &signals, &policy, &doors);
        prop_assert!(here.points <= open.points);
        prop_assert_eq!(here.band, open.band);
    }

    #[test]
    fn shuffled_input_gives_the_same_order(
        cves in vec(any_cve(), 0..12).prop_shuffle(),
        seed in any::<u64>(),
    ) {
        let policy = Policy::builtin();
        let signals = Signals::default();
        let mut ranked: Vec<Priority> = cves
            .iter()
            .map(|cve| prioritize(cve, &signals, &policy))
            .collect();
        let mut shuffled = ranked.clone();
        let len = shuffled.len().max(1);
        shuffled.rotate_left(usize::try_from(seed % 1000).unwrap_or(0) % len);
        sort(&mut ranked);
        sort(&mut shuffled);
        let order = |rows: &[Priority]| rows.iter().map(|it| (it.points, it.cve)).collect::<Vec<_>>();
        prop_assert_eq!(order(&ranked), order(&shuffled));
    }
}

proptest! {
    #![proptest_config(Config { cases: 10_000, ..Config::default() })]

    #[test]
    fn more_evidence_and_more_models_never_lower(
        cve in any_cve(),
        signals in vec(any_signal(), 0..5),
        more in any_signal(),
        page in any::<bool>(),
        score in proptest::option::of(0..=100_u8),
        models in any_models(),
        added in select(ThreatModel::ALL.to_vec()),
        doors in any_doors(),
    ) {
        let policy = declaring(&models);
        let first = with(signals.clone());
        let before = prioritize_on(&cve, &first, &policy, &doors);

        let second = with(signals.into_iter().chain([more]));
        let after = prioritize_on(&cve, &second, &policy, &doors);
        prop_assert!(after.points >= before.points && after.band >= before.band);

        let wider = declaring(&models.iter().copied().chain([added]).collect::<Vec<_>>());
        let after = prioritize_on(&cve, &first, &wider, &doors);
        prop_assert!(after.points >= before.points && after.band >= before.band);

        let mut known = cve.clone();
        if page {
            known.references.push("https://example.org/".to_owned());
        }
        if let (None, Some(tenths)) = (&known.cvss, score) {
            known.cvss = Some(cvss(tenths, "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"));
        }
        let after = prioritize_on(&known, &first, &policy, &doors);
        prop_assert!(after.points >= before.points && after.band >= before.band);
    }
}
