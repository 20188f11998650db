//! Faults in what a module's code does, and in what its tables say of it.

use super::edit::{Entry, Object};
use super::faults::Seed;

/// `SHF_WRITE`.
const WRITE: u64 = 1;

fn place(value: u64) -> usize {
    usize::try_from(value).unwrap()
}

/// Where a variable of the module's own C file lies in its section.
fn variable(object: &Object, name: &str) -> (usize, usize) {
    let symbol = &object.symbols[object.symbol(name)];
    (place(symbol.value), place(symbol.size))
}

/// Whether an entry refers to a place in the section called `name`.
fn refers_to(object: &Object, name: &str) -> impl Fn(&Entry) -> bool + use<> {
    let sections = object.sections.iter();
    let home = sections
        .into_iter()
        .position(|section| section.name == name);
    let home = u16::try_from(home.unwrap()).unwrap();
    let symbols = object.symbols.iter();
    let own: Vec<bool> = symbols.map(|symbol| symbol.section == home).collect();
    move |entry| own[place(entry.symbol.into())]
}

/// Moves what the n-th relocation of a table refers to.
fn moved(table: String, number: usize, distance: i64) -> Seed<'static> {
    Box::new(move |object| {
        object.relocations(&table, |entries| entries[number].addend += distance);
    })
}

fn byte(section: &'static str, at: usize, change: u8) -> Seed<'static> {
    Box::new(move |object| object.section(section).data[at] ^= change)
}

/// Changes a byte of the entry for the stack unwinder in force inside `text`.
fn unwinder(text: &'static str, at: usize, change: u8) -> Seed<'static> {
    Box::new(move |object| {
        let own = refers_to(object, text);
        let mut number = 0;
        object.relocations(".rela.orc_unwind_ip", |entries| {
            number = entries.iter().position(own).unwrap();
        });
        object.section(".orc_unwind").data[number * 6 + at] ^= change;
    })
}

pub(super) fn faults(text: &'static str) -> Vec<(&'static str, &'static str, Seed<'static>)> {
    let rela = format!(".rela{text}");
    let first_call = {
        let rela = rela.clone();
        move |object: &mut Object, change: &dyn Fn(&mut Entry)| {
            let call = u32::try_from(object.symbol("seq_printf")).unwrap();
            object.relocations(&rela, |entries| {
                change(
                    entries
                        .iter_mut()
                        .find(|entry| entry.symbol == call)
                        .unwrap(),
                );
            });
        }
    };
    let (addend, kind) = (first_call.clone(), first_call);
    vec![
        (
            "klp-struct",
            "a private field of klp_func",
            Box::new(|object: &mut Object| {
                let (at, _) = variable(object, "tuxtape_functions_0");
                object.section(".data").data[at + 40] = 1;
            }) as Seed<'static>,
        ),
        (
            "klp-struct",
            "an array that does not end",
            Box::new(|object| {
                let (at, size) = variable(object, "tuxtape_objects");
                object.section(".data").data[at + size - 1] = 1;
            }),
        ),
        (
            "klp-struct",
            "the klp_patch of another module",
            moved(".rela.data".to_owned(), 0, 8),
        ),
        (
            "klp-struct",
            "a level that does not replace the one before it",
            Box::new(|object| {
                let (at, _) = variable(object, "tuxtape_patch");
                object.section(".data").data[at + 24] = 0;
            }),
        ),
        (
            "entry",
            "new code of another function",
            Box::new(|object| {
                let symbol = object.symbol("version_proc_show");
                "loadavg_proc_show".clone_into(&mut object.symbols[symbol].name);
            }),
        ),
        (
            "init",
            "an init function that calls something else",
            Box::new(|object| {
                let other = u32::try_from(object.symbol("seq_printf")).unwrap();
                let enable = u32::try_from(object.symbol("klp_enable_patch")).unwrap();
                object.relocations(".rela.init.text", |entries| {
                    let entry = entries.iter_mut().find(|entry| entry.symbol == enable);
                    entry.unwrap().symbol = other;
                });
            }),
        ),
        (
            "section-flags",
            "code that could be written to",
            Box::new(move |object| object.section(text).flags |= WRITE),
        ),
        (
            "section-flags",
            "data that could not be written to",
            Box::new(|object| object.section(".data").flags &= !WRITE),
        ),
        (
            "modinfo",
            "a module that does not guard indirect branches",
            Box::new(|object| object.info("retpoline=", "")),
        ),
        (
            "modinfo",
            "an alias, by which programs would load it",
            Box::new(|object| object.info("nothing=", "alias=fs-anything")),
        ),
        (
            "this-module",
            "a field of struct module that is the loader's",
            byte(".gnu.linkonce.this_module", 0x100, 0x41),
        ),
        (
            "branch",
            "a call into the middle of a function",
            Box::new(move |object| addend(object, &|entry| entry.addend += 9)),
        ),
        (
            "operand",
            "an address where a distance belongs",
            Box::new(move |object| kind(object, &|entry| entry.kind = 11)),
        ),
        (
            "reference",
            "an address far behind its variable",
            moved(format!(".klp.rela.vmlinux.{text}"), 0, 1 << 20),
        ),
        (
            "stack",
            "a function that gives another register back",
            Box::new(move |object| {
                let data = &mut object.section(text).data;
                let at = data.iter().rposition(|&byte| byte == 0x5b).unwrap();
                // pop %rbx becomes pop %rax.
                data[at] = 0x58;
            }),
        ),
        (
            "orc",
            "an entry that counts from another place of the stack",
            unwinder(text, 0, 0x10),
        ),
        (
            "orc",
            "an entry that says nothing is known",
            unwinder(text, 4, 5),
        ),
        (
            "orc",
            "an entry about another register",
            unwinder(text, 4, 3),
        ),
        (
            "orc",
            "an entry of a type that does not exist",
            unwinder(text, 5, 0x40),
        ),
        (
            "jump-entry",
            "a static branch in the middle of an instruction",
            moved(".rela__jump_table".to_owned(), 0, 1),
        ),
        (
            "jump-entry",
            "a static branch into the middle of an instruction",
            moved(".rela__jump_table".to_owned(), 1, 1),
        ),
        (
            "jump-entry",
            "a key that is none",
            Box::new(|object| {
                let other = u32::try_from(object.symbol("__this_module")).unwrap();
                object.relocations(".rela__jump_table", |entries| entries[2].symbol = other);
            }),
        ),
        (
            "jump-entry",
            "a branch that stands the wrong way",
            moved(".rela__jump_table".to_owned(), 2, -1),
        ),
        (
            "bug-entry",
            "a breakpoint in place of an instruction",
            Box::new(move |object| {
                let data = &mut object.section(text).data;
                // The first push behind the call of ftrace: of %rbx, or of %r12 with its prefix.
                let at = data.iter().position(|&byte| byte == 0x53).unwrap();
                data[at] = 0xcc;
            }),
        ),
        (
            "layout",
            "data that asks for more than the memory of a module is aligned to",
            Box::new(|object| object.section(".data").alignment = 8192),
        ),
        (
            "bug-entry",
            "an entry about the instruction behind its trap",
            moved(".rela__bug_table".to_owned(), 0, 2),
        ),
        (
            "bug-entry",
            "a warning that is made fatal",
            byte("__bug_table", 10, 1),
        ),
        (
            "bug-entry",
            "a warning that was met before",
            byte("__bug_table", 10, 4),
        ),
    ]
}
