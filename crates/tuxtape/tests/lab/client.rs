//! The fleet client in a guest, and a signed archive that should never have been.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tuxtape_archive::metadata::{Body as _, Envelope, Targets};
use tuxtape_archive::publish::Workspace;
use tuxtape_archive::publish::stage::StageRequest;
use tuxtape_archive::sample::{Archive, key, policy};
use tuxtape_archive::serve::serve;
use tuxtape_archive::time::UtcSeconds;
use tuxtape_kernel::lab::guest::{self, Ending, GuestFile, GuestPlan, HOST_ADDRESS, Network};

use super::setup::{KERNEL, Lab, OURS, lab_with_guests, skip, talk};

const DAY: u64 = 86_400;

fn now() -> UtcSeconds {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UtcSeconds::from_unix(now.unwrap().as_secs())
}

/// Publishes one level with `module`, signed by both reviewers.
fn published(top: &Path, module: &[u8]) -> Archive {
    published_at(top, module, now())
}

fn published_at(top: &Path, module: &[u8], now: UtcSeconds) -> Archive {
    let archive = Archive {
        workspace: Workspace::init(top, &policy(), now).unwrap(),
    };
    let request = StageRequest {
        release: KERNEL.parse().unwrap(),
        module: module.to_vec(),
        fixes: Vec::new(),
        unpatchable: Vec::new(),
        base_version: None,
        waves: None,
        floor: None,
        signed: None,
    };
    archive.workspace.stage(&request, now).unwrap();
    archive.sign_all().unwrap();
    archive.workspace.publish(now).unwrap();
    archive
}

/// Name of the published module's file.
fn target_file(archive: &Archive) -> String {
    let targets = archive.public().join("targets");
    let file = fs::read_dir(&targets).unwrap().next().unwrap().unwrap();
    file.file_name().into_string().unwrap()
}

/// Puts another module in the place of the published one. The publisher refuses to stage it, so the
/// role is written and signed anew, by the people with these keys.
fn replace(archive: &Archive, module: &[u8], people: [u8; 2]) {
    let targets = archive.public().join("targets");
    let old = target_file(archive);
    let target = old.split_once('.').unwrap().1;
    let sha256 = hex::encode(Sha256::digest(module));
    fs::write(targets.join(format!("{sha256}.{target}")), module).unwrap();
    let role = archive
        .public()
        .join(format!("metadata/1.k__x86_64__{KERNEL}.json"));
    let envelope = Envelope::parse(&fs::read(&role).unwrap(), 1 << 22).unwrap();
    let mut body: Targets = envelope.body().unwrap();
    assert_eq!(body.kind, Targets::TYPE);
    let file = body.targets.get_mut(target).unwrap();
    file.length = module.len() as u64;
    file.hashes.insert("sha256".to_owned(), sha256);
    let mut envelope = Envelope::unsigned(&body).unwrap();
    for person in people {
        envelope.sign(&key(person));
    }
    fs::write(&role, envelope.to_bytes()).unwrap();
}

/// Writes `to` over `from`, which must be there.
fn rewritten(module: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = module.to_vec();
    let at: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter_map(|(at, window)| (window == from.as_bytes()).then_some(at))
        .collect();
    assert!(!at.is_empty(), "{from} is not in the module");
    for at in at {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

/// Boots a guest that knows these archives by name and runs `script`; returns its facts.
fn visit(
    lab: &Lab,
    archives: &[(&str, &Archive)],
    script: &str,
) -> Option<BTreeMap<String, String>> {
    let Some(client) = env::var_os("TUXTAPE_CLIENT") else {
        return skip("TUXTAPE_CLIENT is not set");
    };
    let Ok(client) = fs::read(&client) else {
        return skip(&format!("{} is not built", client.display()));
    };
    let (_, tools) = lab_with_guests()?;
    let mut files = vec![GuestFile {
        path: "/usr/bin/tuxtape-client".to_owned(),
        mode: 0o755,
        bytes: client,
    }];
    let mut servers = Vec::new();
    let mut text = "export TUXTAPE_PROBATION=3s PATH=$PATH:/usr/bin\n".to_owned();
    for (name, archive) in archives {
        let server = serve(&archive.public(), "127.0.0.1:0", |_, _, _| {}).unwrap();
        let root = format!("/root/{name}.json");
        files.push(GuestFile {
            path: root.clone(),
            mode: 0o644,
            bytes: fs::read(archive.public().join("metadata/1.root.json")).unwrap(),
        });
        let port = server.address.port();
        files.push(GuestFile {
            path: format!("/usr/bin/{name}"),
            mode: 0o755,
            bytes: format!(
                "#!/bin/sh\nexec tuxtape-client --state-dir /var/lib/{name} \
                 --archive-url http://{HOST_ADDRESS}:{port} \"$@\"\n"
            )
            .into_bytes(),
        });
        text.push_str(&format!(
            "export URL_{name}=http://{HOST_ADDRESS}:{port}\nmkdir -p /var/lib/{name}\nrun {name}.init {name} init {root}\n"
        ));
        servers.push(server);
    }
    text.push_str(script);
    let plan = GuestPlan {
        files,
        script: text,
        network: Network::User,
        deadline: Duration::from_secs(300),
        ..GuestPlan::default()
    };
    let outcome = guest::boot(&tools, &lab.kernel, &plan, &mut |_| {}).unwrap();
    let tail = outcome.console_tail(60);
    assert_eq!(outcome.ending, Ending::Finished { code: 0 }, "{tail}");
    Some(
        outcome
            .facts
            .iter()
            .map(|fact| (fact.name.clone(), fact.text()))
            .collect(),
    )
}

#[test]
fn lab_the_client_loads_what_is_for_its_kernel_and_nothing_else() {
    let Some((lab, _)) = lab_with_guests() else {
        return;
    };
    let (module, _) = lab.built(&[&lab.version_fix()], "lab_client");
    let module = fs::read(module).unwrap();
    let build_id = tuxtape_core::module::read(&module).unwrap().kernel_build_id;
    let build_id = build_id.unwrap().to_string();
    let good = published(&lab.path("good"), &module);
    let release = published(&lab.path("release"), &module);
    let other_release = KERNEL.replace("-47-", "-50-");
    replace(
        &release,
        &rewritten(&module, KERNEL, &other_release),
        [1, 2],
    );
    let build = published(&lab.path("build"), &module);
    let other_build = "5".repeat(40);
    replace(&build, &rewritten(&module, &build_id, &other_build), [1, 2]);
    let script = "
run release release apply
run build build apply
run nothing ls /sys/kernel/livepatch
run untouched cat /proc/version
ip link set eth0 down
run offline.refresh good refresh
run offline good apply
run still ls /sys/kernel/livepatch
ip link set eth0 up
run good good apply
run loaded cat /proc/version
";
    let Some(facts) = visit(
        &lab,
        &[("good", &good), ("release", &release), ("build", &build)],
        script,
    ) else {
        return;
    };
    let fact = |name: &str| {
        facts
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {facts:?}"))
    };
    let refused = |step: &str, words: &[&str]| {
        assert_eq!(fact(&format!("{step}.exit")).trim(), "1", "{facts:?}");
        for word in words {
            let text = fact(&format!("{step}.output"));
            assert!(text.contains(word), "{word:?} is not in: {text}");
        }
    };
    let both = format!("built for kernel {other_release}, this is {KERNEL}");
    refused("release", &[&both]);
    refused(
        "build",
        &[&format!("with build-id {other_build}, this is {build_id}")],
    );
    assert_eq!(fact("nothing.output"), "");
    assert!(!fact("untouched.output").contains(OURS));
    refused(
        "offline.refresh",
        &[
            "could not update from the archive",
            "Network is unreachable",
        ],
    );
    refused("offline", &["could not update from the archive"]);
    assert_eq!(fact("still.output"), "");
    assert_eq!(fact("good.exit").trim(), "0", "{facts:?}");
    assert!(fact("loaded.output").starts_with(OURS), "{facts:?}");
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn lab_the_client_refuses_what_was_tampered_with_and_loads_nothing() {
    let Some((lab, _)) = lab_with_guests() else {
        return;
    };
    let (module, _) = lab.built(&[&lab.version_fix()], "lab_tampered");
    let module = fs::read(module).unwrap();

    let changed = published(&lab.path("changed"), &module);
    let file = changed.public().join("targets").join(target_file(&changed));
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();

    // The same archive twice: as it was, and one renewal later.
    let older = published(&lab.path("older"), &module);
    copy(&lab.path("older"), &lab.path("newer"));
    let newer = Archive {
        workspace: Workspace::open(&lab.path("newer")).unwrap(),
    };
    newer.workspace.renew(now()).unwrap();

    let old = UtcSeconds::from_unix(now().unix() - 3 * DAY);
    let expired = published_at(&lab.path("expired"), &module, old);

    let stranger = published(&lab.path("stranger"), &module);
    replace(&stranger, &module, [3, 4]);

    let (other, real) = foreign(&lab, &module);
    let foreign = published(&lab.path("foreign"), &module);
    replace(&foreign, &other, [1, 2]);

    let script = "
run changed changed apply
run newer newer refresh
run older tuxtape-client --state-dir /var/lib/newer --archive-url $URL_older apply
run expired expired apply
run stranger stranger apply
run foreign foreign apply
run nothing ls /sys/kernel/livepatch
run untouched cat /proc/version
";
    let archives = [
        ("changed", &changed),
        ("older", &older),
        ("newer", &newer),
        ("expired", &expired),
        ("stranger", &stranger),
        ("foreign", &foreign),
    ];
    let Some(facts) = visit(&lab, &archives, script) else {
        return;
    };
    assert_eq!(facts["newer.exit"].trim(), "0", "{facts:?}");
    for (step, words) in [
        ("changed", "sha256"),
        ("older", "timestamp"),
        ("older", "older than what was seen before"),
        ("expired", "timestamp expired at"),
        ("stranger", "signature"),
        (
            "foreign",
            "built for kernel 6.1.0-50-cloud-amd64, this is 6.1.0-47-cloud-amd64",
        ),
    ] {
        assert_eq!(facts[&format!("{step}.exit")].trim(), "1", "{facts:?}");
        let text = &facts[&format!("{step}.output")];
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
    eprintln!("the foreign module was really built for its kernel: {real}");
    assert_eq!(facts["nothing.output"], "");
    assert!(!facts["untouched.output"].contains(OURS));
}

/// A module for 6.1.0-50: built for it where that kernel is prepared, else ours with other names.
fn foreign(lab: &Lab, module: &[u8]) -> (Vec<u8>, bool) {
    let other = KERNEL.replace("-47-", "-50-");
    let source = lab.cache.join("kernels").join(&other).join("source");
    if !source.join(".config").is_file() {
        return (rewritten(module, KERNEL, &other), false);
    }
    let add = lab.run(&["kernel", "add", &format!("debian:{other}")]);
    assert!(add.status.success(), "{}", talk(&add));
    let fix = lab.version_fix();
    let out = lab.path("foreign module");
    let output = lab.run(&[
        "patch",
        "build",
        &other,
        "--fix",
        fix.to_str().unwrap(),
        "--name",
        "lab_foreign",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", talk(&output));
    (fs::read(out.join("lab_foreign.ko")).unwrap(), true)
}
