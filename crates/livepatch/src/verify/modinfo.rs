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

/// What a livepatch module may say. By others the loader would create parameters, or programs load the
/// module unasked.
const KEYS: [&str; 14] = [
    "author",
    "depends",
    "description",
    "import_ns",
    "license",
    "livepatch",
    "name",
    "retpoline",
    "srcversion",
    "tuxtape_callback",
    "tuxtape_func",
    "tuxtape_kernel_build_id",
    "tuxtape_objects",
    "vermagic",
];

/// What only livepatch modules must say.
pub(super) fn check_livepatch(
    module: &Module<'_>,
    stock: &StockModule,
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
    for line in module.info_lines() {
        let key = line.split_once('=').map(|(key, _)| key);
        if !key.is_some_and(|key| KEYS.contains(&key)) {
            problem(
                Check::Modinfo,
                format!("`{line}` is nothing that a livepatch module says"),
            );
        }
    }
    for key in ["name", "vermagic", "livepatch", "retpoline", "depends"] {
        if module.infos(key).count() > 1 {
            problem(Check::Modinfo, format!("says `{key}` twice"));
        }
    }
    let retpoline = module.info("retpoline");
    if stock.retpoline && retpoline != Some("Y") {
        let why = "does not say retpoline=Y, as this kernel's modules do";
        problem(Check::Modinfo, why.to_owned());
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
