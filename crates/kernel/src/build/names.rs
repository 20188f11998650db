//! What a unit's symbols are called in the kernel that runs.

use std::collections::{BTreeMap, BTreeSet};

use tuxtape_core::identity::ObjectName;
use tuxtape_livepatch::emit::{KernelSymbol, Outside, Surroundings};
use tuxtape_livepatch::ground_truth::UnitMap;
use tuxtape_livepatch::kallsyms::Parent;
use tuxtape_livepatch::symvers::{Export, Symvers};
use tuxtape_sys::map::Map;

use super::parents::{self, DebugModules};

/// One unit's surroundings, read from debug files and the list of exports.
pub(super) struct Names<'run> {
    pub(super) parent: &'run Parent<'run>,
    pub(super) vmlinux: &'run Parent<'run>,
    pub(super) symvers: &'run Symvers,
    /// Debug files of all modules.
    pub(super) modules: &'run DebugModules,
    /// New global symbols of all units of the fix.
    pub(super) brought: &'run BTreeSet<&'run str>,
    /// Symbols that the fix makes global, with the object and position they have in the kernel.
    pub(super) opened: &'run BTreeMap<&'run str, (&'run ObjectName, u32)>,
    pub(super) map: &'run UnitMap,
}

impl Names<'_> {
    fn exported_by_vmlinux(&self, name: &str) -> Option<&Export> {
        self.symvers
            .get(name)
            .filter(|export| export.object.is_vmlinux())
    }
}

fn global_position(parent: &Parent<'_>, name: &str) -> Option<u32> {
    parent.sympos(parent.global(name)?.index)
}

/// Position of an export in its module: units of the module may have local symbols of that name.
fn position_in(modules: &DebugModules, module: &ObjectName, name: &str) -> Option<u32> {
    let map = Map::open(modules.path(module).ok()?).ok()?;
    let exporter = parents::parent(module.clone(), &map).ok()?;
    global_position(&exporter, name)
}

impl Surroundings for Names<'_> {
    fn parent(&self) -> &ObjectName {
        self.parent.object()
    }

    fn own(&self, name: &str) -> Option<KernelSymbol> {
        let found = self.map.symbols.get(name)?;
        Some(KernelSymbol {
            name: found.name.clone(),
            position: found.sympos?,
        })
    }

    fn exports(&self, name: &str) -> bool {
        self.parent.object().is_vmlinux()
            && self
                .exported_by_vmlinux(name)
                .is_some_and(|export| export.namespace.is_none())
    }

    fn outside(&self, name: &str) -> Outside {
        let parent = self.parent.object();
        if !parent.is_vmlinux()
            && let Some(position) = global_position(self.parent, name)
        {
            return Outside::Parent { position };
        }
        if let Some(export) = self.exported_by_vmlinux(name) {
            return Outside::Exported {
                namespace: export.namespace.clone(),
            };
        }
        if parent.is_vmlinux()
            && let Some(position) = global_position(self.vmlinux, name)
        {
            return Outside::Parent { position };
        }
        if let Some((owner, position)) = self.opened.get(name)
            && *owner == parent
        {
            return Outside::Parent {
                position: *position,
            };
        }
        if self.brought.contains(name) {
            return Outside::Candidate;
        }
        match self.symvers.get(name) {
            Some(export) if !parent.is_vmlinux() => {
                match position_in(self.modules, &export.object, name) {
                    Some(position) => Outside::Module {
                        module: export.object.clone(),
                        position,
                    },
                    None => Outside::Unreachable(format!(
                        "is exported by module {}, whose debug file does not show where",
                        export.object
                    )),
                }
            }
            Some(export) => Outside::Unreachable(format!(
                "belongs to module {}, which {parent} cannot use",
                export.object
            )),
            None if self.vmlinux.global(name).is_some() => {
                Outside::Unreachable(format!("is private to vmlinux, and {parent} is a module"))
            }
            None => Outside::Unreachable("is defined nowhere".to_owned()),
        }
    }
}
