//! Changes that are made in another way than by redirecting the changed function itself.

use tuxtape_livepatch::diff::Comparison;
use tuxtape_livepatch::refusal::Rule;

use crate::kernel::{Pair, travelling};

/// A table of four numbers whose second is `number`, and code that uses it.
fn table(number: u32, code: &str) -> String {
    format!(
        "extern void keep(const void *table);
         extern int __nla_parse(void **tb, int max, const void *head, int len, const void *policy,
                                unsigned validate, void *extack);
         extern int __nla_validate(const void *head, int len, int max, const void *policy,
                                   unsigned validate, void *extack);
         extern int memcmp(const void *a, const void *b, unsigned long size);
         static const int table[4] = {{ 1, {number}, 3, 4 }};
         {code}"
    )
}

fn own_versions<'run>(comparison: &'run Comparison<'_>) -> Vec<&'run str> {
    comparison
        .own_versions
        .iter()
        .map(|&id| comparison.patched.atom(id).name)
        .collect()
}

/// The table changes, and the functions that must be redirected for it are these.
#[track_caller]
fn check_copied(code: &str, readers: &[&str]) {
    let Some(pair) = Pair::of(&table(2, code), &table(7, code)) else {
        return;
    };
    let comparison = pair.compared();
    assert_eq!(comparison.refusals, [], "{code}");
    assert_eq!(own_versions(&comparison), ["table"], "{code}");
    let mut changed = comparison.changed_functions();
    changed.sort_unstable();
    assert_eq!(changed, readers, "{code}");
    assert!(travelling(&comparison).contains(&"table"));
    let notes = comparison.notes.join("\n");
    assert!(notes.contains("table changed"), "{notes}");
}

/// The table changes, and no copy will do, for a reason with these words.
#[track_caller]
fn check_leaks(code: &str, words: &str) {
    let Some(pair) = Pair::of(&table(2, code), &table(7, code)) else {
        return;
    };
    let comparison = pair.compared();
    let why: Vec<&str> = comparison
        .refusals
        .iter()
        .filter(|refusal| refusal.rule == Rule::DataChanged && refusal.symbol == "table")
        .map(|refusal| refusal.why.as_str())
        .collect();
    assert!(
        why.iter().any(|why| why.contains(words)),
        "want {words:?}, found {:?}\n{code}",
        comparison.refusals
    );
    assert_eq!(own_versions(&comparison), [] as [&str; 0], "{code}");
}

#[test]
fn a_changed_constant_is_copied_and_all_its_readers_are_redirected() {
    check_copied(
        "int f(int i) { private(i); return table[i & 3]; }
         int g(int i) { exported(\"g\", i); return table[i & 1] * 2; }
         int h(int i) { private(i); return i; }",
        &["f", "g"],
    );
}

#[test]
fn a_new_function_may_read_the_copy() {
    let before = "int f(int i) { private(i); return table[i & 3]; }";
    let after = "static noinline int fresh(int i) { private(i); return table[i & 1]; }
                 int f(int i) { private(i); return table[i & 3] + fresh(i); }";
    let Some(pair) = Pair::of(&table(2, before), &table(7, after)) else {
        return;
    };
    let comparison = pair.compared();
    assert_eq!(comparison.refusals, []);
    assert_eq!(comparison.changed_functions(), ["f"]);
    assert_eq!(comparison.new_functions(), ["fresh"]);
    assert_eq!(own_versions(&comparison), ["table"]);
    let notes = comparison.notes.join("\n");
    assert!(notes.contains("only f, fresh read it"), "{notes}");
    assert_eq!(pair.refused(), std::collections::BTreeSet::new());
    // One that lets the address out is seen there, too.
    let leaking = "static noinline void fresh(void) { keep(table); private(1); }
                   int f(int i) { private(i); fresh(); return table[i & 3]; }";
    let Some(pair) = Pair::of(&table(2, before), &table(7, leaking)) else {
        return;
    };
    let refused = pair.refused();
    let wanted = (Rule::DataChanged, "table".to_owned());
    assert!(refused.contains(&wanted), "{refused:?}");
}

#[test]
fn a_loop_over_a_constant_forgets_its_address() {
    check_copied(
        "int f(int n) { for (int i = 0; i < n; i++) if (table[i] == n) return i; private(n); return -1; }",
        &["f"],
    );
    check_copied(
        "void f(int n) { for (const int *p = table; p < table + 4; p++) private(*p + n); }",
        &["f"],
    );
}

#[test]
fn a_constant_may_be_handed_to_what_only_reads() {
    check_copied(
        "int f(const void *other) { return memcmp(other, table, sizeof table); }",
        &["f"],
    );
    check_copied(
        "int f(void **tb, const void *head) { return __nla_parse(tb, 3, head, 16, table, 0, (void *)0); }",
        &["f"],
    );
    check_copied(
        "int f(const void *head) { return __nla_validate(head, 16, 3, table, 0, (void *)0); }",
        &["f"],
    );
}

#[test]
fn a_local_function_that_only_reads_is_followed_into() {
    check_copied(
        "static noinline int sum(const int *from, int n) {
             int all = 0; for (int i = 0; i < n; i++) { all += from[i]; private(all); } return all; }
         int f(const int *other) { return sum(table, 4) + sum(other, 2); }",
        &["f"],
    );
}

#[test]
fn a_policy_that_an_answer_may_name_is_not_copied() {
    check_leaks(
        "int f(void **tb, const void *head, void *extack) { return __nla_parse(tb, 3, head, 16, table, 0, extack); }",
        "extack is not surely null",
    );
    check_leaks(
        "int f(const void *head, void *extack) { return __nla_validate(head, 16, 3, table, 0, extack); }",
        "extack is not surely null",
    );
    // Null on one way only.
    check_leaks(
        "int f(void **tb, const void *head, void *extack, int a) {
             private(a);
             return __nla_parse(tb, 3, head, 16, table, 0, a ? (void *)0 : extack); }",
        "extack is not surely null",
    );
}

#[test]
fn an_address_that_gets_away_is_told_with_its_place() {
    check_leaks(
        "int f(int i) { private(i); return table[i & 3]; } const int *g(void) { return table; }",
        "its address is returned at g+",
    );
    check_leaks(
        "const int *kept; void f(int i) { kept = table; private(i); }",
        "its address is stored in memory at f+",
    );
    check_leaks(
        "void f(const int **where, int i) { where[i] = table; private(i); }",
        "its address is stored in memory at f+",
    );
    check_leaks(
        "void f(void) { keep(table); }",
        "its address is passed to keep at f+",
    );
    check_leaks(
        "void f(void (*call)(const int *)) { call(table); private(1); }",
        "its address is passed to",
    );
    check_leaks(
        "int f(const int *other) { private(1); return other == table; }",
        "its address is compared at f+",
    );
    check_leaks(
        "static noinline const int *pick(const int *from, int i) { private(i); return from + i; }
         int f(int i) { return *pick(table, i) + 1; }",
        "its address is returned at pick+",
    );
    check_leaks(
        "static noinline void put(const int *what) { keep(what); private(3); }
         void f(int i) { private(i); put(table); private(i + 1); }",
        "its address is passed to keep at put+",
    );
}

#[test]
fn a_constant_that_others_hold_is_not_copied() {
    check_leaks(
        "struct family { int id; const int *policy; };
         static struct family family = { 3, table };
         int f(int i) { private(i + family.id); family.id++; return table[i & 3]; }
         void g(void) { keep(&family); }",
        "its address is held by family in .data.family, which can be written",
    );
    check_leaks(
        "const int *const shown = table; int f(int i) { private(i); return table[i & 3]; }",
        "its address is held by shown in .rodata.shown, which is global",
    );
    check_leaks(
        "int __init start(void) { keep(table); return 0; } int f(int i) { private(i); return table[i & 3]; }",
        "its address is held by start in .init.text",
    );
}

#[test]
fn a_constant_that_other_units_may_read_is_not_copied() {
    let unit = |number: u32| {
        format!(
            "const int table[2] = {{ 1, {number} }}; int f(int i) {{ private(i); return table[i & 1]; }}"
        )
    };
    let Some(pair) = Pair::of(&unit(2), &unit(3)) else {
        return;
    };
    let comparison = pair.compared();
    assert!(
        comparison
            .refusals
            .iter()
            .any(|refusal| refusal.rule == Rule::DataChanged && refusal.why.contains("is global")),
        "{:?}",
        comparison.refusals
    );
}

/// Asserts that no copy is made, and that the reason says so.
fn is_not_copied(before: &str, after: &str, why: &str) {
    let Some(pair) = Pair::of(before, after) else {
        return;
    };
    let refusals = pair.compared().refusals;
    let found = refusals
        .iter()
        .any(|refusal| refusal.rule == Rule::DataChanged && refusal.why.contains(why));
    assert!(found, "{refusals:?}");
}

#[test]
fn what_is_loaded_from_a_holder_is_an_address_and_not_followed() {
    let code = "static const int *const tables[2] = { table, table + 1 };
                int f(int i) { private(i); return *tables[i & 1]; }";
    is_not_copied(&table(2, code), &table(7, code), "what the object holds");
    let code = "struct two { const int *first; long more; };
                static const struct two holder = { table, 1 };
                void *kmemdup(const void *from, unsigned long size, unsigned flags);
                void *f(int i) { private(i); return kmemdup(&holder, sizeof holder, i); }";
    is_not_copied(&table(2, code), &table(7, code), "its address");
}

#[test]
fn an_address_in_the_second_word_of_a_result_or_behind_an_indirect_jump_escapes() {
    let code = "struct two { long id; const int *it; };
                struct two f(int i) { private(i); return (struct two){ i, table }; }";
    is_not_copied(&table(2, code), &table(7, code), "its address is returned");
    let code = "const int *kept;
                int f(int i)
                {
                        const int *p = table;
                        asm volatile(\"\" : \"+r\"(p));
                        void *to = i ? &&one : &&other;
                        asm volatile(\"\" : \"+r\"(to));
                        private(i);
                        goto *to;
                one:    private(1);
                        kept = p;
                        return 1;
                other:  private(2);
                        return 2;
                }";
    is_not_copied(&table(2, code), &table(7, code), "its address");
}

#[test]
fn a_reader_that_is_gone_may_be_called_still() {
    let before = "static int r(int i) { private(i); return table[i & 1]; }
                  void enlist(int (*call)(int)); int f(int i) { enlist(r); return i; }";
    let after = "void enlist(int (*call)(int)); static int s(int i) { private(i); return table[i & 1]; } int f(int i) { enlist(s); return i; }";
    is_not_copied(&table(2, before), &table(7, after), "which is gone");
}

#[test]
fn a_grown_constant_is_copied_whole() {
    let unit = |more: &str| {
        format!(
            "static const char *const names[] = {{ \"one\", \"two\"{more} }};
             const char *first(int i);
             int f(int i) {{ private(i); return names[i & 1][0] + sizeof names; }}"
        )
    };
    let Some(pair) = Pair::of(&unit(""), &unit(", \"three\"")) else {
        return;
    };
    let comparison = pair.compared();
    assert_eq!(comparison.refusals, []);
    assert_eq!(own_versions(&comparison), ["names"]);
    pair.emitted();
}

#[test]
fn a_function_without_an_entry_is_reached_through_its_callers() {
    let unit = |add: u32| {
        format!(
            "static noinline notrace int inner(int a) {{ private(a); return a + {add}; }}
             int f(int a) {{ private(1); return inner(a) * 3; }}
             int g(int a) {{ private(2); return inner(a) - 3; }}
             int h(int a) {{ private(2); return a; }}"
        )
    };
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    let comparison = pair.compared();
    assert_eq!(comparison.refusals, []);
    assert_eq!(comparison.changed_functions(), ["f", "g"]);
    assert_eq!(own_versions(&comparison), ["inner"]);
    assert!(
        comparison
            .notes
            .iter()
            .any(|note| note.contains("inner has no ftrace entry") && note.contains("f, g")),
        "{:?}",
        comparison.notes
    );
    pair.emitted();
}

#[test]
fn a_function_without_an_entry_that_is_pointed_to_is_refused() {
    for code in [
        "int (*kept)(int) = inner; int f(int a) { return inner(a) + 1; }",
        "extern void keep(void *); void f(int a) { keep(inner); inner(a); private(a); }",
    ] {
        let unit = |add: u32| {
            format!(
                "static noinline notrace int inner(int a) {{ private(a); return a + {add}; }} {code}"
            )
        };
        let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
            return;
        };
        let refusals = pair.compared().refusals;
        assert!(
            refusals
                .iter()
                .any(|refusal| refusal.rule == Rule::NotTraceable && refusal.symbol == "inner"),
            "{refusals:?}"
        );
    }
}

#[test]
fn boot_code_of_the_image_is_left_out_and_told() {
    let unit = |number: u32| {
        format!(
            "static int limit; int __init start(void) {{ limit = {number}; private({number}); return 0; }}
             int f(int a) {{ private(a); return limit + {number}; }}"
        )
    };
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    let mut comparison = pair.compared();
    assert!(
        comparison
            .refusals
            .iter()
            .any(|refusal| refusal.rule == Rule::InitCode),
        "in a module it may still run"
    );
    comparison.leave_out_boot_code();
    assert_eq!(comparison.refusals, []);
    assert_eq!(comparison.changed_functions(), ["f"]);
    let note = comparison.notes.join("\n");
    assert!(
        note.contains("start (changed in .init.text) ran at boot"),
        "{note}"
    );
    assert!(note.contains("shares limit"), "{note}");
}

#[test]
fn boot_code_is_not_left_out_where_the_fix_brings_state_by_any_way() {
    let before = "int __init start(void) { private(1); return 0; }
                  int f(int a) { private(a); return a; }";
    for after in [
        // By a helper, a table of addresses, and another unit.
        "static int *ready; extern int *make(void);
         static noinline void set(void) { ready = make(); private(3); }
         int __init start(void) { private(1); set(); return 0; }
         int f(int a) { private(a); return a + *ready; }",
        "static int *ready; static int **const all[] = { &ready }; extern int *make(void);
         int __init start(void) { private(1); private(2); **all = make(); return 0; }
         int f(int a) { private(a); return a + *ready; }",
        "extern int *ready; extern int *make(void);
         int __init start(void) { private(1); ready = make(); return 0; }
         int f(int a) { private(a); return a + *ready; }",
    ] {
        let Some(pair) = Pair::of(before, after) else {
            return;
        };
        let mut comparison = pair.compared();
        comparison.leave_out_boot_code();
        let found = comparison.refusals.iter().any(|refusal| {
            refusal.rule == Rule::InitCode && refusal.why.contains("ready, which is new")
        });
        assert!(found, "{after}: {:?}", comparison.refusals);
    }
}

#[test]
fn what_boot_code_would_set_up_for_new_code_is_not_left_out() {
    let before =
        "int __init start(void) { private(1); return 0; } int f(int a) { private(a); return a; }";
    let after = "static int *ready; extern int *make(void);
                 int __init start(void) { private(1); ready = make(); return 0; }
                 int f(int a) { private(a); return a + *ready; }";
    let Some(pair) = Pair::of(before, after) else {
        return;
    };
    let mut comparison = pair.compared();
    comparison.leave_out_boot_code();
    assert!(
        comparison.refusals.iter().any(|refusal| {
            refusal.rule == Rule::InitCode && refusal.why.contains("sets up ready")
        }),
        "{:?}",
        comparison.refusals
    );
}

#[test]
fn code_that_may_run_after_boot_is_not_left_out() {
    for section in [".ref.text", ".meminit.text"] {
        let unit = |number: u32| {
            format!(
                "__attribute__((section(\"{section}\"))) int start(int a) {{ private({number}); return a; }}"
            )
        };
        let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
            return;
        };
        let mut comparison = pair.compared();
        comparison.leave_out_boot_code();
        assert!(
            comparison
                .refusals
                .iter()
                .any(|refusal| refusal.rule == Rule::InitCode),
            "{section}"
        );
    }
}

/// The kernel's `WARN_ONCE` and `pr_warn_once`: a static per use site, in a section of its own.
const ONCE: &str = r#"
#define once(call) ({ static _Bool __attribute__((section(".data.once"))) __already_done; \
    if (!__already_done) { __already_done = 1; call; } })
"#;

#[test]
fn once_flags_of_changed_functions_are_new_ones() {
    let before = format!(
        "{ONCE} int f(int a) {{ if (a > 3) once(bad(1)); private(a); return a; }}
         int g(int a) {{ if (a > 4) once(bad(2)); private(a); return a; }}"
    );
    // One more use before the others renumbers them all.
    let after = format!(
        "{ONCE} int f(int a) {{ if (a > 9) once(bad(3)); if (a > 3) once(bad(1)); private(a); return a; }}
         int g(int a) {{ if (a > 4) once(bad(2)); private(a); return a; }}"
    );
    let Some(pair) = Pair::of(&before, &after) else {
        return;
    };
    let comparison = pair.compared();
    assert_eq!(comparison.refusals, []);
    assert_eq!(comparison.changed_functions(), ["f"]);
    let flags = travelling(&comparison)
        .into_iter()
        .filter(|name| name.starts_with("__already_done"))
        .count();
    assert_eq!(flags, 2, "{:?}", travelling(&comparison));
    pair.emitted();
    // A flag alone never is state that must be found: the last use may go, too.
    let Some(pair) = Pair::of(&after, &before) else {
        return;
    };
    assert_eq!(pair.compared().refusals, []);
}

#[test]
fn the_inverse_of_a_change_changes_the_same_functions() {
    let units = [
        table(
            2,
            "int f(int i) { private(i); return table[i & 3]; } int g(int i) { private(i); return 3; }",
        ),
        table(
            7,
            "int f(int i) { private(i); return table[i & 3]; } int g(int i) { private(i); return 3; }",
        ),
        table(
            2,
            "int f(int i) { private(i); return table[i & 3]; } int g(int i) { private(i); return 4; }",
        ),
        table(
            7,
            "int f(int i) { private(i + 1); return table[i & 3]; } int g(int i) { private(i); return 4; }",
        ),
    ];
    for one in &units {
        for other in &units {
            let (Some(there), Some(back)) = (Pair::of(one, other), Pair::of(other, one)) else {
                return;
            };
            let (there, back) = (there.compared(), back.compared());
            assert_eq!(there.changed_functions(), back.changed_functions());
            assert_eq!(own_versions(&there), own_versions(&back));
            assert_eq!(there.refusals.len(), back.refusals.len());
        }
    }
}

/// A unit with these exports, as the kernel's macros write them for 6.1.
fn exporting(names: &[&str], code: &str) -> String {
    let mut text = code.to_owned();
    for name in names {
        text.push_str(&format!(
            "asm(\".section \\\"___ksymtab_gpl+{name}\\\",\\\"a\\\"\\n __ksymtab_{name}: .long {name} - ., __kstrtab_{name} - ., __kstrtabns_{name} - .\\n\"
                 \".section \\\"__ksymtab_strings\\\",\\\"aMS\\\",%progbits,1\\n __kstrtab_{name}: .asciz \\\"{name}\\\"\\n __kstrtabns_{name}: .asciz \\\"\\\"\\n .previous\\n\");"
        ));
    }
    text
}

#[test]
fn exports_that_come_or_go_are_left_as_they_are() {
    let code = |number: u32| {
        format!(
            "int a(int x) {{ private(1); return x; }} int b(int x) {{ private(2); return x; }}
             int c(int x) {{ private({number}); return x; }}"
        )
    };
    let (before, after) = (
        exporting(&["a", "b"], &code(3)),
        exporting(&["b", "c"], &code(4)),
    );
    let Some(pair) = Pair::of(&before, &after) else {
        return;
    };
    let comparison = pair.compared();
    assert_eq!(comparison.refusals, []);
    assert_eq!(comparison.changed_functions(), ["c"]);
    let notes = comparison.notes.join("\n");
    assert!(notes.contains("a stays exported"), "{notes}");
    assert!(notes.contains("new export c is left out"), "{notes}");
}

#[test]
fn a_changed_function_that_is_exported_no_more_is_refused() {
    let code = |number: u32| format!("int a(int x) {{ private({number}); return x; }}");
    let Some(pair) = Pair::of(&exporting(&["a"], &code(1)), &exporting(&[], &code(2))) else {
        return;
    };
    let refusals = pair.compared().refusals;
    assert!(
        refusals
            .iter()
            .any(|refusal| refusal.rule == Rule::Registration && refusal.symbol == "a"),
        "{refusals:?}"
    );
}

#[test]
fn an_exported_function_of_which_a_clone_is_left_is_refused() {
    let callers = "int b(int *p) { private(1); return a(p, 5) + 1; }
                   int c(int *p) { private(2); return a(p, 5) + 2; }";
    let whole = "__attribute__((__noinline__)) int a(int *p, int n) { private(*p); return n; }";
    let cloned = "static __attribute__((__noinline__)) int a(int *p, int n)
                  { if (n > 4) return -1; private(*p); return n; }";
    let before = exporting(&["a"], &format!("{whole} {callers}"));
    let after = exporting(&[], &format!("{cloned} {callers}"));
    let Some(pair) = Pair::of(&before, &after) else {
        return;
    };
    let refusals = pair.compared().refusals;
    assert!(
        refusals
            .iter()
            .any(|refusal| refusal.rule == Rule::Registration && refusal.symbol == "a"),
        "{refusals:?}"
    );
}

#[test]
fn an_export_that_names_something_else_is_refused() {
    let code = "int a(int x) { private(1); return x; } int b(int x) { private(2); return x; }";
    let before = exporting(&["a", "b"], code);
    let after = before.replace(".long b - .", ".long a - .");
    let Some(pair) = Pair::of(&before, &after) else {
        return;
    };
    let refusals = pair.compared().refusals;
    assert!(
        refusals
            .iter()
            .any(|refusal| refusal.rule == Rule::Registration),
        "{refusals:?}"
    );
}
