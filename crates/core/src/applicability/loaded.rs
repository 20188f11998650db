//! Whether the code of an object runs on a node, or can be made to.
//!
//! This is evidence: it says how urgent an affected kernel is there, may change any minute, and never
//! turns a verdict.

pub mod node;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use self::node::Node;
use crate::identity::ObjectName;

/// What a module says of how it is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleFacts {
    /// Names it can be asked for by. Of those that name hardware one for each bus is enough.
    pub aliases: BTreeSet<String>,
    /// Modules that are loaded before it, and without which it cannot be.
    pub depends: BTreeSet<ObjectName>,
    /// Modules that are loaded with it where they can be.
    pub soft: BTreeSet<ObjectName>,
}

/// All modules of a kernel.
pub type Modules = BTreeMap<ObjectName, ModuleFacts>;

/// How an object stands on a node, the most urgent first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Its code runs.
    Loaded(Presence),
    /// The kernel loads it when somebody asks.
    Autoload {
        /// Who can ask.
        asker: Asker,
        /// The alias, or the name, that it is asked for by.
        by: String,
        /// The module that brings it along, where it is not asked for itself.
        through: Option<ObjectName>,
    },
    /// Only root can load it, by its name.
    RootOnly {
        /// Why the kernel does not load it.
        why: String,
    },
    /// It cannot be loaded.
    Blocked {
        /// The setting.
        why: String,
    },
}

/// Why code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// It is part of vmlinux.
    BuiltIn,
    /// The node's `/proc/modules` names it.
    Module,
}

/// Who can make the kernel load a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asker {
    /// A process without privileges, perhaps in a user namespace of its own.
    User,
    /// Something of which it is not known who can do it.
    Somebody,
    /// A device, when it is found.
    Hardware,
}

/// A kernel's modules, with the way into each.
#[derive(Debug)]
pub struct Loading<'a> {
    modules: &'a Modules,
    node: Option<&'a Node>,
    ways: BTreeMap<&'a ObjectName, Way<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Way<'a> {
    asker: Asker,
    by: &'a str,
    through: Option<&'a ObjectName>,
}

impl<'a> Loading<'a> {
    /// Finds the way into each of `modules`; without a `node` as on one without settings.
    pub fn new(modules: &'a Modules, node: Option<&'a Node>) -> Self {
        let mut loading = Self {
            modules,
            node,
            ways: BTreeMap::new(),
        };
        let mut direct: Vec<(Asker, &ObjectName, Way<'_>)> = modules
            .iter()
            .filter(|(name, _)| loading.blocked(name).is_none())
            .filter_map(|(name, facts)| {
                let way = loading.asked(name, facts)?;
                Some((way.asker, name, way))
            })
            .collect();
        // The widest way first: it is the one that a dependency keeps.
        direct.sort_by_key(|(asker, name, _)| (*asker, *name));
        for (_, name, way) in direct {
            loading.spread(name, way);
        }
        loading
    }

    /// Says how `object` stands; `None` for a module that is not among the kernel's.
    pub fn of(&self, object: &ObjectName) -> Option<Standing> {
        if object.is_vmlinux() {
            return Some(Standing::Loaded(Presence::BuiltIn));
        }
        if self.is_loaded(object) {
            return Some(Standing::Loaded(Presence::Module));
        }
        let (name, facts) = self.modules.get_key_value(object)?;
        if let Some(why) = self.blocked(object) {
            return Some(Standing::Blocked { why });
        }
        let Some(way) = self.ways.get(name) else {
            let listed = self.node.and_then(|node| node.blacklisted(object));
            let why = match listed {
                Some(place) if !facts.aliases.is_empty() => format!("blacklisted by {place}"),
                _ => "it has no alias to be asked for by".to_owned(),
            };
            return Some(Standing::RootOnly { why });
        };
        Some(Standing::Autoload {
            asker: way.asker,
            by: way.by.to_owned(),
            through: way.through.cloned(),
        })
    }

    fn is_loaded(&self, object: &ObjectName) -> bool {
        self.node.is_some_and(|node| node.is_loaded(object))
    }

    /// Takes the widest way in which `name` is asked for itself.
    fn asked(&self, name: &'a ObjectName, facts: &'a ModuleFacts) -> Option<Way<'a>> {
        // A name that the kernel itself puts together is asked for as such; only aliases are stopped
        // by a blacklist.
        let own = (asker(&name.0) == Asker::User).then_some((Asker::User, name.0.as_str()));
        let listed = self
            .node
            .is_some_and(|node| node.blacklisted(name).is_some());
        let aliases = facts
            .aliases
            .iter()
            .filter(|alias| !listed && self.node.is_none_or(|node| !node.is_off(alias)))
            .map(|alias| (asker(alias), alias.as_str()));
        let (asker, by) = aliases.chain(own).min()?;
        Some(Way {
            asker,
            by,
            through: None,
        })
    }

    /// Notes the way into `name`, and through it into all that is loaded with it.
    fn spread(&mut self, name: &'a ObjectName, way: Way<'a>) {
        let modules = self.modules;
        let known = self.ways.get(name);
        if known.is_none_or(|known| (way.asker, false) < (known.asker, known.through.is_some())) {
            self.ways.insert(name, way);
        }
        let mut next: VecDeque<&'a ObjectName> = VecDeque::from([name]);
        while let Some(module) = next.pop_front() {
            let Some(facts) = modules.get(module) else {
                continue;
            };
            for dependency in facts.depends.iter().chain(&facts.soft) {
                let Some((dependency, _)) = modules.get_key_value(dependency) else {
                    continue;
                };
                // What has a way keeps it: a later one is no wider. So each is visited once.
                if self.ways.contains_key(dependency) || self.blocked(dependency).is_some() {
                    continue;
                }
                let through = Some(name);
                self.ways.insert(dependency, Way { through, ..way });
                next.push_back(dependency);
            }
        }
    }

    /// Names the setting that keeps `object` out: its own, or that of a module it cannot do without.
    fn blocked(&self, object: &ObjectName) -> Option<String> {
        let node = self.node?;
        if node.modules_disabled() {
            return Some("kernel.modules_disabled=1".to_owned());
        }
        let mut seen: BTreeSet<&ObjectName> = BTreeSet::from([object]);
        let mut next = VecDeque::from([object]);
        while let Some(module) = next.pop_front() {
            if node.is_loaded(module) {
                continue;
            }
            if let Some(place) = node.install_blocks(module) {
                return Some(if module == object {
                    place.to_owned()
                } else {
                    format!("{place}, and {} needs {}", object.0, module.0)
                });
            }
            let needed = self.modules.get(module).map(|facts| &facts.depends);
            next.extend(
                needed
                    .into_iter()
                    .flatten()
                    .filter(|needed| seen.insert(needed)),
            );
        }
        None
    }
}

/// Says who can ask for an alias, or for a name that the kernel puts together.
///
/// From the `request_module` calls of the kernel: what a system call without privileges reaches, at
/// most in a user namespace.
pub fn asker(alias: &str) -> Asker {
    const USER: [&str; 38] = [
        "act_",
        "arpt_",
        "binfmt-",
        "block-major-",
        "bpfilter",
        "bt-proto-",
        "can-proto-",
        "char-major-",
        "cls_",
        "crypto-",
        "devname:",
        "ebt_",
        "em-kind-",
        "fs-",
        "ip6t_",
        "ip_set_",
        "ip_vs_",
        "ipt_",
        "ldm-",
        "net-pf-",
        "netdev-",
        "nf-logger-",
        "nf-nat-helper-",
        "nf_conntrack-",
        "nfct-helper-",
        "nfnetlink-subsys-",
        "nft-",
        "rtnl-link-",
        "rtnl-lwt-",
        "rtnl-af-",
        "sch_",
        "snd-",
        "sound-",
        "tcp-ulp-",
        "tcp_",
        "tty-ldisc-",
        "xfrm-",
        "xt_",
    ];
    if USER.iter().any(|prefix| alias.starts_with(prefix)) || alias.contains("-proto-") {
        Asker::User
    } else if alias.contains(':') {
        Asker::Hardware
    } else {
        Asker::Somebody
    }
}

impl Standing {
    /// Returns the fixed slug.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Loaded(_) => "loaded",
            Self::Autoload { .. } => "autoload",
            Self::RootOnly { .. } => "root-only",
            Self::Blocked { .. } => "blocked",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slug = self.as_str();
        match self {
            Self::Loaded(Presence::BuiltIn) => write!(f, "{slug}: part of vmlinux"),
            Self::Loaded(Presence::Module) => write!(f, "{slug}: in /proc/modules"),
            Self::Autoload { asker, by, through } => {
                let asker = match asker {
                    Asker::User => "any user's request for",
                    Asker::Somebody => "a request for",
                    Asker::Hardware => "hardware",
                };
                write!(f, "{slug}: by {asker} {by}")?;
                match through {
                    Some(module) => write!(f, ", through {}", module.0),
                    None => Ok(()),
                }
            }
            Self::RootOnly { why } | Self::Blocked { why } => write!(f, "{slug}: {why}"),
        }
    }
}

#[cfg(test)]
mod tests;
