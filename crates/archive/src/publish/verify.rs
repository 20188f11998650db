//! Looking at an archive as every client would.

use tuxtape_core::identity::{KernelId, PatchLevel};

use super::commit::kernel_of;
use crate::client::{self, MemoryStore, Store, Stored, UpdateError};
use crate::hold::{self, Hold};
use crate::metadata::Body;
use crate::names::cap;
use crate::source::Source;
use crate::time::UtcSeconds;
use crate::words::one_line;

/// Offline signatures that end sooner than this are worth a warning.
const SOON: u64 = 21 * 86_400;

/// What a walk over the whole archive found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Versions of root, targets, snapshot, timestamp.
    pub versions: [u64; 4],
    /// End of the timestamp.
    pub expires: UtcSeconds,
    /// Every level of every kernel, fetched and compared.
    pub levels: Vec<(KernelId, PatchLevel)>,
    /// Things to see to before clients stumble over them.
    pub warnings: Vec<String>,
}

/// Runs the client workflow from `root` over everything in `source`, modules included.
pub fn verify(source: &dyn Source, root: &[u8], now: UtcSeconds) -> Result<Verified, UpdateError> {
    let mut store = MemoryStore::default();
    store.save(&Stored::Root, root)?;
    let mut session = client::refresh(&mut store, source, now)?;
    let mut warnings = Vec::new();
    let mut warn_soon = |role: &str, expires: UtcSeconds| {
        if expires.since(now) < SOON {
            warnings.push(format!("{role} expires at {expires}"));
        }
    };
    warn_soon("root", session.root.expires());
    warn_soon("targets", session.targets.expires());
    let mut levels = Vec::new();
    let mut unlisted = Vec::new();
    let delegations = session.targets.delegations.clone().unwrap_or_default();
    for (name, keys) in [
        ("root", &session.root.roles.root),
        ("targets", &session.root.roles.targets),
    ] {
        if keys.threshold < 2 {
            unlisted.push(format!("one person alone signs {name}"));
        }
    }
    match session.hold()? {
        Hold::Caps(caps) => unlisted.extend(caps.stopped()),
        Hold::Absent => unlisted.push("there is no stop button (role hold)".to_owned()),
        Hold::Unreadable(why) => {
            unlisted.push(format!("no node loads anything new: {why}"));
        }
    }
    for role in delegations
        .roles
        .iter()
        .filter(|role| role.name != hold::ROLE)
    {
        if role.keys.threshold < 2 {
            unlisted.push(format!("one person alone signs {}", role.name));
        }
        let Some((arch, release)) = kernel_of(&role.name) else {
            unlisted.push(format!("role {} is no kernel's", role.name));
            continue;
        };
        if !session
            .snapshot
            .meta
            .contains_key(&format!("{}.json", role.name))
        {
            unlisted.push(format!("kernel {release} is listed but has no level yet"));
            continue;
        }
        let Some((body, index)) = session.kernel(arch, &release)? else {
            continue;
        };
        warn_soon(&role.name, body.expires());
        unlisted.extend(
            index
                .check_rollout()
                .err()
                .map(|error| format!("{release}: {error}")),
        );
        let fixes = index.kernels.iter().flat_map(|kernel| &kernel.fixes);
        for fix in fixes.filter(|fix| fix.until.is_none()) {
            let over = fix.expires.filter(|at| *at <= now);
            unlisted.extend(over.map(|at| {
                format!(
                    "{release}: a hotfix of level {} was to be looked at by {at}",
                    fix.since
                )
            }));
        }
        for kernel in &index.kernels {
            for level in &kernel.levels {
                let missing = || UpdateError::Missing {
                    file: level.target.clone(),
                };
                let target = session.find_target(&level.target)?.ok_or_else(missing)?;
                session.fetch_target(&level.target, &target, cap::MODULE)?;
                levels.push((index.kernel_id(kernel), level.level));
            }
        }
    }
    warnings.extend(unlisted);
    let warnings = warnings.iter().map(|text| one_line(text)).collect();
    Ok(Verified {
        versions: [
            session.root.version,
            session.targets.version,
            session.snapshot.version,
            session.timestamp.version,
        ],
        expires: session.timestamp.expires,
        levels,
        warnings,
    })
}
