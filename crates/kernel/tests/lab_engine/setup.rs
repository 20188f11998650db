//! Kernels to build for.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::KernelProfile;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::lab::accelerator::Accelerator;
use tuxtape_kernel::lab::tools::Tools;
use tuxtape_kernel::lab::trial::{self, Limits, Livepatch, Order, Trial};
use tuxtape_kernel::produce::{self, For, NamedFix, Outcome, ProduceError};
use tuxtape_kernel::replay::Budget;
use tuxtape_kernel::{profile, unified};

/// What a guest says when a module's own test was passed.
const SEEN: &str = "seen at work";

/// Shell scripts for a guest that fail where a livepatch does not do what it is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Test {
    /// Run while it is in force.
    pub(crate) during: String,
    /// Run when it is gone.
    pub(crate) after: Option<String>,
}

impl From<String> for Test {
    fn from(during: String) -> Self {
        Self {
            during,
            after: None,
        }
    }
}

/// A kernel that is prepared.
pub(crate) struct Lab {
    pub(crate) kernel: KernelFiles,
    pub(crate) profile: KernelProfile,
    /// Where its profile is kept.
    home: PathBuf,
}

pub(crate) fn skip<T>(why: &str) -> Option<T> {
    eprintln!("skipped: {why}");
    None
}

/// The kernels of the cache of which a profile is at hand.
pub(crate) fn labs() -> Vec<Lab> {
    let folder = |name| {
        let found = env::var_os(name).map(PathBuf::from);
        found.or_else(|| skip(&format!("{name} is not set")))
    };
    let Some((cache, home)) = folder("TUXTAPE_CACHE").zip(folder("TUXTAPE_HOME")) else {
        return Vec::new();
    };
    let entries = fs::read_dir(cache.join("kernels")).into_iter().flatten();
    let mut releases: Vec<KernelRelease> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    releases.sort();
    let labs: Vec<Lab> = releases
        .iter()
        .filter_map(|release| {
            let kernel = KernelFiles::below(&cache, release);
            match profile::load(&home, release) {
                Ok(profile) => Some(Lab {
                    kernel,
                    profile,
                    home: home.clone(),
                }),
                Err(error) => skip(&error.to_string()),
            }
        })
        .collect();
    if labs.is_empty() {
        skip::<()>("no kernel with a profile");
    }
    labs
}

impl Lab {
    /// Builds the fix in the text of a patch.
    pub(crate) fn build(&self, name: &str, patch: &[u8]) -> Result<Outcome, ProduceError> {
        self.build_together(name, &[named(name, patch)])
    }

    /// Builds one module of several fixes.
    pub(crate) fn build_together(
        &self,
        name: &str,
        fixes: &[NamedFix],
    ) -> Result<Outcome, ProduceError> {
        let scratch = tempfile::tempdir().unwrap();
        let target = For {
            files: &self.kernel,
            profile: &self.profile,
            home: &self.home,
        };
        produce::produce(
            target,
            fixes,
            &name.parse().unwrap(),
            &Budget::default(),
            scratch.path(),
        )
    }

    /// Tries the livepatches in guests, each with its script where it has one, and says what went wrong.
    pub(crate) fn boot(
        &self,
        livepatches: Vec<Livepatch>,
        tests: &BTreeMap<String, Test>,
    ) -> Vec<String> {
        let tools = match Tools::find() {
            Ok(tools) => tools,
            Err(error) => return skip(&error.to_string()).unwrap_or_default(),
        };
        let trial = Trial {
            livepatches,
            script: (!tests.is_empty()).then(|| script(tests).into_bytes()),
            order: Order::ObjectsFirst,
            accelerator: Accelerator::Tcg,
            limits: Limits {
                // Guests of a busy host take their time.
                boot: Duration::from_secs(400),
                transition: Duration::from_secs(120),
                script: Duration::from_secs(200),
            },
        };
        let outcome = trial::run(&tools, &self.kernel, &trial, &mut |line| {
            eprintln!("{line}");
        });
        let outcome = outcome.unwrap();
        let mut wrong: Vec<String> = Vec::new();
        for module in &outcome.modules {
            eprintln!(
                "| {} | {} | loaded {} | unloaded {} | transition {:?} ms | {:?} |",
                self.kernel.release,
                module.name,
                module.loaded,
                module.unloaded,
                module.transition_ms,
                module.problems
            );
            let said = |stage: usize| {
                let run = module.script[stage].as_ref();
                run.map_or("", |run| run.output.as_str())
            };
            let test = tests.get(&module.name.0);
            let during = test.is_some();
            let after = test.is_some_and(|test| test.after.is_some());
            for (stage, wanted) in [(1, during), (2, after)] {
                if wanted && !said(stage).contains(SEEN) {
                    let output = said(stage);
                    wrong.push(format!("{}: not seen at work: {output}", module.name));
                }
            }
            if !module.problems.is_empty() {
                let problems = &module.problems;
                wrong.push(format!(
                    "{}: {}: {problems:?}",
                    self.kernel.release, module.name
                ));
            }
        }
        eprintln!(
            "{} boots, unexplained: {:?}",
            outcome.boots, outcome.unexplained
        );
        if !outcome.passed() && wrong.is_empty() {
            wrong.push(format!("{}: complaints of nobody's", self.kernel.release));
        }
        wrong
    }
}

/// A fix of the text of a patch.
pub(crate) fn named(name: &str, patch: &[u8]) -> NamedFix {
    NamedFix {
        name: name.to_owned(),
        cves: Vec::new(),
        diff: unified::parse(patch).unwrap(),
    }
}

/// The patches of a folder, with the test to run while each is in force.
pub(crate) fn patches(folder: &Path) -> BTreeMap<String, (PathBuf, Option<String>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "patch")
        {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let test = fs::read_to_string(folder.join(format!("{name}-LOADED.test")));
            found.insert(name, (path, test.ok()));
        }
    }
    found
}

/// One script for the guest: the tests of each module, as their authors wrote them. The guest has no
/// `sudo`, its shell is busybox, and what a module patches was loaded before.
fn script(tests: &BTreeMap<String, Test>) -> String {
    let mut script = String::from(
        "sudo() { \"$@\"; }\n\
         modprobe() { :; }\n\
         mount -t debugfs none /sys/kernel/debug 2>/dev/null\n\
         case $TUXTAPE_STAGE-$TUXTAPE_MODULE in\n",
    );
    for (module, test) in tests {
        let stages = [
            ("during", Some(&test.during)),
            ("after", test.after.as_ref()),
        ];
        for (stage, text) in stages {
            let text = text.map_or("", String::as_str);
            if !text.is_empty() {
                script.push_str(&format!(
                    "{stage}-{module}) ( {text}\n) || exit 1; echo {SEEN} ;;\n"
                ));
            }
        }
    }
    script.push_str("esac\nexit 0\n");
    script
}
