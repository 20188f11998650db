//! Where an export goes.

use std::convert::Infallible;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::str::FromStr;

use tuxtape_sys::durable;

use crate::output;

/// A file, or `-` for the standard output.
#[derive(Clone, Debug)]
pub(super) enum Sink {
    /// The standard output.
    Stdout,
    /// A file, written whole or not at all.
    File(PathBuf),
}

impl FromStr for Sink {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "-" => Self::Stdout,
            path => Self::File(PathBuf::from(path)),
        })
    }
}

impl Sink {
    /// Writes what `fill` gives, and says so where it went to a file.
    pub(super) fn write(
        &self,
        what: &str,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = BufWriter::new(io::stdout().lock());
                fill(&mut out)?;
                out.flush()?;
            }
            Self::File(path) => {
                durable::write_with(path, |file| {
                    let mut out = BufWriter::new(file);
                    fill(&mut out)?;
                    out.flush()
                })?;
                output::talk(&format!("wrote {what} to {}", path.display()));
            }
        }
        Ok(())
    }
}
