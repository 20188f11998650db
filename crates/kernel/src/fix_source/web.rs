//! Commits from a server that shows them as patches, one request at a time.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tuxtape_core::git_id::GitId;
use tuxtape_sys::fetch::{self, FetchError, Options};

use super::commit::{CommitError, Shelf};
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

/// Asks the server for `ids`. What it gave is kept below `cache`. Blocks on the network where that is
/// allowed, for each commit up to four requests.
pub(super) fn read(
    template: &UrlTemplate,
    ids: &BTreeSet<GitId>,
    cache: &Path,
    network: Network,
) -> Commits {
    let variable = |name: &str| std::env::var(name).ok();
    let options = Options {
        total: Duration::from_secs(60),
        ..Options::from_variables(variable)
    };
    let get = |url: &str| fetch::get(url, LONGEST_DIFF as u64, &options);
    let shelf = Shelf::of(cache, &format!("url:{template}"));
    read_by(template, ids, &shelf, network, &get, &thread::sleep)
}

fn read_by(
    template: &UrlTemplate,
    ids: &BTreeSet<GitId>,
    shelf: &Shelf,
    network: Network,
    get: &dyn Fn(&str) -> Result<Vec<u8>, FetchError>,
    wait: &dyn Fn(Duration),
) -> Commits {
    let mut commits = Commits::new();
    let mut failures = 0;
    for id in ids {
        let outcome = match (shelf.get(*id), network) {
            (Some(commit), _) => Ok(commit),
            (None, Network::Never) => Err(CommitError::Source {
                why: "it was not fetched before, and the network may not be used".to_owned(),
            }),
            (None, Network::Allowed) if failures >= MOST_FAILURES => Err(CommitError::Source {
                why: format!("not asked for after {failures} requests that failed"),
            }),
            (None, Network::Allowed) => match persistent(&template.of(*id), get, wait) {
                Ok(text) => {
                    failures = 0;
                    mail::parse(&text, *id)
                }
                Err(FetchError::Status { status: 404, .. }) => {
                    failures = 0;
                    Err(CommitError::Missing)
                }
                Err(error) => {
                    failures += 1;
                    Err(CommitError::Source {
                        why: error.to_string(),
                    })
                }
            },
        };
        if let Ok(commit) = &outcome {
            // What is not kept is asked for again.
            shelf.put(commit).ok();
        }
        commits.insert(*id, outcome);
    }
    commits
}

/// Asks until there is an answer, waiting longer each time.
fn persistent(
    url: &str,
    get: &dyn Fn(&str) -> Result<Vec<u8>, FetchError>,
    wait: &dyn Fn(Duration),
) -> Result<Vec<u8>, FetchError> {
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
        shelf: &Shelf,
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
        let commits = read_by(&template(), ids, shelf, Network::Allowed, &get, &wait);
        (commits, requests.into_inner(), waits.into_inner())
    }

    fn id_in(url: &str) -> GitId {
        let name = url.strip_prefix("https://example.org/").unwrap();
        name.strip_suffix(".patch").unwrap().parse().unwrap()
    }

    #[test]
    fn a_busy_server_is_asked_again_after_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::of(folder.path(), "x");
        let (commits, requests, waits) = asked(&shelf, &ids(&[1]), |url, count| match count {
            1 => Err(status(url, 503)),
            2 => Err(status(url, 429)),
            _ => Ok(mail_of(id_in(url))),
        });
        assert!(commits.values().all(Result::is_ok));
        assert_eq!((requests.len(), waits), (3, vec![1, 4]));
        // It is kept: no further request.
        let (commits, requests, _) = asked(&shelf, &ids(&[1]), |url, _| Err(status(url, 500)));
        assert!(commits.values().all(Result::is_ok) && requests.is_empty());
    }

    #[test]
    fn a_missing_commit_stops_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::of(folder.path(), "x");
        let wanted = ids(&[1, 2, 3]);
        let missing = *wanted.first().unwrap();
        let (commits, ..) = asked(&shelf, &wanted, |url, _| {
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
        let shelf = Shelf::of(folder.path(), "x");
        let (commits, requests, _) = asked(&shelf, &ids(&[1, 2, 3, 4]), |url, _| {
            Err(FetchError::Network {
                url: url.to_owned(),
                reason: "refused".to_owned(),
            })
        });
        assert_eq!(requests.len(), 2 * 4);
        assert!(commits.values().all(Result::is_err));
    }

    #[test]
    fn the_patch_of_another_commit_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::of(folder.path(), "x");
        let wanted = ids(&[1]);
        let id = *wanted.first().unwrap();
        let (commits, ..) = asked(&shelf, &wanted, |_, _| {
            Ok(mail_of(GitId::from_bytes([9; 20])))
        });
        assert!(matches!(
            commits[&id],
            Err(CommitError::NotThisPatch { .. })
        ));
        assert_eq!(shelf.get(id), None);
    }

    #[test]
    fn without_the_network_nothing_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::of(folder.path(), "x");
        let get = |_: &str| -> Result<Vec<u8>, FetchError> { panic!("asked") };
        let commits = read_by(
            &template(),
            &ids(&[1]),
            &shelf,
            Network::Never,
            &get,
            &|_| {},
        );
        assert!(commits.values().all(Result::is_err));
    }
}
