//! Whether the address of a constant leaves the functions that read it.
//!
//! A constant may be replaced by a private copy only if nothing but code that is replaced with it can
//! ever read it. A unit's object shows every place that names a local constant; from each place in
//! code the address is followed through registers, over branches, into functions of the unit, until
//! it is forgotten. What cannot be followed is a leak.

mod callees;
mod flow;

use std::collections::BTreeSet;
use std::fmt;

use crate::unit::{AtomId, Class, Target, Unit};

/// Who names a constant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct References {
    /// Functions, their unlikely parts among them.
    pub readers: BTreeSet<AtomId>,
    /// Data that holds its address.
    pub holders: BTreeSet<AtomId>,
}

/// Where an address got out of sight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leak {
    /// It is named outside of code and data that could travel.
    Named {
        /// By this.
        by: String,
        /// In this section.
        section: String,
    },
    /// Code lets it out.
    Code {
        /// The function.
        function: String,
        /// Offset of the instruction in it.
        offset: u64,
        /// How.
        how: How,
    },
}

/// How code lets an address out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Compared with something else than itself.
    Compared,
    /// Handed to a function that may keep it.
    Passed(String),
    /// Handed to a function that keeps it where another argument is not null.
    Kept(String, &'static str),
    /// Returned.
    Returned,
    /// Stored in memory.
    Stored,
    /// Used in a way that is not followed.
    Unfollowed(&'static str),
    /// Written through.
    Written,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named { by, section } => write!(f, "its address is held by {by} in {section}"),
            Self::Code {
                function,
                offset,
                how,
            } => {
                match how {
                    How::Compared => f.write_str("its address is compared")?,
                    How::Passed(callee) => write!(f, "its address is passed to {callee}")?,
                    How::Kept(callee, argument) => write!(
                        f,
                        "its address is passed to {callee}, which keeps it where {argument} is not surely null"
                    )?,
                    How::Returned => f.write_str("its address is returned")?,
                    How::Stored => f.write_str("its address is stored in memory")?,
                    How::Unfollowed(what) => write!(f, "its address goes on in {what}")?,
                    How::Written => f.write_str("it is written through its address")?,
                }
                write!(f, " at {function}+{offset:#x}")
            }
        }
    }
}

/// Finds everything in `unit` that names the local constant `object`, and follows its address through
/// the code. `holds` tells that it holds the address of another one that is copied.
pub(super) fn references(unit: &Unit<'_>, object: AtomId, holds: bool) -> Result<References, Leak> {
    let mut found = References::default();
    for section in unit.file.sections() {
        let class = unit.class(section.index);
        for relocation in unit.relocations(section.index, 0, section.size) {
            let Target::Atom { atom, .. } = unit.target(section.index, relocation) else {
                continue;
            };
            if atom != object {
                continue;
            }
            let by = unit.atom_at(section.index, relocation.offset);
            match (class, by) {
                (Class::Ignored, _) => {}
                (Class::Code, Some(reader)) => {
                    found.readers.insert(reader);
                }
                (Class::Data, Some(holder)) if holder == object => {}
                (Class::Data, Some(holder)) => {
                    found.holders.insert(holder);
                }
                (
                    Class::Code
                    | Class::Data
                    | Class::Strings
                    | Class::Constants
                    | Class::Table(_)
                    | Class::OrcAddresses
                    | Class::OrcEntries
                    | Class::Chunks
                    | Class::Init
                    | Class::Fixed,
                    by,
                ) => {
                    return Err(Leak::Named {
                        by: by.map_or_else(
                            || format!("byte {:#x}", relocation.offset),
                            |by| unit.atom(by).name.to_owned(),
                        ),
                        section: section.name.to_owned(),
                    });
                }
            }
        }
    }
    flow::follow(unit, object, holds, &found.readers)?;
    Ok(found)
}
