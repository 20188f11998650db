use super::*;

const DESKTOP: &str = include_str!("../../../../../policies/desktop.toml");
const HYPERVISOR: &str = include_str!("../../../../../policies/hypervisor.toml");

fn refused(text: &str) -> (usize, String, String) {
    match Policy::parse(text) {
        Err(PolicyError::Key { line, key, problem }) => (line, key, problem),
        other => panic!("{text:?}: {other:?}"),
    }
}

fn check(text: &str, line: usize, key: &str, problem: &str) {
    let found = refused(text);
    assert_eq!(
        (found.0, found.1.as_str()),
        (line, key),
        "{text:?}: {found:?}"
    );
    assert!(found.2.contains(problem), "{text:?}: {found:?}");
}

#[test]
fn the_builtin_policy_is_the_one_for_a_cloud_fleet() {
    let builtin = Policy::builtin();
    assert_eq!(builtin.name(), "cloud");
    assert_eq!(
        builtin.models(),
        [
            ThreatModel::Local,
            ThreatModel::Userns,
            ThreatModel::Container,
            ThreatModel::Network
        ]
    );
    // Laid over itself, and with nothing laid over it, it is the same.
    let expected = format!("{builtin:?}");
    assert_eq!(format!("{:?}", Policy::parse(BUILTIN).unwrap()), expected);
    assert_eq!(
        format!("{:?}", Policy::parse("format = 1\n").unwrap()),
        expected
    );
}

#[test]
fn the_examples_declare_their_attackers() {
    let desktop = Policy::parse(DESKTOP).unwrap();
    assert!(desktop.models().contains(&ThreatModel::Usb));
    assert!(desktop.models().contains(&ThreatModel::Adjacent));
    let hypervisor = Policy::parse(HYPERVISOR).unwrap();
    assert!(hypervisor.models().contains(&ThreatModel::Guest));
}

#[test]
fn every_weight_says_why() {
    let policy = Policy::builtin();
    for rule in &policy.reach.rules {
        assert!(rule.why.len() > 20, "{}", rule.name);
    }
    for class in &policy.impact.classes {
        assert!(class.why.len() > 20, "{}", class.name);
    }
}

#[test]
fn no_prefix_stands_in_two_rules() {
    let wire = read(BUILTIN).unwrap();
    let mut seen = BTreeMap::new();
    for (name, reach) in &wire.reach {
        let reach = reach.get_ref();
        let paths = reach.paths.iter().flatten().map(|it| ("path", &it.0));
        let titles = reach.titles.iter().flatten().map(|it| ("title", &it.0));
        for prefix in paths.chain(titles) {
            assert_eq!(seen.insert(prefix, name), None, "{prefix:?} in {name:?}");
        }
    }
}

#[test]
fn a_file_overrides_by_key() {
    let text = "format = 1\nname = \"mine\"\n[reach.sched]\nuserns = 3\n[reach.mine]\nwhy = \"a driver of ours\"\npaths = [\"drivers/mine/\"]\nlocal = 77\n";
    let policy = Policy::parse(text).unwrap();
    let sched = policy
        .reach
        .rules
        .iter()
        .find(|rule| rule.name == "sched")
        .unwrap();
    assert_eq!(*sched.weights.get(ThreatModel::Userns), Some(3));
    assert_eq!(*sched.weights.get(ThreatModel::Container), Some(95));
    assert!(policy.reach.rules.iter().any(|rule| rule.name == "mine"));
    assert_eq!(policy.name(), "mine");
    assert_eq!(
        policy.threshold(Band::Act),
        Policy::builtin().threshold(Band::Act)
    );
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    check("format = 1\ncolour = 3\n", 2, "colour", "unknown field");
    check(
        "format = 1\n\n[reach.sched]\nroot = 3\n",
        4,
        "reach.sched.root",
        "unknown field",
    );
    check(
        "format = 1\n[evidence.rumour]\nadd = 1\n",
        2,
        "evidence.rumour",
        "unknown field",
    );
    check(
        "format = 1\nmodels = [\"nobody\"]\n",
        2,
        "models",
        "unknown variant",
    );
}

#[test]
fn weights_are_whole_numbers_in_bounds() {
    check(
        "format = 1\n[reach.sched]\nuserns = -5\n",
        3,
        "reach.sched.userns",
        "-5",
    );
    check(
        "format = 1\n[reach.sched]\nuserns = 101\n",
        3,
        "reach.sched.userns",
        "101",
    );
    check(
        "format = 1\n[reach.sched]\nuserns = nan\n",
        3,
        "reach.sched.userns",
        "",
    );
    check(
        "format = 1\n[reach.sched]\nuserns = 1.5\n",
        3,
        "reach.sched.userns",
        "",
    );
    check("format = 1\n[bands]\nact = -1\n", 3, "bands.act", "-1");
}

#[test]
fn another_format_is_refused_before_its_keys_are_read() {
    check(
        "unheard = 2\nformat = 2\n",
        2,
        "format",
        "format 2 is not known",
    );
    check("name = \"x\"\n", 1, "format", "is missing");
    check("", 1, "format", "is missing");
    check("format = \"1\"\n", 1, "format", "");
}

#[test]
fn nonsense_is_refused() {
    check("format = 1\nmodels = []\n", 2, "models", "no threat model");
    check(
        "format = 1\n[bands]\nattend = 9000\n",
        2,
        "bands",
        "starts above",
    );
    check(
        "format = 1\n[reach.new]\nlocal = 5\n",
        2,
        "reach.new.why",
        "is missing",
    );
    check(
        "format = 1\n[impact.new]\nwhy = \"x\"\n",
        2,
        "impact.new.points",
        "is missing",
    );
    check(
        "format = 1\n[reach.sched]\npaths = [\n  \"ok/\",\n  \"../up\",\n]\n",
        3,
        "reach.sched.paths",
        "no path prefix",
    );
    check(
        "format = 1\n[impact.crash]\nwords = [\"it's\"]\n",
        3,
        "impact.crash.words",
        "letters",
    );
    check(
        "format = 1\n[impact.crash]\nvectors = [\"high\"]\n",
        3,
        "impact.crash.vectors",
        "metric",
    );
    let long = format!("format = 1\n# {}\n", "x".repeat(LONGEST));
    assert_eq!(Policy::parse(&long).unwrap_err(), PolicyError::Long);
    refused("format = 1\n[[[");
}

#[test]
fn no_models_named_leaves_the_policys_own() {
    let policy = Policy::builtin();
    let own = policy.models().to_vec();
    assert_eq!(policy.clone().declaring([]).models(), own);
    let twice = policy.declaring([ThreatModel::Usb, ThreatModel::Usb]);
    assert_eq!(twice.models(), [ThreatModel::Usb]);
}
