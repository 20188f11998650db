//! A sound module and the kernel it is for, to seed one fault each.

use super::super::*;
use crate::elf::fixture::{
    ALLOC, Fixture, FixtureSection, FixtureSymbol, KLP_RELA, R_32S, R_64, R_PC32, R_PLT32, RELA,
    STRINGS, TEXT, WRITE,
};
use crate::elf::{Binding, Relocation, SectionIndex, SymbolIndex, SymbolKind};

pub(super) const VERMAGIC: &str = "6.1.0-1-test SMP preempt mod_unload modversions ";
const BUILD_ID: [u8; 4] = [0xde, 0xad, 0xbe, 0xef];

/// Upstream's layouts, but for structures without what only the livepatch core uses.
const STRUCTURES: Structures = Structures {
    patch: structs::PatchLayout {
        size: 32,
        module: 0,
        objects: 8,
        replace: 16,
    },
    object: structs::ObjectLayout {
        size: 48,
        name: 0,
        functions: 8,
        callbacks: 16,
    },
    function: structs::FunctionLayout {
        size: 32,
        old_name: 0,
        new_function: 8,
        position: 16,
    },
    ..structs::UPSTREAM
};

/// A kernel whose `victim` is the second of that name, with a module `driver`.
pub(super) struct World {
    pub(super) vmlinux: Fixture,
    driver: Fixture,
    symvers: String,
}

impl World {
    pub(super) fn new() -> Self {
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

    /// A section of vmlinux.
    pub(super) fn section(&self, name: &str) -> SectionIndex {
        let mut sections = self.vmlinux.sections.iter();
        let found = sections.position(|section| section.name == name);
        SectionIndex(u32::try_from(found.unwrap()).unwrap())
    }

    pub(super) fn verify(&self, module: &[u8]) -> VerifyReport {
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
            retpoline: true,
            orc_header: None,
        };
        let kernel = Kernel {
            vmlinux: &vmlinux,
            modules: &BTreeMap::from([(name("driver"), driver)]),
            symvers: &Symvers::parse(self.symvers.as_bytes()).unwrap(),
            stock: &stock,
            structures: &STRUCTURES,
            build_id: &build_id,
        };
        verify(module, &kernel)
    }
}

pub(super) fn entry(offset: u64, symbol: SymbolIndex, kind: u32, addend: i64) -> Relocation {
    Relocation {
        offset,
        symbol,
        kind,
        addend,
    }
}

/// A sound module: new code for `vmlinux:victim,2` and `driver:serve`, the first calling `hidden` through
/// the livepatch core, an indirect branch, and a return; the second calling `driver`'s `quiet`.
pub(super) struct Sample {
    pub(super) fixture: Fixture,
    pub(super) modinfo: Vec<String>,
    pub(super) versions: Vec<(&'static str, u64)>,
}

impl Sample {
    pub(super) fn new() -> Self {
        let mut fixture = Fixture::new(1);
        #[rustfmt::skip]
        let victim = [
            0xe8, 0, 0, 0, 0,             // 00 call __fentry__
            0xe8, 0, 0, 0, 0,             // 05 call hidden
            0x2e, 0xe8, 0, 0, 0, 0,       // 0a cs call __x86_indirect_thunk_rax
            0xe9, 0, 0, 0, 0,             // 10 jmp __x86_return_thunk
            0x0f, 0x0b,                   // 15 ud2
            0x0f, 0x1f, 0x44, 0, 0,       // 17 a static branch, not taken
            0xeb, 0xf7,                   // 1c jmp 15
        ];
        #[rustfmt::skip]
        let init = [
            0x48, 0xc7, 0xc7, 0, 0, 0, 0, // 00 mov $patch, %rdi
            0xe9, 0, 0, 0, 0,             // 07 jmp klp_enable_patch
            0xe9, 0, 0, 0, 0,             // 0c jmp __x86_return_thunk
        ];
        #[rustfmt::skip]
        let serve = [
            0xe8, 0, 0, 0, 0,             // 00 call __fentry__
            0xe8, 0, 0, 0, 0,             // 05 call quiet
            0xe9, 0, 0, 0, 0,             // 0a jmp __x86_return_thunk
        ];
        let victim = fixture.section(".text.victim", TEXT, &victim);
        let serve = fixture.section(".text.serve", TEXT, &serve);
        let init = fixture.section(".init.text", TEXT, &init);
        let strings = fixture.section(
            ".rodata.str1.1",
            ALLOC | STRINGS,
            b"victim\0serve\0driver\0",
        );
        // Two arrays of two `klp_func`, then three `klp_object`, a `klp_patch` and a key.
        let mut data = vec![0; 0x148];
        data[0x10] = 2;
        data[0x120] = 1;
        let data = fixture.section(".data", ALLOC | WRITE, &data);
        let mcount = fixture.section("__mcount_loc", ALLOC, &[0; 16]);
        let orc_ip = fixture.section(".orc_unwind_ip", ALLOC, &[0; 12]);
        fixture.section(".orc_unwind", ALLOC, &[8, 0, 0, 0, 5, 0].repeat(3));
        let returns = fixture.section(".return_sites", ALLOC, &[0; 12]);
        let branches = fixture.section(".retpoline_sites", ALLOC, &[0; 4]);
        let jumps = fixture.section("__jump_table", ALLOC | WRITE, &[0; 16]);
        let bugs = fixture.section("__bug_table", ALLOC | WRITE, &[0; 12]);
        let mut this_module = vec![0; 24];
        this_module.extend(b"fixture");
        this_module.resize(96, 0);
        let this_module = fixture.section(layout::THIS_MODULE, ALLOC | WRITE, &this_module);

        let victim_symbol = fixture.section_symbol(victim);
        let serve_symbol = fixture.section_symbol(serve);
        let init_symbol = fixture.section_symbol(init);
        let string = fixture.section_symbol(strings);
        let data_symbol = fixture.section_symbol(data);
        let own = fixture.section_symbol(this_module);
        fixture.function("victim", victim, 0, 30, Binding::Local);
        fixture.function("serve", serve, 0, 15, Binding::Local);
        let key = fixture.object("own_key", data, 0x130, 16, Binding::Local);
        let start = fixture.function("init_module", init, 0, 12, Binding::Global);
        let stop = fixture.function("cleanup_module", init, 12, 5, Binding::Global);
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
            (
                ".rela.init.text",
                init,
                vec![
                    entry(8, enable, R_PLT32, -4),
                    entry(3, data_symbol, R_32S, 0x110),
                    entry(0xd, return_thunk, R_PLT32, -4),
                ],
            ),
            (
                ".rela.data",
                data,
                vec![
                    entry(0x00, string, R_64, 0),
                    entry(0x08, victim_symbol, R_64, 0),
                    entry(0x40, string, R_64, 7),
                    entry(0x48, serve_symbol, R_64, 0),
                    // vmlinux has no name.
                    entry(0x88, data_symbol, R_64, 0),
                    entry(0xb0, string, R_64, 13),
                    entry(0xb8, data_symbol, R_64, 0x40),
                    entry(0x110, own, R_64, 0),
                    entry(0x118, data_symbol, R_64, 0x80),
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
                    entry(4, init_symbol, R_PC32, 0xc),
                    entry(8, serve_symbol, R_PC32, 0xa),
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
                    entry(0, victim_symbol, R_PC32, 0x17),
                    entry(4, victim_symbol, R_PC32, 0x15),
                    entry(8, key, 24, 0),
                ],
            ),
            (
                ".rela__bug_table",
                bugs,
                vec![
                    entry(0, victim_symbol, R_PC32, 0x15),
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
                "retpoline=Y".to_owned(),
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

    pub(super) fn section(&mut self, name: &str) -> &mut FixtureSection {
        let found = self.fixture.sections.iter_mut();
        found
            .into_iter()
            .find(|section| section.name == name)
            .unwrap()
    }

    pub(super) fn symbol(&mut self, name: &str) -> &mut FixtureSymbol {
        let found = self.fixture.symbols.iter_mut();
        found
            .into_iter()
            .find(|symbol| symbol.name == name)
            .unwrap()
    }

    pub(super) fn symbol_index(&self, name: &str) -> SymbolIndex {
        let found = self
            .fixture
            .symbols
            .iter()
            .position(|symbol| symbol.name == name);
        SymbolIndex(u32::try_from(found.unwrap()).unwrap())
    }

    pub(super) fn section_index(&self, name: &str) -> SectionIndex {
        let found = self
            .fixture
            .sections
            .iter()
            .position(|section| section.name == name);
        SectionIndex(u32::try_from(found.unwrap()).unwrap())
    }

    /// Overwrites bytes of the n-th relocation of a table.
    pub(super) fn relocation(&mut self, table: &str, number: usize, at: usize, bytes: &[u8]) {
        let start = number * 24 + at;
        self.section(table).data[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Takes the last relocation of a table and as many bytes of its target.
    pub(super) fn drop_last(&mut self, table: &str, target: &str, bytes: usize) {
        for (name, bytes) in [(table, 24), (target, bytes)] {
            let data = &mut self.section(name).data;
            data.truncate(data.len() - bytes);
        }
    }

    pub(super) fn modinfo(&mut self, from: &str, to: &str) {
        let line = self.modinfo.iter_mut().find(|line| *line == from).unwrap();
        to.clone_into(line);
    }

    pub(super) fn undefined(&mut self, name: &'static str, crc: u64) {
        self.fixture.undefined(name);
        self.versions.push((name, crc));
    }

    pub(super) fn build(mut self) -> Vec<u8> {
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
pub(super) fn fault(seed: impl FnOnce(&mut Sample), expected: &[&str]) {
    let mut sample = Sample::new();
    seed(&mut sample);
    let report = World::new().verify(&sample.build());
    let problems: Vec<_> = report.problems.iter().map(Problem::to_string).collect();
    assert_eq!(problems, expected);
}
