//! Refuses what would make the kernel branch to where it may not land.

use std::collections::BTreeMap;

use tuxtape_core::identity::ObjectName;
use tuxtape_livepatch::elf::MalformedObject;
use tuxtape_livepatch::emit::{Emitted, PLACEHOLDER};
use tuxtape_livepatch::kallsyms::Parent;
use tuxtape_livepatch::refusal::{Refusal, Rule};
use tuxtape_livepatch::sealed::{self, Sealed};

use super::{Owners, UnitPair};

/// Finds the pointers of all units that an indirect branch may not follow.
pub(super) fn refusals(emitted: &[(&UnitPair, Emitted)], owners: &Owners<'_, '_>) -> Vec<Refusal> {
    if !sealed::is_enforced(owners.vmlinux) {
        return Vec::new();
    }
    let parents = owners.modules.values().chain([owners.vmlinux]);
    let lists: Result<BTreeMap<&ObjectName, Sealed<'_, '_>>, MalformedObject> = parents
        .map(|parent: &Parent<'_>| Ok((parent.object(), Sealed::of(parent)?)))
        .collect();
    let mut refusals = Vec::new();
    for (pair, part) in emitted {
        let mut refuse = |rule, symbol: &str, why: String| {
            refusals.push(Refusal {
                rule,
                unit: pair.unit.clone(),
                symbol: symbol.to_owned(),
                why,
            });
        };
        let lists = match &lists {
            Ok(lists) => lists,
            Err(error) => {
                refuse(Rule::Unknown, &pair.unit, error.to_string());
                continue;
            }
        };
        let names = match sealed::pointers(&part.object) {
            Ok(names) => names,
            Err(error) => {
                refuse(Rule::Unknown, &pair.unit, error.to_string());
                continue;
            }
        };
        for name in &names {
            // A function that another module exports is in no such list: exporting takes its address.
            let (owner, symbol, position) = read(name);
            let list = lists.iter().find(|(object, _)| object.0 == owner);
            if let Some(why) = list.and_then(|(_, list)| list.why(symbol, position)) {
                refuse(
                    Rule::SealedTarget,
                    symbol,
                    format!("its address is taken, and in {owner} it {why}"),
                );
            }
        }
    }
    refusals
}

/// The object, name and position that an undefined symbol of an emitted object stands for.
fn read(name: &str) -> (&str, &str, u32) {
    let placeholder = || {
        let mut parts = name.strip_prefix(PLACEHOLDER)?.splitn(4, '!').skip(1);
        let (owner, position, symbol) = (parts.next()?, parts.next()?, parts.next()?);
        Some((owner, symbol, position.parse().ok()?))
    };
    placeholder().unwrap_or((ObjectName::VMLINUX, name, 0))
}
