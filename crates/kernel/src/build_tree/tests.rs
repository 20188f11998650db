use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;

use tuxtape_core::identity::Arch;
use tuxtape_core::profile::{ProfileId, Way};

use super::*;
use crate::profile::stamp::TreeStamp;
use crate::progress::Silent;

const RELEASE: &str = "6.1.5-own";

/// A finished build whose makefile says where it ran, and the places of a cache and a home.
struct Bench {
    folder: tempfile::TempDir,
    profile: KernelProfile,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("linux");
        let compiler = process::run_ok(Command::new("gcc").arg("--version"), TYPES).unwrap();
        let compiler = String::from_utf8(compiler.stdout).unwrap();
        let config = format!(
            "CONFIG_CC_VERSION_TEXT=\"{}\"\nCONFIG_LIVEPATCH=y\n",
            compiler.lines().next().unwrap()
        );
        for (path, text) in [
            (
                "Makefile",
                "olddefconfig prepare modules_prepare:\n\t@echo $@ >> prepared\n",
            ),
            ("Kbuild", ""),
            (".config", &config),
            ("Module.symvers", "0x1\tx\tvmlinux\tEXPORT_SYMBOL\t\n"),
            ("include/config/auto.conf", &config),
            (
                "include/generated/utsrelease.h",
                "#define UTS_RELEASE \"6.1.5-own\"\n",
            ),
            ("init/.main.o.cmd", "cmd_init/main.o := gcc\n"),
            ("init/main.o", "object"),
            ("init/main.c", "int a;\n"),
            ("net/a.c", "int x;\n"),
            ("net/a.ko", "module"),
            ("modules.order", "net/a.ko\n"),
            ("modules.builtin", ""),
            ("arch/x86/boot/bzImage", "image"),
            ("certs/signing_key.pem", "secret"),
        ] {
            write(&tree, path, text);
        }
        let id = link(&tree, 1);
        let id = ProfileId {
            arch: Arch::X86_64,
            release: RELEASE.parse().unwrap(),
            build_id: Some(id),
        };
        let mut profile = KernelProfile::blank(id, "6.1.5", Way::CommandFiles);
        profile.origin.spec = format!("dir:{}", tree.display());
        profile.tree_files = ["Makefile", "Kbuild", "init/main.c", "net/a.c"]
            .map(str::to_owned)
            .into();
        let bench = Self { folder, profile };
        bench.add();
        bench
    }

    fn tree(&self) -> PathBuf {
        fs::canonicalize(self.folder.path().join("linux")).unwrap()
    }

    fn files(&self) -> KernelFiles {
        KernelFiles::below(&self.folder.path().join("cache"), &self.profile.id.release)
    }

    /// What `kernel add` leaves.
    fn add(&self) {
        let (files, tree) = (self.files(), self.tree());
        forget(&files).unwrap();
        fs::create_dir_all(&files.top).unwrap();
        std::os::unix::fs::symlink(&tree, &files.source).unwrap();
        let stamp = TreeStamp::take(&tree, &self.profile.tree_files, Some(&tree.join("vmlinux")));
        stamp::save(&self.folder.path().join("home"), &self.profile.id, &stamp).unwrap();
    }

    fn take(&self) -> Result<KernelFiles, TakeError> {
        let top = self.folder.path();
        let (cache, home) = (top.join("cache"), top.join("home"));
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            match take(&cache, &home, &self.profile, &Silent) {
                // A child that another test is just starting holds the lock that is given back.
                Err(TakeError::Add(AddError::Busy { .. }))
                    if std::time::Instant::now() < deadline =>
                {
                    thread::sleep(Duration::from_millis(20));
                }
                outcome => return outcome,
            }
        }
    }

    fn refused(&self) -> String {
        self.take().unwrap_err().to_string()
    }
}

fn write(top: &Path, path: &str, text: &str) {
    let path = top.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Links a vmlinux with debug data, type data and a build-id of 20 bytes `id`.
fn link(tree: &Path, id: u8) -> tuxtape_core::identity::BuildId {
    let outside = tempfile::tempdir().unwrap();
    let (source, object) = (outside.path().join("x.s"), outside.path().join("x.o"));
    let text = ".globl go\ngo: ret\n.section .debug_info,\"\",@progbits\n.byte 1\n\
                .section .BTF,\"\",@progbits\n.byte 1\n";
    fs::write(&source, text).unwrap();
    let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
        let status = Command::new(program).args(arguments).status().unwrap();
        assert!(status.success());
    };
    run("as", &["-o".as_ref(), object.as_ref(), source.as_ref()]);
    let id = format!("{id:02x}").repeat(20);
    let flag = format!("--build-id=0x{id}");
    let out = tree.join("vmlinux");
    let words: [&std::ffi::OsStr; 6] = [
        "-e".as_ref(),
        "go".as_ref(),
        flag.as_ref(),
        "-o".as_ref(),
        out.as_ref(),
        object.as_ref(),
    ];
    run("ld", &words);
    id.parse().unwrap()
}

/// Content, links and times of every file below `top`.
fn look(top: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u64, u64, i64)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            } else {
                let (path, meta) = (entry.path(), entry.metadata().unwrap());
                let facts = (
                    fs::read(&path).unwrap(),
                    meta.ino(),
                    meta.nlink(),
                    meta.ctime(),
                );
                found.insert(path, facts);
            }
        }
    }
    found
}

#[test]
fn a_finished_build_is_copied_and_prepared_and_the_tree_itself_stays_as_it_is() {
    let bench = Bench::new();
    let before = look(&bench.tree());
    let files = bench.take().unwrap();
    assert_eq!(look(&bench.tree()), before);
    for path in [
        &files.config,
        &files.symvers,
        &files.vmlinux,
        &files.vmlinuz,
        &files.debug_modules.join("kernel/net/a.ko"),
        &files.modules.join("kernel/net/a.ko"),
        &files.source.join("net/a.c"),
        &files.source.join("include/generated/utsrelease.h"),
    ] {
        assert!(path.is_file(), "{}", path.display());
    }
    for name in [
        "vmlinux",
        "init/main.o",
        "net/a.ko",
        "certs/signing_key.pem",
    ] {
        assert!(!files.source.join(name).exists(), "{name}");
    }
    let prepared = fs::read_to_string(files.source.join("prepared")).unwrap();
    let mut steps: Vec<&str> = prepared.lines().collect();
    steps.sort_unstable();
    assert_eq!(steps, ["modules_prepare", "olddefconfig", "prepare"]);
    let theirs: Vec<u64> = before.values().map(|facts| facts.1).collect();
    let ours = look(&files.top);
    assert!(
        ours.values().all(|facts| !theirs.contains(&facts.1)),
        "a file is shared"
    );
}

#[test]
fn what_was_copied_serves_when_the_tree_has_moved_on_or_is_gone() {
    let bench = Bench::new();
    let files = bench.take().unwrap();
    fs::remove_dir_all(bench.folder.path().join("linux")).unwrap();
    assert_eq!(bench.take().unwrap(), files);
    assert!(files.source.join("net/a.c").is_file());
}

#[test]
fn a_tree_that_was_edited_after_the_build_is_refused_by_the_name_of_the_file() {
    let bench = Bench::new();
    write(&bench.tree(), "net/a.c", "int y;\n");
    let words = bench.refused();
    assert!(words.contains("net/a.c was changed"), "{words}");
    assert!(!bench.files().source.join("prepared").exists());
}

#[test]
fn another_build_in_the_same_tree_is_refused_with_both_build_ids() {
    let bench = Bench::new();
    link(&bench.tree(), 2);
    let words = bench.refused();
    let both = ["01", "02"].map(|id| id.repeat(20));
    assert!(both.iter().all(|id| words.contains(id)), "{words}");
}

#[test]
fn an_edited_configuration_is_refused() {
    let bench = Bench::new();
    let config = fs::File::options()
        .append(true)
        .open(bench.tree().join(".config"))
        .unwrap();
    let later = std::time::SystemTime::now() + Duration::from_secs(60);
    config.set_modified(later).unwrap();
    assert!(bench.refused().contains(".config is newer"));
}

#[test]
fn an_unfinished_build_is_refused_by_what_is_missing() {
    let bench = Bench::new();
    fs::remove_file(bench.tree().join("Module.symvers")).unwrap();
    assert!(bench.refused().contains("Module.symvers is not there"));
    write(&bench.tree(), "Module.symvers", "");
    fs::remove_file(bench.tree().join("net/a.ko")).unwrap();
    assert!(bench.refused().contains("\"net/a.ko\""));
}

#[test]
fn copies_that_were_cut_off_are_made_anew_and_older_builds_give_way() {
    let mut bench = Bench::new();
    let files = bench.take().unwrap();
    mark::begin(&files, &bench.tree()).unwrap();
    fs::write(files.source.join("net/a.c"), "half").unwrap();
    bench.take().unwrap();
    let text = fs::read_to_string(files.source.join("net/a.c")).unwrap();
    assert_eq!(text, "int x;\n");
    write(&bench.tree(), "net/a.c", "int newer;\n");
    bench.profile.id.build_id = Some(link(&bench.tree(), 3));
    bench.add();
    bench.take().unwrap();
    let text = fs::read_to_string(files.source.join("net/a.c")).unwrap();
    assert_eq!(text, "int newer;\n");
}

#[test]
fn the_files_of_packages_are_left_alone() {
    let bench = Bench::new();
    let files = bench.files();
    fs::remove_file(&files.source).unwrap();
    write(&files.source, "net/a.c", "of a package");
    assert!(matches!(bench.take(), Err(TakeError::Taken { .. })));
    assert!(matches!(forget(&files), Err(TakeError::Taken { .. })));
    assert!(files.source.join("net/a.c").is_file());
}

#[test]
fn a_tree_that_nobody_noted_is_not_guessed() {
    let bench = Bench::new();
    fs::remove_file(bench.files().source).unwrap();
    assert!(matches!(bench.take(), Err(TakeError::NoTree { .. })));
    let other = KernelProfile {
        origin: tuxtape_core::profile::ProfileOrigin {
            spec: format!("debian:{RELEASE}"),
            source: String::new(),
        },
        ..bench.profile.clone()
    };
    let top = bench.folder.path();
    // Kernels of packages are where they were unpacked.
    assert!(take(&top.join("cache"), &top.join("home"), &other, &Silent).is_ok());
}
