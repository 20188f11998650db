use std::convert::Infallible;

use super::*;
use crate::channel::LineForm;
use crate::letter::sample;

const NOW: UtcSeconds = UtcSeconds::EPOCH;

fn stdout(name: &str) -> Channel {
    Channel {
        name: name.to_owned(),
        notices: Vec::new(),
        bands: Vec::new(),
        carrier: Carrier::Stdout(LineForm::Text),
    }
}

fn due(channel: &str, numbers: std::ops::Range<u32>) -> Vec<Due> {
    numbers
        .map(|number| Due {
            notice: sample(number),
            channel: channel.to_owned(),
            tries: 0,
        })
        .collect()
}

/// A receiver that breaks after so many lines.
struct Breaks(usize, Vec<u8>);

impl Write for Breaks {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0 == 0 {
            return Err(std::io::Error::other("broken"));
        }
        self.1.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0 = self.0.saturating_sub(1);
        self.1.flush()
    }
}

fn run(channels: &[Channel], due: Vec<Due>, out: &mut dyn Write) -> (Vec<Sent>, Tally) {
    let mut sent = Vec::new();
    let mut world = World {
        clock: &|| NOW,
        environment: &|_| None,
        out,
    };
    let mut record = |more: &[Sent]| -> Result<(), Infallible> {
        sent.extend(more.to_vec());
        Ok(())
    };
    let tally = send(&Channels(channels.to_vec()), due, &mut world, &mut record);
    (sent, tally.unwrap())
}

#[test]
fn what_is_due_is_sent_in_its_order() {
    let mut out = Vec::new();
    let (sent, tally) = run(&[stdout("a")], due("a", 1000..1003), &mut out);
    let keys: Vec<&str> = sent.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.is_sorted() && sent.iter().all(|it| it.attempt == Attempt::Delivered));
    assert_eq!((tally.delivered, tally.remarks.len()), (3, 0));
    assert_eq!(String::from_utf8(out).unwrap().lines().count(), 3);
}

#[test]
fn an_unreachable_channel_is_left_alone_and_the_next_one_is_served() {
    let mut all = due("a", 1000..1010);
    all.extend(due("b", 1000..1002));
    let mut out = Breaks(2, Vec::new());
    // Two lines pass, one fails: seven are not tried. Then channel b fails at its first.
    let (sent, tally) = run(&[stdout("a"), stdout("b")], all, &mut out);
    assert_eq!(sent.len(), 4);
    assert_eq!((tally.delivered, tally.postponed), (2, 10));
    let Attempt::Failed { next, .. } = &sent[2].attempt else {
        panic!("{sent:?}");
    };
    assert!(next.unwrap() >= NOW.plus(60));
    assert!(
        tally
            .remarks
            .contains(&"a: 7 more wait for the next run".to_owned()),
        "{tally:?}"
    );
}

#[test]
fn a_notice_of_a_channel_that_is_gone_from_the_file_waits() {
    let (sent, tally) = run(&[stdout("a")], due("b", 1000..1002), &mut Vec::new());
    assert_eq!(sent, []);
    assert_eq!(tally.postponed, 2);
    assert_eq!(
        tally.remarks,
        ["channel \"b\" is not in the file; 2 wait for it"]
    );
}

#[test]
fn a_notice_is_given_up_aloud_after_the_last_try() {
    let mut all = due("a", 1000..1001);
    all[0].tries = 10;
    let (sent, tally) = run(&[stdout("a")], all, &mut Breaks(0, Vec::new()));
    assert!(
        matches!(sent[0].attempt, Attempt::Failed { next: None, .. }),
        "{sent:?}"
    );
    assert_eq!(tally.given_up, 1);
    assert!(
        tally.remarks[0].contains("gave up on urgent/CVE-2024-1000/"),
        "{tally:?}"
    );
}

#[test]
fn an_outbox_that_cannot_record_ends_the_run() {
    let mut out = Vec::new();
    let mut world = World {
        clock: &|| NOW,
        environment: &|_| None,
        out: &mut out,
    };
    let mut record = |_: &[Sent]| Err("disk full");
    let channels = Channels(vec![stdout("a")]);
    let result = send(&channels, due("a", 1000..1005), &mut world, &mut record);
    assert_eq!(result, Err("disk full"));
    assert_eq!(String::from_utf8(out).unwrap().lines().count(), 1);
}

#[test]
fn many_mails_become_one_that_lists_them() {
    let text = "format = 1\n[[channel]]\nname = \"m\"\nkind = \"mail\"\nhost = \"localhost\"\n\
                from = \"a@example.org\"\nto = [\"b@example.org\"]\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notice.toml");
    std::fs::write(&path, text).unwrap();
    let channels = crate::channel::file::read(&path).unwrap();
    let sizes = |count: u32| -> Vec<usize> {
        let pieces = pieces(&channels.0[0], due("m", 1000..1000 + count));
        pieces.iter().map(Vec::len).collect()
    };
    assert_eq!(sizes(20), [1; 20]);
    assert_eq!(sizes(21), [21]);
    assert_eq!(sizes(845), [500, 345]);
}
