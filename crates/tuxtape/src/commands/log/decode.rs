//! `log decode`: source lines and inlined functions of a stack.

mod debug;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use tuxtape_klog::report::{Frame, read_frame};

use self::debug::{Debug, Place};
use super::session::text_of;
use crate::output;

/// Arguments of `log decode`.
#[derive(Debug, Args)]
pub struct Decode {
    /// The log; `-` or nothing for standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The kernel's `vmlinux` with debug information
    #[arg(long, value_name = "FILE")]
    vmlinux: Option<PathBuf>,
    /// A module with debug information; can be repeated
    #[arg(long = "module", value_name = "FILE")]
    modules: Vec<PathBuf>,
}

pub(super) fn run(arguments: &Decode) -> anyhow::Result<ExitCode> {
    if arguments.vmlinux.is_none() && arguments.modules.is_empty() {
        bail!(
            anyhow::anyhow!("no debug information named")
                .context(output::Hint::new("name it with --vmlinux and --module"))
        );
    }
    let kernel = arguments
        .vmlinux
        .as_ref()
        .map(|path| Debug::open(path))
        .transpose()?;
    let modules = arguments
        .modules
        .iter()
        .map(|path| {
            let name = path
                .file_name()
                .context("a module's path ends in its name")?
                .to_string_lossy();
            let name = name.split('.').next().unwrap_or_default().replace('-', "_");
            Ok((name, Debug::open(path)?))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut text = String::new();
    for line in text_of(arguments.file.as_deref())?.lines() {
        let shown: String = line
            .chars()
            .map(|c| {
                if c.is_control() && c != '\t' {
                    '\u{fffd}'
                } else {
                    c
                }
            })
            .collect();
        writeln!(text, "{shown}")?;
        let Some((frame, exact)) = frame_of(line) else {
            continue;
        };
        let debug = match &frame.module {
            None => kernel.as_ref(),
            Some(name) => {
                let wanted = name.replace('-', "_");
                modules
                    .iter()
                    .find(|(module, _)| *module == wanted)
                    .map(|(_, debug)| debug)
            }
        };
        let Some(debug) = debug else { continue };
        match debug.places(&frame, exact) {
            Ok(places) => {
                for place in places {
                    writeln!(text, "{}", written(&place))?;
                }
            }
            Err(why) => writeln!(text, "        ({why})")?,
        }
    }
    output::text(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn written(place: &Place) -> String {
    let inlined = if place.inlined { " (inlined)" } else { "" };
    format!(
        "        {} at {}:{}{inlined}",
        place.function, place.file, place.line
    )
}

/// A frame somewhere in a line, and whether its address is the instruction's own: a stack holds
/// where a call returns to, one byte behind it.
fn frame_of(line: &str) -> Option<(Frame, bool)> {
    let at = line.find("+0x")?;
    let head = line.get(..at)?;
    let start = head
        .rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$')))
        .map_or(0, |place| place + 1);
    let frame = read_frame(line.get(start..)?.as_bytes())?;
    let exact = ["IP: ", "IP:", "pc : ", "PC is at ", "epc : "]
        .iter()
        .any(|mark| head.contains(mark))
        || head.contains("WARNING: ");
    Some((frame, exact))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_behind_any_prefix() {
        let name = |line| frame_of(line).map(|(frame, exact)| (frame.function, exact));
        let f = |exact| Some((Some("f".to_owned()), exact));
        assert_eq!(name("[    1.000000]  f+0x1/0x2 [m]"), f(false));
        assert_eq!(name("[    1.000000] RIP: 0010:f+0x1/0x2"), f(true));
        assert_eq!(name("x86/modules: +0x"), None);
        assert_eq!(name("no frame"), None);
    }
}
