//! The interpreter against GNU make, on makefiles made up at random.
//!
//! Both read the same file, and every variable must come out the same to the byte. Where the
//! interpreter says that it does not know, nothing is compared, but that must stay rare.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config as Runs, RngAlgorithm, TestRng, TestRunner};

use super::scope::{Scope, Variables};
use super::tree::Folder;
use crate::config::Config;

/// Makefiles that are tried; `TUXTAPE_MAKE_CASES` asks for another number.
const CASES: u32 = 150;
/// Variables that the makefiles set and read.
const NAMES: [&str; 12] = [
    "A", "B", "C", "F", "obj-y", "obj-m", "lib-y", "foo-y", "foo-objs", "CONFIG_Y", "CONFIG_N",
    "va.o",
];

fn name() -> impl Strategy<Value = String> {
    proptest::sample::select(&NAMES[..]).prop_map(str::to_owned)
}

fn word() -> impl Strategy<Value = String> {
    proptest::sample::select(
        &[
            "a.o", "b.o", "c.o", "sub/", "x/y.c", "y", "m", "n", "%", "%.o", "a%", "x%y",
            "a.o b.o", "  a.o", "b.o  ", "$$", ",", ":", "=", "\\#", "\\%", "A", "obj-y", "1", "2",
            "-3", "..", "a.b/c", "x.c.o", "#c", "\\\n", "\\\n\t", "'q'", "\"q\"", "$(1)", "$(2)",
            "$1", "\\", "a\\b", "+", "?", "*.mk", "s/*", "s/?.c", "[ab].c", "@", "&", "~",
        ][..],
    )
    .prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => word(),
        2 => name().prop_map(|name| format!("$({name})")),
        1 => name().prop_map(|name| format!("${{{name}}}")),
        1 => Just("$A".to_owned()),
        1 => Just(String::new()),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let one = inner.clone();
        let two = (inner.clone(), inner.clone());
        let three = (inner.clone(), inner.clone(), inner.clone());
        prop_oneof![
            (name(), word(), word()).prop_map(|(n, a, b)| format!("$({n}:{a}={b})")),
            one.clone().prop_map(|a| format!("$({a})")),
            one.clone().prop_map(|a| format!("$(foo-{a})")),
            (
                proptest::sample::select(
                    &[
                        "strip",
                        "sort",
                        "words",
                        "firstword",
                        "lastword",
                        "dir",
                        "notdir",
                        "suffix",
                        "basename",
                        "value",
                        "origin",
                        "flavor",
                        "wildcard",
                        "eval",
                        "call",
                        "info-",
                        "abspath-",
                    ][..]
                ),
                one.clone()
            )
                .prop_map(|(f, a)| match f.strip_suffix('-') {
                    Some(_) => a,
                    None => format!("$({f} {a})"),
                }),
            (
                proptest::sample::select(
                    &[
                        "filter",
                        "filter-out",
                        "findstring",
                        "addprefix",
                        "addsuffix",
                        "join",
                        "word",
                        "and",
                        "or",
                        "if",
                        "call",
                        "words",
                        "wordlist",
                        "intcmp-",
                    ][..]
                ),
                two.clone()
            )
                .prop_map(|(f, (a, b))| match f.strip_suffix('-') {
                    Some(_) => a,
                    None => format!("$({f} {a},{b})"),
                }),
            (
                proptest::sample::select(
                    &[
                        "subst", "patsubst", "if", "and", "or", "foreach", "call", "wordlist",
                        "let-",
                    ][..]
                ),
                three.clone()
            )
                .prop_map(|(f, (a, b, c))| match f.strip_suffix('-') {
                    Some(_) => a,
                    None => format!("$({f} {a},{b},{c})"),
                }),
            (name(), two.clone()).prop_map(|(n, (a, b))| format!("$(call {n},{a},{b})")),
            (name(), two.clone()).prop_map(|(n, (a, b))| format!("$(foreach {n},{a},{b})")),
            (
                proptest::sample::select(&["1", "2", " 3 "][..]),
                one.clone()
            )
                .prop_map(|(n, a)| format!("$(word {n},{a})")),
            (
                proptest::sample::select(&["1,2", "2,3", "2,1"][..]),
                one.clone()
            )
                .prop_map(|(n, a)| format!("$(wordlist {n},{a})")),
            two.clone().prop_map(|(a, b)| format!("{a} {b}")),
            two.prop_map(|(a, b)| format!("{a}{b}")),
        ]
    })
}

fn sign() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(
        &[
            "=", ":=", "+=", "?=", "::=", " = ", " := ", " += ", " ?= ", "\t=\t", "  +=",
        ][..],
    )
}

fn assignment() -> impl Strategy<Value = String> {
    let lead = proptest::sample::select(
        &[
            "",
            "",
            "",
            "",
            " ",
            "export ",
            "override ",
            "  ",
            "private ",
            "export override ",
        ][..],
    );
    let left = prop_oneof![
        8 => name(),
        1 => name().prop_map(|name| format!("$({name})")),
        1 => name().prop_map(|name| format!("foo-$({name})")),
    ];
    (lead, left, sign(), value())
        .prop_map(|(lead, left, sign, value)| format!("{lead}{left}{sign}{value}\n"))
}

fn simple_line() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => assignment(),
        1 => Just("\n".to_owned()),
        1 => Just("# comment \\\n still = one\n".to_owned()),
        1 => Just("  # A = 1\n".to_owned()),
        1 => name().prop_map(|name| format!("undefine {name}\n")),
        1 => name().prop_map(|name| format!("override undefine {name}\n")),
        1 => name().prop_map(|name| format!("export {name}\n")),
        1 => name().prop_map(|name| format!("unexport {name}\n")),
        1 => (name(), sign(), word()).prop_map(|(n, s, v)| format!("$(eval {n}{s}{v})\n")),
        1 => (name(), sign(), value()).prop_map(|(n, s, v)| format!("$(eval {n}{s}{})\n", v.replace('$', "$$"))),
        1 => (name(), value(), value()).prop_map(|(n, a, b)| format!("$(call {n},{a},{b})\n")),
        1 => (name(), value(), name()).prop_map(|(n, a, m)| format!("$(foreach {n},{a},$(eval {m} += $({n})))\n")),
        1 => Just("include s/in.mk\n".to_owned()),
        1 => (name(), sign(), value()).prop_map(|(n, s, v)| format!("t: {n}{s}{v}\n\t{n}{s}{v}\n")),
        1 => (assignment(), assignment()).prop_map(|(a, b)| format!("t: x.o\n\techo \\\n\t x\n\t{}{b}", a.replace('\n', " "))),
        1 => (assignment(), assignment()).prop_map(|(a, b)| format!("t: ; @echo $(A)\n\n\t{}\n# c\n\techo\n{b}", a.replace('\n', " "))),
        1 => assignment().prop_map(|a| format!("$(obj-y) p: $(A)\n\t@{}\n", a.replace('\n', " "))),
        1 => Just("%.o: %.c FORCE\n\t$(call if_changed,cc)\n".to_owned()),
        1 => Just(".PHONY: p q\nvpath %.c\n".to_owned()),
        1 => (name(), sign(), value(), assignment()).prop_map(|(n, s, v, a)| {
            let s = if s.trim() == "::=" { "" } else { s };
            format!("define {n}{s}\n{}\n\ttab {a}endef\n", v.replace('\n', " "))
        }),
        1 => (name(), assignment()).prop_map(|(n, a)| format!("define {n}\ndefine inner\nendef\n{a}endef # end\n")),
        1 => (name(), assignment(), assignment()).prop_map(|(n, a, b)| format!("define {n}\n{a}{b}endef\n$(eval $({n}))\n$(eval $(call {n},a.o,b.o))\n")),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    prop_oneof![
        (value(), value()).prop_map(|(a, b)| format!("eq ({a},{b})")),
        (value(), value()).prop_map(|(a, b)| format!("neq ({a}, {b})")),
        (name(), word()).prop_map(|(a, b)| format!("eq ($({a}),{b})")),
        (name(), word()).prop_map(|(a, b)| format!("neq \"$({a})\" '{b}'")),
        (name()).prop_map(|a| format!("eq ($({a}),)")),
        name().prop_map(|a| format!("def {a}")),
        name().prop_map(|a| format!("ndef {a} # c")),
        name().prop_map(|a| format!("def $({a})")),
    ]
}

fn block() -> impl Strategy<Value = String> {
    let lines = proptest::collection::vec(simple_line(), 0..6).prop_map(|lines| lines.concat());
    lines.prop_recursive(3, 24, 3, |inner| {
        let conditional = (
            condition(),
            inner.clone(),
            proptest::option::of((condition(), inner.clone())),
            proptest::option::of(inner.clone()),
            proptest::sample::select(&["", " ", "  "][..]),
        )
            .prop_map(|(first, then, or, otherwise, pad)| {
                let mut out = format!("{pad}if{first}\n{then}");
                if let Some((second, lines)) = or {
                    write!(out, "else if{second}\n{lines}").expect("strings take text");
                }
                if let Some(lines) = otherwise {
                    write!(out, "{pad}else # or\n{lines}").expect("strings take text");
                }
                out.push_str("endif\n");
                out
            });
        prop_oneof![
            conditional,
            (inner.clone(), inner).prop_map(|(one, two)| one + &two),
        ]
    })
}

fn makefile() -> impl Strategy<Value = String> {
    (proptest::collection::vec(block(), 1..4), 0..12_u8).prop_map(|(blocks, form)| {
        let text = blocks.concat();
        match form {
            0 => text.replace('\n', "\r\n"),
            1 => format!("\u{feff}{text}"),
            _ => text,
        }
    })
}

/// What make says of every variable; `None` where it refuses the makefile.
fn by_make(top: &Path) -> Option<Vec<String>> {
    let out = Command::new("make")
        .args(["-rR", "-f", "dump.mk"])
        .current_dir(top)
        .env_clear()
        .env("PATH", std::env::var_os("PATH")?)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let text = text
        .split_once("\u{1}begin\n")?
        .1
        .split_once("\u{1}end")?
        .0
        .to_owned();
    let parts: Vec<String> = text.split("\u{1}\n").map(str::to_owned).collect();
    (parts.len() > NAMES.len()).then_some(parts)
}

fn by_us(top: &Path) -> Result<Vec<Result<String, String>>, String> {
    let tree = Folder::open(top).map_err(|error| error.to_string())?;
    let config = Config::default();
    let mut scope = Scope::new(&tree, &config, Arc::new(Variables::new()));
    scope.include("Makefile").map_err(|gap| gap.to_string())?;
    if let Some(gap) = &scope.lost {
        return Err(gap.to_string());
    }
    Ok(NAMES
        .iter()
        .map(|name| {
            let value = scope.value(name);
            let value = match scope.lost.take() {
                Some(gap) => return Err(gap.to_string()),
                None => value,
            };
            match value.gap {
                Some(gap) => Err(gap.to_string()),
                None => Ok(format!("{name}={}", value.text)),
            }
        })
        .collect())
}

#[test]
fn variables_come_out_as_gnu_make_has_them() {
    let Ok(version) = Command::new("make").arg("--version").output() else {
        eprintln!("skipped: there is no make");
        return;
    };
    if !version.stdout.starts_with(b"GNU Make") {
        eprintln!("skipped: make is not GNU make");
        return;
    }
    let asked = std::env::var("TUXTAPE_MAKE_CASES").ok();
    let cases = asked.and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let seed = std::env::var("TUXTAPE_MAKE_SEED").map_or(7, |text| text.parse().unwrap());
    let mut bytes = [seed; 32];
    bytes[0] = 1;
    let mut runner = TestRunner::new_with_rng(
        Runs::default(),
        TestRng::from_seed(RngAlgorithm::ChaCha, &bytes),
    );
    let place = tempfile::tempdir().unwrap();
    let top = place.path();
    fs::create_dir(top.join("s")).unwrap();
    for name in ["s/a.c", "s/b.c", "x.mk", "s/.hidden"] {
        fs::write(top.join(name), "").unwrap();
    }
    fs::write(top.join("s/in.mk"), "B += in.o\nifdef A\nC := in\nendif\n").unwrap();
    let dump = NAMES
        .iter()
        .fold("$(info \u{1}begin)\n".to_owned(), |out, name| {
            format!("{out}$(info {name}=$({name})\u{1})\n")
        });
    let dump = format!("include Makefile\n{dump}$(info \u{1}end)\nall: ;\n");
    fs::write(top.join("dump.mk"), dump).unwrap();
    let strategy = makefile();
    let (mut compared, mut unknown, mut refused) = (0_u32, 0_u32, 0_u32);
    let mut reasons = std::collections::BTreeMap::<String, u32>::new();
    let mut lax = std::collections::BTreeMap::<String, u32>::new();
    let compare = |make: &[String], ours: &[Result<String, String>]| -> Option<String> {
        make.iter().zip(ours).find_map(|(make, ours)| {
            let ours = ours.as_ref().ok()?;
            (make != ours).then(|| format!("make  {make:?}\nours  {ours:?}"))
        })
    };
    let differs = |text: &str| -> Option<String> {
        fs::write(top.join("Makefile"), text).unwrap();
        compare(&by_make(top)?, &by_us(top).ok()?)
    };
    for _ in 0..cases {
        let mut tree = strategy.new_tree(&mut runner).unwrap();
        let text = tree.current();
        fs::write(top.join("Makefile"), &text).unwrap();
        let ours = by_us(top);
        let Some(make) = by_make(top) else {
            refused += 1;
            if ours.is_ok() {
                *lax.entry("make refuses".to_owned()).or_default() += 1;
            }
            continue;
        };
        match &ours {
            Ok(values) => {
                for value in values {
                    match value {
                        Ok(_) => compared += 1,
                        Err(gap) => {
                            unknown += 1;
                            *reasons.entry(kind(gap)).or_default() += 1;
                        }
                    }
                }
            }
            Err(gap) => {
                unknown += 1;
                *reasons.entry(kind(gap)).or_default() += 1;
            }
        }
        if ours.is_ok_and(|ours| compare(&make, &ours).is_some()) {
            // Made as small as it will go before it is shown.
            let mut least = text;
            if tree.simplify() {
                for _ in 0..2000 {
                    let smaller = tree.current();
                    if differs(&smaller).is_some() {
                        least = smaller;
                        if !tree.simplify() {
                            break;
                        }
                    } else if !tree.complicate() {
                        break;
                    }
                }
            }
            let how = differs(&least);
            panic!(
                "{}\n{}",
                least.escape_debug().to_string().replace("\\n", "\n"),
                how.unwrap_or_default()
            );
        }
    }
    eprintln!(
        "{cases} makefiles: {compared} variables compared, {unknown} not known, {refused} makefiles refused by make; {reasons:?} {lax:?}"
    );
    assert!(compared > cases * 4, "{compared} of {cases}");
}

fn kind(gap: &str) -> String {
    gap.split_once(": ")
        .map_or(gap, |(_, what)| what)
        .chars()
        .take(14)
        .collect()
}
