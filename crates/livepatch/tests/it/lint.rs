//! What a person is asked to look at: for each rule a fix that it is for, and a harmless twin.

use std::collections::BTreeSet;

use tuxtape_livepatch::lint::{Lint, findings};
use tuxtape_livepatch::refusal::Rule;

use crate::kernel::Pair;

const WORDS: &str = r"
extern void mutex_lock(void *lock);
extern void mutex_unlock(void *lock);
extern void _raw_spin_lock(void *lock);
extern void _raw_spin_unlock(void *lock);
extern long schedule_timeout(long jiffies);
extern int kthread_should_stop(void);
extern int capable(int cap);
extern int lock, other, state;
struct work { void (*func)(struct work *work); };
extern void queue(struct work *work);
";

/// The rules that fire, with the symbol each names.
#[track_caller]
fn found(before: &str, after: &str) -> Option<BTreeSet<(Lint, String)>> {
    let pair = Pair::of(&format!("{WORDS}{before}"), &format!("{WORDS}{after}"))?;
    let comparison = pair.compared();
    assert!(!comparison.is_unchanged(), "the fix changes nothing");
    let findings = findings(&comparison).into_iter();
    Some(findings.map(|one| (one.rule, one.symbol)).collect())
}

#[track_caller]
fn check(before: &str, after: &str, expected: &[(Lint, &str)]) {
    let Some(found) = found(before, after) else {
        return;
    };
    let expected = expected
        .iter()
        .map(|(rule, name)| (*rule, (*name).to_owned()));
    assert_eq!(found, expected.collect());
}

#[test]
fn a_lock_that_is_taken_earlier_is_told() {
    let body = |text: &str| format!("int f(int a) {{ {text} return a; }}");
    let before = body("state++; mutex_lock(&lock); state += a; mutex_unlock(&lock);");
    check(
        &before,
        &body(
            "mutex_lock(&lock); state++; mutex_unlock(&lock); mutex_lock(&lock); state += a; mutex_unlock(&lock);",
        ),
        &[(Lint::Locking, "f")],
    );
    // The same calls of the same locks in the same order.
    check(
        &before,
        &body("if (a > 7) a = 7; state++; mutex_lock(&lock); state += a; mutex_unlock(&lock);"),
        &[],
    );
}

#[test]
fn locks_in_another_order_are_told() {
    let body = |first: &str, second: &str| {
        format!(
            "void f(int a) {{ {first} {second} state = a; _raw_spin_unlock(&other); mutex_unlock(&lock); }}"
        )
    };
    let (mutex, spin) = ("mutex_lock(&lock);", "_raw_spin_lock(&other);");
    check(
        &body(spin, mutex),
        &body(mutex, spin),
        &[(Lint::Locking, "f")],
    );
}

#[test]
fn an_atomic_operation_more_is_told() {
    let body = |text: &str| format!("int f(int a) {{ {text} return a; }}");
    let get = "__asm__ __volatile__(\"lock incl %0\" : \"+m\"(state));";
    check(&body("state = a;"), &body(get), &[(Lint::Locking, "f")]);
    check(
        &body(&format!("a++; {get}")),
        &body(&format!("a--; {get}")),
        &[],
    );
}

#[test]
fn sleeping_is_told_where_nothing_slept() {
    let body = |text: &str| format!("int f(int a) {{ {text} state = a; return a; }}");
    check(
        &body(""),
        &body("schedule_timeout(a);"),
        &[(Lint::Atomic, "f")],
    );
    // It may sleep already.
    check(
        &body("schedule_timeout(1);"),
        &body("schedule_timeout(a); if (a) schedule_timeout(2);"),
        &[],
    );
}

#[test]
fn sleeping_in_a_new_function_counts_for_its_caller() {
    let body = |helper: &str, call: &str| {
        format!("{helper} int f(int a) {{ {call} state = a; return a; }}")
    };
    check(
        &body("", ""),
        &body(
            "static noinline void rest(int a) { schedule_timeout(a); state = 1; }",
            "rest(a);",
        ),
        &[(Lint::Atomic, "f")],
    );
    check(
        &body("", ""),
        &body(
            "static noinline void rest(int a) { private(a); state = 1; }",
            "rest(a);",
        ),
        &[],
    );
}

#[test]
fn a_check_of_permissions_is_told() {
    let body = |text: &str| format!("int f(int a) {{ {text} state = a; return 0; }}");
    check(
        &body(""),
        &body("if (!capable(21)) return -1;"),
        &[(Lint::Interface, "f")],
    );
    check(
        &body("if (!capable(21)) return -1;"),
        &body("if (!capable(12) || a < 0) return -1;"),
        &[],
    );
}

#[test]
fn a_thread_that_waits_in_a_loop_is_told() {
    let thread = |text: &str| {
        format!(
            "int f(void *data) {{ while (!kthread_should_stop()) {{ {text} schedule_timeout(9); }} return 0; }}"
        )
    };
    check(
        &thread("state++;"),
        &thread("state += 2;"),
        &[(Lint::SelfReference, "f")],
    );
    // It waits once and goes.
    let once = |text: &str| format!("int f(int a) {{ {text} schedule_timeout(a); return state; }}");
    check(&once("state++;"), &once("state += 2;"), &[]);
}

#[test]
fn the_address_of_a_new_function_is_told() {
    let unit = |helper: &str, call: &str| {
        format!("struct work work; {helper} void f(int a) {{ state = a; {call} }}")
    };
    check(
        &unit("", ""),
        &unit(
            "static void late(struct work *work) { state = 3; }",
            "work.func = late; queue(&work);",
        ),
        &[(Lint::StoredPointer, "late")],
    );
    // Calling it keeps nothing.
    check(
        &unit("", ""),
        &unit(
            "static noinline void late(struct work *work) { state = 3; queue(work); }",
            "late(&work);",
        ),
        &[],
    );
}

#[test]
fn a_system_call_is_told() {
    let unit =
        |name: &str, value: &str| format!("long {name}(int a) {{ state = a; return {value}; }}");
    check(
        &unit("__x64_sys_getpid", "1"),
        &unit("__x64_sys_getpid", "2"),
        &[(Lint::Syscall, "__x64_sys_getpid")],
    );
    check(&unit("sys_name", "1"), &unit("sys_name", "2"), &[]);
}

#[test]
fn a_function_that_goes_is_told() {
    let unit = |helper: &str, call: &str| format!("{helper} void f(int a) {{ state = a; {call} }}");
    let helper = "noinline void gone(int a) { private(a); state = 4; }";
    check(
        &unit(helper, "gone(a);"),
        &unit("", "private(a);"),
        &[(Lint::Removed, "gone")],
    );
    check(
        &unit(helper, "gone(a);"),
        &unit(helper, "gone(a + 1);"),
        &[],
    );
}

#[test]
fn a_deeper_stack_and_a_hot_path_are_told() {
    let unit = |name: &str, size: u32| {
        format!(
            "extern void fill(char *room); void {name}(int a) {{ char room[{size}]; fill(room); state = a; }}"
        )
    };
    check(&unit("f", 64), &unit("f", 900), &[(Lint::Cost, "f")]);
    check(&unit("f", 64), &unit("f", 128), &[]);
    check(
        &unit("ip_rcv", 64),
        &unit("ip_rcv", 128),
        &[(Lint::Cost, "ip_rcv")],
    );
}

#[test]
fn other_clones_are_told() {
    let unit = |second: &str| {
        format!(
            "extern void use(int a, int b);
             static __attribute__((__noinline__)) int inner(int *a, int b) {{ use(*a, b); state = *a + b; use(b, *a); return b; }}
             int f(int a) {{ return inner(&a, 5); }}
             int g(int a) {{ {second} return 1; }}"
        )
    };
    let Some(found) = found(&unit("inner(&a, 5);"), &unit("inner(&a, a);")) else {
        return;
    };
    let clones = (Lint::ClonesDiffer, "inner".to_owned());
    assert!(found.contains(&clones), "{found:?}");
    check(
        &unit("inner(&a, 5);"),
        &unit("inner(&a, 5); a++; inner(&a, 5);"),
        &[],
    );
}

#[test]
fn every_rule_is_in_the_catalogue() {
    let page = include_str!("../../../../docs/lint.md");
    let (refused, looked) = page.split_once("## To look at").unwrap();
    for rule in Lint::ALL {
        let row = format!("| `{rule}` |");
        assert_eq!(looked.matches(&row).count(), 1, "{rule}");
    }
    for rule in Rule::ALL {
        let row = format!("| `{rule}` |");
        assert_eq!(refused.matches(&row).count(), 1, "{rule}");
    }
}
