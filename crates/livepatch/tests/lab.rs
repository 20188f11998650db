//! Real kernels in `$TUXTAPE_CACHE/kernels/*`.
#![expect(clippy::print_stderr, reason = "a skipped tier says so")]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use tuxtape_core::identity::ObjectName;
use tuxtape_livepatch::elf::ElfFile;
use tuxtape_livepatch::kallsyms::Parent;
use tuxtape_livepatch::symvers::Symvers;
use tuxtape_livepatch::verify::{self, Check, Kernel};
use tuxtape_sys::map::Map;

/// Modules with functions in assembler that jump into each other or keep no stack frame.
const ASSEMBLER: [&str; 5] = [
    "crc32c-intel",
    "kvm-amd",
    "kvm-intel",
    "leds-ss4200",
    "poly1305-x86_64",
];

/// `(release, CACHE/kernels/RELEASE)` of every kernel with its debug package.
fn kernels() -> Vec<(String, PathBuf)> {
    let cache = env::var_os("TUXTAPE_CACHE").map(PathBuf::from);
    let Some(entries) = cache.and_then(|cache| fs::read_dir(cache.join("kernels")).ok()) else {
        eprintln!("skipped: no kernels in $TUXTAPE_CACHE");
        return Vec::new();
    };
    let mut kernels: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().into_string().ok()?, entry.path()))
        })
        .filter(|(release, top)| debug_vmlinux(top, release).exists())
        .collect();
    kernels.sort();
    if kernels.is_empty() {
        eprintln!("skipped: no kernel in $TUXTAPE_CACHE has its debug package");
    }
    kernels
}

fn debug_vmlinux(top: &Path, release: &str) -> PathBuf {
    top.join(format!("debug/usr/lib/debug/boot/vmlinux-{release}"))
}

#[test]
fn lab_vmlinux_positions_are_those_of_the_kernels_own_symbol_map() {
    for (release, top) in kernels() {
        let map = top.join(format!("debug/usr/lib/debug/boot/System.map-{release}"));
        let Ok(map) = fs::read_to_string(&map) else {
            eprintln!("skipped: no {}", map.display());
            continue;
        };
        let vmlinux = Map::open(&debug_vmlinux(&top, &release)).unwrap();
        let file = ElfFile::parse(&vmlinux).unwrap();
        let parent = Parent::new(ObjectName("vmlinux".to_owned()), file).unwrap();
        let mut listed: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for line in map.lines() {
            let mut columns = line.split(' ');
            let address = u64::from_str_radix(columns.next().unwrap(), 16).unwrap();
            // Absolute symbols never reach kallsyms.
            if columns.next().unwrap().eq_ignore_ascii_case("a") {
                continue;
            }
            let name = columns.next().unwrap();
            listed.entry(name).or_default().push(address);
        }
        let mut duplicates = 0;
        for (name, addresses) in &listed {
            if name.starts_with("kallsyms_") {
                continue;
            }
            let ours: Vec<_> = parent
                .positions(name)
                .iter()
                .map(|found| found.address)
                .collect();
            assert_eq!(&ours, addresses, "{release}: {name}");
            duplicates += usize::from(ours.len() > 1);
        }
        assert!(listed.len() > 10_000, "{release}: {}", listed.len());
        assert!(duplicates > 100, "{release}: {duplicates} duplicate names");
    }
}

#[test]
fn lab_debug_modules_order_symbols_like_the_modules_that_are_loaded() {
    for (release, top) in kernels() {
        let debug = top.join(format!("debug/usr/lib/debug/lib/modules/{release}"));
        let image = top.join(format!("image/lib/modules/{release}"));
        let mut compared = 0;
        for relative in modules(&debug.join("kernel")) {
            let Ok(relative) = relative.strip_prefix(&debug).map(Path::to_owned) else {
                continue;
            };
            if !image.join(&relative).exists() {
                continue;
            }
            let order = |path: &Path| -> Vec<(String, u64)> {
                let bytes = Map::open(path).unwrap();
                let file = ElfFile::parse(&bytes).unwrap();
                let name = ObjectName("module".to_owned());
                let parent = Parent::new(name, file).unwrap();
                let mut names: Vec<_> = parent
                    .file()
                    .symbols()
                    .iter()
                    .filter(|symbol| symbol.section().is_some())
                    .map(|symbol| symbol.name)
                    .collect();
                names.sort_unstable();
                names.dedup();
                names
                    .iter()
                    .flat_map(|name| parent.positions(name))
                    .map(|found| {
                        let symbol = parent.file().symbol(found.symbol).unwrap();
                        (symbol.name.to_owned(), found.address)
                    })
                    .collect()
            };
            assert_eq!(
                order(&debug.join(&relative)),
                order(&image.join(&relative)),
                "{release}: {}",
                relative.display()
            );
            compared += 1;
        }
        if compared == 0 {
            eprintln!("skipped: no module of {release} in both packages");
        }
    }
}

#[test]
fn lab_every_module_of_the_kernel_would_load() {
    for (release, top) in kernels() {
        let image = modules(&top.join(format!("image/lib/modules/{release}")));
        let symvers = format!("headers/usr/src/linux-headers-{release}/Module.symvers");
        let stock = image
            .iter()
            .find_map(|path| verify::stock_module(&Map::open(path).unwrap()).unwrap());
        let (Some(stock), Ok(symvers)) = (stock, Map::open(&top.join(symvers))) else {
            eprintln!("skipped: no image or headers of {release}");
            continue;
        };
        let vmlinux = Map::open(&debug_vmlinux(&top, &release)).unwrap();
        let file = ElfFile::parse(&vmlinux).unwrap();
        let build_id = verify::build_id(&file).unwrap();
        let structures = verify::structures(&file).unwrap();
        let kernel = Kernel {
            vmlinux: &Parent::new(ObjectName("vmlinux".to_owned()), file).unwrap(),
            modules: &BTreeMap::new(),
            symvers: &Symvers::parse(&symvers).unwrap(),
            stock: &stock,
            structures: &structures,
            build_id: &build_id,
        };
        for path in &image {
            let bytes = Map::open(path).unwrap();
            let mut report = verify::verify_plain(&bytes, &kernel);
            // What is written in assembler need not look like a compiler's functions.
            let name = path.file_stem().and_then(|name| name.to_str());
            if name.is_some_and(|name| ASSEMBLER.contains(&name)) {
                report.problems.retain(|problem| {
                    !matches!(
                        problem.check,
                        Check::Branch
                            | Check::Reference
                            | Check::Orc
                            | Check::Stack
                            | Check::BugEntry
                    )
                });
            }
            assert_eq!(report.problems, [], "{}", path.display());
            // A stock module is no livepatch: the other half has a word to say about each.
            assert!(!verify::verify(&bytes, &kernel).problems.is_empty());
        }
    }
}

fn modules(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "ko") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
