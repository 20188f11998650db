//! Keys that sign metadata, and the files they are kept in.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::SubjectPublicKeyInfoRef;
use ed25519_dalek::pkcs8::spki::der::Document;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::canonical;

pub mod program;

const FILE_LIMIT: u64 = 16 * 1024;

/// A public key as metadata carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Kind of key; see [`Key::verifies`] for those that count.
    pub keytype: String,
    /// Signature scheme.
    pub scheme: String,
    /// The key itself.
    pub keyval: KeyValue,
}

/// Public part of a [`Key`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// Hex for ed25519.
    pub public: String,
}

/// Identifies a key in metadata; opaque when read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub String);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a key file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read.
    #[error("could not read key {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("could not write key {path}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read the private key.
    #[error("private key {path} may be read by others (mode {mode:03o}, want 600)", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// No such key in it.
    #[error("{path} holds no ed25519 {want} in PEM", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        want: &'static str,
    },
    /// The file is locked with a passphrase.
    #[error("key {path} is locked with a passphrase", path = path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase is not the one.
    #[error("the passphrase does not open key {path}", path = path.display())]
    Passphrase {
        /// The file.
        path: PathBuf,
    },
    /// A program that signs did not.
    #[error("{program} made no signature", program = program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// What went wrong.
        source: tuxtape_sys::process::ProcessError,
    },
    /// What the program printed is no signature of anybody known.
    #[error("{program} printed no signature by a key of the policy ({length} bytes, want a signature in hex or in binary)", program = program.display())]
    Foreign {
        /// The program.
        program: PathBuf,
        /// Bytes it printed.
        length: usize,
    },
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Random,
}

impl Key {
    /// Returns the id the publisher gives this key: SHA-256 of its canonical JSON.
    pub fn id(&self) -> KeyId {
        let value = serde_json::json!({
            "keytype": self.keytype,
            "scheme": self.scheme,
            "keyval": {"public": self.keyval.public},
        });
        let bytes = canonical::bytes(&value).expect("three strings have a canonical form");
        KeyId(hex::encode(Sha256::digest(bytes)))
    }

    /// Tells whether `signature` (hex) over `message` was made with this key.
    ///
    /// Knows ed25519, ECDSA on P-256, and RSA-PSS with SHA-256. A key of another kind, or a malformed
    /// one, has made no signature.
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let Ok(signature) = hex::decode(signature) else {
            return false;
        };
        match (self.keytype.as_str(), self.scheme.as_str()) {
            ("ed25519", "ed25519") => self.verifies_ed25519(message, &signature),
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => {
                self.verifies_pem(&ECDSA_P256_SHA256_ASN1, message, &signature)
            }
            ("rsa", "rsassa-pss-sha256") => {
                self.verifies_pem(&RSA_PSS_2048_8192_SHA256, message, &signature)
            }
            _ => false,
        }
    }

    fn verifies_ed25519(&self, message: &[u8], signature: &[u8]) -> bool {
        let mut public = [0; 32];
        if hex::decode_to_slice(&self.keyval.public, &mut public).is_err() {
            return false;
        }
        let key = VerifyingKey::from_bytes(&public);
        let signature = Signature::from_slice(signature);
        key.is_ok_and(|key| {
            signature.is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
        })
    }

    /// Verifies with a key in PEM; the algorithm refuses a key of another kind.
    fn verifies_pem(
        &self,
        algorithm: &'static dyn VerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let Ok((_, document)) = Document::from_pem(&self.keyval.public) else {
            return false;
        };
        let key = SubjectPublicKeyInfoRef::try_from(document.as_bytes());
        let bytes = key
            .ok()
            .and_then(|key| key.subject_public_key.as_bytes().map(<[u8]>::to_vec));
        bytes.is_some_and(|bytes| {
            UnparsedPublicKey::new(algorithm, bytes)
                .verify(message, signature)
                .is_ok()
        })
    }

    /// Reads a public key file (PEM, `SubjectPublicKeyInfo`).
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = read(path, &open(path)?)?;
        if let Ok(key) = VerifyingKey::from_public_key_pem(&text) {
            return Ok(Self::ed25519(&key));
        }
        Self::p256(&text).ok_or_else(|| KeyError::Format {
            path: path.to_owned(),
            want: "or P-256 public key",
        })
    }

    /// Takes an ECDSA key on P-256: what tokens and key services have where they lack ed25519.
    fn p256(text: &str) -> Option<Self> {
        const EC: &str = "1.2.840.10045.2.1";
        const P256: &str = "1.2.840.10045.3.1.7";
        let (_, document) = Document::from_pem(text).ok()?;
        let key = SubjectPublicKeyInfoRef::try_from(document.as_bytes()).ok()?;
        let curve = key.algorithm.parameters_oid().ok()?.to_string();
        (key.algorithm.oid.to_string() == EC && curve == P256).then(|| Self {
            keytype: "ecdsa".to_owned(),
            scheme: "ecdsa-sha2-nistp256".to_owned(),
            keyval: KeyValue {
                public: text.trim_end().to_owned() + "\n",
            },
        })
    }

    fn ed25519(key: &VerifyingKey) -> Self {
        Self {
            keytype: "ed25519".to_owned(),
            scheme: "ed25519".to_owned(),
            keyval: KeyValue {
                public: hex::encode(key.as_bytes()),
            },
        }
    }
}

/// A private key; wiped from memory when dropped.
pub struct PrivateKey(SigningKey);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.public().id())
    }
}

impl PrivateKey {
    /// Makes a key from the system's randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|_| KeyError::Random)?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// Makes the key of a given seed; for tests.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// Reads a private key file (PEM, PKCS#8, without passphrase), which only its owner may read.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        Self::load_with(path, |path| {
            Err(KeyError::Locked {
                path: path.to_owned(),
            })
        })
    }

    /// Like [`Self::load`]; where the file is locked (PKCS#5 v2), `ask` is asked for the passphrase.
    pub fn load_with(
        path: &Path,
        ask: impl FnOnce(&Path) -> Result<Zeroizing<String>, KeyError>,
    ) -> Result<Self, KeyError> {
        let file = open(path)?;
        let mode = file
            .metadata()
            .map_err(|source| KeyError::Read {
                path: path.to_owned(),
                source,
            })?
            .mode()
            & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let text = Zeroizing::new(read(path, &file)?);
        if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            let passphrase = ask(path)?;
            let opened = SecretDocument::from_pem(&text)
                .ok()
                .and_then(|(_, locked)| {
                    let locked = EncryptedPrivateKeyInfoRef::try_from(locked.as_bytes()).ok()?;
                    let opened = locked.decrypt(passphrase.as_bytes()).ok()?;
                    SigningKey::from_pkcs8_der(opened.as_bytes()).ok()
                });
            return opened.map(Self).ok_or_else(|| KeyError::Passphrase {
                path: path.to_owned(),
            });
        }
        SigningKey::from_pkcs8_pem(&text)
            .map(Self)
            .map_err(|_| KeyError::Format {
                path: path.to_owned(),
                want: "private key",
            })
    }

    /// Writes the private key to `path` (mode 0600) and the public one to `path` with `.pub`.
    ///
    /// Refuses to replace a file.
    pub fn save(&self, path: &Path) -> Result<PathBuf, KeyError> {
        self.save_pem(path, self.plain().to_pkcs8_pem(LineEnding::LF).ok())
    }

    /// Like [`Self::save`], locked with a passphrase (scrypt and AES-256, which takes about 128 MB and a
    /// second).
    pub fn save_locked(&self, path: &Path, passphrase: &str) -> Result<PathBuf, KeyError> {
        let locked = self.plain().to_pkcs8_der().ok().and_then(|plain| {
            let plain = PrivateKeyInfoRef::try_from(plain.as_bytes()).ok()?;
            let locked = plain.encrypt(passphrase.as_bytes()).ok()?;
            locked.to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF).ok()
        });
        self.save_pem(path, locked)
    }

    /// The form of RFC 8410 without the public key (version 1): OpenSSL reads no other.
    fn plain(&self) -> KeypairBytes {
        KeypairBytes {
            secret_key: self.0.to_bytes(),
            public_key: None,
        }
    }

    fn save_pem(
        &self,
        path: &Path,
        private: Option<Zeroizing<String>>,
    ) -> Result<PathBuf, KeyError> {
        let mut public_path = path.as_os_str().to_owned();
        public_path.push(".pub");
        let public_path = PathBuf::from(public_path);
        let public = self.0.verifying_key().to_public_key_pem(LineEnding::LF);
        let (Some(private), Ok(public)) = (private, public) else {
            return Err(KeyError::Format {
                path: path.to_owned(),
                want: "private key",
            });
        };
        create(path, 0o600, private.as_bytes())?;
        create(&public_path, 0o644, public.as_bytes())?;
        Ok(public_path)
    }

    /// Returns the public key.
    pub fn public(&self) -> Key {
        Key::ed25519(&self.0.verifying_key())
    }

    /// Signs `message`; the signature in hex.
    pub fn sign(&self, message: &[u8]) -> String {
        hex::encode(self.0.sign(message).to_bytes())
    }
}

fn open(path: &Path) -> Result<File, KeyError> {
    File::open(path).map_err(|source| KeyError::Read {
        path: path.to_owned(),
        source,
    })
}

fn read(path: &Path, file: &File) -> Result<String, KeyError> {
    let mut text = String::new();
    file.take(FILE_LIMIT)
        .read_to_string(&mut text)
        .map_err(|source| KeyError::Read {
            path: path.to_owned(),
            source,
        })?;
    Ok(text)
}

fn create(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), KeyError> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| KeyError::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alice.pem");
        let key = PrivateKey::from_seed([7; 32]);
        let public_path = key.save(&path).unwrap();
        let again = PrivateKey::load(&path).unwrap();
        let public = Key::load(&public_path).unwrap();
        assert_eq!(public, key.public());
        let signature = again.sign(b"message");
        assert!(public.verifies(b"message", &signature));
        assert!(!public.verifies(b"massage", &signature));
        assert!(key.save(&path).is_err(), "a key is never replaced");
    }

    #[test]
    fn a_locked_key_opens_with_its_passphrase_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alice.pem");
        let key = PrivateKey::from_seed([7; 32]);
        key.save_locked(&path, "correct horse").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"),
            "{text}"
        );
        assert!(matches!(
            PrivateKey::load(&path),
            Err(KeyError::Locked { .. })
        ));
        let with = |word: &str| {
            let word = word.to_owned();
            PrivateKey::load_with(&path, |_| Ok(Zeroizing::new(word)))
        };
        assert!(matches!(with("battery"), Err(KeyError::Passphrase { .. })));
        assert_eq!(with("correct horse").unwrap().public(), key.public());
    }

    #[test]
    fn a_key_file_is_of_the_version_that_other_programs_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.pem");
        let made = PrivateKey::generate().unwrap();
        made.save(&path).unwrap();
        assert_eq!(PrivateKey::load(&path).unwrap().public(), made.public());
        let text = fs::read_to_string(&path).unwrap();
        let (_, document) = SecretDocument::from_pem(&text).unwrap();
        // SEQUENCE, INTEGER 0, AlgorithmIdentifier, OCTET STRING, and nothing after: RFC 8410, 10.3.
        assert_eq!(document.as_bytes().len(), 48);
        assert_eq!(document.as_bytes()[..5], [0x30, 0x2e, 2, 1, 0]);
        // Files with the public key, as written before, are still read.
        let old = made.0.to_pkcs8_pem(LineEnding::LF).unwrap();
        fs::write(&path, old.as_bytes()).unwrap();
        assert_eq!(PrivateKey::load(&path).unwrap().public(), made.public());
    }

    #[test]
    fn a_p256_public_key_file_is_taken_and_other_curves_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token.pub");
        fs::write(&path, include_str!("keys/p256.pub")).unwrap();
        let key = Key::load(&path).unwrap();
        assert_eq!(key.scheme, "ecdsa-sha2-nistp256");
        let signature = include_str!("keys/p256.sig").trim();
        assert!(key.verifies(b"message", signature));
        fs::write(
            &path,
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        )
        .unwrap();
        assert!(matches!(Key::load(&path), Err(KeyError::Format { .. })));
    }

    #[test]
    fn a_private_key_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alice.pem");
        PrivateKey::from_seed([7; 32]).save(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            PrivateKey::load(&path),
            Err(KeyError::Exposed { mode: 0o640, .. })
        ));
    }

    /// Made with `openssl ecparam -name prime256v1 -genkey` and `openssl dgst -sha256 -sign`.
    #[test]
    fn a_p256_signature_of_another_tool_is_verified() {
        let key = Key {
            keytype: "ecdsa".to_owned(),
            scheme: "ecdsa-sha2-nistp256".to_owned(),
            keyval: KeyValue {
                public: include_str!("keys/p256.pub").to_owned(),
            },
        };
        let signature = include_str!("keys/p256.sig").trim();
        assert!(key.verifies(b"message", signature));
        assert!(!key.verifies(b"massage", signature));
    }

    #[test]
    fn an_unknown_kind_of_key_signs_nothing() {
        let key = PrivateKey::from_seed([7; 32]);
        let signature = key.sign(b"m");
        let mut public = key.public();
        public.keytype = "ed448".to_owned();
        assert!(!public.verifies(b"m", &signature));
    }
}
