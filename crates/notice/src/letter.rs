//! What goes through a channel in one piece: a notice, many notices listed, or a test.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use tuxtape_core::cve::CveId;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::notice::{Notice, NoticeKind, one_line, plain_text};

/// One piece to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The same content always has the same key: receivers can tell a repeat by it.
    pub key: String,
    /// A [`NoticeKind`], `digest` or `test`.
    pub kind: &'static str,
    /// When it was noticed; the last time of several.
    pub at: UtcSeconds,
    /// The CVE, where it is about one.
    pub cve: Option<CveId>,
    /// The kernel, where it is about one.
    pub kernel: Option<KernelRelease>,
    /// One line without control characters.
    pub subject: String,
    /// Text of several lines, without other control characters.
    pub body: String,
}

impl Letter {
    /// Wraps one notice.
    pub fn of(notice: &Notice) -> Self {
        Self {
            key: notice.key.clone(),
            kind: notice.kind.as_str(),
            at: notice.at,
            cve: notice.cve,
            kernel: notice.kernel.clone(),
            // Whoever made it should have done this; here it is certain.
            subject: one_line(&notice.subject),
            body: plain_text(&notice.body),
        }
    }

    /// Lists many notices by their subjects, grouped by kind.
    pub fn digest(notices: &[&Notice]) -> Self {
        let mut keys: Vec<&str> = notices.iter().map(|notice| notice.key.as_str()).collect();
        keys.sort_unstable();
        let mut kinds: BTreeMap<NoticeKind, Vec<&Notice>> = BTreeMap::new();
        for notice in notices {
            kinds.entry(notice.kind).or_default().push(notice);
        }
        let counts: Vec<String> = kinds
            .iter()
            .map(|(kind, notices)| format!("{} {kind}", notices.len()))
            .collect();
        let mut body = String::new();
        for (kind, notices) in &kinds {
            let lines: Vec<String> = notices
                .iter()
                .map(|notice| format!("  {}\n", one_line(&notice.subject)))
                .collect();
            write!(body, "{kind} ({})\n{}\n", notices.len(), lines.concat())
                .expect("a String takes everything");
        }
        body.push_str("tuxtape notice list shows them; tuxtape cve show CVE tells more.\n");
        Self {
            key: format!("digest/{}", hash(&keys.join("\n"))),
            kind: "digest",
            at: notices
                .iter()
                .map(|notice| notice.at)
                .max()
                .unwrap_or(UtcSeconds::EPOCH),
            cve: None,
            kernel: None,
            subject: one_line(&format!("{} notices: {}", notices.len(), counts.join(", "))),
            body,
        }
    }

    /// Makes a test, which is about nothing.
    pub fn test(channel: &str, at: UtcSeconds) -> Self {
        Self {
            key: format!("test/{channel}/{}", at.unix()),
            kind: "test",
            at,
            cve: None,
            kernel: None,
            subject: one_line(&format!("test of channel {channel}")),
            body: "This is a test: nothing happened, and nothing is to be done.\n".to_owned(),
        }
    }

    /// Returns a short name of the key that fits into any header.
    pub fn id(&self) -> String {
        hash(&self.key)
    }
}

fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    hex::encode(digest).chars().take(32).collect()
}

#[cfg(test)]
pub(crate) fn sample(number: u32) -> Notice {
    Notice {
        key: format!("urgent/CVE-2024-{number}/6.1.0-47-cloud-amd64"),
        kind: NoticeKind::Urgent,
        at: UtcSeconds::from_unix(1_795_543_200 + u64::from(number)),
        cve: CveId::new(2024, number),
        kernel: "6.1.0-47-cloud-amd64".parse().ok(),
        subject: format!("act: CVE-2024-{number} in 6.1.0-47-cloud-amd64: net: foo: fix"),
        body: format!("CVE-2024-{number}: net: foo: fix\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_named_after_what_is_in_it() {
        let notices = [sample(1000), sample(1001), sample(1002)];
        let [a, b, c] = &notices;
        let digest = Letter::digest(&[a, b, c]);
        assert_eq!(digest.subject, "3 notices: 3 urgent");
        assert_eq!(digest.at, c.at);
        assert_eq!(Letter::digest(&[c, a, b]).key, digest.key);
        assert_ne!(Letter::digest(&[a, b]).key, digest.key);
        assert!(
            digest
                .body
                .starts_with("urgent (3)\n  act: CVE-2024-1000 in")
        );
    }

    #[test]
    fn a_letter_is_plain_whoever_made_the_notice() {
        let mut notice = sample(1000);
        notice.subject = "a\r\nBcc: e@example.org".to_owned();
        notice.body = "a\u{1b}[2J\r\nb".to_owned();
        let letter = Letter::of(&notice);
        assert_eq!(letter.subject, "a Bcc: e@example.org");
        assert_eq!(letter.body, "a[2J\nb");
        assert!(!Letter::digest(&[&notice]).body.contains('\r'));
    }

    #[test]
    fn an_id_is_of_the_key_alone() {
        let letter = Letter::of(&sample(1000));
        let mut later = letter.clone();
        later.at = later.at.plus(60);
        assert_eq!(letter.id(), later.id());
        assert_eq!(letter.id().len(), 32);
    }
}
