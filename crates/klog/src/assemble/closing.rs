//! Where a report ends.

use super::{Assembler, Item, Open};
use crate::record::Record;
use crate::report::{Class, Report, Text};

/// Lines a header may come behind the line that says why.
const FORETOLD: usize = 8;
/// Lines that look like no part of a report before it is over.
const PLAIN: u32 = 64;
/// The same behind a line that says it is over.
const PLAIN_ENDED: u32 = 16;
/// printk time without a line of the report before it is over.
const QUIET_US: u64 = 10_000_000;

/// Lines of other callers before a quiet report is over.
const OTHERS: u32 = 256;

/// Room for lines that is kept for the next report.
const ROOMS: usize = 4;

impl Assembler {
    /// The clocks of CPUs differ, and a console mixes old lines with new: where callers are told
    /// apart, it takes some lines of others beside the time.
    pub(super) fn close_quiet(&mut self, record: &Record<'_>, out: &mut Vec<Item>) {
        let Some(now) = record.time_us.filter(|_| !self.is_idle()) else {
            return;
        };
        let quiet = |open: &Open| {
            let late = open
                .last_us
                .is_some_and(|last| now > last.saturating_add(QUIET_US));
            late && (open.report.context == record.context || open.others >= OTHERS)
        };
        while let Some(index) = self.open.iter().position(quiet) {
            self.close(index, out);
        }
        while let Some(index) = self.foretold.iter().position(quiet) {
            self.give_up(index, out);
        }
    }

    pub(super) fn close_full(&mut self, out: &mut Vec<Item>) {
        let limits = self.limits;
        let full = |open: &Open| {
            open.text.all().len() >= limits.lines || open.text.bytes() >= limits.bytes
        };
        let over = |open: &Open| open.plain >= PLAIN_ENDED && (open.ended || open.plain >= PLAIN);
        let due = |open: &Open| full(open) || over(open);
        if self.foretold.is_empty() && !self.open.iter().any(due) {
            return;
        }
        if let Some(index) = self.open.iter().position(full) {
            self.close_cut(index, out);
        }
        if let Some(index) = self.open.iter().position(over) {
            self.close(index, out);
        }
        let late = |open: &Open| open.lines > FORETOLD;
        if let Some(index) = self.foretold.iter().position(late) {
            self.give_up(index, out);
        }
    }

    /// Returns the open reports whose last line said that they are over, each once. They stay open:
    /// what still follows may make them worse.
    pub fn foresee(&mut self) -> Vec<Report> {
        let over = self.open.iter_mut();
        over.filter(|open| open.ended && !open.foreseen)
            .map(|open| {
                open.foreseen = true;
                open.foresee()
            })
            .collect()
    }

    /// No header followed what foretold one: where it says something itself, it is a report.
    fn give_up(&mut self, index: usize, out: &mut Vec<Item>) {
        let open = self.foretold.remove(index);
        if open.header.class == Class::Warn {
            self.give_room(open.text);
        } else {
            self.admit(open, out);
        }
    }

    /// Keeps the room of lines that are needed no more.
    pub(super) fn give_room(&mut self, mut room: Text) {
        if self.rooms.len() < ROOMS {
            room.clear();
            self.rooms.push(room);
        }
    }

    pub(super) fn close_cut(&mut self, index: usize, out: &mut Vec<Item>) {
        if let Some(open) = self.open.get_mut(index) {
            open.report.truncated = true;
        }
        self.close(index, out);
    }

    pub(super) fn close(&mut self, index: usize, out: &mut Vec<Item>) {
        let open = self.open.remove(index);
        self.counts.reports += 1;
        let (mut report, room) = open.finish(self.limits.text);
        self.give_room(room);
        report.first_in_boot = !self.seen_in_boot;
        report.suppressed |= self.suppressed;
        if self.counts.console_lost {
            report.corrupted.get_or_insert("the console was lost");
        }
        self.seen_in_boot = true;
        self.counts.panicked |= report.panicked;
        out.push(Item::Report(Box::new(report)));
    }

    /// Closes what is open: no more lines will come, or none for long enough.
    pub fn close_all(&mut self, out: &mut Vec<Item>) {
        while !self.foretold.is_empty() {
            self.give_up(0, out);
        }
        while !self.open.is_empty() {
            self.close(0, out);
        }
    }
}
