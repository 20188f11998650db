//! What the module says of itself.

use tuxtape_core::identity::BuildId;

use super::{Check, Problem, StockModule, module::Module};

/// Longest module name, without its NUL.
const NAME_LIMIT: usize = 55;

pub(super) fn check(module: &Module<'_>, stock: &StockModule, problems: &mut Vec<Problem>) {
    let mut problem =
        |check, why: String| problems.push(Problem::new(check, why).in_section(".modinfo"));
    match module.info("vermagic") {
        None => problem(Check::Vermagic, "none".to_owned()),
        Some(found) if found != stock.vermagic => problem(
            Check::Vermagic,
            format!("`{found}`, this kernel wants `{}`", stock.vermagic),
        ),
        Some(_) => {}
    }
    match module.info("name") {
        None => problem(Check::Name, "none".to_owned()),
        Some(name) => {
            if name.len() > NAME_LIMIT {
                problem(
                    Check::Name,
                    format!("{} characters, the limit is {NAME_LIMIT}", name.len()),
                );
            }
            if name.is_empty()
                || !name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                problem(
                    Check::Name,
                    format!("`{name}` is not made of letters, digits and `_`"),
                );
            }
        }
    }
}

/// What only livepatch modules must say.
pub(super) fn check_livepatch(
    module: &Module<'_>,
    build_id: &BuildId,
    problems: &mut Vec<Problem>,
) {
    let mut problem =
        |check, why: String| problems.push(Problem::new(check, why).in_section(".modinfo"));
    match module.info("livepatch") {
        // The kernel looks for the key alone; we write the value it documents.
        Some("Y") => {}
        Some(other) => problem(Check::LivepatchFlag, format!("`livepatch={other}`")),
        None => problem(
            Check::LivepatchFlag,
            "not marked as a livepatch module".to_owned(),
        ),
    }
    let licenses: Vec<&str> = module.infos("license").collect();
    if licenses != ["GPL"] {
        problem(
            Check::License,
            format!("`{}`, must be `GPL`", licenses.join("`, `")),
        );
    }
    let own = module.info("tuxtape_kernel_build_id");
    match own {
        None => problem(
            Check::BuildId,
            "does not say which kernel it is for".to_owned(),
        ),
        Some(own) if own != build_id.to_string() => {
            problem(
                Check::BuildId,
                format!("for kernel {own}, this is {build_id}"),
            );
        }
        Some(_) => {}
    }
}
