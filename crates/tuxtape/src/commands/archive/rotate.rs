//! `tuxtape archive rotate`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tuxtape_archive::keys::Key;
use tuxtape_archive::policy::Duty;
use tuxtape_archive::publish::Workspace;
use tuxtape_archive::publish::rotate::OnlineRole;

use super::{hinted, now, show};
use crate::context::Context;
use crate::output;

/// Exchange a key: of an online role, or of people
///
/// The old key goes on counting until the draft is signed and published.
#[derive(Debug, Args)]
pub struct Rotate {
    /// Whose key
    pub role: Role,
    /// Person who no longer signs that
    #[arg(long = "remove", value_name = "NAME")]
    pub leave: Vec<String>,
    /// Person who signs that from now on, with a public key
    #[arg(long = "add", value_name = "NAME=KEY.pub")]
    pub come: Vec<String>,
}

/// Whose key is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// People who sign root.
    Root,
    /// People who sign targets.
    Targets,
    /// People who sign levels.
    Reviewers,
    /// The online key of snapshot.
    Snapshot,
    /// The online key of timestamp.
    Timestamp,
    /// The online key of the stop button.
    Hold,
}

/// Runs the command.
pub fn run(
    mut workspace: Workspace,
    arguments: &Rotate,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let people = !arguments.leave.is_empty() || !arguments.come.is_empty();
    match duty_or_online(arguments.role) {
        Ok(duty) => {
            anyhow::ensure!(
                people,
                "say who leaves (--remove NAME) and who comes (--add NAME=KEY.pub)"
            );
            let come = arguments.come.iter().map(|pair| person(pair));
            let come: Vec<(String, Key)> = come.collect::<anyhow::Result<_>>()?;
            workspace
                .rotate_people(duty, &arguments.leave, &come, now())
                .map_err(hinted)?;
        }
        Err(online) => {
            anyhow::ensure!(!people, "an online role has one key and no people");
            let draft: PathBuf = workspace.rotate_online(online, now()).map_err(hinted)?;
            output::talk(&format!(
                "the new key counts once {} is published",
                draft.display()
            ));
        }
    }
    show::drafts(&workspace, context)
}

fn duty_or_online(role: Role) -> Result<Duty, OnlineRole> {
    match role {
        Role::Root => Ok(Duty::Root),
        Role::Targets => Ok(Duty::Targets),
        Role::Reviewers => Ok(Duty::Review),
        Role::Snapshot => Err(OnlineRole::Snapshot),
        Role::Timestamp => Err(OnlineRole::Timestamp),
        Role::Hold => Err(OnlineRole::Hold),
    }
}

fn person(pair: &str) -> anyhow::Result<(String, Key)> {
    let (name, path) = pair
        .split_once('=')
        .with_context(|| format!("{pair:?} is not NAME=KEY.pub"))?;
    Ok((name.to_owned(), Key::load(Path::new(path))?))
}
