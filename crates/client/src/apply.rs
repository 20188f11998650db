//! `apply`, `rollback` and `refresh`: facts, plan, deeds.

use std::path::PathBuf;

use tuxtape_archive::client::{self, Store, StoreError, Stored, UpdateError, trusted};
use tuxtape_archive::hold::Hold;
use tuxtape_archive::index::KernelIndex;
use tuxtape_archive::metadata::{TargetFile, Targets};
use tuxtape_archive::names::cap;
use tuxtape_archive::source::{HttpOptions, Source, SourceError, open};
use tuxtape_archive::time::UtcSeconds;
use tuxtape_core::identity::KernelId;
use tuxtape_sys::kernel::KernelError;

use crate::config::Config;
use crate::demands::{KernelSigned, demands};
use crate::guard;
use crate::host::Host;
use crate::journal::JournaledLevel;
use crate::load::{self, CrashJudge, LoadError, LogJudge, Remarks, Watch};
use crate::mode::{Mode, Switch};
use crate::plan::{self, Facts, Obstacle, Plan, Running, Unfit, Unsupported};
use crate::reapply;
use crate::recover::{Recovery, recover};
use crate::state::{State, StateError};

/// What every command needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The configuration.
    pub config: Config,
    /// The client's folder.
    pub state: PathBuf,
    /// The emergency switch.
    pub switch: Switch,
    /// Who reads the kernel log.
    pub judge: Option<LogJudge>,
    /// Who reads what was kept of crashes.
    pub crash_judge: Option<CrashJudge>,
}

/// Why a command failed. The kernel runs what it ran before, unless [`ClientError::Load`] says
/// otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No archive is configured.
    #[error("no archive-url is configured")]
    NoArchive,
    /// A root is trusted already.
    #[error("a root is trusted already; remove {path} to start anew", path = path.display())]
    HasRoot {
        /// The state folder.
        path: PathBuf,
    },
    /// The file is no root.
    #[error("{0}")]
    Root(String),
    /// The archive's address is not usable.
    #[error("could not open the archive")]
    Source(#[from] SourceError),
    /// The archive's metadata is not trusted, or could not be fetched.
    #[error("could not update from the archive")]
    Update(#[from] UpdateError),
    /// The module is not for this kernel.
    #[error("level {level} is not loaded")]
    Unfit {
        /// The level.
        level: u32,
        /// Why.
        source: Unfit,
    },
    /// The level did not come into force.
    #[error("level {level} is not in force")]
    Load {
        /// The level.
        level: u32,
        /// Why.
        source: LoadError,
    },
    /// An interrupted attempt could not be cleared up.
    #[error("could not recover from an interrupted attempt")]
    Recover(#[source] LoadError),
    /// The state could not be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The kernel could not be asked.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl From<StoreError> for ClientError {
    fn from(error: StoreError) -> Self {
        Self::State(error.into())
    }
}

/// What `apply` came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// A level is now in force.
    Loaded(JournaledLevel),
    /// It would be loaded; this was a dry run.
    WouldLoad(JournaledLevel),
    /// The newest level was in force already.
    UpToDate(JournaledLevel),
    /// There is no level for this kernel yet.
    NothingToApply,
    /// The level that ran was withdrawn and is out.
    Left(JournaledLevel, String),
    /// It would be left; this was a dry run.
    WouldLeave(JournaledLevel, String),
    /// The archive has nothing for this kernel.
    Unsupported(Unsupported),
    /// Something stands in the way.
    Blocked(JournaledLevel, Vec<Obstacle>),
    /// The switch forbids even looking.
    Off(Mode),
}

/// Trusts a root from now on; refuses when one is trusted already.
pub fn init(settings: &Settings, root: &[u8]) -> Result<u64, ClientError> {
    let mut state = State::open(&settings.state)?;
    let there = state.store.load(&Stored::Root, cap::ROOT)?;
    if there.is_some() {
        return Err(ClientError::HasRoot {
            path: settings.state.clone(),
        });
    }
    let read = trusted::root(root, "the root").map_err(|e| ClientError::Root(e.to_string()))?;
    state.store.save(&Stored::RootVersion(read.version), root)?;
    state.store.save(&Stored::Root, root)?;
    Ok(read.version)
}

/// Opens the configured archive.
pub fn source(config: &Config) -> Result<Box<dyn Source>, ClientError> {
    let url = config
        .archive_url
        .as_deref()
        .ok_or(ClientError::NoArchive)?;
    let options = HttpOptions {
        connect: config.dial_timeout,
        total: config.download_timeout,
        patience: HttpOptions::default().patience,
        ca_certs: config.ca_certs.clone(),
        proxy: config.proxy().map(ToOwned::to_owned),
    };
    Ok(open(url, &options)?)
}

/// What `refresh` came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The archive has this kernel's release.
    Listed(KernelIndex),
    /// The archive does not have it.
    NotListed,
    /// The switch forbids even looking.
    Off(Mode),
}

/// Brings the metadata up to date and loads nothing.
pub fn refresh(
    host: &dyn Host,
    settings: &Settings,
    source: &dyn Source,
) -> Result<Refreshed, ClientError> {
    if settings.switch.mode >= Mode::NoRefresh {
        return Ok(Refreshed::Off(settings.switch.mode));
    }
    let mut state = State::open(&settings.state)?;
    let kernel = host.kernel()?;
    let now = host.clock();
    let found = look(&mut state, source, &kernel, now);
    let error = found.as_ref().err().map(chain);
    state.set_last_check(now, error)?;
    Ok(found?
        .kernel
        .map_or(Refreshed::NotListed, |(_, index)| Refreshed::Listed(index)))
}

/// Does what the plan says.
pub fn apply(
    host: &mut dyn Host,
    settings: &Settings,
    source: &dyn Source,
    dry_run: bool,
    clear: bool,
) -> Result<(Applied, Remarks), ClientError> {
    let mut remarks = Remarks::new();
    if settings.switch.mode >= Mode::NoRefresh {
        return Ok((Applied::Off(settings.switch.mode), remarks));
    }
    let mut state = State::open(&settings.state)?;
    if state.store.damaged() {
        remarks.push("a slot of the version floor is damaged".to_owned());
    }
    if !dry_run {
        tidy(host, &mut state, settings, &mut remarks)?;
    }
    if clear && !dry_run {
        let unpin = |journal: &mut crate::journal::Journal| {
            journal.pinned = false;
            journal.rest = None;
        };
        state.journal.record(unpin).map_err(StateError::from)?;
        guard::clear(host, &settings.state)?;
    }
    let kernel = host.kernel()?;
    let now = host.clock();
    let found = look(&mut state, source, &kernel, now);
    // What is only told stops nothing, least of all the way out of a level that was withdrawn.
    if let Err(error) = state.set_last_check(now, found.as_ref().err().map(chain)) {
        remarks.push(format!("the time of this look was not kept: {error}"));
    }
    let (found, offline) = match found {
        Ok(looked) => (looked, None),
        Err(error) => match reapplicable(&mut state, &kernel) {
            Some(found) => {
                let looked = Looked {
                    kernel: Some(found),
                    hold: None,
                };
                (looked, Some(error))
            }
            None => return Err(error.into()),
        },
    };
    let Looked {
        kernel: found,
        hold,
    } = found;
    if let Some(error) = &offline {
        let error = chain(error);
        remarks.push(format!(
            "going by what was trusted before, since the update failed: {error}"
        ));
    }
    let plan_now = |host: &dyn Host, state: &State| {
        make_plan(
            host,
            state,
            settings,
            &kernel,
            found.as_ref(),
            hold.as_ref(),
        )
    };
    let mut plan = plan_now(host, &state)?;
    let mut left = None;
    if let Plan::Leave(level, reason) = &plan
        && !dry_run
    {
        load::take_out(host, &mut state, level, Some(reason))
            .map_err(|source| failed(level, source))?;
        let gone = (level.clone(), reason.clone());
        // What is to take its place comes at once.
        plan = plan_now(host, &state)?;
        remarks.push(format!("level {} is out: {}", gone.0.level, gone.1));
        left = Some(gone);
    }
    let applied = match plan {
        Plan::NothingToApply | Plan::Blocked(..) | Plan::Leave(..) if left.is_some() => left
            .map_or(Applied::NothingToApply, |(level, why)| {
                Applied::Left(level, why)
            }),
        Plan::Unsupported(why) => Applied::Unsupported(why),
        Plan::NothingToApply => Applied::NothingToApply,
        Plan::UpToDate(level) => Applied::UpToDate(level),
        Plan::Blocked(level, obstacles) => Applied::Blocked(level, obstacles),
        Plan::Leave(level, reason) => Applied::WouldLeave(level, reason),
        Plan::Load(level, target, name) => {
            let Some((_, index)) = &found else {
                return Ok((Applied::NothingToApply, remarks));
            };
            // Without the archive only what passed its probation here before is loaded again.
            let committed = state.journal.journal.committed.as_ref() == Some(&level);
            let offline = match offline {
                Some(error) if !committed => return Err(error.into()),
                other => other.is_some(),
            };
            let from = (!offline).then_some(source);
            let image = image(&mut state, from, &level, &target, &name, settings)?;
            let indexed = index.kernel(&kernel.build_id);
            let unfit = |source| ClientError::Unfit {
                level: level.level.0,
                source,
            };
            let Some(indexed) = indexed else {
                return Ok((Applied::NothingToApply, remarks));
            };
            plan::fits(&image, &level, &kernel, indexed).map_err(unfit)?;
            let signed = KernelSigned::of(&image, indexed, level.level);
            let demands = demands(&host.load_policy(), &signed);
            if !demands.is_empty() {
                Applied::Blocked(level, demands)
            } else if dry_run {
                Applied::WouldLoad(level)
            } else {
                state.save_module(&level.sha256, &image)?;
                let watch = watch(settings);
                let said = load::load(host, &mut state, &level, &image, watch)
                    .map_err(|source| failed(&level, source))?;
                remarks.extend(said);
                Applied::Loaded(level)
            }
        }
    };
    if !dry_run && guard::is_complete(&settings.state, &host.boot_id()?)? {
        reapply::prove(host, &mut state, &kernel.build_id)?;
    }
    Ok((applied, remarks))
}

/// What `rollback` came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolledBack {
    /// Levels of ours that it took out, in that order.
    pub levels: Vec<JournaledLevel>,
    /// Livepatches that are still in the kernel: those of somebody else.
    pub others: Vec<String>,
}

/// Takes every level of ours out, on a person's word, and pins the machine until `apply --clear`.
///
/// An interrupted attempt goes first: it may have been on the way to replace a level that is still in
/// force.
pub fn rollback(
    host: &mut dyn Host,
    settings: &Settings,
) -> Result<(RolledBack, Remarks), ClientError> {
    let mut remarks = Remarks::new();
    let mut done = RolledBack::default();
    let mut state = State::open(&settings.state)?;
    let pin = |state: &mut State| {
        let pin = |journal: &mut crate::journal::Journal| journal.pinned = true;
        state.journal.record(pin).map_err(StateError::from)
    };
    // A module that stays in memory out of force must not keep another level in.
    let mut stays = None;
    let mut out =
        |host: &mut dyn Host, state: &mut State, level: &JournaledLevel| match load::take_out(
            host, state, level, None,
        ) {
            Err(error @ LoadError::Removal { .. }) => {
                stays.get_or_insert(failed(level, error));
                Ok(())
            }
            outcome => outcome.map_err(|source| failed(level, source)),
        };
    let judge = settings.crash_judge;
    match recover(host, &mut state, judge, &mut remarks).map_err(ClientError::Recover)? {
        Recovery::Clean => {}
        Recovery::Stuck(level) => {
            pin(&mut state)?;
            let tasks = host.lagging(0).join(", ");
            return Err(failed(&level, LoadError::Stuck { tasks }));
        }
        // A person wants it out; what it was on the way to does not matter any more.
        Recovery::Settle(level) | Recovery::TakeOut(level, _) => {
            out(host, &mut state, &level)?;
            done.levels.push(level);
        }
    }
    let kernel = host.kernel()?;
    let found = local(&mut state, &kernel);
    let indexed = found.as_ref().and_then(|(role, index)| {
        let indexed = index.kernel(&kernel.build_id)?;
        Some((role, indexed))
    });
    loop {
        let running = running(host)?;
        let journal = &state.journal.journal;
        let current = plan::current(&kernel.build_id, indexed, journal, &running);
        let Some(level) = current.filter(|level| !done.levels.contains(level)) else {
            let others = running.into_iter().map(|running| running.livepatch.name);
            done.others = others.collect();
            break;
        };
        out(host, &mut state, &level)?;
        done.levels.push(level);
    }
    pin(&mut state)?;
    match stays {
        Some(error) => Err(error),
        None => Ok((done, remarks)),
    }
}

/// Lists the livepatches in the kernel with the build-ids of their modules.
pub fn running(host: &dyn Host) -> Result<Vec<Running>, KernelError> {
    let list = host.livepatches()?;
    Ok(list
        .into_iter()
        .map(|livepatch| Running {
            build_id: host
                .module(&livepatch.name)
                .and_then(|module| module.build_id),
            livepatch,
        })
        .collect())
}

/// Makes the plan for the facts as they are now.
pub fn make_plan(
    host: &dyn Host,
    state: &State,
    settings: &Settings,
    kernel: &KernelId,
    found: Option<&(Targets, KernelIndex)>,
    hold: Option<&Hold>,
) -> Result<Plan, ClientError> {
    plan_for(host, state, settings, kernel, found, hold, false)
}

/// Makes the plan for a boot that has just begun, without the archive.
pub(crate) fn make_early_plan(
    host: &dyn Host,
    state: &State,
    settings: &Settings,
    kernel: &KernelId,
    found: &(Targets, KernelIndex),
) -> Result<Plan, ClientError> {
    plan_for(host, state, settings, kernel, Some(found), None, true)
}

fn plan_for(
    host: &dyn Host,
    state: &State,
    settings: &Settings,
    kernel: &KernelId,
    found: Option<&(Targets, KernelIndex)>,
    hold: Option<&Hold>,
    early: bool,
) -> Result<Plan, ClientError> {
    let running = running(host)?;
    let quarantined = state.quarantined(&kernel.build_id)?;
    Ok(plan::plan(&Facts {
        kernel,
        index: found.map(|(role, index)| (role, index)),
        journal: &state.journal.journal,
        running: &running,
        quarantined: &quarantined,
        foreign: settings.config.foreign,
        uptime: host.uptime()?,
        early,
        unfinished_boots: guard::unfinished(&settings.state, &host.boot_id()?)?,
        clock: host.clock(),
        time_floor: state.store.floor().time,
        mode: settings.switch.mode,
        hold,
        node: host.node(),
    }))
}

/// Reads role and index of a kernel from what was trusted before, expired or not.
pub fn local(state: &mut State, kernel: &KernelId) -> Option<(Targets, KernelIndex)> {
    let mut session = client::local(&mut state.store).ok()?;
    session.kernel(kernel.arch, &kernel.release).ok().flatten()
}

/// What a look into the archive found.
#[derive(Clone, Debug)]
pub struct Looked {
    /// Role and index of this kernel, where the archive has it.
    pub kernel: Option<(Targets, KernelIndex)>,
    /// The stop button; `None` when the archive was not asked.
    pub hold: Option<Hold>,
}

/// Runs the client workflow and finds the kernel's role.
pub fn look(
    state: &mut State,
    source: &dyn Source,
    kernel: &KernelId,
    now: UtcSeconds,
) -> Result<Looked, UpdateError> {
    let mut session = client::refresh(&mut state.store, source, now)?;
    Ok(Looked {
        kernel: session.kernel(kernel.arch, &kernel.release)?,
        hold: Some(session.hold()?),
    })
}

/// Writes an error with its causes on one line.
pub fn chain(error: &UpdateError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

pub(crate) fn tidy(
    host: &mut dyn Host,
    state: &mut State,
    settings: &Settings,
    remarks: &mut Remarks,
) -> Result<(), ClientError> {
    match recover(host, state, settings.crash_judge, remarks).map_err(ClientError::Recover)? {
        Recovery::Clean | Recovery::Stuck(_) => Ok(()),
        Recovery::Settle(level) => {
            let said = load::settle(host, state, &level, watch(settings))
                .map_err(|source| failed(&level, source))?;
            remarks.extend(said);
            Ok(())
        }
        Recovery::TakeOut(level, because) => {
            load::take_out(host, state, &level, because.as_deref())
                .map_err(|source| failed(&level, source))
        }
    }
}

/// What may be loaded without the archive: nothing but the committed level of this very kernel, while
/// the last index that was trusted still has it.
pub(crate) fn reapplicable(state: &mut State, kernel: &KernelId) -> Option<(Targets, KernelIndex)> {
    let committed = state.journal.journal.committed.clone()?;
    if committed.kernel != kernel.build_id {
        return None;
    }
    local(state, kernel)
}

/// The verified bytes of a module: the kept copy, else from the archive.
pub(crate) fn image(
    state: &mut State,
    source: Option<&dyn Source>,
    level: &JournaledLevel,
    target: &TargetFile,
    name: &str,
    settings: &Settings,
) -> Result<Vec<u8>, ClientError> {
    let limit = settings.config.max_module_size;
    if let Some(bytes) = state.load_module(&level.sha256, limit)
        && tuxtape_archive::metadata::compare(&bytes, Some(target.length), &target.hashes).is_ok()
    {
        return Ok(bytes);
    }
    let missing = || UpdateError::Missing {
        file: format!("{}.ko in the state folder", level.sha256),
    };
    let source = source.ok_or_else(missing)?;
    Ok(client::fetch_target(source, name, target, limit)?)
}

fn watch(settings: &Settings) -> Watch {
    Watch {
        probation: settings.config.probation,
        judge: settings.judge,
    }
}

fn failed(level: &JournaledLevel, source: LoadError) -> ClientError {
    ClientError::Load {
        level: level.level.0,
        source,
    }
}
