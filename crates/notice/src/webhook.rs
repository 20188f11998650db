//! Webhooks: one signed POST per notice.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::hmac;
use serde::Serialize;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::instant::UtcSeconds;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::channel::Webhook;
use crate::letter::Letter;
use crate::secret::Secret;
use crate::send::Outcome;

/// Longest time for one whole exchange.
const TOTAL: Duration = Duration::from_secs(10);
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Longest file of certificate authorities, in bytes.
const LONGEST_CA: u64 = 4 << 20;

// A promise to receivers: add to it, do not rename.
#[derive(Serialize)]
struct Json<'a> {
    format: u32,
    key: &'a str,
    kind: &'a str,
    at: String,
    cve: Option<String>,
    kernel: Option<&'a str>,
    subject: &'a str,
    body: &'a str,
}

/// Returns the JSON of `letter`.
pub(crate) fn body(letter: &Letter) -> Vec<u8> {
    let json = Json {
        format: 1,
        key: &letter.key,
        kind: letter.kind,
        at: letter.at.to_string(),
        cve: letter.cve.map(|cve| cve.to_string()),
        kernel: letter.kernel.as_ref().map(KernelRelease::as_str),
        subject: &letter.subject,
        body: &letter.body,
    };
    serde_json::to_vec(&json).expect("strings and a number always make JSON")
}

/// Returns the signature header: HMAC-SHA-256 over the time, a full stop and the body.
fn signature(secret: &Secret, now: UtcSeconds, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
    let tag = hmac::sign(&key, &signed(now, body));
    format!("t={},v1={}", now.unix(), hex::encode(tag))
}

fn signed(at: UtcSeconds, body: &[u8]) -> Vec<u8> {
    [format!("{}.", at.unix()).as_bytes(), body].concat()
}

/// Tells whether `header` signs `body` with `secret`, not more than `most` seconds from `now`.
///
/// The time is part of what is signed, so that nobody can send an old body again later.
pub fn is_signed_by(
    secret: &Secret,
    header: &str,
    body: &[u8],
    now: UtcSeconds,
    most: u64,
) -> bool {
    let parts = || {
        let (time, tag) = header.strip_prefix("t=")?.split_once(",v1=")?;
        let at = UtcSeconds::from_unix(time.parse().ok()?);
        Some((at, hex::decode(tag).ok()?))
    };
    let Some((at, tag)) = parts() else {
        return false;
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
    now.since(at).max(at.since(now)) <= most && hmac::verify(&key, &signed(at, body), &tag).is_ok()
}

/// Posts `letter`. Blocks for at most ten seconds.
pub(crate) fn post(
    webhook: &Webhook,
    secret: Option<&Secret>,
    letter: &Letter,
    now: UtcSeconds,
) -> Outcome {
    let agent = match agent(webhook.ca_file.as_deref()) {
        Ok(agent) => agent,
        Err(why) => return Outcome::Unreachable(why),
    };
    let body = body(letter);
    let mut request = agent
        .post(webhook.url.reveal())
        .header("Content-Type", "application/json")
        .header("Tuxtape-Event", letter.kind)
        .header("Tuxtape-Id", letter.id());
    if let Some(secret) = secret {
        request = request.header("Tuxtape-Signature", signature(secret, now, &body));
    }
    let shown = webhook.shown();
    // The answer's body is not read: it says nothing that is used, and may be endless.
    match request.send(&body[..]) {
        Ok(answer) => judge(answer.status().as_u16(), &shown),
        Err(error) => {
            // The library may quote the address, whose path is often a token.
            let why = error.to_string().replace(webhook.url.reveal(), &shown);
            Outcome::Unreachable(format!("{shown}: {why}"))
        }
    }
}

fn judge(status: u16, shown: &str) -> Outcome {
    let why = format!("{shown} answered {status}");
    match status {
        200..=299 => Outcome::Delivered(Vec::new()),
        410 => Outcome::Gone(why),
        // Too fast: whatever follows now would be refused too.
        429 => Outcome::Unreachable(why),
        408 | 500..=599 => Outcome::Temporary(why),
        300..=399 => Outcome::Permanent(format!("{why}, and redirects are not followed")),
        _ => Outcome::Permanent(why),
    }
}

fn agent(ca_file: Option<&Path>) -> Result<ureq::Agent, String> {
    let mut tls = TlsConfig::builder();
    if let Some(pem) = authorities(ca_file)? {
        let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
            .filter_map(Result::ok)
            .filter_map(|item| match item {
                PemItem::Certificate(certificate) => Some(certificate),
                _ => None,
            })
            .collect();
        tls = tls.root_certs(RootCerts::from(certificates));
    }
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(TOTAL))
        .tls_config(tls.build())
        .user_agent("tuxtape")
        .build();
    Ok(config.into())
}

/// Reads the certificate authorities to trust: those given, else the system's; `None` for the built-in
/// ones, where this system has none.
pub(crate) fn authorities(given: Option<&Path>) -> Result<Option<Vec<u8>>, String> {
    let system = || Some(PathBuf::from(SYSTEM_CA)).filter(|path| path.is_file());
    let Some(path) = given.map(Path::to_owned).or_else(system) else {
        return Ok(None);
    };
    let failed = |why: String| format!("could not read {}: {why}", path.display());
    let size = fs::metadata(&path).map_err(|error| failed(error.to_string()))?;
    if !size.is_file() || size.len() > LONGEST_CA {
        return Err(failed(format!("no file of at most {LONGEST_CA} bytes")));
    }
    fs::read(&path)
        .map(Some)
        .map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letter::sample;

    #[test]
    fn the_body_is_what_receivers_were_promised() {
        let text = String::from_utf8(body(&Letter::of(&sample(1000)))).unwrap();
        assert_eq!(
            text,
            "{\"format\":1,\"key\":\"urgent/CVE-2024-1000/6.1.0-47-cloud-amd64\",\"kind\":\"urgent\",\
             \"at\":\"2026-11-24T18:16:40Z\",\"cve\":\"CVE-2024-1000\",\"kernel\":\"6.1.0-47-cloud-amd64\",\
             \"subject\":\"act: CVE-2024-1000 in 6.1.0-47-cloud-amd64: net: foo: fix\",\
             \"body\":\"CVE-2024-1000: net: foo: fix\\n\"}"
        );
    }

    #[test]
    fn a_signature_holds_for_its_body_its_time_and_its_secret() {
        let secret = |text: &str| Secret::new(text.to_owned()).unwrap();
        let now = UtcSeconds::from_unix(1_795_543_200);
        let header = signature(&secret("key"), now, b"body");
        // As `printf 1795543200.body | openssl dgst -sha256 -hmac key` says.
        assert_eq!(
            header,
            "t=1795543200,v1=f07905425f3e20182a9befb15807bdbc0dcb7bb95453c1bbb618dd7fdf87c018"
        );
        let check = |with: &str, header: &str, body: &[u8], later: u64| {
            is_signed_by(&secret(with), header, body, now.plus(later), 300)
        };
        assert!(check("key", &header, b"body", 300));
        assert!(!check("key", &header, b"body", 301));
        assert!(!check("key", &header, b"bodY", 0));
        assert!(!check("other", &header, b"body", 0));
        let moved = header.replace("t=1795543200", "t=1795543201");
        assert!(!check("key", &moved, b"body", 0));
        for garbled in ["", "t=,v1=", "v1=00", "t=1795543200,v1=zz"] {
            assert!(!check("key", garbled, b"body", 0));
        }
    }

    #[test]
    fn an_answer_says_whether_to_try_again() {
        let is = |status: u16, want: &str| {
            let outcome = format!("{:?}", judge(status, "https://x/…"));
            assert!(outcome.starts_with(want), "{status}: {outcome}");
        };
        for status in [200, 202, 204] {
            is(status, "Delivered");
        }
        for status in [408, 500, 502, 503] {
            is(status, "Temporary");
        }
        for status in [301, 307, 400, 401, 404, 422] {
            is(status, "Permanent");
        }
        is(429, "Unreachable");
        is(410, "Gone");
    }
}
