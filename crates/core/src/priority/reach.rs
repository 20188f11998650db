//! Who gets to the code: path and title prefixes, with a weight for each threat model.

use std::cmp::Reverse;
use std::path::Path;

use super::doors::{Door, Doors};
use super::model::{Each, ThreatModel};
use crate::cve::Cve;

/// One row of the table.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) why: String,
    pub(super) weights: Each<Option<u8>>,
    pub(super) door: Option<Door>,
}

/// The weights that stand where no rule speaks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    /// No rule knows the code.
    pub(super) unknown: u8,
    /// A rule knows it, but not this attacker.
    pub(super) elsewhere: u8,
    /// A door is shut.
    pub(super) closed: u8,
}

#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) rules: Vec<Rule>,
    pub(super) defaults: Defaults,
    paths: Prefixes,
    titles: Prefixes,
}

/// Prefixes by their first byte, the longest first.
#[derive(Clone, Debug)]
struct Prefixes(Vec<Vec<Prefix>>);

#[derive(Clone, Debug)]
struct Prefix {
    text: String,
    /// Only for what lies right in this folder.
    direct: bool,
    rule: usize,
}

/// What made a rule count.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// A file of the record.
    File(&'a str),
    /// The start of its title.
    Title(&'a str),
}

/// A rule that counts for a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit<'a> {
    pub(super) rule: usize,
    pub(super) place: Place<'a>,
    /// Why this node cannot run the code at all.
    absent: Option<&'a str>,
}

/// Everything the table says about one record.
#[derive(Debug)]
pub(super) struct Hits<'a> {
    hits: Vec<Hit<'a>>,
    /// Why this node can run none of the record's files.
    absent: Option<&'a str>,
}

/// How far one attacker gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached<'a> {
    /// 0 to 100.
    pub(super) weight: u8,
    /// What made it; none where no rule knows the code.
    pub(super) hit: Option<Hit<'a>>,
    /// What lowered it, on this node.
    pub(super) shut: Option<&'a str>,
}

impl Table {
    pub(super) fn new(
        rules: Vec<Rule>,
        paths: Vec<(String, usize)>,
        titles: Vec<(String, usize)>,
        defaults: Defaults,
    ) -> Self {
        let path = |(text, rule): (String, usize)| match text.strip_suffix('*') {
            Some(folder) => Prefix {
                text: folder.to_owned(),
                direct: true,
                rule,
            },
            None => Prefix {
                text,
                direct: false,
                rule,
            },
        };
        let title = |(text, rule): (String, usize)| Prefix {
            text: text.to_ascii_lowercase(),
            direct: false,
            rule,
        };
        Self {
            rules,
            defaults,
            paths: Prefixes::new(paths.into_iter().map(path)),
            titles: Prefixes::new(titles.into_iter().map(title)),
        }
    }

    /// Finds the rules that count for `cve`.
    pub(super) fn hits<'a>(&'a self, cve: &'a Cve, doors: &'a Doors) -> Hits<'a> {
        let mut hits: Vec<Hit<'a>> = Vec::new();
        let mut all_absent = None;
        let mut present = false;
        for file in &cve.files {
            let absent = doors.absent(file);
            present |= absent.is_none();
            all_absent = all_absent.or(absent);
            if let Some(prefix) = self.paths.longest(file.as_bytes()) {
                hits.push(Hit {
                    rule: prefix.rule,
                    place: Place::File(file),
                    absent,
                });
            }
        }
        let absent = all_absent.filter(|_| !present);
        // A source file says where the code is; a title is asked where only headers, or nothing known, are named.
        let located = |hit: &Hit<'_>| match hit.place {
            Place::File(path) => Path::new(path).extension().is_none_or(|it| it != "h"),
            Place::Title(_) => false,
        };
        if !hits.iter().any(located) {
            let title = cve.title.to_ascii_lowercase();
            if let Some(prefix) = self.titles.longest(title.as_bytes()) {
                hits.push(Hit {
                    rule: prefix.rule,
                    place: Place::Title(&prefix.text),
                    absent,
                });
            }
        }
        Hits { hits, absent }
    }

    /// Says how far the attacker of `model` gets with every door open.
    pub(super) fn open<'a>(&self, hits: &Hits<'a>, model: ThreatModel) -> Reached<'a> {
        let mut best: Option<Reached<'a>> = None;
        for hit in &hits.hits {
            let weight = self.weight(hit.rule, model);
            if best.is_none_or(|best| best.weight < weight) {
                best = Some(Reached {
                    weight,
                    hit: Some(*hit),
                    shut: None,
                });
            }
        }
        best.unwrap_or(Reached {
            weight: self.defaults.unknown,
            hit: None,
            shut: None,
        })
    }

    /// Says the same with the doors of one node; never more than [`Self::open`].
    pub(super) fn shut<'a>(
        &self,
        hits: &Hits<'a>,
        model: ThreatModel,
        doors: &'a Doors,
    ) -> Reached<'a> {
        let mut best: Option<Reached<'a>> = None;
        for hit in &hits.hits {
            let here = self.shut_hit(hit, model, doors);
            if best.is_none_or(|best| best.weight < here.weight) {
                best = Some(here);
            }
        }
        best.unwrap_or_else(|| {
            let open = self.defaults.unknown;
            Reached {
                weight: hits.absent.map_or(open, |_| open.min(self.defaults.closed)),
                hit: None,
                shut: hits.absent,
            }
        })
    }

    fn shut_hit<'a>(&self, hit: &Hit<'a>, model: ThreatModel, doors: &'a Doors) -> Reached<'a> {
        let mut reached = Reached {
            weight: self.weight(hit.rule, model),
            hit: Some(*hit),
            shut: None,
        };
        let mut lower = |to: u8, cause: Option<&'a str>| {
            if cause.is_some() && to < reached.weight {
                reached.weight = to;
                reached.shut = cause;
            }
        };
        if model == ThreatModel::Userns {
            // Without the namespaces, that attacker is an unprivileged account like any other.
            let local = self.weight(hit.rule, ThreatModel::Local);
            lower(local, doors.shut_by(Door::UserNamespaces));
        }
        let door = self.rules.get(hit.rule).and_then(|rule| rule.door);
        lower(
            self.defaults.closed,
            door.and_then(|door| doors.shut_by(door)),
        );
        lower(self.defaults.closed, hit.absent);
        reached
    }

    fn weight(&self, rule: usize, model: ThreatModel) -> u8 {
        self.rules
            .get(rule)
            .and_then(|rule| *rule.weights.get(model))
            .unwrap_or(self.defaults.elsewhere)
    }
}

impl Prefixes {
    fn new(prefixes: impl Iterator<Item = Prefix>) -> Self {
        let mut by_byte = vec![Vec::new(); 256];
        for prefix in prefixes {
            let byte = prefix.text.bytes().next().map_or(0, usize::from);
            if let Some(here) = by_byte.get_mut(byte) {
                here.push(prefix);
            }
        }
        for here in &mut by_byte {
            here.sort_by_key(|it: &Prefix| (Reverse(it.text.len()), Reverse(it.direct)));
        }
        Self(by_byte)
    }

    fn longest(&self, text: &[u8]) -> Option<&Prefix> {
        let first = usize::from(*text.first()?);
        self.0.get(first)?.iter().find(|prefix| {
            text.strip_prefix(prefix.text.as_bytes())
                .is_some_and(|rest| !(prefix.direct && rest.contains(&b'/')))
        })
    }
}
