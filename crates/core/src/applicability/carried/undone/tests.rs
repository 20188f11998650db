//! Trees in which something else undoes a fix that stands there, each kind with harmless drift.

use super::super::Verdict;
use super::super::whole::tests::{by_lines, put, verdict};

/// A file with a fix to come: a copy without a bound, a check, an end, and a table that names them.
pub(in super::super) const BEFORE: &str = "\
#define THING_MAX 16

enum limits {
	THING_LEAST = 2,
};

static bool is_usable(struct thing *thing)
{
	return thing->is_ready && thing->id < thing->last;
}

static int check_it(struct thing *thing, int id)
{
	trace_check(thing, id);
	if (id < 0)
		return -EINVAL;
	return 0;
}

static int copy_it(struct thing *thing, const char *from, int len)
{
	char *to = thing->name;
	int i;

	trace_copy(thing, len);
	mutex_lock(&thing->lock);
	for (i = 0; i <= len; i++)
		to[i] = from[i];
	thing->id = len;
	mutex_unlock(&thing->lock);
	log_it(thing, from);
	return 0;
}

static void drop_it(struct thing *thing)
{
	log_drop(thing, thing->id);
	mutex_lock(&thing->lock);
	kfree(thing->name);
	mutex_unlock(&thing->lock);
	put_thing(thing);
}

static const struct operations thing_operations = {
	.check = check_it,
	.copy = copy_it,
	.drop = drop_it,
};
";

const CHECK: &str = "\tif (len >= THING_MAX)\n\t\treturn -E2BIG;\n";

fn checked() -> String {
    put(
        BEFORE,
        "\ttrace_copy(thing, len);\n",
        &format!("\ttrace_copy(thing, len);\n{CHECK}"),
    )
}

#[track_caller]
fn undone(after: &str, own: &str) {
    let found = verdict(BEFORE, after, own);
    assert_ne!(found, Verdict::Carries, "undone: {own}");
    assert_ne!(found, Verdict::Lacks, "undone: {own}");
}

#[track_caller]
fn harmless(after: &str, own: &str) {
    assert_eq!(
        verdict(BEFORE, after, own),
        Verdict::Carries,
        "harmless: {own}"
    );
}

#[test]
fn a_jump_over_the_check_undoes_it_and_one_to_a_way_out_does_not() {
    let after = checked();
    let early = |text: &str, label: &str| {
        put(
            text,
            "\tint i;\n\n",
            &format!("\tint i;\n\n\tif (thing->is_fast)\n\t\tgoto {label};\n"),
        )
    };
    for at in [
        "\tmutex_lock(&thing->lock);\n\tfor",
        "\tfor (i = 0; i <= len",
        "\tthing->id = len",
    ] {
        undone(
            &after,
            &early(&put(&after, at, &format!("locked:\n{at}")), "locked"),
        );
    }
    undone(
        &after,
        &put(&after, "\tint i;\n\n", "\tint i;\n\n\tgoto *thing->next;\n"),
    );
    // A way out that was there.
    let before = put(
        BEFORE,
        "\tlog_it(thing, from);\n",
        "out:\n\tlog_it(thing, from);\n",
    );
    let before = put(
        &before,
        "\tthing->id = len;\n",
        "\tif (!to)\n\t\tgoto out;\n\tthing->id = len;\n",
    );
    let after = put(
        &before,
        "\ttrace_copy(thing, len);\n",
        &format!("\ttrace_copy(thing, len);\n{CHECK}"),
    );
    assert_eq!(
        verdict(&before, &after, &early(&after, "out")),
        Verdict::Carries
    );
    // The same label further up is another way.
    let moved = put(&after, "out:\n", "");
    let moved = early(
        &put(&moved, "\tthing->id = len", "out:\n\tthing->id = len"),
        "out",
    );
    assert_ne!(verdict(&before, &after, &moved), Verdict::Carries);
}

#[test]
fn a_compound_statement_that_always_leaves_undoes_what_follows() {
    let after = checked();
    for leaves in [
        "\tdo {\n\t\treturn 0;\n\t} while (0);\n",
        "\t{\n\t\treturn 0;\n\t}\n",
        "\tif (thing)\n\t\treturn 0;\n\telse\n\t\treturn 1;\n",
        "\tfor (;;) {\n\t\tif (thing)\n\t\t\treturn 0;\n\t}\n",
    ] {
        undone(
            &after,
            &put(&after, "\tint i;\n\n", &format!("\tint i;\n\n{leaves}")),
        );
    }
    let once =
        "\tdo {\n\t\tlog_drop(thing, 0);\n\t} while (0);\n\tif (!thing)\n\t\treturn -EINVAL;\n";
    harmless(
        &after,
        &put(&after, "\tint i;\n\n", &format!("\tint i;\n\n{once}")),
    );
}

#[test]
fn a_new_arm_behind_the_check_is_another_way() {
    let (guard, use_it) = (
        "\t\tif (id > 9)\n\t\t\tbreak;\n",
        "\t\tuse_it(thing, id, 1);\n",
    );
    let of = |guard: &str, arm: &str| {
        format!(
            "int f(struct thing *thing, int id)\n{{\n\tlog_it(thing, id);\n\tswitch (id & 3) {{\n\tcase 1:\n\t\tfirst(thing, 1);\n{guard}{arm}{use_it}\t\tthird(thing, 3);\n\t\tbreak;\n\tcase 5:\n\t\tlast(thing, 5);\n\t}}\n\treturn 0;\n}}\n"
        )
    };
    let (before, after) = (of("", ""), of(guard, ""));
    assert_eq!(verdict(&before, &after, &after), Verdict::Carries);
    assert_ne!(
        verdict(&before, &after, &of(guard, "\tcase 7:\n")),
        Verdict::Carries
    );
    assert_ne!(
        by_lines(&before, &after, &of(guard, "\tcase 7:\n")),
        Verdict::Carries
    );
    let own = put(
        &after,
        "\tcase 5:\n",
        "\tcase 6:\n\t\tother(thing, 6);\n\t\tbreak;\n\tcase 5:\n",
    );
    assert_eq!(verdict(&before, &after, &own), Verdict::Carries);
}

#[test]
fn what_the_check_reads_is_not_set_or_used_around_it() {
    let after = checked();
    let lock = "\tmutex_lock(&thing->lock);\n\tfor";
    for between in [
        "len = thing->id;",
        "get_len(thing, &len);",
        "len++;",
        "copy_rest(to, from, len);",
    ] {
        undone(&after, &put(&after, lock, &format!("\t{between}\n{lock}")));
    }
    for before in [
        "copy_rest(to, from, len);",
        "len = 0;",
        "if (len > 3)\n\t\treturn copy_rest(thing, len);",
    ] {
        undone(
            &after,
            &put(
                &after,
                "\ttrace_copy(thing",
                &format!("\t{before}\n\ttrace_copy(thing"),
            ),
        );
    }
    undone(&after, &put(&after, "i <= len", "i <= thing->last"));
    undone(
        &after,
        &put(
            &after,
            "const char *from, int len",
            "const char *from, s8 len",
        ),
    );
    for drift in [
        "log_drop(thing, 1);",
        "thing->last = 0;",
        "pr_debug(\"%d\\n\", len);",
        "if (len < 0)\n\t\treturn -EINVAL;",
    ] {
        harmless(&after, &put(&after, lock, &format!("\t{drift}\n{lock}")));
    }
    harmless(
        &after,
        &put(
            &after,
            "const char *from, int len",
            "const char *from, int len, int more",
        ),
    );
    // A variable that is asked at once and then set anew.
    let before = put(
        BEFORE,
        "\ttrace_copy(thing, len);\n",
        "\ttrace_copy(thing, len);\n\ti = begin(thing, from);\n",
    );
    let fixed = put(
        &before,
        "from);\n\tmutex",
        "from);\n\tif (i)\n\t\treturn i;\n\tmutex",
    );
    let own = put(
        &fixed,
        "\tlog_it(thing, from);\n",
        "\tlog_it(thing, from);\n\ti = end(thing);\n",
    );
    assert_eq!(verdict(&before, &fixed, &own), Verdict::Carries);
}

#[test]
fn a_check_that_lets_pass_before_undoes_a_bound() {
    let after = put(
        BEFORE,
        "\tif (id < 0)\n",
        "\tif (id < 0 || id >= THING_MAX)\n",
    );
    let early = |what: &str| {
        let trace = "\ttrace_check(thing, id);\n";
        put(
            &after,
            trace,
            &format!("{trace}\tif (id)\n\t\treturn {what};\n"),
        )
    };
    undone(&after, &early("0"));
    harmless(&after, &early("-EAGAIN"));
}

#[test]
fn what_the_fix_gives_up_is_not_kept_or_taken_again() {
    let free = "\tkfree(thing->name);\n";
    let after = put(BEFORE, free, &format!("{free}\tthing->name = NULL;\n"));
    let copied = put(
        &after,
        "\tmutex_lock(&thing->lock);\n\tkfree",
        "\told = thing->name;\n\tmutex_lock(&thing->lock);\n\tkfree",
    );
    undone(
        &after,
        &put(
            &copied,
            "\tput_thing(thing);",
            "\tkfree(old);\n\tput_thing(thing);",
        ),
    );
    undone(
        &after,
        &put(
            &after,
            "\tput_thing(thing);",
            "\trestore(&thing->name);\n\tput_thing(thing);",
        ),
    );
    harmless(
        &after,
        &put(
            &after,
            "\tput_thing(thing);",
            "\tkfree(thing->other);\n\tput_thing(thing);",
        ),
    );
    let after = put(
        BEFORE,
        free,
        &format!("\tcancel_work_sync(&thing->work);\n{free}"),
    );
    undone(
        &after,
        &put(
            &after,
            "\tput_thing(thing);",
            "\tschedule_work(&thing->work);\n\tput_thing(thing);",
        ),
    );
    harmless(
        &after,
        &put(
            &after,
            "\tput_thing(thing);",
            "\tschedule_work(&thing->other);\n\tput_thing(thing);",
        ),
    );
}

#[test]
fn a_pointer_that_is_asked_for_is_not_used_before() {
    let begin = "static void drop_it(struct thing *thing)\n{\n";
    let log = "\tlog_drop(thing, 0);\n";
    let before = put(BEFORE, "\tlog_drop(thing, thing->id);\n", log);
    let after = put(
        &before,
        begin,
        &format!("{begin}\tif (WARN_ON(!thing))\n\t\treturn;\n"),
    );
    let own = put(&after, begin, &format!("{begin}\tint id = thing->id;\n\n"));
    assert_ne!(verdict(&before, &after, &own), Verdict::Carries);
    let own = put(&after, begin, &format!("{begin}\tint id = 1;\n\n"));
    assert_eq!(verdict(&before, &after, &own), Verdict::Carries);
}

#[test]
fn a_twin_that_is_as_before_undoes_the_fix() {
    let after = checked();
    let start = BEFORE.find("static int copy_it").unwrap();
    let end = BEFORE.find("static void drop_it").unwrap();
    let twin = BEFORE
        .get(start..end)
        .unwrap()
        .replace("copy_it(", "copy_fast(");
    let table = "static const struct operations";
    let own = put(&after, table, &format!("{twin}{table}"));
    undone(&after, &own);
    undone(&after, &put(&own, ".copy = copy_it", ".copy = copy_fast"));
    assert_ne!(by_lines(BEFORE, &after, &own), Verdict::Carries);
    // One that has the check, and one that the fix itself leaves.
    let checked = put(
        &twin,
        "\ttrace_copy(thing, len);\n",
        &format!("\ttrace_copy(thing, len);\n{CHECK}"),
    );
    harmless(&after, &put(&after, table, &format!("{checked}{table}")));
    let (before, kept) = (
        put(BEFORE, table, &format!("{twin}{table}")),
        put(&after, table, &format!("{twin}{table}")),
    );
    let own = put(
        &kept,
        "\tlog_it(thing, from);\n\treturn 0;\n}\n\nstatic void drop_it",
        "\tlog_it(thing, to);\n\treturn 0;\n}\n\nstatic void drop_it",
    );
    assert_eq!(verdict(&before, &kept, &own), Verdict::Carries);
}

#[test]
fn a_fixed_function_that_nothing_names_any_more_is_not_used() {
    let after = checked();
    undone(&after, &put(&after, "\t.copy = copy_it,\n", ""));
    undone(
        &after,
        &put(
            &after,
            "\t.copy = copy_it,\n",
            "\t.copy = copy_elsewhere,\n",
        ),
    );
    harmless(
        &after,
        &put(
            &after,
            "\t.drop = drop_it,\n",
            "\t.drop = drop_it,\n\t.more = more,\n",
        ),
    );
}

#[test]
fn a_removed_call_in_a_function_called_from_there_undoes_the_fix() {
    let after = put(BEFORE, "\tkfree(thing->name);\n", "");
    let head = "static void drop_it";
    let calls = put(
        &after,
        "\tput_thing(thing);",
        "\tput_thing(thing);\n\tend_it(thing);",
    );
    let helper = |body: &str| format!("static void end_it(struct thing *t)\n{{\n\t{body}\n}}\n\n");
    undone(
        &after,
        &put(
            &calls,
            head,
            &format!("{}{head}", helper("kfree(t->name);")),
        ),
    );
    let inner =
        "static void inner(struct thing *t)\n{\n\tchar *old = t->name;\n\n\tkfree(old);\n}\n\n";
    undone(
        &after,
        &put(
            &calls,
            head,
            &format!("{inner}{}{head}", helper("inner(t);")),
        ),
    );
    harmless(
        &after,
        &put(
            &calls,
            head,
            &format!("{}{head}", helper("log_drop(t, 1);")),
        ),
    );
    // One that nothing of it calls.
    harmless(
        &after,
        &put(
            &after,
            head,
            &format!("{}{head}", helper("kfree(t->name);")),
        ),
    );
}

#[test]
fn a_macro_that_jumps_or_makes_nothing_of_a_neighbour_undoes_the_fix() {
    let after = checked();
    for lines in [
        "#define trace_copy(t, l) goto skip\n",
        "#define trace_copy(t, l) SKIP\n#define SKIP return 0\n",
        "#define mutex_lock(lock)\n",
        "#define E2BIG 0\n",
    ] {
        undone(&after, &format!("{lines}{after}"));
    }
    harmless(&after, &format!("#define MORE(a) ((a) + 1)\n{after}"));
    harmless(&after, &format!("#define LEAVE(a) return (a)\n{after}"));
    for lines in ["#define trace_copy(t, l) goto skip\n", "#define E2BIG 0\n"] {
        assert_ne!(
            by_lines(BEFORE, &after, &format!("{lines}{after}")),
            Verdict::Carries
        );
    }
}

#[test]
fn a_value_or_a_function_that_the_check_asks_is_as_the_fix_knows_it() {
    let of = |check: &str| {
        put(
            BEFORE,
            "\ttrace_copy(thing, len);\n",
            &format!("\ttrace_copy(thing, len);\n{check}"),
        )
    };
    let after = of("\tif (len < THING_LEAST)\n\t\treturn -EINVAL;\n");
    undone(
        &after,
        &put(&after, "THING_LEAST = 2", "THING_LEAST = INT_MIN"),
    );
    harmless(
        &after,
        &put(
            &after,
            "THING_LEAST = 2,",
            "THING_LEAST = 2,\n\tTHING_MOST = 3,",
        ),
    );
    undone(
        &checked(),
        &put(&checked(), "THING_MAX 16", "THING_MAX INT_MAX"),
    );
    let after = of("\tif (!is_usable(thing))\n\t\treturn -EINVAL;\n");
    let body = "\treturn thing->is_ready && thing->id < thing->last;\n";
    undone(
        &after,
        &put(&after, body, &format!("\treturn true;\n{body}")),
    );
    undone(&after, &put(&after, body, "\treturn true;\n"));
    harmless(
        &after,
        &put(&after, body, &format!("\tlog_drop(thing, 1);\n{body}")),
    );
}
