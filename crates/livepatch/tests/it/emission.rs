//! What the emitted object holds, and what conversion makes of it.

use std::collections::BTreeSet;

use tuxtape_livepatch::convert::convert;
use tuxtape_livepatch::elf::{Binding, ElfFile, Place, Relocation, SHN_LIVEPATCH, Symbol};
use tuxtape_livepatch::emit::PLACEHOLDER;

use crate::kernel::Pair;

/// A unit with a bit of everything; `number` changes `f` alone.
pub(crate) fn unit(number: u32) -> String {
    format!(
        "static int state; int exported_state, twin_state;
         static noinline int other(int a) {{ private(a); return state += a; }}
         int f(int a) {{
             static int calls;
             if (a < 0) {{ bad(a); return -22; }}
             exported(\"number\", {number});
             return ++calls + other(a) + exported_state++ + twin_state++; }}
         int g(int a) {{ return f(a) + 1; }}"
    )
}

fn file(bytes: &[u8]) -> ElfFile<'_> {
    ElfFile::parse(bytes).expect("what we write can be read")
}

/// Relocations of the section called `name`, with the symbol of each.
fn references<'data>(file: &ElfFile<'data>, name: &str) -> Vec<(Relocation, Symbol<'data>)> {
    let section = file
        .section_named(name)
        .unwrap_or_else(|| panic!("no section {name}"));
    let tables: Vec<_> = file.relocation_sections(section.index).collect();
    let all = tables
        .into_iter()
        .flat_map(|table| file.relocations(table).expect("a table"));
    all.filter_map(|relocation| Some((relocation, file.symbol(relocation.symbol)?)))
        .collect()
}

fn names(file: &ElfFile<'_>, section: &str) -> Vec<String> {
    references(file, section)
        .into_iter()
        .map(|(_, symbol)| symbol.name.to_owned())
        .collect()
}

#[test]
fn what_the_kernel_keeps_private_is_named_by_placeholders() {
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    let emitted = pair.emitted();
    let file = file(&emitted.object);
    let names = names(&file, ".text.f");
    for wanted in ["other", "twin_state"] {
        let position = if wanted.contains("twin") { 2 } else { 0 };
        let placeholder = format!("{PLACEHOLDER}vmlinux!vmlinux!{position}!{wanted}");
        assert!(
            names.contains(&placeholder),
            "{placeholder} is not in {names:?}"
        );
    }
    for plain in ["__fentry__", "exported", "exported_state"] {
        assert!(
            names.iter().any(|name| name == plain),
            "{plain} is not in {names:?}"
        );
    }
    assert!(
        !names.iter().any(|name| name == "private"),
        "other() stays in the kernel: {names:?}"
    );
}

#[test]
fn every_reference_of_the_emitted_object_is_inside_its_section() {
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    let emitted = pair.emitted();
    let file = file(&emitted.object);
    let mut seen = 0;
    for table in file.sections().iter().filter(|section| section.is_rela()) {
        let home = file
            .sections()
            .iter()
            .find(|section| section.index.0 == table.info);
        let home = home.expect("a table has a section");
        for relocation in file.relocations(table).expect("a table") {
            let width = relocation.width().expect("a known type");
            assert!(
                relocation.offset + width <= home.size,
                "{relocation:?} in {}",
                home.name
            );
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen} references");
}

#[test]
fn names_that_are_linked_by_are_unique() {
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    let emitted = pair.emitted();
    let file = file(&emitted.object);
    let mut seen = BTreeSet::new();
    for symbol in file
        .symbols()
        .iter()
        .filter(|symbol| symbol.binding != Binding::Local)
    {
        assert!(seen.insert(symbol.name), "{} twice", symbol.name);
    }
    // Nothing may be linked to the replacement by the function's own name.
    assert!(!seen.contains("f"));
    let [function] = emitted.functions.as_slice() else {
        panic!("{:?}", emitted.functions)
    };
    assert_eq!(
        (function.original.name.as_str(), function.original.position),
        ("f", 0)
    );
    assert!(seen.contains(function.replacement.as_str()));
}

#[test]
fn a_weak_replacement_gives_its_name_to_nobody() {
    let unit = |add: u32| {
        format!("__attribute__((weak)) int f(int a) {{ private(a); return a + {add}; }}")
    };
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    let emitted = pair.emitted();
    let file = file(&emitted.object);
    let own = file.symbols().iter().filter(|symbol| symbol.name == "f");
    assert!(own.clone().count() > 0 && own.clone().all(|symbol| symbol.binding == Binding::Local));
}

#[test]
fn emitting_twice_gives_the_same_bytes() {
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    assert_eq!(pair.emitted().object, pair.emitted().object);
    assert_eq!(
        convert(&pair.emitted().object),
        convert(&pair.emitted().object)
    );
}

#[test]
fn debug_data_leaves_no_trace() {
    let debug = ["-g", "-gz=none", "-fno-var-tracking"];
    let Some(without) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    let Some(with) = Pair::compiled(&unit(1), &unit(2), &debug) else {
        return;
    };
    assert_ne!(without.patched(), with.patched());
    assert_eq!(without.emitted().object, with.emitted().object);
}

#[test]
fn a_static_variable_keeps_its_identity_when_its_number_changes() {
    let f = |add: u32| {
        format!("int f(int a) {{ static int count; private(a); return count += {add}; }}")
    };
    let others = "int e(int a) { static int before; private(2); return before -= a; }";
    let after = format!(
        "{others} {} int g(int a) {{ static int new; private(a); return new += a; }}",
        f(2)
    );
    let Some(pair) = Pair::of(&format!("{others} {}", f(1)), &after) else {
        return;
    };
    let comparison = pair.compared();
    let name = |unit: &tuxtape_livepatch::unit::Unit<'_>| {
        let found = unit
            .atoms
            .iter()
            .find(|atom| atom.name.starts_with("count."));
        found
            .map(|atom| atom.name.to_owned())
            .expect("gcc numbers static variables")
    };
    let (old, new) = (name(&comparison.original), name(&comparison.patched));
    assert_ne!(
        old, new,
        "the number has to change for this test to mean something"
    );
    let emitted = pair.emitted();
    let names = names(&file(&emitted.object), ".text.f");
    assert!(
        names.contains(&format!("{PLACEHOLDER}vmlinux!vmlinux!0!{old}")),
        "{names:?}"
    );
}

#[test]
fn a_pointer_names_the_original_and_a_call_goes_to_the_replacement() {
    let unit = |add: u32| {
        format!(
            "static noinline int work(int a) {{ private(a); return a + {add}; }}
             int (*kept)(int);
             int f(int a) {{ kept = work; private({add}); return work(a) + 1; }}"
        )
    };
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    let emitted = pair.emitted();
    assert_eq!(emitted.functions.len(), 2);
    let file = file(&emitted.object);
    let found = references(&file, ".text.f");
    let pointer = format!("{PLACEHOLDER}vmlinux!vmlinux!0!work");
    // R_X86_64_32S for the pointer; the call is relative.
    let to_original: Vec<u32> = found
        .iter()
        .filter(|(_, symbol)| symbol.name == pointer)
        .map(|(found, _)| found.kind)
        .collect();
    assert_eq!(to_original, [11]);
    let replacement = file
        .section_named(".text.work")
        .map(|section| section.index);
    let calls = found.iter().filter(|(relocation, symbol)| {
        relocation.is_relative() && symbol.section().is_some() && symbol.section() == replacement
    });
    assert_eq!(calls.count(), 1);
}

#[test]
fn a_namespace_is_imported_and_a_plain_export_needs_none() {
    let unit =
        |call: &str| format!("extern void spaced(int); int f(int a) {{ {call}; return a; }}");
    let Some(pair) = Pair::of(&unit("private(a)"), &unit("spaced(a)")) else {
        return;
    };
    assert_eq!(
        pair.emitted().namespaces,
        BTreeSet::from(["SPACE".to_owned()])
    );
    let Some(pair) = Pair::of(&unit("private(a)"), &unit("exported(0, a)")) else {
        return;
    };
    assert!(pair.emitted().namespaces.is_empty());
}

#[test]
fn the_entries_of_replaced_functions_are_listed_for_ftrace() {
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    let emitted = pair.emitted();
    let file = file(&emitted.object);
    let found = references(&file, "__mcount_loc");
    let home = file.section_named(".text.f").map(|section| section.index);
    let [(relocation, symbol)] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(
        (relocation.kind, relocation.addend, symbol.section()),
        (1, 0, home)
    );
}

#[test]
fn conversion_turns_placeholders_into_livepatch_relocations() {
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    let converted = convert(&pair.emitted().object).expect("what we emit converts");
    let file = file(&converted);
    assert!(
        !file
            .symbols()
            .iter()
            .any(|symbol| symbol.name.starts_with(PLACEHOLDER))
    );
    let table = file
        .section_named(".klp.rela.vmlinux..text.f")
        .expect("a livepatch table");
    assert!(table.is_livepatch() && table.is_allocated() && table.is_rela());
    let home = file.section_named(".text.f").expect("the function");
    assert_eq!(table.info, home.index.0);
    let mut names = Vec::new();
    for relocation in file.relocations(table).expect("a table") {
        let symbol = file.symbol(relocation.symbol).expect("a symbol");
        assert_eq!(
            symbol.place,
            Place::Livepatch,
            "{} is not {SHN_LIVEPATCH:#x}",
            symbol.name
        );
        let width = relocation.width().expect("a known type");
        let field = home
            .bytes(relocation.offset, width)
            .expect("in the section");
        assert!(
            field.iter().all(|&byte| byte == 0),
            "the loader wants zeroes under {}",
            symbol.name
        );
        names.push(symbol.name);
    }
    names.sort_unstable();
    names.dedup();
    let calls = names
        .iter()
        .find(|name| name.starts_with(".klp.sym.vmlinux.calls."))
        .copied();
    let mut expected = vec![
        ".klp.sym.vmlinux.other,0",
        ".klp.sym.vmlinux.twin_state,2",
        calls.unwrap_or("calls"),
    ];
    expected.sort_unstable();
    assert_eq!(names, expected);
    // The plain table keeps the rest.
    let plain = file.section_named(".rela.text.f").expect("a plain table");
    let plain = file.relocations(plain).expect("a table");
    let all = plain
        .iter()
        .filter_map(|relocation| file.symbol(relocation.symbol));
    assert!(all.clone().count() > 0 && all.clone().all(|symbol| symbol.place != Place::Livepatch));
}

#[test]
fn conversion_keeps_everything_else() {
    let Some(pair) = Pair::of(&unit(1), &unit(2)) else {
        return;
    };
    let emitted = pair.emitted();
    let converted = convert(&emitted.object).expect("what we emit converts");
    let (before, after) = (file(&emitted.object), file(&converted));
    for section in before
        .sections()
        .iter()
        .filter(|section| section.is_allocated())
    {
        let same = after.sections().iter().any(|other| {
            (other.name, other.flags, other.alignment, other.data)
                == (section.name, section.flags, section.alignment, section.data)
        });
        assert!(same, "{} is lost", section.name);
    }
    assert_eq!(before.symbols().len(), after.symbols().len());
}
