//! The symbols of a file: all read at once, or each when it is asked for.

use super::Symbol;
use super::read::Table;

/// The symbols of one file.
#[derive(Debug)]
pub(super) enum Symbols<'data> {
    /// All of them, checked.
    Read(Vec<Symbol<'data>>),
    /// None yet. One that is not proper is not there when it is asked for.
    OnDemand(Table<'data>),
}

impl<'data> Symbols<'data> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Read(symbols) => symbols.len(),
            Self::OnDemand(table) => table.len(),
        }
    }

    /// Those that have been read.
    pub(super) fn read(&self) -> &[Symbol<'data>] {
        match self {
            Self::Read(symbols) => symbols,
            Self::OnDemand(_) => &[],
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Symbol<'data>> {
        match self {
            Self::Read(symbols) => symbols.get(index).copied(),
            Self::OnDemand(table) => table.get(index),
        }
    }

    pub(super) fn name(&self, index: usize) -> Option<&'data str> {
        match self {
            Self::Read(symbols) => symbols.get(index).map(|symbol| symbol.name),
            Self::OnDemand(table) => table.name(index),
        }
    }
}
