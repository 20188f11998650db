use super::*;

const LIFE: &str = "\
5,100,1000,-;tt_1: loading out-of-tree module taints kernel.
5,101,1001,-;tt_1: tainting kernel with TAINT_LIVEPATCH
5,102,1002,-;livepatch: enabling patch 'tt_1'
5,103,1003,-;livepatch: 'tt_1': starting patching transition
5,104,1004,-;livepatch: 'tt_1': patching complete
";

fn verdict(log: &str) -> (State, Verdict) {
    let judged = judge(log.as_bytes(), &["tt_1"]);
    (judged.modules[0].state, judged.modules[0].verdict)
}

#[test]
fn a_clean_life_is_innocent() {
    let judged = judge(LIFE.as_bytes(), &["tt_1"]);
    assert_eq!(judged.worst(), None);
    assert_eq!(judged.reports, []);
    assert_eq!(judged.events.len(), 3);
    assert_eq!(
        (judged.modules[0].state, judged.modules[0].verdict),
        (State::Applied, Verdict::Innocent)
    );
    let removed = format!(
        "{LIFE}5,105,9,-;livepatch: 'tt_1': starting unpatching transition\n5,106,9,-;livepatch: 'tt_1': unpatching complete\n"
    );
    assert_eq!(verdict(&removed), (State::Removed, Verdict::Innocent));
}

#[test]
fn a_fault_at_its_own_instruction_is_guilty() {
    let log = format!(
        "{LIFE}1,105,9,-;BUG: kernel NULL pointer dereference, address: 0000000000000000\n\
         1,106,9,-;#PF: supervisor write access in kernel mode\n\
         4,107,9,-;Oops: 0002 [#1] PREEMPT SMP NOPTI\n\
         4,108,9,-;RIP: 0010:tcp_sendmsg+0x16/0x40 [tt_1]\n\
         4,109,9,-; ? sock_sendmsg+0x58/0x70\n\
         4,110,9,-; __sys_sendto+0x58/0x70\n\
         4,111,9,-;---[ end trace 0000000000000000 ]---\n"
    );
    let judged = judge(log.as_bytes(), &["tt_1"]);
    assert_eq!(judged.reports.len(), 1);
    let report = &judged.reports[0];
    assert_eq!(
        (report.class, report.severity),
        (Class::NullDeref, Severity::Oops)
    );
    assert_eq!(
        report.ip.as_ref().unwrap().function.as_deref(),
        Some("tcp_sendmsg")
    );
    assert_eq!(
        report
            .frames
            .iter()
            .map(|frame| frame.reliable)
            .collect::<Vec<_>>(),
        [false, true]
    );
    assert_eq!(judged.modules[0].verdict, Verdict::Guilty);
}

#[test]
fn a_warning_elsewhere_blames_nobody() {
    let log = format!(
        "{LIFE}4,105,9,-;------------[ cut here ]------------\n4,106,9,-;WARNING: CPU: 0 PID: 1 at net/x.c:1 f+0x1/0x2\n"
    );
    let judged = judge(log.as_bytes(), &["tt_1"]);
    assert_eq!(judged.reports.len(), 1);
    assert!(judged.reports[0].title.starts_with("WARNING: CPU: 0"));
    assert_eq!(judged.worst(), Some(Severity::Warning));
    assert_eq!(judged.modules[0].verdict, Verdict::Unknown);
}

#[test]
fn a_warning_in_a_transition_makes_it_suspect() {
    let start = LIFE.split_inclusive('\n').take(4).collect::<String>();
    let log = |file| format!("{start}4,105,9,-;WARNING: CPU: 0 PID: 1 at {file}:1 f+0x1/0x2\n");
    assert_eq!(
        verdict(&log("net/x.c")),
        (State::Transition, Verdict::Suspect)
    );
    assert_eq!(
        verdict(&log("kernel/livepatch/core.c")),
        (State::Transition, Verdict::Guilty)
    );
}

#[test]
fn a_refused_module_is_guilty_and_failed() {
    let log = "3,1,1,-;tt_1: Unknown symbol no_such (err -2)\n";
    assert_eq!(verdict(log), (State::Failed, Verdict::Guilty));
    let given_up = "5,1,1,-;livepatch: enabling patch 'tt_1'\n\
                    4,2,1,-;livepatch: failed to enable patch 'tt_1'\n\
                    5,3,1,-;livepatch: 'tt_1': unpatching complete\n";
    assert_eq!(verdict(given_up), (State::Failed, Verdict::Guilty));
}

#[test]
fn a_users_line_and_an_embedded_newline_are_no_evidence() {
    let log = format!(
        "{LIFE}12,105,9,-;BUG: kernel NULL pointer dereference, address: 0\n6,106,9,-;mount 'x\\x0aWARNING: CPU: 0 PID: 1 at a:1 f+0x1/0x2 [tt_1]'\n"
    );
    let judged = judge(log.as_bytes(), &["tt_1"]);
    assert_eq!(judged.reports, []);
    assert_eq!(judged.untrusted_headers, 1);
    assert_eq!(judged.modules[0].verdict, Verdict::Innocent);
}

#[test]
fn lost_records_are_counted() {
    let judged = judge(b"6,1,1,-;a\n6,5,1,-;b\n", &[]);
    assert_eq!(judged.missing, 3);
}

#[test]
fn a_flood_of_headers_is_bounded() {
    let log = "BUG: kernel NULL pointer dereference\n".repeat(REPORT_LIMIT * 4);
    let judged = judge(log.as_bytes(), &["tt_1"]);
    assert_eq!(judged.reports.len(), REPORT_LIMIT);
    assert_eq!(judged.reports_dropped, 3 * REPORT_LIMIT as u64);
}

#[test]
fn a_flood_of_warnings_does_not_hide_a_later_fault() {
    let noise = "4,200,9,-;WARNING: CPU: 0 PID: 1 at drivers/x.c:1 f+0x1/0x2 [noisy]\n4,201,9,-;---[ end trace 0000000000000000 ]---\n"
        .repeat(REPORT_LIMIT + 1);
    let fault = "4,900,9,-;------------[ cut here ]------------\n\
                 4,901,9,-;WARNING: CPU: 0 PID: 1 at net/x.c:1 tcp_sendmsg+0x16/0x40 [tt_1]\n\
                 4,902,9,-;RIP: 0010:tcp_sendmsg+0x16/0x40 [tt_1]\n\
                 4,903,9,-; __sys_sendto+0x58/0x70\n";
    let judged = judge(format!("{LIFE}{noise}{fault}").as_bytes(), &["tt_1"]);
    assert_eq!(judged.reports.len(), REPORT_LIMIT);
    assert_eq!(judged.reports_dropped, 2);
    let module = &judged.modules[0];
    assert_eq!(module.verdict, Verdict::Guilty);
    assert!(
        module.because.as_ref().unwrap().contains("net/x.c:1"),
        "{module:?}"
    );
    let frames = fault.replace("RIP: 0010:tcp_sendmsg", " tcp_sendmsg");
    let judged = judge(format!("{LIFE}{noise}{frames}").as_bytes(), &["tt_1"]);
    assert_eq!(judged.modules[0].verdict, Verdict::Suspect);
    let start = LIFE.split_inclusive('\n').take(4).collect::<String>();
    let elsewhere = fault.replace(" [tt_1]", "");
    let judged = judge(format!("{noise}{start}{elsewhere}").as_bytes(), &["tt_1"]);
    assert_eq!(judged.modules[0].verdict, Verdict::Suspect, "in transition");
}

#[test]
fn one_complaint_with_a_reason_before_it_is_one_report() {
    let log = "------------[ cut here ]------------\nlist_del corruption. prev->next should be x\nkernel BUG at lib/list_debug.c:1!\ninvalid opcode: 0000 [#1] SMP\n";
    let judged = judge(log.as_bytes(), &[]);
    assert_eq!(judged.reports.len(), 1);
    assert_eq!(judged.reports[0].class, Class::ListCorruption);
    assert_eq!(judged.reports[0].severity, Severity::Oops);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2048)) {
        judge(&bytes, &["tt_1"]);
    }

    #[test]
    fn no_mix_of_its_own_words_makes_it_panic(picks in proptest::collection::vec((0_usize..12, 0_usize..40), 0..60)) {
        const WORDS: [&str; 12] = ["\n", "BUG: ", "6,1,1,-;", "WARNING: ", "<4>[    1.000000] ", "RIP: 0010:", "f+0x1/0x2", " [tt_1]", "livepatch: '", "': ", "\\x0a", "é"];
        let log: String = picks.iter().map(|(word, keep)| WORDS[*word].chars().take(*keep).collect::<String>()).collect();
        judge(log.as_bytes(), &["tt_1"]);
    }
}
