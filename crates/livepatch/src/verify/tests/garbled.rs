use proptest::prelude::*;

use super::super::*;
use super::sample::{Sample, World};

#[test]
fn a_file_that_is_no_module_is_one_problem() {
    let report = World::new().verify(b"not an object");
    let problems: Vec<_> = report.problems.iter().map(Problem::to_string).collect();
    assert_eq!(problems, ["malformed: not an x86-64 object: too short"]);
}

#[test]
fn every_truncation_is_malformed() {
    let bytes = Sample::new().build();
    let world = World::new();
    for length in (0..bytes.len()).step_by(7) {
        let report = world.verify(&bytes[..length]);
        assert_eq!(report.problems[0].check, Check::Malformed, "{length}");
    }
}

proptest! {
    #[test]
    fn as_its_own_kernel_panics_neither(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = World::new().vmlinux.build();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        verify_anything(&bytes);
    }

    #[test]
    fn no_change_of_bytes_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = Sample::new().build();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        World::new().verify(&bytes);
    }
}
