//! objtool on each unit, where the kernel's own build runs it on linked objects only.
//!
//! Kernels with IBT (or LTO) leave units as the compiler made them. Their code is not what runs: jump
//! labels are still jumps, and no unwind entry, thunk site or prefix symbol is there to compare.

/// Makes Kbuild run objtool as it does for kernels that do not wait. The values are expanded by
/// Kbuild for each object, so that every other flag and every object left out are the kernel's own.
///
/// `--ibt` would mark functions whose address nobody takes, for which it must see the whole kernel;
/// objtool refuses it for single units. What a livepatch module is linked of went through this
/// already, so its link runs no objtool either.
const PER_UNIT: [&str; 2] = [
    "delay-objtool=",
    "objtool-args=$(filter-out --ibt,$(objtool-args-y)) $(if $(part-of-module),--module)",
];

/// Arguments for `make` in a tree whose `include/config/auto.conf` reads `configuration`.
pub fn arguments(configuration: &str) -> &'static [&'static str] {
    if configuration
        .lines()
        .any(|line| line == "CONFIG_X86_KERNEL_IBT=y")
    {
        &PER_UNIT
    } else {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The parts of a kernel's makefiles that decide, as in 6.12.
    const MAKEFILE: &str = "\
CONFIG_X86_KERNEL_IBT := y
CONFIG_UNWINDER_ORC := y
objtool-args-$(CONFIG_X86_KERNEL_IBT) += --ibt
objtool-args-$(CONFIG_UNWINDER_ORC) += --orc
objtool-args-$(CONFIG_NOT_SET) += --mcount
objtool-args = $(objtool-args-y) $(if $(delay-objtool), --link) $(if $(part-of-module), --module)
delay-objtool := $(CONFIG_X86_KERNEL_IBT)
.PHONY: all
all: built-in.o module.o
module.o: part-of-module := y
%.o:
\t$(info $@ $(if $(delay-objtool),waits,objtool) $(objtool-args))
\t@:
";

    #[test]
    fn a_kernel_that_waits_is_made_not_to_with_all_its_other_flags() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("Makefile"), MAKEFILE).unwrap();
        let run = |arguments: &[&str]| {
            let mut make = Command::new("make");
            let output = make.arg("-s").args(arguments).current_dir(folder.path());
            let text = String::from_utf8(output.output().unwrap().stdout).unwrap();
            text.lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            run(arguments("CONFIG_X86_KERNEL_IBT=y\n")),
            [
                "built-in.o objtool --orc",
                "module.o objtool --orc --module"
            ]
        );
        assert_eq!(
            run(arguments("# CONFIG_X86_KERNEL_IBT is not set\n")),
            [
                "built-in.o waits --ibt --orc --link",
                "module.o waits --ibt --orc --link --module"
            ]
        );
    }
}
