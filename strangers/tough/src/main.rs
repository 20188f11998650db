//! `strangers-tough read PUBLIC ROOT NAME OUT` downloads a target of the repository in folder PUBLIC;
//! `strangers-tough make DIR KEY TARGET…` makes a repository in DIR, all roles signed by KEY (RSA, PKCS#8, PEM).

use std::collections::HashMap;
use std::error::Error;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use tough::editor::RepositoryEditor;
use tough::editor::signed::{PathExists, SignedRole};
use tough::key_source::{KeySource, LocalKeySource};
use tough::schema::{KeyHolder, PathPattern, PathSet, RoleKeys, RoleType, Root};
use tough::{Prefix, RepositoryLoader, TargetName};
use url::Url;

type Done = Result<(), Box<dyn Error>>;

fn folder(path: &Path) -> Result<Url, Box<dyn Error>> {
    Url::from_directory_path(path.canonicalize()?).map_err(|()| "no folder".into())
}

async fn read(public: &Path, root: &Path, name: &str, out: &Path) -> Done {
    let root = std::fs::read(root)?;
    let (metadata, targets) = (public.join("metadata"), public.join("targets"));
    let repository = RepositoryLoader::new(&root, folder(&metadata)?, folder(&targets)?)
        .load()
        .await?;
    let name = TargetName::new(name)?;
    repository.save_target(&name, out, Prefix::None).await?;
    println!("root {}", repository.root().signed.version);
    Ok(())
}

async fn make(top: &Path, key: &Path, targets: &[PathBuf]) -> Done {
    let one = NonZeroU64::MIN;
    // The specification knows no fractions of seconds, and readers refuse them.
    let ends = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 172_800)?;
    let source = || -> Box<dyn KeySource> {
        Box::new(LocalKeySource {
            path: key.to_owned(),
        })
    };
    let public = source().as_sign().await.map_err(|e| e.to_string())?.tuf_key();
    let id = public.key_id()?;
    let role = || RoleKeys {
        keyids: vec![id.clone()],
        threshold: one,
        _extra: HashMap::new(),
    };
    let names = [
        RoleType::Root,
        RoleType::Targets,
        RoleType::Snapshot,
        RoleType::Timestamp,
    ];
    let root = Root {
        spec_version: "1.0.0".to_owned(),
        consistent_snapshot: true,
        version: one,
        expires: ends,
        keys: HashMap::from([(id.clone(), public)]),
        roles: names.into_iter().map(|name| (name, role())).collect(),
        _extra: HashMap::new(),
    };
    let random = aws_lc_rs::rand::SystemRandom::new();
    let holder = KeyHolder::Root(root.clone());
    let signed = SignedRole::new(root, &holder, &[source()], &random).await?;
    let file = top.join("1.root.json");
    std::fs::write(&file, signed.buffer())?;
    let mut editor = RepositoryEditor::new(&file).await?;
    editor
        .targets_expires(ends)?
        .targets_version(one)?
        .snapshot_expires(ends)
        .snapshot_version(one)
        .timestamp_expires(ends)
        .timestamp_version(one)
        .delegate_role(
            "another",
            &[source()],
            PathSet::Paths(vec![PathPattern::new("*")?]),
            false,
            one,
            ends,
            one,
        )
        .await?
        .sign_targets_editor(&[source()])
        .await?
        .change_delegated_targets("another")?
        .add_target_paths(targets.to_vec())
        .await?
        .targets_version(one)?
        .targets_expires(ends)?
        .sign_targets_editor(&[source()])
        .await?;
    let signed = editor.sign(&[source()]).await?;
    signed.write(top.join("metadata")).await?;
    for target in targets {
        let from = target.parent().ok_or("a target without a folder")?;
        signed
            .copy_targets(from, top.join("targets"), PathExists::Skip)
            .await?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Done {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["read", public, root, name, out] => {
            read(Path::new(public), Path::new(root), name, Path::new(out)).await
        }
        ["make", top, key, ref targets @ ..] => {
            let targets: Vec<PathBuf> = targets.iter().map(PathBuf::from).collect();
            make(Path::new(top), Path::new(key), &targets).await
        }
        _ => Err("read PUBLIC ROOT NAME OUT | make DIR KEY TARGET…".into()),
    }
}
