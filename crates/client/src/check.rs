//! `check`: would `apply` do something, and what stands in the way.

use tuxtape_archive::source::Source;

use crate::apply::{ClientError, Settings, chain, look, make_plan};
use crate::host::Host;
use crate::mode::Mode;
use crate::plan::{self, Plan};
use crate::state::State;

/// What `check` came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// What `apply` would do.
    Plan(Plan),
    /// The switch forbids even looking.
    Off(Mode),
}

/// Looks into the archive and makes a plan; changes metadata, nothing else.
///
/// A level that could be loaded is judged against the kernel's switches as if it were not signed for
/// the kernel, since the module itself is not fetched.
pub fn check(
    host: &dyn Host,
    settings: &Settings,
    source: &dyn Source,
) -> Result<Checked, ClientError> {
    if settings.switch.mode >= Mode::NoRefresh {
        return Ok(Checked::Off(settings.switch.mode));
    }
    let mut state = State::open(&settings.state)?;
    let kernel = host.kernel()?;
    let now = host.clock();
    let found = look(&mut state, source, &kernel, now);
    state.set_last_check(now, found.as_ref().err().map(chain))?;
    let found = found?;
    let plan = make_plan(
        host,
        &state,
        settings,
        &kernel,
        found.kernel.as_ref(),
        found.hold.as_ref(),
    )?;
    Ok(Checked::Plan(match plan {
        Plan::Load(level, target, name) => {
            let demands = plan::demands(&host.load_policy(), b"");
            if demands.is_empty() {
                Plan::Load(level, target, name)
            } else {
                Plan::Blocked(level, demands)
            }
        }
        other => other,
    }))
}
