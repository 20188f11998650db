//! The file of channels.
//!
//! Errors name the line, the channel and the key, and never what stands in a secret's place.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use lettre::message::Mailbox;
use serde::{Deserialize, Deserializer, de};
use toml::Spanned;
use tuxtape_core::notice::NoticeKind;
use tuxtape_core::priority::Band;

use super::{Carrier, Channel, Channels, LineForm, Mail, Security, Webhook};
use crate::secret::{Secret, SecretSource, is_world_readable};

/// The format this program reads.
const FORMAT: u32 = 1;
/// Largest file, in bytes.
const LARGEST: u64 = 256 << 10;
/// Most channels.
const MOST_CHANNELS: usize = 100;
/// Most recipients of one channel.
const MOST_RECIPIENTS: usize = 100;
/// Longest name of a channel, in bytes.
const LONGEST_NAME: usize = 64;

/// Why a file of channels was not taken.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is larger than any such file.
    #[error("{path} is larger than {LARGEST} bytes", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It says something wrong.
    #[error("{path} line {line}: {why}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What and why.
        why: String,
    },
}

/// A fault at a place of the text.
struct Fault {
    at: Range<usize>,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    format: Spanned<u32>,
    #[serde(default)]
    channel: Vec<Spanned<RawChannel>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChannel {
    name: Spanned<String>,
    kind: Spanned<String>,
    notices: Option<Vec<Spanned<String>>>,
    bands: Option<Vec<Spanned<String>>>,
    host: Option<Spanned<String>>,
    port: Option<Spanned<u16>>,
    security: Option<Spanned<String>>,
    ca_file: Option<Spanned<PathBuf>>,
    user: Option<Spanned<String>>,
    password: Option<Spanned<Clear>>,
    password_file: Option<Spanned<PathBuf>>,
    password_env: Option<Spanned<String>>,
    from: Option<Spanned<String>>,
    to: Option<Spanned<Vec<Spanned<String>>>>,
    url: Option<Spanned<String>>,
    secret: Option<Spanned<Clear>>,
    secret_file: Option<Spanned<PathBuf>>,
    secret_env: Option<Spanned<String>>,
    form: Option<Spanned<String>>,
}

/// A secret in the file itself. Its errors hold nothing of it.
struct Clear(Secret);

impl<'de> Deserialize<'de> for Clear {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let secret = match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => Secret::new(text),
            toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_)
            | toml::Value::Table(_) => None,
        };
        secret
            .map(Self)
            .ok_or_else(|| de::Error::custom("a secret is a string of one line"))
    }
}

/// Reads the channels of `path`.
pub fn read(path: &Path) -> Result<Channels, FileError> {
    let failed = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let everybody = is_world_readable(&file).map_err(failed)?;
    let mut text = String::new();
    file.take(LARGEST + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > LARGEST {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
        });
    }
    parse(&text, everybody).map_err(|fault| FileError::Line {
        path: path.to_owned(),
        line: line(&text, fault.at.start),
        why: fault.why,
    })
}

fn line(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    before.split(|c| *c == b'\n').count()
}

fn parse(text: &str, everybody_reads: bool) -> Result<Channels, Fault> {
    // The error's own Display quotes the line, which may hold a secret.
    let raw: RawFile = toml::from_str(text).map_err(|error| Fault {
        at: error.span().unwrap_or_default(),
        why: error.message().to_owned(),
    })?;
    if *raw.format.get_ref() != FORMAT {
        let why = format!(
            "format is {}, this program reads {FORMAT}",
            raw.format.get_ref()
        );
        return Err(fault(&raw.format, why));
    }
    let mut names = BTreeSet::new();
    let mut channels = Vec::new();
    for raw in raw.channel {
        if channels.len() == MOST_CHANNELS {
            return Err(fault(&raw, format!("more than {MOST_CHANNELS} channels")));
        }
        let at = raw.span();
        let channel = channel(at, raw.into_inner(), everybody_reads, &mut names)?;
        channels.push(channel);
    }
    Ok(Channels(channels))
}

fn fault<T>(place: &Spanned<T>, why: String) -> Fault {
    Fault {
        at: place.span(),
        why,
    }
}

fn channel(
    at: Range<usize>,
    raw: RawChannel,
    everybody_reads: bool,
    names: &mut BTreeSet<String>,
) -> Result<Channel, Fault> {
    let name = raw.name.get_ref().clone();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(plain) {
        let why = format!("name: want up to {LONGEST_NAME} letters, digits, '-', '_' and '.'");
        return Err(fault(&raw.name, why));
    }
    if !names.insert(name.clone()) {
        return Err(fault(&raw.name, format!("there are two channels {name:?}")));
    }
    let in_channel = |fault: Fault| Fault {
        at: fault.at,
        why: format!("channel {name:?}: {}", fault.why),
    };
    let reader = Reader {
        at,
        raw,
        everybody_reads,
    };
    let (notices, bands) = reader.wanted().map_err(in_channel)?;
    let carrier = reader.carrier().map_err(in_channel)?;
    Ok(Channel {
        name,
        notices,
        bands,
        carrier,
    })
}

/// One channel being read.
struct Reader {
    at: Range<usize>,
    raw: RawChannel,
    everybody_reads: bool,
}

impl Reader {
    fn wanted(&self) -> Result<(Vec<NoticeKind>, Vec<Band>), Fault> {
        let bands = [Band::Track, Band::Attend, Band::Act];
        Ok((
            some_of(
                "notices",
                self.raw.notices.as_deref(),
                &NoticeKind::ALL,
                NoticeKind::as_str,
            )?,
            some_of("bands", self.raw.bands.as_deref(), &bands, Band::as_str)?,
        ))
    }

    fn carrier(self) -> Result<Carrier, Fault> {
        let foreign = |kind: &str, keys: &[(&str, Option<Range<usize>>)]| {
            let found = keys.iter().find_map(|(key, at)| Some((key, at.clone()?)));
            found.map_or(Ok(()), |(key, at)| {
                let why = format!("{key} does not belong to a channel of kind {kind:?}");
                Err(Fault { at, why })
            })
        };
        match self.raw.kind.get_ref().as_str() {
            "mail" => {
                foreign("mail", &[self.webhook_keys(), self.line_keys()].concat())?;
                self.mail()
            }
            "webhook" => {
                foreign("webhook", &[self.mail_keys(), self.line_keys()].concat())?;
                self.webhook()
            }
            "stdout" => {
                let ca_file = vec![("ca_file", span(self.raw.ca_file.as_ref()))];
                let keys = [self.mail_keys(), self.webhook_keys(), ca_file].concat();
                foreign("stdout", &keys)?;
                self.stdout()
            }
            other => {
                let why = format!("kind: {other:?} is none of mail, webhook, stdout");
                Err(fault(&self.raw.kind, why))
            }
        }
    }

    fn mail_keys(&self) -> Vec<(&'static str, Option<Range<usize>>)> {
        let raw = &self.raw;
        vec![
            ("host", span(raw.host.as_ref())),
            ("port", span(raw.port.as_ref())),
            ("security", span(raw.security.as_ref())),
            ("user", span(raw.user.as_ref())),
            ("password", span(raw.password.as_ref())),
            ("password_file", span(raw.password_file.as_ref())),
            ("password_env", span(raw.password_env.as_ref())),
            ("from", span(raw.from.as_ref())),
            ("to", span(raw.to.as_ref())),
        ]
    }

    fn webhook_keys(&self) -> Vec<(&'static str, Option<Range<usize>>)> {
        let raw = &self.raw;
        vec![
            ("url", span(raw.url.as_ref())),
            ("secret", span(raw.secret.as_ref())),
            ("secret_file", span(raw.secret_file.as_ref())),
            ("secret_env", span(raw.secret_env.as_ref())),
        ]
    }

    fn line_keys(&self) -> Vec<(&'static str, Option<Range<usize>>)> {
        vec![("form", span(self.raw.form.as_ref()))]
    }

    fn missing(&self, key: &str) -> Fault {
        Fault {
            at: self.at.clone(),
            why: format!("{key} is missing"),
        }
    }

    fn secret(
        &self,
        key: &str,
        here: Option<&Spanned<Clear>>,
        file: Option<&Spanned<PathBuf>>,
        variable: Option<&Spanned<String>>,
    ) -> Result<Option<SecretSource>, Fault> {
        if let Some(clear) = here.filter(|_| self.everybody_reads) {
            let why = format!(
                "{key} stands in a file that everybody can read; close the file (chmod o-r) or use {key}_file"
            );
            return Err(fault(clear, why));
        }
        let mut given = [
            here.map(|it| (it.span(), SecretSource::Here(it.get_ref().0.clone()))),
            file.map(|it| (it.span(), SecretSource::File(it.get_ref().clone()))),
            variable.map(|it| (it.span(), SecretSource::Environment(it.get_ref().clone()))),
        ]
        .into_iter()
        .flatten();
        let first = given.next();
        if let Some((at, _)) = given.next() {
            let why = format!("give only one of {key}, {key}_file and {key}_env");
            return Err(Fault { at, why });
        }
        Ok(first.map(|(_, source)| source))
    }

    fn mail(self) -> Result<Carrier, Fault> {
        let raw = &self.raw;
        let host = raw.host.as_ref().ok_or_else(|| self.missing("host"))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '_');
        if host.get_ref().is_empty() || !host.get_ref().chars().all(plain) {
            return Err(fault(
                host,
                "host: want a host name or an address".to_owned(),
            ));
        }
        let security = match &raw.security {
            None => Security::StartTls,
            Some(text) => match text.get_ref().as_str() {
                "none" if !is_loopback(host.get_ref()) => {
                    let why = "security: plain mail goes only to this machine (localhost, 127.0.0.1, ::1); use \"starttls\" or \"tls\"";
                    return Err(fault(text, why.to_owned()));
                }
                "none" => Security::None,
                "starttls" => Security::StartTls,
                "tls" => Security::Tls,
                other => {
                    let why = format!("security: {other:?} is none of none, starttls, tls");
                    return Err(fault(text, why));
                }
            },
        };
        let port = match &raw.port {
            Some(port) if *port.get_ref() == 0 => {
                return Err(fault(port, "port: want 1 to 65535".to_owned()));
            }
            Some(port) => *port.get_ref(),
            None => match security {
                Security::None => 25,
                Security::StartTls => 587,
                Security::Tls => 465,
            },
        };
        let password = self.secret(
            "password",
            raw.password.as_ref(),
            raw.password_file.as_ref(),
            raw.password_env.as_ref(),
        )?;
        let login = match (&raw.user, password) {
            (Some(user), Some(password)) => Some((user.get_ref().clone(), password)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(self.missing("password, password_file or password_env"));
            }
            (None, Some(_)) => return Err(self.missing("user")),
        };
        let from = raw.from.as_ref().ok_or_else(|| self.missing("from"))?;
        let from = mailbox("from", from)?;
        let recipients = raw.to.as_ref().ok_or_else(|| self.missing("to"))?;
        if !(1..=MOST_RECIPIENTS).contains(&recipients.get_ref().len()) {
            let why = format!("to: want 1 to {MOST_RECIPIENTS} addresses");
            return Err(fault(recipients, why));
        }
        let to = recipients
            .get_ref()
            .iter()
            .map(|text| mailbox("to", text))
            .collect::<Result<_, _>>()?;
        Ok(Carrier::Mail(Box::new(Mail {
            host: host.get_ref().clone(),
            port,
            security,
            ca_file: raw.ca_file.as_ref().map(|path| path.get_ref().clone()),
            login,
            from,
            to,
        })))
    }

    fn webhook(self) -> Result<Carrier, Fault> {
        let raw = &self.raw;
        let url = raw.url.as_ref().ok_or_else(|| self.missing("url"))?;
        let secret = self.secret(
            "secret",
            raw.secret.as_ref(),
            raw.secret_file.as_ref(),
            raw.secret_env.as_ref(),
        )?;
        let text = url.get_ref();
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
        let is_url = host.is_some_and(|host| !host.is_empty() && !host.contains('@'))
            && text.chars().all(|c| c.is_ascii_graphic());
        let Some(address) = Secret::new(text.clone()).filter(|_| is_url) else {
            let why = "url: want http://HOST/… or https://HOST/…, without user and password";
            return Err(fault(url, why.to_owned()));
        };
        Ok(Carrier::Webhook(Webhook {
            url: address,
            secret,
            ca_file: raw.ca_file.as_ref().map(|path| path.get_ref().clone()),
        }))
    }

    fn stdout(self) -> Result<Carrier, Fault> {
        let form = match &self.raw.form {
            None => LineForm::Text,
            Some(text) => match text.get_ref().as_str() {
                "text" => LineForm::Text,
                "json" => LineForm::Json,
                other => {
                    let why = format!("form: {other:?} is none of text, json");
                    return Err(fault(text, why));
                }
            },
        };
        Ok(Carrier::Stdout(form))
    }
}

fn span<T>(value: Option<&Spanned<T>>) -> Option<Range<usize>> {
    value.map(Spanned::span)
}

fn some_of<T: Copy + Ord>(
    key: &str,
    wanted: Option<&[Spanned<String>]>,
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<Vec<T>, Fault> {
    let Some(wanted) = wanted else {
        return Ok(all.to_vec());
    };
    let mut found = wanted
        .iter()
        .map(|text| {
            let known = all.iter().find(|it| name(**it) == text.get_ref());
            known.copied().ok_or_else(|| {
                let names: Vec<&str> = all.iter().map(|it| name(*it)).collect();
                let why = format!(
                    "{key}: {:?} is none of {}",
                    text.get_ref(),
                    names.join(", ")
                );
                fault(text, why)
            })
        })
        .collect::<Result<Vec<T>, Fault>>()?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn mailbox(key: &str, text: &Spanned<String>) -> Result<Mailbox, Fault> {
    let no_lines = !text.get_ref().chars().any(char::is_control);
    no_lines
        .then(|| Mailbox::from_str(text.get_ref()).ok())
        .flatten()
        .ok_or_else(|| {
            let why = format!(
                "{key}: {:?} is no mail address (want user@host or Name <user@host>)",
                text.get_ref()
            );
            fault(text, why)
        })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests;
