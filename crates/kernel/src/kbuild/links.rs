//! Links within a tree: two names of one file.

use std::collections::{BTreeMap, BTreeSet};

use tuxtape_core::identity::ObjectName;

use super::includes;

/// Tells of every file under each of its names what is known of one of them.
///
/// `links` maps a link to what it leads to; both end in `/` where that is a folder.
pub(crate) fn spread(
    links: &BTreeMap<String, String>,
    units: &BTreeMap<String, BTreeSet<ObjectName>>,
    contributors: &mut BTreeMap<String, BTreeSet<ObjectName>>,
    blind: &mut BTreeMap<String, String>,
) {
    // A link may lead to a folder with a link in it.
    for _ in 0..3 {
        let mut compiled: Vec<(String, BTreeSet<ObjectName>)> = Vec::new();
        let mut doubted: Vec<(String, String)> = Vec::new();
        for (link, target) in links {
            for (from, to) in [(link, target), (target, link)] {
                for known in [units, contributors] {
                    let named = below(known, from);
                    compiled.extend(
                        named.map(|(rest, objects)| (format!("{to}{rest}"), objects.clone())),
                    );
                }
                let reason = |why: &str| format!("{from} is another name of it: {why}");
                let named = below(blind, from);
                doubted.extend(named.map(|(rest, why)| (format!("{to}{rest}"), reason(why))));
                let mut above = folders(from).filter(|folder| !includes::apart(folder));
                let above = above.find_map(|folder| blind.get(folder));
                doubted.extend(above.map(|why| (to.clone(), reason(why))));
            }
        }
        let before = contributors.len() + blind.len();
        for (path, objects) in compiled {
            contributors.entry(path).or_default().extend(objects);
        }
        for (path, why) in doubted {
            let known = units.contains_key(&path) || contributors.contains_key(&path);
            let covered = folders(&path).any(|folder| blind.contains_key(folder));
            if !known && !covered && (path.ends_with('/') || includes::is_code(&path)) {
                blind.entry(path).or_insert(why);
            }
        }
        if contributors.len() + blind.len() == before {
            break;
        }
    }
    blind.retain(|path, _| !units.contains_key(path) && !contributors.contains_key(path));
}

/// Returns what `known` has of `name`, or below it where it is a folder, by the rest of the path.
fn below<'a, T>(
    known: &'a BTreeMap<String, T>,
    name: &'a str,
) -> impl Iterator<Item = (&'a str, &'a T)> {
    known
        .range(name.to_owned()..)
        .map_while(move |(path, value)| Some((path.strip_prefix(name)?, value)))
        .filter(move |(rest, _)| rest.is_empty() || name.ends_with('/'))
}

/// Returns the folders that `path` lies in.
fn folders(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/')
        .filter_map(|(at, _)| path.get(..=at))
        .filter(move |folder| *folder != path)
}
