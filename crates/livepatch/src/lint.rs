//! What a person must look at: changes that build, load and pass every check, and may still be wrong.
//!
//! A [`Refusal`](crate::refusal::Refusal) says that no module comes out; a [`Finding`] goes beside the
//! module, to whoever reviews it. What is found here is found in the two objects, where inlined helpers
//! and macros are already what they will be in the kernel.

mod calls;
mod code;
mod words;

use std::fmt;

use crate::diff::Comparison;

/// How much a finding asks of a reviewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// A person must look and say that it is right.
    Look,
    /// Worth knowing.
    Note,
}

/// A rule that warns; its slug is what `patch build --json` prints as `rule`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lint {
    /// Code that could not sleep may sleep now.
    Atomic,
    /// The compiler cut other clones of a function than the kernel has.
    ClonesDiffer,
    /// A function on a hot path is redirected, or needs more stack.
    Cost,
    /// A changed header reaches other units than the fix names.
    HeaderReach,
    /// A check of permissions, or a hook of security modules, is added or left out.
    Interface,
    /// Locks, references, RCU or atomic operations are taken, given back or ordered otherwise.
    Locking,
    /// A macro stands for another value than in the code that stays.
    Meaning,
    /// Exports of a namespace are used, which the module imports.
    Namespace,
    /// A patched module must not be loaded anew while the livepatch is in force.
    Reload,
    /// A function goes with the fix and stays in the kernel.
    Removed,
    /// A function that some task may never leave, or that livepatching itself relies on.
    SelfReference,
    /// The address of new code is kept where it may outlive the module.
    StoredPointer,
    /// A system call changes.
    Syscall,
}

impl Lint {
    /// All rules, by slug.
    pub const ALL: [Self; 13] = [
        Self::Atomic,
        Self::ClonesDiffer,
        Self::Cost,
        Self::HeaderReach,
        Self::Interface,
        Self::Locking,
        Self::Meaning,
        Self::Namespace,
        Self::Reload,
        Self::Removed,
        Self::SelfReference,
        Self::StoredPointer,
        Self::Syscall,
    ];

    /// The stable name of the rule.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Atomic => "atomic",
            Self::ClonesDiffer => "clones-differ",
            Self::Cost => "cost",
            Self::HeaderReach => "header-reach",
            Self::Interface => "interface",
            Self::Locking => "locking",
            Self::Meaning => "meaning",
            Self::Namespace => "namespace",
            Self::Reload => "reload",
            Self::Removed => "removed",
            Self::SelfReference => "self-reference",
            Self::StoredPointer => "stored-pointer",
            Self::Syscall => "syscall",
        }
    }

    /// How much it asks of a reviewer.
    pub fn weight(self) -> Weight {
        match self {
            Self::Atomic
            | Self::ClonesDiffer
            | Self::HeaderReach
            | Self::Interface
            | Self::Locking
            | Self::Meaning
            | Self::Reload
            | Self::SelfReference
            | Self::StoredPointer
            | Self::Syscall => Weight::Look,
            Self::Cost | Self::Namespace | Self::Removed => Weight::Note,
        }
    }

    /// Why it matters for a livepatch, in a sentence.
    pub fn why(self) -> &'static str {
        match self {
            Self::Atomic => {
                "a caller that holds a spinlock or runs with preemption off would schedule there"
            }
            Self::ClonesDiffer => {
                "code of the kernel that calls a clone the module lacks goes on in the old version"
            }
            Self::Cost => {
                "every call goes through ftrace's handler first, and stacks of old callers stay as deep as they are"
            }
            Self::Interface => {
                "who may do what changes the moment the module is in force, also for what is open already"
            }
            Self::Locking => {
                "a task that took the lock in the old code gives it back in the new, or the other way round"
            }
            Self::HeaderReach => {
                "what others get from the header is compiled into code that the fix does not name"
            }
            Self::Meaning => {
                "code that stays, and data that lives, go on with the old value next to the new one"
            }
            Self::Namespace => "the module names the namespace by itself, as the kernel asks",
            Self::Reload => {
                "before Linux 6.3 the kernel refuses to load it again: fields it patched are not cleared when it goes"
            }
            Self::Removed => "pointers to it that the kernel keeps go on calling the old code",
            Self::SelfReference => {
                "a task that sleeps in the old code keeps the transition from ending, and livepatching must not redirect what it stands on"
            }
            Self::StoredPointer => {
                "once the module is replaced or taken off, the pointer leads nowhere: the kernel crashes when it is followed"
            }
            Self::Syscall => {
                "programs see the change at once; the entries for 32-bit programs must change with it"
            }
        }
    }

    /// What the reviewer should do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Atomic => "look at every caller, or make the allocation or wait atomic",
            Self::ClonesDiffer => {
                "compare the callers of the clones by `objdump -dr` of both objects"
            }
            Self::Cost => "measure the path under load before the level goes to all",
            Self::Interface => "read the fix against the policy of the fleet",
            Self::Locking => {
                "see that old and new code may meet: the same locks in the same order, each reference given back once"
            }
            Self::HeaderReach => "read the list of units that changed against the fix",
            Self::Meaning => {
                "see that the value is in no structure, file or message that old code reads"
            }
            Self::Namespace => "nothing to do",
            Self::Reload => "take the livepatch off before the module is loaded anew",
            Self::Removed => "see that nothing but code that changes with it called the function",
            Self::SelfReference => {
                "see which tasks sleep there (`cat /proc/PID/stack`), and test the transition under load"
            }
            Self::StoredPointer => {
                "cancel or take back what holds it in an unpatch callback, or never take the module off"
            }
            Self::Syscall => "try it from 64-bit and 32-bit programs",
        }
    }
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// One thing for a person to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The rule.
    pub rule: Lint,
    /// The unit, relative to the kernel tree.
    pub unit: String,
    /// The function or variable, as the kernel calls it.
    pub symbol: String,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} in {}: {}",
            self.rule, self.symbol, self.unit, self.what
        )
    }
}

/// Looks at what a fix changes in one unit; sorted.
pub fn findings(comparison: &Comparison<'_>) -> Vec<Finding> {
    let mut found = Found {
        unit: &comparison.name,
        list: Vec::new(),
    };
    calls::look(comparison, &mut found);
    code::look(comparison, &mut found);
    found.list.sort();
    found.list.dedup();
    found.list
}

/// What was found so far.
struct Found<'run> {
    unit: &'run str,
    list: Vec<Finding>,
}

impl Found<'_> {
    fn note(&mut self, rule: Lint, symbol: &str, what: impl Into<String>) {
        self.list.push(Finding {
            rule,
            unit: self.unit.to_owned(),
            symbol: symbol.to_owned(),
            what: what.into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_listed_once_and_by_their_names() {
        let slugs: Vec<&str> = Lint::ALL.iter().map(|rule| rule.slug()).collect();
        assert!(slugs.is_sorted_by(|left, right| left < right));
    }
}
