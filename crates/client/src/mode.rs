//! The emergency switch: kernel command line `tuxtape.mode=` and file `/etc/tuxtape/mode`.

use std::fmt;

/// How much the client may do, from most to least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Everything.
    Normal,
    /// Look for new levels, load none.
    NoApply,
    /// Do not ask the archive either.
    NoRefresh,
    /// Nothing at all. Does not unload.
    Stop,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::NoApply => "no-apply",
            Self::NoRefresh => "no-refresh",
            Self::Stop => "stop",
        })
    }
}

/// A mode and where it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The mode.
    pub mode: Mode,
    /// `default`, `command line` or `file`.
    pub from: &'static str,
    /// The word that is no mode, if that is why.
    pub unknown: Option<String>,
}

/// Reads both switches; the stricter wins. An unknown word means `no-apply`.
pub fn read(command_line: &str, file: Option<&str>) -> Switch {
    let mut strictest = Switch {
        mode: Mode::Normal,
        from: "default",
        unknown: None,
    };
    let mut set = |word: &str, from: &'static str| {
        let known = match word {
            "normal" => Some(Mode::Normal),
            "no-apply" => Some(Mode::NoApply),
            "no-refresh" => Some(Mode::NoRefresh),
            "stop" => Some(Mode::Stop),
            _ => None,
        };
        let mode = known.unwrap_or(Mode::NoApply);
        if mode > strictest.mode {
            strictest = Switch {
                mode,
                from,
                unknown: known.is_none().then(|| word.chars().take(40).collect()),
            };
        }
    };
    for word in command_line.split_whitespace() {
        if let Some(word) = word.strip_prefix("tuxtape.mode=") {
            set(word, "command line");
        } else if word == "tuxtape.enable=0" {
            set("stop", "command line");
        }
    }
    if let Some(word) = file.map(str::trim).filter(|word| !word.is_empty()) {
        set(word, "file");
    }
    strictest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_switch_wins_and_an_unknown_word_loads_nothing() {
        for (line, file, mode) in [
            ("quiet", None, Mode::Normal),
            ("quiet tuxtape.mode=stop", Some("no-apply"), Mode::Stop),
            ("tuxtape.mode=normal", Some("no-refresh\n"), Mode::NoRefresh),
            ("tuxtape.enable=0", None, Mode::Stop),
            ("tuxtape.mode=off", None, Mode::NoApply),
        ] {
            assert_eq!(read(line, file).mode, mode, "{line:?} {file:?}");
        }
    }
}
