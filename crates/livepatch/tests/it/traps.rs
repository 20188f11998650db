//! Fixes that look harmless and would give a module that loads and is wrong.

use tuxtape_livepatch::elf::{ElfFile, Place, SymbolKind};
use tuxtape_livepatch::refusal::Rule;

use crate::kernel::{Pair, travelling};

#[track_caller]
fn check_refused(pair: &Pair, rule: Rule, symbol: &str) {
    let refused = pair.refused();
    assert!(
        refused
            .iter()
            .any(|(found, name)| *found == rule && name.starts_with(symbol)),
        "want {rule} for {symbol}, found {refused:?}"
    );
}

/// What the references of `.text.f` to unnamed data of the emitted object lead to: the bytes of the
/// section from its start, and the offset.
fn literals_of_f(object: &[u8]) -> Vec<(Vec<u8>, i64)> {
    let file = ElfFile::parse(object).expect("what we write can be read");
    let section = file.section_named(".text.f").expect("f travels");
    let tables: Vec<_> = file.relocation_sections(section.index).collect();
    let mut found = Vec::new();
    for relocation in tables
        .into_iter()
        .flat_map(|table| file.relocations(table).expect("a table"))
    {
        let symbol = file.symbol(relocation.symbol).expect("a symbol");
        if let Place::Section(home) = symbol.place
            && symbol.kind == SymbolKind::Section
        {
            let home = file.section(home).expect("a section");
            found.push((home.data.to_vec(), relocation.addend));
        }
    }
    found
}

fn holds(literals: &[(Vec<u8>, i64)], distance: i64, wanted: &[u8]) -> bool {
    literals.iter().any(|(data, addend)| {
        usize::try_from(addend + distance)
            .ok()
            .and_then(|at| data.get(at..))
            .is_some_and(|tail| tail.starts_with(wanted))
    })
}

#[test]
fn wide_strings_travel_whole() {
    let unit =
        |n: u32| format!("int f(int a) {{ exported((const char *)L\"Mok\", {n}); return a; }}");
    let Some(pair) = Pair::compiled(&unit(1), &unit(2), &["-fshort-wchar"]) else {
        return;
    };
    let literals = literals_of_f(&pair.emitted().object);
    assert!(holds(&literals, 0, b"M\0o\0k\0\0\0"), "{literals:?}");
}

#[test]
fn a_changed_wide_string_changes_its_function() {
    let unit = |text: &str| {
        format!("int f(int a) {{ exported((const char *)L\"{text}\", a); return a; }}")
    };
    let Some(pair) = Pair::compiled(&unit("Mok"), &unit("Mix"), &["-fshort-wchar"]) else {
        return;
    };
    assert_eq!(pair.compared().changed_functions(), ["f"]);
}

/// A string that is read from an index that starts below zero: the code names its middle.
fn indexed(letters: &str, number: u32) -> String {
    format!("int f(long i) {{ private({number}); return \"{letters}\"[i + 3]; }}")
}

#[test]
fn a_string_whose_middle_is_named_travels_from_its_start() {
    let Some(pair) = Pair::of(&indexed("abcdef", 1), &indexed("abcdef", 2)) else {
        return;
    };
    let literals = literals_of_f(&pair.emitted().object);
    assert!(
        literals
            .iter()
            .all(|(data, _)| data.starts_with(b"abcdef\0")),
        "{literals:?}"
    );
    assert!(holds(&literals, 0, b"def\0"), "{literals:?}");
}

#[test]
fn a_string_changed_before_the_place_that_is_named_changes_its_function() {
    let Some(pair) = Pair::of(&indexed("abcdef", 1), &indexed("axcdef", 1)) else {
        return;
    };
    assert_eq!(pair.compared().changed_functions(), ["f"]);
}

#[test]
fn a_table_of_labels_is_not_left_pointing_into_the_old_function() {
    let unit = |n: u32| {
        format!(
            "int f(int op, int a) {{
                 static const void *const labels[] = {{ &&add, &&sub, &&neg }};
                 goto *labels[op];
                 add: private(a); return a + 1;
                 sub: private(a); return a - {n};
                 neg: return -a; }}"
        )
    };
    let Some(pair) = Pair::of(&unit(2), &unit(3)) else {
        return;
    };
    check_refused(&pair, Rule::DataChanged, "labels");
}

#[test]
fn a_file_level_variable_is_state_whatever_its_name() {
    for name in ["_rs", "__key", "___done"] {
        let unit =
            |n: u32| format!("static int {name}; int f(int a) {{ return {name} += a * {n}; }}");
        let Some(pair) = Pair::of(&unit(3), &unit(5)) else {
            return;
        };
        let comparison = pair.compared();
        assert_eq!(comparison.refusals, []);
        assert_eq!(travelling(&comparison), ["f"]);
    }
}

#[test]
fn a_static_of_a_use_site_travels_anew() {
    let unit = |n: u32| format!("int f(int a) {{ static int _rs; return _rs += a * {n}; }}");
    let Some(pair) = Pair::of(&unit(3), &unit(5)) else {
        return;
    };
    assert_eq!(travelling(&pair.compared()).len(), 2);
}

#[test]
fn a_variable_that_moves_to_another_kind_of_memory_is_refused() {
    let unit = |place: &str, n: u32| {
        format!(
            "{place} int counter = 5; int *where(void) {{ return &counter; }}
             int f(int a) {{ return a * {n}; }}"
        )
    };
    let percpu = "__attribute__((section(\".data..percpu\")))";
    for (before, after) in [("", percpu), (percpu, ""), ("const", "")] {
        let Some(pair) = Pair::of(&unit(before, 3), &unit(after, 5)) else {
            return;
        };
        check_refused(&pair, Rule::DataMoved, "counter");
    }
}

#[test]
fn the_end_of_an_array_is_not_the_new_variable_behind_it() {
    let unit = |more: &str, n: u32| {
        format!(
            "#define read_mostly __attribute__((section(\".data..read_mostly\")))
             {more}
             static int limits[64] read_mostly = {{ 1, 2, 3 }};
             void set(int a) {{ limits[a & 63] = a; }}
             int f(int a) {{ int *p; for (p = limits; p < limits + 64; p++) private(*p + {n}); return a; }}"
        )
    };
    let more = "static int extra read_mostly = 7; void raise(int a) { extra = a; }
                int more(void) { private(extra); return extra; }";
    let Some(pair) = Pair::of(&unit("", 1), &unit(more, 2)) else {
        return;
    };
    check_refused(&pair, Rule::AmbiguousStatic, ".data..read_mostly");
}

#[test]
fn variables_that_share_a_section_are_used_where_the_section_is_the_same() {
    let unit = |n: u32| {
        format!(
            "#define read_mostly __attribute__((section(\".data..read_mostly\")))
             static int one read_mostly = 1; static int two read_mostly = 2;
             void set(int a) {{ one = a; two = a; }}
             int f(int a) {{ private(one + two + {n}); return a; }}"
        )
    };
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    let comparison = pair.compared();
    assert_eq!(comparison.refusals, []);
    assert_eq!(travelling(&comparison), ["f"]);
}

#[test]
fn a_variable_under_a_new_name_does_not_start_anew_in_silence() {
    let unit = |name: &str| {
        format!(
            "static int {name}; int f(int a) {{ private(a); return {name} += a; }}
             int g(void) {{ return {name}; }}"
        )
    };
    let Some(pair) = Pair::of(&unit("old_count"), &unit("new_count")) else {
        return;
    };
    check_refused(&pair, Rule::StaticLocal, "old_count");
}

#[test]
fn a_call_by_a_weak_alias_stays_one_to_the_alias() {
    let unit = |n: u32| {
        format!(
            "noinline int strong(int a) {{ private(a); return a; }}
             int arch_word(int a) __attribute__((weak, alias(\"strong\")));
             int f(int a) {{ return arch_word(a) + {n}; }}"
        )
    };
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    let emitted = pair.emitted();
    let file = ElfFile::parse(&emitted.object).expect("what we write can be read");
    let undefined: Vec<&str> = file
        .symbols()
        .iter()
        .filter(|symbol| symbol.place == Place::Undefined)
        .map(|symbol| symbol.name)
        .collect();
    assert!(
        undefined.iter().any(|name| name.ends_with("!arch_word")),
        "{undefined:?}"
    );
}

#[test]
fn a_function_that_only_the_fix_makes_traceable_is_refused() {
    let unit =
        |word: &str, n: u32| format!("{word} int f(int a) {{ private(a); return a * {n}; }}");
    let Some(pair) = Pair::of(&unit("notrace", 3), &unit("", 3)) else {
        return;
    };
    check_refused(&pair, Rule::NotTraceable, "f");
}
