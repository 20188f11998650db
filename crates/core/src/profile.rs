//! What TuxTape knows of one kernel build.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::identity::{KernelId, ObjectName};

/// Facts of one kernel build, enough to gauge CVEs without its packages at hand.
///
/// Paths are relative to the top of the kernel tree (`net/core/dev.c`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelProfile {
    /// The build this describes.
    pub id: KernelId,
    /// Upstream point release the source sits on before the distribution's own changes, `6.1.170`.
    pub base_version: String,
    /// Where it came from and which source it was built from.
    pub origin: ProfileOrigin,
    /// `CONFIG_CC_VERSION_TEXT`, which must equal the compiler used for livepatches.
    pub compiler: String,
    /// Configuration facts that decide whether and how this kernel can be livepatched.
    pub config: ConfigFacts,
    /// Compiled units and the objects each went into.
    pub units: BTreeMap<String, BTreeSet<ObjectName>>,
    /// Files that gave code to a unit without being one: included `.c` files and headers with
    /// inlined code, each with the objects they reached. A header absent here may still have been
    /// included for its types or macros alone.
    pub contributors: BTreeMap<String, BTreeSet<ObjectName>>,
    /// Every file of the kernel's source tree under the folders CVE records name, to tell "not
    /// built" from "not in this tree". Sorted.
    pub tree_files: BTreeSet<String>,
    /// Number of functions with a symbol in vmlinux and its modules.
    pub functions: u64,
}

/// Where a profile came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileOrigin {
    /// The SPEC it was added by, `debian:6.1.0-47-cloud-amd64`.
    pub spec: String,
    /// Source package and version, `linux-source-6.1 6.1.170-3`.
    pub source: String,
}

/// Configuration facts read from the kernel's own `.config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFacts {
    /// `CONFIG_LIVEPATCH`.
    pub livepatch: bool,
    /// `CONFIG_X86_KERNEL_IBT`.
    pub ibt: bool,
    /// `CONFIG_MODVERSIONS`.
    pub modversions: bool,
    /// `CONFIG_LTO_*` other than none.
    pub lto: bool,
    /// `CONFIG_RANDSTRUCT` or the older plugin option.
    pub randstruct: bool,
    /// `CONFIG_KALLSYMS_ALL`.
    pub kallsyms_all: bool,
    /// `CONFIG_UNWINDER_ORC`.
    pub unwinder_orc: bool,
    /// `CONFIG_MODULE_SIG_FORCE`.
    pub module_sig_force: bool,
    /// `CONFIG_TRIM_UNUSED_KSYMS`.
    pub trim_unused_ksyms: bool,
}
