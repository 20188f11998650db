//! Histories in a few words, for tests.

use super::{Builder, History, Logged};
use crate::git_id::GitId;

/// Returns the commit that tests call by a number below 100.
pub(crate) fn id(number: u8) -> GitId {
    format!("{number:02}c0ffee")
        .repeat(5)
        .parse()
        .expect("40 digits")
}

/// One commit: its number, its parents, its tree, its message with `#NN` for the id of a commit.
pub(crate) type Sample<'a> = (u8, &'a [u8], u8, &'a str);

/// Makes the history of the first of `commits`, which are listed children first.
pub(crate) fn history(commits: &[Sample<'_>], is_cut_off: bool) -> History {
    let mut builder = Builder::default();
    for (number, parents, tree, message) in commits {
        let mut text = (*message).to_owned();
        for named in 0..100 {
            text = text.replace(&format!("#{named:02}"), &id(named).to_string());
        }
        let parents: Vec<GitId> = parents.iter().map(|parent| id(*parent)).collect();
        let commit = Logged {
            id: id(*number),
            tree: id(*tree),
            parents: &parents,
            message: &text,
        };
        builder.take(&commit).expect("few commits");
    }
    builder.finish(is_cut_off).expect("no commit twice")
}
