//! Signing a module for the kernel's own check, which Secure Boot turns on.
//!
//! The kernel's `sign-file` and `openssl` do the work; here is what is asked of them, and that what came
//! out is what went in with a signature behind it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use sha2::{Digest, Sha256};
use tuxtape_archive::publish::stage::KernelSignature;
use tuxtape_sys::process;

/// What the kernel finds at the end of a signed module.
const MARK: &[u8] = b"~Module signature appended~\n";
/// Bytes between the signature and the mark: `struct module_signature` (`kernel/module_signature.c`).
const TRAILER: usize = 12;
/// How long a tool may take: a token may want to be touched.
const DEADLINE: Duration = Duration::from_secs(120);

/// How the module is signed for the kernel.
#[derive(Debug, Args)]
pub struct KernelSigner {
    /// Sign the module for the kernel with this key (PEM file, or a pkcs11: URI)
    #[arg(long, value_name = "KEY", requires = "module_cert")]
    pub module_key: Option<String>,
    /// Certificate (PEM) of the key that signs, or has signed, the module for the kernel
    #[arg(long, value_name = "CERT")]
    pub module_cert: Option<PathBuf>,
    /// The kernel's sign-file program
    #[arg(
        long,
        default_value = "/usr/lib/linux-kbuild-6.1/scripts/sign-file",
        value_name = "PROGRAM"
    )]
    pub sign_file: PathBuf,
}

/// Signs the module where a key is given, and says who signed it for the kernel.
///
/// A module that carries a signature already is never signed twice, and not taken on its own word: the
/// certificate must be given, and must verify it.
pub fn prepare(
    module: Vec<u8>,
    signer: &KernelSigner,
) -> anyhow::Result<(Vec<u8>, Option<KernelSignature>)> {
    let Some(certificate) = &signer.module_cert else {
        anyhow::ensure!(
            !module.ends_with(MARK),
            "the module is signed for the kernel; name the certificate with --module-cert"
        );
        return Ok((module, None));
    };
    let folder = tempfile::tempdir().context("could not make a temporary folder")?;
    let signed = match &signer.module_key {
        Some(key) => {
            anyhow::ensure!(
                !module.ends_with(MARK),
                "the module is signed for the kernel already"
            );
            let path = folder.path().join("module.ko");
            std::fs::write(&path, &module).context("could not write a temporary file")?;
            process::run_ok(
                Command::new(&signer.sign_file)
                    .arg("sha256")
                    .arg(key)
                    .arg(certificate)
                    .arg(&path),
                DEADLINE,
            )
            .context("could not sign the module for the kernel")?;
            let signed = std::fs::read(&path).context("could not read the signed module")?;
            anyhow::ensure!(
                signed.starts_with(&module),
                "{} changed the module instead of signing it",
                signer.sign_file.display()
            );
            signed
        }
        None => module,
    };
    let (content, signature) =
        parts(&signed).context("the module carries no signature for the kernel")?;
    let (body, pkcs7) = (folder.path().join("body"), folder.path().join("signature"));
    std::fs::write(&body, content).context("could not write a temporary file")?;
    std::fs::write(&pkcs7, signature).context("could not write a temporary file")?;
    process::run_ok(
        Command::new("openssl")
            .args(["cms", "-verify", "-binary", "-inform", "DER", "-noverify"])
            .args(["-nointern", "-certfile"])
            .arg(certificate)
            .arg("-in")
            .arg(&pkcs7)
            .arg("-content")
            .arg(&body)
            .args(["-out", "/dev/null"]),
        DEADLINE,
    )
    .with_context(|| {
        format!(
            "the module's signature for the kernel is not one by {}",
            certificate.display()
        )
    })?;
    let printed = process::run_ok(
        Command::new("openssl")
            .args(["x509", "-noout", "-ext", "subjectKeyIdentifier", "-in"])
            .arg(certificate),
        DEADLINE,
    )
    .context("could not read the certificate")?;
    let text = String::from_utf8_lossy(&printed.stdout);
    let skid = text
        .lines()
        .last()
        .unwrap_or_default()
        .trim()
        .replace(':', "")
        .to_lowercase();
    let hex = !skid.is_empty() && skid.bytes().all(|byte| byte.is_ascii_hexdigit());
    anyhow::ensure!(
        hex,
        "{} has no subject key identifier, by which the kernel finds it",
        certificate.display()
    );
    let unsigned_sha256 = hex::encode(Sha256::digest(content));
    let signed_by = KernelSignature {
        unsigned_sha256,
        signer_skid: skid,
    };
    Ok((signed, Some(signed_by)))
}

/// Takes a signed module apart: what is signed, and the PKCS#7 signature (kernel/module/signing.c).
fn parts(module: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = module.strip_suffix(MARK)?;
    let at = rest.len().checked_sub(TRAILER)?;
    let (rest, trailer) = rest.split_at(at);
    // Id type 2 is PKCS#7; all other fields but the length are zero then.
    let (fields, length) = trailer.split_at(8);
    if fields != [0, 0, 2, 0, 0, 0, 0, 0] {
        return None;
    }
    let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
    let at = rest.len().checked_sub(length)?;
    Some(rest.split_at(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_module_comes_apart_and_a_damaged_trailer_does_not() {
        let whole = |length: u32, kind: u8| {
            let mut module = b"module".to_vec();
            module.extend_from_slice(b"signature");
            module.extend_from_slice(&[0, 0, kind, 0, 0, 0, 0, 0]);
            module.extend_from_slice(&length.to_be_bytes());
            module.extend_from_slice(MARK);
            module
        };
        assert_eq!(
            parts(&whole(9, 2)),
            Some((&b"module"[..], &b"signature"[..]))
        );
        assert_eq!(parts(&whole(16, 2)), None);
        assert_eq!(parts(&whole(u32::MAX, 2)), None);
        assert_eq!(parts(&whole(9, 1)), None);
        assert_eq!(parts(b"module"), None);
        assert_eq!(parts(MARK), None);
    }
}
