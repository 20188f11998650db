//! Which functions of this tree a judged diff changes.

use std::collections::BTreeSet;

use tuxtape_core::applicability::carried::{Found, Reach};
use tuxtape_core::applicability::content::Functions;
use tuxtape_core::applicability::function::{self, Changed, Doubt};
use tuxtape_core::ctext::{self, FunctionExtent};
use tuxtape_core::profile::functions::FunctionTable;

use super::judged::Judged;
use super::tree::{File, Tree};

/// Fewest lines of code of a function, head and braces too, of which something is left when it is
/// inlined.
const SHORT: usize = 8;

/// Looks up the functions that the diff changes, as this tree has them.
pub(super) fn look(judged: &Judged, tree: &Tree, table: &FunctionTable) -> Functions {
    if let Some(path) = judged.unjudged.first() {
        return Functions::Skipped {
            why: format!("{path} is changed, too"),
        };
    }
    if judged.is_part {
        return unclear("the diff is only a part of the fix");
    }
    let mut changed = BTreeSet::new();
    for (judged, block) in judged.counting() {
        let found = judged
            .tree_path
            .as_ref()
            .filter(|_| !judged.is_namesake)
            .and_then(|path| Some((path, tree.file(path).ok()??)));
        let Some((path, file)) = found else {
            return unclear(&format!("{} is not in this tree", judged.path));
        };
        let extent = match (block.reach, block.found) {
            (Reach::NewFunctions, _) => continue,
            (Reach::Outside, _) => {
                let why = format!("{path} is changed outside of functions");
                return Functions::Skipped { why };
            }
            (Reach::Function, _) => block.line.and_then(|line| file.source.function_at(line)),
            // Comments alone.
            (Reach::Unknown, Found::Nothing) if block.sample.is_empty() => continue,
            (Reach::Unknown, _) => None,
        };
        let Some(extent) = extent else {
            return unclear(&format!("a change of {path} was not found in this tree"));
        };
        changed.insert(Changed {
            file: path.clone(),
            name: extent.name.clone(),
            line: extent.first_line,
            doubt: doubt(extent, &file),
        });
    }
    function::look(&changed, table)
}

fn unclear(why: &str) -> Functions {
    Functions::Unclear {
        why: why.to_owned(),
    }
}

/// Says why the absence of a function from the object would prove nothing.
fn doubt(extent: &FunctionExtent, file: &File) -> Option<Doubt> {
    if extent.via.is_some() {
        return Some(Doubt::MadeByMacro);
    }
    let define = |line: &str| {
        line.trim_start()
            .strip_prefix('#')
            .map(str::trim_start)
            .and_then(|line| line.strip_prefix("define"))
            .and_then(|rest| {
                rest.trim_start()
                    .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .next()
            })
            .is_some_and(|name| name == extent.name)
    };
    if file.text.lines().any(define) {
        return Some(Doubt::Renamed);
    }
    let body = body(extent, file);
    if body.len() < SHORT {
        return Some(Doubt::Short);
    }
    let is_twin = |other: &&FunctionExtent| {
        other.name != extent.name && self::body(other, file).get(1..) == body.get(1..)
    };
    if file.source.functions().iter().any(|other| is_twin(&other)) {
        return Some(Doubt::Twin);
    }
    None
}

/// Returns the lines of code of a function.
fn body<'a>(extent: &FunctionExtent, file: &'a File) -> Vec<&'a str> {
    let lines: &'a [ctext::CodeLine] = file.source.lines();
    let first = lines.partition_point(|line| line.number < extent.first_line);
    let end = lines.partition_point(|line| line.number <= extent.last_line);
    lines
        .get(first..end)
        .unwrap_or_default()
        .iter()
        .map(|line| line.code.as_str())
        .collect()
}
