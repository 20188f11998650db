use std::process::Command;

use super::*;
use crate::progress::Silent;

const CONFIG: &str = "# Linux/x86 6.1.5 Kernel Configuration\nCONFIG_X86_64=y\nCONFIG_64BIT=y\n\
    CONFIG_CC_VERSION_TEXT=\"gcc 12\"\nCONFIG_LOCALVERSION=\"-t\"\nCONFIG_A=y\n";

/// Writes the smallest tree whose makefiles can be evaluated.
fn tree(top: &Path) {
    for (path, text) in [
        (
            "Makefile",
            "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 5\nEXTRAVERSION =\nNAME = X\n\
             SRCARCH := x86\nsrctree := .\n\
             include $(srctree)/arch/$(SRCARCH)/Makefile\n",
        ),
        ("Kconfig", ""),
        ("Kbuild", "obj-y += init/\nobj-y += net/\n"),
        ("arch/x86/Makefile", ""),
        ("arch/x86/Kbuild", ""),
        ("init/Makefile", "obj-y := main.o\n"),
        ("init/main.c", "int a;\n"),
        (
            "net/Makefile",
            "obj-$(CONFIG_A) += a.o\nobj-$(CONFIG_B) += b.o\n",
        ),
        ("net/a.c", "int x;\n"),
        ("net/b.c", ""),
    ] {
        write(top, path, text);
    }
}

fn write(top: &Path, path: &str, text: &str) {
    let path = top.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn run(program: &str, folder: &Path, arguments: &[&str]) {
    let done = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        tree(&folder.path().join("linux"));
        write(folder.path(), "config", CONFIG);
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn add(&self, spec: &str, config: bool, source: Option<&str>) -> Result<Built, SpecError> {
        let options = Options {
            config: config.then(|| self.path("config")),
            source: source.map(|name| self.path(name)),
            ..Options::default()
        };
        let spec: Spec = spec
            .replace("TOP", self.folder.path().to_str().unwrap())
            .parse()
            .unwrap();
        Ok(add(&self.path("cache"), &spec, &options, &Silent)?.unwrap())
    }

    fn archive(&self, name: &str, members: &[&str]) {
        run(
            "tar",
            self.folder.path(),
            &[&["-czf", name][..], members].concat(),
        );
    }
}

fn check(built: &Built, units: &[&str]) {
    let found: Vec<&str> = built.profile.units.keys().map(String::as_str).collect();
    assert_eq!(found, units);
    assert_eq!(built.profile.id.release.as_str(), "6.1.5-t");
    assert_eq!(built.profile.base_version, "6.1.5");
    assert_eq!(built.profile.sureness.way, Way::Evaluation);
}

#[test]
fn a_bare_tree_a_tag_and_an_archive_of_it_give_one_profile() {
    let bench = Bench::new();
    let linux = bench.path("linux");
    let git = |arguments: &[&str]| {
        let who = ["-c", "user.name=n", "-c", "user.email=e@x"];
        run("git", &linux, &[&who[..], arguments].concat());
    };
    let units = ["init/main.c", "net/a.c"];
    let bare = bench.add("dir:TOP/linux", true, None).unwrap();
    check(&bare, &units);
    bench.archive("linux.tar.gz", &["linux"]);
    let packed = bench.add("tar:TOP/linux.tar.gz", true, None).unwrap();
    check(&packed, &units);
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "x"]);
    git(&["tag", "v6.1.5"]);
    let tagged = bench.add("git:TOP/linux#v6.1.5", true, None).unwrap();
    check(&tagged, &units);
    assert!(tagged.profile.origin.source.contains("v6.1.5"));
    let commit = tagged.profile.git.as_ref().unwrap().commit;
    assert_eq!(tagged.history.as_ref().unwrap().commit, commit);
    let clean = bench.add("dir:TOP/linux", true, None).unwrap();
    assert_eq!(clean.profile.git.as_ref().unwrap().commit, commit);
    assert!(clean.history.is_some());
    assert!(clean.stamp.unwrap().files.contains_key("net/a.c"));
    // Of a copy that is kept in the cache nothing needs to be noted.
    assert!(tagged.stamp.is_none());
    assert_eq!(tagged.profile.tree_files, bare.profile.tree_files);
    // What fixes are compared with.
    let files = KernelFiles::below(&bench.path("cache"), &tagged.profile.id.release);
    assert!(files.source.join("net/a.c").is_file());

    write(&linux, "net/a.c", "int changed;\n");
    let changed = bench.add("dir:TOP/linux", true, None).unwrap();
    assert!(changed.profile.origin.source.ends_with('+'));
    assert!(changed.profile.git.is_none() && changed.history.is_none());
    assert!(
        changed
            .unchecked
            .iter()
            .any(|note| note.starts_with("1 files of the tree differ")),
        "{:?}",
        changed.unchecked
    );
}

#[test]
fn a_kernel_archive_is_its_mainline_version_with_its_patches_in_order() {
    let bench = Bench::new();
    write(&bench.path("k"), "mainline-kernel-version.txt", "v6.1.5\n");
    write(&bench.path("k"), ".config", CONFIG);
    for number in 0..11 {
        let next = number + 1;
        let before = if number == 0 {
            "x".to_owned()
        } else {
            format!("x{number}")
        };
        write(
            &bench.path("k"),
            &format!("patches/{number}-step.diff"),
            &format!("--- a/net/a.c\n+++ b/net/a.c\n@@ -1 +1 @@\n-int {before};\n+int x{next};\n"),
        );
    }
    let members = [
        "-C",
        "k",
        "patches",
        ".config",
        "mainline-kernel-version.txt",
    ];
    bench.archive("k.tar.gz", &members);
    let built = bench.add("tar:TOP/k.tar.gz", false, Some("linux")).unwrap();
    check(&built, &["init/main.c", "net/a.c"]);
    let files = KernelFiles::below(&bench.path("cache"), &built.profile.id.release);
    let patched = fs::read_to_string(files.source.join("net/a.c")).unwrap();
    assert_eq!(patched, "int x11;\n");
    assert_eq!(
        fs::read_to_string(bench.path("linux/net/a.c")).unwrap(),
        "int x;\n",
        "the source given stays as it is"
    );

    assert!(matches!(
        bench.add("tar:TOP/k.tar.gz", false, None),
        Err(SpecError::NoSource { .. })
    ));
    write(&bench.path("k"), "mainline-kernel-version.txt", "6.1.6\n");
    bench.archive("other.tar.gz", &members);
    let error = bench
        .add("tar:TOP/other.tar.gz", false, Some("linux"))
        .unwrap_err();
    assert!(
        error.to_string().contains("6.1.6") && error.to_string().contains("6.1.5"),
        "{error}"
    );
}

#[test]
fn a_kernel_archive_with_a_wrong_patch_is_refused_by_name_and_leaves_nothing() {
    let diff = "--- a/net/a.c\n+++ b/net/a.c\n@@ -1 +1 @@\n-int x;\n+int y;\n";
    for (patches, name) in [
        (&[("0-a.diff", diff), ("2-c.diff", diff)][..], "2-c.diff"),
        (&[("0-a.diff", diff), ("0-b.diff", diff)], "0-b.diff"),
        (&[("0-a.diff", diff), ("1-b.diff", "hello\n")], "1-b.diff"),
        (&[("0-a.diff", diff), ("1-b.diff", diff)], "1-b.diff"),
        (&[("0-a.diff", diff), ("README", "")], "README"),
    ] {
        let bench = Bench::new();
        write(&bench.path("k"), "mainline-kernel-version.txt", "6.1.5");
        write(&bench.path("k"), ".config", CONFIG);
        for (name, text) in patches {
            write(&bench.path("k"), &format!("patches/{name}"), text);
        }
        bench.archive("k.tar.gz", &["k"]);
        let error = bench
            .add("tar:TOP/k.tar.gz", false, Some("linux"))
            .unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(!bench.path("cache/kernels").exists(), "{name}");
        let trees = fs::read_dir(bench.path("cache/trees")).unwrap();
        for entry in trees {
            let entry = entry.unwrap().file_name().into_string().unwrap();
            assert!(!entry.contains("patched"), "{entry}");
        }
    }
}

#[test]
fn an_archive_that_writes_elsewhere_is_refused_before_it_is_unpacked() {
    let bench = Bench::new();
    std::os::unix::fs::symlink("../../../etc", bench.path("linux/net/out")).unwrap();
    bench.archive("links.tar.gz", &["linux"]);
    let error = bench.add("tar:TOP/links.tar.gz", true, None).unwrap_err();
    assert!(matches!(error, SpecError::Member { .. }), "{error}");
    assert!(error.to_string().contains("out"), "{error}");
    fs::write(bench.path("evil"), "").unwrap();
    bench.archive("up.tar.gz", &["-P", "linux/../evil"]);
    let error = bench.add("tar:TOP/up.tar.gz", true, None).unwrap_err();
    assert!(matches!(error, SpecError::Member { .. }), "{error}");
}

#[test]
fn a_tree_without_configuration_or_of_another_branch_is_refused() {
    let bench = Bench::new();
    let error = bench.add("dir:TOP/linux", false, None).unwrap_err();
    assert!(error.to_string().contains("no configuration"), "{error}");
    write(
        bench.folder.path(),
        "config",
        &CONFIG.replace("6.1.5", "6.12.107"),
    );
    let error = bench.add("dir:TOP/linux", true, None).unwrap_err();
    assert!(error.to_string().starts_with("not-the-kernel"), "{error}");
}

#[test]
fn a_folder_that_is_nothing_is_refused() {
    let bench = Bench::new();
    fs::create_dir(bench.path("empty")).unwrap();
    for spec in [
        "dir:TOP/empty",
        "dir:TOP/missing",
        "tar:TOP/config",
        "tar:TOP/missing",
    ] {
        assert!(bench.add(spec, true, None).is_err(), "{spec}");
    }
    fs::create_dir_all(bench.path("debug/lib")).unwrap();
    fs::write(bench.path("debug/lib/vmlinux"), "").unwrap();
    assert!(matches!(
        bench.add("dir:TOP/debug", true, None),
        Err(SpecError::NoSource { .. })
    ));
}

#[test]
fn a_spec_is_read_and_shown_without_passwords() {
    for text in [
        "debian:6.1.0-47-cloud-amd64",
        "dir:/usr/src/linux",
        "tar:k.tar.xz",
        "deb:a.deb,b.ddeb",
        "rpm:a.rpm",
        "git:https://example.org/linux.git#v6.1",
    ] {
        assert_eq!(text.parse::<Spec>().unwrap().to_string(), text);
    }
    let secret: Spec = "git:https://me:secret@example.org/l.git#v6.1"
        .parse()
        .unwrap();
    assert!(!secret.to_string().contains("secret"));
    for bad in [
        "",
        "x",
        "dir:",
        "debian:../x",
        "deb:a,,b",
        "git:/a",
        "git:--upload-pack=x#v1",
        "git:ext::sh -c x#v1",
        "git:/a#-x",
        "git:/a#v1 x",
        "snap:x",
    ] {
        assert!(bad.parse::<Spec>().is_err(), "{bad}");
    }
}

#[test]
fn a_base_version_of_another_branch_than_the_makefile_is_refused_unless_somebody_insists() {
    let bench = Bench::new();
    let add = |base: &str, base_trust| {
        let options = Options {
            config: Some(bench.path("config")),
            base: Some(base.parse().unwrap()),
            base_trust,
            ..Options::default()
        };
        let spec = Spec::Folder(bench.path("linux"));
        add(&bench.path("cache"), &spec, &options, &Silent)
    };
    let error = add("5.10.7", BaseTrust::Makefile).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("5.10.7") && text.contains("6.1.5"), "{text}");
    // The configuration is of the tree's branch, so that a base of another one needs its own.
    write(
        bench.folder.path(),
        "config",
        &CONFIG.replace("6.1.5", "5.10.7"),
    );
    let built = add("5.10.7", BaseTrust::Given).unwrap().unwrap();
    assert_eq!(built.profile.base_version, "5.10.7");
    write(bench.folder.path(), "config", CONFIG);
    let built = add("6.1.4", BaseTrust::Makefile).unwrap().unwrap();
    assert_eq!(built.profile.base_version, "6.1.4");
    assert!(
        built.unchecked.iter().any(|note| note.contains("6.1.4")),
        "{:?}",
        built.unchecked
    );
}
