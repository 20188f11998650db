//! `status`: what runs, what is missing, and what to do about it.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use tuxtape_archive::client::{self, Store, Stored};
use tuxtape_archive::hold::Hold;
use tuxtape_archive::index::KernelIndex;
use tuxtape_archive::metadata::{Body, Targets};
use tuxtape_archive::names::cap;
use tuxtape_archive::time::UtcSeconds;
use tuxtape_core::identity::KernelId;

use crate::apply::{ClientError, Settings, chain, make_plan, running};
use crate::host::Host;
use crate::journal::{JournaledLevel, Phase};
use crate::plan::{self, Plan, support_word};
use crate::state::{LastCheck, State};

/// Everything `status` shows.
#[derive(Clone, Debug)]
pub struct Status {
    /// The kernel that runs.
    pub kernel: KernelId,
    /// Local clock.
    pub now: UtcSeconds,
    /// Seconds since boot.
    pub uptime: u64,
    /// Whether a root is trusted.
    pub enabled: bool,
    /// In Canonical's words, or one of ours.
    pub state: &'static str,
    /// In Canonical's words.
    pub supported: &'static str,
    /// Last day with new levels, `YYYY-MM-DD`, where announced.
    pub until: Option<String>,
    /// The level in force.
    pub level: Option<JournaledLevel>,
    /// The newest level that may be loaded.
    pub latest: Option<u32>,
    /// CVEs the level in force closes, sorted.
    pub fixed: Vec<String>,
    /// CVEs open in the running kernel, and why, sorted.
    pub open: Vec<(String, String)>,
    /// What stands in the way of the newest level.
    pub obstacles: Vec<String>,
    /// Phase of the journal.
    pub phase: Phase,
    /// Strikes against the newest level.
    pub strikes: u32,
    /// Transitions of the newest level that did not end in time.
    pub stalls: u32,
    /// Quarantined levels and why.
    pub quarantine: Vec<(u32, String)>,
    /// Whether this kernel would keep the log of a crash.
    pub crash_evidence: bool,
    /// Mode and where it was set.
    pub mode: (String, &'static str),
    /// The last look into the archive.
    pub check: Option<LastCheck>,
    /// End of the timestamp's validity.
    pub expires: Option<UtcSeconds>,
    /// Version of the kernel's role.
    pub role_version: Option<u64>,
    /// Whether what is trusted about the kernel could not be read.
    pub unread: bool,
    /// What the plan is.
    plan: Option<Plan>,
}

/// Looks at kernel, journal and trusted metadata. Asks nobody and changes nothing.
pub fn status(host: &dyn Host, settings: &Settings) -> Result<Status, ClientError> {
    let mut state = State::look(&settings.state)?;
    let kernel = host.kernel()?;
    let enabled = state.store.load(&Stored::Root, cap::ROOT)?.is_some();
    let Local {
        found,
        hold,
        expires,
        unread,
    } = local(&mut state, &kernel);
    let running = running(host)?;
    let quarantined = state.quarantined(&kernel.build_id)?;
    let check = state.last_check();
    let journal = state.journal.journal.clone();
    let indexed = found.as_ref().and_then(|(role, index)| {
        index
            .kernel(&kernel.build_id)
            .map(|indexed| (role, indexed))
    });
    let level = plan::current(&kernel.build_id, indexed, &journal, &running);
    let transition = running.iter().any(|running| running.livepatch.transition);
    let newest = indexed.and_then(|(role, indexed)| indexed.newest(&role.targets));
    let plan = enabled
        .then(|| {
            make_plan(
                host,
                &state,
                settings,
                &kernel,
                found.as_ref(),
                hold.as_ref(),
            )
        })
        .transpose()?
        .filter(|_| unread.is_none() && (found.is_some() || expires.is_some()));
    let cves = |level| {
        indexed
            .map(|(_, indexed)| indexed.cves(level))
            .unwrap_or_default()
    };
    // While it is in transition, some task still runs the old code.
    let moving = level.as_ref().is_some_and(|level| {
        running
            .iter()
            .any(|running| running.livepatch.transition && running.livepatch.name == level.module)
    });
    let fixed = level
        .as_ref()
        .filter(|_| !moving)
        .map(|level| cves(level.level))
        .unwrap_or_default();
    let mut open: Vec<(String, String)> = Vec::new();
    if let Some(newest) = newest {
        for cve in cves(newest.level).difference(&fixed) {
            open.push((cve.clone(), format!("comes with level {}", newest.level)));
        }
    }
    for entry in indexed
        .into_iter()
        .flat_map(|(_, indexed)| &indexed.unpatchable)
    {
        let why = format!(
            "cannot be livepatched ({}): reboot into a newer kernel",
            entry.why
        );
        open.push((entry.cve.clone(), why));
    }
    open.sort();
    let digest = newest.and_then(|newest| {
        let target = indexed?.0.targets.get(&newest.target)?;
        target.hashes.get("sha256")
    });
    let counted = |counts: &BTreeMap<String, u32>| {
        let count = digest.and_then(|digest| counts.get(digest));
        count.copied().unwrap_or_default()
    };
    let (strikes, stalls) = (counted(&journal.strikes), counted(&journal.stalls));
    let mut obstacles: Vec<String> = match &plan {
        Some(Plan::Blocked(_, obstacles)) => obstacles.iter().map(ToString::to_string).collect(),
        Some(Plan::Unsupported(why)) => vec![why.to_string()],
        Some(Plan::UpToDate(_) | Plan::NothingToApply | Plan::Load(..) | Plan::Leave(..))
        | None => Vec::new(),
    };
    if let Some(why) = &unread {
        obstacles.push(format!(
            "what was trusted about this kernel cannot be read: {why}"
        ));
    }
    Ok(Status {
        uptime: host.uptime()?,
        now: host.clock(),
        state: state_word(
            journal.phase,
            transition,
            level.as_ref(),
            plan.as_ref(),
            check.as_ref(),
        ),
        supported: if found.is_none() && (unread.is_some() || expires.is_none()) {
            "unknown"
        } else {
            support_word(indexed.map(|(_, indexed)| indexed))
        },
        until: indexed.and_then(|(_, indexed)| indexed.support.until.clone()),
        latest: newest.map(|newest| newest.level.0),
        fixed: fixed.into_iter().collect(),
        open,
        obstacles,
        phase: journal.phase,
        strikes,
        stalls,
        crash_evidence: host.keeps_crashes(),
        quarantine: quarantined
            .values()
            .map(|quarantine| (quarantine.level.0, quarantine.reason.clone()))
            .collect(),
        mode: (settings.switch.mode.to_string(), settings.switch.from),
        role_version: found.as_ref().map(|(role, _)| role.version()),
        expires,
        check,
        enabled,
        level,
        kernel,
        plan,
        unread: unread.is_some(),
    })
}

/// What is trusted about the kernel.
struct Local {
    found: Option<(Targets, KernelIndex)>,
    hold: Option<Hold>,
    expires: Option<UtcSeconds>,
    /// Why it could not be read. That is another thing than a kernel the archive does not have.
    unread: Option<String>,
}

fn local(state: &mut State, kernel: &KernelId) -> Local {
    let Ok(mut session) = client::local(&mut state.store) else {
        return Local {
            found: None,
            hold: None,
            expires: None,
            unread: None,
        };
    };
    let expires = Some(session.timestamp.expires);
    let (found, unread) = match session.kernel(kernel.arch, &kernel.release) {
        Ok(found) => (found, None),
        Err(error) => (None, Some(chain(&error))),
    };
    Local {
        found,
        hold: session.hold().ok(),
        expires,
        unread,
    }
}

fn state_word(
    phase: Phase,
    transition: bool,
    level: Option<&JournaledLevel>,
    plan: Option<&Plan>,
    check: Option<&LastCheck>,
) -> &'static str {
    match (phase, level, plan) {
        (Phase::Stuck, _, _) => "stalled",
        (Phase::Armed | Phase::Transition | Phase::Probation | Phase::Revert, _, _) => "applying",
        (Phase::Idle, _, _) if transition => "applying",
        (Phase::Idle, Some(_), _) => "applied",
        (Phase::Idle, None, None) if check.is_some_and(|check| check.error.is_some()) => {
            "check-failed"
        }
        (Phase::Idle, None, None) => "needs-check",
        (Phase::Idle, None, Some(Plan::NothingToApply)) => "nothing-to-apply",
        (Phase::Idle, None, Some(Plan::Blocked(_, obstacles))) => {
            let quarantined = |o: &plan::Obstacle| matches!(o, plan::Obstacle::Quarantined { .. });
            if obstacles.iter().any(quarantined) {
                "quarantined"
            } else {
                "unapplied"
            }
        }
        (Phase::Idle, None, Some(_)) => "unapplied",
    }
}

impl Status {
    /// Exit code of the text form, which is kcarectl's: 0 nothing better is due, 1 levels exist and
    /// none is applied, 2 a newer one is due, 3 the kernel is not served, or no longer, 70
    /// what is known of it cannot be read.
    pub fn exit_code(&self) -> u8 {
        let past = ["kernel-upgrade-required", "kernel-end-of-life"].contains(&self.supported);
        match &self.plan {
            _ if self.unread => 70,
            Some(_) if past => 3,
            Some(Plan::Unsupported(_)) | None => 3,
            Some(Plan::UpToDate(_) | Plan::NothingToApply) => 0,
            Some(Plan::Load(..) | Plan::Leave(..) | Plan::Blocked(..)) if self.level.is_none() => 1,
            Some(Plan::Load(..) | Plan::Leave(..) | Plan::Blocked(..)) => 2,
        }
    }

    /// Writes the text form; `signs` are the marks for well, busy and bad.
    pub fn text(&self, [well, busy, bad]: [&str; 3]) -> String {
        let mut out = String::new();
        let mut line = |name: &str, text: &str| {
            // Writing to a text cannot fail.
            writeln!(out, "{name:<10} {text}").ok();
        };
        let build = self.kernel.build_id.short();
        let release = &self.kernel.release;
        let until = self
            .until
            .as_ref()
            .map_or(String::new(), |until| format!(" until {until}"));
        line(
            "kernel",
            &format!("{release}, build {build}, {}{until}", self.supported),
        );
        let mark = match self.state {
            "applied" | "nothing-to-apply" => well,
            "applying" | "needs-check" => busy,
            _ => bad,
        };
        line(
            "livepatch",
            &match &self.level {
                Some(level) => format!(
                    "{mark} level {} {}, {} closed in the running kernel",
                    level.level,
                    self.state,
                    count(self.fixed.len()),
                ),
                None if !self.enabled => {
                    format!("{bad} no root is trusted yet; run `tuxtape-client init ROOT.json`")
                }
                None => format!("{mark} {}", self.state),
            },
        );
        if let Some(latest) = self.latest.filter(|latest| {
            self.level
                .as_ref()
                .is_none_or(|level| level.level.0 < *latest)
        }) {
            line("latest", &format!("level {latest}"));
        }
        for obstacle in &self.obstacles {
            line("blocked", obstacle);
        }
        if !self.open.is_empty() {
            let list = self.open.iter().map(|(cve, why)| format!("{cve} {why}"));
            let list: Vec<String> = list.collect();
            line(
                "open",
                &format!("{}: {}", count(self.open.len()), list.join(", ")),
            );
        }
        if self.strikes > 0 {
            line("strikes", &self.strikes.to_string());
        }
        if self.stalls > 0 {
            line("stalls", &self.stalls.to_string());
        }
        for (level, why) in &self.quarantine {
            line("quarantine", &format!("level {level}: {why}"));
        }
        if self.mode.0 != "normal" {
            line(
                "mode",
                &format!("{} (from the {})", self.mode.0, self.mode.1),
            );
        }
        line("archive", &self.archive(well, bad));
        out
    }

    fn archive(&self, well: &str, bad: &str) -> String {
        let Some(check) = &self.check else {
            return format!("{bad} never asked");
        };
        let ago = span(self.now.since(check.at));
        if let Some(error) = &check.error {
            return format!("{bad} asked {ago} ago: {error}");
        }
        match self.expires {
            Some(expires) if expires > self.now => {
                let left = span(expires.since(self.now));
                format!("{well} checked {ago} ago, valid for another {left}")
            }
            Some(expires) => format!("{bad} checked {ago} ago, expired at {expires}"),
            None => format!("{bad} checked {ago} ago"),
        }
    }

    /// Returns the JSON form.
    pub fn json(&self, version: &str) -> impl Serialize + use<> {
        let date = |at: UtcSeconds| at.to_string();
        let fixes: Vec<serde_json::Value> = self
            .fixed
            .iter()
            .map(|cve| {
                serde_json::json!({
                    "Name": cve.to_lowercase(), "Description": "", "Bug": "", "Patched": true,
                })
            })
            .collect();
        let open: Vec<serde_json::Value> = self
            .open
            .iter()
            .map(|(cve, why)| serde_json::json!({"cve": cve, "why": why}))
            .collect();
        let quarantine: Vec<serde_json::Value> = self
            .quarantine
            .iter()
            .map(|(level, why)| serde_json::json!({"level": level, "reason": why}))
            .collect();
        let failed = self.check.as_ref().and_then(|check| check.error.clone());
        let boot = UtcSeconds::from_unix(self.now.unix().saturating_sub(self.uptime));
        serde_json::json!({
            "Client-Version": version,
            "Architecture": self.kernel.arch.to_string(),
            "Last-Check": self.check.as_ref().map(|check| date(check.at)),
            "Boot-Time": date(boot),
            "Uptime": self.uptime.to_string(),
            "Status": [{
                "Kernel": self.kernel.release.as_str(),
                "Running": true,
                "Supported": self.supported,
                "UpgradeRequiredDate": self.until,
                "Livepatch": {
                    "CheckState": match (&self.check, &failed) {
                        (None, _) => "needs-check",
                        (Some(_), Some(_)) => "check-failed",
                        (Some(_), None) => "checked",
                    },
                    "State": self.state,
                    "Version": self.level.as_ref().map_or(String::new(), |l| l.level.to_string()),
                    "Fixes": fixes,
                },
            }],
            "Tuxtape": {
                "format": 1,
                "phase": self.phase,
                "build_id": self.kernel.build_id.to_string(),
                "level": self.level.as_ref().map(|level| level.level.0),
                "latest_level": self.latest,
                "sha256": self.level.as_ref().map(|level| level.sha256.clone()),
                "module": self.level.as_ref().map(|level| level.module.clone()),
                "mode": {"value": self.mode.0, "from": self.mode.1},
                "wait": self.obstacles,
                "quarantine": quarantine,
                "crash_evidence": if self.crash_evidence { "pstore" } else { "none" },
                "strikes": self.strikes,
                "stalls": self.stalls,
                "open": open,
                "archive": {
                    "role_version": self.role_version,
                    "expires": self.expires.map(date),
                    "checked": self.check.as_ref().map(|check| date(check.at)),
                    "error": failed,
                },
            },
        })
    }
}

fn count(cves: usize) -> String {
    match cves {
        1 => "1 CVE".to_owned(),
        many => format!("{many} CVEs"),
    }
}

/// Writes a length of time in its largest whole unit.
fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
