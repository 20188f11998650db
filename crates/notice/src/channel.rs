//! Where notices go, and which.

pub mod file;

use std::path::PathBuf;

use lettre::message::Mailbox;
use tuxtape_core::notice::NoticeKind;
use tuxtape_core::priority::Band;

use crate::secret::{Secret, SecretSource};

/// Every channel, in the file's order.
#[derive(Clone, Debug, Default)]
pub struct Channels(pub Vec<Channel>);

/// One channel.
#[derive(Clone, Debug)]
pub struct Channel {
    /// What people call it; unique.
    pub name: String,
    /// Kinds of notices it wants; sorted.
    pub notices: Vec<NoticeKind>,
    /// Bands it wants; sorted.
    pub bands: Vec<Band>,
    /// What carries a notice.
    pub carrier: Carrier,
}

/// What carries a notice.
#[derive(Clone, Debug)]
pub enum Carrier {
    /// SMTP.
    Mail(Box<Mail>),
    /// HTTP POST.
    Webhook(Webhook),
    /// A line on the standard output of whoever sends.
    Stdout(LineForm),
}

/// A mail account and whom to write to.
#[derive(Clone, Debug)]
pub struct Mail {
    /// SMTP server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is kept from onlookers.
    pub security: Security,
    /// Certificate authorities, PEM, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// User name and password, where the server asks for them.
    pub login: Option<(String, SecretSource)>,
    /// Sender.
    pub from: Mailbox,
    /// Recipients; at least one.
    pub to: Vec<Mailbox>,
}

/// How a mail connection is kept from onlookers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Not at all: only to this machine.
    None,
    /// TLS after a plain greeting; nothing is sent when the server does not offer it.
    StartTls,
    /// TLS from the first byte.
    Tls,
}

/// A program that listens.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Where to post. Many services put a token into it: shown only up to the host.
    pub url: Secret,
    /// Key of the signature.
    pub secret: Option<SecretSource>,
    /// Certificate authorities, PEM, in place of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Form of a line on the standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineForm {
    /// The webhook's JSON.
    Json,
    /// Time, kind and subject.
    Text,
}

impl Channels {
    /// Finds a channel by its name.
    pub fn find(&self, name: &str) -> Option<&Channel> {
        self.0.iter().find(|channel| channel.name == name)
    }

    /// Names the channels that want a notice of `kind` about a CVE of `band`.
    pub fn wanting(&self, kind: NoticeKind, band: Option<Band>) -> Vec<&str> {
        self.0
            .iter()
            .filter(|channel| channel.wants(kind, band))
            .map(|channel| channel.name.as_str())
            .collect()
    }
}

impl Channel {
    /// Tells whether it wants a notice of `kind` about a CVE of `band`. A CVE that has no band (a
    /// withdrawn one) passes.
    pub fn wants(&self, kind: NoticeKind, band: Option<Band>) -> bool {
        self.notices.contains(&kind) && band.is_none_or(|band| self.bands.contains(&band))
    }

    /// Says where it leads, without secrets.
    pub fn place(&self) -> String {
        match &self.carrier {
            Carrier::Mail(mail) => {
                let to: Vec<String> = mail.to.iter().map(|to| to.email.to_string()).collect();
                format!("{}:{} to {}", mail.host, mail.port, to.join(", "))
            }
            Carrier::Webhook(webhook) => webhook.shown(),
            Carrier::Stdout(_) => "standard output".to_owned(),
        }
    }

    /// Names its kind as the file does.
    pub fn kind(&self) -> &'static str {
        match self.carrier {
            Carrier::Mail(_) => "mail",
            Carrier::Webhook(_) => "webhook",
            Carrier::Stdout(_) => "stdout",
        }
    }
}

impl Webhook {
    /// Returns the URL up to its host.
    pub fn shown(&self) -> String {
        let url = self.url.reveal();
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        format!("{scheme}://{host}/…")
    }
}
