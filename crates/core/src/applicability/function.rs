//! Whether the functions that a fix changes left code in a kernel.
//!
//! "None" is a certain answer only for functions that this kernel's source has, in a `.c` file that is
//! a unit of its own whose functions are known, under names that no macro makes. A name that the source
//! lacks proves nothing: the same code may have another name on this branch.

use std::collections::BTreeSet;

use super::content::Functions;
use crate::profile::functions::{FunctionTable, UnitFunctions};

/// A function of the kernel's source that a fix changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Changed {
    /// Its file in the tree.
    pub file: String,
    /// Its name there.
    pub name: String,
    /// The line its definition begins on.
    pub line: u32,
    /// Why its absence from an object would prove nothing.
    pub doubt: Option<Doubt>,
}

/// Why the absence of a function from an object proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// A macro makes its name.
    MadeByMacro,
    /// The file defines its name as a macro, so that it is compiled under another one.
    Renamed,
    /// It is so short that the compiler may have left nothing of it.
    Short,
    /// Another function of the file reads the same; the compiler may have kept one for both.
    Twin,
}

/// Looks the functions up in what is known of each unit.
pub fn look(changed: &BTreeSet<Changed>, table: &FunctionTable) -> Functions {
    let mut present = Vec::new();
    let mut absent = Vec::new();
    let mut unclear = None;
    for function in changed {
        match one(function, table) {
            One::Present(whence) => present.push(whence),
            One::Absent => absent.push(format!(
                "{}() of {}:{}",
                function.name, function.file, function.line
            )),
            One::Unclear(why) => {
                unclear.get_or_insert_with(|| format!("{}(): {why}", function.name));
            }
        }
    }
    if !present.is_empty() {
        return Functions::Present { functions: present };
    }
    match unclear {
        Some(why) => Functions::Unclear { why },
        None if absent.is_empty() => Functions::Unclear {
            why: "the fix changes no function that this source has".to_owned(),
        },
        None => Functions::Absent { functions: absent },
    }
}

enum One {
    Present(String),
    Absent,
    Unclear(String),
}

fn one(function: &Changed, table: &FunctionTable) -> One {
    let names = names(function);
    let how = |unit: &UnitFunctions| {
        let has = |known: &BTreeSet<String>| names.iter().any(|name| known.contains(name));
        match (has(&unit.own), has(&unit.inlined)) {
            (true, _) => Some("has code of its own"),
            (false, true) => Some("is inlined"),
            (false, false) => None,
        }
    };
    let own = table.units.get(&function.file);
    if let Some(how) = own.and_then(how) {
        return One::Present(format!("{}() {how} in {}", function.name, function.file));
    }
    let elsewhere = table
        .units
        .iter()
        .find_map(|(unit, functions)| how(functions).map(|how| (unit, how)));
    let is_unit = own.is_some() && matches!(function.file.rsplit_once('.'), Some((_, "c")));
    match (elsewhere, function.doubt) {
        // A header, or a `.c` file that others include: its functions count as theirs.
        (Some((unit, how)), _) if !is_unit => {
            One::Present(format!("{}() {how} in {unit}", function.name))
        }
        // Local names repeat; this unit may also include the file.
        (Some((unit, _)), _) => One::Unclear(format!("{unit} has one of that name")),
        (None, _) if !is_unit => One::Unclear(format!(
            "{} is no unit whose functions are known",
            function.file
        )),
        (None, Some(doubt)) => One::Unclear(doubt.said().to_owned()),
        (None, None) => One::Absent,
    }
}

/// The names that a function may have in an object.
fn names(function: &Changed) -> Vec<String> {
    const SYSTEM_CALL: [&str; 8] = [
        "__do_sys_",
        "__se_sys_",
        "__x64_sys_",
        "__ia32_sys_",
        "__do_compat_sys_",
        "__se_compat_sys_",
        "__ia32_compat_sys_",
        "__x32_compat_sys_",
    ];
    let mut names = vec![function.name.clone()];
    if function.doubt == Some(Doubt::MadeByMacro) {
        names.extend(SYSTEM_CALL.map(|prefix| format!("{prefix}{}", function.name)));
    }
    names
}

impl Doubt {
    fn said(self) -> &'static str {
        match self {
            Self::MadeByMacro => "a macro makes its name",
            Self::Renamed => "a macro of its file has its name",
            Self::Short => "it is so short that nothing of it may be left",
            Self::Twin => "another function of its file reads the same",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> FunctionTable {
        let unit = |own: &[&str], inlined: &[&str]| UnitFunctions {
            own: own.iter().map(|name| (*name).to_owned()).collect(),
            inlined: inlined.iter().map(|name| (*name).to_owned()).collect(),
        };
        FunctionTable {
            units: [
                ("a.c".to_owned(), unit(&["f", "probe"], &["g"])),
                ("b.c".to_owned(), unit(&["probe2", "h"], &["inl"])),
                ("s.c".to_owned(), unit(&["__do_sys_read"], &[])),
            ]
            .into(),
        }
    }

    fn check(functions: &[(&str, &str, Option<Doubt>)], expected: &str) {
        let changed = functions
            .iter()
            .map(|(file, name, doubt)| Changed {
                file: (*file).to_owned(),
                name: (*name).to_owned(),
                line: 1,
                doubt: *doubt,
            })
            .collect();
        let found = match look(&changed, &table()) {
            Functions::NotLooked { .. } => "not looked",
            Functions::Skipped { .. } => "skipped",
            Functions::Present { .. } => "present",
            Functions::Absent { .. } => "absent",
            Functions::Unclear { .. } => "unclear",
        };
        assert_eq!(found, expected, "{functions:?}");
    }

    #[test]
    fn a_function_with_code_or_inlined_is_present_and_one_is_enough() {
        check(&[("a.c", "f", None)], "present");
        check(&[("a.c", "g", None)], "present");
        check(&[("a.c", "gone", None), ("a.c", "g", None)], "present");
    }

    #[test]
    fn all_without_code_are_absent() {
        check(&[("a.c", "gone", None)], "absent");
        check(&[("a.c", "gone", None), ("b.c", "gone", None)], "absent");
    }

    #[test]
    fn what_proves_nothing_is_never_absent() {
        check(&[], "unclear");
        // The unit was not looked at.
        check(&[("c.c", "gone", None)], "unclear");
        // Another unit has the name, and may include the file.
        check(&[("a.c", "h", None)], "unclear");
        check(&[("x.h", "gone", None)], "unclear");
        for doubt in [
            Doubt::MadeByMacro,
            Doubt::Renamed,
            Doubt::Short,
            Doubt::Twin,
        ] {
            check(&[("a.c", "gone", Some(doubt))], "unclear");
        }
        check(
            &[("a.c", "gone", None), ("a.c", "short", Some(Doubt::Short))],
            "unclear",
        );
    }

    #[test]
    fn what_headers_and_macros_bring_counts_in_the_units_that_have_it() {
        check(&[("x.h", "inl", None)], "present");
        check(&[("s.c", "read", Some(Doubt::MadeByMacro))], "present");
    }
}
