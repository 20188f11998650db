use super::*;

fn modules() -> Modules {
    let module = |aliases: &[&str], depends: &[&str], soft: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|name| object(name)).collect();
        ModuleFacts {
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            depends: names(depends),
            soft: names(soft),
        }
    };
    Modules::from([
        (object("nfnetlink"), module(&[], &[], &[])),
        (
            object("nf_tables"),
            module(&["nfnetlink-subsys-10"], &["nfnetlink"], &[]),
        ),
        (object("e1000"), module(&["pci:v00008086d*"], &["mii"], &[])),
        (object("mii"), module(&[], &[], &[])),
        (object("tcp_bbr"), module(&[], &[], &[])),
        (object("btrfs"), module(&["fs-btrfs"], &[], &["raid6_pq"])),
        (object("raid6_pq"), module(&[], &[], &[])),
        (object("torture"), module(&[], &[], &[])),
        (object("odd"), module(&["odd-thing"], &["mii"], &[])),
    ])
}

fn object(name: &str) -> ObjectName {
    ObjectName(name.to_owned())
}

fn shown(node: Option<&Node>, name: &str) -> String {
    let modules = modules();
    Loading::new(&modules, node)
        .of(&object(name))
        .map_or_else(|| "not known".to_owned(), |found| found.to_string())
}

#[test]
fn without_a_node_the_aliases_tell() {
    for (name, expected) in [
        ("vmlinux", "loaded: part of vmlinux"),
        (
            "nf_tables",
            "autoload: by any user's request for nfnetlink-subsys-10",
        ),
        (
            "nfnetlink",
            "autoload: by any user's request for nfnetlink-subsys-10, through nf_tables",
        ),
        ("e1000", "autoload: by hardware pci:v00008086d*"),
        ("tcp_bbr", "autoload: by any user's request for tcp_bbr"),
        (
            "raid6_pq",
            "autoload: by any user's request for fs-btrfs, through btrfs",
        ),
        // Two modules bring it along: the one that more can ask for is named.
        ("mii", "autoload: by a request for odd-thing, through odd"),
        ("torture", "root-only: it has no alias to be asked for by"),
        ("elsewhere", "not known"),
    ] {
        assert_eq!(shown(None, name), expected, "{name}");
    }
}

#[test]
fn what_is_loaded_is_loaded_whatever_the_settings() {
    let mut node = Node::default();
    node.note_modules("nf_tables 286720 0 - Live 0x0\ntorture 1 0 - Live 0x0 (E)\n");
    node.note_modules_disabled("1\n");
    assert_eq!(shown(Some(&node), "torture"), "loaded: in /proc/modules");
    assert_eq!(
        shown(Some(&node), "e1000"),
        "blocked: kernel.modules_disabled=1"
    );
}

#[test]
fn an_empty_list_of_modules_is_not_believed() {
    let mut node = Node::default();
    node.note_modules("\n");
    assert!(!node.knows_loaded());
}

#[test]
fn a_blacklist_stops_aliases_alone() {
    let mut node = Node::default();
    node.note_modprobe(
        "a.conf",
        "# no\nblacklist \\\n  nf-tables\nblacklist nfnetlink\n",
    );
    node.note_command_line("quiet modprobe.blacklist=tcp_bbr,e1000");
    for (name, expected) in [
        (
            "nf_tables",
            "root-only: blacklisted by a.conf:2: blacklist   nf-tables",
        ),
        // Nothing that can be asked for needs it any more.
        ("nfnetlink", "root-only: it has no alias to be asked for by"),
        ("tcp_bbr", "autoload: by any user's request for tcp_bbr"),
        (
            "e1000",
            "root-only: blacklisted by modprobe.blacklist=e1000 of the command line",
        ),
    ] {
        assert_eq!(shown(Some(&node), name), expected, "{name}");
    }
}

#[test]
fn a_dependency_comes_along_though_it_is_blacklisted() {
    let mut node = Node::default();
    node.note_modprobe("a.conf", "blacklist nfnetlink");
    assert_eq!(
        shown(Some(&node), "nfnetlink"),
        "autoload: by any user's request for nfnetlink-subsys-10, through nf_tables"
    );
}

#[test]
fn an_install_line_that_does_nothing_blocks_it_and_what_needs_it() {
    let mut node = Node::default();
    node.note_modprobe(
        "a.conf",
        "install nfnetlink /bin/false\ninstall btrfs /sbin/modprobe --ignore-install btrfs\nalias odd-thing off\n",
    );
    for (name, expected) in [
        (
            "nfnetlink",
            "blocked: a.conf:1: install nfnetlink /bin/false",
        ),
        (
            "nf_tables",
            "blocked: a.conf:1: install nfnetlink /bin/false, and nf_tables needs nfnetlink",
        ),
        ("btrfs", "autoload: by any user's request for fs-btrfs"),
        ("odd", "root-only: it has no alias to be asked for by"),
        (
            "mii",
            "autoload: by hardware pci:v00008086d*, through e1000",
        ),
    ] {
        assert_eq!(shown(Some(&node), name), expected, "{name}");
    }
    // What is there already is not kept out any more.
    node.note_modules("nfnetlink 1 0 - Live 0x0\n");
    assert_eq!(
        shown(Some(&node), "nf_tables"),
        "autoload: by any user's request for nfnetlink-subsys-10"
    );
}

#[test]
fn modules_that_need_each_other_end() {
    let facts = |other: &str| ModuleFacts {
        aliases: BTreeSet::from(["fs-x".to_owned()]),
        depends: BTreeSet::from([object(other)]),
        soft: BTreeSet::from([object(other)]),
    };
    let modules = Modules::from([(object("a"), facts("b")), (object("b"), facts("a"))]);
    let mut node = Node::default();
    node.note_modprobe("x", "install c /bin/true");
    for node in [None, Some(&node)] {
        let found = Loading::new(&modules, node).of(&object("a"));
        assert_eq!(found.map(|found| found.as_str()), Some("autoload"));
    }
}
