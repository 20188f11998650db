//! What TuxTape knows of one kernel build.

pub mod functions;
pub mod taken;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::git_id::GitId;
use crate::identity::{Arch, BuildId, KernelRelease, ObjectName};

use self::taken::TakenIn;

/// Facts of one kernel build, enough to gauge CVEs without its packages at hand.
///
/// Paths are relative to the top of the kernel tree (`net/core/dev.c`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelProfile {
    /// The build this describes.
    pub id: ProfileId,
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
    /// Number of functions with a symbol in vmlinux and its modules; 0 where no image was read.
    pub functions: u64,
    /// How the compiled units were learned, and what that way cannot see.
    pub sureness: Sureness,
    /// Files outside of the shared folders of headers that a compiled file could read; `None` where that
    /// was not looked for. A header that is absent here was in no unit.
    pub readable: Option<BTreeSet<String>>,
    /// The commit its source is, where it is one without a change.
    pub git: Option<GitOrigin>,
    /// What its distribution says that it took in by itself, beside what the base version has; `None`
    /// where no changelog was read.
    pub taken_in: Option<TakenIn>,
}

/// Which build a profile describes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileId {
    /// Architecture.
    pub arch: Arch,
    /// `uname -r`.
    pub release: KernelRelease,
    /// Build-id of its vmlinux; `None` where no image was seen. Such a kernel can be gauged, and
    /// nothing can be built for it.
    pub build_id: Option<BuildId>,
}

/// How the compiled units of a profile were learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// From the debug data of vmlinux and its modules: what left code in them, and nothing else.
    DebugData,
    /// From the `.cmd` files of a finished build: every compiled unit and every file it read.
    CommandFiles,
    /// By evaluating Makefiles with a `.config`, without a build.
    Evaluation,
}

/// What a profile can and cannot see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sureness {
    /// How the units were learned.
    pub way: Way,
    /// Whether `contributors` names every header that any unit read, not only those with code. Then
    /// a header of the tree that is absent there was in no unit.
    pub all_headers: bool,
    /// Folders (with `/` at the end) and files of which it could not be told whether they are
    /// compiled, each with the reason for a person. A file below one is `unknown`, never "not built".
    pub blind: BTreeMap<String, String>,
}

impl Way {
    /// Returns its fixed name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DebugData => "debug-data",
            Self::CommandFiles => "command-files",
            Self::Evaluation => "evaluation",
        }
    }

    /// Says in a few words where the units were learned from.
    pub fn says(self) -> &'static str {
        match self {
            Self::DebugData => "the debug data of vmlinux and its modules",
            Self::CommandFiles => "the .cmd files of a finished build",
            Self::Evaluation => "Makefiles and .config, without a build",
        }
    }
}

impl KernelProfile {
    /// Returns a profile that knows nothing of `id` but its base version.
    pub fn blank(id: ProfileId, base_version: &str, way: Way) -> Self {
        Self {
            id,
            base_version: base_version.to_owned(),
            origin: ProfileOrigin {
                spec: String::new(),
                source: String::new(),
            },
            compiler: String::new(),
            config: ConfigFacts::default(),
            units: BTreeMap::new(),
            contributors: BTreeMap::new(),
            tree_files: BTreeSet::new(),
            functions: 0,
            sureness: Sureness {
                way,
                all_headers: false,
                blind: BTreeMap::new(),
            },
            readable: None,
            git: None,
            taken_in: None,
        }
    }
}

/// Which commit a kernel's source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitOrigin {
    /// Path or URL of the repository it came from, without a password.
    pub repository: String,
    /// The commit.
    pub commit: GitId,
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
    /// What decides between engines; `None` in a profile that was made without it.
    pub engines: Option<EngineFacts>,
}

/// Configuration facts that decide which engine can livepatch a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one setting of the kernel's configuration"
)]
pub struct EngineFacts {
    /// `CONFIG_MODULES`.
    pub modules: bool,
    /// `CONFIG_DYNAMIC_FTRACE_WITH_ARGS` or `…_WITH_REGS`.
    pub ftrace: bool,
    /// `CONFIG_HAVE_RELIABLE_STACKTRACE`.
    pub reliable_stacks: bool,
    /// `CONFIG_CFI_CLANG`, later `CONFIG_CFI`.
    pub cfi: bool,
    /// `CONFIG_CC_IS_CLANG`.
    pub clang: bool,
    /// `CONFIG_MODULE_SIG`.
    pub module_sig: bool,
    /// `CONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY` or `…_CONFIDENTIALITY`.
    pub forced_lockdown: bool,
    /// `CONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT`, a setting of some distributions.
    pub secure_boot_lockdown: bool,
    /// `CONFIG_DEBUG_INFO`.
    pub debug_info: bool,
    /// `CONFIG_DEBUG_INFO_SPLIT`.
    pub debug_info_split: bool,
    /// `CONFIG_GCC_PLUGIN_LATENT_ENTROPY`.
    pub latent_entropy: bool,
    /// `CONFIG_LD_DEAD_CODE_DATA_ELIMINATION`.
    pub dead_code_elimination: bool,
    /// `CONFIG_KLP_BUILD`.
    pub klp_build: bool,
}
