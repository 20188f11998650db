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
        .file_blocks()
        .iter()
        .map(|block| {
            let names = parent.locals_of(block).iter().map(|symbol| symbol.value);
            (block.name, names.collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(
        blocks,
        [
            ("late.c", vec![0x1020]),
            ("early.c", vec![0x1000, 0x2000, 0, 0x1000, 1])
        ]
    );
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
