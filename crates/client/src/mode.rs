//! The emergency switch: kernel command line `tuxtape.mode=` and file `/etc/tuxtape/mode`.

use std::fmt;
use std::io;
use std::path::Path;

use tuxtape_sys::regular;

/// Bytes of the file that are read; a mode is one word.
const FILE_LIMIT: u64 = 4096;

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
    /// What could not be read, if that is why.
    pub unread: Option<String>,
}

/// Reads both switches where they are. What is there and cannot be read may say `stop`, so it means
/// `no-apply`; only a file that is not there says nothing.
pub fn look(command_line: &Path, file: &Path) -> Switch {
    let mut unread = None;
    let mut text = |path: &Path, read: io::Result<Option<Vec<u8>>>| match read {
        Ok(bytes) => bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => {
            unread.get_or_insert_with(|| format!("{}: {error}", path.display()));
            None
        }
    };
    let line = text(command_line, std::fs::read(command_line).map(Some));
    let word = match regular::read(file, FILE_LIMIT) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(None) => Err(io::Error::other("larger than a mode can be")),
        read => read,
    };
    let word = text(file, word);
    let mut switch = read(line.as_deref().unwrap_or_default(), word.as_deref());
    if unread.is_some() && switch.mode < Mode::NoApply {
        (switch.mode, switch.from) = (Mode::NoApply, "unreadable switch");
    }
    switch.unread = unread;
    switch
}

/// Reads both switches; the stricter wins. An unknown word means `no-apply`.
pub fn read(command_line: &str, file: Option<&str>) -> Switch {
    let mut strictest = Switch {
        mode: Mode::Normal,
        from: "default",
        unknown: None,
        unread: None,
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
                unread: None,
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
    fn a_switch_that_cannot_be_read_loads_nothing() {
        use std::fs;
        let folder = tempfile::tempdir().unwrap();
        let (line, file) = (folder.path().join("cmdline"), folder.path().join("mode"));
        fs::write(&line, "quiet").unwrap();
        let switch = look(&line, &file);
        assert_eq!((switch.mode, &switch.unread), (Mode::Normal, &None));
        fs::write(&file, b"stop\xff\n").unwrap();
        assert_eq!(look(&line, &file).mode, Mode::NoApply, "no word of ours");
        fs::write(&file, "stop\n").unwrap();
        assert_eq!(look(&line, &file).mode, Mode::Stop);
        fs::write(&file, vec![b' '; 5000]).unwrap();
        assert_eq!(look(&line, &file).mode, Mode::NoApply);
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        let switch = look(&line, &file);
        assert_eq!(switch.mode, Mode::NoApply);
        assert!(switch.unread.unwrap().contains("mode: not a regular file"));
        fs::write(&line, b"name=\xe9 tuxtape.mode=stop quiet").unwrap();
        assert_eq!(
            look(&line, &file).mode,
            Mode::Stop,
            "one stray byte hides nothing"
        );
        fs::remove_dir(&file).unwrap();
        fs::remove_file(&line).unwrap();
        assert_eq!(look(&line, &file).mode, Mode::NoApply);
    }

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
