//! Modules in the running kernel.

use std::ffi::CString;
use std::io;

use rustix::system::{delete_module, init_module};
use tuxtape_core::identity::BuildId;
use tuxtape_core::module::gnu_build_id;

use super::{KernelFs, read, read_text};

/// A module that is in the kernel's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedModule {
    /// Its name.
    pub name: String,
    /// GNU build-id of the very file it came from; `None` when the kernel does not show it.
    pub build_id: Option<BuildId>,
    /// `live`, `coming` or `going`; `None` when the kernel does not show it.
    pub state: Option<String>,
}

impl KernelFs {
    /// Returns the module called `name`, if it is loaded.
    pub fn loaded_module(&self, name: &str) -> Option<LoadedModule> {
        let folder = self.sys.join("module").join(name);
        // Built-in modules with parameters have a folder too, but no state.
        let state = read_text(&folder.join("initstate")).ok()?;
        let notes = read(&folder.join("notes/.note.gnu.build-id"), 4096).ok();
        Some(LoadedModule {
            name: name.to_owned(),
            build_id: notes.and_then(|notes| gnu_build_id(&notes)),
            state: Some(state),
        })
    }

    /// Returns every loaded module, sorted by name.
    pub fn loaded_modules(&self) -> Vec<LoadedModule> {
        let entries = std::fs::read_dir(self.sys.join("module"));
        let mut modules: Vec<LoadedModule> = entries
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .filter_map(|entry| self.loaded_module(entry.file_name().to_str()?))
            .collect();
        modules.sort_by(|left, right| left.name.cmp(&right.name));
        modules
    }
}

/// Hands the module in `image` to the running kernel. Blocks until its init function returned.
pub fn insert(image: &[u8]) -> io::Result<()> {
    init_module(image, c"").map_err(io::Error::from)
}

/// Removes the module called `name`; `EAGAIN` (`WouldBlock`) while something still uses it.
///
/// Never forces and never waits in the kernel.
pub fn remove(name: &str) -> io::Result<()> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits())
        .map_err(|_| io::ErrorKind::InvalidInput)?;
    delete_module(&name, flags).map_err(io::Error::from)
}
