//! `tuxtape completions`.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::context::Context;
use crate::{Cli, output};

/// Print a completion script for a shell
///
/// For bash: `tuxtape completions bash > ~/.local/share/bash-completion/completions/tuxtape`
#[derive(Debug, Args)]
pub struct Arguments {
    /// Shell to complete for
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Runs the command.
pub fn run(arguments: &Arguments, _context: &Context) -> anyhow::Result<ExitCode> {
    output::text(&script(arguments.shell))?;
    Ok(ExitCode::SUCCESS)
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tuxtape", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_is_told_of_every_subcommand() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for command in Cli::command()
                .get_subcommands()
                .filter(|c| !c.is_hide_set())
            {
                assert!(
                    script.contains(command.get_name()),
                    "{shell}: {}",
                    command.get_name()
                );
            }
        }
    }
}
