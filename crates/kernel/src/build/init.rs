//! The C file of a module: which functions to redirect, and what the module says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::str::FromStr;

use tuxtape_core::identity::ObjectName;
use tuxtape_livepatch::emit::Emitted;

use super::callbacks::{self, Callback};
use super::{Label, UnitPair};

/// Apart from the facts filled in below, the text compiled into a module is in this file, under the
/// licence it names.
const TEMPLATE: &str = include_str!("../../../../gpl/livepatch.c.in");

/// A livepatch module's name: 1 to 55 of `a-z`, `A-Z`, `0-9` and `_`, as the kernel's livepatch
/// symbol format allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModuleName(String);

/// Why a text is no module name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no module name (want 1 to 55 of a-z, A-Z, 0-9 and _, not beginning with a digit)"
)]
pub struct NotAModuleName(String);

impl FromStr for ModuleName {
    type Err = NotAModuleName;

    fn from_str(text: &str) -> Result<Self, NotAModuleName> {
        let plain = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
        // `livepatch` is the init object's own name in the module's folder.
        if plain && starts && text.len() <= 55 && text != "livepatch" {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAModuleName(text.chars().take(80).collect()))
        }
    }
}

impl ModuleName {
    /// The name as the kernel shows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Writes the C source of the module.
pub(super) fn source(label: &Label, emitted: &[(&UnitPair, Emitted)]) -> String {
    let mut by_object: BTreeMap<&ObjectName, Vec<&Emitted>> = BTreeMap::new();
    for (pair, part) in emitted {
        by_object.entry(&pair.parent).or_default().push(part);
    }
    // The kernel wants one entry per object; one without functions may have callbacks.
    let callbacks = |parts: &[&Emitted]| -> Vec<Callback> {
        let all = parts.iter().map(|part| part.object.as_slice());
        all.flat_map(callbacks::of).collect()
    };
    by_object.retain(|_, parts| {
        let patches = parts.iter().any(|part| !part.functions.is_empty());
        patches || !callbacks(parts).is_empty()
    });
    let (mut declarations, mut functions, mut objects, mut info) =
        (String::new(), String::new(), String::new(), String::new());
    let mut handed_over = String::new();
    let mut names = Vec::new();
    for (number, (object, parts)) in by_object.iter().enumerate() {
        push(
            &mut functions,
            format_args!("static struct klp_func tuxtape_functions_{number}[] = {{\n"),
        );
        for function in parts.iter().flat_map(|part| &part.functions) {
            let (original, replacement) = (&function.original, &function.replacement);
            push(
                &mut declarations,
                format_args!("extern void {replacement}(void);\n"),
            );
            push(
                &mut functions,
                format_args!(
                    "\t{{ .old_name = \"{}\", .new_func = {replacement}, .old_sympos = {} }},\n",
                    original.name, original.position
                ),
            );
            push(
                &mut info,
                format_args!(
                    "MODULE_INFO(tuxtape_func, \"{object}:{},{}\");\n",
                    original.name, original.position
                ),
            );
        }
        functions.push_str("\t{ }\n};\n\n");
        for callback in callbacks(parts) {
            let (field, symbol) = (callback.moment.field(), callback.symbol);
            let answer = callback.moment.answer();
            push(
                &mut declarations,
                format_args!("extern {answer} (*const {symbol})(struct klp_object *);\n"),
            );
            push(
                &mut handed_over,
                format_args!("\ttuxtape_objects[{number}].callbacks.{field} = {symbol};\n"),
            );
            push(
                &mut info,
                format_args!("MODULE_INFO(tuxtape_callback, \"{object}:{field}\");\n"),
            );
        }
        let name = if object.is_vmlinux() {
            "NULL".to_owned()
        } else {
            format!("\"{object}\"")
        };
        push(
            &mut objects,
            format_args!("\t{{ .name = {name}, .funcs = tuxtape_functions_{number} }},\n"),
        );
        names.push(object.to_string());
    }
    push(
        &mut info,
        format_args!("MODULE_INFO(tuxtape_objects, \"{}\");\n", names.join(",")),
    );
    push(
        &mut info,
        format_args!(
            "MODULE_INFO(tuxtape_kernel_build_id, \"{}\");\n",
            label.build_id
        ),
    );
    let namespaces: BTreeSet<&String> = emitted
        .iter()
        .flat_map(|(_, part)| &part.namespaces)
        .collect();
    for namespace in namespaces {
        push(
            &mut info,
            format_args!("MODULE_INFO(import_ns, \"{namespace}\");\n"),
        );
    }
    TEMPLATE
        .replace("@DECLARATIONS@\n", &declarations)
        .replace("@FUNCTIONS@\n", &functions)
        .replace("@OBJECTS@", &objects)
        .replace("@CALLBACKS@", &handed_over)
        .replace("@INFO@\n", &info)
}

fn push(text: &mut String, line: fmt::Arguments<'_>) {
    text.write_fmt(line).expect("a String takes everything");
}
