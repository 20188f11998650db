//! The structures that a livepatch module fills in, as the kernel at hand lays them out.

use super::btf::{self, Structure};
use crate::elf::ElfFile;

/// How the stack unwinder's entries say what they are; all are six bytes (`asm/orc_types.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrcFormat {
    /// Up to 6.3: two bits of type, one that ends the stack; nothing known is an entry without a register.
    Ends,
    /// From 6.4 on: three bits of type, one for a frame of an interrupt; nothing known is type 0.
    Types,
}

/// A structure's size and the places of the members that a module sets, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PatchLayout {
    pub(super) size: u64,
    pub(super) module: u64,
    pub(super) objects: u64,
    pub(super) replace: u64,
}

/// The same of `struct klp_object`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ObjectLayout {
    pub(super) size: u64,
    pub(super) name: u64,
    pub(super) functions: u64,
    /// Four pointers, in the order of their moments.
    pub(super) callbacks: u64,
}

/// The same of `struct klp_func`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FunctionLayout {
    pub(super) size: u64,
    pub(super) old_name: u64,
    pub(super) new_function: u64,
    pub(super) position: u64,
}

/// The same of `struct alt_instr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AlternativeLayout {
    pub(super) size: u64,
    pub(super) length: u64,
    pub(super) replacement_length: u64,
}

/// The same of `struct bug_entry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BugLayout {
    pub(super) size: u64,
    pub(super) address: u64,
    pub(super) flags: u64,
}

/// Layouts of one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Structures {
    pub(super) patch: PatchLayout,
    pub(super) object: ObjectLayout,
    pub(super) function: FunctionLayout,
    pub(super) alternative: AlternativeLayout,
    pub(super) bug: BugLayout,
    pub(super) orc: OrcFormat,
    /// Where in `struct tracepoint` its static key is.
    pub(super) tracepoint_key: u64,
    /// Number of `paravirt_patch_template`'s functions, if the kernel has a table of their calls.
    pub(super) paravirt_slots: Option<u64>,
    /// Number of the processor features that alternatives may ask for, if it can be told.
    pub(super) features: Option<u64>,
}

/// The layouts of upstream's 6.1, for input that brings no kernel with it.
pub(super) const UPSTREAM: Structures = Structures {
    patch: PatchLayout {
        size: 200,
        module: 0,
        objects: 8,
        replace: 24,
    },
    object: ObjectLayout {
        size: 168,
        name: 0,
        functions: 8,
        callbacks: 16,
    },
    function: FunctionLayout {
        size: 152,
        old_name: 0,
        new_function: 8,
        position: 16,
    },
    alternative: AlternativeLayout {
        size: 12,
        length: 10,
        replacement_length: 11,
    },
    bug: BugLayout {
        size: 12,
        address: 0,
        flags: 10,
    },
    orc: OrcFormat::Ends,
    tracepoint_key: 8,
    paravirt_slots: Some(90),
    features: Some(768),
};

/// Reads the layouts from a vmlinux, or says what is missing.
pub fn structures(vmlinux: &ElfFile<'_>) -> Result<Structures, &'static str> {
    const NAMES: [&str; 11] = [
        "klp_patch",
        "klp_object",
        "klp_callbacks",
        "klp_func",
        "alt_instr",
        "bug_entry",
        "orc_entry",
        "tracepoint",
        "paravirt_patch_template",
        "paravirt_patch_site",
        "cpuinfo_x86",
    ];
    let section = vmlinux
        .section_named(".BTF")
        .ok_or("no type data (.BTF), so the layout of klp_func is unknown")?;
    let found = btf::structures(section.data, &NAMES).ok_or("its type data (.BTF) is malformed")?;
    let structure = |name| found.get(name);
    let read = || {
        let (patch, object, function) = (
            structure("klp_patch")?,
            structure("klp_object")?,
            structure("klp_func")?,
        );
        let callbacks = structure("klp_callbacks")?;
        // They are read as one array.
        let moments = ["pre_patch", "post_patch", "pre_unpatch", "post_unpatch"];
        for (moment, place) in moments.iter().zip((0..).step_by(8)) {
            callbacks.at(moment).filter(|at| *at == place)?;
        }
        let (alternative, bug) = (structure("alt_instr")?, structure("bug_entry")?);
        Some(Structures {
            patch: PatchLayout {
                size: patch.size,
                module: patch.at("mod")?,
                objects: patch.at("objs")?,
                replace: patch.at("replace")?,
            },
            object: ObjectLayout {
                size: object.size,
                name: object.at("name")?,
                functions: object.at("funcs")?,
                callbacks: object.at("callbacks")?,
            },
            function: FunctionLayout {
                size: function.size,
                old_name: function.at("old_name")?,
                new_function: function.at("new_func")?,
                position: function.at("old_sympos")?,
            },
            alternative: AlternativeLayout {
                size: alternative.size,
                length: alternative.at("instrlen")?,
                replacement_length: alternative.at("replacementlen")?,
            },
            bug: BugLayout {
                size: bug.size,
                address: bug.at("bug_addr_disp")?,
                flags: bug.at("flags")?,
            },
            orc: orc(structure("orc_entry")?)?,
            tracepoint_key: structure("tracepoint")?.at("key")?,
            paravirt_slots: structure("paravirt_patch_site")
                .and(structure("paravirt_patch_template"))
                .map(|template| template.size / 8),
            features: structure("cpuinfo_x86").and_then(features),
        })
    };
    read().ok_or("its type data (.BTF) lacks a structure, or has it in a form that is not known")
}

/// The bits of the array between two members with names; it is aligned to eight bytes.
fn features(processor: &Structure<'_>) -> Option<u64> {
    let start = processor.at("cpuid_level")?.checked_add(4)?;
    let bytes = processor.at("x86_vendor_id")?.checked_sub(start)?;
    (bytes & !7).checked_mul(8)
}

fn orc(entry: &Structure<'_>) -> Option<OrcFormat> {
    let is = |name, bit, width| {
        let member = entry.members.get(name);
        member.is_some_and(|member| (member.bit, member.width) == (bit, width))
    };
    let common = entry.size == 6
        && entry.at("sp_offset") == Some(0)
        && entry.at("bp_offset") == Some(2)
        && is("sp_reg", 32, 4)
        && is("bp_reg", 36, 4);
    if common && is("type", 40, 2) && is("end", 42, 1) {
        Some(OrcFormat::Ends)
    } else if common && is("type", 40, 3) && is("signal", 43, 1) {
        Some(OrcFormat::Types)
    } else {
        None
    }
}
