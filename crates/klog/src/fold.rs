//! A flood of one report is told once, and then how often.

use std::collections::HashMap;

/// Fingerprints remembered; the one not seen for longest is forgotten.
const LIMIT: usize = 1024;
/// printk time between two lines of one fingerprint.
const EVERY_US: u64 = 60_000_000;

/// Counts reports by fingerprint.
#[derive(Debug, Default)]
pub struct Fold {
    seen: HashMap<String, Seen>,
    clock: u64,
}

#[derive(Debug)]
struct Seen {
    count: u64,
    told: u64,
    told_us: Option<u64>,
    last: u64,
}

/// Whether to tell of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Tell, with this count.
    Now(u64),
    /// It was told of lately.
    Later,
}

impl Fold {
    /// Counts a report.
    pub fn add(&mut self, fingerprint: &str, time_us: Option<u64>) -> Told {
        self.clock += 1;
        if let Some(seen) = self.seen.get_mut(fingerprint) {
            seen.count += 1;
            seen.last = self.clock;
            let due = match (seen.told_us, time_us) {
                (Some(told), Some(now)) => now >= told.saturating_add(EVERY_US),
                _ => false,
            };
            if !due {
                return Told::Later;
            }
            seen.told = seen.count;
            seen.told_us = time_us;
            return Told::Now(seen.count);
        }
        if self.seen.len() >= LIMIT {
            let oldest = self.seen.iter().min_by_key(|(_, seen)| seen.last);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.seen.remove(&oldest);
            }
        }
        self.seen.insert(
            fingerprint.to_owned(),
            Seen {
                count: 1,
                told: 1,
                told_us: time_us,
                last: self.clock,
            },
        );
        Told::Now(1)
    }

    /// Returns fingerprints whose count grew since they were told of, with the counts, sorted.
    pub fn untold(&self) -> Vec<(String, u64)> {
        let mut all: Vec<(String, u64)> = self
            .seen
            .iter()
            .filter(|(_, seen)| seen.count > seen.told)
            .map(|(name, seen)| (name.clone(), seen.count))
            .collect();
        all.sort();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_a_minute_and_counted_to_the_end() {
        let mut fold = Fold::default();
        let told: Vec<u64> = (0..200_u64)
            .filter_map(|second| match fold.add("a", Some(second * 1_000_000)) {
                Told::Now(count) => Some(count),
                Told::Later => None,
            })
            .collect();
        assert_eq!(told, [1, 61, 121, 181]);
        assert_eq!(fold.untold(), [("a".to_owned(), 200)]);
        assert_eq!(fold.add("b", None), Told::Now(1));
    }

    #[test]
    fn fingerprints_are_bounded() {
        let mut fold = Fold::default();
        for number in 0..LIMIT * 3 {
            fold.add(&number.to_string(), None);
        }
        assert_eq!(fold.seen.len(), LIMIT);
    }
}
