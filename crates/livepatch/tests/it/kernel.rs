//! A kernel that the units of these tests belong to.

use std::collections::BTreeSet;

use tuxtape_core::identity::ObjectName;
use tuxtape_livepatch::diff::{Comparison, compare};
use tuxtape_livepatch::emit::{EmitError, Emitted, KernelSymbol, Outside, Surroundings, emit};
use tuxtape_livepatch::refusal::Rule;
use tuxtape_livepatch::tables::layout_for;

use crate::compiler::compile;

/// What every unit begins with: the kernel's words, and symbols of other units.
pub(crate) const PRELUDE: &str = r#"
#define noinline __attribute__((noinline, noclone))
#define notrace __attribute__((no_instrument_function))
#define __init __attribute__((section(".init.text"), cold))
extern void exported(const char *text, int number);
extern void private(int number);
extern void of_module(int number);
extern void nowhere(int number);
extern void bad(int number) __attribute__((cold));
"#;

/// The kernel image, or a module, that the unit was linked into.
#[derive(Debug)]
pub(crate) struct Kernel {
    parent: ObjectName,
}

impl Kernel {
    pub(crate) fn vmlinux() -> Self {
        Self {
            parent: ObjectName(ObjectName::VMLINUX.to_owned()),
        }
    }
}

impl Surroundings for Kernel {
    fn parent(&self) -> &ObjectName {
        &self.parent
    }

    fn own(&self, name: &str) -> Option<KernelSymbol> {
        // Every second symbol of this kernel has a namesake before it.
        let position = if name.contains("twin") { 2 } else { 0 };
        Some(KernelSymbol {
            name: name.to_owned(),
            position,
        })
    }

    fn exports(&self, name: &str) -> bool {
        name.starts_with("exported")
    }

    fn outside(&self, name: &str) -> Outside {
        match name {
            "__fentry__" | "exported" => Outside::Exported { namespace: None },
            "spaced" => Outside::Exported {
                namespace: Some("SPACE".to_owned()),
            },
            "private" | "bad" => Outside::Parent { position: 0 },
            "of_module" => Outside::Module {
                module: ObjectName("other".to_owned()),
                position: 0,
            },
            _ => Outside::Unreachable("is defined nowhere".to_owned()),
        }
    }
}

/// Two versions of a unit.
#[derive(Debug)]
pub(crate) struct Pair {
    original: Vec<u8>,
    patched: Vec<u8>,
}

impl Pair {
    /// Compiles both; `None`, said aloud, where there is no gcc.
    pub(crate) fn of(before: &str, after: &str) -> Option<Self> {
        Self::compiled(before, after, &[])
    }

    /// Compiles both with `more` flags.
    pub(crate) fn compiled(before: &str, after: &str, more: &[&str]) -> Option<Self> {
        Some(Self {
            original: compile(&format!("{PRELUDE}{before}"), more)?,
            patched: compile(&format!("{PRELUDE}{after}"), more)?,
        })
    }

    pub(crate) fn original(&self) -> &[u8] {
        &self.original
    }

    pub(crate) fn patched(&self) -> &[u8] {
        &self.patched
    }

    pub(crate) fn compared(&self) -> Comparison<'_> {
        let tables = layout_for(6, 1).expect("the tables of 6.1 are known");
        compare("unit.c", &self.original, &self.patched, tables).expect("gcc writes units")
    }

    pub(crate) fn emitted(&self) -> Emitted {
        emit(&self.compared(), &Kernel::vmlinux(), "0").expect("nothing is refused")
    }

    /// Rules that refuse, with the symbol each names.
    pub(crate) fn refused(&self) -> BTreeSet<(Rule, String)> {
        match emit(&self.compared(), &Kernel::vmlinux(), "0") {
            Ok(_) => BTreeSet::new(),
            Err(EmitError::Refused(refusals)) => refusals
                .into_iter()
                .map(|refusal| (refusal.rule, refusal.symbol))
                .collect(),
            Err(error @ EmitError::Write(_)) => panic!("{error}"),
        }
    }
}

/// Names of everything that travels.
pub(crate) fn travelling<'run>(comparison: &'run Comparison<'_>) -> Vec<&'run str> {
    comparison
        .travels
        .iter()
        .map(|&id| comparison.patched.atom(id).name)
        .collect()
}
