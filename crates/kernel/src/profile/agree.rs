//! Whether two profiles of one kernel, learned in different ways, say the same.
//!
//! A way may not know; it may never say the opposite of another.

use std::collections::BTreeSet;
use std::fmt;

use tuxtape_core::applicability::built::{self, Built};
use tuxtape_core::identity::ObjectName;
use tuxtape_core::profile::KernelProfile;

/// Where two profiles say opposite things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contradiction {
    /// One has the file in the kernel, the other rules it out.
    Built {
        /// The file.
        file: String,
        /// The objects it is in, by the profile that has it.
        objects: BTreeSet<ObjectName>,
        /// Whether the first profile is the one that has it.
        first_has_it: bool,
    },
    /// Both have the unit, in different objects.
    Objects {
        /// The unit.
        file: String,
        /// By the first profile.
        first: BTreeSet<ObjectName>,
        /// By the second.
        second: BTreeSet<ObjectName>,
    },
}

/// Answers of two profiles on the same files, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Both have it.
    pub both_built: usize,
    /// Neither has it.
    pub both_not: usize,
    /// The first knows, the second does not.
    pub first_knows: usize,
    /// The second knows, the first does not.
    pub second_knows: usize,
    /// Neither knows.
    pub neither_knows: usize,
    /// Opposite answers; must be empty.
    pub contradictions: Vec<Contradiction>,
}

/// Asks both profiles about each of `files`.
pub fn compare<'a>(
    first: &KernelProfile,
    second: &KernelProfile,
    files: impl IntoIterator<Item = &'a String>,
) -> Agreement {
    let mut agreement = Agreement::default();
    for file in files {
        let name = std::slice::from_ref(file);
        match (built::look(name, first), built::look(name, second)) {
            (Built::Yes { .. }, Built::Yes { .. }) => {
                agreement.both_built += 1;
                agreement
                    .contradictions
                    .extend(objects(file, first, second));
            }
            (Built::No { .. }, Built::No { .. }) => agreement.both_not += 1,
            (Built::Yes { objects, .. }, Built::No { .. }) => {
                agreement.contradictions.push(Contradiction::Built {
                    file: file.clone(),
                    objects,
                    first_has_it: true,
                });
            }
            (Built::No { .. }, Built::Yes { objects, .. }) => {
                agreement.contradictions.push(Contradiction::Built {
                    file: file.clone(),
                    objects,
                    first_has_it: false,
                });
            }
            (Built::Unknown { .. }, Built::Unknown { .. }) => agreement.neither_knows += 1,
            (_, Built::Unknown { .. }) => agreement.first_knows += 1,
            (Built::Unknown { .. }, _) => agreement.second_knows += 1,
        }
    }
    agreement
}

/// Compares the objects of one unit. Of a file that gave code to units, ways see different parts.
fn objects(file: &str, first: &KernelProfile, second: &KernelProfile) -> Option<Contradiction> {
    let (first, second) = (first.units.get(file)?, second.units.get(file)?);
    (first != second).then(|| Contradiction::Objects {
        file: file.to_owned(),
        first: first.clone(),
        second: second.clone(),
    })
}

impl Contradiction {
    /// Returns the file.
    pub fn file(&self) -> &str {
        match self {
            Self::Built { file, .. } | Self::Objects { file, .. } => file,
        }
    }
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |objects: &BTreeSet<ObjectName>| {
            let names: Vec<&str> = objects.iter().map(|name| name.0.as_str()).collect();
            names.join(", ")
        };
        match self {
            Self::Built {
                file,
                objects,
                first_has_it,
            } => {
                let (has, rules_out) = if *first_has_it {
                    ("first", "second")
                } else {
                    ("second", "first")
                };
                write!(
                    f,
                    "{file}: in {} by the {has}, not built by the {rules_out}",
                    names(objects)
                )
            }
            Self::Objects {
                file,
                first,
                second,
            } => write!(
                f,
                "{file}: in {} by the first, in {} by the second",
                names(first),
                names(second)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::small;

    #[test]
    fn not_knowing_is_no_contradiction_and_the_opposite_is() {
        let files = ["lib/x.c".to_owned(), "net/core/dev.c".to_owned()];
        let first = small();
        let mut second = small();
        assert_eq!(compare(&first, &second, &files).contradictions, []);
        second.units.remove("lib/x.c");
        let agreement = compare(&first, &second, &files);
        assert_eq!(
            agreement
                .contradictions
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            ["lib/x.c: in a_b, vmlinux by the first, not built by the second"]
        );
        second
            .sureness
            .blind
            .insert("lib/".to_owned(), "unseen".to_owned());
        let agreement = compare(&first, &second, &files);
        assert_eq!((agreement.first_knows, agreement.both_built), (1, 1));
        assert_eq!(agreement.contradictions, []);
        let mut third = small();
        let objects = third.units.get_mut("lib/x.c").unwrap();
        objects.pop_first();
        assert_eq!(compare(&first, &third, &files).contradictions.len(), 1);
    }
}
