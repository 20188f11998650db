//! The `klp_patch` that the module hands over, with all it points to.
//!
//! Layouts are the kernel's own. What the module does not set is the livepatch core's, and must be zero:
//! `struct klp_func`, `struct klp_object` and `struct klp_patch` in `include/linux/livepatch.h`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::flow::Code;
use super::init::Init;
use super::layout;
use super::module::{Module, Spot};
use super::structs::Structures;
use super::{Check, PatchedFunction, Problem, code, functions};
use crate::elf::{Place, Relocation, Section, SymbolKind};

/// `R_X86_64_64`: a pointer in data.
const POINTER: u32 = 1;
const WORD: u64 = 8;
/// Length of ENDBR64, after which the entry for ftrace may come.
const ENDBR: u64 = 4;
/// The callbacks of an object, in the order they lie in it.
const MOMENTS: [&str; 4] = ["pre_patch", "post_patch", "pre_unpatch", "post_unpatch"];

/// A key of [`PatchedFunction`]: object, name and position.
type Key = (String, String, u64);

pub(super) fn check(
    module: &Module<'_>,
    structures: &Structures,
    code: &Code<'_>,
    init: &Init,
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
    let mut walk = Walk {
        module,
        structures,
        code,
        init,
        relocations: relocations(module),
        taken: Vec::new(),
        declared: functions
            .iter()
            .map(|function| {
                let object = function.object.0.clone();
                (object, function.name.clone(), function.sympos.into())
            })
            .collect(),
        callbacks: functions::callback_lines(module)
            .map(ToOwned::to_owned)
            .collect(),
        stores: init.stores.keys().copied().collect(),
        problems,
    };
    if let Some(patch) = init.patch {
        walk.patch(patch);
    }
    walk.finish();
}

/// Every relocation of data, by place.
fn relocations<'a>(module: &'a Module<'_>) -> BTreeMap<Spot, &'a Relocation> {
    let tables = module
        .tables
        .iter()
        .filter(|table| !table.target.is_executable());
    tables
        .flat_map(|table| {
            let at = |entry: &Relocation| (table.target.index, entry.offset);
            table.entries.iter().map(move |entry| (at(entry), entry))
        })
        .collect()
}

/// Bytes that no structure of the livepatch core has; they have a few hundred.
const LARGEST: u64 = 1 << 16;

/// What a structure's bytes are once its section is loaded: a variable that is all zero, such as an array
/// without functions, has none in the file.
fn loaded<'data>(home: &Section<'data>, start: u64, size: u64) -> Option<Cow<'data, [u8]>> {
    if !home.is_nobits() {
        return home.bytes(start, size).map(Cow::Borrowed);
    }
    let end = start.checked_add(size).filter(|_| size <= LARGEST);
    let inside = end.is_some_and(|end| end <= home.size);
    let size = usize::try_from(size).ok()?;
    inside.then(|| Cow::Owned(vec![0; size]))
}

struct Walk<'run, 'data> {
    module: &'run Module<'data>,
    structures: &'run Structures,
    code: &'run Code<'data>,
    init: &'run Init,
    relocations: BTreeMap<Spot, &'run Relocation>,
    /// Start and end of each structure met.
    taken: Vec<(Spot, u64)>,
    declared: BTreeSet<Key>,
    callbacks: BTreeSet<String>,
    /// Pointers that the init function sets, and no object met so far explains.
    stores: BTreeSet<Spot>,
    problems: &'run mut Vec<Problem>,
}

impl Walk<'_, '_> {
    fn problem(&mut self, check: Check, spot: Spot, why: impl Into<String>) {
        let section = code::section_name(self.module, spot.0);
        self.problems
            .push(Problem::new(check, why).at(section, spot.1));
    }

    /// Whether a structure is whole: all but its `number` must be zero in the file, and relocations fill in
    /// nothing but its `pointers`.
    fn structure(&mut self, spot: Spot, size: u64, pointers: &[u64], number: Range<u64>) -> bool {
        let (section, start) = spot;
        let home = self.module.file.section(section);
        let bytes = home
            .filter(|home| home.is_allocated() && !home.is_executable())
            .and_then(|home| loaded(home, start, size));
        let (Some(bytes), Some(end)) = (bytes, start.checked_add(size)) else {
            self.problem(
                Check::KlpStruct,
                spot,
                "a structure that is not whole inside its section",
            );
            return false;
        };
        let odd = bytes
            .iter()
            .zip(0u64..)
            .find(|(byte, at)| **byte != 0 && !number.contains(at));
        if let Some((_, at)) = odd {
            let place = (section, start.saturating_add(at));
            let why = "a byte that the livepatch core or the loader fills in, and is not zero";
            self.problem(Check::KlpStruct, place, why);
        }
        let odd: Vec<u64> = self
            .relocations
            .range((section, start)..(section, end))
            .filter(|((_, at), relocation)| {
                let mut pointers = pointers.iter();
                let known = pointers.any(|field| start.checked_add(*field) == Some(*at));
                relocation.kind != POINTER || !known
            })
            .map(|((_, at), _)| *at)
            .collect();
        for at in odd {
            let why = "a relocation where the livepatch core keeps its own";
            self.problem(Check::KlpStruct, (section, at), why);
        }
        let overlaps = self
            .taken
            .iter()
            .any(|((other, from), to)| *other == section && *from < end && start < *to);
        if overlaps {
            self.problem(Check::KlpStruct, spot, "a structure inside another one");
            return false;
        }
        self.taken.push((spot, end));
        true
    }

    fn pointer(&self, spot: Spot, member: u64) -> Option<Spot> {
        let at = (spot.0, spot.1.checked_add(member)?);
        let relocation = self.relocations.get(&at)?;
        self.module
            .spot(relocation)
            .filter(|_| relocation.kind == POINTER)
    }

    /// Whether nothing at all is set in an element: it ends its array.
    fn is_empty(&self, spot: Spot, size: u64) -> bool {
        let (section, start) = spot;
        let home = self.module.file.section(section);
        let bytes = home.and_then(|home| loaded(home, start, size));
        let end = (section, start.saturating_add(size));
        bytes.is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0))
            && self.relocations.range(spot..end).next().is_none()
            && self.init.stores.range(spot..end).next().is_none()
    }

    fn patch(&mut self, spot: Spot) {
        let layout = self.structures.patch;
        let pointers = [layout.module, layout.objects];
        let replaces = layout.replace..layout.replace.saturating_add(1);
        if !self.structure(spot, layout.size, &pointers, replaces) {
            return;
        }
        let own = self.module.file.section_named(layout::THIS_MODULE);
        let own = own.map(|section| (section.index, 0));
        if self.pointer(spot, layout.module) != own || own.is_none() {
            let why = "its klp_patch belongs to another module";
            self.problem(Check::KlpStruct, spot, why);
        }
        let home = self.module.file.section(spot.0);
        let replace = spot.1.checked_add(layout.replace);
        let replace = replace.and_then(|at| home?.bytes(at, 1));
        if replace != Some(&[1]) {
            let why = "its klp_patch does not replace the level before it";
            self.problem(Check::KlpStruct, spot, why);
        }
        let Some(mut object) = self.pointer(spot, layout.objects) else {
            self.problem(Check::KlpStruct, spot, "its klp_patch has no objects");
            return;
        };
        let mut names = BTreeSet::new();
        // Every round takes a place that no structure took before.
        while !self.is_empty(object, self.structures.object.size) {
            let Some(name) = self.object(object) else {
                return;
            };
            if !names.insert(name) {
                let why = "the second klp_object of its name";
                self.problem(Check::KlpStruct, object, why);
            }
            object.1 = object.1.saturating_add(self.structures.object.size);
        }
        self.taken
            .push((object, object.1.saturating_add(self.structures.object.size)));
    }

    fn object(&mut self, spot: Spot) -> Option<String> {
        let layout = self.structures.object;
        let callbacks = MOMENTS.iter().zip((layout.callbacks..).step_by(8));
        let callbacks: Vec<(&str, u64)> = callbacks.map(|(name, at)| (*name, at)).collect();
        let mut pointers = vec![layout.name, layout.functions];
        pointers.extend(callbacks.iter().map(|(_, at)| *at));
        if !self.structure(spot, layout.size, &pointers, 0..0) {
            return None;
        }
        let named = self
            .relocations
            .get(&(spot.0, spot.1.checked_add(layout.name)?));
        let name = if named.is_none() {
            "vmlinux".to_owned()
        } else if let Some(name) = self
            .pointer(spot, layout.name)
            .and_then(|at| self.string(at))
        {
            name
        } else {
            self.problem(Check::KlpStruct, spot, "its name is no string");
            return None;
        };
        for (moment, at) in callbacks {
            let place = (spot.0, spot.1.checked_add(at)?);
            let stored = self.stores.remove(&place);
            let line = format!("{name}:{moment}");
            if let Some(function) = self.pointer(spot, at)
                && self.code.function_starting(function).is_none()
            {
                let why = format!("its {moment} callback is no function of this module");
                self.problem(Check::KlpStruct, place, why);
            }
            let set = stored || self.relocations.contains_key(&place);
            if set && !self.callbacks.remove(&line) {
                let why = format!("a callback that no tuxtape_callback={line} line says");
                self.problem(Check::Entry, place, why);
            }
        }
        let Some(mut function) = self.pointer(spot, layout.functions) else {
            self.problem(Check::KlpStruct, spot, "it has no functions");
            return Some(name);
        };
        let size = self.structures.function.size;
        while !self.is_empty(function, size) {
            if self.function(function, &name).is_none() {
                return Some(name);
            }
            function.1 = function.1.saturating_add(size);
        }
        self.taken.push((function, function.1.saturating_add(size)));
        Some(name)
    }

    fn function(&mut self, spot: Spot, object: &str) -> Option<()> {
        let layout = self.structures.function;
        let pointers = [layout.old_name, layout.new_function];
        let position = layout.position..layout.position.saturating_add(WORD);
        if !self.structure(spot, layout.size, &pointers, position) {
            return None;
        }
        let at = spot.1.checked_add(layout.position)?;
        let position = self.module.file.section(spot.0)?.bytes(at, WORD)?;
        let position = u64::from_le_bytes(<[u8; 8]>::try_from(position).ok()?);
        if self.relocations.contains_key(&(spot.0, at)) {
            let why = "its position is an address";
            self.problem(Check::KlpStruct, (spot.0, at), why);
        }
        let name = self
            .pointer(spot, layout.old_name)
            .and_then(|at| self.string(at));
        let new = self.pointer(spot, layout.new_function);
        let (Some(name), Some(new)) = (name, new) else {
            let why = "a klp_func without a name, or without new code in this module";
            self.problem(Check::KlpStruct, spot, why);
            return None;
        };
        let key = (object.to_owned(), name, position);
        let section = code::section_name(self.module, spot.0);
        let problem = |check, why: String| Problem::new(check, why).at(section, spot.1).of(&key.1);
        if !self.declared.remove(&key) {
            let why = format!(
                "patches {}:{},{}, which no tuxtape_func line says or another entry also does",
                key.0, key.1, key.2
            );
            self.problems.push(problem(Check::Entry, why));
        }
        self.replacement(new, &key.1, problem);
        Some(())
    }

    fn replacement(&mut self, new: Spot, name: &str, problem: impl Fn(Check, String) -> Problem) {
        let (section, start) = new;
        // Without an entry of its own the next level could not be told from this one by ftrace.
        let hooks = code::fentry_calls(self.module);
        let hooked = [0, ENDBR].iter().any(|distance| {
            let offset = start.checked_add(*distance);
            offset.is_some_and(|offset| hooks.contains(&(section, offset)))
        });
        if !hooked {
            let why = "its new code does not start with a call of __fentry__".to_owned();
            self.problems
                .push(Problem::new(Check::Mcount, why).of(name));
        }
        // The core asks kallsyms for the size of the new function and gives up on none.
        let symbols = self.module.functions().get(&section);
        let starting: Vec<&str> = symbols
            .into_iter()
            .flatten()
            .filter(|symbol| symbol.value == start && symbol.size > 0)
            .map(|symbol| symbol.name)
            .collect();
        let stem = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
        let why = if starting.is_empty() {
            "its new code is not the start of a function with a size".to_owned()
        } else if starting.iter().any(|found| stem(found) == stem(name)) {
            return;
        } else {
            format!(
                "its new code is another function, {}",
                starting.join(" or ")
            )
        };
        self.problems.push(problem(Check::Entry, why));
    }

    fn string(&self, spot: Spot) -> Option<String> {
        let section = self.module.file.section(spot.0)?;
        if section.is_executable() {
            return None;
        }
        let name = str::from_utf8(section.string(spot.1)?).ok()?;
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// What was said and is not there, and what was set and is nobody's.
    fn finish(self) {
        // Without a patch to read, the rule about init functions has said why.
        let known = self.init.patch.is_some();
        for (object, name, sympos) in self.declared.into_iter().filter(|_| known) {
            let why = format!("no klp_func entry patches {object}:{name},{sympos}");
            self.problems
                .push(Problem::new(Check::Entry, why).of(&name));
        }
        for line in self.callbacks.into_iter().filter(|_| known) {
            let why = format!("no klp_object has the callback {line}");
            self.problems.push(Problem::new(Check::Entry, why));
        }
        for store in self.stores {
            let at = self.init.stores.get(&store).copied().unwrap_or(store);
            let section = code::section_name(self.module, at.0);
            let why = "sets something that is no callback of its own objects";
            self.problems
                .push(Problem::new(Check::Init, why).at(section, at.1));
        }
        // Variables that share memory with the structures could change them.
        for symbol in self.module.file.symbols() {
            let own = symbol.name.starts_with("tuxtape_");
            let Some(section) = symbol.section().filter(|_| !own) else {
                continue;
            };
            let end = symbol.value.saturating_add(symbol.size);
            let inside = self
                .taken
                .iter()
                .any(|((home, from), to)| *home == section && *from < end && symbol.value < *to);
            if symbol.kind == SymbolKind::Object && inside {
                let why = "shares memory with what the livepatch core keeps";
                self.problems
                    .push(Problem::new(Check::KlpStruct, why).of(symbol.name));
            }
        }
    }
}
