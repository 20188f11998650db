//! The count of boots that did not get to their end, and the mark of those that were shut down.
//!
//! `tuxtape-client boot begin` counts early in the boot, `boot complete` says that it got there, `boot
//! end` marks an orderly shutdown. Without them (no service manager calls them) nothing is counted, and
//! the journal's own strikes remain.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tuxtape_sys::slots::{Found, Slots};

use crate::apply::ClientError;
use crate::host::Host;
use crate::reapply::prove;
use crate::state::{State, StateError};

/// Boots in a row that did not complete after which nothing is loaded.
pub const BOOT_LOOP: u32 = 2;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BootCount {
    format: u32,
    /// The boot that counted last.
    boot_id: String,
    /// Whether it got to its end.
    complete: bool,
    /// Boots before it, in a row, that did not.
    unfinished: u32,
}

fn slots(folder: &Path) -> Slots {
    Slots::new(folder, "bootcount")
}

fn read(folder: &Path) -> Result<Option<BootCount>, StateError> {
    let payload = match slots(folder).read()? {
        Found::Record { payload, .. } => payload,
        // A count that is lost starts anew: the journal's strikes remain.
        Found::Nothing | Found::Damaged => return Ok(None),
    };
    let read: Option<BootCount> = serde_json::from_slice(&payload).ok();
    Ok(read.filter(|count| count.format == 1))
}

fn write(folder: &Path, count: &BootCount) -> Result<(), StateError> {
    let bytes = serde_json::to_vec(count).expect("strings and numbers can be written");
    Ok(slots(folder).write(&bytes)?)
}

/// Reads anything as a boot count; for fuzzing.
pub fn fuzz(bytes: &[u8]) {
    drop(serde_json::from_slice::<BootCount>(bytes));
}

/// Returns how many boots in a row before this one did not complete.
pub fn unfinished(folder: &Path, boot_id: &str) -> Result<u32, StateError> {
    let count = read(folder)?.filter(|count| count.boot_id == boot_id);
    Ok(count.map_or(0, |count| count.unfinished))
}

/// Tells whether this boot got to its end.
pub(crate) fn is_complete(folder: &Path, boot_id: &str) -> Result<bool, StateError> {
    let count = read(folder)?.filter(|count| count.boot_id == boot_id);
    Ok(count.is_some_and(|count| count.complete))
}

/// Counts this boot, once, and returns how many before it did not complete.
///
/// That alone speaks against no level: whether one was in the kernel, and new, is in the journal.
pub fn begin(host: &dyn Host, folder: &Path) -> Result<u32, ClientError> {
    let boot_id = host.boot_id()?;
    // Without the lock: nobody else writes the count, and a client at work must not keep a boot from being
    // counted.
    let state = State::look(folder)?;
    let before = read(folder)?;
    if let Some(this) = before.as_ref().filter(|count| count.boot_id == boot_id) {
        return Ok(this.unfinished);
    }
    let unfinished = before.map_or(0, |last| {
        if last.complete || state.was_shut_down(&last.boot_id) {
            0
        } else {
            last.unfinished.saturating_add(1)
        }
    });
    write(
        folder,
        &BootCount {
            format: 1,
            boot_id,
            complete: false,
            unfinished,
        },
    )?;
    Ok(unfinished)
}

/// Notes that this boot got to its end, and with which level.
pub fn complete(host: &dyn Host, folder: &Path) -> Result<(), ClientError> {
    let boot_id = host.boot_id()?;
    let state = State::look(folder)?;
    state.unmark_shut_down(&boot_id);
    let unfinished = unfinished(folder, &boot_id)?;
    write(
        folder,
        &BootCount {
            format: 1,
            boot_id,
            complete: true,
            unfinished,
        },
    )?;
    drop(state);
    match State::open(folder) {
        Ok(mut state) => prove(host, &mut state, &host.kernel()?.build_id),
        // A client at work does that itself when it is done.
        Err(StateError::Busy { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Forgets the boots that did not complete, on a person's word.
pub fn clear(host: &dyn Host, folder: &Path) -> Result<(), ClientError> {
    let boot_id = host.boot_id()?;
    if let Some(count) =
        read(folder)?.filter(|count| count.boot_id == boot_id && count.unfinished > 0)
    {
        write(
            folder,
            &BootCount {
                unfinished: 0,
                ..count
            },
        )?;
    }
    Ok(())
}

/// Marks that this boot ends in order.
pub fn end(host: &dyn Host, folder: &Path) -> Result<(), ClientError> {
    let boot_id = host.boot_id()?;
    // Without the lock: a client that is at work is about to be stopped with the machine.
    Ok(State::look(folder)?.mark_shut_down(&boot_id)?)
}
