//! When to try again what could not be delivered.

use crate::instant::UtcSeconds;

/// Waits after each failed attempt, in seconds: 1, 5 and 30 minutes, 2 hours, then every 12 hours for
/// 3 days. A mail server that is down over a weekend loses nothing, and is not hammered.
const WAITS: [u64; 10] = [
    60, 300, 1_800, 7_200, 43_200, 43_200, 43_200, 43_200, 43_200, 43_200,
];

/// A place between 0 and 1, in parts of 65,536, that keeps many senders from trying at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Jitter(pub u16);

impl Jitter {
    /// Derives the place from what is sent, where, and for which time: the same always gives the same.
    pub fn of(key: &str, channel: &str, tries: u32) -> Self {
        // FNV-1a: it only has to spread.
        let bytes = key.bytes().chain([0]).chain(channel.bytes());
        let hash = bytes
            .chain(tries.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let [high, low, ..] = hash.to_be_bytes();
        Self(u16::from_be_bytes([high, low]))
    }
}

/// Says when to try again after `tries` attempts have failed, the last one at `now`; `None` when it is
/// time to give up.
///
/// Jitter adds up to a quarter of the wait.
pub fn next_try(tries: u32, now: UtcSeconds, jitter: Jitter) -> Option<UtcSeconds> {
    let last = usize::try_from(tries).ok()?.checked_sub(1);
    // Nothing failed yet: there is nothing to wait for.
    let Some(last) = last else {
        return Some(now);
    };
    let wait = WAITS.get(last)?;
    Some(now.plus(wait + wait / 4 * u64::from(jitter.0) / 65_536))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UtcSeconds = UtcSeconds::EPOCH;

    #[test]
    fn waits_grow_and_end() {
        let waits: Vec<u64> = (0..)
            .map_while(|tries| next_try(tries, NOW, Jitter(0)))
            .map(|at| at.since(NOW))
            .collect();
        assert_eq!(waits.len(), WAITS.len() + 1);
        assert!(waits.is_sorted(), "{waits:?}");
        let days = waits.iter().sum::<u64>() / 86_400;
        assert_eq!(days, 3);
        assert_eq!(next_try(u32::MAX, NOW, Jitter(0)), None);
    }

    #[test]
    fn jitter_only_adds_and_at_most_a_quarter() {
        for tries in 1..=10 {
            let at = |jitter| next_try(tries, NOW, Jitter(jitter)).unwrap().since(NOW);
            let (least, most) = (at(0), at(u16::MAX));
            assert!(at(1 << 15) >= least && most > at(1 << 15), "{tries}");
            assert!(most <= least + least / 4, "{tries}: {least} to {most}");
        }
    }

    #[test]
    fn jitter_spreads() {
        let places: Vec<u16> = (0..64)
            .map(|number| Jitter::of(&format!("urgent/CVE-2024-{number:04}"), "ops", 1).0)
            .collect();
        let low = places.iter().filter(|place| **place < 1 << 15).count();
        assert!((16..=48).contains(&low), "{places:?}");
        assert_ne!(Jitter::of("a", "bc", 1), Jitter::of("ab", "c", 1));
    }
}
