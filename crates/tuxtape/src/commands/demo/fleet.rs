//! A fresh virtual machine that holds a stock kernel, busybox and the fleet client.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tuxtape_archive::serve::serve;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::lab::accelerator;
use tuxtape_kernel::lab::guest::{self, Ending, Fact, GuestFile, GuestPlan, HOST_ADDRESS, Network};
use tuxtape_livepatch::verify;
use tuxtape_sys::durable;

use crate::commands::patch::test::find_tools;
use crate::context::Context;

/// What the machine is asked to do, in order, and whether it must succeed.
const VISIT: [(&str, &str); 9] = [
    ("init", "tuxtape-client init /root/1.root.json"),
    ("refresh", "tuxtape-client refresh"),
    ("check", "tuxtape-client check"),
    ("apply", "tuxtape-client apply"),
    ("status", "tuxtape-client status"),
    ("status-json", "tuxtape-client status --format json"),
    (
        "patched",
        "sh -c 'for f in /sys/kernel/livepatch/*/*/patched; do echo $f $(cat $f); done'",
    ),
    ("rollback", "tuxtape-client rollback"),
    (
        "after",
        "sh -c 'ls /sys/kernel/livepatch; tuxtape-client status; true'",
    ),
];

/// What the machine said.
#[derive(Debug)]
pub(super) struct Seen {
    facts: Vec<(String, String)>,
}

impl Seen {
    /// The client's own status while the level was in force.
    pub(super) fn closed(&self) -> Value {
        self.facts
            .iter()
            .find(|(name, _)| name == "status-json.output")
            .and_then(|(_, text)| serde_json::from_str(text).ok())
            .unwrap_or(Value::Null)
    }

    /// Tells whether the client called `cve` closed while the level was in force.
    pub(super) fn calls_closed(&self, cve: &str) -> bool {
        let status = self.closed();
        let kernels = status["Status"].as_array().into_iter().flatten();
        kernels
            .filter(|kernel| kernel["Livepatch"]["State"] == "applied")
            .flat_map(|kernel| {
                kernel["Livepatch"]["Fixes"]
                    .as_array()
                    .into_iter()
                    .flatten()
            })
            .filter(|fix| fix["Patched"] == true)
            .filter_map(|fix| fix["Name"].as_str())
            .any(|name| name.eq_ignore_ascii_case(cve))
    }

    fn exit(&self, step: &str) -> Option<&str> {
        let name = format!("{step}.exit");
        self.facts
            .iter()
            .find(|(fact, _)| *fact == name)
            .map(|(_, text)| text.trim())
    }
}

/// Tells whether a fact is what a step printed, for the person who watches.
fn is_for_people(fact: &str) -> bool {
    fact.strip_suffix(".output")
        .is_some_and(|step| step != "status-json" && VISIT.iter().any(|(name, _)| *name == step))
}

/// Serves the archive, boots the machine and lets the client do its work.
pub(super) fn visit(
    kernel: &KernelFiles,
    context: &Context,
    archive: &Path,
    client: Vec<u8>,
    dir: &Path,
    note: &dyn Fn(&str),
) -> anyhow::Result<Seen> {
    let public = archive.join("public");
    let serving = serve(&public, "127.0.0.1:0", |_, _, _| {})
        .context("could not serve the archive on the loopback address")?;
    let root =
        fs::read(public.join("metadata/1.root.json")).context("the archive has no first root")?;
    let tools = find_tools()?;
    let accelerator = accelerator::choose(
        &tools,
        kernel,
        &context.cache.join("lab/accelerator"),
        &mut |line: &str| note(line),
    );
    let url = format!("http://{HOST_ADDRESS}:{}", serving.address.port());
    let mut script = format!(
        "export TUXTAPE_ARCHIVE_URL={url} TUXTAPE_PROBATION=3s PATH=$PATH:/usr/bin\nmkdir -p /var/lib/tuxtape\n"
    );
    for (name, command) in VISIT {
        script.push_str(&format!("run {name} {command}\n"));
    }
    let file = |path: &str, mode, bytes| GuestFile {
        path: path.to_owned(),
        mode,
        bytes,
    };
    let plan = GuestPlan {
        files: vec![
            file("/usr/bin/tuxtape-client", 0o755, client),
            file("/root/1.root.json", 0o644, root),
        ],
        modules: targets(dir)?,
        script,
        network: Network::User,
        deadline: Duration::from_secs(300),
        accelerator,
        ..GuestPlan::default()
    };
    note("booting; without KVM this takes a while");
    let outcome = guest::boot(&tools, kernel, &plan, &mut |fact: &Fact| {
        if is_for_people(&fact.name) {
            fact.text().lines().for_each(note);
        }
    })
    .context("could not boot the fresh machine")?;
    let seen = Seen {
        facts: outcome
            .facts
            .iter()
            .map(|fact| (fact.name.clone(), fact.text()))
            .collect(),
    };
    let mut words = String::new();
    for (name, text) in &seen.facts {
        words.push_str(&format!("== {name}\n{text}\n"));
    }
    words.push_str("== console\n");
    words.push_str(&String::from_utf8_lossy(&outcome.console));
    let log = dir.join("client.log");
    durable::write(&log, words.as_bytes())?;
    match &outcome.ending {
        Ending::Finished { code: 0 } => {}
        other => anyhow::bail!(
            "the fresh machine did not end well: {other}; see {}",
            log.display()
        ),
    }
    for step in ["init", "refresh", "apply", "status", "rollback"] {
        anyhow::ensure!(
            seen.exit(step) == Some("0"),
            "`tuxtape-client {step}` ended with {} in the fresh machine; see {}",
            seen.exit(step).unwrap_or("nothing"),
            log.display()
        );
    }
    Ok(seen)
}

/// The kernel modules that the level patches, so that their part is in force, too.
fn targets(dir: &Path) -> anyhow::Result<Vec<tuxtape_core::identity::ObjectName>> {
    let mut objects = std::collections::BTreeSet::new();
    for entry in fs::read_dir(dir.join("modules")).context("no modules were built")? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.ends_with("_1.ko") {
            let bytes =
                fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
            objects.extend(verify::objects_of(&bytes)?);
        }
    }
    Ok(objects
        .into_iter()
        .filter(|object| !object.is_vmlinux())
        .collect())
}
