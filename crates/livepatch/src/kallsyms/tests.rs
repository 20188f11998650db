use super::*;
use crate::elf::fixture::{ALLOC, Fixture, TEXT, WRITE};

fn vmlinux() -> Vec<u8> {
    let mut fixture = Fixture::new(2);
    let text = fixture.section_at(".text", TEXT, &[0xc3; 64], 0x1000);
    let data = fixture.section_at(".data", ALLOC | WRITE, &[0; 64], 0x2000);
    let debug = fixture.section(".comment", 0, &[0; 8]);
    fixture.file("late.c");
    fixture.function("open", text, 0x1020, 8, Binding::Local);
    fixture.file("early.c");
    fixture.function("open", text, 0x1000, 8, Binding::Local);
    fixture.object("open", data, 0x2000, 8, Binding::Local);
    fixture.push(
        "open",
        Place::Section(debug),
        0,
        0,
        SymbolKind::None,
        Binding::Local,
    );
    fixture.function(".Lopen", text, 0x1000, 8, Binding::Local);
    fixture.push(
        "open",
        Place::Absolute,
        1,
        0,
        SymbolKind::None,
        Binding::Local,
    );
    fixture.function("open", text, 0x1010, 8, Binding::Global);
    fixture.function("close", text, 0x1030, 8, Binding::Global);
    fixture.build()
}

fn parent(bytes: &[u8], name: &str) -> Parent<'static> {
    let bytes = bytes.to_vec().leak();
    Parent::new(ObjectName(name.to_owned()), ElfFile::parse(bytes).unwrap()).unwrap()
}

#[test]
fn vmlinux_counts_by_address_over_code_data_local_and_global() {
    let parent = parent(&vmlinux(), "vmlinux");
    let found: Vec<_> = parent
        .positions("open")
        .iter()
        .map(|found| (found.position, found.address))
        .collect();
    assert_eq!(found, [(1, 0x1000), (2, 0x1010), (3, 0x1020), (4, 0x2000)]);
    assert!(parent.positions(".Lopen").is_empty());
}

#[test]
fn a_module_counts_in_file_order() {
    let mut fixture = Fixture::new(1);
    let text = fixture.section(".text", TEXT, &[0xc3; 64]);
    fixture.function("open", text, 0x20, 8, Binding::Local);
    fixture.function("open", text, 0x10, 8, Binding::Local);
    fixture.undefined("open");
    let parent = parent(&fixture.build(), "module");
    let found: Vec<_> = parent
        .positions("open")
        .iter()
        .map(|found| (found.position, found.address))
        .collect();
    assert_eq!(found, [(1, 0x20), (2, 0x10)]);
}

#[test]
fn position_zero_asks_for_the_only_one() {
    let parent = parent(&vmlinux(), "vmlinux");
    assert_eq!(parent.resolve("close", 0).unwrap().address, 0x1030);
    assert_eq!(parent.resolve("open", 0), Err(Unresolved::Ambiguous(4)));
    assert_eq!(parent.resolve("open", 3).unwrap().address, 0x1020);
    assert_eq!(
        parent.resolve("open", 5),
        Err(Unresolved::NoSuchPosition(4))
    );
    assert_eq!(parent.resolve("read", 0), Err(Unresolved::Unknown));
}

#[test]
fn the_position_to_write_is_zero_for_unique_names_only() {
    let parent = parent(&vmlinux(), "vmlinux");
    let position = |name: &str| parent.sympos(parent.global(name).unwrap().index);
    assert_eq!(position("close"), Some(0));
    assert_eq!(position("open"), Some(2));
}

#[test]
fn locals_are_grouped_by_their_source_file() {
    let parent = parent(&vmlinux(), "vmlinux");
    let blocks: Vec<_> = parent
        .file_names()
        .into_iter()
        .flat_map(|name| parent.files_called(name))
        .map(|block| {
            let names = parent.locals_of(&block).map(|symbol| symbol.value);
            (block.name, names.collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(
        blocks,
        [
            ("early.c", vec![0x1000, 0x2000, 0, 0x1000, 1]),
            ("late.c", vec![0x1020]),
        ]
    );
}

/// Opens `bytes` by the index of its collected symbols.
fn indexed(bytes: &[u8], name: &str) -> Parent<'static> {
    let index = Index::write(&parent(bytes, name)).unwrap().leak();
    let file = ElfFile::parse_on_demand(bytes.to_vec().leak()).unwrap();
    let index = Index::read(index).unwrap();
    Parent::indexed(ObjectName(name.to_owned()), file, index).unwrap()
}

/// A vmlinux of so many files, each with functions that others have, too.
fn large() -> Vec<u8> {
    let mut fixture = Fixture::new(2);
    let text = fixture.section_at(".text", TEXT, &[0xc3; 4096], 0x1000);
    for file in 0..30_u64 {
        fixture.file(&format!("file{}.c", file % 7));
        for function in 0..9 {
            let name = format!("f{}", (file * function) % 23);
            let address = 0x1000 + (file * 131 + function * 29) % 4000;
            fixture.function(&name, text, address, 4, Binding::Local);
        }
    }
    for global in 0..40_u64 {
        let name = format!("f{global}");
        fixture.function(&name, text, 0x1000 + global * 64, 8, Binding::Global);
    }
    fixture.build()
}

#[test]
fn an_index_finds_what_was_collected() {
    for (bytes, name) in [(vmlinux(), "vmlinux"), (large(), "vmlinux")] {
        let (one, other) = (parent(&bytes, name), indexed(&bytes, name));
        assert_eq!(one.file_names(), other.file_names());
        for file in one.file_names().into_iter().chain(["", "none.c", "zz.c"]) {
            assert_eq!(one.files_called(file), other.files_called(file), "{file}");
            for block in one.files_called(file) {
                let indices = |parent: &Parent<'static>| -> Vec<_> {
                    let found = parent.locals_of(&block);
                    found.map(|symbol| (symbol.index, symbol.name)).collect()
                };
                assert_eq!(indices(&one), indices(&other));
            }
        }
        let mut names: BTreeSet<&str> = one.file().symbols().iter().map(|s| s.name).collect();
        names.extend(["", "a", "f", "zz"]);
        for name in names {
            assert_eq!(one.positions(name), other.positions(name), "{name}");
            let index = |parent: &Parent<'_>| parent.global(name).map(|found| found.index);
            assert_eq!(index(&one), index(&other), "{name}");
            let first = |parent: &Parent<'_>| {
                let found = parent.first_with_prefix(name, |symbol| symbol.size > 0);
                found.map(|symbol| symbol.name.to_owned())
            };
            assert_eq!(first(&one), first(&other), "{name}");
        }
        for symbol in one.file().symbols() {
            assert_eq!(one.sympos(symbol.index), other.sympos(symbol.index));
        }
    }
}

#[test]
fn an_index_of_another_length_is_none() {
    let bytes = Index::write(&parent(&large(), "vmlinux")).unwrap();
    assert!(Index::read(&bytes).is_some());
    for length in 0..bytes.len() {
        assert!(Index::read(&bytes[..length]).is_none(), "{length}");
    }
    let longer = [bytes.as_slice(), &[0; 4]].concat();
    assert!(Index::read(&longer).is_none());
}

#[test]
fn an_index_of_another_file_finds_nothing_wrong() {
    let index = Index::write(&parent(&large(), "vmlinux")).unwrap().leak();
    let file = ElfFile::parse_on_demand(vmlinux().leak()).unwrap();
    let name = ObjectName("vmlinux".to_owned());
    let parent = Parent::indexed(name, file, Index::read(index).unwrap()).unwrap();
    for name in ["open", "f1", "early.c"] {
        let found = parent.positions(name);
        let named = |symbol| parent.file().symbol_name(symbol) == Some(name);
        assert!(found.iter().all(|found| named(found.symbol)));
    }
}

#[test]
fn a_module_is_no_vmlinux() {
    let bytes = vmlinux();
    let file = ElfFile::parse(&bytes).unwrap();
    assert!(matches!(
        Parent::new(ObjectName("module".to_owned()), file),
        Err(UnusableParent::WrongKind(_))
    ));
}
