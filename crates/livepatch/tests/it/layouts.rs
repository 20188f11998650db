//! Which changes of a type are seen, and what is said of them.

use tuxtape_livepatch::elf::ElfFile;
use tuxtape_livepatch::layout::{LayoutError, changes, read_anything, refusals};
use tuxtape_livepatch::loaded::same_but_for_debug_data;

use crate::compiler::compile;

/// Makes the compiler describe the type called `T`.
const USE: &str = "\nT *instance;\n";

fn found(before: &str, after: &str, more: &[&str]) -> Option<Vec<String>> {
    let flags = [&["-g", "-gz=none"], more].concat();
    let before = compile(&format!("{before}{USE}"), &flags)?;
    let after = compile(&format!("{after}{USE}"), &flags)?;
    let changes = changes(&before, &after).expect("the debug data can be read");
    Some(
        changes
            .into_iter()
            .map(|change| format!("{}: {}", change.name, change.what))
            .collect(),
    )
}

fn check(before: &str, after: &str, expected: &[&str]) {
    if let Some(found) = found(before, after, &[]) {
        assert_eq!(found, expected, "{before} -> {after}");
    }
}

#[test]
fn a_new_member_moves_those_after_it() {
    check(
        "typedef struct s { int a; long b; long c; } T;",
        "typedef struct s { int a; long n; long b; long c; } T;",
        &[
            "struct s: new member n at byte 8; its size went from 24 to 32 bytes; \
           member b moved from byte 8 to byte 16; member c moved from byte 16 to byte 24",
        ],
    );
}

#[test]
fn a_new_member_in_padding_is_seen_though_nothing_moves() {
    check(
        "typedef struct s { int a; long b; } T;",
        "typedef struct s { int a; short n; long b; } T;",
        &["struct s: new member n in former padding at byte 4"],
    );
}

#[test]
fn a_member_that_became_another_is_not_in_padding() {
    check(
        "typedef struct s { int a; int reserved; long b; } T;",
        "typedef struct s { int a; int flags; long b; } T;",
        &["struct s: member reserved became flags"],
    );
}

#[test]
fn types_that_differ_only_by_name_are_equal() {
    check(
        "typedef unsigned long u64; typedef struct s { u64 a; const char *b; int c[4]; } T;",
        "typedef unsigned long long quad; typedef struct s { quad a; char *b; int c[4]; } T;",
        &[],
    );
}

#[test]
fn a_member_of_another_type_is_seen_though_its_size_stays() {
    check(
        "struct a; struct b; typedef struct s { struct a *p; int i; int (*f)(int); } T;",
        "struct a; struct b; typedef struct s { struct b *p; unsigned i; int (*f)(long); } T;",
        &[
            "struct s: member p went from struct a * to struct b *; member i went from s32 to u32; \
           member f went from s32 (*)(s32) to s32 (*)(s64)",
        ],
    );
}

#[test]
fn an_array_of_another_length_is_seen() {
    check(
        "typedef struct s { char name[8]; } T;",
        "typedef struct s { char name[16]; } T;",
        &["struct s: member name went from char[8] to char[16]; its size went from 8 to 16 bytes"],
    );
}

#[test]
fn bit_fields_are_told_by_bit() {
    check(
        "typedef struct s { unsigned a:3, b:4; } T;",
        "typedef struct s { unsigned a:4, b:4; } T;",
        &["struct s: member a went from 3 bits to 4 bits; \
           member b moved from byte 0 bit 3 to byte 0 bit 4"],
    );
    check(
        "typedef struct s { unsigned a:3; } T;",
        "typedef struct s { unsigned a:3, b:1; } T;",
        &["struct s: new member b in former padding at byte 0 bit 3"],
    );
}

#[test]
fn bit_fields_are_the_same_in_old_debug_data() {
    for version in ["-gdwarf-3", "-gdwarf-4", "-gdwarf-5"] {
        let before = "typedef struct s { int x; unsigned a:3, b:4; } T;";
        let after = "typedef struct s { int x; unsigned a:3, n:1, b:4; } T;";
        if let Some(found) = found(before, after, &[version]) {
            let expected = "struct s: new member n at byte 4 bit 3; \
                            member b moved from byte 4 bit 3 to byte 4 bit 4";
            assert_eq!(found, [expected], "{version}");
        }
    }
}

#[test]
fn unnamed_members_are_looked_into() {
    check(
        "typedef struct s { union { int a; struct { int b; int c; }; }; struct { int d; } e[2]; } T;",
        "typedef struct s { union { int a; struct { int c; int b; }; }; struct { long d; } e[2]; } T;",
        &[
            "struct s: member e went from 8 bytes to 16 bytes; member e.d went from s32 to s64; \
           its size went from 16 to 24 bytes; member b moved from byte 0 to byte 4; and 1 more",
        ],
    );
}

#[test]
fn only_the_innermost_type_that_changed_is_named() {
    check(
        "struct in { int a; }; struct mid { struct in i; int x; }; typedef struct s { struct mid m[2]; int y; } T;",
        "struct in { long a; }; struct mid { struct in i; int x; }; typedef struct s { struct mid m[2]; int y; } T;",
        &["struct in: member a went from s32 to s64; its size went from 4 to 8 bytes"],
    );
}

#[test]
fn an_unnamed_struct_is_known_by_its_typedef() {
    check(
        "typedef struct { int a; } T;",
        "typedef struct { int a, b; } T;",
        &["T: new member b at byte 4; its size went from 4 to 8 bytes"],
    );
}

#[test]
fn a_constant_with_another_value_is_seen_and_a_new_one_is_none() {
    check(
        "enum e { A, B, LAST }; typedef struct s { enum e e; } T;",
        "enum e { A, N, B, LAST }; typedef struct s { enum e e; } T;",
        &["enum e: constant B went from 1 to 2; constant LAST went from 2 to 3"],
    );
    check(
        "enum e { A, B }; typedef struct s { enum e e; } T;",
        "enum e { A, B, N }; typedef struct s { enum e e; } T;",
        &[],
    );
}

#[test]
fn a_type_that_only_one_version_has_is_no_change() {
    check(
        "typedef struct s { int a; } T; struct gone { int a; } *gone;",
        "typedef struct s { int a; } T; struct come { int a; } *come;",
        &[],
    );
    check(
        "struct s; typedef struct s T;",
        "struct s { int a; }; typedef struct s T;",
        &[],
    );
}

#[test]
fn types_inside_functions_count() {
    let unit = |members: &str| {
        format!(
            "typedef int T; int f(long *p) {{ struct local {{ {members} }} *l = (void *)p; return l->a; }}"
        )
    };
    check(
        &unit("int a;"),
        &unit("int n; int a;"),
        &[
            "struct local: new member n at byte 0; its size went from 4 to 8 bytes; \
           member a moved from byte 0 to byte 4",
        ],
    );
}

#[test]
fn compressed_debug_data_is_read() {
    let (before, after) = (
        "typedef struct s { int a; } T;",
        "typedef struct s { long a; } T;",
    );
    let plain = found(before, after, &[]);
    assert_eq!(found(before, after, &["-gz=zlib"]), plain);
}

#[test]
fn an_object_without_debug_data_is_no_answer() {
    if let Some(object) = compile("int a;", &["-g0"]) {
        assert_eq!(changes(&object, &object), Err(LayoutError::Missing));
    }
}

#[test]
fn debug_data_makes_no_object_another() {
    let (one, other) = (
        "int f(int a)\n{ return a; }",
        "\n\nint f(int b)\n{ return b; }",
    );
    let objects = || {
        Some([
            compile(one, &["-g"])?,
            compile(other, &["-g"])?,
            compile(other, &["-g0"])?,
        ])
    };
    let Some([one, other, without]) = objects() else {
        return;
    };
    let file = |bytes| ElfFile::parse(bytes).expect("gcc writes objects");
    assert_ne!(one, other);
    assert_eq!(
        same_but_for_debug_data(&file(&one), &file(&other)),
        Ok(true)
    );
    assert_eq!(
        same_but_for_debug_data(&file(&one), &file(&without)),
        Ok(true)
    );
    if let Some(changed) = compile("int f(int a) { return a + 1; }", &["-g"]) {
        assert_eq!(
            same_but_for_debug_data(&file(&one), &file(&changed)),
            Ok(false)
        );
    }
}

#[test]
fn damaged_debug_data_is_an_error_and_no_panic() {
    let source = "struct in { int a:3; }; enum e { A = -1, B }; \
                  typedef struct s { struct in i[2]; union { int x; enum e y; }; int (*f)(struct s *, ...); } T;\
                  T *instance;";
    let Some(object) = compile(source, &["-g", "-gz=none"]) else {
        return;
    };
    for end in (0..object.len()).step_by(13) {
        read_anything(object.get(..end).unwrap_or_default());
    }
    for at in 0..object.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut damaged = object.clone();
            if let Some(byte) = damaged.get_mut(at) {
                *byte ^= mask;
            }
            read_anything(&damaged);
        }
    }
}

/// A unit that exports `f`, as the kernel's macros write it.
fn exporting(prototype: &str) -> String {
    format!(
        "{prototype} {{ return 0; }}
         __attribute__((section(\"___ksymtab+f\"), used)) static const int __ksymtab_f;"
    )
}

#[track_caller]
fn check_export(before: &str, after: &str, expected: &[&str]) {
    let flags = ["-g", "-gz=none"];
    let (Some(before), Some(after)) = (compile(before, &flags), compile(after, &flags)) else {
        return;
    };
    let found: Vec<String> = refusals("unit.c", &before, &after)
        .into_iter()
        .map(|refusal| format!("{}: {} {}", refusal.rule, refusal.symbol, refusal.why))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn an_exported_function_that_takes_or_gives_something_else_is_refused() {
    let old = exporting("int f(void *data, unsigned size)");
    check_export(
        &old,
        &exporting("int f(void *data, unsigned long room, unsigned size)"),
        &["export-crc: f is exported and went from s32 (void *, u32) to s32 (void *, u64, u32)"],
    );
    check_export(
        &old,
        &exporting("long f(void *data, unsigned size)"),
        &["export-crc: f is exported and went from s32 (void *, u32) to s64 (void *, u32)"],
    );
}

#[test]
fn an_export_that_modpost_is_to_list_is_one() {
    // As the macros of Linux 6.5 and later write it.
    let noted = |prototype: &str| {
        format!(
            "{prototype} {{ return 0; }}
             __asm__(\".section \\\".export_symbol\\\",\\\"a\\\"\\n\"
                     \"__export_symbol_f: .asciz \\\"GPL\\\"\\n .asciz \\\"\\\"\\n .balign 8\\n .quad f\\n\"
                     \".previous\");"
        )
    };
    check_export(
        &noted("int f(void *data, unsigned size)"),
        &noted("long f(void *data, unsigned size)"),
        &["export-crc: f is exported and went from s32 (void *, u32) to s64 (void *, u32)"],
    );
}

#[test]
fn names_of_parameters_and_functions_that_are_not_exported_may_change() {
    check_export(
        &exporting("int f(void *data, unsigned size)"),
        &exporting("int f(void *bytes, const unsigned count)"),
        &[],
    );
    check_export(
        "int f(int a) { return a; }",
        "int f(long a) { return a; }",
        &[],
    );
    // An inlined copy and a call describe parameters, too.
    let inlined = |text: &str| {
        format!(
            "static inline int g({text}) {{ return a != 0; }} extern void h({text}); {}",
            exporting("int f(int a)").replace("return 0", "h(a); return g(a)")
        )
    };
    check_export(&inlined("int a"), &inlined("long a"), &[]);
}
