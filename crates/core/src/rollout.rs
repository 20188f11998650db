//! When a node's turn comes: signed schedules, ranks, and caps.
//!
//! Integers throughout, so that every machine comes to the same answer.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::instant::UtcSeconds;

/// Steps a schedule may have.
pub const STEP_LIMIT: usize = 16;
/// Seconds after the start at which the last step may end: a year.
pub const LAST: u64 = 366 * 86_400;
/// Parts of the fleet that a share is counted in.
pub const WHOLE: u64 = 1_000_000;

/// A rollout schedule, signed with the level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waves {
    /// Nothing opens before this.
    pub start: UtcSeconds,
    /// Nodes look every 10 minutes. Opens nothing early.
    pub urgent: bool,
    /// Steps, rising in time and share.
    pub steps: Vec<Step>,
}

/// One step: the share of nodes ramps in a line from the step before to its own.
///
/// Written as `["name", from, to, permille]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// A word for people.
    pub name: String,
    /// Seconds after the start at which the ramp begins.
    pub from: u64,
    /// Seconds after the start at which the share is reached.
    pub to: u64,
    /// Share of the fleet in thousandths.
    pub permille: u32,
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.name, self.from, self.to, self.permille).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (name, from, to, permille) = <(String, u64, u64, u32)>::deserialize(deserializer)?;
        if name.len() > 32 {
            return Err(D::Error::custom("a step's name has more than 32 bytes"));
        }
        Ok(Self {
            name,
            from,
            to,
            permille,
        })
    }
}

/// Why a schedule is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WavesError {
    /// No step, or too many.
    #[error("a schedule has 1 to {STEP_LIMIT} steps, this one has {0}")]
    Steps(usize),
    /// A step without a name.
    #[error("step {0} has no name, or one with other than letters, digits and '-'")]
    Name(usize),
    /// A step that ends before it begins.
    #[error("step {0:?} ends before it begins")]
    Backwards(String),
    /// A step that begins before the one before it has ended.
    #[error("step {0:?} begins before the step before it has ended")]
    Overlap(String),
    /// A share that does not rise.
    #[error("the share of step {0:?} does not rise")]
    Share(String),
    /// A share over the whole.
    #[error("the share of step {0:?} is more than 1000 thousandths")]
    Whole(String),
    /// Too late.
    #[error("step {0:?} ends more than a year after the start")]
    Late(String),
}

impl Waves {
    /// Returns the schedule for ordinary levels: days, so that trouble shows before most have it.
    pub fn normal(start: UtcSeconds) -> Self {
        let steps = [
            ("canary", 0, 0, 10),
            ("early", 14_400, 28_800, 100),
            ("half", 86_400, 129_600, 400),
            ("all", 172_800, 259_200, 1000),
        ];
        Self::of(start, false, &steps)
    }

    /// Returns the schedule for levels that cannot wait: hours.
    pub fn urgent(start: UtcSeconds) -> Self {
        let steps = [
            ("canary", 0, 0, 10),
            ("early", 3600, 7200, 200),
            ("all", 10_800, 21_600, 1000),
        ];
        Self::of(start, true, &steps)
    }

    fn of(start: UtcSeconds, urgent: bool, steps: &[(&str, u64, u64, u32)]) -> Self {
        let step = |&(name, from, to, permille): &(&str, u64, u64, u32)| Step {
            name: name.to_owned(),
            from,
            to,
            permille,
        };
        Self {
            start,
            urgent,
            steps: steps.iter().map(step).collect(),
        }
    }

    /// Checks that time and share rise and stay within bounds.
    pub fn check(&self) -> Result<(), WavesError> {
        if self.steps.is_empty() || self.steps.len() > STEP_LIMIT {
            return Err(WavesError::Steps(self.steps.len()));
        }
        let (mut ended, mut share) = (0, 0);
        for (at, step) in self.steps.iter().enumerate() {
            let name = || step.name.clone();
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            if step.name.is_empty() || step.name.len() > 32 || !step.name.bytes().all(plain) {
                return Err(WavesError::Name(at + 1));
            }
            if step.to < step.from {
                return Err(WavesError::Backwards(name()));
            }
            if step.from < ended {
                return Err(WavesError::Overlap(name()));
            }
            if step.permille <= share {
                return Err(WavesError::Share(name()));
            }
            if step.permille > 1000 {
                return Err(WavesError::Whole(name()));
            }
            if step.to > LAST {
                return Err(WavesError::Late(name()));
            }
            (ended, share) = (step.to, step.permille);
        }
        Ok(())
    }

    /// Returns the share that is open at `now`, in millionths, rounded down; 0 for a schedule that
    /// does not pass [`Waves::check`].
    pub fn open_ppm(&self, now: UtcSeconds) -> u64 {
        if self.check().is_err() || now < self.start {
            return 0;
        }
        let after = now.since(self.start);
        let mut before: u64 = 0;
        for step in &self.steps {
            let share = u64::from(step.permille) * 1000;
            if after < step.from {
                return before;
            }
            if after < step.to {
                // Below 10^6 times a year: far from the end of 64 bits.
                return before + (share - before) * (after - step.from) / (step.to - step.from);
            }
            before = share;
        }
        before
    }
}

/// A machine, as ranks are computed for it; never sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Node([u8; 32]);

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Node(..)")
    }
}

impl Node {
    /// Takes `/etc/machine-id`: 32 hexadecimal digits. `None` when it is not that, or all zero.
    pub fn from_machine_id(text: &str) -> Option<Self> {
        let digits: &[u8; 32] = text.trim_end().as_bytes().try_into().ok()?;
        let mut key = [0; 16];
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
        }
        (key != [0; 16]).then(|| Self(hmac(&key, b"tuxtape rank v1")))
    }

    /// Returns the node's place in the queue for the module with this digest.
    ///
    /// The digest is in it so that each level has another order.
    pub fn rank(&self, module: &[u8; 32]) -> Rank {
        let mut hash = Sha256::new();
        hash.update(module);
        hash.update([0]);
        hash.update(self.0);
        let digest: [u8; 32] = hash.finalize().into();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        Rank(u64::from_be_bytes(first))
    }
}

/// A node's place in the queue for one level: uniform over 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(pub u64);

impl Rank {
    /// Tells whether a share of `ppm` millionths reaches this rank.
    pub fn is_within(self, ppm: u64) -> bool {
        u128::from(self.0) * u128::from(WHOLE) < u128::from(ppm) << 64
    }

    /// Returns when `waves` reaches this rank with no cap, by halving; `None` when it never does.
    pub fn opens(self, waves: &Waves) -> Option<UtcSeconds> {
        let last = waves.steps.last()?.to;
        let open = |after: u64| self.is_within(waves.open_ppm(waves.start.plus(after)));
        if !open(last) {
            return None;
        }
        let (mut low, mut high) = (0, last);
        while low < high {
            let middle = low + (high - low) / 2;
            if open(middle) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(waves.start.plus(low))
    }
}

/// HMAC-SHA256 (RFC 2104) with a key of at most one block.
fn hmac(key: &[u8; 16], message: &[u8]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; 64];
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
        block
    };
    let inner = Sha256::new_with_prefix(pad(0x36)).chain_update(message);
    let outer = Sha256::new_with_prefix(pad(0x5c)).chain_update(inner.finalize());
    outer.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UtcSeconds = UtcSeconds::EPOCH;

    fn node() -> Node {
        Node::from_machine_id("0123456789abcdef0123456789abcdef\n").unwrap()
    }

    #[test]
    fn the_golden_vectors_hold() {
        let first = [0x71, 0x62, 0x68, 0xe4, 0x42, 0x50, 0x2e, 0xeb];
        let last = [0xea, 0xc4, 0x4e, 0x13, 0xe4, 0xc3, 0xe4, 0xc4];
        assert_eq!((&node().0[..8], &node().0[24..]), (&first[..], &last[..]));
        let waves = Waves::normal(START.plus(1000));
        for (digest, rank, opens) in [
            (0x00, 0xa8dc_06ee_6a3d_254e, 210_184),
            (0x11, 0x6e14_367c_6be6_3a69, 177_120),
            (0xff, 0x5ae5_483c_a6e6_703d, 123_129),
        ] {
            let found = node().rank(&[digest; 32]);
            assert_eq!(found, Rank(rank));
            assert_eq!(found.opens(&waves), Some(START.plus(1000 + opens)));
        }
        let ppm = |after: i64| waves.open_ppm(START.plus(u64::try_from(1000 + after).unwrap()));
        let times = [-1, 0, 14_400, 21_600, 28_799, 100_000, 216_000, 259_200];
        let shares = [
            0, 10_000, 10_000, 55_000, 99_993, 194_444, 700_000, 1_000_000,
        ];
        assert_eq!(times.map(ppm), shares);
    }

    #[test]
    fn a_malformed_schedule_is_refused_and_opens_to_nobody() {
        type Change = fn(&mut Waves);
        let check = |change: Change, wanted: &str| {
            let mut waves = Waves::normal(START);
            change(&mut waves);
            let error = waves.check().unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
            assert_eq!(waves.open_ppm(START.plus(LAST)), 0, "{error}");
        };
        check(|w| w.steps.clear(), "1 to 16 steps, this one has 0");
        check(
            |w| w.steps = vec![w.steps[0].clone(); 17],
            "this one has 17",
        );
        check(|w| w.steps[1].to = 0, "\"early\" ends before it begins");
        check(|w| w.steps[2].from = 28_799, "\"half\" begins before");
        check(|w| w.steps[2].permille = 100, "\"half\" does not rise");
        check(|w| w.steps[0].permille = 0, "\"canary\" does not rise");
        check(|w| w.steps[3].permille = 1001, "more than 1000");
        check(|w| w.steps[3].to = u64::MAX, "more than a year");
        check(|w| w.steps[0].name = "a b".to_owned(), "step 1 has no name");
    }

    #[test]
    fn a_step_is_a_list_of_four() {
        let text = r#"["canary",0,5,10]"#;
        let step: Step = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&step).unwrap(), text);
        for bad in [
            r#"["canary",0,5]"#,
            r#"["canary",0,5,10,1]"#,
            r#"["a",-1,5,10]"#,
        ] {
            assert!(serde_json::from_str::<Step>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_share_never_falls_and_reaches_all() {
        for waves in [Waves::normal(START), Waves::urgent(START)] {
            assert_eq!(waves.check(), Ok(()));
            let mut before = 0;
            for after in (0..300_000).step_by(37) {
                let ppm = waves.open_ppm(START.plus(after));
                assert!(ppm >= before, "{after}");
                before = ppm;
            }
            assert_eq!(before, WHOLE);
            assert!(Rank(u64::MAX).is_within(before));
            assert!(!Rank(0).is_within(0), "a cap of 0 stops the first, too");
        }
    }

    #[test]
    fn a_machine_id_that_is_none_has_no_rank() {
        for bad in [
            "",
            "0123",
            "uninitialized",
            &"0".repeat(32),
            &"g".repeat(32),
        ] {
            assert_eq!(Node::from_machine_id(bad), None, "{bad}");
        }
    }
}
