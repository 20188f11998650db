//! Checksums of what units export, against those of the running kernel.

use std::collections::BTreeSet;

use tuxtape_livepatch::refusal::{Refusal, Rule};
use tuxtape_livepatch::symvers::Symvers;

/// Name and checksum of each export of one unit, as its own build makes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checksums {
    /// Of the kernel's own source.
    pub original: Vec<(String, u32)>,
    /// Of the fixed source.
    pub patched: Vec<(String, u32)>,
}

/// What is to be said of one unit's checksums.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The unit was not compiled from what the kernel was.
    pub refusals: Vec<Refusal>,
    /// What a reviewer should know.
    pub warnings: Vec<String>,
}

/// Compares them with the kernel's; `exported` is what the unit exports. Those of the original must be
/// equal: else types are not what they were when the kernel was built.
///
/// With the fix they may differ without a type having changed, where a header tells more of one than
/// before; what a type came to be is for the rules that read debug data. Nothing takes checksums from
/// the fixed source: the module and all others go by the kernel's.
pub(super) fn compare(
    unit: &str,
    exported: &BTreeSet<&str>,
    checksums: &Checksums,
    symvers: &Symvers,
) -> Said {
    let mut said = Said::default();
    for (name, crc) in &checksums.original {
        if let Some(export) = symvers.get(name)
            && export.crc != *crc
        {
            said.refusals.push(Refusal {
                rule: Rule::NotTheKernel,
                unit: unit.to_owned(),
                symbol: name.clone(),
                why: format!(
                    "its checksum is {crc:#010x}, and {:#010x} in Module.symvers: its types are not those that the kernel was built with",
                    export.crc
                ),
            });
        }
    }
    let kernel_has = |name: &&str| symvers.get(name).is_some_and(|export| export.crc != 0);
    if checksums.original.is_empty() && exported.iter().any(kernel_has) {
        said.warnings
            .push("no checksums of its exports could be made, so none were compared".to_owned());
    }
    let differ: Vec<&str> = checksums
        .patched
        .iter()
        .filter(|(name, crc)| {
            let mut before = checksums.original.iter();
            before.any(|(other, old)| other == name && old != crc)
        })
        .map(|(name, _)| name.as_str())
        .collect();
    if let [first, more @ ..] = differ.as_slice() {
        let more = match more.len() {
            0 => String::new(),
            count => format!(" and of {count} more exports"),
        };
        said.warnings.push(format!(
            "the fixed source gives another checksum of {first}{more}, where no type changed; modules go on by the kernel's"
        ));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYMVERS: &[u8] =
        b"0x00000011\tf\tvmlinux\tEXPORT_SYMBOL\t\n0x00000012\tg\tvmlinux\tEXPORT_SYMBOL\t\n";

    fn said(original: &[(&str, u32)], patched: &[(&str, u32)]) -> Said {
        let owned = |list: &[(&str, u32)]| {
            let list = list.iter();
            list.map(|&(name, crc)| (name.to_owned(), crc)).collect()
        };
        let checksums = Checksums {
            original: owned(original),
            patched: owned(patched),
        };
        let exported = BTreeSet::from(["f", "g"]);
        compare(
            "a.c",
            &exported,
            &checksums,
            &Symvers::parse(SYMVERS).unwrap(),
        )
    }

    #[test]
    fn a_unit_with_the_kernels_checksums_is_the_kernels() {
        let same = [("f", 0x11), ("g", 0x12)];
        assert_eq!(said(&same, &same), Said::default());
    }

    #[test]
    fn a_unit_with_another_checksum_is_not_the_kernels() {
        let other = [("f", 0x11), ("g", 0x13)];
        let refusals = said(&other, &other).refusals;
        let found: Vec<_> = refusals
            .iter()
            .map(|refusal| (refusal.rule, refusal.symbol.as_str()))
            .collect();
        assert_eq!(found, [(Rule::NotTheKernel, "g")]);
    }

    #[test]
    fn a_checksum_that_a_fix_changes_is_told() {
        let found = said(&[("f", 0x11), ("g", 0x12)], &[("f", 0x21), ("g", 0x22)]);
        assert_eq!(found.refusals, []);
        assert_eq!(found.warnings.len(), 1);
        assert!(
            found.warnings[0].contains("of f and of 1 more"),
            "{found:?}"
        );
    }

    #[test]
    fn checksums_that_could_not_be_made_are_missed() {
        assert_eq!(said(&[], &[]).warnings.len(), 1);
    }
}
