//! Trees that hold the lines of a fix, seen by a diff with three lines of context alone.

use super::super::Verdict;
use super::super::undone::tests::BEFORE;
use super::super::whole::tests::{by_lines, put};

const TRACE: &str = "\ttrace_copy(thing, len);\n";
const LOCK: &str = "\tmutex_lock(&thing->lock);\n\tfor";
const FREE: &str = "\tkfree(thing->name);\n";
const LOOP: &str = "\tfor (i = 0; i <= len; i++)\n";

/// A bound that no macro of the file gives.
fn checked() -> String {
    put(
        BEFORE,
        TRACE,
        &format!("{TRACE}\tif (len >= sizeof(thing->name))\n\t\treturn -E2BIG;\n"),
    )
}

#[track_caller]
fn in_doubt(after: &str, own: &str) {
    assert_eq!(by_lines(BEFORE, after, own), Verdict::Partial, "{own}");
}

#[track_caller]
fn carries(after: &str, own: &str) {
    assert_eq!(by_lines(BEFORE, after, own), Verdict::Carries, "{own}");
}

#[test]
fn a_statement_between_the_lines_of_a_hunk_that_touches_what_it_touches_leaves_doubt() {
    let after = checked();
    carries(&after, &after);
    for between in ["len = thing->id;", "get_len(thing, &len);", "len++;"] {
        in_doubt(&after, &put(&after, LOCK, &format!("\t{between}\n{LOCK}")));
    }
    let before = |text: &str| put(&after, TRACE, &format!("{text}{TRACE}"));
    in_doubt(
        &after,
        &before("\tif (len > 3)\n\t\treturn copy_raw(thing, from, len);\n"),
    );
    in_doubt(&after, &before("\tlen = 0;\n"));
    in_doubt(&after, &put(&after, "i <= len", "i <= thing->len"));
    for harmless in [
        "thing->last = 0;",
        "pr_debug(\"%d\\n\", len);",
        "if (len < 0)\n\t\treturn -EINVAL;",
    ] {
        carries(&after, &put(&after, LOCK, &format!("\t{harmless}\n{LOCK}")));
    }
    // What the window does not reach is not seen.
    carries(&after, &put(&after, "\tlog_it(", "\tlen = 0;\n\tlog_it("));
}

#[test]
fn a_loop_that_the_fix_bounds_is_that_of_the_hunk() {
    let after = put(BEFORE, LOOP, "\tfor (i = 0; i < len; i++)\n");
    carries(&after, &after);
    let copy = "\t\tto[i] = from[i];\n";
    for (old, new) in [
        (copy, "\t\tto[i + 1] = from[i];\n"),
        (copy, "\t\tto[i] = from[i];\n\tto[len] = from[len];\n"),
        (LOCK, "\tmutex_lock(&thing->lock);\n\tlen++;\n\tfor"),
    ] {
        in_doubt(&after, &put(&after, old, new));
    }
}

#[test]
fn a_label_or_a_use_within_the_window_leaves_doubt() {
    let after = checked();
    let jump = "\tif (thing->fast)\n\t\tgoto locked;\n";
    let own = put(&after, TRACE, &format!("{jump}{TRACE}"));
    let lock = "\tmutex_lock(&thing->lock);\n";
    let own = put(&own, LOCK, &format!("{lock}locked:\n\tfor"));
    in_doubt(&after, &own);
    let after = put(BEFORE, FREE, &format!("{FREE}\tthing->name = NULL;\n"));
    carries(&after, &after);
    let begin = "\tlog_drop(thing, thing->id);\n";
    let own = put(&after, begin, &format!("{begin}\told = thing->name;\n"));
    in_doubt(
        &after,
        &put(&own, "\tput_thing(", "\tkfree(old);\n\tput_thing("),
    );
    let after = put(
        BEFORE,
        FREE,
        &format!("\tcancel_work_sync(&thing->work);\n{FREE}"),
    );
    let own = put(&after, FREE, &format!("{FREE}\tqueue_it(&thing->work);\n"));
    in_doubt(&after, &own);
    let own = put(&after, FREE, &format!("{FREE}\tqueue_it(&thing->more);\n"));
    carries(&after, &own);
}

#[test]
fn a_function_that_only_the_file_calls_there_must_not_do_what_the_fix_removes() {
    let after = put(BEFORE, FREE, "");
    carries(&after, &after);
    let put_thing = "\tput_thing(thing);\n";
    let own = put(
        &after,
        put_thing,
        &format!("{put_thing}\tfree_name(thing);\n"),
    );
    let helper = |body: &str| {
        let head = "static void drop_it";
        let helper = format!("static void free_name(struct thing *t)\n{{\n\t{body}\n}}\n\n");
        put(&own, head, &format!("{helper}{head}"))
    };
    in_doubt(&after, &helper("kfree(t->name);"));
    carries(&after, &helper("log_drop(t, 1);"));
}

#[test]
fn a_bound_is_known_only_where_a_hunk_shows_its_value() {
    let check = format!("{TRACE}\tif (len >= THING_MAX)\n\t\treturn -E2BIG;\n");
    let after = put(BEFORE, TRACE, &check);
    in_doubt(&after, &put(&after, "THING_MAX 16", "THING_MAX INT_MAX"));
    let before = put(BEFORE, "THING_MAX 16", "THING_MAX INT_MAX");
    assert_eq!(by_lines(&before, &after, &after), Verdict::Carries);
}

#[test]
fn what_the_fix_replaces_is_not_there_once_more() {
    let after = put(
        BEFORE,
        "\tthing->id = len;\n\tmutex_unlock",
        "\tthing->id = min(len, thing->last);\n\tmutex_unlock",
    );
    carries(&after, &after);
    let again = "\tthing->id = len;\n\tmutex_unlock(&thing->lock);\n";
    in_doubt(
        &after,
        &put(
            &after,
            "\tint i;\n",
            &format!("\tint i;\n\n\tlock_it();\n{again}"),
        ),
    );
    // Beside other lines it is another statement.
    carries(
        &after,
        &put(&after, "\tint i;\n", "\tint i;\n\n\tthing->id = len;\n"),
    );
}

#[test]
fn a_macro_before_the_change_that_leaves_the_function_leaves_doubt() {
    let after = checked();
    for body in ["goto skip", "return 0"] {
        in_doubt(&after, &format!("#define trace_copy(t, l) {body}\n{after}"));
    }
}
