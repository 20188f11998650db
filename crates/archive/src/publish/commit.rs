//! Making drafts public, and keeping the online roles fresh.

mod batch;
mod caps;
mod look;

use std::collections::BTreeMap;
use std::fs;

use sha2::{Digest, Sha256};
use tuxtape_core::identity::{Arch, KernelRelease};
use tuxtape_sys::durable;

use super::checked::Checked;
use super::endings::{Ending, endings};
use super::sign::own_ids;
use super::{PublishError, Published, Workspace, body, read_draft, read_file, role_of};
use crate::client::UpdateError;
use crate::hold::{self, Caps};
use crate::index::KernelIndex;
use crate::metadata::{
    Body, Envelope, FileMeta, RoleKeys, Root, SPEC_VERSION, Snapshot, Targets, Timestamp, compare,
};
use crate::names::{self, cap};
use crate::time::UtcSeconds;
use batch::Batch;

/// Seconds that the clock may have been set back since the last publication.
const CLOCK_STEP: u64 = 60;

/// What is public, and what the public tree will be made of.
struct View<'a> {
    published: Option<&'a Published>,
    root: &'a Root,
    targets: &'a Targets,
    /// Versions of the kernel roles.
    roles: &'a BTreeMap<String, u64>,
}

impl<'a> View<'a> {
    /// What is public stays.
    fn of(published: &'a Published) -> Self {
        Self {
            published: Some(published),
            root: &published.root,
            targets: &published.targets,
            roles: published.roles.versions(),
        }
    }
}

/// What was made public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Version of the timestamp.
    pub timestamp: u64,
    /// Version of the snapshot.
    pub snapshot: u64,
    /// Files written, in order, below the public folder.
    pub files: Vec<String>,
    /// Drafts that stay drafts, and why.
    pub left_out: Vec<LeftOut>,
    /// Published kernel roles whose validity is over: their machines get nothing new until a successor
    /// is signed (see [`Workspace::redate`]).
    pub expired: Vec<String>,
    /// What is odd about the clock, for people.
    pub clock: Option<String>,
    /// What was not as the publication before had left it and was checked anew, for people.
    pub surprises: Vec<String>,
    /// What people must sign again soon.
    pub endings: Vec<Ending>,
}

/// A draft that was not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The role.
    pub role: String,
    /// What it lacks.
    pub why: String,
}

impl Workspace {
    /// Publishes every draft that has its signatures, with a new snapshot and timestamp.
    ///
    /// The staged tree is first walked as a client would that saw the last publication; what does not
    /// verify is not published. Each file is durable before it gets its name, `timestamp.json` comes
    /// last: whoever reads in between sees the old state.
    pub fn publish(&self, now: UtcSeconds) -> Result<Publication, PublishError> {
        let published = self.published()?;
        let mut batch = Batch::default();
        let root = self.take_root(published.as_ref(), &mut batch)?;
        let targets = self.take_targets(&root, published.as_ref(), &mut batch)?;
        let mut roles = published
            .as_ref()
            .map(|p| p.roles.versions().clone())
            .unwrap_or_default();
        self.take_kernels(&targets, &mut roles, &mut batch, now)?;
        if batch.taken.is_empty() {
            let waiting: Vec<String> = batch
                .left_out
                .iter()
                .map(|left| format!("{} ({})", left.role, left.why))
                .collect();
            return Err(PublishError::Nothing(if waiting.is_empty() {
                "there are no drafts".to_owned()
            } else {
                format!("waiting: {}", waiting.join("; "))
            }));
        }
        let view = View {
            published: published.as_ref(),
            root: &root,
            targets: &targets,
            roles: &roles,
        };
        let publication = self.go_public(&view, None, batch, now)?;
        self.promote_keys(&root, &targets);
        Ok(publication)
    }

    /// Signs the timestamp anew, and the snapshot too when less than half of its life is left.
    pub fn renew(&self, now: UtcSeconds) -> Result<Publication, PublishError> {
        let published = self.published()?.ok_or(PublishError::Unpublished)?;
        self.go_public(&View::of(&published), None, Batch::default(), now)
    }

    /// Publishes other caps, signed by the online key of `hold`.
    pub(crate) fn publish_caps(
        &self,
        published: &Published,
        caps: &Caps,
        now: UtcSeconds,
    ) -> Result<Publication, PublishError> {
        self.go_public(&View::of(published), Some(caps), Batch::default(), now)
    }

    fn take_root(
        &self,
        published: Option<&Published>,
        batch: &mut Batch,
    ) -> Result<Root, PublishError> {
        let before = published.map(|published| &published.root);
        if let Some((path, envelope)) = self.draft("root")? {
            let root: Root = body(&envelope, "root")?;
            own_ids("root", &root.keys)?;
            let own = envelope.verify(&root.keys, &root.roles.root);
            let old = before.map_or(Ok(()), |old| envelope.verify(&old.keys, &old.roles.root));
            match own.and(old) {
                Ok(()) => {
                    batch.take("root", path, &envelope, root.version);
                    return Ok(root);
                }
                Err(unsigned) => batch.leave("root", &unsigned),
            }
        }
        before.cloned().ok_or_else(|| batch.nothing())
    }

    fn take_targets(
        &self,
        root: &Root,
        published: Option<&Published>,
        batch: &mut Batch,
    ) -> Result<Targets, PublishError> {
        if let Some((path, envelope)) = self.draft("targets")? {
            let targets: Targets = body(&envelope, "targets")?;
            if let Some(delegations) = &targets.delegations {
                own_ids("targets", &delegations.keys)?;
            }
            match envelope.verify(&root.keys, &root.roles.targets) {
                Ok(()) => {
                    batch.take("targets", path, &envelope, targets.version);
                    return Ok(targets);
                }
                Err(unsigned) => batch.leave("targets", &unsigned),
            }
        }
        published
            .map(|published| published.targets.clone())
            .ok_or_else(|| batch.nothing())
    }

    fn take_kernels(
        &self,
        targets: &Targets,
        roles: &mut BTreeMap<String, u64>,
        batch: &mut Batch,
        now: UtcSeconds,
    ) -> Result<(), PublishError> {
        let delegations = targets.delegations.clone().unwrap_or_default();
        for path in self.open_drafts()? {
            let Some(name) = role_of(&path).map(str::to_owned) else {
                continue;
            };
            if name == "root" || name == "targets" {
                continue;
            }
            let envelope = read_draft(&path)?;
            let role: Targets = body(&envelope, &name)?;
            let Some(delegated) = delegations.roles.iter().find(|known| known.name == name) else {
                batch.leave(
                    &name,
                    &"targets does not list this kernel yet; sign its draft",
                );
                continue;
            };
            match envelope.verify(&delegations.keys, &delegated.keys) {
                // It would stop every other kernel's.
                Ok(()) if role.expires <= now => {
                    let why = format!(
                        "its validity ended at {}; delete and draft it anew",
                        role.expires
                    );
                    batch.leave(&name, &why);
                }
                Ok(()) => {
                    for (target, file) in &role.targets {
                        self.take_module(target, file, batch)?;
                    }
                    batch.take(&name, path, &envelope, role.version);
                    roles.insert(name, role.version);
                }
                Err(unsigned) => batch.leave(&name, &unsigned),
            }
        }
        Ok(())
    }

    fn take_module(
        &self,
        target: &str,
        file: &crate::metadata::TargetFile,
        batch: &mut Batch,
    ) -> Result<(), PublishError> {
        let digest = file.hashes.get("sha256").map_or("", String::as_str);
        let name = format!("{digest}.{target}");
        if self.public().join("targets").join(&name).exists() {
            return Ok(());
        }
        let path = self.drafts().join("modules").join(&name);
        let bytes = read_file(&path, cap::MODULE)?;
        compare(&bytes, Some(file.length), &file.hashes).map_err(|reason| {
            PublishError::Unverified(Box::new(UpdateError::Target {
                target: target.to_owned(),
                reason,
            }))
        })?;
        batch.modules.insert(name, bytes);
        batch.used.push(path);
        Ok(())
    }

    fn go_public(
        &self,
        view: &View<'_>,
        caps: Option<&Caps>,
        mut batch: Batch,
        now: UtcSeconds,
    ) -> Result<Publication, PublishError> {
        let &View {
            published,
            root,
            targets,
            roles,
        } = view;
        let clock = self.check_clock(published, now)?;
        let before = published.and_then(|_| Checked::read(&self.top));
        if let (Some(before), Some(published)) = (&before, published) {
            before.not_newer(&self.top, published)?;
        }
        let named = |version| FileMeta {
            version,
            length: None,
            hashes: BTreeMap::new(),
        };
        let mut meta = BTreeMap::from([("targets.json".to_owned(), named(targets.version))]);
        for (name, version) in roles {
            meta.insert(format!("{name}.json"), named(*version));
        }
        if let Some(version) = self.take_hold(view, caps, &mut batch, now)? {
            meta.insert(format!("{}.json", hold::ROLE), named(version));
        }
        let life = u64::from(self.policy.lifetimes.snapshot_days) * 86_400;
        let snapshot_keys = &root.roles.snapshot;
        let current = published.filter(|published| {
            let snapshot = &published.snapshot;
            // With a new key in root, clients take nothing signed by the old one. The published root may
            // be the new one already: a publication can be cut between root and timestamp.
            snapshot.meta == meta
                && snapshot.expires.since(now) > life / 2
                && signed_snapshot(published, root)
        });
        let (snapshot_version, snapshot_bytes) = if let Some(published) = current {
            let version = published.snapshot.version;
            let name = format!("{version}.snapshot.json");
            (
                version,
                published.files.get(&name).cloned().unwrap_or_default(),
            )
        } else {
            let body = Snapshot {
                kind: Snapshot::TYPE.to_owned(),
                spec_version: SPEC_VERSION.to_owned(),
                version: published.map_or(0, |p| p.snapshot.version) + 1,
                expires: now.plus(life),
                meta,
            };
            let bytes = self.sign_online("snapshot", &body, snapshot_keys)?;
            batch.snapshot = Some((format!("{}.snapshot.json", body.version), bytes.clone()));
            (body.version, bytes)
        };
        // A clock that was set back a little must not keep anybody from the stop button.
        let last = published.and_then(|published| published.timestamp.tuxtape_issued);
        let last = last.filter(|last| last.since(now) <= CLOCK_STEP);
        let issued = last.map_or(now, |last| last.max(now));
        let timestamp = Timestamp {
            kind: Timestamp::TYPE.to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version: published.map_or(0, |p| p.timestamp.version) + 1,
            expires: now.plus(u64::from(self.policy.lifetimes.timestamp_hours) * 3600),
            meta: BTreeMap::from([(
                "snapshot.json".to_owned(),
                FileMeta {
                    version: snapshot_version,
                    length: Some(snapshot_bytes.len() as u64),
                    hashes: BTreeMap::from([(
                        "sha256".to_owned(),
                        hex::encode(Sha256::digest(&snapshot_bytes)),
                    )]),
                },
            )]),
            tuxtape_issued: Some(issued),
        };
        if timestamp.expires <= now {
            let expires = timestamp.expires;
            return Err(PublishError::TimestampOver { expires, now });
        }
        batch.timestamp = self.sign_online("timestamp", &timestamp, &root.roles.timestamp)?;
        let mut look = self.check(view, before.as_ref(), &batch, now)?;
        let files = self.write(&batch)?;
        // After the tree, never before: the record must not name what nobody can have seen.
        if let Err(error) = look.checked.keep(&self.top) {
            let why = format!("{error}; the next publication checks everything again");
            look.surprises.push(why);
        }
        for path in batch.taken.iter().chain(&batch.used) {
            // A draft left behind would only be published again unchanged, and refused as such.
            drop(fs::remove_file(path));
        }
        Ok(Publication {
            timestamp: timestamp.version,
            snapshot: snapshot_version,
            files,
            left_out: batch.left_out,
            expired: look.expired,
            clock,
            surprises: look.surprises,
            endings: endings(root.expires, targets.expires, &look.checked, now),
        })
    }

    /// Compares the clock with the timestamp published last. Clients take no issue time far ahead of their
    /// own clock for true, but everybody who looks at the archive would be misled.
    fn check_clock(
        &self,
        published: Option<&Published>,
        now: UtcSeconds,
    ) -> Result<Option<String>, PublishError> {
        let last = published.and_then(|published| published.timestamp.tuxtape_issued);
        let Some(last) = last else {
            return Ok(None);
        };
        if last.since(now) > CLOCK_STEP && !self.clock_is_right {
            return Err(PublishError::Clock { now, last });
        }
        let odd = now.since(last).max(last.since(now)) > 86_400;
        Ok(odd.then(|| {
            format!(
                "the clock says {now}, more than a day away from {last}, when the timestamp before was issued: is it right?"
            )
        }))
    }

    pub(crate) fn sign_online(
        &self,
        role: &str,
        body: &impl Body,
        wanted: &RoleKeys,
    ) -> Result<Vec<u8>, PublishError> {
        let mut envelope = Envelope::unsigned(body).map_err(|reason| PublishError::Metadata {
            file: role.to_owned(),
            reason,
        })?;
        envelope.sign(&self.online_key(role, wanted)?);
        Ok(envelope.to_bytes())
    }

    fn write(&self, batch: &Batch) -> Result<Vec<String>, PublishError> {
        let public = self.public();
        let mut written = Vec::new();
        let mut write = |name: String, bytes: &[u8]| {
            durable::write(&public.join(&name), bytes)?;
            written.push(name);
            Ok::<_, PublishError>(())
        };
        for (name, bytes) in &batch.modules {
            write(format!("targets/{name}"), bytes)?;
        }
        for (name, bytes, _) in batch.metadata() {
            write(format!("metadata/{name}"), bytes)?;
        }
        durable::sweep(&public.join("metadata"));
        durable::sweep(&public.join("targets"));
        Ok(written)
    }
}

/// Whether the published snapshot is signed by the key that `root` names.
fn signed_snapshot(published: &Published, root: &Root) -> bool {
    let file = format!("{}.snapshot.json", published.snapshot.version);
    let bytes = published.files.get(&file).map_or(&[][..], Vec::as_slice);
    Envelope::parse(bytes, cap::SNAPSHOT)
        .is_ok_and(|envelope| envelope.verify(&root.keys, &root.roles.snapshot).is_ok())
}

/// Reads architecture and release back out of a kernel role's name.
pub(crate) fn kernel_of(role: &str) -> Option<(Arch, KernelRelease)> {
    let (arch, encoded) = role.strip_prefix("k__")?.split_once("__")?;
    let arch = [Arch::X86_64]
        .into_iter()
        .find(|known| known.to_string() == arch)?;
    let mut release = String::new();
    let mut rest = encoded;
    while let Some((plain, coded)) = rest.split_once('_') {
        let byte = u8::from_str_radix(coded.get(..2)?, 16).ok()?;
        release.push_str(plain);
        release.push(char::from(byte));
        rest = coded.get(2..)?;
    }
    release.push_str(rest);
    let release: KernelRelease = release.parse().ok()?;
    (names::role(arch, &release).ok()? == role).then_some((arch, release))
}

/// Reads the published index of a kernel; `None` when there is none.
pub fn index_of(
    published: &Published,
    release: &KernelRelease,
) -> Result<Option<KernelIndex>, PublishError> {
    let arch = Arch::X86_64;
    let role = published.roles.get(&names::role(arch, release)?)?;
    let index = role.map(|role| KernelIndex::read(&role, arch, release));
    Ok(index.transpose()?)
}
