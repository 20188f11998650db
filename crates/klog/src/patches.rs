//! Which livepatches are ours, what they patch, and what is known of this machine and the fleet.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The state beside the log, as the client writes it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Patches {
    /// The boot it was taken in, as the kernel writes it.
    pub boot_id: Option<String>,
    /// The kernel's release.
    pub release: Option<String>,
    /// Livepatches loaded or lately loaded.
    pub modules: Vec<Patch>,
    /// Direct calls: caller, callee. Empty where the build did not say.
    pub calls: Vec<(String, String)>,
}

/// One livepatch.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Patch {
    /// The module.
    pub name: String,
    /// Its level.
    pub level: Option<u32>,
    /// Whether it came from us.
    pub ours: bool,
    /// Whether it takes the place of all older ones.
    pub replace: Option<bool>,
    /// Whether a transition of it was forced.
    pub forced: bool,
    /// Users of the module.
    pub refcount: Option<i32>,
    /// Patched functions.
    pub functions: Vec<Function>,
    /// Tasks that hold its transition up.
    pub stalled: Vec<Holder>,
}

/// One patched function.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// `vmlinux` or a module.
    pub object: String,
    /// Its name in that object.
    pub name: String,
    /// Which of several of that name, from 1; 0 where there is one.
    pub sympos: u32,
}

/// A task that holds a transition up.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub comm: String,
}

/// Why a snapshot or a baseline was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PatchesError {
    /// It is no JSON, or not of this shape; the message has the line and the field.
    #[error("malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Its format is one this build does not know.
    #[error("format {0} is not known; this build reads format 1")]
    Format(u32),
    /// One line of a baseline.
    #[error("line {line}: {source}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    boot_id: Option<String>,
    #[serde(rename = "taken")]
    _taken: Option<String>,
    release: Option<String>,
    #[serde(rename = "tainted")]
    _tainted: Option<u64>,
    modules: Vec<WrittenPatch>,
    #[serde(default)]
    calls: Option<Vec<(String, String)>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPatch {
    name: String,
    level: Option<u32>,
    ours: bool,
    #[serde(rename = "enabled")]
    _enabled: Option<bool>,
    #[serde(rename = "transition")]
    _transition: Option<bool>,
    replace: Option<bool>,
    #[serde(default)]
    forced: bool,
    refcount: Option<i32>,
    #[serde(default)]
    functions: Vec<Function>,
    #[serde(default)]
    stalled: Vec<Holder>,
}

/// Livepatches taken from one snapshot.
const MODULE_LIMIT: usize = 64;
/// Functions taken of one livepatch.
const FUNCTION_LIMIT: usize = 8192;

impl Patches {
    /// Reads a snapshot.
    pub fn read(text: &[u8]) -> Result<Self, PatchesError> {
        let written: Written = serde_json::from_slice(text)?;
        if written.format != 1 {
            return Err(PatchesError::Format(written.format));
        }
        let modules = written.modules.into_iter().take(MODULE_LIMIT);
        Ok(Self {
            boot_id: written.boot_id,
            release: written.release,
            modules: modules
                .map(|patch| {
                    let mut functions = patch.functions;
                    functions.truncate(FUNCTION_LIMIT);
                    Patch {
                        name: patch.name,
                        level: patch.level,
                        ours: patch.ours,
                        replace: patch.replace,
                        forced: patch.forced,
                        refcount: patch.refcount,
                        functions,
                        stalled: patch.stalled,
                    }
                })
                .collect(),
            calls: written.calls.unwrap_or_default(),
        })
    }
}

/// What the fleet knows of one fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Seen {
    /// Hits and nodes with the level.
    pub with: (u64, u64),
    /// Hits and nodes of equal kernels without it.
    pub without: (u64, u64),
}

/// What the fleet knows, by fingerprint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baseline(pub BTreeMap<String, Seen>);

impl Baseline {
    /// Reads lines `{"fingerprint":s,"with":[hits,nodes],"without":[hits,nodes]}`.
    pub fn read(text: &str) -> Result<Self, PatchesError> {
        #[derive(Deserialize)]
        struct Line {
            fingerprint: String,
            #[serde(flatten)]
            seen: Seen,
        }
        let mut all = BTreeMap::new();
        for (line, text) in (1..).zip(text.lines()) {
            if text.trim().is_empty() {
                continue;
            }
            let read: Line =
                serde_json::from_str(text).map_err(|source| PatchesError::Line { line, source })?;
            all.insert(read.fingerprint, read.seen);
        }
        Ok(Self(all))
    }
}

impl Seen {
    /// Returns the chance that as many of the nodes hit would have the level, were it of no matter:
    /// Fisher's exact test, one-sided.
    pub fn chance(self) -> f64 {
        // No fleet is larger; beyond it the sums would overflow.
        let nodes = |count: u64| count.min(1 << 32);
        let (with_all, without_all) = (nodes(self.with.1), nodes(self.without.1));
        let with_hit = self.with.0.min(with_all);
        let hits = with_hit + self.without.0.min(without_all);
        let all = with_all + without_all;
        let mut sum = 0.0;
        // Terms only get smaller from some point on: what is left then is nothing.
        let mut last = 0.0;
        for k in (with_hit..=hits.min(with_all)).take(1_000_000) {
            let ways = choose(with_all, k) + choose(without_all, hits - k);
            let term = (ways - choose(all, hits)).exp();
            sum += term;
            if term < last && term < sum * 1e-12 {
                break;
            }
            last = term;
        }
        if sum.is_finite() {
            sum.clamp(0.0, 1.0)
        } else {
            1.0
        }
    }
}

/// Logarithm of how many ways there are to take `k` of `n`.
fn choose(n: u64, k: u64) -> f64 {
    if k > n {
        return f64::NEG_INFINITY;
    }
    factorial(n) - factorial(k) - factorial(n - k)
}

/// Logarithm of `n!`: summed where it is small, by Stirling's series where it is not.
fn factorial(n: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "node counts are far below 2^52")]
    let real = |n: u64| n as f64;
    if n < 64 {
        return (2..=n).map(|k| real(k).ln()).sum();
    }
    let x = real(n);
    x.mul_add(x.ln(), -x) + 0.5 * (std::f64::consts::TAU * x).ln() + 1.0 / (12.0 * x)
        - 1.0 / (360.0 * x.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_and_a_wrong_one_says_where() {
        let text = br#"{"format":1,"boot_id":"a","taken":"t","release":"6.1","tainted":0,"modules":[{"name":"tt_1","level":7,"ours":true,"enabled":true,"transition":false,"replace":true,"forced":false,"refcount":1,"functions":[{"object":"vmlinux","name":"f","sympos":0}],"stalled":[]}],"calls":null}"#;
        let read = Patches::read(text).unwrap();
        assert_eq!(read.modules[0].functions[0].name, "f");
        let old = String::from_utf8_lossy(text).replace("\"format\":1", "\"format\":9");
        assert!(matches!(
            Patches::read(old.as_bytes()),
            Err(PatchesError::Format(9))
        ));
        let wrong = String::from_utf8_lossy(text).replace("\"ours\"", "\"hours\"");
        let error = Patches::read(wrong.as_bytes()).unwrap_err().to_string();
        assert!(
            error.contains("hours") && error.contains("line 1"),
            "{error}"
        );
    }

    #[test]
    fn the_exact_test_tells_chance_from_cause() {
        let seen = |with, without| Seen { with, without };
        assert!(seen((5, 50), (0, 500)).chance() < 0.001);
        assert!(seen((3, 50), (30, 500)).chance() > 0.1);
        assert!(seen((0, 50), (0, 500)).chance() > 0.99);
        // 4 of 4 against 0 of 4: one in seventy.
        assert!((seen((4, 4), (0, 4)).chance() - 1.0 / 70.0).abs() < 1e-9);
    }
}
