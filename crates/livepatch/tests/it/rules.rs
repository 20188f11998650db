//! What counts as changed, and what is refused.

use tuxtape_livepatch::refusal::Rule;

use crate::kernel::{Pair, travelling};

/// Two static functions, each reached through a global one.
fn two(first: &str, second: &str) -> String {
    format!(
        "static noinline int first(int a) {{ {first} }}
         static noinline int second(int a) {{ {second} }}
         int ask_first(int a) {{ return first(a) + 1; }}
         int ask_second(int a) {{ return second(a) + 2; }}"
    )
}

#[track_caller]
fn check_changed(before: &str, after: &str, expected: &[&str]) {
    let Some(pair) = Pair::of(before, after) else {
        return;
    };
    let comparison = pair.compared();
    assert_eq!(comparison.refusals, []);
    assert_eq!(comparison.changed_functions(), expected);
}

#[track_caller]
fn check_refused(before: &str, after: &str, rule: Rule, symbol: &str) {
    let Some(pair) = Pair::of(before, after) else {
        return;
    };
    let refused = pair.refused();
    assert!(
        refused
            .iter()
            .any(|(found, name)| *found == rule && name.starts_with(symbol)),
        "want {rule} for {symbol}, found {refused:?}"
    );
}

#[test]
fn the_same_unit_twice_changes_nothing() {
    let unit = two("return a * 3;", "exported(\"text\", a); return 7;");
    let Some(pair) = Pair::of(&unit, &unit) else {
        return;
    };
    assert!(pair.compared().is_unchanged());
}

#[test]
fn a_changed_static_function_is_found_and_its_neighbours_are_not() {
    check_changed(
        &two(
            "exported(\"text\", a); return a * 3;",
            "private(a); return 7;",
        ),
        &two(
            "exported(\"text\", a); return a * 3;",
            "private(a); return 8 + a;",
        ),
        &["second"],
    );
}

#[test]
fn a_counter_in_the_name_of_a_type_id_changes_nothing() {
    let unit = |counter: u32| {
        format!(
            "__attribute__((section(\".BTF_ids\"), used)) static const int __BTF_ID__struct__sock__{counter};
             const int *id(void) {{ return &__BTF_ID__struct__sock__{counter}; }}"
        )
    };
    check_changed(&unit(638), &unit(634), &[]);
}

#[test]
fn moved_lines_change_nothing() {
    let unit = two("return a * 3;", "return 7 - a;");
    check_changed(&unit, &format!("\n\n\n{unit}"), &[]);
}

#[test]
fn strings_are_compared_by_what_they_say() {
    let unit = |first: &str, second: &str| {
        two(
            &format!("exported(\"{first}\", a); return a;"),
            &format!("exported(\"{second}\", a); return 7;"),
        )
    };
    // The longer first string moves the second one.
    check_changed(
        &unit("one", "two"),
        &unit("one and more", "two"),
        &["first"],
    );
    check_changed(&unit("one", "two"), &unit("one", "toe"), &["second"]);
}

#[test]
fn a_changed_unlikely_part_changes_its_function() {
    let unit = |number: u32| {
        format!(
            "int f(int a) {{ if (a < 0) {{ bad({number}); return -22; }} private(a); return a * 5; }}"
        )
    };
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    let comparison = pair.compared();
    assert!(
        comparison
            .patched
            .atoms
            .iter()
            .any(|atom| atom.name == "f.cold"),
        "gcc cut no cold part"
    );
    assert_eq!(comparison.changed_functions(), ["f"]);
    let mut travelling = travelling(&comparison);
    travelling.sort_unstable();
    assert_eq!(travelling, ["f", "f.cold"]);
}

#[test]
fn new_functions_and_new_variables_travel() {
    let before = "int f(int a) { private(a); return a; }";
    let after =
        "static int calls; static noinline int helper(int a) { private(a + 1); return ++calls; }
                 int f(int a) { private(a); return helper(a); }";
    let Some(pair) = Pair::of(before, after) else {
        return;
    };
    let comparison = pair.compared();
    assert_eq!(comparison.refusals, []);
    assert_eq!(comparison.changed_functions(), ["f"]);
    assert_eq!(comparison.new_functions(), ["helper"]);
    let mut travelling = travelling(&comparison);
    travelling.sort_unstable();
    assert_eq!(travelling, ["calls", "f", "helper"]);
}

#[test]
fn a_function_that_nobody_calls_any_more_is_no_change() {
    check_changed(
        "int f(int a) { return a; } int g(int a) { return a + 1; }",
        "int f(int a) { return a; }",
        &[],
    );
}

#[test]
fn a_static_function_that_became_global_is_the_same_function() {
    let unit = |word: &str, add: u32| {
        format!(
            "{word} noinline int f(int a) {{ private(a); return a + {add}; }} int g(int a) {{ private(3); return f(a) + 2; }}"
        )
    };
    let Some(pair) = Pair::of(&unit("static", 1), &unit("", 4)) else {
        return;
    };
    let comparison = pair.compared();
    assert_eq!(comparison.refusals, []);
    assert!(comparison.changed_functions().contains(&"f"));
    assert_eq!(
        (
            comparison.new_functions().len(),
            comparison.new_globals.len()
        ),
        (0, 0)
    );
}

#[test]
fn a_changed_initialiser_is_refused() {
    let unit = |value: u32| {
        format!(
            "static int limit = {value}; void set(int a) {{ limit = a; }} int get(void) {{ return limit; }}"
        )
    };
    check_refused(&unit(3), &unit(4), Rule::DataChanged, "limit");
}

#[test]
fn a_changed_table_of_functions_is_refused() {
    let unit = |one: &str, other: &str| {
        format!(
            "static noinline int a(int x) {{ private(1); return x; }}
             static noinline int b(int x) {{ private(2); return x; }}
             struct ops {{ int (*first)(int), (*second)(int); }};
             const struct ops table = {{ {one}, {other} }};"
        )
    };
    check_refused(&unit("a", "b"), &unit("b", "a"), Rule::DataChanged, "table");
}

#[test]
fn a_grown_variable_is_refused() {
    let unit = |length: u32| {
        format!(
            "static int values[{length}]; int *at(int i) {{ return &values[i]; }} int n(void) {{ return sizeof values; }}"
        )
    };
    check_refused(&unit(4), &unit(8), Rule::DataChanged, "values");
}

#[test]
fn two_static_variables_of_one_name_in_changed_code_are_refused() {
    let unit = |step: u32| {
        format!(
            "int f(int a) {{
                if (a > 3) {{ static int count; private(count); return ++count; }}
                static int count; private(count); count += {step}; return count; }}"
        )
    };
    check_refused(&unit(2), &unit(5), Rule::AmbiguousStatic, "count");
}

#[test]
fn a_static_variable_that_is_gone_is_refused() {
    check_refused(
        "int f(int a) { static int count; return a + ++count; } int g(void) { static int count; return --count; }",
        "int f(int a) { return a; } int g(void) { static int count; return --count; }",
        Rule::StaticLocal,
        "count",
    );
}

#[test]
fn a_function_without_an_entry_is_refused() {
    let unit = |add: u32| format!("notrace int f(int a) {{ private(a); return a + {add}; }}");
    check_refused(&unit(1), &unit(2), Rule::NotTraceable, "f");
}

#[test]
fn changed_boot_code_is_refused() {
    let unit = |number: u32| format!("int __init start(void) {{ private({number}); return 0; }}");
    check_refused(&unit(1), &unit(2), Rule::InitCode, "start");
    check_refused(
        "int f;",
        &format!("int f; {}", unit(1)),
        Rule::InitCode,
        "start",
    );
}

#[test]
fn new_data_that_only_boot_code_could_set_up_is_refused() {
    let before = "int f(int a) { private(a); return a; }";
    let after = "static __attribute__((section(\".data..percpu\"))) int own; int f(int a) { private(a); return own; }";
    check_refused(before, after, Rule::DataMoved, "own");
    check_refused(
        before,
        &after.replace(".data..percpu", "__tracepoints"),
        Rule::Registration,
        "own",
    );
}

#[test]
fn a_function_that_shares_its_section_is_refused() {
    let unit = |number: u32| {
        format!(
            "__attribute__((section(\".sched.text\"))) int f(int a) {{ private({number}); return a; }}
             __attribute__((section(\".sched.text\"))) int g(int a) {{ private(3); return a; }}"
        )
    };
    check_refused(&unit(1), &unit(2), Rule::SharedSection, "f");
}

#[test]
fn symbols_out_of_reach_are_refused() {
    let unit = |call: &str| format!("int f(int a) {{ {call}(a); return a; }}");
    check_refused(
        &unit("private"),
        &unit("nowhere"),
        Rule::Unresolved,
        "nowhere",
    );
    check_refused(
        &unit("private"),
        &unit("of_module"),
        Rule::NewDependency,
        "of_module",
    );
}

#[test]
fn an_export_of_a_module_that_was_used_before_is_no_new_dependency() {
    let unit = |add: u32| format!("int f(int a) {{ of_module(a); return a + {add}; }}");
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    assert!(pair.refused().is_empty(), "{:?}", pair.refused());
}

#[test]
fn a_weak_function_says_so() {
    let unit = |add: u32| {
        format!("__attribute__((weak)) int f(int a) {{ private(a); return a + {add}; }}")
    };
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    let comparison = pair.compared();
    assert_eq!(comparison.changed_functions(), ["f"]);
    assert!(
        comparison
            .changed
            .iter()
            .all(|&id| comparison.patched.atom(id).weak)
    );
}
