//! A person's editor.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};

/// Why a file was not edited.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The editor could not be started.
    #[error("could not start the editor {command:?}")]
    Start {
        /// What `EDITOR` says.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended with failure, by which people say that they take nothing over.
    #[error("the editor {command:?} ended with {status}")]
    Failed {
        /// What `EDITOR` says.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
}

/// Opens `file` in the editor `command`, a line for the shell as the variable `EDITOR` holds it, on our
/// terminal. Blocks until the person ends it, however long that is.
pub fn open(command: &str, file: &Path) -> Result<(), EditError> {
    let mut line = OsString::from(command);
    line.push(" \"$1\"");
    let status = Command::new("/bin/sh")
        .arg("-c")
        .arg(line)
        // What `$0` and `$1` are.
        .arg("editor")
        .arg(file)
        .status()
        .map_err(|source| EditError::Start {
            command: command.to_owned(),
            source,
        })?;
    if status.success() {
        Ok(())
    } else {
        Err(EditError::Failed {
            command: command.to_owned(),
            status,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_editor_may_have_arguments_and_a_file_may_have_blanks() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a b");
        std::fs::write(&file, "x\n").unwrap();
        open("sed -i s/x/y/", &file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "y\n");
        assert!(matches!(
            open("false", &file),
            Err(EditError::Failed { .. })
        ));
        assert!(open("no-such-editor", &file).is_err());
    }
}
