//! Mail: what it says, apart from how it is sent.

pub(crate) mod smtp;

use std::time::{Duration, SystemTime};

use lettre::Message;
use lettre::message::header::{ContentType, HeaderName, HeaderValue, MIME_VERSION_1_0};

use crate::channel::Mail;
use crate::letter::Letter;

/// Writes `letter` as a mail.
///
/// Everything in it is made from the letter and the channel: a mail that is sent again is the same mail,
/// with the same `Message-ID`, which mail programs show once.
pub(crate) fn compose(mail: &Mail, letter: &Letter) -> Result<Message, lettre::error::Error> {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(letter.at.unix());
    let id = format!("<tuxtape.{}@{}>", letter.id(), mail.from.email.domain());
    let mut builder = Message::builder()
        .from(mail.from.clone())
        .date(at)
        .message_id(Some(id))
        .subject(format!("[tuxtape] {}", letter.subject))
        .header(MIME_VERSION_1_0)
        .header(ContentType::TEXT_PLAIN)
        // Keeps absence notes from being sent back.
        .raw_header(header("Auto-Submitted", "auto-generated"))
        .raw_header(header("Tuxtape-Event", letter.kind));
    for to in &mail.to {
        builder = builder.to(to.clone());
    }
    builder.body(letter.body.clone())
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Security;
    use crate::letter::sample;

    fn account() -> Mail {
        Mail {
            host: "mail.example.org".to_owned(),
            port: 587,
            security: Security::StartTls,
            ca_file: None,
            login: None,
            from: "TuxTape <tuxtape@example.org>".parse().unwrap(),
            to: vec![
                "ops@example.org".parse().unwrap(),
                "Änn <ann@example.org>".parse().unwrap(),
            ],
        }
    }

    fn text(letter: &Letter) -> String {
        String::from_utf8(compose(&account(), letter).unwrap().formatted()).unwrap()
    }

    #[test]
    fn a_mail_reads_so() {
        assert_eq!(
            text(&Letter::of(&sample(1000))).replace('\r', ""),
            "From: TuxTape <tuxtape@example.org>\n\
             Date: Tue, 24 Nov 2026 18:16:40 +0000\n\
             Message-ID: <tuxtape.f143e6245bd2050b3968288a58d1b73a@example.org>\n\
             Subject: [tuxtape] act: CVE-2024-1000 in 6.1.0-47-cloud-amd64: net: foo: fix\n\
             MIME-Version: 1.0\n\
             Content-Type: text/plain; charset=utf-8\n\
             Auto-Submitted: auto-generated\n\
             Tuxtape-Event: urgent\n\
             To: ops@example.org, =?utf-8?b?w4Rubg==?= <ann@example.org>\n\
             Content-Transfer-Encoding: 7bit\n\
             \n\
             CVE-2024-1000: net: foo: fix\n"
        );
    }

    #[test]
    fn a_mail_sent_again_is_the_same_mail() {
        let letter = Letter::of(&sample(1000));
        assert_eq!(text(&letter), text(&letter));
        assert_ne!(text(&letter), text(&Letter::of(&sample(1001))));
    }

    #[test]
    fn no_text_makes_a_header() {
        let mut notice = sample(1000);
        notice.subject = format!(
            "x\r\nBcc: e@example.org\n\ry {}",
            "ä\r\nCc: f@example.org ".repeat(9)
        );
        notice.body = "\r\n.\r\nRCPT TO:<e@example.org>\r\n".to_owned();
        let mail = compose(&account(), &Letter::of(&notice)).unwrap();
        let text = String::from_utf8(mail.formatted()).unwrap();
        let (headers, _) = text.split_once("\r\n\r\n").unwrap();
        let names: Vec<&str> = headers
            .split("\r\n")
            .filter(|line| !line.starts_with([' ', '\t']))
            .filter_map(|line| line.split_once(':'))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            names,
            [
                "From",
                "Date",
                "Message-ID",
                "Subject",
                "MIME-Version",
                "Content-Type",
                "Auto-Submitted",
                "Tuxtape-Event",
                "To",
                "Content-Transfer-Encoding"
            ]
        );
        assert_eq!(mail.envelope().to().len(), 2);
    }

    #[test]
    fn long_lines_and_letters_of_all_kinds_travel() {
        let mut notice = sample(1000);
        notice.body = format!("{}\nЖ ä €\n", "x".repeat(5000));
        let text = text(&Letter::of(&notice));
        assert!(text.is_ascii());
        assert!(text.lines().all(|line| line.len() <= 998));
    }
}
