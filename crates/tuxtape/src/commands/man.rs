//! `tuxtape man`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};

use crate::Cli;
use crate::context::Context;

/// Write manual pages, one per subcommand
#[derive(Debug, Args)]
pub struct Arguments {
    /// Folder to write them to; made where it is missing
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// Runs the command.
pub fn run(arguments: &Arguments, _context: &Context) -> anyhow::Result<ExitCode> {
    let folder = &arguments.folder;
    fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    clap_mangen::generate_to(Cli::command(), folder)
        .with_context(|| format!("could not write manual pages to {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_has_a_page() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let context = Context {
            home: folder.path().to_owned(),
            store: tuxtape_store::Location::below(folder.path()),
            cache: folder.path().to_owned(),
            json: false,
        };
        let pages = folder.path().join("pages");
        let arguments = Arguments {
            folder: pages.clone(),
        };
        run(&arguments, &context).expect("pages");
        for command in Cli::command()
            .get_subcommands()
            .filter(|c| !c.is_hide_set())
        {
            let page = pages.join(format!("tuxtape-{}.1", command.get_name()));
            let text = fs::read_to_string(&page).expect("a page of its own");
            assert!(text.contains(".SH NAME"), "{}", page.display());
        }
    }
}
