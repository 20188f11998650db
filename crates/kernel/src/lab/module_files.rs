//! Kernel modules of a package: where they lie, what they need, and what a livepatch says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use tuxtape_core::identity::ObjectName;
use tuxtape_sys::process::{self, ProcessError};

/// A module larger than this is no module.
const MODULE_LIMIT: u64 = 256 << 20;
const UNPACK_LIMIT: Duration = Duration::from_secs(60);

/// The modules of one kernel, by kernel name.
#[derive(Clone, Debug)]
pub struct ModuleFiles {
    top: PathBuf,
    paths: BTreeMap<ObjectName, PathBuf>,
    builtin: BTreeSet<ObjectName>,
}

/// Why a module cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// Neither a module of this kernel nor built in.
    #[error("{top} has no module {name}", top = .top.display())]
    Unknown {
        /// The name asked for.
        name: ObjectName,
        /// Where it was looked for.
        top: PathBuf,
    },
    /// A file could not be read.
    #[error("could not read {path}", path = .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The decompressor failed.
    #[error("could not decompress {path}", path = .path.display())]
    Unpack {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ProcessError,
    },
    /// Not an ELF file with a `.modinfo` section, or one beyond all bounds.
    #[error("{path} is no kernel module: {why}", path = .path.display())]
    NotAModule {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// One module ready for an initramfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loadable {
    /// Its kernel name.
    pub name: ObjectName,
    /// The file as the kernel takes it: not compressed.
    pub bytes: Vec<u8>,
}

impl ModuleFiles {
    /// Lists the modules below `lib/modules/RELEASE`. Needs no `modules.dep`: a package has none
    /// before it is installed.
    pub fn below(top: &Path) -> Result<Self, ModuleError> {
        let mut paths = BTreeMap::new();
        let mut folders = vec![top.join("kernel")];
        while let Some(folder) = folders.pop() {
            let failed = |source| ModuleError::Read {
                path: folder.clone(),
                source,
            };
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let kind = entry.file_type().map_err(failed)?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if let Some(name) = module_name(&entry.path()) {
                    paths.insert(name, entry.path());
                }
            }
        }
        let list = fs::read_to_string(top.join("modules.builtin")).unwrap_or_default();
        let builtin = list
            .lines()
            .filter_map(|line| module_name(Path::new(line)))
            .collect();
        Ok(Self {
            top: top.to_owned(),
            paths,
            builtin,
        })
    }

    /// Tells whether the kernel image holds what could have been the module `name`.
    pub fn is_builtin(&self, name: &ObjectName) -> bool {
        self.builtin.contains(name)
    }

    /// Tells whether this kernel has a module `name`.
    pub fn has(&self, name: &ObjectName) -> bool {
        self.paths.contains_key(name)
    }

    /// Returns `names` and all they depend on, each once, every module after those it needs. What is
    /// built in is left out.
    pub fn with_dependencies(&self, names: &[ObjectName]) -> Result<Vec<Loadable>, ModuleError> {
        let mut done = BTreeSet::new();
        let mut order = Vec::new();
        for name in names {
            self.visit(name, &mut done, &mut order)?;
        }
        Ok(order)
    }

    fn visit(
        &self,
        name: &ObjectName,
        done: &mut BTreeSet<ObjectName>,
        order: &mut Vec<Loadable>,
    ) -> Result<(), ModuleError> {
        // Inserted before its dependencies are visited, so that a circle ends.
        if self.is_builtin(name) || !done.insert(name.clone()) {
            return Ok(());
        }
        let path = self.paths.get(name).ok_or_else(|| ModuleError::Unknown {
            name: name.clone(),
            top: self.top.clone(),
        })?;
        let bytes = read_module(path)?;
        let facts = ModuleFacts::read(&bytes, path)?;
        for wanted in &facts.wanted_before {
            // A wish, and often an alias: what nobody provides is no error, as for modprobe.
            if let Some(provider) = self.provider(wanted)? {
                self.visit(&provider, done, order)?;
            }
        }
        for needed in &facts.depends {
            self.visit(needed, done, order)?;
        }
        order.push(Loadable {
            name: name.clone(),
            bytes,
        });
        Ok(())
    }

    /// Finds the module called `wanted`, else one that has it as an alias.
    fn provider(&self, wanted: &str) -> Result<Option<ObjectName>, ModuleError> {
        let name = kernel_name(wanted);
        if self.has(&name) || self.is_builtin(&name) {
            return Ok(Some(name));
        }
        for (name, path) in &self.paths {
            // Compressed modules are not searched: hundreds of decompressions for a wish.
            if path.extension().is_some_and(|extension| extension == "ko") {
                let facts = ModuleFacts::read(&read_module(path)?, path)?;
                if facts.aliases.iter().any(|alias| alias == wanted) {
                    return Ok(Some(name.clone()));
                }
            }
        }
        Ok(None)
    }
}

/// What a module's own file says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleFacts {
    /// `name=`.
    pub name: Option<ObjectName>,
    /// `vermagic=`; its first word is the kernel release.
    pub vermagic: Option<String>,
    /// `depends=`.
    pub depends: Vec<ObjectName>,
    /// `softdep=pre: …`.
    pub wanted_before: Vec<String>,
    /// `alias=`.
    pub aliases: Vec<String>,
    /// `livepatch=Y`.
    pub is_livepatch: bool,
    /// `tuxtape_objects=`: the objects this livepatch patches, as its builder wrote them.
    pub declared_objects: Option<Vec<ObjectName>>,
    /// Objects that occur in `.klp.rela.OBJECT.` sections and `.klp.sym.OBJECT.` symbols: some of
    /// those it patches, not always all.
    pub referenced_objects: BTreeSet<ObjectName>,
}

impl ModuleFacts {
    /// Reads an uncompressed module; `path` is for messages.
    pub fn read(bytes: &[u8], path: &Path) -> Result<Self, ModuleError> {
        let failed = |why: String| ModuleError::NotAModule {
            path: path.to_owned(),
            why,
        };
        let file = object::File::parse(bytes).map_err(|error| failed(error.to_string()))?;
        let section = file
            .section_by_name(".modinfo")
            .ok_or_else(|| failed("it has no .modinfo section".to_owned()))?;
        let text = section.data().map_err(|error| failed(error.to_string()))?;
        let mut facts = Self::default();
        for field in text.split(|byte| *byte == 0) {
            if let Some((key, value)) = String::from_utf8_lossy(field).split_once('=') {
                facts.take(key, value);
            }
        }
        if facts.is_livepatch {
            let sections = file
                .sections()
                .filter_map(|section| referenced(section.name().ok()?, ".klp.rela."));
            let symbols = file
                .symbols()
                .filter_map(|symbol| referenced(symbol.name().ok()?, ".klp.sym."));
            facts.referenced_objects = sections.chain(symbols).collect();
        }
        Ok(facts)
    }

    fn take(&mut self, key: &str, value: &str) {
        let words = |value: &str| {
            value
                .split(',')
                .filter(|word| !word.is_empty())
                .map(kernel_name)
                .collect::<Vec<_>>()
        };
        match key {
            "name" => self.name = Some(ObjectName(value.to_owned())),
            "vermagic" => self.vermagic = Some(value.to_owned()),
            "depends" => self.depends = words(value),
            "alias" => self.aliases.push(value.to_owned()),
            "livepatch" => self.is_livepatch = true,
            "tuxtape_objects" => self.declared_objects = Some(words(value)),
            "softdep" => {
                let mut before = false;
                for word in value.split_ascii_whitespace() {
                    match word {
                        "pre:" => before = true,
                        "post:" => before = false,
                        word if before => self.wanted_before.push(word.to_owned()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    /// Returns the objects it patches as far as its file tells: as declared, else as referenced.
    pub fn objects(&self) -> Vec<ObjectName> {
        match &self.declared_objects {
            Some(objects) => objects.clone(),
            None => self.referenced_objects.iter().cloned().collect(),
        }
    }
}

/// Reads a module, decompressed where its name ends in `.xz`, `.zst` or `.gz`. Blocks on a
/// decompressor for at most a minute.
pub fn read_module(path: &Path) -> Result<Vec<u8>, ModuleError> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return read_bounded(path),
    };
    process::run_ok(Command::new(program).arg("-dc").arg(path), UNPACK_LIMIT)
        .map(|finished| finished.stdout)
        .map_err(|source| ModuleError::Unpack {
            path: path.to_owned(),
            source,
        })
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, ModuleError> {
    let failed = |source| ModuleError::Read {
        path: path.to_owned(),
        source,
    };
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MODULE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MODULE_LIMIT {
        return Err(ModuleError::NotAModule {
            path: path.to_owned(),
            why: format!("it is larger than {MODULE_LIMIT} bytes"),
        });
    }
    Ok(bytes)
}

/// `.klp.rela.sd_mod..text.f`: the object is what stands before the next dot.
fn referenced(name: &str, start: &str) -> Option<ObjectName> {
    let (object, _) = name.strip_prefix(start)?.split_once('.')?;
    (!object.is_empty()).then(|| ObjectName(object.to_owned()))
}

/// `kernel/drivers/scsi/sd_mod.ko.xz` is `sd_mod`.
fn module_name(path: &Path) -> Option<ObjectName> {
    let file = path.file_name()?.to_str()?;
    let (stem, rest) = file.split_once(".ko")?;
    matches!(rest, "" | ".xz" | ".zst" | ".gz").then(|| kernel_name(stem))
}

fn kernel_name(text: &str) -> ObjectName {
    ObjectName(text.trim().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_gives_the_kernels_name() {
        for (path, name) in [
            ("kernel/drivers/scsi/sd_mod.ko", Some("sd_mod")),
            (
                "kernel/crypto/crct10dif-pclmul.ko.xz",
                Some("crct10dif_pclmul"),
            ),
            ("modules.order", None),
            ("x.ko.bak", None),
        ] {
            assert_eq!(
                module_name(Path::new(path)).map(|name| name.0),
                name.map(ToOwned::to_owned)
            );
        }
    }

    #[test]
    fn modinfo_fields_become_facts() {
        let mut facts = ModuleFacts::default();
        for (key, value) in [
            ("depends", "scsi_mod,t10-pi,"),
            ("softdep", "pre: crc32c post: later pre: b"),
            ("tuxtape_objects", "vmlinux,sd_mod"),
            ("livepatch", "Y"),
        ] {
            facts.take(key, value);
        }
        let names =
            |list: &[ObjectName]| list.iter().map(|name| name.0.clone()).collect::<Vec<_>>();
        assert_eq!(names(&facts.depends), ["scsi_mod", "t10_pi"]);
        assert_eq!(facts.wanted_before, ["crc32c", "b"]);
        assert_eq!(names(&facts.objects()), ["vmlinux", "sd_mod"]);
        assert!(facts.is_livepatch);
    }

    #[test]
    fn klp_names_give_objects() {
        assert_eq!(
            referenced(".klp.rela.vmlinux..text.f", ".klp.rela."),
            Some(ObjectName("vmlinux".into()))
        );
        assert_eq!(
            referenced(".klp.sym.sd_mod.sd_probe,0", ".klp.sym."),
            Some(ObjectName("sd_mod".into()))
        );
        assert_eq!(referenced(".klp.rela.", ".klp.rela."), None);
    }

    #[test]
    fn garbage_is_no_module() {
        for bytes in [&b""[..], b"\x7fELF", &[0; 4096]] {
            let error = ModuleFacts::read(bytes, Path::new("x.ko")).unwrap_err();
            assert!(
                error.to_string().starts_with("x.ko is no kernel module"),
                "{error}"
            );
        }
    }

    /// An object file with nothing but a `.modinfo` section.
    fn module(fields: &[&str]) -> Vec<u8> {
        use object::write::{Object, StandardSegment};
        let mut file = Object::new(
            object::BinaryFormat::Elf,
            object::Architecture::X86_64,
            object::Endianness::Little,
        );
        let segment = file.segment_name(StandardSegment::Data).to_vec();
        let section = file.add_section(
            segment,
            b".modinfo".to_vec(),
            object::SectionKind::ReadOnlyData,
        );
        file.append_section_data(section, fields.join("\0").as_bytes(), 1);
        file.write().unwrap()
    }

    fn tree(files: &[(&str, &[&str])], builtin: &str) -> (tempfile::TempDir, ModuleFiles) {
        let folder = tempfile::tempdir().unwrap();
        for (path, fields) in files {
            let path = folder.path().join("kernel").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, module(fields)).unwrap();
        }
        fs::write(folder.path().join("modules.builtin"), builtin).unwrap();
        let modules = ModuleFiles::below(folder.path()).unwrap();
        (folder, modules)
    }

    fn order(modules: &ModuleFiles, name: &str) -> Result<Vec<String>, ModuleError> {
        let loadable = modules.with_dependencies(&[ObjectName(name.to_owned())])?;
        Ok(loadable.into_iter().map(|module| module.name.0).collect())
    }

    #[test]
    fn a_module_comes_after_all_it_needs() {
        let (_folder, modules) = tree(
            &[
                (
                    "drivers/sd_mod.ko",
                    &["depends=scsi_mod,t10-pi", "softdep=pre: nobody"],
                ),
                ("drivers/scsi_mod.ko", &["depends=scsi_common"]),
                ("lib/scsi_common.ko", &["depends="]),
                ("block/t10-pi.ko", &["depends=crc_t10dif,inside"]),
                ("lib/crc-t10dif.ko", &["softdep=pre: crct10dif"]),
                ("crypto/crct10dif_generic.ko", &["alias=crct10dif"]),
            ],
            "kernel/lib/inside.ko\n",
        );
        assert_eq!(
            order(&modules, "sd_mod").unwrap(),
            [
                "scsi_common",
                "scsi_mod",
                "crct10dif_generic",
                "crc_t10dif",
                "t10_pi",
                "sd_mod"
            ]
        );
        assert_eq!(order(&modules, "inside").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_circle_ends_and_a_missing_one_is_named() {
        let (_folder, modules) = tree(
            &[
                ("a.ko", &["depends=b"]),
                ("b.ko", &["depends=a"]),
                ("c.ko", &["depends=d"]),
            ],
            "",
        );
        assert_eq!(order(&modules, "a").unwrap(), ["b", "a"]);
        let error = order(&modules, "c").unwrap_err();
        assert!(error.to_string().ends_with("has no module d"), "{error}");
    }

    #[test]
    fn a_compressed_module_is_unpacked() {
        let (folder, _) = tree(&[("a.ko", &["depends=", "name=a"])], "");
        let path = folder.path().join("kernel/a.ko");
        let plain = fs::read(&path).unwrap();
        let packed = Command::new("gzip").arg(&path).status().unwrap();
        assert!(packed.success());
        let modules = ModuleFiles::below(folder.path()).unwrap();
        let loadable = modules
            .with_dependencies(&[ObjectName("a".to_owned())])
            .unwrap();
        assert_eq!(loadable[0].bytes, plain);
    }
}
