//! Keys, policy and people.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tuxtape_archive::keys::{Key, KeyError, PrivateKey};
use tuxtape_archive::policy::{Duty, Lifetimes, Person, Policy, Thresholds};
use tuxtape_archive::publish::Workspace;
use tuxtape_sys::terminal;
use zeroize::Zeroizing;

use super::{hinted, now, show};
use crate::context::Context;
use crate::output;

/// Make an archive: policy, online keys, and drafts of root and targets to sign
#[derive(Debug, Args)]
pub struct Init {
    /// Folder to make; the same as --archive
    pub dir: Option<PathBuf>,
    /// Person who signs root and targets, with a public key
    #[arg(long = "signer", value_name = "NAME=KEY.pub", required = true)]
    pub signers: Vec<String>,
    /// Person who reviews levels, with a public key; a signer of that name gets both duties
    #[arg(long = "reviewer", value_name = "NAME=KEY.pub")]
    pub reviewers: Vec<String>,
    /// How many signers must sign root and targets
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub signatures: u32,
    /// How many reviewers must sign a level
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub reviews: u32,
    /// Allow one person to sign alone; for laboratories
    #[arg(long)]
    pub lab: bool,
}

/// Let a person review levels; redrafts targets
#[derive(Debug, Args)]
pub struct AddReviewer {
    /// Name of the person
    pub name: String,
    /// Public key
    #[arg(value_name = "KEY.pub")]
    pub key: PathBuf,
}

/// Make an ed25519 key: FILE (private, mode 600) and FILE.pub
#[derive(Debug, Args)]
pub struct MakeKey {
    /// Where the private key goes
    pub file: PathBuf,
    /// Lock the private key with a passphrase, asked for twice on the terminal, or taken from
    /// the variable `TUXTAPE_KEY_PASSPHRASE`
    #[arg(long)]
    pub passphrase: bool,
}

/// Where scripts put the passphrase of a key.
const PASSPHRASE: &str = "TUXTAPE_KEY_PASSPHRASE";

/// Opens a private key, and asks for its passphrase where it has one.
pub fn open_key(path: &Path) -> anyhow::Result<PrivateKey> {
    Ok(PrivateKey::load_with(path, |path| {
        if let Ok(word) = std::env::var(PASSPHRASE) {
            return Ok(Zeroizing::new(word));
        }
        let prompt = format!("passphrase of {}", path.display());
        terminal::ask_secret(&prompt)
            .map(Zeroizing::new)
            .map_err(|source| KeyError::Read {
                path: path.to_owned(),
                source,
            })
    })?)
}

fn new_passphrase() -> anyhow::Result<Zeroizing<String>> {
    if let Ok(word) = std::env::var(PASSPHRASE) {
        anyhow::ensure!(!word.is_empty(), "{PASSPHRASE} is empty");
        return Ok(Zeroizing::new(word));
    }
    let ask = |prompt: &str| {
        terminal::ask_secret(prompt)
            .map(Zeroizing::new)
            .with_context(|| format!("no terminal to ask on; set {PASSPHRASE}"))
    };
    let word = ask("new passphrase")?;
    anyhow::ensure!(!word.is_empty(), "an empty passphrase locks nothing");
    anyhow::ensure!(*ask("the same again")? == *word, "the two differ");
    Ok(word)
}

/// Makes a key.
pub fn key(arguments: &MakeKey, context: &Context) -> anyhow::Result<ExitCode> {
    let file = &arguments.file;
    let key = PrivateKey::generate()?;
    let public = if arguments.passphrase {
        key.save_locked(file, &new_passphrase()?)?
    } else {
        key.save(file)?
    };
    let keyid = key.public().id();
    if context.json {
        output::json(&json!({"private": file, "public": public, "keyid": keyid}))?;
    } else {
        output::text(&format!(
            "{} {}\nkey {keyid}\n",
            file.display(),
            public.display()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes an archive.
pub fn init(top: &Path, arguments: &Init, context: &Context) -> anyhow::Result<ExitCode> {
    let mut people = Vec::new();
    for signer in &arguments.signers {
        add(&mut people, signer, &[Duty::Root, Duty::Targets])?;
    }
    for reviewer in &arguments.reviewers {
        add(&mut people, reviewer, &[Duty::Review])?;
    }
    let policy = Policy {
        format: 1,
        lab: arguments.lab,
        thresholds: Thresholds {
            root: arguments.signatures,
            targets: arguments.signatures,
            kernels: arguments.reviews,
        },
        lifetimes: Lifetimes::default(),
        people,
    };
    let top = arguments.dir.as_deref().unwrap_or(top);
    let workspace = Workspace::init(top, &policy, now()).map_err(hinted)?;
    if !context.json {
        output::talk(NEXT);
    }
    show::drafts(&workspace, context)
}

/// What a person does after `init`.
const NEXT: &str = "the archive is made; nothing is public yet. Now each signer, on a machine of their own:
  1. reads the root's eight words aloud and hears the same from the others (`tuxtape archive sign root`)
  2. signs:   tuxtape archive sign root --key NAME.pem
  3. the same for targets, once the first kernel is staged
copies signed elsewhere come back by `tuxtape archive sign root --merge FILE...`; `tuxtape archive publish` ends the ceremony";

/// Adds a reviewer.
pub fn add_reviewer(
    mut workspace: Workspace,
    arguments: &AddReviewer,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let mut policy = workspace.policy.clone();
    let pair = format!("{}={}", arguments.name, arguments.key.display());
    add(&mut policy.people, &pair, &[Duty::Review])?;
    workspace.set_policy(policy, now()).map_err(hinted)?;
    show::drafts(&workspace, context)
}

/// Adds duties to a person, who has one key whatever the duties.
fn add(people: &mut Vec<Person>, pair: &str, duties: &[Duty]) -> anyhow::Result<()> {
    let (name, path) = pair
        .split_once('=')
        .with_context(|| format!("{pair:?} is not NAME=KEY.pub"))?;
    let public = Key::load(Path::new(path))?.keyval.public;
    if let Some(person) = people.iter_mut().find(|person| person.name == name) {
        anyhow::ensure!(
            person.public == public,
            "{name} is listed with another key already; a person has one key"
        );
        person.duties.extend(duties);
        return Ok(());
    }
    people.push(Person {
        name: name.to_owned(),
        duties: duties.iter().copied().collect(),
        public,
    });
    Ok(())
}
