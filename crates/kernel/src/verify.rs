//! Checks a finished module against the kernel it is for.

use std::collections::BTreeMap;

use tuxtape_core::identity::ObjectName;
use tuxtape_livepatch::elf::MalformedObject;
use tuxtape_livepatch::kallsyms::Parent;
use tuxtape_livepatch::symvers::{MalformedSymvers, Symvers};
use tuxtape_livepatch::verify::{self, Kernel, StockModule, VerifyReport};
use tuxtape_sys::map::{Map, MapError};

use crate::build::parents::{self, DebugModules, ParentError};
use crate::build::vmlinux::Vmlinux;
use crate::files::KernelFiles;

/// Why a module could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file of the kernel cannot be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A debug file cannot be used.
    #[error(transparent)]
    Parent(#[from] ParentError),
    /// The list of exports cannot be used.
    #[error(transparent)]
    Symvers(#[from] MalformedSymvers),
    /// A stock module cannot be used.
    #[error("a module of the kernel is not usable")]
    Stock(#[source] MalformedObject),
    /// No stock module says what a module of this kernel looks like.
    #[error("the kernel's debug files hold no module")]
    NoStock,
    /// The debug vmlinux names no build.
    #[error("the debug vmlinux has no build-id")]
    NoBuildId,
    /// Its type data does not say what the module's structures look like.
    #[error("the debug vmlinux has {0}")]
    Structures(&'static str),
}

/// Checks `module` against the kernel in `files`.
pub fn module(files: &KernelFiles, module: &[u8]) -> Result<VerifyReport, VerifyError> {
    let vmlinux = Vmlinux::open(files)?;
    let vmlinux = vmlinux.parent()?;
    let symvers = Symvers::parse(&Map::open(&files.symvers)?)?;
    let modules = DebugModules::below(&files.debug_modules)?;
    with_kernel(module, &vmlinux, &symvers, &modules)
}

/// Checks `module` against a kernel whose files are open.
pub fn with_kernel(
    module: &[u8],
    vmlinux: &Parent<'_>,
    symvers: &Symvers,
    debug: &DebugModules,
) -> Result<VerifyReport, VerifyError> {
    let build_id = verify::build_id(vmlinux.file()).ok_or(VerifyError::NoBuildId)?;
    let stock = stock_module(debug)?;
    let structures = verify::structures(vmlinux.file()).map_err(VerifyError::Structures)?;
    // A file that names nothing readable has problems enough without its objects; one that names an
    // object which is not there is told so by the checks.
    let objects = verify::objects_of(module).unwrap_or_default();
    let maps = debug.map(objects.iter().filter(|object| debug.path(object).is_ok()))?;
    let modules: BTreeMap<ObjectName, Parent<'_>> = maps
        .iter()
        .map(|(object, map)| Ok((object.clone(), parents::parent(object.clone(), map)?)))
        .collect::<Result<_, ParentError>>()?;
    let kernel = Kernel {
        vmlinux,
        modules: &modules,
        symvers,
        stock: &stock,
        structures: &structures,
        build_id: &build_id,
    };
    Ok(verify::verify(module, &kernel))
}

/// What the kernel's own modules share, read from the first one by path.
fn stock_module(debug: &DebugModules) -> Result<StockModule, VerifyError> {
    for path in debug.paths() {
        if let Some(stock) = verify::stock_module(&Map::open(path)?).map_err(VerifyError::Stock)? {
            return Ok(stock);
        }
    }
    Err(VerifyError::NoStock)
}
