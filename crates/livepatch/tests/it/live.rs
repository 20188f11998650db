//! Types without a name, or with another one than before: what is compared by where it is used.

use tuxtape_livepatch::layout::{changes, refusals};

use crate::compiler::compile;

const FLAGS: [&str; 3] = ["-g", "-gz=none", "-fno-var-tracking"];

/// What every unit begins with.
const PRELUDE: &str = "
    extern void *private(void *owner);
    extern void use(const void *data);
    struct known { int a; long b; };
    struct other { long b; int a; };
";

#[track_caller]
fn found(before: &str, after: &str) -> Option<Vec<String>> {
    let before = compile(&format!("{PRELUDE}{before}"), &FLAGS)?;
    let after = compile(&format!("{PRELUDE}{after}"), &FLAGS)?;
    let changes = changes(&before, &after).expect("the debug data can be read");
    Some(
        changes
            .into_iter()
            .map(|change| format!("{}: {}", change.name, change.what))
            .collect(),
    )
}

#[track_caller]
fn check(before: &str, after: &str, expected: &[&str]) {
    if let Some(found) = found(before, after) {
        assert_eq!(found, expected, "{before} -> {after}");
    }
}

/// A unit whose function `f` has a local variable `p` of the type `pointer`.
fn local(types: &str, pointer: &str) -> String {
    format!("{types} long f(void *owner) {{ {pointer} p = private(owner); use(p); return p->b; }}")
}

#[test]
fn a_variable_of_an_unnamed_type_is_seen() {
    let unit = |members: &str| {
        format!("static struct {{ {members} }} x; long f(long b) {{ x.b += b; return x.b; }}")
    };
    check(
        &unit("int a; int c; long b;"),
        &unit("int a; long b; int c;"),
        &[
            "x: is a variable that lives on and struct { … } changed: its size went from 16 to 24 bytes; \
           member c moved from byte 4 to byte 16",
        ],
    );
    check(
        &unit("int a; int c; long b;"),
        &unit("int c; int a; long b;"),
        &[
            "x: is a variable that lives on and struct { … } changed: member a moved from byte 0 to byte 4; \
           member c moved from byte 4 to byte 0",
        ],
    );
    check(&unit("int a; long b;"), &unit("int a; long b;"), &[]);
}

#[test]
fn an_unnamed_type_behind_pointers_and_arrays_is_seen() {
    for shape in ["*x", "**x", "*x[4]", "(*x)[4]"] {
        let unit = |members: &str| {
            format!(
                "static struct {{ {members} }} {shape}; void f(void *data) {{ use(x); *(void **)&x = data; }}"
            )
        };
        if let Some(found) = found(&unit("int a; long b;"), &unit("long b; int a;")) {
            let [told] = found.as_slice() else {
                panic!("{shape}: {found:?}");
            };
            assert!(
                told.starts_with("x: ") && told.contains("member a moved"),
                "{told}"
            );
        }
    }
}

#[test]
fn a_member_that_points_to_an_unnamed_type_is_seen() {
    let unit = |members: &str| {
        format!(
            "struct s {{ struct {{ {members} }} *p; }}; static struct s *s; long f(struct s *n) {{ s = n; return s->p->b; }}"
        )
    };
    check(
        &unit("int a; long b;"),
        &unit("int a; int c; long b;"),
        &["struct s: a type without a name in member p (struct { … } *) changed"],
    );
    let nested = |inner: &str| {
        format!(
            "struct s {{ struct {{ struct {{ {inner} }} *q; long b; }} *p; }}; static struct s *s; long f(struct s *n) {{ s = n; return s->p->b + s->p->q->y; }}"
        )
    };
    check(
        &nested("int x; int y;"),
        &nested("int y; int x;"),
        &["struct s: a type without a name in member p (struct { … } *) changed"],
    );
}

#[test]
fn a_static_variable_of_a_function_is_one_that_lives_on() {
    let unit = |members: &str| {
        format!("long f(long b) {{ static struct {{ {members} }} x; x.b += b; return x.b; }}")
    };
    check(
        &unit("long a; long b;"),
        &unit("long b; long a;"),
        &[
            "x: is a variable that lives on and struct { … } changed: member a moved from byte 0 to byte 8; \
           member b moved from byte 8 to byte 0",
        ],
    );
    // Also where the function is only there as inlined copies.
    let inlined = |members: &str| {
        format!(
            "static inline __attribute__((always_inline)) long g(long b) {{ static struct {{ {members} }} x; x.b += b; return x.b; }}
             long f(long b) {{ return g(b) + g(1); }}"
        )
    };
    if let Some(found) = found(&inlined("long a; long b;"), &inlined("long b; long a;")) {
        assert_eq!(found.len(), 1, "{found:?}");
    }
}

#[test]
fn a_variable_that_points_to_another_type_than_before_is_seen() {
    let unit = |kind: &str| {
        format!(
            "static {kind} *kept; void f({kind} *n) {{ kept = n; }} long g(void) {{ return kept->b; }} struct known *k; struct other *o;"
        )
    };
    check(
        &unit("struct known"),
        &unit("struct other"),
        &[
            "kept: is a variable that lives on and went from struct known * to struct other *: \
           member a moved from byte 0 to byte 8; member b moved from byte 8 to byte 0",
        ],
    );
    let plain =
        |declaration: &str| format!("{declaration} void f(void) {{ use(x); x = private(0); }}");
    check(
        &plain("static void *x;"),
        &plain("static struct known *x;"),
        &["x: is a variable that lives on and went from void * to struct known *"],
    );
    check(
        "static int x; int f(void) { return ++x; }",
        "static unsigned x; int f(void) { return ++x; }",
        &["x: is a variable that lives on and went from s32 to u32"],
    );
    check(
        "static int (*hook)(int); void f(void *n) { hook = n; } int g(void) { return hook(1); }",
        "static int (*hook)(long); void f(void *n) { hook = n; } int g(void) { return hook(1); }",
        &["hook: is a variable that lives on and went from s32 (*)(s32) to s32 (*)(s64)"],
    );
}

#[test]
fn a_variable_of_another_unit_lives_on_too() {
    check(
        "struct known *k; struct other *o; extern struct known *x; long f(void) { return x->b; }",
        "struct known *k; struct other *o; extern struct other *x; long f(void) { return x->b; }",
        &[
            "x: is a variable that lives on and went from struct known * to struct other *: \
           member a moved from byte 0 to byte 8; member b moved from byte 8 to byte 0",
        ],
    );
    check(
        "extern int x[]; int f(int i) { return x[i]; }",
        "extern int x[4]; int f(int i) { return x[i]; }",
        &[],
    );
}

#[test]
fn a_renamed_type_with_another_layout_is_seen_wherever_a_function_points_to_it() {
    let before = "struct old { int a; long b; };";
    let after = "struct new { int a; int c; int d; long b; };";
    let check = |one: String, two: String, place: &str| {
        let expected = format!(
            "struct old: went from struct old to struct new: new member c at byte 4; new member d at byte 8; \
             its size went from 16 to 24 bytes; member b moved from byte 8 to byte 16; {place} of f points to it"
        );
        check(&one, &two, &[&expected]);
    };
    check(
        local(before, "struct old *"),
        local(after, "struct new *"),
        "p",
    );
    let parameter =
        |types: &str, kind: &str| format!("{types} long f({kind} *p) {{ return p->b; }}");
    check(
        parameter(before, "struct old"),
        parameter(after, "struct new"),
        "p",
    );
    let result =
        |types: &str, kind: &str| format!("{types} {kind} *f(void *o) {{ return private(o); }}");
    check(
        result(before, "struct old"),
        result(after, "struct new"),
        "the result",
    );
}

#[test]
fn a_renamed_type_is_seen_though_variables_were_renamed_with_it() {
    check(
        "struct old { int a; long b; }; long f(void *x) { struct old *old = private(x); return old->b; }",
        "struct new { long a; long b; }; long f(void *x) { struct new *new = private(x); return new->b; }",
        &["struct old: went from struct old to struct new: \
           member a went from s32 to s64"],
    );
    check(
        "typedef struct { int a; long b; } old_t; long f(void *x) { old_t *old = private(x); return old->b; }",
        "typedef struct { int z; int a; long b; } new_t; long f(void *x) { new_t *new = private(x); return new->b; }",
        &["old_t: went from old_t to new_t: \
           new member z at byte 0; member a moved from byte 0 to byte 4"],
    );
}

#[test]
fn a_copy_of_a_type_that_stays_is_seen_where_it_takes_its_place() {
    let kept = "struct known *kept; long g(struct known *k) { return k->b; }";
    check(
        &local(kept, "struct known *"),
        &local(
            &format!("{kept} struct wider {{ int a; int c; long b; }};"),
            "struct wider *",
        ),
        &["struct known: went from struct known to struct wider: \
           new member c in former padding at byte 4; p of f points to it"],
    );
}

#[test]
fn a_type_that_only_gets_another_name_is_no_change() {
    let unit = |name: &str| {
        format!(
            "struct {name} {{ int a; long b; struct {name} *next; }}; static struct {name} *kept; long f(struct {name} *n) {{ use(kept); kept = n; return n->next->b; }}"
        )
    };
    check(&unit("old"), &unit("new"), &[]);
}

#[test]
fn a_type_that_refers_to_itself_is_compared_to_its_end() {
    let unit = |name: &str, members: &str| {
        format!(
            "struct {name} {{ struct {name} *next; struct {{ {members} }} *q; }}; static struct {name} *kept; long f(struct {name} *n) {{ use(kept); kept = n; return n->next->q->b; }}"
        )
    };
    if let Some(found) = found(
        &unit("old", "int a; long b;"),
        &unit("new", "long b; int a;"),
    ) {
        assert!(
            found
                .iter()
                .any(|told| told.starts_with("kept: ") && told.contains("member q ")),
            "{found:?}"
        );
    }
}

#[test]
fn new_types_that_hold_nothing_old_are_no_change() {
    let before = "long f(struct known *k) { return k->b; }";
    // On the stack, by value and by address.
    check(
        before,
        "struct new { long x; int a; }; long f(struct known *k) { struct new n = { k->b, k->a }; use(&n); return n.x; }",
        &[],
    );
    // Of a function that is new.
    check(
        before,
        "struct new { int a; int c; }; static __attribute__((noinline)) int g(struct new *n) { use(n); return n->c; }
         long f(struct known *k) { return g(private(k)); }",
        &[],
    );
    // Of a variable that is new.
    check(
        before,
        "static struct { long x; int a; } n; long f(struct known *k) { n.x++; return k->b + n.x; }",
        &[],
    );
    // One that is no longer used.
    check(
        "struct gone { int a; }; long f(struct known *k) { struct gone *g = private(k); return k->b + g->a; }",
        before,
        &[],
    );
    // Another one that both versions know.
    let both = "struct known *k; struct other *o;";
    check(
        &local(both, "struct known *"),
        &local(both, "struct other *"),
        &[],
    );
}

#[test]
fn constants_and_boot_data_are_other_rules_matter() {
    let unit = |kind: &str, members: &str, value: &str| {
        format!(
            "static {kind} struct {{ {members} }} x {value}; long f(int i) {{ const volatile void *p = &x; use((void *)p); return i; }}"
        )
    };
    check(
        &unit("const", "int a; long b;", "= { 1, 2 }"),
        &unit("const", "long b; int a;", "= { 2, 1 }"),
        &[],
    );
    let boot = "__attribute__((section(\".init.data\")))";
    check(
        &unit(boot, "int a; long b;", "= { 1, 2 }"),
        &unit(boot, "long b; int a;", "= { 2, 1 }"),
        &[],
    );
}

/// A unit that exports the variable `x`, as the kernel's macros write it.
fn exporting(declaration: &str) -> String {
    format!(
        "{PRELUDE} {declaration}
         __attribute__((section(\"___ksymtab+x\"), used)) static const int __ksymtab_x;"
    )
}

#[track_caller]
fn check_export(before: &str, after: &str, expected: &[&str]) {
    let (Some(before), Some(after)) = (
        compile(&exporting(before), &FLAGS),
        compile(&exporting(after), &FLAGS),
    ) else {
        return;
    };
    let found: Vec<String> = refusals("unit.c", &before, &after)
        .into_iter()
        .filter(|refusal| refusal.rule.slug() == "export-crc")
        .map(|refusal| format!("{}: {}", refusal.symbol, refusal.why))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn an_exported_variable_of_another_type_is_refused() {
    check_export(
        "struct known *x;",
        "struct other *x;",
        &[
            "x: is exported and went from struct known * to struct other *: \
           member a moved from byte 0 to byte 8; member b moved from byte 8 to byte 0",
        ],
    );
    // A constant is copied for the unit alone: modules read the old one.
    check_export(
        "const int x[2] = { 1, 2 };",
        "const long x[2] = { 1, 2 };",
        &["x: is exported and went from s32[2] to s64[2]"],
    );
    check_export("struct known *x;", "struct known *x;", &[]);
    check_export("unsigned long x;", "unsigned long long x;", &[]);
}
