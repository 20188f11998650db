//! The static `klp_func` and `klp_object` arrays, as far as their first fields tell.
//!
//! `struct klp_func` starts with the old name, the new function and the position, `struct klp_object`
//! with its name (none for vmlinux) and its functions, in every kernel since 4.4. What follows differs and
//! is not looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::code;
use super::layout;
use super::module::{Module, Spot};
use super::{Check, PatchedFunction, Problem};
use crate::elf::Place;

/// `R_X86_64_64`: a pointer in data.
const POINTER: u32 = 1;
const WORD: u64 = 8;
/// Length of ENDBR64, after which the entry for ftrace may come.
const ENDBR: u64 = 4;

/// One element of a `klp_func` array.
#[derive(Debug)]
struct Entry {
    spot: Spot,
    name: String,
    sympos: u64,
    new_function: Spot,
}

pub(super) fn check(
    module: &Module<'_>,
    functions: &[PatchedFunction],
    problems: &mut Vec<Problem>,
) {
    for function in [layout::INIT, layout::EXIT] {
        let mut symbols = module.file.symbols().iter();
        if !symbols.any(|symbol| symbol.name == function && symbol.section().is_some()) {
            problems.push(Problem::new(Check::Entry, format!("no {function}")));
        }
    }
    let mut enables = false;
    for symbol in module.file.symbols() {
        enables |= symbol.place == Place::Undefined && symbol.name == "klp_enable_patch";
    }
    if !enables {
        let why = "never calls klp_enable_patch";
        problems.push(Problem::new(Check::Entry, why));
    }
    let pointers = pointers(module);
    let entries = entries(module, &pointers);
    let hooks = code::fentry_calls(module);
    let mut declared: BTreeSet<(String, String, u64)> = functions
        .iter()
        .map(|function| {
            let object = function.object.0.clone();
            (object, function.name.clone(), function.sympos.into())
        })
        .collect();
    for entry in &entries {
        let section = module.file.section(entry.spot.0);
        let section = section.map_or("", |section| section.name);
        let problem = |why: String| {
            Problem::new(Check::Entry, why)
                .at(section, entry.spot.1)
                .of(&entry.name)
        };
        match object_of(module, &pointers, &entries, entry) {
            None => problems.push(problem("belongs to no klp_object".to_owned())),
            Some(object) => {
                let key = (object, entry.name.clone(), entry.sympos);
                if !declared.remove(&key) {
                    problems.push(problem(format!(
                        "patches {}:{},{}, which no tuxtape_func line says or another entry also does",
                        key.0, key.1, key.2
                    )));
                }
            }
        }
        // Without an entry of its own the next level could not be told from this one by ftrace.
        let (section, start) = entry.new_function;
        let hooked = [0, ENDBR].iter().any(|distance| {
            start
                .checked_add(*distance)
                .is_some_and(|offset| hooks.contains(&(section, offset)))
        });
        if !hooked {
            let why = "its new code does not start with a call of __fentry__";
            problems.push(Problem::new(Check::Mcount, why).of(&entry.name));
        }
        // The core asks kallsyms for the size of the new function and gives up on none.
        let known = module
            .functions()
            .get(&entry.new_function.0)
            .is_some_and(|symbols| {
                symbols
                    .iter()
                    .any(|symbol| symbol.value == entry.new_function.1 && symbol.size > 0)
            });
        if !known {
            problems.push(problem(
                "its new code is not the start of a function with a size".to_owned(),
            ));
        }
    }
    for (object, name, sympos) in declared {
        let why = format!("no klp_func entry patches {object}:{name},{sympos}");
        problems.push(Problem::new(Check::Entry, why).of(&name));
    }
}

/// Every pointer in data that the loader sets, by place, with where it points.
fn pointers(module: &Module<'_>) -> BTreeMap<Spot, Spot> {
    module
        .tables
        .iter()
        .filter(|table| !table.target.is_executable())
        .flat_map(|table| {
            table
                .entries
                .iter()
                .filter(|relocation| relocation.kind == POINTER)
                .filter_map(|relocation| {
                    let at = (table.target.index, relocation.offset);
                    Some((at, module.spot(relocation)?))
                })
        })
        .collect()
}

/// Pairs of a string pointer and, right behind it, a pointer to code.
fn entries(module: &Module<'_>, pointers: &BTreeMap<Spot, Spot>) -> Vec<Entry> {
    pointers
        .iter()
        .filter_map(|(&spot, &name)| {
            let next = (spot.0, spot.1.checked_add(WORD)?);
            let new_function = *pointers.get(&next)?;
            let name = string(module, name)?;
            if !module.file.section(new_function.0)?.is_executable() {
                return None;
            }
            let section = module.file.section(spot.0)?;
            let sympos = section.bytes(next.1.checked_add(WORD)?, WORD)?;
            let sympos = u64::from_le_bytes(<[u8; 8]>::try_from(sympos).ok()?);
            Some(Entry {
                spot,
                name,
                sympos,
                new_function,
            })
        })
        // Other tables of names and handlers look alike; a klp_func array is one a klp_object points to.
        .filter(|entry| is_patched_data(module, entry))
        .collect()
}

/// Tables of the kernel's own have sections of their own; ours are static data of the module.
fn is_patched_data(module: &Module<'_>, entry: &Entry) -> bool {
    module.file.section(entry.spot.0).is_some_and(|section| {
        (section.name == ".data" || section.name.starts_with(".data.")) && !section.is_executable()
    })
}

/// The name of the object whose array holds `entry`.
fn object_of(
    module: &Module<'_>,
    pointers: &BTreeMap<Spot, Spot>,
    entries: &[Entry],
    entry: &Entry,
) -> Option<String> {
    let starts: BTreeSet<Spot> = entries.iter().map(|entry| entry.spot).collect();
    // The array's start is the last place, not behind the entry, that some `funcs` field points to.
    let (at, _) = pointers
        .iter()
        .filter(|(_, target)| {
            starts.contains(target) && target.0 == entry.spot.0 && target.1 <= entry.spot.1
        })
        .max_by_key(|(_, target)| target.1)?;
    let before = (at.0, at.1.checked_sub(WORD)?);
    match pointers.get(&before) {
        Some(&name) => string(module, name),
        None => Some("vmlinux".to_owned()),
    }
}

fn string(module: &Module<'_>, spot: Spot) -> Option<String> {
    let section = module.file.section(spot.0)?;
    if section.is_executable() {
        return None;
    }
    let bytes = section.string(spot.1)?;
    let name = str::from_utf8(bytes).ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}
