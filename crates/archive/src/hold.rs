//! The stop button: what the role `hold` says.
//!
//! Its key is online, so it may only take away: a cap lowers the share of nodes that may load a level
//! anew. It never opens a level early, names no level into being, and unloads nothing.

use serde::{Deserialize, Serialize};
use tuxtape_core::rollout::Waves;

use crate::metadata::Targets;
use crate::time::UtcSeconds;
use crate::words::one_line;

/// Name of the role.
pub const ROLE: &str = "hold";
/// The one path pattern it may sign for; no target of ours has such a name.
pub const PATTERN: &str = "hold__*";
/// The format this code writes and reads.
pub const FORMAT: u32 = 1;
/// Caps one file may carry.
const CAP_LIMIT: usize = 256;

/// Body of the field `tuxtape_hold`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caps {
    /// Always [`FORMAT`].
    pub format: u32,
    /// When it was last changed.
    pub created: UtcSeconds,
    /// Nothing at all may be loaded anew.
    pub stop: bool,
    /// Why nothing may, for people; only beside a stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<String>,
    /// Caps, at most one for a target.
    pub caps: Vec<Cap>,
}

/// A cap on one level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// The level's target.
    pub target: String,
    /// Share of nodes that may load it, in thousandths; 0 stops it.
    pub permille: u32,
    /// Since when.
    pub since: UtcSeconds,
    /// Why, for people.
    pub reason: String,
}

impl Caps {
    /// Returns what caps nothing.
    pub fn none(now: UtcSeconds) -> Self {
        Self {
            format: FORMAT,
            created: now,
            stop: false,
            stop_reason: None,
            caps: Vec::new(),
        }
    }

    /// Returns what stands for caps that cannot be read: a stop, since clients took them for one.
    pub fn unreadable(now: UtcSeconds) -> Self {
        Self {
            stop: true,
            stop_reason: Some("the caps before could not be read".to_owned()),
            ..Self::none(now)
        }
    }

    /// Returns why nothing may be loaded anew, for people, on one line; `None` when that is not so.
    pub fn stopped(&self) -> Option<String> {
        let why = self.stop_reason.as_deref().map(one_line);
        self.stop.then(|| match why {
            Some(why) => format!("every rollout is stopped: {why}"),
            None => "every rollout is stopped".to_owned(),
        })
    }

    /// Sets the cap of one target in place of an earlier one.
    pub fn set(&mut self, cap: Cap) {
        self.caps.retain(|known| known.target != cap.target);
        self.caps.push(cap);
        self.caps
            .sort_by(|left, right| left.target.cmp(&right.target));
    }

    /// Reads the body of the role; any doubt is a reason to stop.
    pub fn read(role: &Targets) -> Result<Self, String> {
        let body = role.tuxtape_hold.as_ref().ok_or("it carries no caps")?;
        let caps = Self::deserialize(body).map_err(|error| one_line(&error.to_string()))?;
        caps.check()?;
        Ok(caps)
    }

    /// Checks what the shape alone does not say.
    pub fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("format {}, known is {FORMAT}", self.format));
        }
        if self.caps.len() > CAP_LIMIT {
            return Err(format!("{} caps, at most {CAP_LIMIT}", self.caps.len()));
        }
        for (at, cap) in self.caps.iter().enumerate() {
            if cap.permille > 1000 {
                let target = one_line(&cap.target);
                return Err(format!("the cap of {target} is over 1000"));
            }
            let mut earlier = self.caps.iter().take(at);
            if earlier.any(|other| other.target == cap.target) {
                return Err(format!("{} has two caps", one_line(&cap.target)));
            }
        }
        Ok(())
    }
}

/// What a client knows of the stop button.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The signed list of roles has none: nothing can be capped.
    Absent,
    /// It is readable and fresh.
    Caps(Caps),
    /// It is expired, missing or malformed, which counts as a stop.
    Unreadable(String),
}

/// How much of a level is open, and what keeps the rest shut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Share {
    /// The schedule alone decides: millionths of the fleet.
    Scheduled(u64),
    /// A cap is below the schedule. Reasons are on one line, with what is not printable escaped.
    Capped {
        /// Millionths of the fleet.
        ppm: u64,
        /// Who may read why.
        reason: String,
    },
    /// Nothing is loaded anew.
    Stopped(String),
}

impl Share {
    /// Returns the open share in millionths.
    pub fn ppm(&self) -> u64 {
        match self {
            Self::Scheduled(ppm) | Self::Capped { ppm, .. } => *ppm,
            Self::Stopped(_) => 0,
        }
    }
}

impl Hold {
    /// Returns the cap of a target.
    pub fn cap(&self, target: &str) -> Option<&Cap> {
        match self {
            Self::Caps(caps) => caps.caps.iter().find(|cap| cap.target == target),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }

    /// Returns the share of nodes that may load `target` at `now`: the lesser of schedule and cap.
    pub fn share(&self, target: &str, waves: Option<&Waves>, now: UtcSeconds) -> Share {
        let scheduled = waves.map_or(tuxtape_core::rollout::WHOLE, |waves| waves.open_ppm(now));
        let stop = match self {
            Self::Unreadable(why) => Some(one_line(why)),
            Self::Caps(caps) => caps.stopped(),
            Self::Absent => None,
        };
        if let Some(why) = stop {
            return Share::Stopped(why);
        }
        match self.cap(target) {
            Some(cap) if cap.permille == 0 => {
                Share::Stopped(format!("{} (since {})", one_line(&cap.reason), cap.since))
            }
            Some(cap) if u64::from(cap.permille) * 1000 < scheduled => Share::Capped {
                ppm: u64::from(cap.permille) * 1000,
                reason: one_line(&cap.reason),
            },
            Some(_) | None => Share::Scheduled(scheduled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UtcSeconds = UtcSeconds::EPOCH;

    fn capped(permille: u32) -> Hold {
        let mut caps = Caps::none(NOW);
        caps.set(Cap {
            target: "t".to_owned(),
            permille,
            since: NOW,
            reason: "hangs".to_owned(),
        });
        Hold::Caps(caps)
    }

    #[test]
    fn a_cap_only_ever_lowers_the_share() {
        let waves = Waves::normal(NOW);
        let at = NOW.plus(28_800);
        for permille in [0, 1, 50, 99, 100, 101, 1000] {
            let ppm = capped(permille).share("t", Some(&waves), at).ppm();
            assert_eq!(ppm, u64::from(permille.min(100)) * 1000, "{permille}");
        }
        assert_eq!(
            capped(0).share("other", None, at),
            Share::Scheduled(1_000_000)
        );
        assert_eq!(
            Hold::Absent.share("t", Some(&waves), at),
            Share::Scheduled(100_000)
        );
    }

    #[test]
    fn what_cannot_be_read_stops_everything() {
        let unreadable = Hold::Unreadable("expired".to_owned());
        assert_eq!(
            unreadable.share("t", None, NOW),
            Share::Stopped("expired".to_owned())
        );
        let mut caps = Caps::none(NOW);
        caps.stop = true;
        assert_eq!(Hold::Caps(caps).share("t", None, NOW).ppm(), 0);
    }

    #[test]
    fn malformed_caps_are_refused() {
        let check = |change: fn(&mut Caps), wanted: &str| {
            let Hold::Caps(mut caps) = capped(5) else {
                unreachable!()
            };
            change(&mut caps);
            let error = caps.check().unwrap_err();
            assert!(error.contains(wanted), "{error}");
        };
        check(|caps| caps.format = 2, "format 2");
        check(|caps| caps.caps[0].permille = 1001, "over 1000");
        check(|caps| caps.caps.push(caps.caps[0].clone()), "two caps");
        check(
            |caps| caps.caps = vec![caps.caps[0].clone(); 257],
            "257 caps",
        );
    }
}
