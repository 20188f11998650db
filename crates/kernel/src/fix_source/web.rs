//! Commits from a server that shows them as patches, one request at a time.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tuxtape_core::git_id::GitId;
use tuxtape_sys::fetch::{self, FetchError, Options};

use super::commit::{CommitDiff, CommitError, Shelf};
use super::library::Network;
use super::mail;
use super::repository::Commits;
use super::spec::UrlTemplate;
use crate::unified::LONGEST_DIFF;

/// How long is waited before a request is made again.
const PAUSES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(15),
];
/// Requests in a row that may fail before the server is left alone.
const MOST_FAILURES: usize = 2;

/// Makes one request.
type Get<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>, FetchError>;

/// One server, and how it has answered so far.
pub(super) struct Server<'a> {
    template: &'a UrlTemplate,
    shelf: Shelf,
    network: Network,
    options: Options,
    /// Requests in a row that failed.
    failures: usize,
}

impl<'a> Server<'a> {
    /// Names a server; what it gives is kept below `cache`.
    pub(super) fn new(template: &'a UrlTemplate, cache: &Path, network: Network) -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        Self {
            template,
            shelf: Shelf::of(cache, &format!("url:{template}")),
            network,
            options: Options {
                total: Duration::from_secs(60),
                ..Options::from_variables(variable)
            },
            failures: 0,
        }
    }

    /// Asks for `ids`. Blocks on the network where that is allowed, for each commit up to four requests.
    pub(super) fn read(&mut self, ids: &BTreeSet<GitId>) -> Commits {
        let options = self.options.clone();
        let get = |url: &str| fetch::get(url, LONGEST_DIFF as u64, &options);
        self.read_by(ids, &get, &thread::sleep)
    }

    fn read_by(&mut self, ids: &BTreeSet<GitId>, get: Get<'_>, wait: &dyn Fn(Duration)) -> Commits {
        ids.iter()
            .map(|id| {
                let outcome = match self.shelf.get(*id) {
                    Some(commit) => Ok(commit),
                    None => self.ask(*id, get, wait),
                };
                (*id, outcome)
            })
            .collect()
    }

    fn ask(
        &mut self,
        id: GitId,
        get: Get<'_>,
        wait: &dyn Fn(Duration),
    ) -> Result<CommitDiff, CommitError> {
        let not_asked = |why: String| Err(CommitError::Source { why });
        match self.network {
            Network::Never => {
                let why = "it was not fetched before, and the network may not be used";
                return not_asked(why.to_owned());
            }
            Network::Allowed if self.failures >= MOST_FAILURES => {
                let count = self.failures;
                return not_asked(format!("not asked for after {count} requests that failed"));
            }
            Network::Allowed => {}
        }
        let answer = persistent(&self.template.of(id), get, wait);
        self.failures = match &answer {
            Ok(_) | Err(FetchError::Status { status: 404, .. }) => 0,
            Err(_) => self.failures + 1,
        };
        match answer {
            Ok(text) => {
                let commit = mail::parse(&text, id)?;
                // What is not kept is asked for again.
                self.shelf.put(&commit).ok();
                Ok(commit)
            }
            Err(FetchError::Status { status: 404, .. }) => Err(CommitError::Missing),
            Err(error) => not_asked(error.to_string()),
        }
    }
}

/// Asks until there is an answer, waiting longer each time.
fn persistent(url: &str, get: Get<'_>, wait: &dyn Fn(Duration)) -> Result<Vec<u8>, FetchError> {
    for pause in PAUSES {
        match get(url) {
            Err(error) if may_pass(&error) => wait(pause),
            outcome => return outcome,
        }
    }
    get(url)
}

/// Tells whether the same request may succeed later.
fn may_pass(error: &FetchError) -> bool {
    match error {
        FetchError::Status { status, .. } => matches!(status, 429 | 500 | 502 | 503 | 504),
        FetchError::Network { .. } => true,
        FetchError::Url { .. }
        | FetchError::TooLarge { .. }
        | FetchError::Authorities { .. }
        | FetchError::Proxy { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;

    use super::*;

    fn mail_of(id: GitId) -> Vec<u8> {
        format!(
            "From {id} Mon Sep 17 00:00:00 2001\nSubject: [PATCH] s\n\nm\n---\n x.c | 2 +-\n \
             1 file changed, 1 insertion(+), 1 deletion(-)\n\ndiff --git a/x.c b/x.c\n\
             --- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-1\n+2\n-- \n2.1\n"
        )
        .into_bytes()
    }

    fn ids(bytes: &[u8]) -> BTreeSet<GitId> {
        bytes
            .iter()
            .map(|byte| GitId::from_bytes([*byte; 20]))
            .collect()
    }

    fn template() -> UrlTemplate {
        "https://example.org/{sha}.patch".parse().unwrap()
    }

    fn status(url: &str, status: u16) -> FetchError {
        FetchError::Status {
            url: url.to_owned(),
            status,
        }
    }

    /// Asks a server that answers as `answer` says; returns the outcome, the requests and the waits.
    fn asked(
        server: &mut Server<'_>,
        ids: &BTreeSet<GitId>,
        answer: impl Fn(&str, usize) -> Result<Vec<u8>, FetchError>,
    ) -> (Commits, Vec<String>, Vec<u64>) {
        let requests = RefCell::new(Vec::new());
        let waits = RefCell::new(Vec::new());
        let get = |url: &str| {
            requests.borrow_mut().push(url.to_owned());
            let count = requests.borrow().iter().filter(|it| *it == url).count();
            answer(url, count)
        };
        let wait = |pause: Duration| waits.borrow_mut().push(pause.as_secs());
        let commits = server.read_by(ids, &get, &wait);
        (commits, requests.into_inner(), waits.into_inner())
    }

    fn id_in(url: &str) -> GitId {
        let name = url.strip_prefix("https://example.org/").unwrap();
        name.strip_suffix(".patch").unwrap().parse().unwrap()
    }

    #[test]
    fn a_busy_server_is_asked_again_after_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let template = template();
        let mut server = Server::new(&template, folder.path(), Network::Allowed);
        let (commits, requests, waits) = asked(&mut server, &ids(&[1]), |url, count| match count {
            1 => Err(status(url, 503)),
            2 => Err(status(url, 429)),
            _ => Ok(mail_of(id_in(url))),
        });
        assert!(commits.values().all(Result::is_ok));
        assert_eq!((requests.len(), waits), (3, vec![1, 4]));
        // It is kept: no further request.
        let (commits, requests, _) = asked(&mut server, &ids(&[1]), |url, _| Err(status(url, 500)));
        assert!(commits.values().all(Result::is_ok) && requests.is_empty());
    }

    #[test]
    fn a_missing_commit_stops_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let template = template();
        let mut server = Server::new(&template, folder.path(), Network::Allowed);
        let wanted = ids(&[1, 2, 3]);
        let missing = *wanted.first().unwrap();
        let (commits, ..) = asked(&mut server, &wanted, |url, _| {
            let id = id_in(url);
            if id == missing {
                Err(status(url, 404))
            } else {
                Ok(mail_of(id))
            }
        });
        assert_eq!(commits[&missing], Err(CommitError::Missing));
        assert_eq!(commits.values().filter(|it| it.is_ok()).count(), 2);
    }

    #[test]
    fn a_server_that_does_not_answer_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let template = template();
        let mut server = Server::new(&template, folder.path(), Network::Allowed);
        let (commits, requests, _) = asked(&mut server, &ids(&[1, 2, 3, 4]), |url, _| {
            Err(FetchError::Network {
                url: url.to_owned(),
                reason: "refused".to_owned(),
            })
        });
        assert_eq!(requests.len(), 2 * 4);
        assert!(commits.values().all(Result::is_err));
        let (_, requests, _) = asked(&mut server, &ids(&[5]), |url, _| Err(status(url, 500)));
        assert_eq!(requests, [""; 0]);
    }

    #[test]
    fn the_patch_of_another_commit_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let template = template();
        let mut server = Server::new(&template, folder.path(), Network::Allowed);
        let wanted = ids(&[1]);
        let id = *wanted.first().unwrap();
        let (commits, ..) = asked(&mut server, &wanted, |_, _| {
            Ok(mail_of(GitId::from_bytes([9; 20])))
        });
        assert!(matches!(
            commits[&id],
            Err(CommitError::NotThisPatch { .. })
        ));
        assert_eq!(server.shelf.get(id), None);
    }

    #[test]
    fn a_web_page_from_a_real_server_stops_no_other_commit() {
        let server = Arc::new(tiny_http::Server::http("127.0.0.1:0").unwrap());
        let address = server.server_addr();
        let worker = Arc::clone(&server);
        let thread = thread::spawn(move || {
            for request in worker.incoming_requests() {
                let id = request.url().trim_matches('/').parse().unwrap();
                let answer = match request.url().chars().nth(1) {
                    Some('1') => "<!DOCTYPE html>\n<html>Making sure you are not a robot\n".into(),
                    _ => mail_of(id),
                };
                request.respond(tiny_http::Response::from_data(answer)).ok();
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let template = format!("http://{address}/{{sha}}").parse().unwrap();
        let mut client = Server::new(&template, folder.path(), Network::Allowed);
        let commits = client.read(&ids(&[0x11, 0x22]));
        server.unblock();
        thread.join().unwrap();
        let outcomes: Vec<bool> = commits.values().map(Result::is_ok).collect();
        assert_eq!(outcomes, [false, true], "{commits:?}");
        let error = commits.into_values().next().unwrap().unwrap_err();
        assert!(error.to_string().contains("web page"), "{error}");
    }

    #[test]
    fn without_the_network_nothing_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let template = template();
        let mut server = Server::new(&template, folder.path(), Network::Allowed);
        server.network = Network::Never;
        let get = |_: &str| -> Result<Vec<u8>, FetchError> { panic!("asked") };
        let commits = server.read_by(&ids(&[1]), &get, &|_| {});
        assert!(commits.values().all(Result::is_err));
    }
}
