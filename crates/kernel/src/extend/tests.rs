use super::*;
use crate::unified;

fn path(text: &str) -> TreePath {
    text.parse().unwrap()
}

/// A fix of `net/a.c` that replaces `old` by `new`.
fn fix(old: &str, new: &str) -> Diff {
    let text = format!("--- a/net/a.c\n+++ b/net/a.c\n@@ -1 +1 @@\n-{old}\n+{new}\n");
    unified::parse(text.as_bytes()).unwrap()
}

fn edits(files: &[(&str, &str, &str)]) -> Edits {
    let mut edits = Edits::default();
    for (name, old, new) in files {
        edits.add(path(name), Some((*old).to_owned()), Some(old), new);
    }
    edits
}

/// Something that is wanted: its name, the file and the text that has it, and who misses it.
type Wanted<'a> = (&'a str, &'a str, &'a str, Teller);

/// A compiler and a link that miss what the diff does not add.
fn compiler<'a>(
    wanted: &'a [Wanted<'a>],
) -> impl FnMut(&Diff, Reach) -> Result<Trial, std::convert::Infallible> + 'a {
    |diff, reach| {
        let added = |file: &str, text: &str| {
            diff.files
                .iter()
                .filter(|change| change.path.as_str() == file)
                .flat_map(|change| &change.hunks)
                .flat_map(|hunk| &hunk.lines)
                .any(|line| {
                    line.side == Side::New && String::from_utf8_lossy(&line.bytes).contains(text)
                })
        };
        let lacks: BTreeSet<Lack> = wanted
            .iter()
            .filter(|(.., by)| reach == Reach::Link || *by == Teller::Compiler)
            .filter(|(_, file, text, _)| !added(file, text))
            .map(|(name, _, _, by)| Lack {
                unit: path("net/a.c"),
                name: (*name).to_owned(),
                by: *by,
            })
            .collect();
        Ok(if lacks.is_empty() {
            Trial::Fits
        } else {
            Trial::Lacks(lacks)
        })
    }
}

/// What is added: file, and the lines that come.
fn added(proposal: Proposal) -> Vec<(String, String)> {
    let Proposal::Extended(extension) = proposal else {
        panic!("{proposal:?}");
    };
    extension
        .additions
        .iter()
        .map(|addition| {
            (
                addition.path.to_string(),
                addition.edit.new.concat().trim().to_owned(),
            )
        })
        .collect()
}

const OLD_HEADER: &str = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n";

#[test]
fn only_what_is_needed_is_added() {
    let newer = "one\ntwo\nint tcp_sk_rw(int);\nthree\nfour\nother change\nsix\nseven\n";
    let edits = edits(&[
        ("include/net/tcp.h", OLD_HEADER, newer),
        (
            "include/net/more.h",
            "x\n",
            "x\n/* tcp_sk_rw is in tcp.h */\n",
        ),
        ("net/b.c", "y\n", "tcp_sk_rw(1);\n"),
    ]);
    let proposal = propose(
        &fix("a", "tcp_sk_rw(2);"),
        &edits,
        compiler(&[(
            "tcp_sk_rw",
            "include/net/tcp.h",
            "int tcp_sk_rw(int)",
            Teller::Compiler,
        )]),
    )
    .unwrap();
    assert_eq!(
        added(proposal),
        [(
            "include/net/tcp.h".to_owned(),
            "int tcp_sk_rw(int);".to_owned()
        )]
    );
}

#[test]
fn a_symbol_that_only_the_link_misses_is_looked_for_beside_the_unit() {
    let edits = edits(&[
        ("net/rds.h", "x\n", "x\nint get_device(int);\n"),
        (
            "net/rdma.c",
            "static int get_device(int a)\n",
            "int get_device(int a)\n",
        ),
        ("fs/other.c", "z\n", "get_device\n"),
    ]);
    let proposal = propose(
        &fix("a", "get_device(2);"),
        &edits,
        compiler(&[
            ("get_device", "net/rds.h", "get_device", Teller::Compiler),
            ("get_device", "net/rdma.c", "get_device", Teller::Link),
        ]),
    )
    .unwrap();
    assert_eq!(
        added(proposal),
        [
            ("net/rdma.c".to_owned(), "int get_device(int a)".to_owned()),
            ("net/rds.h".to_owned(), "int get_device(int);".to_owned()),
        ]
    );
}

#[test]
fn a_header_that_drops_what_the_fix_stops_using_is_taken_along() {
    let header =
        "struct sock {\n\tint flags;\n\tint running;\n\tint lock;\n};\nenum flags {\n\tA,\n};\n";
    let newer =
        "struct sock {\n\tint flags;\n\tint lock;\n};\nenum flags {\n\tA,\n\tRUNNING,\n};\n";
    let edits = edits(&[("net/internal.h", header, newer)]);
    let proposal = propose(
        &fix("if (po->running)", "if (flag(po, RUNNING))"),
        &edits,
        compiler(&[("RUNNING", "net/internal.h", "RUNNING", Teller::Compiler)]),
    )
    .unwrap();
    let Proposal::Extended(extension) = &proposal else {
        panic!("{proposal:?}");
    };
    let because: Vec<&Because> = extension
        .additions
        .iter()
        .map(|addition| &addition.because)
        .collect();
    assert!(
        because.contains(&&Because::Drops("running".to_owned())),
        "{because:?}"
    );
    assert_eq!(extension.additions.len(), 2);
}

#[test]
fn what_the_newer_source_lacks_too_is_told() {
    let edits = edits(&[("include/net/tcp.h", OLD_HEADER, "other\n")]);
    let proposal = propose(
        &fix("a", "nowhere();"),
        &edits,
        compiler(&[("nowhere", "include/net/tcp.h", "nowhere", Teller::Compiler)]),
    )
    .unwrap();
    assert!(matches!(proposal, Proposal::Nothing(lacks) if lacks.len() == 1));
}

#[test]
fn changes_of_a_file_that_the_fix_changes_go_into_one_diff() {
    let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\n";
    let fixed = "a\nB2\nc\nd\ne\nf\ng\nh\ni\n";
    let newer = "a\nB2\nc\nd\ne\nf\ng\nneeded\nh\ni\n";
    let mut edits = Edits::default();
    edits.add(path("net/a.c"), Some(old.to_owned()), Some(fixed), newer);
    let fix = unified::parse(b"--- a/net/a.c\n+++ b/net/a.c\n@@ -1,3 +1,3 @@\n a\n-b\n+B2\n c\n")
        .unwrap();
    let chosen = [EditId {
        path: path("net/a.c"),
        number: 0,
    }]
    .into();
    let diff = edits.extended(&fix, &chosen);
    assert_eq!(diff.files.len(), 1);
    let before = unified::PatchedFile::pristine(old.as_bytes());
    let after = unified::apply(&diff.files[0], Some(&before))
        .unwrap()
        .unwrap();
    assert_eq!(String::from_utf8(after.bytes()).unwrap(), newer);
    assert_eq!(edits.extended(&fix, &BTreeSet::new()), fix);
}

#[test]
fn a_definition_beside_one_that_changed_is_taken_alone() {
    let old = "start\nint f(int a)\n{\n}\nend\n";
    let newer = "start\n#define f(a) g(a)\n\n/* For writers. */\n#define f_rw(a) g(a)\nend\n";
    let edits = edits(&[("include/net/tcp.h", old, newer)]);
    let proposal = propose(
        &fix("a", "f_rw(2);"),
        &edits,
        compiler(&[("f_rw", "include/net/tcp.h", "f_rw", Teller::Compiler)]),
    )
    .unwrap();
    let Proposal::Extended(extension) = proposal else {
        panic!("{proposal:?}");
    };
    let header = extension.diff.files.last().unwrap();
    let before = unified::PatchedFile::pristine(old.as_bytes());
    let after = unified::apply(header, Some(&before)).unwrap().unwrap();
    assert_eq!(
        String::from_utf8(after.bytes()).unwrap(),
        "start\nint f(int a)\n{\n}\n\n/* For writers. */\n#define f_rw(a) g(a)\nend\n"
    );
    // All parts together are the newer source.
    let all = edits
        .of(&[path("include/net/tcp.h")].into())
        .map(|(id, _)| id)
        .collect();
    let diff = edits.extended(&fix("a", "b"), &all);
    let after = unified::apply(diff.files.last().unwrap(), Some(&before))
        .unwrap()
        .unwrap();
    assert_eq!(String::from_utf8(after.bytes()).unwrap(), newer);
}
