use super::*;

const MAIL: &str = r#"format = 1

[[channel]]
name = "ops"
kind = "mail"
notices = ["urgent", "fix-reverted"]
bands = ["act"]
host = "mail.example.org"
user = "tuxtape"
password_env = "MAIL_PASSWORD"
from = "TuxTape <tuxtape@example.org>"
to = ["ops@example.org", "Ann <ann@example.org>"]
"#;

const WEBHOOK: &str = r#"format = 1
[[channel]]
name = "chat"
kind = "webhook"
url = "https://chat.example.org/hook/token"
secret = "correct horse"
"#;

fn fails(text: &str, line_wanted: usize, why: &str) {
    fails_with(text, false, line_wanted, why);
}

fn fails_with(text: &str, everybody: bool, line_wanted: usize, why: &str) {
    let Err(fault) = parse(text, everybody) else {
        panic!("taken: {text}");
    };
    assert!(fault.why.contains(why), "{:?} lacks {why:?}", fault.why);
    assert_eq!(line(text, fault.at.start), line_wanted, "{}", fault.why);
}

fn one(text: &str) -> Channel {
    let Ok(channels) = parse(text, false) else {
        panic!("refused: {text}");
    };
    assert_eq!(channels.0.len(), 1);
    channels.0[0].clone()
}

#[test]
fn a_mail_channel_is_read() {
    let channel = one(MAIL);
    assert_eq!(
        channel.notices,
        [NoticeKind::Urgent, NoticeKind::FixReverted]
    );
    assert!(channel.wants(NoticeKind::Urgent, Some(Band::Act)));
    assert!(!channel.wants(NoticeKind::FixReverted, Some(Band::Attend)));
    assert!(channel.wants(NoticeKind::FixReverted, None));
    assert!(!channel.wants(NoticeKind::Rejected, None));
    assert_eq!(
        channel.place(),
        "mail.example.org:587 to ops@example.org, ann@example.org"
    );
    let Carrier::Mail(mail) = channel.carrier else {
        panic!("another kind");
    };
    assert_eq!(mail.security, Security::StartTls);
}

#[test]
fn the_documented_example_is_read() {
    let page = include_str!("../../../../../docs/notices.md");
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let Ok(channels) = parse(text, true) else {
        panic!("refused: {text}");
    };
    let kinds: Vec<&str> = channels.0.iter().map(Channel::kind).collect();
    assert_eq!(kinds, ["mail", "webhook", "stdout"]);
}

#[test]
fn a_webhook_shows_neither_token_nor_secret() {
    let channel = one(WEBHOOK);
    assert_eq!(channel.place(), "https://chat.example.org/…");
    let shown = format!("{channel:?}");
    assert!(
        !shown.contains("correct horse") && !shown.contains("token"),
        "{shown}"
    );
    assert_eq!(channel.notices, NoticeKind::ALL);
}

#[test]
fn a_fault_names_line_channel_and_key() {
    let mail = |from: &str, to: &str| MAIL.replace(from, to);
    fails(
        &mail("format = 1", "format = 2"),
        1,
        "format is 2, this program reads 1",
    );
    fails(&mail("bands", "band"), 7, "unknown field `band`");
    fails(
        &mail("\"act\"", "\"now\""),
        7,
        "channel \"ops\": bands: \"now\" is none of track, attend, act",
    );
    fails(
        &mail("\"urgent\"", "\"all\""),
        6,
        "notices: \"all\" is none of urgent, rejected",
    );
    fails(
        &mail("\"mail\"", "\"pager\""),
        5,
        "kind: \"pager\" is none of mail",
    );
    fails(
        &mail("host = \"mail.example.org\"\n", ""),
        3,
        "channel \"ops\": host is missing",
    );
    fails(&mail("mail.example.org\"", "a\\r\\nb\""), 8, "host: want");
    fails(&mail("user = \"tuxtape\"\n", ""), 3, "user is missing");
    fails(
        &mail("password_env = \"MAIL_PASSWORD\"\n", ""),
        3,
        "password, password_file or password_env is missing",
    );
    fails(
        &mail("from = ", "url = \"x\"\nfrom = "),
        11,
        "url does not belong to a channel of kind \"mail\"",
    );
    fails(
        &mail("from = ", "form = \"json\"\nfrom = "),
        11,
        "form does not belong",
    );
    fails(
        &mail("from = ", "port = 0\nfrom = "),
        11,
        "port: want 1 to 65535",
    );
    fails(&mail("from = ", "port = 70000\nfrom = "), 11, "70000");
    fails(
        &mail("from = ", "security = \"ssl\"\nfrom = "),
        11,
        "security: \"ssl\" is none of",
    );
    fails(
        &mail("from = ", "security = \"none\"\nfrom = "),
        11,
        "plain mail goes only to this machine",
    );
    fails(
        &mail("ops@example.org", "ops@x\\r\\nBcc: e@x.org"),
        12,
        "to: ",
    );
    fails(
        &mail("\"ops@example.org\", \"Ann <ann@example.org>\"", ""),
        12,
        "to: want 1 to 100",
    );
    fails(&mail("\"ops\"", "\"o p s\""), 4, "name: want up to 64");
    let twice = format!("{MAIL}{}", MAIL.replace("format = 1\n", ""));
    fails(&twice, 15, "there are two channels \"ops\"");
    let hook = |from: &str, to: &str| WEBHOOK.replace(from, to);
    fails(&hook("https", "ftp"), 5, "url: want");
    fails(
        &hook("https://", "https://me:pw@"),
        5,
        "without user and password",
    );
    fails(
        &hook("secret =", "secret_env = \"X\"\nsecret ="),
        6,
        "give only one of secret",
    );
    fails("format = 1\n[[channel]]\n", 2, "missing field `name`");
    fails("channel = 1", 1, "");
    fails("", 1, "format");
}

#[test]
fn a_fault_never_shows_a_secret() {
    for text in [
        WEBHOOK.replace("\"correct horse\"", "4711471147114711"),
        WEBHOOK.replace("\"correct horse\"", "\"4711\\n4711\""),
        WEBHOOK.replace("\"correct horse\"", "\"4711"),
        WEBHOOK.replace("\"correct horse\"", "4711-4711-4711"),
    ] {
        let Err(fault) = parse(&text, false) else {
            panic!("taken: {text}");
        };
        assert!(!fault.why.contains("4711"), "{}", fault.why);
    }
}

#[test]
fn a_secret_stands_in_no_file_that_everybody_reads() {
    fails_with(
        WEBHOOK,
        true,
        6,
        "secret stands in a file that everybody can read",
    );
    assert!(parse(&WEBHOOK.replace("secret =", "secret_file ="), true).is_ok());
}

#[test]
fn plain_mail_goes_to_this_machine() {
    for host in ["localhost", "127.0.0.1", "::1"] {
        let text = MAIL
            .replace("mail.example.org", host)
            .replace("from = ", "security = \"none\"\nfrom = ");
        one(&text);
    }
}

#[test]
fn the_file_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notice.toml");
    std::fs::write(&path, "#".repeat(300 << 10)).unwrap();
    assert!(matches!(read(&path), Err(FileError::TooLarge { .. })));
    assert!(matches!(
        read(&folder.path().join("none.toml")),
        Err(FileError::Read { .. })
    ));
    std::fs::write(&path, "format = 1\nx = 1\n").unwrap();
    let error = read(&path).unwrap_err().to_string();
    assert!(
        error.contains("notice.toml line 2: unknown field `x`"),
        "{error}"
    );
}
