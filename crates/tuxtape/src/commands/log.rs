//! `tuxtape log`.

mod decode;
mod input;
mod people;
mod session;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use tuxtape_klog::transport::Source;

use crate::context::Context;
use crate::screen::Colour;

/// Read kernel logs: what the kernel complained about, and whether a livepatch is to blame
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// Actions.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// List the complaints of a kernel log and say who is to blame
    ///
    /// Reads dmesg in all its forms, records of /dev/kmsg, journald's export and JSON, parts kept by
    /// pstore, netconsole, serial consoles and syslog files, plain or packed with gzip, xz or zstd.
    /// Without FILE, or with `-`, reads standard input. A folder is read as what pstore kept there:
    /// the parts of each crash in order.
    ///
    /// The exit code is 0 when all was read and nothing reached --fail-on, 1 when something could not
    /// be read or is of no known kind, and 3 when --fail-on was reached.
    Parse(Parse),
    /// Add source lines and inlined functions to a stack, from debug information
    ///
    /// Reads lines of a stack from FILE or standard input and prints them with what the debug
    /// information of `vmlinux` and modules says. A file whose build id is not the one that the log
    /// names is not used.
    Decode(decode::Decode),
}

/// Arguments of `log parse`.
#[derive(Debug, Args)]
pub struct Parse {
    /// The logs; `-` for standard input
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Go on reading as the log grows; one FILE, standard input or /dev/kmsg
    #[arg(long)]
    pub follow: bool,
    /// What the log is
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    pub source: Kind,
    /// State of the livepatches, as the client writes it: only those named there are ours
    #[arg(long, value_name = "FILE")]
    pub patches: Option<PathBuf>,
    /// What the fleet has seen: lines with fingerprints
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Also list what livepatches did
    #[arg(long)]
    pub events: bool,
    /// Also print the lines of each report
    #[arg(long)]
    pub text: bool,
    /// Exit with 3 from here up
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
    pub fail_on: FailOn,
    /// When to colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub color: Colour,
}

/// What `--fail-on` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// A livepatch of ours is guilty.
    #[default]
    Guilty,
    /// A livepatch of ours is suspect or guilty.
    Suspect,
    /// Any report.
    Report,
}

/// What `--source` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Told by the first bytes.
    #[default]
    Auto,
    /// `dmesg`, in any of its forms.
    Dmesg,
    /// Records of /dev/kmsg.
    Kmsg,
    /// journald's export or JSON.
    Journal,
    /// Parts kept over a crash.
    Pstore,
    /// netconsole, plain or extended.
    Netconsole,
    /// A serial console.
    Serial,
    /// Files of a syslog daemon.
    Syslog,
}

impl Kind {
    fn source(self) -> Option<Source> {
        match self {
            Self::Auto => None,
            Self::Dmesg => Some(Source::Dmesg),
            Self::Kmsg => Some(Source::Kmsg),
            Self::Journal => Some(Source::Journal),
            Self::Pstore => Some(Source::Pstore),
            Self::Netconsole => Some(Source::Netconsole),
            Self::Serial => Some(Source::Serial),
            Self::Syslog => Some(Source::Syslog),
        }
    }
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    match &arguments.action {
        Action::Parse(parse) => session::run(parse, context),
        Action::Decode(decode) => decode::run(decode),
    }
}
