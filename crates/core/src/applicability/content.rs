//! What a look at one kernel's source and symbols found about one fix.
//!
//! Facts alone: who looks gathers them, [`Bench::judge_with`](super::Bench::judge_with) weighs them.

use std::collections::BTreeMap;

use super::Gap;

/// What was found about the fix of one CVE in one kernel. [`Content::default`] says that nobody looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Whether the source holds the fix.
    pub carried: Carried,
    /// Whether the functions that the fix changes left code.
    pub functions: Functions,
    /// Why the source that could be looked into is not the kernel's: a file of the fix was changed since.
    pub changed: Option<String>,
    /// Files of the fix that this tree does not have, each with the one file in which the fix's code
    /// was found instead.
    pub moved: BTreeMap<String, String>,
    /// Whether nodes have the object loaded or could load it, for people. Never decides a verdict.
    pub loaded: Option<String>,
}

/// Whether a kernel's source holds a fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// Nobody could look.
    NotLooked {
        /// What is missing: [`Gap::NoFixDiff`] or [`Gap::NoSource`].
        gap: Gap,
        /// The same for people.
        why: String,
    },
    /// All of it is there, and nothing of what it replaced.
    Yes(Seen),
    /// What it replaces is there, and nothing of it.
    No(Seen),
    /// Some of both, or neither.
    Partial(Seen),
}

/// What was seen of a fix in a source tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Where the decisive diff came from.
    pub origin: String,
    /// One line for people per place looked at, which `grep` can check.
    pub places: Vec<String>,
    /// What does not decide and is worth a look: a line of the changelog, another diff that differs.
    pub hints: Vec<String>,
}

/// Whether the functions that a fix changes left code in a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Functions {
    /// Nobody could look.
    NotLooked {
        /// What is missing: [`Gap::NoFixDiff`], [`Gap::NoSource`] or [`Gap::NoSymbols`].
        gap: Gap,
        /// The same for people.
        why: String,
    },
    /// The fix does not change functions alone, so that functions decide nothing.
    Skipped {
        /// What else it changes.
        why: String,
    },
    /// At least one left code, of its own or inlined into another function.
    Present {
        /// Each with where it was found.
        functions: Vec<String>,
    },
    /// All of them are in the source, and none left code in the unit of its file.
    Absent {
        /// Each with where its source is.
        functions: Vec<String>,
    },
    /// None was found, which proves nothing.
    Unclear {
        /// Why not.
        why: String,
    },
}

impl Default for Carried {
    fn default() -> Self {
        Self::NotLooked {
            gap: Gap::NoFixDiff,
            why: "no diff of the fix is at hand".to_owned(),
        }
    }
}

impl Default for Functions {
    fn default() -> Self {
        Self::NotLooked {
            gap: Gap::NoFixDiff,
            why: "no diff of the fix is at hand".to_owned(),
        }
    }
}

impl Carried {
    /// Says what was found, for people.
    pub fn found(&self) -> String {
        match self {
            Self::NotLooked { gap, why } => format!(
                "not looked at ({}): {why}; a fix that the distribution added cannot be seen",
                gap.as_str()
            ),
            Self::Yes(seen) => seen.told("the source holds the fix"),
            Self::No(seen) => seen.told("the source holds what the fix replaces"),
            Self::Partial(seen) => {
                seen.told("the source holds the fix neither whole nor not at all")
            }
        }
    }
}

impl Seen {
    fn told(&self, what: &str) -> String {
        const SHOWN: usize = 6;
        let mut parts: Vec<&str> = self.hints.iter().map(String::as_str).collect();
        parts.extend(self.places.iter().take(SHOWN).map(String::as_str));
        let more = match self.places.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!("; and {more} more places"),
        };
        format!("{what} ({}): {}{more}", self.origin, parts.join("; "))
    }
}

impl Functions {
    /// Says what was found, for people.
    pub fn found(&self) -> String {
        match self {
            Self::NotLooked { gap, why } => format!("not looked at ({}): {why}", gap.as_str()),
            Self::Skipped { why } => format!("decides nothing: {why}"),
            Self::Present { functions } => format!("in the object: {}", functions.join("; ")),
            Self::Absent { functions } => {
                format!("in the source, without code: {}", functions.join("; "))
            }
            Self::Unclear { why } => format!("not found, which proves nothing: {why}"),
        }
    }
}
