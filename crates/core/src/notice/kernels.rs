//! What there is to tell of kernels themselves: new ones, the end of their cover, changed verdicts.

use crate::cve::CveId;
use crate::identity::KernelRelease;
use crate::instant::UtcSeconds;

use super::{Notice, NoticeKind, one_line, plain_text};

/// Days before the end of its cover from which on a kernel is told.
pub const NEAR: i64 = 60;
/// Most CVEs that one notice lists of each kind.
const MOST_LISTED: usize = 200;

/// Until when a kernel gets fixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cover {
    /// Which phase of support ends, for people: `lts of Debian 12`.
    pub what: String,
    /// The last day of it, `2028-06-30`.
    pub until: String,
    /// Days from today to that one; negative once it is over.
    pub days_left: i64,
    /// Whether no other phase follows.
    pub is_last: bool,
}

/// A CVE whose verdict is another than before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The CVE.
    pub cve: CveId,
    /// The verdict before, `affected`; `None` where there was no record.
    pub before: Option<String>,
    /// The verdict now.
    pub now: String,
}

/// Tells of a kernel that its distribution made and that was added here.
pub fn arrived(release: &KernelRelease, source: &str, at: UtcSeconds) -> Notice {
    let subject = format!("{release} is new");
    let body = format!(
        "The distribution has a newer kernel, {release} ({source}). It was added here.\n\n\
         What of it is open:\n    tuxtape cve rank --kernel {release}\n"
    );
    made(NoticeKind::KernelNew, release, "", &subject, &body, at)
}

/// Tells that the cover of a kernel comes to its end, or has come; `None` while that is far.
pub fn cover(release: &KernelRelease, cover: &Cover, at: UtcSeconds) -> Option<Notice> {
    let Cover {
        what,
        until,
        days_left,
        is_last,
    } = cover;
    if *days_left > NEAR {
        return None;
    }
    let (key, subject) = if *days_left < 0 {
        ("ended", format!("{release}: {what} ended on {until}"))
    } else {
        ("ends", format!("{release}: {what} ends on {until}"))
    };
    let then = if *is_last {
        "No fixes come for it from its distribution after that."
    } else {
        "Another phase of support follows, by others and for fewer packages."
    };
    let body = format!("{subject}.\n{then}\n\n    tuxtape kernel watch --once --dry-run\n");
    let key = format!("{key}/{until}");
    let kind = NoticeKind::KernelCover;
    Some(made(kind, release, &key, &subject, &body, at))
}

/// Tells of the verdicts that changed; `None` where none did. `digest` is of the changes, so that the same
/// ones are told once.
pub fn verdicts(
    release: &KernelRelease,
    changes: &[Change],
    digest: &str,
    at: UtcSeconds,
) -> Option<Notice> {
    if changes.is_empty() {
        return None;
    }
    let of = |now: &str| -> Vec<&Change> {
        let is_so = |change: &&Change| change.now == now;
        changes.iter().filter(is_so).collect()
    };
    let mut counts = Vec::new();
    let mut body = format!("What was found for {release} changed since it was last looked at.\n");
    for (now, words) in [
        ("affected", "now affected"),
        ("unknown", "now unknown"),
        ("not-affected", "not affected any more"),
    ] {
        let some = of(now);
        if some.is_empty() {
            continue;
        }
        counts.push(format!("{} {words}", some.len()));
        body.push_str(&format!("\n{} {words}:\n", some.len()));
        for change in some.iter().take(MOST_LISTED) {
            let before = change.before.as_deref().unwrap_or("new");
            body.push_str(&format!("    {} (was {before})\n", change.cve));
        }
        if some.len() > MOST_LISTED {
            body.push_str(&format!("    and {} more\n", some.len() - MOST_LISTED));
        }
    }
    body.push_str(&format!(
        "\nWhy, for one of them:\n    tuxtape gauge {release} --cve CVE\n"
    ));
    let subject = format!("{release}: {}", counts.join(", "));
    let kind = NoticeKind::KernelVerdicts;
    Some(made(kind, release, digest, &subject, &body, at))
}

fn made(
    kind: NoticeKind,
    release: &KernelRelease,
    more: &str,
    subject: &str,
    body: &str,
    at: UtcSeconds,
) -> Notice {
    let more = if more.is_empty() {
        String::new()
    } else {
        format!("/{more}")
    };
    Notice {
        key: format!("{kind}/{release}{more}"),
        kind,
        at,
        cve: None,
        kernel: Some(release.clone()),
        subject: one_line(subject),
        body: plain_text(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> KernelRelease {
        "6.1.0-47-cloud-amd64".parse().unwrap()
    }

    fn told(days_left: i64) -> Option<String> {
        let ending = Cover {
            what: "lts of Debian 12".to_owned(),
            until: "2028-06-30".to_owned(),
            days_left,
            is_last: true,
        };
        cover(&release(), &ending, UtcSeconds::EPOCH).map(|notice| notice.key)
    }

    #[test]
    fn the_end_of_a_kernels_cover_is_told_before_and_after_it() {
        assert_eq!(told(NEAR + 1), None);
        let ends = "kernel-cover/6.1.0-47-cloud-amd64/ends/2028-06-30";
        assert_eq!(told(NEAR).as_deref(), Some(ends));
        assert_eq!(told(0).as_deref(), Some(ends));
        let ended = "kernel-cover/6.1.0-47-cloud-amd64/ended/2028-06-30";
        assert_eq!(told(-1).as_deref(), Some(ended));
    }

    #[test]
    fn changed_verdicts_are_counted_and_listed() {
        let change = |cve: &str, before: Option<&str>, now: &str| Change {
            cve: cve.parse().unwrap(),
            before: before.map(str::to_owned),
            now: now.to_owned(),
        };
        let changes = [
            change("CVE-2024-0001", None, "affected"),
            change("CVE-2024-0002", Some("unknown"), "affected"),
            change("CVE-2024-0003", Some("affected"), "not-affected"),
        ];
        let notice = verdicts(&release(), &changes, "0123", UtcSeconds::EPOCH).unwrap();
        assert_eq!(
            notice.subject,
            "6.1.0-47-cloud-amd64: 2 now affected, 1 not affected any more"
        );
        assert!(
            notice.body.contains("CVE-2024-0001 (was new)"),
            "{}",
            notice.body
        );
        assert_eq!(notice.key, "kernel-verdicts/6.1.0-47-cloud-amd64/0123");
        assert_eq!(verdicts(&release(), &[], "", UtcSeconds::EPOCH), None);
    }
}
