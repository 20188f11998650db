//! Where the unpacked parts of one kernel lie in the cache.

use std::path::{Path, PathBuf};

use tuxtape_core::identity::KernelRelease;

/// Paths of one kernel's parts below `CACHE/kernels/RELEASE/`.
///
/// | folder | content |
/// |---|---|
/// | `source/` | the kernel tree, with `.config`, prepared for compiling single units |
/// | `headers/` | the headers packages, unpacked as they are |
/// | `debug/` | the `-dbg` package: vmlinux and modules with DWARF and full symbol tables |
/// | `image/` | the image package: `boot/vmlinuz-RELEASE`, `lib/modules/RELEASE` |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelFiles {
    /// `uname -r` of this kernel.
    pub release: KernelRelease,
    /// `CACHE/kernels/RELEASE`.
    pub top: PathBuf,
    /// Top of the prepared kernel tree.
    pub source: PathBuf,
    /// The exact `.config` from the headers package.
    pub config: PathBuf,
    /// `Module.symvers` from the headers package.
    pub symvers: PathBuf,
    /// vmlinux with DWARF and FILE symbols.
    pub vmlinux: PathBuf,
    /// Folder of the modules with DWARF and full symbol tables (`…/kernel/**/*.ko`).
    pub debug_modules: PathBuf,
    /// The bootable image.
    pub vmlinuz: PathBuf,
    /// Folder of the modules as they are loaded (`lib/modules/RELEASE`).
    pub modules: PathBuf,
}

impl KernelFiles {
    /// Names the paths of `release` below `cache`, whether or not they exist yet.
    pub fn below(cache: &Path, release: &KernelRelease) -> Self {
        let top = cache.join("kernels").join(release.as_str());
        let headers = top
            .join("headers/usr/src")
            .join(format!("linux-headers-{release}"));
        let debug = top.join("debug/usr/lib/debug");
        Self {
            release: release.clone(),
            source: top.join("source"),
            config: headers.join(".config"),
            symvers: headers.join("Module.symvers"),
            vmlinux: debug.join("boot").join(format!("vmlinux-{release}")),
            debug_modules: debug.join("lib/modules").join(release.as_str()),
            vmlinuz: top.join("image/boot").join(format!("vmlinuz-{release}")),
            modules: top.join("image/lib/modules").join(release.as_str()),
            top,
        }
    }

    /// Names the changelog that came with the image.
    pub fn changelog(&self) -> PathBuf {
        let name = format!("linux-image-{}-unsigned", self.release);
        let folder = self.top.join("image/usr/share/doc").join(name);
        folder.join("changelog.Debian.gz")
    }
}
