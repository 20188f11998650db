use super::*;
use crate::elf::fixture::{ALLOC, Fixture, R_32S, R_PLT32, RELA, STRINGS, TEXT, WRITE};
use crate::elf::{Binding, Relocation, SymbolIndex};

const TEXT_AT: u32 = 0x1000;
const BETA_AT: u32 = 0x00;
const ALPHA_AT: u32 = 0x10;
const OTHER_AT: u32 = 0x20;
const STRINGS_AT: u32 = 0x2000;

/// The unit: `alpha` calls the static `beta` and names a string; `gamma` is weak.
fn unit() -> Fixture {
    let mut fixture = Fixture::new(1);
    let alpha = [0xe8, 0, 0, 0, 0, 0x48, 0xc7, 0xc7, 0, 0, 0, 0, 0xc3];
    let alpha = fixture.section(".text.alpha", TEXT, &alpha);
    let beta = fixture.section(".text.beta", TEXT, &[0x90, 0xc3]);
    let gamma = fixture.section(".text.gamma", TEXT, &[0xc3]);
    let strings = fixture.section(".rodata.str1.1", ALLOC | STRINGS, b"one\0two\0");
    let counter = fixture.section(".data.counter.7", ALLOC | WRITE, &[0; 8]);
    fixture.file("unit.c");
    let beta_section = fixture.section_symbol(beta);
    let strings = fixture.section_symbol(strings);
    fixture.function("beta", beta, 0, 2, Binding::Local);
    fixture.object("counter.7", counter, 0, 8, Binding::Local);
    fixture.object("__UNIQUE_ID_x9", counter, 0, 8, Binding::Local);
    fixture.function("alpha", alpha, 0, 13, Binding::Global);
    fixture.function("gamma", gamma, 0, 1, Binding::Weak);
    let call = relocation(1, beta_section, R_PLT32, -4);
    let string = relocation(8, strings, R_32S, 4);
    fixture.relocations(".rela.text.alpha", RELA, alpha, &[call, string]);
    fixture
}

fn relocation(offset: u64, symbol: SymbolIndex, kind: u32, addend: i64) -> Relocation {
    Relocation {
        offset,
        symbol,
        kind,
        addend,
    }
}

/// What the kernel was linked from.
struct Kernel {
    file: &'static str,
    alpha: Vec<u8>,
    called: u32,
    string: u32,
    locals: Vec<&'static str>,
    weak: Binding,
    copies: usize,
}

impl Kernel {
    fn equal() -> Self {
        Self {
            file: "unit.c",
            alpha: vec![0xe8, 0, 0, 0, 0, 0x48, 0xc7, 0xc7, 0, 0, 0, 0, 0xc3],
            called: BETA_AT,
            string: 5,
            locals: vec!["beta", "counter.12"],
            weak: Binding::Weak,
            copies: 1,
        }
    }

    fn build(mut self) -> Vec<u8> {
        let distance = self.called.wrapping_sub(ALPHA_AT + 5);
        if self.alpha.len() >= 12 {
            self.alpha[1..5].copy_from_slice(&distance.to_le_bytes());
            self.alpha[8..12].copy_from_slice(&(STRINGS_AT + self.string).to_le_bytes());
        }
        let mut code = vec![0x90, 0xc3];
        code.resize(ALPHA_AT as usize, 0xcc);
        code.extend(&self.alpha);
        code.resize(OTHER_AT as usize, 0xcc);
        code.extend([0xc3; 8]);
        let mut fixture = Fixture::new(2);
        let text = fixture.section_at(".text", TEXT, &code, TEXT_AT.into());
        let strings = b"zero\0two\0one\0";
        fixture.section_at(".rodata", ALLOC, strings, STRINGS_AT.into());
        let data = fixture.section_at(".data", ALLOC | WRITE, &[0; 64], 0x3000);
        fixture.file("before.c");
        fixture.function("beta", text, 0xfff, 1, Binding::Local);
        for _ in 0..self.copies {
            fixture.file(self.file);
            for name in &self.locals {
                if name.starts_with("counter") {
                    fixture.object(name, data, 0x3008, 8, Binding::Local);
                } else {
                    let at = u64::from(TEXT_AT + BETA_AT);
                    fixture.function(name, text, at, 2, Binding::Local);
                }
            }
        }
        let size = self.alpha.len() as u64;
        let alpha = u64::from(TEXT_AT + ALPHA_AT);
        let other = u64::from(TEXT_AT + OTHER_AT);
        fixture.function("alpha", text, alpha, size, Binding::Global);
        fixture.function("gamma", text, other, 1, self.weak);
        fixture.build()
    }

    fn compare(self, unit: &Fixture) -> Result<GroundTruth, GroundTruthError> {
        let kernel = self.build();
        let unit = unit.build();
        let file = ElfFile::parse(&kernel).unwrap();
        let parent = Parent::new(ObjectName("vmlinux".to_owned()), file).unwrap();
        compare(&ElfFile::parse(&unit).unwrap(), &parent, "drivers/unit.c")
    }
}

#[test]
fn a_unit_of_the_kernel_is_equal_with_every_target_proven() {
    let truth = Kernel::equal().compare(&unit()).unwrap();
    assert_eq!(truth.verdict, Verdict::Equal);
    assert_eq!((truth.equal(), truth.functions.len()), (3, 3));
    let proven = TargetCount {
        proven: 2,
        ..TargetCount::default()
    };
    assert_eq!(truth.targets, proven);
}

#[test]
fn the_map_gives_addresses_and_positions_in_the_parent() {
    let truth = Kernel::equal().compare(&unit()).unwrap();
    let beta = &truth.map.symbols["beta"];
    assert_eq!((beta.address, beta.sympos), (0x1000, Some(2)));
    assert!(!beta.global);
    let alpha = &truth.map.symbols["alpha"];
    assert_eq!((alpha.address, alpha.sympos), (0x1010, Some(0)));
    assert!(alpha.global);
}

#[test]
fn a_static_local_with_another_number_is_found() {
    let truth = Kernel::equal().compare(&unit()).unwrap();
    let counter = &truth.map.symbols["counter.7"];
    assert_eq!(counter.name, "counter.12");
    assert_eq!(counter.address, 0x3008);
}

#[test]
fn another_instruction_is_shown_with_both_sides() {
    let mut kernel = Kernel::equal();
    kernel.alpha[7] = 0xc6;
    let truth = kernel.compare(&unit()).unwrap();
    let difference = Difference::Bytes {
        offset: 7,
        ours: vec![0xc7, 0, 0, 0, 0, 0xc3],
        theirs: vec![0xc6, 0, 0, 0, 0, 0xc3],
    };
    assert_eq!(
        truth.verdict,
        Verdict::NotTheKernel {
            function: "alpha".to_owned(),
            difference: Some(difference.clone()),
            likely: Cause::Source,
        }
    );
    assert_eq!(
        difference.to_string(),
        "at offset 0x7 c7 00 00 00 00 c3 here c6 00 00 00 00 c3 in the kernel"
    );
}

#[test]
fn a_call_of_another_function_is_not_hidden_by_its_mask() {
    let mut kernel = Kernel::equal();
    kernel.called = OTHER_AT;
    let truth = kernel.compare(&unit()).unwrap();
    assert_eq!(
        truth.outcome("alpha"),
        Some(&Outcome::Differs(Difference::Target {
            offset: 1,
            ours: ".text.beta-0x4".to_owned(),
            theirs: "alpha+0xc".to_owned(),
        }))
    );
    assert_eq!(truth.targets.contradicted, 1);
}

#[test]
fn another_string_is_not_hidden_by_its_mask() {
    let mut kernel = Kernel::equal();
    kernel.string = 9;
    let truth = kernel.compare(&unit()).unwrap();
    assert_eq!(
        truth.outcome("alpha"),
        Some(&Outcome::Differs(Difference::Target {
            offset: 8,
            ours: "\"two\"".to_owned(),
            theirs: "\"one\"".to_owned(),
        }))
    );
}

#[test]
fn a_weak_function_that_lost_the_link_is_overridden_though_its_bytes_are_equal() {
    let mut kernel = Kernel::equal();
    kernel.weak = Binding::Global;
    let truth = kernel.compare(&unit()).unwrap();
    assert_eq!(truth.outcome("gamma"), Some(&Outcome::Overridden));
    assert_eq!(truth.verdict, Verdict::Equal);
}

#[test]
fn a_global_the_kernel_lacks_is_missing() {
    let mut unit = unit();
    let alpha = unit.symbols.len() - 2;
    unit.symbols[alpha].name = "delta".to_owned();
    let truth = Kernel::equal().compare(&unit).unwrap();
    assert_eq!(truth.outcome("delta"), Some(&Outcome::Missing));
    assert!(matches!(truth.verdict, Verdict::NotTheKernel { .. }));
}

#[test]
fn another_set_of_locals_is_not_found_and_says_which() {
    for (locals, ours, theirs, likely) in [
        (vec!["beta"], vec!["counter."], vec![], Cause::Source),
        (
            vec!["beta", "counter.1", "beta.isra.0"],
            vec![],
            vec!["beta.isra."],
            Cause::Compiler,
        ),
        (
            vec!["beta", "counter.1", "__BTF_ID__struct__x"],
            vec![],
            vec!["__BTF_ID__struct__x"],
            Cause::Config,
        ),
    ] {
        let mut kernel = Kernel::equal();
        kernel.locals = locals;
        assert_eq!(
            kernel.compare(&unit()).unwrap_err(),
            GroundTruthError::NotFound {
                unit: "drivers/unit.c".to_owned(),
                parent: ObjectName("vmlinux".to_owned()),
                only_in_unit: ours.into_iter().map(str::to_owned).collect(),
                only_in_parent: theirs.into_iter().map(str::to_owned).collect(),
                likely,
            }
        );
    }
}

#[test]
fn a_unit_that_fits_two_source_files_is_refused() {
    let mut kernel = Kernel::equal();
    kernel.copies = 2;
    assert_eq!(
        kernel.compare(&unit()).unwrap_err().to_string(),
        "drivers/unit.c is in vmlinux 2 times with equal local symbols"
    );
}

#[test]
fn a_source_file_of_another_name_is_not_considered() {
    let mut kernel = Kernel::equal();
    kernel.file = "other.c";
    assert!(matches!(
        kernel.compare(&unit()),
        Err(GroundTruthError::NotFound { .. })
    ));
}

/// A unit whose `alpha` ends in a jump to `beta`, and a module where that jump is short.
fn short_jump(distance: u8) -> GroundTruth {
    let mut unit = Fixture::new(1);
    let alpha = unit.section(".text.alpha", TEXT, &[0x74, 1, 0x90, 0xe9, 0, 0, 0, 0]);
    let beta = unit.section(".text.beta", TEXT, &[0x90, 0xc3]);
    unit.file("unit.c");
    unit.function("beta", beta, 0, 2, Binding::Local);
    let symbol = unit.section_symbol(beta);
    unit.function("alpha", alpha, 0, 8, Binding::Global);
    let jump = relocation(4, symbol, R_PLT32, -4);
    unit.relocations(".rela.text.alpha", RELA, alpha, &[jump]);

    let mut module = Fixture::new(1);
    let code = [0x90, 0xc3, 0x74, 1, 0x90, 0xeb, distance];
    let text = module.section(".text", TEXT, &code);
    module.file("unit.c");
    module.function("beta", text, 0, 2, Binding::Local);
    module.function("alpha", text, 2, 5, Binding::Global);
    let (unit, module) = (unit.build(), module.build());
    let file = ElfFile::parse(&module).unwrap();
    let parent = Parent::new(ObjectName("module".to_owned()), file).unwrap();
    compare(&ElfFile::parse(&unit).unwrap(), &parent, "unit.c").unwrap()
}

#[test]
fn a_shorter_form_of_the_same_jump_is_equal() {
    let truth = short_jump(0xf9);
    assert_eq!(truth.verdict, Verdict::Equal);
    assert_eq!(truth.targets.proven, 1);
}

#[test]
fn a_short_jump_elsewhere_differs() {
    let truth = short_jump(0xfa);
    assert_eq!(
        truth.outcome("alpha"),
        Some(&Outcome::Differs(Difference::Target {
            offset: 4,
            ours: ".text.beta-0x4".to_owned(),
            theirs: "beta+0x1".to_owned(),
        }))
    );
}

#[test]
fn jumps_where_the_kernel_has_nops_point_at_objtool() {
    let mut unit = unit();
    unit.sections[3].data = vec![0xeb, 0x02];
    let gamma = unit.symbols.len() - 1;
    unit.symbols[gamma].size = 2;
    let kernel = Kernel::equal();
    let mut bytes = kernel.build();
    // The kernel's `gamma` becomes a two-byte nop.
    let at = bytes.windows(8).position(|code| code == [0xc3; 8]).unwrap();
    bytes[at..at + 2].copy_from_slice(&[0x66, 0x90]);
    let symbol = bytes
        .windows(16)
        .position(|entry| entry == [&0x1020u64.to_le_bytes()[..], &1u64.to_le_bytes()].concat())
        .unwrap();
    bytes[symbol + 8] = 2;
    let file = ElfFile::parse(&bytes).unwrap();
    let parent = Parent::new(ObjectName("vmlinux".to_owned()), file).unwrap();
    let unit = unit.build();
    let truth = compare(&ElfFile::parse(&unit).unwrap(), &parent, "unit.c").unwrap();
    assert!(matches!(
        truth.verdict,
        Verdict::NotTheKernel {
            likely: Cause::Objtool,
            ..
        }
    ));
}

mod garbled {
    use proptest::prelude::*;

    use super::{Kernel, compare_anything, unit};

    proptest! {
        #[test]
        fn no_change_of_bytes_panics(
            linked in any::<bool>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let mut bytes = if linked { Kernel::equal().build() } else { unit().build() };
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            compare_anything(&bytes);
        }
    }
}
