//! What was seen before and must not be undercut.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::metadata::RoleKeys;
use crate::time::UtcSeconds;

/// Highest versions seen, and the latest signed time.
///
/// A version counts for the key set it was signed by: once the root rotates those keys, the version
/// may fall again, which heals a thief's fast-forward.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    format: u32,
    roles: BTreeMap<String, Seen>,
    /// Latest `tuxtape_issued` or `created` seen. The local clock may be wrong, but not earlier than
    /// this.
    pub time: UtcSeconds,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    keys: String,
    version: u64,
}

/// Roles kept: the four top-level ones and the kernels this machine booted lately.
const ROLE_LIMIT: usize = 20;

impl Default for Floor {
    fn default() -> Self {
        Self {
            format: 1,
            roles: BTreeMap::new(),
            time: UtcSeconds::EPOCH,
        }
    }
}

impl Floor {
    /// Reads a floor; `None` when the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let floor: Self = serde_json::from_slice(bytes).ok()?;
        (floor.format == 1).then_some(floor)
    }

    /// Writes the floor.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers can be written")
    }

    /// Returns the highest version of `role` seen with these keys.
    pub fn version(&self, role: &str, keys: &RoleKeys) -> Option<u64> {
        let seen = self.roles.get(role)?;
        (seen.keys == keys.fingerprint()).then_some(seen.version)
    }

    /// Raises the version of `role`; a version seen with other keys is replaced.
    pub fn raise(&mut self, role: &str, keys: &RoleKeys, version: u64) {
        let version = self
            .version(role, keys)
            .map_or(version, |seen| seen.max(version));
        let seen = Seen {
            keys: keys.fingerprint(),
            version,
        };
        self.roles.insert(role.to_owned(), seen);
        let top = ["root", "targets", "snapshot", "timestamp"];
        while self.roles.len() > ROLE_LIMIT {
            let oldest = self
                .roles
                .keys()
                .find(|name| *name != role && !top.contains(&name.as_str()))
                .cloned();
            match oldest {
                Some(name) => self.roles.remove(&name),
                None => break,
            };
        }
    }

    /// Raises the time.
    pub fn raise_time(&mut self, time: UtcSeconds) {
        self.time = self.time.max(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyId;

    fn keys(id: &str) -> RoleKeys {
        RoleKeys {
            keyids: vec![KeyId(id.to_owned())],
            threshold: 1,
        }
    }

    #[test]
    fn a_version_counts_for_its_keys_alone() {
        let mut floor = Floor::default();
        floor.raise("timestamp", &keys("a"), 9000);
        floor.raise("timestamp", &keys("a"), 5);
        assert_eq!(floor.version("timestamp", &keys("a")), Some(9000));
        assert_eq!(floor.version("timestamp", &keys("b")), None);
        floor.raise("timestamp", &keys("b"), 6);
        assert_eq!(floor.version("timestamp", &keys("b")), Some(6));
    }

    #[test]
    fn the_floor_fits_its_slot_however_many_kernels_were_booted() {
        let mut floor = Floor::default();
        for kernel in 0..1000 {
            let role = format!("k__x86_64__6.12.{kernel}_2bdeb12-cloud-amd64");
            floor.raise(&role, &keys("a"), 1 << 52);
            assert_eq!(floor.version(&role, &keys("a")), Some(1 << 52));
        }
        assert!(floor.to_bytes().len() < 3000);
        assert_eq!(Floor::from_bytes(&floor.to_bytes()), Some(floor));
    }
}
