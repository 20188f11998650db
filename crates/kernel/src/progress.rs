//! What long work says of itself while it runs.

use std::time::Duration;

/// One thing worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A step begins.
    Started {
        /// Its name, lower case.
        step: &'static str,
    },
    /// A step ended well.
    Ended {
        /// Its name.
        step: &'static str,
        /// How long it took.
        took: Duration,
    },
    /// A step was not needed: its result was there.
    Kept {
        /// Its name.
        step: &'static str,
    },
    /// A file was there already, with the right digest.
    Reused {
        /// File name.
        name: String,
    },
    /// A download goes on.
    Bytes {
        /// File name.
        name: String,
        /// Bytes there.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Something a person should know that stops nothing.
    Note {
        /// A sentence.
        text: String,
    },
}

/// Somebody who is told; called from several threads.
pub trait Progress: Sync {
    /// Takes one event; must not block for long.
    fn tell(&self, event: Event);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn tell(&self, _event: Event) {}
}
