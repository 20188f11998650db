//! What holds for every unit: the order of its sections and symbols says nothing, no unit differs from
//! itself, and what a fix did another one can take back.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;

use tuxtape_livepatch::diff::{Comparison, compare};
use tuxtape_livepatch::elf::{ElfFile, SymbolKind};
use tuxtape_livepatch::emit::PLACEHOLDER;
use tuxtape_livepatch::layout;
use tuxtape_livepatch::tables::{Table, layout_for};

use crate::compiler::compile;
use crate::emission::unit;
use crate::kernel::{PRELUDE, travelling};
use crate::shuffle::shuffled;

/// All that a comparison says, in an order of its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    changed: Vec<String>,
    new: Vec<String>,
    travels: Vec<String>,
    notes: Vec<String>,
    refusals: Vec<String>,
}

impl Said {
    pub(crate) fn of(comparison: &Comparison<'_>) -> Self {
        let sorted = |names: Vec<&str>| {
            let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            names.sort();
            names
        };
        Self {
            changed: sorted(comparison.changed_functions()),
            new: sorted(comparison.new_functions()),
            travels: sorted(travelling(comparison)),
            notes: sorted(comparison.notes.iter().map(String::as_str).collect()),
            refusals: comparison
                .refusals
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }

    pub(crate) fn nothing(&self) -> bool {
        self.changed.is_empty() && self.travels.is_empty() && self.refusals.is_empty()
    }
}

pub(crate) fn said(original: &[u8], patched: &[u8], tables: &[Table]) -> Said {
    Said::of(&compare("unit.c", original, patched, tables).expect("gcc writes units"))
}

fn tables() -> &'static [Table] {
    layout_for(6, 1).expect("the tables of 6.1 are known")
}

/// Fixes of many kinds: text before and after.
fn fixes() -> Vec<(&'static str, String, String)> {
    let statics = |bound: u32| {
        format!(
            "static int first(int a) {{ static int calls, seen[4]; calls += a; seen[a & 3]++; exported(\"a\", calls); return calls; }}
             static int second(int a) {{ static int calls; calls -= a; exported(\"b\", calls); return calls; }}
             int f(int a) {{ return a > {bound} ? first(a) : second(a); }}
             int g(int a) {{ static int calls; return first(a) + ++calls; }}"
        )
    };
    let constant = |last: u32| {
        format!(
            "static const int table[] = {{ 1, 2, 3, {last} }};
             int f(unsigned a) {{ return a < 4 ? table[a] : -1; }}
             int g(unsigned a) {{ return a < 4 ? -table[a] : 1; }}"
        )
    };
    let strings = |word: &str| {
        format!(
            "int f(int a) {{ exported(\"one\", a); exported(\"{word}\", a); return a; }}
             int g(int a) {{ exported(\"{word}\", a); return a; }}
             int h(int a) {{ switch (a) {{ case 1: exported(\"x\", 1); break; case 2: exported(\"yy\", 3); break;
                case 3: private(5); break; case 4: bad(9); break; case 5: exported(\"{word}\", 8); break; }} return a; }}"
        )
    };
    let new = |call: &str, more: &str| {
        format!(
            "{more} int state; int f(int a) {{ {call} return state += a; }} int (*hook)(int) = f;"
        )
    };
    let messages = |number: u32| {
        format!(
            "int f(int a) {{ static const char msg[] = \"no memory\"; if (a > {number}) {{ exported(msg, a); return -12; }}
                {{ static const char msg[] = \"no memory\"; if (a < -{number}) {{ exported(msg, a); return -22; }} }}
                private(a); return 0; }}
             int g(int a) {{ {{ static const char msg[] = \"no memory\"; if (a) exported(msg, a); }}
                {{ static const char msg[] = \"no memory\"; private(a); if (a & 1) exported(msg, a); }} return a; }}"
        )
    };
    let data = |value: u32| {
        format!("int state = {value}; int f(int a) {{ return state += a + {value}; }}")
    };
    vec![
        ("code", unit(1), unit(2)),
        (
            "static variables of one name, which is refused",
            statics(3),
            statics(4),
        ),
        ("a constant", constant(4), constant(5)),
        ("strings", strings("two"), strings("three")),
        ("messages of one text", messages(1), messages(2)),
        (
            "a new function",
            new("", ""),
            new(
                "if (helper(a)) return -22;",
                "static noinline int helper(int a) { private(a); return a < 0; }",
            ),
        ),
        ("data, which is refused", data(1), data(2)),
    ]
}

fn compiled(fix: &(&str, String, String)) -> Option<(Vec<u8>, Vec<u8>)> {
    let of = |text: &str| compile(&format!("{PRELUDE}{text}"), &["-g", "-gz=none"]);
    Some((of(&fix.1)?, of(&fix.2)?))
}

#[test]
fn the_order_of_sections_and_symbols_says_nothing() {
    for fix in &fixes() {
        let Some((original, patched)) = compiled(fix) else {
            return;
        };
        let plain = said(&original, &patched, tables());
        assert!(!plain.nothing(), "{}: {plain:?}", fix.0);
        for seed in 0..40 {
            let (other, another) = (shuffled(&original, seed), shuffled(&patched, seed + 1000));
            for (one, two) in [
                (&other, &patched),
                (&original, &another),
                (&other, &another),
            ] {
                assert_eq!(said(one, two, tables()), plain, "{}, seed {seed}", fix.0);
                assert_eq!(
                    layout::refusals("unit.c", one, two),
                    layout::refusals("unit.c", &original, &patched),
                );
            }
        }
    }
}

#[test]
fn no_unit_differs_from_itself_in_another_order() {
    for fix in &fixes() {
        let Some((original, patched)) = compiled(fix) else {
            return;
        };
        for object in [&original, &patched] {
            assert!(said(object, object, tables()).nothing(), "{}", fix.0);
            for seed in 0..20 {
                let found = said(object, &shuffled(object, seed), tables());
                assert!(found.nothing(), "{}, seed {seed}: {found:?}", fix.0);
            }
        }
    }
}

const SHF_STRINGS: u64 = 0x20;

/// One function: its bytes but for relocated fields, and what it refers to.
#[derive(Debug, PartialEq, Eq)]
struct Function {
    bytes: Vec<u8>,
    refers: Vec<(u64, u32, i64, String)>,
}

/// Functions by name, wherever they stand; constants that the compiler put away are told by content.
fn functions(object: &[u8]) -> BTreeMap<String, Function> {
    let file = ElfFile::parse(object).expect("an object");
    let mut found = BTreeMap::new();
    for symbol in file.symbols() {
        let section = symbol.section().and_then(|index| file.section(index));
        let (SymbolKind::Function, Some(section)) = (symbol.kind, section) else {
            continue;
        };
        let mut bytes = section
            .bytes(symbol.value, symbol.size)
            .expect("a function lies in its section")
            .to_vec();
        let mut refers = Vec::new();
        for table in file.relocation_sections(section.index) {
            for relocation in file.relocations(table).expect("a table") {
                let Some(at) = relocation.offset.checked_sub(symbol.value) else {
                    continue;
                };
                let Some(width) = relocation.width().filter(|width| at + width <= symbol.size)
                else {
                    continue;
                };
                let (start, width) = (
                    usize::try_from(at).expect("small"),
                    usize::try_from(width).expect("small"),
                );
                bytes[start..start + width].fill(0);
                let target = file.symbol(relocation.symbol).expect("a symbol");
                // A name that the kernel keeps private is the last part of a placeholder.
                let plain = match target.name.strip_prefix(PLACEHOLDER) {
                    Some(rest) => rest.rsplit('!').next().unwrap_or_default(),
                    None => target.name,
                };
                let home = target.section().and_then(|index| file.section(index));
                // Literals are compared by what they say.
                let (addend, name) = match home {
                    Some(home)
                        if home.flags & SHF_STRINGS != 0 || home.name == ".rodata.strings" =>
                    {
                        let from = target.value.wrapping_add_signed(relocation.addend);
                        let text = home.string(from).unwrap_or_default();
                        (0, String::from_utf8_lossy(text).into_owned())
                    }
                    Some(home) if target.kind == SymbolKind::Section => {
                        (relocation.addend, plain_name(home.name))
                    }
                    Some(_) | None => (relocation.addend, plain.to_owned()),
                };
                refers.push((at, relocation.kind, addend, name));
            }
        }
        refers.sort();
        found.insert(symbol.name.to_owned(), Function { bytes, refers });
    }
    found
}

/// The symbol that a section of its own is named after.
fn plain_name(section: &str) -> String {
    let prefixes = [".text.", ".data.", ".bss.", ".rodata."];
    let name = prefixes
        .iter()
        .find_map(|prefix| section.strip_prefix(prefix));
    name.unwrap_or(section).to_owned()
}

#[test]
fn a_fix_that_takes_back_another_brings_the_original_functions() {
    // Of messages of one text, either will do.
    let exact = |fix: &&(&str, String, String)| {
        !fix.0.contains("refused") && !fix.0.contains("of one text")
    };
    for fix in fixes().iter().filter(exact) {
        let Some((original, patched)) = compiled(fix) else {
            return;
        };
        let there = compare("unit.c", &original, &patched, tables()).expect("gcc writes units");
        let back = compare("unit.c", &patched, &original, tables()).expect("gcc writes units");
        let mut changed = there.changed_functions();
        let mut again = back.changed_functions();
        changed.sort_unstable();
        again.sort_unstable();
        assert_eq!(changed, again, "{}", fix.0);
        let kernel = crate::kernel::Kernel::vmlinux();
        let emitted = tuxtape_livepatch::emit::emit(&back, &kernel, "0").expect("it is no refusal");
        let (brought, wanted) = (functions(&emitted.object), functions(&original));
        let patched = functions(&patched);
        let mut differed = 0;
        for name in &changed {
            assert_eq!(brought.get(*name), wanted.get(*name), "{}: {name}", fix.0);
            differed += usize::from(wanted.get(*name) != patched.get(*name));
        }
        assert!(differed > 0 || fix.0 == "a constant", "{}", fix.0);
    }
}

/// Originals of real units that builds have left in the cache, with the tables of their kernel.
fn real_units() -> Vec<(PathBuf, &'static [Table])> {
    let Some(cache) = env::var_os("TUXTAPE_CACHE").map(PathBuf::from) else {
        return Vec::new();
    };
    let kernels = fs::read_dir(cache.join("kernels")).into_iter().flatten();
    let mut found = Vec::new();
    for kernel in kernels.flatten() {
        let release = kernel.file_name().to_string_lossy().into_owned();
        let mut numbers = release.split(['.', '-', '+']).map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            continue;
        };
        let Some(tables) = layout_for(major, minor) else {
            continue;
        };
        let objects = fs::read_dir(kernel.path().join("objects"))
            .into_iter()
            .flatten();
        found.extend(
            objects
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "o"))
                .map(|path| (path, tables)),
        );
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

#[test]
fn lab_no_real_unit_differs_from_itself() {
    let units = real_units();
    if units.is_empty() {
        eprintln!("skipped: no compiled units in $TUXTAPE_CACHE/kernels/*/objects");
        return;
    }
    let mut wrong = Vec::new();
    for (number, (path, tables)) in units.iter().enumerate() {
        let object = fs::read(path).expect("it was listed");
        let seed = u64::try_from(number).expect("a small number");
        for (order, other) in [
            ("its own", object.clone()),
            ("another", shuffled(&object, seed)),
        ] {
            let found = said(&object, &other, tables);
            let layouts = layout::refusals("unit.c", &object, &other);
            if !found.nothing() || !layouts.is_empty() {
                wrong.push(format!(
                    "{} in {order} order: {found:?} {layouts:?}",
                    path.display()
                ));
            }
        }
    }
    eprintln!("{} units are equal to themselves", units.len());
    assert_eq!(wrong, [""; 0]);
}
