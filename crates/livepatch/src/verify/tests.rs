mod exports;
mod functions;
mod garbled;
mod klp;
mod modinfo;
mod padded;
mod places;
mod relocations;
mod sample;
mod tables;

use super::*;
use sample::{Sample, World};

#[test]
fn a_sound_module_has_no_problem_and_says_what_it_resolves_to() {
    let report = World::new().verify(&Sample::new().build());
    assert_eq!(report.problems, []);
    let symbols: Vec<_> = report
        .klp_symbols
        .iter()
        .map(|symbol| {
            (
                symbol.object.0.as_str(),
                symbol.name.as_str(),
                symbol.address,
            )
        })
        .collect();
    assert_eq!(
        symbols,
        [("driver", "quiet", 6), ("vmlinux", "hidden", 0x1050)]
    );
    let functions: Vec<_> = report
        .functions
        .iter()
        .map(|function| (function.name.as_str(), function.address))
        .collect();
    assert_eq!(functions, [("serve", Some(0)), ("victim", Some(0x1040))]);
}

#[test]
fn objects_of_a_module_are_those_it_names() {
    let objects = objects_of(&Sample::new().build()).unwrap();
    assert_eq!(objects, BTreeSet::from([ObjectName("driver".to_owned())]));
}
