//! A module that was really built, with one fault each: the verifier catches each by its own rule.

use std::collections::BTreeMap;
use std::fs;

use tuxtape_core::identity::ObjectName;
use tuxtape_kernel::build::parents::{self, DebugModules};
use tuxtape_kernel::produce::Outcome;
use tuxtape_kernel::verify::with_kernel;
use tuxtape_livepatch::elf::{ElfFile, Place, SymbolKind};
use tuxtape_livepatch::kallsyms::Parent;
use tuxtape_livepatch::symvers::Symvers;
use tuxtape_sys::map::Map;

use super::edit::Object;
use super::setup::{Lab, labs};

const UNIT: &str = "fs/proc/version.c";
const TEXT: &str = ".text.version_proc_show";

/// A fix whose module has a static key, an indirect call, a warning, a private symbol of the kernel and a
/// pointer to an exported function.
fn patch(lab: &Lab) -> Vec<u8> {
    let old = fs::read_to_string(lab.kernel.source.join(UNIT)).unwrap();
    let function = "static int version_proc_show(";
    let line = "\tseq_printf(m, linux_proc_banner,";
    assert!(old.contains(function) && old.contains(line));
    let new = old
        .replace(
            function,
            &format!(
                "#include <linux/jump_label.h>\n\
                 static DEFINE_STATIC_KEY_TRUE(lab_key);\n\
                 static void (*lab_say)(struct seq_file *, char) = seq_pad;\n\n{function}"
            ),
        )
        .replace(
            line,
            &format!(
                "\tif (static_branch_likely(&lab_key))\n\
                 \t\tREAD_ONCE(lab_say)(m, 0);\n\
                 \tWARN_ON_ONCE(!v);\n{line}"
            ),
        );
    let diff = similar::TextDiff::from_lines(&old, &new);
    let mut diff = diff.unified_diff();
    let text = diff.header(&format!("a/{UNIT}"), &format!("b/{UNIT}"));
    text.to_string().into_bytes()
}

/// What the faults are made of, found in the kernel at hand.
struct Kernel {
    /// Exported by a module.
    modules_export: (String, String),
    /// In a namespace.
    namespaced: String,
    /// A function of vmlinux that ftrace cannot hook into, under a name of its own.
    untraceable: String,
    /// An exported function without ENDBR64, on kernels with IBT.
    without_endbr: Option<String>,
}

fn kernel(symvers: &[u8], vmlinux: &Parent<'_>) -> Kernel {
    let text = String::from_utf8(symvers.to_vec()).unwrap();
    let exports: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let of_vmlinux = |export: &&Vec<&str>| export[2] == "vmlinux";
    let hooks: Vec<u64> = {
        let file = vmlinux.file();
        let (start, stop) = (
            vmlinux.global("__start_mcount_loc").unwrap(),
            vmlinux.global("__stop_mcount_loc").unwrap(),
        );
        let section = file.section(start.section().unwrap()).unwrap();
        let table = section
            .bytes(start.value - section.address, stop.value - start.value)
            .unwrap();
        let (entries, _) = table.as_chunks::<8>();
        entries
            .iter()
            .map(|entry| u64::from_le_bytes(*entry))
            .collect()
    };
    let code = |name: &str| {
        let symbol = vmlinux.global(name)?;
        let section = vmlinux.file().section(symbol.section()?)?;
        let bytes = section.bytes(symbol.value.checked_sub(section.address)?, 4)?;
        let function = symbol.kind == SymbolKind::Function && section.is_executable();
        (function && symbol.size > 0).then_some((symbol.value, bytes))
    };
    let untraceable = exports
        .iter()
        .filter(of_vmlinux)
        .map(|export| export[1])
        .find(|name| {
            let alone = vmlinux.resolve(name, 0).is_ok();
            code(name)
                .is_some_and(|(at, _)| alone && !hooks.contains(&at) && !hooks.contains(&(at + 4)))
        });
    let endbr: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
    let without_endbr = exports
        .iter()
        .filter(of_vmlinux)
        .filter(|export| !export[1].starts_with("__x86_"))
        .map(|export| export[1])
        .find(|name| code(name).is_some_and(|(_, bytes)| bytes != endbr));
    let enforced = vmlinux.global("__ibt_endbr_seal").is_some();
    let modules = exports
        .iter()
        .find(|export| export[2] != "vmlinux" && export[4].is_empty())
        .unwrap();
    Kernel {
        modules_export: (
            modules[1].to_owned(),
            modules[2].rsplit('/').next().unwrap().to_owned(),
        ),
        namespaced: exports
            .iter()
            .filter(of_vmlinux)
            .find(|export| !export[4].is_empty())
            .unwrap()[1]
            .to_owned(),
        untraceable: untraceable.unwrap().to_owned(),
        without_endbr: without_endbr.filter(|_| enforced).map(ToOwned::to_owned),
    }
}

pub(super) type Seed<'run> = Box<dyn Fn(&mut Object) + 'run>;

/// Every fault, with the rule that is to catch it.
fn faults(kernel: &Kernel) -> Vec<(&'static str, &'static str, Seed<'_>)> {
    let rela = || format!(".rela{TEXT}");
    let klp = || format!(".klp.rela.vmlinux.{TEXT}");
    let banner = ".klp.sym.vmlinux.linux_proc_banner";
    let rename = |object: &mut Object, from: &str, to: &str| {
        let at = object.symbol(from);
        to.clone_into(&mut object.symbols[at].name);
    };
    // The string that a klp_func points to.
    let old_name = |object: &mut Object, to: &[u8]| {
        let from = b"version_proc_show\0";
        let held = object
            .sections
            .iter_mut()
            .filter(|section| section.name.starts_with(".rodata"))
            .find_map(|section| {
                let at = section
                    .data
                    .windows(from.len())
                    .position(|bytes| bytes == from)?;
                Some(&mut section.data[at..at + to.len()])
            });
        held.unwrap().copy_from_slice(to);
    };
    let mut faults: Vec<(&'static str, &'static str, Seed<'_>)> = vec![
        (
            "klp-symbol",
            "wrong position of a symbol",
            Box::new(move |object| {
                rename(object, banner, &format!("{banner},7"));
            }),
        ),
        (
            "klp-symbol",
            "a symbol the kernel does not have",
            Box::new(move |object| {
                rename(object, banner, ".klp.sym.vmlinux.linux_no_banner,0");
            }),
        ),
        (
            "klp-name",
            "a livepatch symbol without a position",
            Box::new(move |object| {
                rename(object, banner, banner);
            }),
        ),
        (
            "klp-name",
            "a livepatch symbol that is not marked as one",
            Box::new(move |object| {
                let at = object.symbol(banner);
                object.symbols[at].section = 0;
            }),
        ),
        (
            "klp-section",
            "livepatch relocations for an object that is not patched",
            Box::new(move |object| {
                object.section(&klp()).name = format!(".klp.rela.nowhere.{TEXT}");
            }),
        ),
        (
            "klp-section",
            "livepatch relocations that name another section",
            Box::new(move |object| {
                ".klp.rela.vmlinux..text.other".clone_into(&mut object.section(&klp()).name);
            }),
        ),
        (
            "klp-order",
            "a symbol of vmlinux in relocations of a module",
            Box::new(move |object| {
                object.section(&klp()).name = format!(".klp.rela.sd_mod.{TEXT}");
                object.info("nothing=", "tuxtape_callback=sd_mod:pre_patch");
            }),
        ),
        (
            "klp-order",
            "a livepatch symbol in relocations that the loader applies",
            Box::new(move |object| {
                let symbol = u32::try_from(object.symbol(banner)).unwrap();
                let call = u32::try_from(object.symbol("seq_printf")).unwrap();
                object.relocations(&rela(), |entries| {
                    let entry = entries.iter_mut().find(|entry| entry.symbol == call);
                    entry.unwrap().symbol = symbol;
                });
            }),
        ),
        (
            "undefined",
            "a symbol that nobody exports",
            Box::new(move |object| {
                rename(object, "seq_printf", "seq_printf_of_nobody");
            }),
        ),
        (
            "crc",
            "the checksum of another kernel",
            Box::new(|object| {
                object.section("__versions").data[0] ^= 1;
            }),
        ),
        (
            "namespace",
            "a symbol of a namespace that is not imported",
            Box::new(move |object| {
                rename(object, "seq_printf", &kernel.namespaced);
            }),
        ),
        (
            "dependency",
            "a symbol of a module that is no dependency",
            Box::new(move |object| {
                rename(object, "seq_printf", &kernel.modules_export.0);
            }),
        ),
        (
            "license",
            "a licence that may not use GPL symbols",
            Box::new(|object| {
                object.info("license=", "license=Proprietary");
            }),
        ),
        (
            "livepatch-flag",
            "no livepatch flag",
            Box::new(|object| object.info("livepatch=", "")),
        ),
        (
            "vermagic",
            "the version magic of another kernel",
            Box::new(|object| {
                object.info(
                    "vermagic=",
                    "vermagic=6.1.0-1-amd64 SMP preempt mod_unload modversions ",
                );
            }),
        ),
        (
            "name",
            "a name that is too long",
            Box::new(|object| {
                object.info("name=", &format!("name={}", "n".repeat(56)));
            }),
        ),
        (
            "build-id",
            "made for another build of the kernel",
            Box::new(|object| {
                object.info("tuxtape_kernel_build_id=", "tuxtape_kernel_build_id=00");
            }),
        ),
        (
            "this-module",
            "a struct module of another size",
            Box::new(|object| {
                let data = &mut object.section(".gnu.linkonce.this_module").data;
                data.extend([0; 64]);
            }),
        ),
        (
            "mcount",
            "an entry for ftrace is missing",
            Box::new(|object| {
                object.drop_last("__mcount_loc", 8);
            }),
        ),
        (
            "orc",
            "no entry for the stack unwinder",
            Box::new(|object| {
                let home = object
                    .sections
                    .iter()
                    .position(|section| section.name == TEXT);
                let home = u16::try_from(home.unwrap()).unwrap();
                let own: Vec<bool> = object
                    .symbols
                    .iter()
                    .map(|symbol| symbol.section == home)
                    .collect();
                let mut kept = Vec::new();
                object.relocations(".rela.orc_unwind_ip", |entries| {
                    entries.retain(|entry| !own[usize::try_from(entry.symbol).unwrap()]);
                    for (entry, offset) in entries.iter_mut().zip((0..).step_by(4)) {
                        entry.offset = offset;
                    }
                    kept.resize(entries.len(), ());
                });
                object
                    .section(".orc_unwind_ip")
                    .data
                    .truncate(kept.len() * 4);
                object.section(".orc_unwind").data.truncate(kept.len() * 6);
            }),
        ),
        (
            "orc",
            "fewer entries than addresses of the unwinder",
            Box::new(|object| {
                let data = &mut object.section(".orc_unwind").data;
                data.truncate(data.len() - 6);
            }),
        ),
        (
            "thunk-site",
            "a return that is not listed",
            Box::new(|object| object.drop_last(".return_sites", 4)),
        ),
        (
            "thunk-site",
            "an indirect call that is not listed",
            Box::new(|object| {
                object.drop_last(".retpoline_sites", 4);
            }),
        ),
        (
            "foreign-site",
            "a table about code of another module",
            Box::new(|object| {
                let other = u32::try_from(object.symbol("seq_printf")).unwrap();
                object.relocations(".rela__bug_table", |entries| entries[0].symbol = other);
            }),
        ),
        (
            "module-key",
            "a static key of a module",
            Box::new(move |object| {
                let (name, module) = &kernel.modules_export;
                rename(object, "seq_printf", name);
                object.info("depends=", &format!("depends={module}"));
                let key = u32::try_from(object.symbol(name)).unwrap();
                object.relocations(".rela__jump_table", |entries| {
                    let entry = entries.iter_mut().find(|entry| entry.offset == 8);
                    entry.unwrap().symbol = key;
                });
            }),
        ),
        (
            "nonzero-target",
            "bytes that a relocation overwrites are not zero",
            Box::new(move |object| {
                let mut at = 0;
                object.relocations(&rela(), |entries| {
                    at = usize::try_from(entries[0].offset).unwrap();
                });
                object.section(TEXT).data[at] = 1;
            }),
        ),
        (
            "relocation",
            "a type of relocation that the loader does not know",
            Box::new(move |object| {
                object.relocations(&rela(), |entries| entries[0].kind = 99);
            }),
        ),
        (
            "relocation",
            "a relocation behind its section",
            Box::new(move |object| {
                object.relocations(&rela(), |entries| {
                    entries.last_mut().unwrap().offset = 1 << 20;
                });
            }),
        ),
        (
            "relocation",
            "a call whose relocation is missing",
            Box::new(move |object| {
                let call = u32::try_from(object.symbol("seq_printf")).unwrap();
                object.relocations(&rela(), |entries| {
                    entries.retain(|entry| entry.symbol != call);
                });
            }),
        ),
        (
            "overlap",
            "two relocations of the same bytes",
            Box::new(move |object| {
                object.relocations(&rela(), |entries| {
                    let mut twice = entries[0];
                    twice.offset += 1;
                    entries.push(twice);
                });
            }),
        ),
        (
            "layout",
            "a symbol that reaches beyond its section",
            Box::new(|object| {
                let at = object.symbol("tuxtape_new_0_0");
                object.symbols[at].size = 1 << 20;
            }),
        ),
        (
            "entry",
            "another name in the table of functions than declared",
            Box::new(move |object| {
                old_name(object, b"version_proc_shop\0");
            }),
        ),
        (
            "entry",
            "another position in the table of functions than declared",
            Box::new(|object| {
                object.info("tuxtape_func=", "tuxtape_func=vmlinux:version_proc_show,1");
            }),
        ),
        (
            "function",
            "a function the kernel does not have",
            Box::new(move |object| {
                object.info("tuxtape_func=", "tuxtape_func=vmlinux:version_proc_shop,0");
                old_name(object, b"version_proc_shop\0");
            }),
        ),
        (
            "function",
            "a function that ftrace cannot hook into",
            Box::new(move |object| {
                object.info(
                    "tuxtape_func=",
                    &format!("tuxtape_func=vmlinux:{},0", kernel.untraceable),
                );
            }),
        ),
        (
            "function",
            "one function twice",
            Box::new(|object| {
                object.info("nothing=", "tuxtape_func=vmlinux:version_proc_show,1");
            }),
        ),
        (
            "malformed",
            "a symbol index that is not in the table",
            Box::new(move |object| {
                object.relocations(&rela(), |entries| entries[0].symbol = 1 << 30);
            }),
        ),
    ];
    faults.extend(super::faults_code::faults(TEXT));
    if let Some(name) = &kernel.without_endbr {
        faults.extend([
            (
                "padding",
                "code in the padding before a function",
                Box::new(|object: &mut Object| {
                    object.section(TEXT).data[3] = 0xcc;
                }) as Seed<'_>,
            ),
            (
                "call-site",
                "a call that is not listed",
                Box::new(|object: &mut Object| {
                    let home = object
                        .sections
                        .iter()
                        .position(|section| section.name == TEXT);
                    let home = u16::try_from(home.unwrap()).unwrap();
                    let own: Vec<bool> = object
                        .symbols
                        .iter()
                        .map(|symbol| symbol.section == home)
                        .collect();
                    let mut count = 0;
                    object.relocations(".rela.call_sites", |entries| {
                        // The first of the function is ftrace's.
                        let of_function = |entry: &&mut super::edit::Entry| {
                            own[usize::try_from(entry.symbol).unwrap()]
                        };
                        let last = entries
                            .iter_mut()
                            .filter(of_function)
                            .map(|entry| entry.offset)
                            .max();
                        entries.retain(|entry| Some(entry.offset) != last);
                        for (entry, offset) in entries.iter_mut().zip((0..).step_by(4)) {
                            entry.offset = offset;
                        }
                        count = entries.len();
                    });
                    object.section(".call_sites").data.truncate(count * 4);
                }),
            ),
            (
                "sealed-target",
                "a pointer to where no branch may land",
                Box::new(move |object: &mut Object| {
                    rename(object, "seq_pad", name);
                }),
            ),
        ]);
    }
    faults
}

#[test]
fn lab_each_seeded_fault_is_caught_by_its_own_rule() {
    for lab in labs() {
        let release = &lab.kernel.release;
        let outcome = lab.build("lab_faults", &patch(&lab)).unwrap();
        let Outcome::Built(module) = outcome else {
            panic!("{release}: {outcome:?}");
        };
        let map = Map::open(&lab.kernel.vmlinux).unwrap();
        let vmlinux = ObjectName(ObjectName::VMLINUX.to_owned());
        let vmlinux = parents::parent(vmlinux, &map).unwrap();
        let symvers = fs::read(&lab.kernel.symvers).unwrap();
        let facts = kernel(&symvers, &vmlinux);
        let symvers = Symvers::parse(&symvers).unwrap();
        let modules = DebugModules::below(&lab.kernel.debug_modules).unwrap();
        let verify = |bytes: &[u8]| -> Vec<String> {
            let report = with_kernel(bytes, &vmlinux, &symvers, &modules).unwrap();
            report.problems.iter().map(ToString::to_string).collect()
        };
        assert_eq!(verify(&module.bytes), [""; 0], "{release}: as it was built");
        let object = Object::read(&module.bytes);
        assert!(object.has(".retpoline_sites"), "{release}");
        assert_eq!(
            verify(&object.clone().write()),
            [""; 0],
            "{release}: put together again"
        );
        let parsed = ElfFile::parse(&module.bytes).unwrap();
        assert!(
            parsed
                .symbols()
                .iter()
                .any(|symbol| symbol.place == Place::Livepatch)
        );
        let mut caught: BTreeMap<&str, usize> = BTreeMap::new();
        let mut missed = Vec::new();
        eprintln!("{release}");
        for (rule, fault, seed) in faults(&facts) {
            let mut object = object.clone();
            seed(&mut object);
            let problems = verify(&object.write());
            let own = problems
                .iter()
                .find(|problem| problem.starts_with(&format!("{rule}: ")));
            match own {
                Some(problem) => {
                    *caught.entry(rule).or_default() += 1;
                    eprintln!("| {fault} | {rule} | {} | {problem}", problems.len());
                }
                None => missed.push(format!("{fault}: want {rule}, have {problems:?}")),
            }
        }
        // A file that ends early names no rule of the loader's but the first.
        let cut = &module.bytes[..module.bytes.len() - 100];
        let problems = verify(cut);
        assert!(
            problems
                .iter()
                .any(|problem| problem.starts_with("malformed: ")),
            "{problems:?}"
        );
        assert_eq!(missed, [""; 0], "{release}");
        assert!(caught.len() >= 20, "{release}: {} rules", caught.len());
    }
}
