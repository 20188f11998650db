//! Signatures by a program: a token, an HSM, a key service.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tuxtape_sys::process;

use super::{Key, KeyError, KeyId};

/// How long it may take: a person may have to touch a token.
const DEADLINE: Duration = Duration::from_secs(120);
/// Bytes it may print; the longest signature in hex has about 2 KiB.
const LIMIT: u64 = 16 * 1024;

/// Runs `program` with `message` on its standard input and takes the signature from its standard
/// output, in hex or in binary.
///
/// The program does not say whose signature it is; that shows in which of `known` verifies it, so what
/// it prints can never count as more than what it is. Blocks for up to two minutes.
pub fn sign(
    program: &Path,
    message: &[u8],
    known: &BTreeMap<KeyId, Key>,
) -> Result<(KeyId, String), KeyError> {
    sign_within(program, message, known, DEADLINE)
}

fn sign_within(
    program: &Path,
    message: &[u8],
    known: &BTreeMap<KeyId, Key>,
    deadline: Duration,
) -> Result<(KeyId, String), KeyError> {
    let printed = process::answer(&mut Command::new(program), message, LIMIT, deadline).map_err(
        |source| KeyError::Program {
            program: program.to_owned(),
            source,
        },
    )?;
    let text = str::from_utf8(&printed).ok().map(str::trim);
    let hex = text.filter(|text| hex::decode(text).is_ok());
    let signature = hex.map_or_else(|| hex::encode(&printed), str::to_ascii_lowercase);
    known
        .iter()
        .find(|(_, key)| key.verifies(message, &signature))
        .map(|(id, _)| (id.clone(), signature))
        .ok_or_else(|| KeyError::Foreign {
            program: program.to_owned(),
            length: printed.len(),
        })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use tuxtape_sys::process::ProcessError;

    use super::*;
    use crate::keys::PrivateKey;

    fn script(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("sign");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_signature_counts_for_the_key_that_verifies_it() {
        let folder = tempfile::tempdir().unwrap();
        let keys = [1, 2].map(|seed| PrivateKey::from_seed([seed; 32]));
        let known: BTreeMap<KeyId, Key> = keys
            .iter()
            .map(|key| (key.public().id(), key.public()))
            .collect();
        let signature = keys[1].sign(b"message");
        let check = |text: &str, wanted: Option<&PrivateKey>| {
            let got = sign(&script(folder.path(), text), b"message", &known);
            match wanted {
                Some(key) => assert_eq!(got.unwrap(), (key.public().id(), key.sign(b"message"))),
                None => assert!(matches!(got, Err(KeyError::Foreign { .. })), "{text}"),
            }
        };
        check(&format!("cat >/dev/null; echo {signature}"), Some(&keys[1]));
        let upper = signature.to_uppercase();
        check(&format!("echo {upper}"), Some(&keys[1]));
        let mut octal = String::new();
        for byte in hex::decode(&signature).unwrap() {
            octal.push_str(&format!("\\{byte:03o}"));
        }
        check(&format!("printf '{octal}'"), Some(&keys[1]));
        let foreign = PrivateKey::from_seed([3; 32]).sign(b"message");
        check(&format!("echo {foreign}"), None);
        check("true", None);
    }

    #[test]
    fn a_program_that_hangs_floods_or_fails_signs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let failed = |text: &str| {
            let program = script(folder.path(), text);
            let second = Duration::from_secs(1);
            match sign_within(&program, b"m", &BTreeMap::new(), second) {
                Err(KeyError::Program { source, .. }) => source,
                other => panic!("{other:?}"),
            }
        };
        assert!(matches!(failed("sleep 60"), ProcessError::Deadline { .. }));
        assert!(matches!(
            failed("exec head -c 100000 /dev/zero"),
            ProcessError::Output { limit: LIMIT, .. } | ProcessError::Failed { .. }
        ));
        assert!(matches!(failed("exit 3"), ProcessError::Failed { .. }));
        assert!(matches!(
            sign(&folder.path().join("none"), b"m", &BTreeMap::new()),
            Err(KeyError::Program {
                source: ProcessError::Start { .. },
                ..
            })
        ));
    }
}
