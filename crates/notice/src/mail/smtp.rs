//! One mail through one SMTP server.

use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    Certificate, CertificateStore, SmtpConnection, TlsParameters, TlsParametersBuilder,
};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::ClientId;

use super::compose;
use crate::channel::{Mail, Security};
use crate::letter::Letter;
use crate::secret::Secret;
use crate::send::Outcome;
use crate::webhook::authorities;

/// Longest wait for one answer of the server; the standard allows it minutes.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest time for one mail. A server that answers byte by byte is not waited for.
const TOTAL: Duration = Duration::from_secs(120);

/// What to do when some recipients are refused for now (greylisting, a full mailbox).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Send to nobody yet, so that nobody gets it twice.
    WaitForAll,
    /// Send to those who can have it.
    TakeWhoIsThere,
}

/// Sends `letter`. Blocks for at most two minutes.
pub(crate) fn send(
    mail: &Mail,
    password: Option<Secret>,
    letter: &Letter,
    patience: Patience,
) -> Outcome {
    let message = match compose(mail, letter) {
        Ok(message) => message.formatted(),
        Err(error) => return Outcome::Permanent(format!("could not write the mail: {error}")),
    };
    let (tell, told) = mpsc::channel();
    let account = mail.clone();
    // Its own thread, because the library bounds each read and not the whole. Past the deadline the
    // thread is left behind; if it still gets through, the mail is the same one that is sent again.
    let spawned = thread::Builder::new()
        .name("smtp".to_owned())
        .spawn(move || {
            tell.send(talk(&account, password.as_ref(), &message, patience))
                .ok();
        });
    if let Err(error) = spawned {
        return Outcome::Temporary(format!("could not start a thread: {error}"));
    }
    let place = format!("{}:{}", mail.host, mail.port);
    match told.recv_timeout(TOTAL) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => {
            Outcome::Unreachable(format!("{place} took longer than {} s", TOTAL.as_secs()))
        }
        Err(RecvTimeoutError::Disconnected) => {
            Outcome::Unreachable(format!("the mail to {place} broke off"))
        }
    }
}

fn talk(mail: &Mail, password: Option<&Secret>, message: &[u8], patience: Patience) -> Outcome {
    let mut connection = match connect(mail, password) {
        Ok(connection) => connection,
        // A wrong password, a strange certificate, a server that refuses us: for people to repair, and
        // no fault of this mail.
        Err(why) => return Outcome::Unreachable(why),
    };
    let outcome = exchange(&mut connection, mail, message, patience);
    if !connection.has_broken() {
        connection.quit().ok();
    }
    outcome
}

fn connect(mail: &Mail, password: Option<&Secret>) -> Result<SmtpConnection, String> {
    let place = format!("{}:{}", mail.host, mail.port);
    let failed = |error: lettre::transport::smtp::Error| format!("{place}: {}", chain(&error));
    let hello = hello();
    let tls = match mail.security {
        Security::None => None,
        Security::StartTls | Security::Tls => Some(tls(mail)?),
    };
    let at_once = match mail.security {
        Security::Tls => tls.as_ref(),
        Security::None | Security::StartTls => None,
    };
    let server = (mail.host.as_str(), mail.port);
    let mut connection =
        SmtpConnection::connect(server, Some(ANSWER), &hello, at_once, None).map_err(failed)?;
    if let (Security::StartTls, Some(tls)) = (mail.security, &tls) {
        // Asked here, because going on without it would show the password to whoever listens.
        if !connection.can_starttls() {
            connection.abort();
            return Err(format!("{place} does not offer STARTTLS"));
        }
        connection.starttls(tls, &hello).map_err(failed)?;
    }
    if let (Some((user, _)), Some(password)) = (&mail.login, password) {
        let credentials = Credentials::new(user.clone(), password.reveal().to_owned());
        connection
            .auth(&[Mechanism::Plain, Mechanism::Login], &credentials)
            .map_err(|error| format!("{place} refused the login: {}", chain(&error)))?;
    }
    Ok(connection)
}

fn exchange(
    connection: &mut SmtpConnection,
    mail: &Mail,
    message: &[u8],
    patience: Patience,
) -> Outcome {
    let place = format!("{}:{}", mail.host, mail.port);
    let from = MailFrom::new(Some(mail.from.email.clone()), Vec::new());
    if let Err(error) = connection.command(from) {
        let why = format!(
            "{place} refused the sender {}: {}",
            mail.from.email,
            chain(&error)
        );
        return Outcome::Unreachable(why);
    }
    let mut refusals = Refusals::default();
    for to in &mail.to {
        let Err(error) = connection.command(Rcpt::new(to.email.clone(), Vec::new())) else {
            refusals.taken += 1;
            continue;
        };
        if error.is_permanent() {
            refusals.permanent.push(refusal(&to.email, &error));
        } else if error.is_transient() {
            refusals.temporary.push(refusal(&to.email, &error));
        } else {
            return Outcome::Unreachable(format!("{place}: {}", chain(&error)));
        }
    }
    if let Some(outcome) = refusals.verdict(patience) {
        return outcome;
    }
    let sent = connection
        .command(Data)
        .and_then(|_| connection.message(message));
    match sent {
        Ok(_) => Outcome::Delivered([refusals.permanent, refusals.temporary].concat()),
        Err(error) if error.is_permanent() => {
            Outcome::Permanent(format!("{place} refused the mail: {}", chain(&error)))
        }
        Err(error) if error.is_transient() => {
            Outcome::Temporary(format!("{place} put the mail off: {}", chain(&error)))
        }
        Err(error) => Outcome::Unreachable(format!("{place}: {}", chain(&error))),
    }
}

/// Who could not be written to.
#[derive(Default)]
struct Refusals {
    taken: usize,
    permanent: Vec<String>,
    temporary: Vec<String>,
}

impl Refusals {
    /// Says what to do instead of sending; `None` to send.
    fn verdict(&self, patience: Patience) -> Option<Outcome> {
        let why = || {
            [self.temporary.as_slice(), &self.permanent]
                .concat()
                .join("; ")
        };
        if self.taken == 0 && self.temporary.is_empty() {
            return Some(Outcome::Permanent(why()));
        }
        let wait = match patience {
            Patience::WaitForAll => !self.temporary.is_empty(),
            Patience::TakeWhoIsThere => self.taken == 0,
        };
        wait.then(|| Outcome::Temporary(why()))
    }
}

fn refusal(to: &Address, error: &lettre::transport::smtp::Error) -> String {
    format!("{to} was refused: {}", chain(error))
}

fn tls(mail: &Mail) -> Result<TlsParameters, String> {
    let builder = || TlsParameters::builder(mail.host.clone());
    let failed = |error: lettre::transport::smtp::Error| format!("TLS: {}", chain(&error));
    let built_in =
        |builder: TlsParametersBuilder| builder.certificate_store(CertificateStore::WebpkiRoots);
    let Some(pem) = authorities(mail.ca_file.as_deref())? else {
        return built_in(builder()).build().map_err(failed);
    };
    let parameters = Certificate::from_pem(&pem).and_then(|certificate| {
        builder()
            .certificate_store(CertificateStore::None)
            .add_root_certificate(certificate)
            .build()
    });
    match (parameters, &mail.ca_file) {
        (Ok(parameters), _) => Ok(parameters),
        (Err(error), Some(path)) => Err(format!("{}: {}", path.display(), chain(&error))),
        // One certificate of the system's that cannot be read would take all of them away.
        (Err(_), None) => built_in(builder()).build().map_err(failed),
    }
}

/// Names this machine to the server.
fn hello() -> ClientId {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if name.is_empty() || name.len() > 253 || !name.chars().all(plain) {
        return ClientId::default();
    }
    ClientId::Domain(name.to_owned())
}

/// Writes an error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // The library repeats its cause's text in its own.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    tuxtape_core::notice::one_line(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusals(taken: usize, permanent: &[&str], temporary: &[&str]) -> Refusals {
        let texts = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect();
        Refusals {
            taken,
            permanent: texts(permanent),
            temporary: texts(temporary),
        }
    }

    #[test]
    fn a_wrong_address_does_not_keep_a_mail_from_the_others() {
        let some = refusals(1, &["a"], &[]);
        assert_eq!(some.verdict(Patience::WaitForAll), None);
        let none = refusals(0, &["a", "b"], &[]);
        assert_eq!(
            none.verdict(Patience::WaitForAll),
            Some(Outcome::Permanent("a; b".to_owned()))
        );
    }

    #[test]
    fn recipients_who_are_refused_for_now_are_waited_for_and_then_left() {
        let some = refusals(1, &[], &["a"]);
        assert_eq!(
            some.verdict(Patience::WaitForAll),
            Some(Outcome::Temporary("a".to_owned()))
        );
        assert_eq!(some.verdict(Patience::TakeWhoIsThere), None);
        let none = refusals(0, &["b"], &["a"]);
        for patience in [Patience::WaitForAll, Patience::TakeWhoIsThere] {
            assert_eq!(
                none.verdict(patience),
                Some(Outcome::Temporary("a; b".to_owned()))
            );
        }
    }
}
