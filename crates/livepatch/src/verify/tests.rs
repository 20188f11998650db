use super::*;
use crate::elf::fixture::{
    ALLOC, Fixture, KLP_RELA, R_32S, R_64, R_PC32, R_PLT32, RELA, STRINGS, TEXT, WRITE,
};
use crate::elf::{Binding, Relocation, SectionIndex, SymbolIndex, SymbolKind};

const VERMAGIC: &str = "6.1.0-1-test SMP preempt mod_unload modversions ";
const BUILD_ID: [u8; 4] = [0xde, 0xad, 0xbe, 0xef];

/// A kernel whose `victim` is the second of that name, with a module `driver`.
struct World {
    vmlinux: Fixture,
    driver: Fixture,
    symvers: String,
}

impl World {
    fn new() -> Self {
        let mut vmlinux = Fixture::new(2);
        let text = vmlinux.section_at(".text", TEXT, &[0xc3; 0x100], 0x1000);
        let init = vmlinux.section_at(".init.text", TEXT, &[0xc3; 0x100], 0x3000);
        // ftrace can hook into `victim` and, behind an ENDBR64, into `guarded`.
        let hooks = [0x1040u64, 0x1064].map(u64::to_le_bytes).concat();
        let hooks = vmlinux.section_at(".init.data", ALLOC | WRITE, &hooks, 0x4000);
        let mut note = [4u32, 4, 3].map(u32::to_le_bytes).concat();
        note.extend(b"GNU\0");
        note.extend(BUILD_ID);
        vmlinux.section_at(".notes", ALLOC, &note, 0x5000);
        vmlinux.sections.last_mut().unwrap().kind = 7;
        vmlinux.function("victim", text, 0x1020, 16, Binding::Local);
        vmlinux.function("victim", text, 0x1040, 16, Binding::Local);
        vmlinux.function("hidden", text, 0x1050, 8, Binding::Local);
        vmlinux.function("boot", init, 0x3000, 8, Binding::Local);
        vmlinux.function("guarded", text, 0x1060, 8, Binding::Global);
        let none = SymbolKind::None;
        vmlinux.function("freed", text, 0x10f8, 8, Binding::Global);
        for (name, value) in [
            ("__start_mcount_loc", 0x4000),
            ("__stop_mcount_loc", 0x4010),
            ("__init_begin", 0x10f0),
            ("__init_end", 0x1100),
        ] {
            vmlinux.push(name, Place::Section(hooks), value, 0, none, Binding::Global);
        }

        let mut driver = Fixture::new(1);
        let text = driver.section(".text", TEXT, &[0xe8, 0, 0, 0, 0, 0xc3, 0xc3, 0xc3]);
        let start = driver.section(".init.text", TEXT, &[0xc3; 8]);
        let hooks = driver.section("__mcount_loc", ALLOC, &[0; 8]);
        let symbol = driver.section_symbol(text);
        driver.relocations(
            ".rela__mcount_loc",
            RELA,
            hooks,
            &[entry(0, symbol, R_64, 0)],
        );
        driver.section(".modinfo", ALLOC, b"depends=helper,other-thing\0");
        driver.function("serve", text, 0, 6, Binding::Local);
        driver.function("quiet", text, 6, 2, Binding::Local);
        driver.function("twice", text, 6, 1, Binding::Local);
        driver.function("twice", start, 0, 1, Binding::Local);

        let symvers = "0x11\t__fentry__\tvmlinux\tEXPORT_SYMBOL\t\n\
            0x12\t__x86_return_thunk\tvmlinux\tEXPORT_SYMBOL\t\n\
            0x13\t__x86_indirect_thunk_rax\tvmlinux\tEXPORT_SYMBOL\t\n\
            0x14\tklp_enable_patch\tvmlinux\tEXPORT_SYMBOL_GPL\t\n\
            0x15\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n\
            0x16\tspaced\tvmlinux\tEXPORT_SYMBOL\tSPACE\n\
            0x17\tkey\tdrivers/helper\tEXPORT_SYMBOL\t\n";
        Self {
            vmlinux,
            driver,
            symvers: symvers.to_owned(),
        }
    }

    fn verify(&self, module: &[u8]) -> VerifyReport {
        let (vmlinux, driver) = (self.vmlinux.build(), self.driver.build());
        let file = ElfFile::parse(&vmlinux).unwrap();
        let build_id = build_id(&file).unwrap();
        let name = |name: &str| ObjectName(name.to_owned());
        let vmlinux = Parent::new(name("vmlinux"), file).unwrap();
        let driver = Parent::new(name("driver"), ElfFile::parse(&driver).unwrap()).unwrap();
        let stock = StockModule {
            vermagic: VERMAGIC.to_owned(),
            this_module_size: 96,
            init_offset: 0x40,
            exit_offset: 0x50,
        };
        let kernel = Kernel {
            vmlinux: &vmlinux,
            modules: &BTreeMap::from([(name("driver"), driver)]),
            symvers: &Symvers::parse(self.symvers.as_bytes()).unwrap(),
            stock: &stock,
            build_id: &build_id,
        };
        verify(module, &kernel)
    }
}

fn entry(offset: u64, symbol: SymbolIndex, kind: u32, addend: i64) -> Relocation {
    Relocation {
        offset,
        symbol,
        kind,
        addend,
    }
}

/// A sound module: new code for `vmlinux:victim,2` and `driver:serve`, the first calling `hidden` through
/// the livepatch core, an indirect branch, and a return; the second calling `driver`'s `quiet`.
struct Sample {
    fixture: Fixture,
    modinfo: Vec<String>,
    versions: Vec<(&'static str, u64)>,
}

impl Sample {
    fn new() -> Self {
        let mut fixture = Fixture::new(1);
        #[rustfmt::skip]
        let victim = [
            0xe8, 0, 0, 0, 0,             // 00 call __fentry__
            0xe8, 0, 0, 0, 0,             // 05 call hidden
            0x2e, 0xe8, 0, 0, 0, 0,       // 0a cs call __x86_indirect_thunk_rax
            0xe9, 0, 0, 0, 0,             // 10 jmp __x86_return_thunk
        ];
        #[rustfmt::skip]
        let serve = [
            0xe8, 0, 0, 0, 0,             // 00 call __fentry__
            0xe8, 0, 0, 0, 0,             // 05 call quiet
            0xe9, 0, 0, 0, 0,             // 0a jmp __x86_return_thunk
        ];
        let victim = fixture.section(".text.victim", TEXT, &victim);
        let serve = fixture.section(".text.serve", TEXT, &serve);
        let init = fixture.section(".init.text", TEXT, &[0xe8, 0, 0, 0, 0, 0xc3]);
        let strings = fixture.section(
            ".rodata.str1.1",
            ALLOC | STRINGS,
            b"victim\0serve\0driver\0",
        );
        // Two arrays of two `klp_func` of 32 bytes, then three `klp_object` of 16.
        let mut data = vec![0; 0xb0];
        data[0x10] = 2;
        let data = fixture.section(".data", ALLOC | WRITE, &data);
        let mcount = fixture.section("__mcount_loc", ALLOC, &[0; 16]);
        let orc_ip = fixture.section(".orc_unwind_ip", ALLOC, &[0; 12]);
        fixture.section(".orc_unwind", ALLOC, &[0; 18]);
        let returns = fixture.section(".return_sites", ALLOC, &[0; 8]);
        let branches = fixture.section(".retpoline_sites", ALLOC, &[0; 4]);
        let jumps = fixture.section("__jump_table", ALLOC | WRITE, &[0; 16]);
        let bugs = fixture.section("__bug_table", ALLOC | WRITE, &[0; 12]);
        let mut this_module = b"\0\0\0\0\0\0\0\0fixture\0".to_vec();
        this_module.resize(96, 0);
        let this_module = fixture.section(layout::THIS_MODULE, ALLOC | WRITE, &this_module);

        let victim_symbol = fixture.section_symbol(victim);
        let serve_symbol = fixture.section_symbol(serve);
        let init_symbol = fixture.section_symbol(init);
        let string = fixture.section_symbol(strings);
        let data_symbol = fixture.section_symbol(data);
        fixture.function("victim", victim, 0, 21, Binding::Local);
        fixture.function("serve", serve, 0, 15, Binding::Local);
        let key = fixture.object("own_key", data, 0xa0, 16, Binding::Local);
        let start = fixture.function("init_module", init, 0, 6, Binding::Global);
        let stop = fixture.function("cleanup_module", init, 5, 1, Binding::Global);
        let fentry = fixture.undefined("__fentry__");
        let return_thunk = fixture.undefined("__x86_return_thunk");
        let branch_thunk = fixture.undefined("__x86_indirect_thunk_rax");
        let enable = fixture.undefined("klp_enable_patch");
        let hidden = fixture.livepatch(".klp.sym.vmlinux.hidden,0");
        let quiet = fixture.livepatch(".klp.sym.driver.quiet,0");

        let tables: [(&str, SectionIndex, Vec<Relocation>); 11] = [
            (
                ".rela.gnu.linkonce.this_module",
                this_module,
                vec![entry(0x40, start, R_64, 0), entry(0x50, stop, R_64, 0)],
            ),
            (
                ".rela.text.victim",
                victim,
                vec![
                    entry(1, fentry, R_PLT32, -4),
                    entry(0xc, branch_thunk, R_PLT32, -4),
                    entry(0x11, return_thunk, R_PLT32, -4),
                ],
            ),
            (
                ".rela.text.serve",
                serve,
                vec![
                    entry(1, fentry, R_PLT32, -4),
                    entry(0xb, return_thunk, R_PLT32, -4),
                ],
            ),
            (".rela.init.text", init, vec![entry(1, enable, R_PLT32, -4)]),
            (
                ".rela.data",
                data,
                vec![
                    entry(0x00, string, R_64, 0),
                    entry(0x08, victim_symbol, R_64, 0),
                    entry(0x40, string, R_64, 7),
                    entry(0x48, serve_symbol, R_64, 0),
                    // vmlinux has no name.
                    entry(0x78, data_symbol, R_64, 0),
                    entry(0x80, string, R_64, 13),
                    entry(0x88, data_symbol, R_64, 0x40),
                ],
            ),
            (
                ".rela__mcount_loc",
                mcount,
                vec![
                    entry(0, victim_symbol, R_64, 0),
                    entry(8, serve_symbol, R_64, 0),
                ],
            ),
            (
                ".rela.orc_unwind_ip",
                orc_ip,
                vec![
                    entry(0, victim_symbol, R_PC32, 0),
                    entry(4, serve_symbol, R_PC32, 0),
                    entry(8, init_symbol, R_PC32, 0),
                ],
            ),
            (
                ".rela.return_sites",
                returns,
                vec![
                    entry(0, victim_symbol, R_PC32, 0x10),
                    entry(4, serve_symbol, R_PC32, 0xa),
                ],
            ),
            (
                ".rela.retpoline_sites",
                branches,
                vec![entry(0, victim_symbol, R_PC32, 0xa)],
            ),
            (
                ".rela__jump_table",
                jumps,
                vec![
                    entry(0, victim_symbol, R_PC32, 5),
                    entry(4, victim_symbol, R_PC32, 0xa),
                    entry(8, key, 24, 0),
                ],
            ),
            (
                ".rela__bug_table",
                bugs,
                vec![
                    entry(0, victim_symbol, R_PC32, 5),
                    entry(4, string, R_PC32, 0),
                ],
            ),
        ];
        for (name, target, entries) in tables {
            fixture.relocations(name, RELA, target, &entries);
        }
        let vmlinux = [entry(6, hidden, R_PLT32, -4)];
        fixture.relocations(".klp.rela.vmlinux..text.victim", KLP_RELA, victim, &vmlinux);
        let driver = [entry(6, quiet, R_PLT32, -4)];
        fixture.relocations(".klp.rela.driver..text.serve", KLP_RELA, serve, &driver);
        Self {
            fixture,
            modinfo: vec![
                "name=fixture".to_owned(),
                format!("vermagic={VERMAGIC}"),
                "license=GPL".to_owned(),
                "livepatch=Y".to_owned(),
                "depends=".to_owned(),
                "tuxtape_kernel_build_id=deadbeef".to_owned(),
                "tuxtape_func=vmlinux:victim,2".to_owned(),
                "tuxtape_func=driver:serve,0".to_owned(),
            ],
            versions: vec![
                ("module_layout", 0x15),
                ("__fentry__", 0x11),
                ("__x86_return_thunk", 0x12),
                ("__x86_indirect_thunk_rax", 0x13),
                ("klp_enable_patch", 0x14),
            ],
        }
    }

    fn section(&mut self, name: &str) -> &mut crate::elf::fixture::FixtureSection {
        let found = self.fixture.sections.iter_mut();
        found
            .into_iter()
            .find(|section| section.name == name)
            .unwrap()
    }

    fn symbol(&mut self, name: &str) -> &mut crate::elf::fixture::FixtureSymbol {
        let found = self.fixture.symbols.iter_mut();
        found
            .into_iter()
            .find(|symbol| symbol.name == name)
            .unwrap()
    }

    fn symbol_index(&self, name: &str) -> SymbolIndex {
        let found = self
            .fixture
            .symbols
            .iter()
            .position(|symbol| symbol.name == name);
        SymbolIndex(u32::try_from(found.unwrap()).unwrap())
    }

    fn section_index(&self, name: &str) -> SectionIndex {
        let found = self
            .fixture
            .sections
            .iter()
            .position(|section| section.name == name);
        SectionIndex(u32::try_from(found.unwrap()).unwrap())
    }

    /// Overwrites bytes of the n-th relocation of a table.
    fn relocation(&mut self, table: &str, number: usize, at: usize, bytes: &[u8]) {
        let start = number * 24 + at;
        self.section(table).data[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Takes the last relocation of a table and as many bytes of its target.
    fn drop_last(&mut self, table: &str, target: &str, bytes: usize) {
        for (name, bytes) in [(table, 24), (target, bytes)] {
            let data = &mut self.section(name).data;
            data.truncate(data.len() - bytes);
        }
    }

    fn modinfo(&mut self, from: &str, to: &str) {
        let line = self.modinfo.iter_mut().find(|line| *line == from).unwrap();
        to.clone_into(line);
    }

    fn undefined(&mut self, name: &'static str, crc: u64) {
        self.fixture.undefined(name);
        self.versions.push((name, crc));
    }

    fn build(mut self) -> Vec<u8> {
        let mut modinfo = self.modinfo.join("\0").into_bytes();
        modinfo.push(0);
        self.fixture.section(".modinfo", ALLOC, &modinfo);
        let mut versions = Vec::new();
        for (name, crc) in &self.versions {
            let end = versions.len() + 64;
            versions.extend(crc.to_le_bytes());
            versions.extend(name.bytes());
            versions.resize(end, 0);
        }
        self.fixture.section("__versions", ALLOC, &versions);
        self.fixture.build()
    }
}

/// Seeds one fault and expects exactly these problems.
#[track_caller]
fn fault(seed: impl FnOnce(&mut Sample), expected: &[&str]) {
    let mut sample = Sample::new();
    seed(&mut sample);
    let report = World::new().verify(&sample.build());
    let problems: Vec<_> = report.problems.iter().map(Problem::to_string).collect();
    assert_eq!(problems, expected);
}

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

#[test]
fn modinfo_faults() {
    fault(
        |sample| sample.modinfo("livepatch=Y", "livepatch=N"),
        &["livepatch-flag: .modinfo: `livepatch=N`"],
    );
    fault(
        |sample| sample.modinfo("livepatch=Y", "x=Y"),
        &["livepatch-flag: .modinfo: not marked as a livepatch module"],
    );
    fault(
        |sample| sample.modinfo("license=GPL", "license=MIT"),
        &[
            "license: klp_enable_patch: exported to GPL-compatible modules only",
            "license: .modinfo: `MIT`, must be `GPL`",
        ],
    );
    fault(
        |sample| sample.modinfo[1].push('x'),
        &[&format!(
            "vermagic: .modinfo: `{VERMAGIC}x`, this kernel wants `{VERMAGIC}`"
        )],
    );
    fault(
        |sample| {
            sample.modinfo(
                "tuxtape_kernel_build_id=deadbeef",
                "tuxtape_kernel_build_id=deadbeee",
            );
        },
        &["build-id: .modinfo: for kernel deadbeee, this is deadbeef"],
    );
    fault(
        |sample| sample.modinfo("tuxtape_kernel_build_id=deadbeef", "x=y"),
        &["build-id: .modinfo: does not say which kernel it is for"],
    );
}

#[test]
fn a_name_too_long_for_the_kernel_is_refused() {
    let name = "f".repeat(56);
    fault(
        |sample| {
            sample.modinfo[0] = format!("name={name}");
            sample.section(layout::THIS_MODULE).data = {
                let mut data = name.clone().into_bytes();
                data.resize(96, 0);
                data
            };
        },
        &["name: .modinfo: 56 characters, the limit is 55"],
    );
    fault(
        |sample| sample.modinfo[0] = "name=fix-ture".to_owned(),
        &[
            "name: .modinfo: `fix-ture` is not made of letters, digits and `_`",
            "this-module: .gnu.linkonce.this_module: does not carry the name fix-ture",
        ],
    );
}

#[test]
fn another_struct_module_is_refused() {
    fault(
        |sample| sample.section(layout::THIS_MODULE).data.extend([0; 8]),
        &["this-module: .gnu.linkonce.this_module: 104 bytes, this kernel's modules have 96"],
    );
}

#[test]
fn layout_faults() {
    fault(
        |sample| sample.fixture.file_type = 2,
        &["layout: not a relocatable file"],
    );
    fault(
        |sample| sample.symbol("own_key").place = Place::Common,
        &["layout: own_key: in common storage, which the loader refuses"],
    );
    fault(
        |sample| sample.symbol("own_key").size = 0x100,
        &["layout: own_key: reaches beyond its section"],
    );
    fault(
        |sample| sample.symbol("own_key").name = "k".repeat(512),
        &[&format!(
            "layout: {}: its name is longer than kallsyms can hold",
            "k".repeat(512)
        )],
    );
}

#[test]
fn klp_symbol_faults() {
    for name in [
        ".klp.sym.vmlinux.hidden",
        ".klp.sym.vmlinux.hidden,x",
        ".klp.sym.vmlinux.hidden,-1",
        ".klp.sym.vmlinux.hidden,00",
        ".klp.sym.vmlinux.hidden,1 ",
        ".klp.sym..hidden,0",
        ".klp.sym.vmlinux.,0",
    ] {
        fault(
            |sample| name.clone_into(&mut sample.symbol(".klp.sym.vmlinux.hidden,0").name),
            &[&format!(
                "klp-name: {name}: not of the form .klp.sym.OBJECT.NAME,POSITION"
            )],
        );
    }
    for (name, why) in [
        ("vmlinux.absent,0", "vmlinux: not in the symbol table"),
        (
            "vmlinux.victim,0",
            "vmlinux: 2 symbols have this name and no position is given",
        ),
        ("vmlinux.victim,3", "vmlinux: only 2 symbols have this name"),
        (
            "vmlinux.boot,0",
            "in init memory of vmlinux, which is freed",
        ),
    ] {
        let name = format!(".klp.sym.{name}");
        fault(
            |sample| {
                sample
                    .symbol(".klp.sym.vmlinux.hidden,0")
                    .name
                    .clone_from(&name);
            },
            &[&format!("klp-symbol: {name}: {why}")],
        );
    }
}

#[test]
fn a_module_symbol_whose_position_depends_on_init_memory_is_refused() {
    let name = ".klp.sym.driver.twice,1";
    fault(
        |sample| name.clone_into(&mut sample.symbol(".klp.sym.driver.quiet,0").name),
        &[&format!(
            "klp-symbol: {name}: its position changes when driver frees its init memory"
        )],
    );
}

#[test]
fn a_klp_symbol_the_loader_would_resolve_is_refused() {
    fault(
        |sample| sample.symbol(".klp.sym.vmlinux.hidden,0").place = Place::Undefined,
        &[
            "klp-name: .klp.sym.vmlinux.hidden,0: not marked as a livepatch symbol",
            "klp-name: .klp.rela.vmlinux..text.victim+0x6: .klp.sym.vmlinux.hidden,0: not marked as a livepatch symbol",
            "undefined: .klp.sym.vmlinux.hidden,0: exported by nobody",
        ],
    );
}

#[test]
fn klp_section_faults() {
    let table = ".klp.rela.vmlinux..text.victim";
    fault(
        |sample| sample.section(table).flags = RELA | ALLOC,
        &[
            &format!(
                "klp-section: {table}: not flagged for the livepatch core, so the loader would apply it itself"
            ),
            &format!(
                "klp-order: {table}+0x6: .klp.sym.vmlinux.hidden,0: only the livepatch core resolves it, but the loader applies this"
            ),
        ],
    );
    fault(
        |sample| sample.section(table).flags &= !ALLOC,
        &[&format!(
            "klp-section: {table}: lacks the flags ALLOC and INFO_LINK"
        )],
    );
    fault(
        |sample| ".klp.rela.vmlinux..text.other".clone_into(&mut sample.section(table).name),
        &["klp-section: .klp.rela.vmlinux..text.other: applies to section .text.victim"],
    );
    fault(
        |sample| ".klp.rela.vmlinux".clone_into(&mut sample.section(table).name),
        &["klp-section: .klp.rela.vmlinux: not of the form .klp.rela.OBJECT.SECTION"],
    );
}

#[test]
fn a_relocation_for_a_module_that_is_not_patched_is_never_applied() {
    fault(
        |sample| {
            sample.modinfo.retain(|line| !line.contains("driver:serve"));
        },
        &[
            "klp-section: .klp.rela.driver..text.serve: never applied: no function of driver is patched",
            "entry: .data+0x40: serve: patches driver:serve,0, which no tuxtape_func line says or another entry also does",
        ],
    );
}

#[test]
fn vmlinux_symbols_in_module_sections_and_the_reverse_are_refused() {
    fault(
        |sample| {
            let hidden = sample
                .symbol_index(".klp.sym.vmlinux.hidden,0")
                .0
                .to_le_bytes();
            sample.relocation(".klp.rela.driver..text.serve", 0, 12, &hidden);
        },
        &[
            "klp-order: .klp.rela.driver..text.serve+0x6: .klp.sym.vmlinux.hidden,0: vmlinux symbol in a module's relocation section",
        ],
    );
    fault(
        |sample| {
            let quiet = sample
                .symbol_index(".klp.sym.driver.quiet,0")
                .0
                .to_le_bytes();
            sample.relocation(".klp.rela.vmlinux..text.victim", 0, 12, &quiet);
        },
        &[
            "klp-order: .klp.rela.vmlinux..text.victim+0x6: .klp.sym.driver.quiet,0: driver need not be loaded when this is applied",
        ],
    );
}

#[test]
fn export_faults() {
    fault(
        |sample| sample.undefined("nowhere", 0),
        &["undefined: nowhere: exported by nobody"],
    );
    fault(
        |sample| sample.undefined("spaced", 0x16),
        &["namespace: spaced: in namespace SPACE, which is not imported"],
    );
    fault(
        |sample| sample.undefined("key", 0x17),
        &["dependency: key: exported by helper, which is not a declared dependency"],
    );
    fault(
        |sample| sample.versions[1].1 = 0x10,
        &["crc: __versions: __fentry__: checksum 0x00000010, the kernel has 0x00000011"],
    );
    fault(
        |sample| sample.versions[0].1 = 0x10,
        &["crc: __versions: module_layout: checksum 0x00000010, the kernel has 0x00000015"],
    );
    fault(
        |sample| {
            sample.versions.remove(2);
        },
        &["crc: __versions: __x86_return_thunk: no checksum for it"],
    );
    fault(
        |sample| sample.versions.push(("__fentry__", 0x11)),
        &["crc: __versions+0x140: two checksums for one name"],
    );
}

#[test]
fn an_imported_namespace_and_a_declared_dependency_are_fine() {
    fault(
        |sample| {
            sample.undefined("spaced", 0x16);
            sample.undefined("key", 0x17);
            sample.modinfo.push("import_ns=SPACE".to_owned());
            sample.modinfo("depends=", "depends=helper");
        },
        &[],
    );
}

#[test]
fn relocation_faults() {
    let table = ".rela.text.victim";
    fault(
        |sample| sample.relocation(".rela.init.text", 0, 0, &[3]),
        &[
            "relocation: .init.text+0x0: init_module: branches to the next instruction: its relocation is missing",
            "relocation: .rela.init.text+0x3: klp_enable_patch: beyond .init.text, which has 0x6 bytes",
        ],
    );
    fault(
        |sample| sample.relocation(".rela.init.text", 0, 8, &[9]),
        &["relocation: .rela.init.text+0x1: klp_enable_patch: type 9 is not one the loader knows"],
    );
    fault(
        |sample| sample.relocation(".rela.init.text", 0, 8, &[10]),
        &[
            "relocation: .rela.init.text+0x1: klp_enable_patch: an address of the kernel does not fit 32 unsigned bits",
        ],
    );
    fault(
        |sample| sample.section(".text.victim").data[6] = 1,
        &[
            "nonzero-target: .klp.rela.vmlinux..text.victim+0x6: .klp.sym.vmlinux.hidden,0: the bytes it overwrites in .text.victim are not zero",
        ],
    );
    fault(
        |sample| {
            let victim = sample.section_index(".text.victim");
            let enable = sample.symbol_index("klp_enable_patch");
            let entries = [entry(6, enable, R_32S, 0)];
            sample
                .fixture
                .relocations(".rela.again", RELA, victim, &entries);
        },
        &["overlap: .rela.again+0x6: overwrites what .klp.rela.vmlinux..text.victim wrote"],
    );
    fault(
        |sample| sample.relocation(table, 0, 12, &0xffff_ffff_u32.to_le_bytes()),
        &["malformed: malformed object: .rela.text.victim: symbol 0xffffffff is beyond 0x11"],
    );
}

#[test]
fn a_moved_pointer_is_seen() {
    fault(
        |sample| sample.relocation(".rela.data", 4, 0, &[0x79]),
        &[
            "relocation: .rela.data+0x79: .data: is not aligned",
            "overlap: .rela.data+0x80: overwrites what .rela.data wrote",
        ],
    );
}

#[test]
fn a_missing_relocation_is_missed() {
    fault(
        |sample| {
            sample
                .section(".klp.rela.vmlinux..text.victim")
                .data
                .clear();
        },
        &[
            "relocation: .text.victim+0x5: victim: branches to the next instruction: its relocation is missing",
        ],
    );
    fault(
        |sample| sample.section(".rela.orc_unwind_ip").data.truncate(48),
        &[
            "orc: .init.text+0x0: init_module: the stack unwinder has no entry for it",
            "orc: .init.text+0x5: cleanup_module: the stack unwinder has no entry for it",
            "orc: .orc_unwind: 18 bytes for 12 bytes of addresses with 2 relocations",
            "foreign-site: .orc_unwind_ip+0x8: no relocation fills this in",
        ],
    );
    fault(
        |sample| sample.relocation(".rela__bug_table", 1, 8, &[0]),
        &["relocation: .rela__bug_table+0x4: .rodata.str1.1: does nothing"],
    );
    fault(
        |sample| {
            sample
                .section(".rela.gnu.linkonce.this_module")
                .data
                .truncate(24);
        },
        &["this-module: .gnu.linkonce.this_module: no pointer to cleanup_module at offset 0x50"],
    );
}

#[test]
fn patched_functions_must_exist_be_unique_and_be_traceable() {
    fn check(line: &str, expected: &[&str]) {
        let mut sample = Sample::new();
        sample.modinfo(
            "tuxtape_func=vmlinux:victim,2",
            &format!("tuxtape_func={line}"),
        );
        let report = World::new().verify(&sample.build());
        let problems: Vec<_> = report
            .problems
            .iter()
            .filter(|problem| problem.check == Check::Function)
            .map(|problem| problem.why.as_str())
            .collect();
        assert_eq!(problems, expected, "{line}");
    }
    check("vmlinux:guarded,0", &[]);
    check(
        "vmlinux:victim,1",
        &["has no entry for ftrace, so nothing can redirect it"],
    );
    check(
        "vmlinux:hidden,0",
        &["has no entry for ftrace, so nothing can redirect it"],
    );
    check(
        "driver:quiet,0",
        &["has no entry for ftrace, so nothing can redirect it"],
    );
    check(
        "vmlinux:victim,0",
        &["vmlinux: 2 symbols have this name and no position is given"],
    );
    check("vmlinux:absent,0", &["vmlinux: not in the symbol table"]);
    check(
        "vmlinux:boot,0",
        &["in init memory of vmlinux, which is freed"],
    );
    check("elsewhere:victim,2", &["no debug file of elsewhere"]);
    check(
        "victim,2",
        &["not of the form tuxtape_func=OBJECT:NAME,POSITION"],
    );
    check(
        "driver:serve,1",
        &["patched twice under one name and position"],
    );
}

#[test]
fn the_table_of_patched_functions_must_say_what_modinfo_says() {
    fault(
        |sample| sample.section(".data").data[0x10] = 1,
        &[
            "entry: victim: no klp_func entry patches vmlinux:victim,2",
            "entry: .data+0x0: victim: patches vmlinux:victim,1, which no tuxtape_func line says or another entry also does",
        ],
    );
    fault(
        |sample| sample.relocation(".rela.data", 1, 16, &[5]),
        &[
            "entry: .data+0x0: victim: its new code is not the start of a function with a size",
            "mcount: victim: its new code does not start with a call of __fentry__",
        ],
    );
    fault(
        |sample| "klp_disable".clone_into(&mut sample.symbol("klp_enable_patch").name),
        &[
            "undefined: klp_disable: exported by nobody",
            "entry: never calls klp_enable_patch",
        ],
    );
}

#[test]
fn code_without_its_entries_is_refused() {
    fault(
        |sample| sample.drop_last(".rela__mcount_loc", "__mcount_loc", 8),
        &["mcount: .text.serve+0x0: serve: a call of __fentry__ that ftrace does not know of"],
    );
    fault(
        |sample| sample.relocation(".rela__mcount_loc", 1, 16, &[5]),
        &[
            "mcount: .text.serve+0x0: serve: a call of __fentry__ that ftrace does not know of",
            "mcount: __mcount_loc+0x8: .text.serve: does not point to a call of __fentry__",
        ],
    );
    fault(
        |sample| {
            sample.drop_last(".rela.orc_unwind_ip", ".orc_unwind_ip", 4);
            sample.section(".orc_unwind").data.truncate(12);
        },
        &[
            "orc: .init.text+0x0: init_module: the stack unwinder has no entry for it",
            "orc: .init.text+0x5: cleanup_module: the stack unwinder has no entry for it",
        ],
    );
    fault(
        |sample| sample.section(".orc_unwind").data.truncate(12),
        &["orc: .orc_unwind: 12 bytes for 12 bytes of addresses with 3 relocations"],
    );
}

#[test]
fn thunks_without_their_sites_are_refused() {
    fault(
        |sample| sample.drop_last(".rela.return_sites", ".return_sites", 4),
        &[
            "thunk-site: .text.serve+0xa: serve: a thunk is used here and .return_sites does not say so",
        ],
    );
    fault(
        |sample| sample.drop_last(".rela.retpoline_sites", ".retpoline_sites", 4),
        &[
            "thunk-site: .text.victim+0xa: victim: a thunk is used here and .retpoline_sites does not say so",
        ],
    );
    // The site of a prefixed call is its prefix.
    fault(
        |sample| sample.relocation(".rela.retpoline_sites", 0, 16, &[0xb]),
        &[
            "thunk-site: .retpoline_sites+0x0: .text.victim: does not point to a jump or call of its thunk",
            "thunk-site: .text.victim+0xa: victim: a thunk is used here and .retpoline_sites does not say so",
        ],
    );
}

#[test]
fn keys_of_modules_are_refused() {
    let table = ".klp.rela.driver.__jump_table";
    fault(
        |sample| {
            let jumps = sample.section_index("__jump_table");
            let quiet = sample.symbol_index(".klp.sym.driver.quiet,0");
            sample.section(".rela__jump_table").data.truncate(48);
            let entries = [entry(8, quiet, R_64, 0)];
            sample.fixture.relocations(table, KLP_RELA, jumps, &entries);
        },
        &[
            "module-key: __jump_table+0x8: .klp.sym.driver.quiet,0: resolved only when driver is patched, long after its use",
        ],
    );
    fault(
        |sample| {
            sample.undefined("key", 0x17);
            sample.modinfo("depends=", "depends=helper");
            let key = sample.symbol_index("key").0.to_le_bytes();
            sample.relocation(".rela__jump_table", 2, 12, &key);
        },
        &["module-key: __jump_table+0x8: key: a key of module helper"],
    );
}

#[test]
fn tables_about_other_code_are_refused() {
    fault(
        |sample| {
            let enable = sample.symbol_index("klp_enable_patch").0.to_le_bytes();
            sample.relocation(".rela__bug_table", 0, 12, &enable);
        },
        &[
            "foreign-site: __bug_table+0x0: klp_enable_patch: refers to something outside this module",
        ],
    );
    fault(
        |sample| {
            let data = sample.symbol_index("own_key").0.to_le_bytes();
            sample.relocation(".rela__jump_table", 0, 12, &data);
        },
        &["foreign-site: __jump_table+0x0: own_key: does not refer to code"],
    );
    fault(
        |sample| sample.relocation(".rela__jump_table", 1, 16, &[0x7f]),
        &["foreign-site: __jump_table+0x4: .text.victim: refers to a place behind its section"],
    );
}

/// Adds an alternative for `length` bytes of `serve` at offset 5, where it calls `driver`'s `quiet`.
fn with_alternative(sample: &mut Sample, length: u8) {
    let mut table = [0; 12];
    table[10] = length;
    let table = sample.fixture.section(".altinstructions", ALLOC, &table);
    let code = sample
        .fixture
        .section(".altinstr_replacement", TEXT, &[0x90; 8]);
    let serve = sample.symbol_index("serve");
    let replacement = entry(4, sample.fixture.section_symbol(code), R_PC32, 0);
    let entries = [entry(0, serve, R_PC32, 5), replacement];
    sample
        .fixture
        .relocations(".rela.altinstructions", RELA, table, &entries);
}

#[test]
fn a_modules_relocation_in_code_that_alternatives_rewrote_is_refused() {
    fault(|sample| with_alternative(sample, 1), &[]);
    fault(
        |sample| with_alternative(sample, 5),
        &[
            "klp-order: .klp.rela.driver..text.serve+0x6: .klp.sym.driver.quiet,0: alternatives have rewritten this code before it is relocated",
        ],
    );
}

#[test]
fn alternatives_of_an_unknown_kernel_are_refused() {
    fault(
        |sample| {
            with_alternative(sample, 1);
            sample.section(".altinstructions").data.push(0);
            sample.section(".altinstructions").data.extend([0; 4]);
        },
        &["layout: .altinstructions: entries of an unknown size"],
    );
}

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

mod garbled {
    use proptest::prelude::*;

    use super::{Sample, World};

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
            super::verify_anything(&bytes);
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
}
