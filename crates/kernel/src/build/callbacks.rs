//! Functions of a fix that run when the livepatch core patches or unpatches an object.
//!
//! A fix names them by global pointers `__klp_MOMENT_callback_OBJECT`, as `linux/livepatch_helpers.h`
//! of Linux 6.19 does and our own helper header.

use tuxtape_livepatch::elf::{Binding, ElfFile};

/// When a callback runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    PrePatch,
    PostPatch,
    PreUnpatch,
    PostUnpatch,
}

impl Moment {
    const ALL: [Self; 4] = [
        Self::PrePatch,
        Self::PostPatch,
        Self::PreUnpatch,
        Self::PostUnpatch,
    ];

    /// Its field of the kernel's `struct klp_callbacks`.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::PrePatch => "pre_patch",
            Self::PostPatch => "post_patch",
            Self::PreUnpatch => "pre_unpatch",
            Self::PostUnpatch => "post_unpatch",
        }
    }

    /// What the callback returns: the first of them may say that the object is not to be patched.
    pub(super) fn answer(self) -> &'static str {
        match self {
            Self::PrePatch => "int",
            Self::PostPatch | Self::PreUnpatch | Self::PostUnpatch => "void",
        }
    }
}

/// A callback of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Callback {
    pub(super) moment: Moment,
    /// The pointer to it.
    pub(super) symbol: String,
}

/// The callbacks that the emitted `object` brings, in the order of its symbols.
pub(super) fn of(object: &[u8]) -> Vec<Callback> {
    let Ok(file) = ElfFile::parse(object) else {
        return Vec::new();
    };
    let defined = file
        .symbols()
        .iter()
        .filter(|symbol| symbol.binding == Binding::Global && symbol.section().is_some());
    defined
        .filter_map(|symbol| {
            let moment = Moment::ALL.into_iter().find(|moment| {
                let prefix = format!("__klp_{}_callback_", moment.field());
                symbol.name.starts_with(&prefix)
            })?;
            Some(Callback {
                moment,
                symbol: symbol.name.to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use tuxtape_livepatch::write::{OutPlace, OutSection, OutSymbol, relocatable};

    use super::*;

    fn symbol(name: &str, place: OutPlace, binding: u8) -> OutSymbol {
        OutSymbol {
            name: name.to_owned(),
            place,
            value: 0,
            size: 8,
            kind: 1,
            binding,
        }
    }

    #[test]
    fn a_callback_is_a_global_pointer_that_the_object_brings() {
        let section = OutSection {
            name: ".data.rel.ro".to_owned(),
            kind: 1,
            flags: 3,
            alignment: 8,
            data: vec![0; 8],
            size: 8,
            ..OutSection::default()
        };
        let here = OutPlace::Section(0);
        let symbols = [
            symbol("__klp_pre_patch_callback_local", here, 0),
            symbol("__klp_pre_patch_callback_vmlinux", here, 1),
            symbol("__klp_post_unpatch_callback_kmod_joydev", here, 1),
            symbol("__klp_pre_patch_callback_elsewhere", OutPlace::Undefined, 1),
            symbol("something_else", here, 1),
        ];
        let object = relocatable(&[section], &symbols).unwrap();
        let found: Vec<_> = of(&object)
            .into_iter()
            .map(|callback| {
                (
                    callback.moment.field(),
                    callback.moment.answer(),
                    callback.symbol,
                )
            })
            .collect();
        let expected = [
            ("pre_patch", "int", "__klp_pre_patch_callback_vmlinux"),
            (
                "post_unpatch",
                "void",
                "__klp_post_unpatch_callback_kmod_joydev",
            ),
        ];
        assert_eq!(
            found,
            expected.map(|(field, answer, symbol)| (field, answer, symbol.to_owned()))
        );
    }
}
