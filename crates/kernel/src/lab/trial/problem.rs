//! Why a livepatch did not pass.

use std::fmt;
use std::time::Duration;

use tuxtape_core::identity::ObjectName;
use tuxtape_klog::judge::State;

use crate::lab::guest::Ending;

/// Why a livepatch did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// An object it patches is neither a module of this kernel nor the kernel itself.
    NoSuchObject(ObjectName),
    /// The module of a patched object did not load in the guest.
    ObjectNotLoaded(ObjectName, String),
    /// It was built for another kernel. The kernel's own check passes over the release where symbol
    /// versions agree, so it is not left to the kernel.
    OtherKernel {
        /// The release it was built for, or why that cannot be told.
        built_for: String,
    },
    /// The kernel did not take it.
    Refused(String),
    /// The program that loaded it was killed inside the kernel.
    DiedLoading,
    /// It loaded, but is no livepatch.
    NotALivepatch,
    /// The transition did not end in time.
    Stalled(Duration),
    /// It is in force, but not for this object.
    NotPatched(ObjectName),
    /// The kernel lists an object its builder did not declare.
    UndeclaredObject(ObjectName),
    /// It could not be disabled.
    NotDisabled(String),
    /// It was disabled, but its transition out did not end in time.
    StalledOut(Duration),
    /// It could not be unloaded.
    NotUnloaded(String),
    /// With the livepatch loaded before the module it patches, a step failed.
    LateFailed(String),
    /// The script did not end well while it was loaded.
    ScriptFailed(i32),
    /// The script did not end.
    ScriptStopped(&'static str),
    /// The kernel complained.
    Complaint(String),
    /// The log says something else than sysfs.
    LogDisagrees(State),
    /// Records of the kernel's log were lost: silence proves nothing.
    LogIncomplete(u64),
    /// The kernel's log was not read to its end: silence proves nothing.
    LogCut,
    /// The guest said nothing more: never taken for a pass.
    NoAnswer {
        /// The step it was in.
        during: String,
        /// How the boot ended.
        ending: Ending,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchObject(object) => write!(
                f,
                "patches {object}, which this kernel does not have as a module"
            ),
            Self::ObjectNotLoaded(object, why) => write!(
                f,
                "patches {object}, which did not load in the guest: {why}"
            ),
            Self::OtherKernel { built_for } => write!(f, "built for another kernel: {built_for}"),
            Self::Refused(why) => write!(f, "refused by the kernel: {why}"),
            Self::DiedLoading => f.write_str("loading it crashed inside the kernel"),
            Self::NotALivepatch => f.write_str("loaded, but it registered no livepatch"),
            Self::Stalled(limit) => {
                write!(f, "transition not complete after {} s", limit.as_secs())
            }
            Self::NotPatched(object) => write!(f, "{object} is loaded but not patched"),
            Self::UndeclaredObject(object) => {
                write!(f, "patches {object}, which it does not declare")
            }
            Self::NotDisabled(why) => write!(f, "could not be disabled: {why}"),
            Self::StalledOut(limit) => {
                write!(f, "transition out not complete after {} s", limit.as_secs())
            }
            Self::NotUnloaded(why) => write!(f, "could not be unloaded: {why}"),
            Self::LateFailed(why) => write!(f, "loaded before the module it patches: {why}"),
            Self::ScriptFailed(code) => {
                write!(f, "the script ended with code {code} while it was loaded")
            }
            Self::ScriptStopped(stage) => write!(f, "the script did not end ({stage})"),
            Self::Complaint(title) => write!(f, "kernel complaint: {title}"),
            Self::LogDisagrees(state) => write!(f, "the kernel's log leaves it in state {state:?}"),
            Self::LogIncomplete(count) => {
                write!(f, "{count} records of the kernel's log were lost")
            }
            Self::LogCut => f.write_str("the kernel's log was not read to its end"),
            Self::NoAnswer { during, ending } => {
                write!(f, "no answer from the guest during {during}: {ending}")
            }
        }
    }
}
