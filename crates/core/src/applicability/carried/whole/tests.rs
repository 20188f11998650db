//! Trees that hold a fix, do not, and only look as if they did.

use proptest::prelude::*;

use super::super::{FileChange, FixFile, FixLine, Verdict, align, cut, look, look_for, weigh};
use super::*;

const BEFORE: &str = "\
#include <linux/thing.h>

#define THING_MAX 16

struct thing {
	struct mutex lock;
	int id;
};

static const struct name names[] = {
	{ \"first\", 1 },
	{ \"second\", 2 },
};

static void start_it(struct thing *thing, int id)
{
	writel(id, thing->base);
}

static int probe(struct device *dev)
{
	struct thing *thing = to_thing(dev);
	int ret = 0;

	trace_probe(dev, thing->id);
	mutex_lock(&thing->lock);
	if (dev->is_new) {
		prepare_it(thing, dev->name);
		start_it(thing, dev->id);
	}
	log_it(thing, dev->name);
	kfree(thing->name);
	mutex_unlock(&thing->lock);
unlock:
	finish_it(thing, dev->name);
	return ret;
}

static int reset(struct device *dev)
{
	struct thing *thing = to_thing(dev);

	mutex_lock(&thing->lock);
	start_it(thing, dev->id);
	mutex_unlock(&thing->lock);
	return 0;
}
";

/// The same with a helper, a member, another value, an entry, a check, and without the double free.
fn after() -> String {
    BEFORE
        .replace("THING_MAX 16", "THING_MAX 8")
        .replace("\tint id;\n", "\tint id;\n\tbool is_ready;\n")
        .replace("\", 2 },\n", "\", 2 },\n\t{ \"third\", 3 },\n")
        .replace(
            "static int probe",
            "static bool is_usable(struct thing *thing)\n{\n\treturn thing->is_ready && thing->id < THING_MAX;\n}\n\nstatic int probe",
        )
        .replace(
            "\t\tprepare_it(thing, dev->name);\n",
            "\t\tif (!is_usable(thing)) {\n\t\t\tret = -EAGAIN;\n\t\t\tgoto unlock;\n\t\t}\n\t\tprepare_it(thing, dev->name);\n",
        )
        .replace("\tkfree(thing->name);\n", "")
}

/// Makes the hunk that shows both sides whole.
fn whole(before: &str, after: &str) -> FixHunk {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let mut lines = Vec::new();
    let mut push = |side, text: &[&str]| {
        lines.extend(text.iter().map(|text| FixLine {
            side,
            text: (*text).to_owned(),
        }));
    };
    let (mut from_old, mut from_new) = (0, 0);
    let ends = [(old.len(), new.len())];
    for (at_old, at_new) in align::common(&old, &new).into_iter().chain(ends) {
        push(FixSide::Old, &old[from_old..at_old]);
        push(FixSide::New, &new[from_new..at_new]);
        push(FixSide::Both, old.get(at_old..=at_old).unwrap_or_default());
        (from_old, from_new) = (at_old + 1, at_new + 1);
    }
    FixHunk {
        heading: String::new(),
        lines,
    }
}

fn file(before: &str, after: &str) -> FixFile {
    FixFile {
        path: "x.c".to_owned(),
        change: FileChange::Edited,
        hunks: vec![whole(before, after)],
        is_whole: true,
    }
}

fn found(before: &str, after: &str, own: &str) -> Vec<Found> {
    let blocks = look_for(&file(before, after), &Source::read(own));
    blocks.iter().map(|block| block.found).collect()
}

pub(in crate::applicability::carried) fn verdict(before: &str, after: &str, own: &str) -> Verdict {
    weigh(found(before, after, own))
}

/// By hunks with three lines of context, as most diffs have them.
pub(in crate::applicability::carried) fn by_lines(before: &str, after: &str, own: &str) -> Verdict {
    let source = Source::read(own);
    let parts = cut::hunks(&whole(before, after));
    let hunks: Vec<FixHunk> = parts.into_iter().map(|part| part.hunk).collect();
    weigh(look(&hunks, &source).into_iter().map(|block| block.found))
}

#[track_caller]
fn check(own: &str, expected: Verdict) {
    let after = after();
    assert_eq!(
        verdict(BEFORE, &after, own),
        expected,
        "{:?}\n{own}",
        found(BEFORE, &after, own)
    );
}

/// Puts `new` for `old`, which must be there.
#[track_caller]
pub(in crate::applicability::carried) fn put(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "{old} in {text}");
    text.replace(old, new)
}

#[test]
fn each_side_is_itself() {
    check(BEFORE, Verdict::Lacks);
    check(&after(), Verdict::Carries);
}

#[test]
fn what_drifts_beside_the_change_does_not_matter() {
    let drifts: [fn(&str) -> String; 9] = [
        // Layout.
        |text| text.replace('\t', "    ").replace(", ", " ,  /* c */ "),
        |text| text.replace("(thing, ", "(thing,\n\t\t\t"),
        // Other definitions, and other places of these.
        |text| put(text, "static int reset", "static int renamed"),
        |text| format!("int more(void)\n{{\n\treturn 1;\n}}\n{text}#define MORE 1\n"),
        |text| {
            put(
                text,
                "writel(id, thing->base)",
                "writel_relaxed(id, thing->base)",
            )
        },
        // Elsewhere in the function.
        |text| {
            put(
                text,
                "\tfinish_it(thing, dev->name);\n",
                "\tfinish_it(thing, dev->name, 1);\n",
            )
        },
        |text| {
            put(
                text,
                "static int probe(struct device *dev)",
                "static int probe(struct device *dev, int a)",
            )
        },
        |text| {
            put(
                text,
                "\ttrace_probe(dev, thing->id);\n",
                "\tif (!dev)\n\t\treturn -ENODEV;\n",
            )
        },
        |text| put(text, "\tint id;\n", "\tint id, other_id;\n"),
    ];
    for (at, drift) in drifts.iter().enumerate() {
        let (own, other) = (drift(&after()), drift(BEFORE));
        let expected = [Verdict::Carries, Verdict::Lacks];
        // The member's neighbour differs: then lines tell, or nothing does.
        if at == 8 {
            assert_ne!(verdict(BEFORE, &after(), &own), Verdict::Lacks);
            assert_ne!(verdict(BEFORE, &after(), &other), Verdict::Carries);
            continue;
        }
        check(&own, expected[0]);
        check(&other, expected[1]);
    }
}

/// Trees that look as if they held the fix.
fn attacks() -> Vec<(&'static str, String)> {
    let after = after();
    let check = "\t\tif (!is_usable(thing)) {\n\t\t\tret = -EAGAIN;\n\t\t\tgoto unlock;\n\t\t}\n";
    let helper = "static bool is_usable(struct thing *thing)\n{\n\treturn thing->is_ready && thing->id < THING_MAX;\n}\n";
    let at = |new: &str| put(&after, check, new);
    let without = || put(&after, check, "");
    let function = |text: &str| {
        let start = text.find("static int probe").unwrap();
        let end = text.find("static int reset").unwrap();
        text.get(start..end).unwrap().to_owned()
    };
    let (fixed, unfixed) = (function(&after), function(BEFORE));
    vec![
        ("left out by #if 0", at(&format!("#if 0\n{check}#endif\n"))),
        (
            "under a setting",
            at(&format!("#ifdef CONFIG_A\n{check}#endif\n")),
        ),
        (
            "in the arm of a condition",
            at(&format!("#ifdef CONFIG_A\n#else\n{check}#endif\n")),
        ),
        (
            "within if (0)",
            at(&format!("\t\tif (0) {{\n{check}\t\t}}\n")),
        ),
        ("behind if (0)", at(&format!("\t\tif (0)\n{check}"))),
        ("behind while (0)", at(&format!("\t\twhile (0)\n{check}"))),
        (
            "behind an else",
            at(&format!("\t\tif (dev)\n\t\t\tlog(dev);\n\t\telse\n{check}")),
        ),
        (
            "within a loop that never runs",
            at(&format!("\t\tfor (; 0;) {{\n{check}\t\t}}\n")),
        ),
        (
            "behind a return",
            put(
                &after,
                "\tmutex_lock(&thing->lock);\n\tif (dev->is_new)",
                "\treturn old_probe(dev);\n\tmutex_lock(&thing->lock);\n\tif (dev->is_new)",
            ),
        ),
        (
            "behind if (1) return",
            put(
                &after,
                "\ttrace_probe(dev, thing->id);\n",
                "\tif (1)\n\t\treturn old_probe(dev);\n\ttrace_probe(dev, thing->id);\n",
            ),
        ),
        (
            "jumped over",
            put(
                &at(&format!("\t\tgoto skip;\n{check}skip:\n")),
                "int ret",
                "int ret",
            ),
        ),
        (
            "the block never runs",
            put(&after, "if (dev->is_new) {", "if (0 && dev->is_new) {"),
        ),
        (
            "within a wider block that never runs",
            put(
                &put(
                    &after,
                    "\tmutex_lock(&thing->lock);\n\tif (dev->is_new)",
                    "\tif (old) {\n\tmutex_lock(&thing->lock);\n\tif (dev->is_new)",
                ),
                "\tlog_it(thing",
                "\t}\n\tlog_it(thing",
            ),
        ),
        (
            "behind what it guards",
            put(
                &without(),
                "\t\tstart_it(thing, dev->id);\n\t}\n\tlog",
                &format!("\t\tstart_it(thing, dev->id);\n{check}\t}}\n\tlog"),
            ),
        ),
        (
            "in another function",
            put(
                &without(),
                "\tmutex_lock(&thing->lock);\n\tstart_it",
                &format!("\tmutex_lock(&thing->lock);\n{check}\tstart_it"),
            ),
        ),
        (
            "a comment",
            at("\t\t/* if (!is_usable(thing)) { ret = -EAGAIN; goto unlock; } */\n"),
        ),
        (
            "a continued comment",
            at(
                "\t\t// \\\n\t\tif (!is_usable(thing)) { \\\n\t\t\tret = -EAGAIN; \\\n\t\t\tgoto unlock; \\\n\t\t}\n",
            ),
        ),
        (
            "a text",
            at("\t\tlog(\"if (!is_usable(thing)) { ret = -EAGAIN; goto unlock; }\");\n"),
        ),
        ("the other way round", at(&check.replace('!', ""))),
        (
            "without its jump",
            at(&check.replace("\t\t\tgoto unlock;\n", "")),
        ),
        (
            "with a jump elsewhere",
            at(&check.replace("goto unlock", "goto start")),
        ),
        ("with no error", at(&check.replace("-EAGAIN", "0"))),
        (
            "with an empty body",
            at("\t\tif (!is_usable(thing))\n\t\t\t;\n\t\tret = -EAGAIN;\n"),
        ),
        (
            "the free comes later",
            put(
                &after,
                "\tfinish_it(thing",
                "\tkfree(thing->name);\n\tfinish_it(thing",
            ),
        ),
        (
            "the free comes first",
            put(
                &after,
                "\ttrace_probe(dev",
                "\tkfree(thing->name);\n\ttrace_probe(dev",
            ),
        ),
        (
            "the helper lets all pass",
            put(
                &after,
                "return thing->is_ready && thing->id < THING_MAX;",
                "return true;",
            ),
        ),
        (
            "the helper is left out",
            put(&after, helper, &format!("#if 0\n{helper}#endif\n")),
        ),
        (
            "the helper is declared alone",
            put(
                &after,
                helper,
                "static bool is_usable(struct thing *thing);\n",
            ),
        ),
        (
            "the helper is made twice",
            put(
                &after,
                helper,
                &format!(
                    "#ifdef A\n{helper}#else\nstatic bool is_usable(struct thing *thing)\n{{\n\treturn true;\n}}\n#endif\n"
                ),
            ),
        ),
        (
            "a macro for the helper",
            format!("#define is_usable(thing) true\n{after}"),
        ),
        (
            "a macro for the helper behind it",
            put(
                &after,
                "static int probe",
                "#define is_usable(thing) true\nstatic int probe",
            ),
        ),
        (
            "a macro for the error",
            format!("#undef EAGAIN\n#define EAGAIN 0\n{after}"),
        ),
        (
            "a macro for a keyword",
            format!("#define if(a) if (0)\n{after}"),
        ),
        (
            "a macro within the function",
            put(&after, "\tint ret = 0;\n", "\tint ret = 0;\n#define goto\n"),
        ),
        (
            "the function has another name",
            format!("#define probe fixed_probe\n{after}#undef probe\n{unfixed}"),
        ),
        ("the function is made twice", format!("{after}{unfixed}")),
        (
            "the unfixed one is compiled",
            put(
                &after,
                &fixed,
                &format!("#ifdef A\n{fixed}#else\n{unfixed}#endif\n"),
            ),
        ),
        (
            "the fixed one is left out",
            put(
                &after,
                &fixed,
                &format!("#if 0\n{fixed}#else\n{unfixed}#endif\n"),
            ),
        ),
        (
            "the fixed one is a twin",
            put(
                &after,
                &fixed,
                &format!("{}{unfixed}", fixed.replace("probe(", "probe_v2(")),
            ),
        ),
        (
            "the function is renamed",
            put(&after, "static int probe(", "static int probe_v2("),
        ),
        ("the file is left out", format!("#if 0\n{after}#endif\n")),
        (
            "the value is set again",
            put(
                &after,
                "struct thing {",
                "#undef THING_MAX\n#define THING_MAX 16\nstruct thing {",
            ),
        ),
        (
            "the value is set under a condition",
            put(
                &after,
                "#define THING_MAX 8\n",
                "#ifdef A\n#define THING_MAX 8\n#else\n#define THING_MAX 16\n#endif\n",
            ),
        ),
        (
            "the member is of another type",
            put(
                &put(&after, "\tbool is_ready;\n", ""),
                "static void start_it",
                "struct other {\n\tint id;\n\tbool is_ready;\n};\nstatic void start_it",
            ),
        ),
        (
            "the member is left out",
            put(
                &after,
                "\tbool is_ready;\n",
                "#ifdef A\n\tbool is_ready;\n#endif\n",
            ),
        ),
        (
            "the entry is in another table",
            put(
                &put(&after, "\t{ \"third\", 3 },\n", ""),
                "static void start_it",
                "static const struct name others[] = {\n\t{ \"second\", 2 },\n\t{ \"third\", 3 },\n};\nstatic void start_it",
            ),
        ),
        (
            "the check alone",
            put(BEFORE, "\t\tprepare_it", &format!("{check}\t\tprepare_it")),
        ),
        ("all but the check", without()),
        (
            "all but the free",
            put(
                &after,
                "\tlog_it(thing, dev->name);\n",
                "\tlog_it(thing, dev->name);\n\tkfree(thing->name);\n",
            ),
        ),
        (
            "all but the value",
            put(&after, "THING_MAX 8", "THING_MAX 16"),
        ),
        ("all but the member", put(&after, "\tbool is_ready;\n", "")),
        (
            "all but the entry",
            put(&after, "\t{ \"third\", 3 },\n", ""),
        ),
        ("nothing", String::new()),
    ]
}

#[test]
fn what_only_looks_like_the_fix_is_not_it() {
    let after = after();
    let mut fooled = Vec::new();
    for (name, own) in attacks() {
        if verdict(BEFORE, &after, &own) == Verdict::Carries {
            fooled.push(name.to_owned());
        }
        if by_lines(BEFORE, &after, &own) == Verdict::Carries {
            fooled.push(format!("{name}, by lines"));
        }
    }
    assert_eq!(fooled, [""; 0]);
}

#[test]
fn a_fix_that_moved_within_its_function_is_not_missing() {
    let (before, after) = (
        "int f(struct x *x)\n{\n\tfirst(x, 1);\n\tsecond(x, 2);\n\tthird(x, 3);\n\tstop_work_of(x, &x->work);\n\tfourth(x, 4);\n}\n",
        "int f(struct x *x)\n{\n\tfirst(x, 1);\n\tstop_work_of(x, &x->work);\n\tsecond(x, 2);\n\tthird(x, 3);\n\tfourth(x, 4);\n}\n",
    );
    // The branch has it two lines earlier, and something else between.
    let own = "int f(struct x *x)\n{\n\tstop_work_of(x, &x->work);\n\tzeroth(x, 0);\n\tfirst(x, 1);\n\tsecond(x, 2);\n\tthird(x, 3);\n\tfourth(x, 4);\n}\n";
    assert_eq!(verdict(before, after, own), Verdict::Partial);
    assert_eq!(verdict(before, after, before), Verdict::Lacks);
    assert_eq!(verdict(before, after, after), Verdict::Carries);
}

#[test]
fn a_later_line_beside_the_change_does_not_hide_it() {
    let after = after();
    let own = put(
        &after,
        "\t\tif (!is_usable",
        "\t\tif (!dev->name)\n\t\t\treturn -EINVAL;\n\t\tif (!is_usable",
    );
    check(&own, Verdict::Carries);
    let own = put(
        BEFORE,
        "\t\tprepare_it",
        "\t\tif (!dev->name)\n\t\t\treturn -EINVAL;\n\t\tprepare_it",
    );
    assert_ne!(verdict(BEFORE, &after, &own), Verdict::Carries);
}

#[test]
fn what_stands_in_another_arm_or_is_set_back_is_not_it() {
    let before = "int f(struct x *x, int a)\n{\n\tswitch (a) {\n\tcase 1:\n\t\tfirst(x, a);\n\t\tbreak;\n\tcase 2:\n\t\tsecond(x, a);\n\t\tbreak;\n\t}\n\tx->old = NULL;\n\tlast(x, a);\n\treturn 0;\n}\n\
static struct ops ops = {\n\t.open = x_open,\n\t.read = x_read,\n};\n";
    let after = put(
        before,
        "\t\tfirst(x, a);\n",
        "\t\tfirst(x, a);\n\t\tcheck_it_all(x, a);\n",
    );
    let after = put(
        &after,
        "\tx->old = NULL;\n",
        "\tx->old = NULL;\n\tx->buffer = NULL;\n",
    );
    let after = put(&after, ".read = x_read", ".read = checked_read");
    assert_eq!(verdict(before, &after, &after), Verdict::Carries);
    let check = "\t\tcheck_it_all(x, a);\n";
    let without = put(&after, check, "");
    for own in [
        put(
            &without,
            "\t\tbreak;\n\tcase 2:\n",
            &format!("\t\tbreak;\n\tcase 3:\n{check}\t\tbreak;\n\tcase 2:\n"),
        ),
        put(&without, "\tcase 2:\n", &format!("\tcase 2:\n{check}")),
        put(&after, "\treturn 0;\n", "\tx->buffer = old;\n\treturn 0;\n"),
        put(
            &after,
            "\tx->old = NULL;\n",
            "\tx->buffer = old;\n\tx->old = NULL;\n",
        ),
        put(
            &after,
            "checked_read,\n",
            "checked_read,\n\t.read = x_read_of,\n",
        ),
    ] {
        assert_ne!(verdict(before, &after, &own), Verdict::Carries, "{own}");
    }
}

#[test]
fn one_of_many_like_it_is_missed() {
    let many = |first: &str, count: usize| {
        format!(
            "int f(struct x *x)\n{{\n{first}{}}}\n",
            "\tkfree(x->name);\n".repeat(count)
        )
    };
    let (before, after) = (many("", 6), many("\tif (x->ret < 0)\n", 7));
    assert_eq!(verdict(&before, &after, &after), Verdict::Carries);
    let own = many("\tif (x->ret < 0)\n", 6);
    assert_ne!(verdict(&before, &after, &own), Verdict::Carries);
}

#[test]
fn a_header_is_judged_within_its_guard() {
    let guarded = |text: &str| format!("#ifndef X_H\n#define X_H\n{text}#endif\n");
    let (before, after) = (
        guarded("int a(int b);\n"),
        guarded("int a(int b);\nint c(int d);\n"),
    );
    assert_eq!(verdict(&before, &after, &after), Verdict::Carries);
    assert_eq!(verdict(&before, &after, &before), Verdict::Lacks);
    let dead = guarded("int a(int b);\n#if 0\nint c(int d);\n#endif\n");
    assert_ne!(verdict(&before, &after, &dead), Verdict::Carries);
}

#[test]
fn what_is_gone_proves_nothing_alone() {
    let (before, after) = ("int a(int b);\nint c(int d);\n", "int a(int b);\n");
    assert_eq!(verdict(before, after, after), Verdict::Nothing);
    assert_eq!(verdict(before, after, before), Verdict::Lacks);
}

#[test]
fn a_file_that_is_like_neither_side_does_not_lack_the_fix() {
    let before = "int a(int b);\nATTRIBUTE(name_of_it);\n";
    let after = "int a(int b);\nstatic int name_of_it_show(int a)\n{\n\treturn checked(a, 1);\n}\nDEVICE_ATTRIBUTE(name_of_it);\n";
    assert_eq!(verdict(before, after, before), Verdict::Lacks);
    assert_eq!(verdict(before, after, after), Verdict::Carries);
    assert_eq!(verdict(before, after, "int a(int b);\n"), Verdict::Partial);
    // The function is there in other words.
    let own = after.replace("checked(a, 1)", "checked(a, 2)");
    assert_eq!(verdict(before, after, &own), Verdict::Partial);
}

/// A file of functions, and changes of some of its lines.
#[derive(Clone, Debug)]
struct Case {
    before: Vec<String>,
    /// Where lines are removed and what is put there, the last first.
    changes: Vec<(Range<usize>, Vec<String>)>,
}

impl Case {
    fn with(&self, which: impl Fn(usize) -> bool) -> String {
        let mut lines = self.before.clone();
        for (at, (range, new)) in self.changes.iter().enumerate() {
            if which(at) {
                lines.splice(range.clone(), new.iter().cloned());
            }
        }
        lines.join("\n")
    }
}

fn statement(word: u8, number: usize, is_unique: bool) -> String {
    if is_unique {
        return format!("\tstep_{number}(context, {word});");
    }
    match word % 6 {
        0 => "\tkfree(entry->name);",
        1 => "\tif (ret < 0)",
        2 => "\t\tgoto out;",
        3 => "\tif (entry->next) {\n\t\tflush(entry);\n\t}",
        4 => "\treturn ret;",
        _ => "\tret = next_of(entry, flags);",
    }
    .to_owned()
}

fn cases(is_unique: bool) -> impl Strategy<Value = Case> {
    let body = proptest::collection::vec(any::<u8>(), 4..16);
    let change = (
        any::<usize>(),
        0_usize..3,
        proptest::collection::vec(any::<u8>(), 0..3),
    );
    (
        proptest::collection::vec(body, 1..5),
        proptest::collection::vec(change, 1..4),
    )
        .prop_map(move |(bodies, wanted)| {
            let (mut before, mut places) = (Vec::new(), Vec::new());
            for (at, body) in bodies.iter().enumerate() {
                before.push(format!("static int function_{at}(struct context *context)"));
                before.push("{".to_owned());
                for word in body {
                    places.push((before.len(), at));
                    before.push(statement(*word, before.len(), is_unique));
                }
                before.push("}".to_owned());
                before.push(String::new());
            }
            let mut changes: Vec<(Range<usize>, Vec<String>)> = Vec::new();
            for (number, (at, removed, added)) in wanted.into_iter().enumerate() {
                let (start, function) = places[at % places.len()];
                let end = (start..start + removed)
                    .take_while(|line| places.contains(&(*line, function)))
                    .count()
                    + start;
                let added: Vec<String> = added
                    .iter()
                    .enumerate()
                    .map(|(at, word)| statement(*word, 1000 + 10 * number + at, is_unique))
                    .collect();
                let is_apart = |(range, _): &(Range<usize>, Vec<String>)| {
                    range.start > end + 1 || start > range.end + 1
                };
                if (end > start || !added.is_empty()) && changes.iter().all(is_apart) {
                    changes.push((start..end, added));
                }
            }
            changes.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
            Case { before, changes }
        })
        .prop_filter("something changes", |case| !case.changes.is_empty())
}

/// Changes what has nothing to do with a change: layout, comments, other definitions, their order.
fn drifted(text: &str) -> String {
    let mut functions: Vec<&str> = text.split_inclusive("\n}\n").collect();
    functions.reverse();
    let text = functions.join("\nint between;\n");
    let text = text
        .replace('\t', "  ")
        .replace("(context", "(\n/* c */ context");
    format!(
        "static void above(int a)\n{{\n\tunrelated(a, 1);\n}}\n{text}\nint below[] = {{ 1, 2 }};\n"
    )
}

proptest! {
    #[test]
    fn a_fix_is_seen_before_and_after_and_half_of_it_is_never_all(case in cases(true), half in any::<u8>()) {
        let (before, after) = (case.with(|_| false), case.with(|_| true));
        prop_assert_eq!(verdict(&before, &after, &before), Verdict::Lacks);
        prop_assert_eq!(verdict(&before, &after, &after), Verdict::Carries);
        prop_assert_eq!(verdict(&before, &after, &drifted(&before)), Verdict::Lacks);
        prop_assert_eq!(verdict(&before, &after, &drifted(&after)), Verdict::Carries);
        let own = case.with(|at| half & (1 << at) != 0);
        if own != after {
            prop_assert_ne!(verdict(&before, &after, &own), Verdict::Carries);
        }
        if own != before {
            prop_assert_ne!(verdict(&before, &after, &own), Verdict::Lacks);
        }
    }

    #[test]
    fn where_statements_repeat_no_side_is_taken_for_the_other(case in cases(false), half in any::<u8>()) {
        let (before, after) = (case.with(|_| false), case.with(|_| true));
        prop_assume!(before != after);
        for own in [before.clone(), drifted(&before)] {
            prop_assert_ne!(verdict(&before, &after, &own), Verdict::Carries);
        }
        for own in [after.clone(), drifted(&after)] {
            prop_assert_ne!(verdict(&before, &after, &own), Verdict::Lacks);
        }
        let own = case.with(|at| half & (1 << at) != 0);
        if own != after {
            prop_assert_ne!(verdict(&before, &after, &own), Verdict::Carries);
        }
    }

    #[test]
    fn any_sides_are_compared_without_panic(old in "[a-z(){};:,#/*\"\n\t if]{0,200}", new in "[a-z(){};:,#/*\"\n\t if]{0,200}", own in "[a-z(){};:,#/*\"\n\t if]{0,200}") {
        verdict(&old, &new, &own);
        verdict(&old, &new, &new);
    }
}
