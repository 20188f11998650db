//! Measures an archive of many kernels: publishing one level, verifying all, and what a client fetches.
//!
//! `scale FOLDER KERNELS FIXES` makes the archive and measures; `scale --poll URL ROOT N` polls a web
//! server N times as a client that is up to date, with a new connection each. `scale --renew FOLDER` signs the
//! timestamp by the wall clock, for clients that go by it.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made ends")]
#![expect(clippy::print_stdout, reason = "figures are what this is for")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use tuxtape_archive::client::{self, MemoryStore, Store, Stored};
use tuxtape_archive::hold;
use tuxtape_archive::index::{
    IndexedFix, IndexedKernel, KernelIndex, Level, Support, SupportState,
};
use tuxtape_archive::metadata::{
    Body, DelegatedRole, Delegations, Envelope, RoleKeys, SPEC_VERSION, TargetFile, Targets,
};
use tuxtape_archive::names;
use tuxtape_archive::publish::Workspace;
use tuxtape_archive::publish::stage::{StageRequest, StagedFix};
use tuxtape_archive::publish::verify::verify;
use tuxtape_archive::sample::{key, policy, start};
use tuxtape_archive::source::{
    DirectorySource, Fetched, HttpOptions, HttpSource, Source, SourceError,
};
use tuxtape_archive::time::UtcSeconds;
use tuxtape_core::identity::{Arch, BuildId, KernelId, KernelRelease, PatchLevel};
use tuxtape_core::module::{KERNEL_BUILD_ID, sample};
use tuxtape_core::rollout::Waves;

/// Counts what a client asks for.
struct Counting<'a> {
    inner: &'a dyn Source,
    asked: RefCell<Vec<(String, usize)>>,
}

impl Counting<'_> {
    fn note(&self, file: &str, fetched: &Result<Fetched, SourceError>) {
        let bytes = match fetched {
            Ok(Fetched::Bytes(bytes)) => bytes.len(),
            Ok(Fetched::Absent) | Err(_) => 0,
        };
        self.asked.borrow_mut().push((file.to_owned(), bytes));
    }

    fn report(&self, what: &str) {
        let asked = self.asked.take();
        let bytes: usize = asked.iter().map(|(_, bytes)| bytes).sum();
        let names: Vec<String> = asked
            .iter()
            .map(|(name, n)| format!("{name} {n}"))
            .collect();
        println!(
            "{what}: {} requests, {bytes} bytes of bodies ({})",
            asked.len(),
            names.join(", ")
        );
    }
}

impl Source for Counting<'_> {
    fn metadata(&self, file: &str, cap: u64) -> Result<Fetched, SourceError> {
        let fetched = self.inner.metadata(file, cap);
        self.note(file, &fetched);
        fetched
    }
    fn target(&self, file: &str, cap: u64) -> Result<Fetched, SourceError> {
        let fetched = self.inner.target(file, cap);
        self.note(file, &fetched);
        fetched
    }
}

fn release(n: u32) -> KernelRelease {
    format!("6.1.{n}-47-cloud-amd64").parse().unwrap()
}

fn module(n: u32, level: u32) -> Vec<u8> {
    let fields = [
        ("livepatch", "Y"),
        ("name", &*format!("tt_2f2f2f2f_{level}")),
        (
            "vermagic",
            &*format!("{} SMP preempt mod_unload modversions ", release(n)),
        ),
        (KERNEL_BUILD_ID, &*"2f".repeat(20)),
    ];
    sample::module(&fields, &[u8::try_from(level).unwrap(); 20])
}

/// A role with three live levels, the last of which is `fixes`, and one fix for each level.
fn role(n: u32, fixes: u32, modules: &Path) -> Targets {
    let kernel = KernelId {
        arch: Arch::X86_64,
        release: release(n),
        build_id: BuildId::from_bytes(&[0x2f; 20]).unwrap(),
    };
    let mut targets = BTreeMap::new();
    let mut levels = Vec::new();
    for level in fixes - 2..=fixes {
        let bytes = module(n, level);
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let target = names::target(&kernel, PatchLevel(level)).unwrap();
        fs::write(modules.join(format!("{sha256}.{target}")), &bytes).unwrap();
        let hashes = BTreeMap::from([("sha256".to_owned(), sha256)]);
        targets.insert(
            target.clone(),
            TargetFile {
                length: bytes.len() as u64,
                hashes,
            },
        );
        levels.push(Level {
            level: PatchLevel(level),
            target,
            created: start(),
            module: format!("tt_2f2f2f2f_{level}"),
            module_build_id: BuildId::from_bytes(&[u8::try_from(level).unwrap(); 20]).unwrap(),
            srcversion: None,
            unsigned_sha256: None,
            signer_skid: None,
            waves: Some(Waves::normal(start())),
        });
    }
    let fix = |level: u32| IndexedFix {
        cve: Some(format!("CVE-2026-{:05}", n * 7 + level)),
        commit: Some(hex::encode(&Sha256::digest(format!("{n} {level}"))[..20])),
        fix_sha256: None,
        since: PatchLevel(level),
        until: None,
        expires: None,
    };
    let index = KernelIndex {
        format: 1,
        arch: Arch::X86_64,
        release: release(n),
        created: start(),
        kernels: vec![IndexedKernel {
            build_id: kernel.build_id,
            base_version: Some("6.1.170".to_owned()),
            vermagic: format!("{} SMP preempt mod_unload modversions ", release(n)),
            support: Support {
                state: SupportState::Supported,
                until: None,
            },
            floor: PatchLevel(1),
            levels,
            fixes: (1..=fixes).map(fix).collect(),
            withdrawn: Vec::new(),
            unpatchable: Vec::new(),
        }],
        notes: BTreeMap::new(),
    };
    Targets {
        kind: Targets::TYPE.to_owned(),
        spec_version: SPEC_VERSION.to_owned(),
        version: 1,
        expires: start().plus(30 * 86_400),
        targets,
        delegations: None,
        tuxtape: Some(serde_json::to_value(index).unwrap()),
        tuxtape_hold: None,
    }
}

fn signed(body: &Targets) -> Vec<u8> {
    let mut envelope = Envelope::unsigned(body).unwrap();
    envelope.sign(&key(1));
    envelope.sign(&key(2));
    envelope.to_bytes()
}

fn sign_all(workspace: &Workspace) {
    for path in workspace.open_drafts().unwrap() {
        let draft = path.display().to_string();
        let words = workspace.show(&draft).unwrap().words;
        for person in [1, 2] {
            workspace.sign(&draft, &key(person), &words).unwrap();
        }
    }
}

fn make(top: &Path, kernels: u32, fixes: u32) {
    let workspace = Workspace::init(top, &policy(), start()).unwrap();
    let drafts = workspace.drafts();
    let keys: BTreeMap<_, _> = [1, 2]
        .map(|n| (key(n).public().id(), key(n).public()))
        .into();
    let reviewers = RoleKeys {
        keyids: keys.keys().cloned().collect(),
        threshold: 2,
    };
    let mut listed = workspace.draft_body("targets").unwrap().unwrap();
    let mut delegations: Delegations = listed.delegations.take().unwrap();
    delegations.keys.extend(keys);
    for n in 0..kernels {
        let body = role(n, fixes, &drafts.join("modules"));
        let name = names::role(Arch::X86_64, &release(n)).unwrap();
        fs::write(drafts.join(format!("1.{name}.json")), signed(&body)).unwrap();
        delegations.roles.push(DelegatedRole {
            paths: Some(vec![names::pattern(Arch::X86_64, &release(n)).unwrap()]),
            name,
            keys: reviewers.clone(),
            terminating: true,
            path_hash_prefixes: None,
        });
    }
    assert_eq!(delegations.roles[0].name, hold::ROLE);
    listed.delegations = Some(delegations);
    fs::write(drafts.join("1.targets.json"), signed(&listed)).unwrap();
    let words = workspace.show("root").unwrap().words;
    for person in [1, 2] {
        workspace.sign("root", &key(person), &words).unwrap();
    }
    let begin = Instant::now();
    workspace.publish(start()).unwrap();
    println!(
        "publish {kernels} new kernels at once: {:.2} s",
        begin.elapsed().as_secs_f64()
    );
}

fn measure(top: &Path, kernels: u32, fixes: u32) {
    make(top, kernels, fixes);
    let public = top.join("public");
    let root = fs::read(public.join("metadata/1.root.json")).unwrap();
    let folder = DirectorySource::new(&public);
    let source = Counting {
        inner: &folder,
        asked: RefCell::default(),
    };
    let mut store = MemoryStore::default();
    store.save(&Stored::Root, &root).unwrap();
    let mut poll = |what: &str, now| {
        let mut session = client::refresh(&mut store, &source, now).unwrap();
        session
            .kernel(Arch::X86_64, &release(kernels / 2))
            .unwrap()
            .unwrap();
        session.hold().unwrap();
        source.report(what);
    };
    poll("first refresh", start());
    poll("idle poll", start().plus(60));
    let begin = Instant::now();
    let workspace = Workspace::open(top).unwrap();
    let cve = |level| StagedFix {
        cve: Some(format!("CVE-2026-{level:05}")),
        commit: None,
        fix_sha256: None,
        expires: None,
    };
    let request = StageRequest {
        release: release(kernels / 2),
        module: module(kernels / 2, fixes + 1),
        fixes: (1..=fixes + 1).map(cve).collect(),
        unpatchable: Vec::new(),
        base_version: None,
        waves: Some(Waves::normal(start())),
        floor: None,
        signed: None,
    };
    workspace.stage(&request, start().plus(60)).unwrap();
    println!("stage one level: {:.2} s", begin.elapsed().as_secs_f64());
    sign_all(&workspace);
    println!(
        "stage and sign one level twice: {:.2} s",
        begin.elapsed().as_secs_f64()
    );
    let begin = Instant::now();
    let done = workspace.publish(start().plus(60)).unwrap();
    println!(
        "publish one level: {:.2} s, {} files written",
        begin.elapsed().as_secs_f64(),
        done.files.len()
    );
    poll("refresh with news", start().plus(61));
    let begin = Instant::now();
    let levels = verify(&folder, &root, start().plus(61))
        .unwrap()
        .levels
        .len();
    println!(
        "verify everything: {:.2} s, {levels} levels",
        begin.elapsed().as_secs_f64()
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--poll", url, root, times] => {
            let mut store = MemoryStore::default();
            store.save(&Stored::Root, &fs::read(root).unwrap()).unwrap();
            let begin = Instant::now();
            for _ in 0..times.parse().unwrap() {
                // A new agent is a new connection, as a machine that polls once an hour makes it.
                let source = HttpSource::new(url, &HttpOptions::default()).unwrap();
                client::refresh(&mut store, &source, start().plus(61)).unwrap();
            }
            println!("{times} polls in {:.2} s", begin.elapsed().as_secs_f64());
        }
        [folder, kernels, fixes] => {
            measure(
                Path::new(folder),
                kernels.parse().unwrap(),
                fixes.parse().unwrap(),
            );
        }
        ["--renew", folder] => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let now = UtcSeconds::from_unix(since.as_secs());
            let workspace = Workspace::open(Path::new(folder)).unwrap();
            let begin = Instant::now();
            workspace.renew(now).unwrap();
            println!("renew: {:.2} s", begin.elapsed().as_secs_f64());
        }
        _ => {
            println!("scale FOLDER KERNELS FIXES | scale --poll URL ROOT N | scale --renew FOLDER");
        }
    }
}
