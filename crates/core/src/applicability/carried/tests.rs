use proptest::prelude::*;

use super::*;

/// Reads one hunk as a diff has it: lines with their marks.
fn hunk(heading: &str, text: &str) -> FixHunk {
    let line = |line: &str| {
        let (mark, text) = line.split_at_checked(1).unwrap_or((" ", ""));
        FixLine {
            side: match mark {
                "+" => FixSide::New,
                "-" => FixSide::Old,
                _ => FixSide::Both,
            },
            text: text.to_owned(),
        }
    };
    FixHunk {
        heading: heading.to_owned(),
        lines: text.lines().map(line).collect(),
    }
}

fn check(hunk: &FixHunk, text: &str, expected: &[Found]) {
    let found: Vec<Found> = look(std::slice::from_ref(hunk), &Source::read(text))
        .iter()
        .map(|block| block.found)
        .collect();
    assert_eq!(found, expected, "{text}");
}

const FUNCTION: &str = "\
static int probe(struct device *dev)
{
	struct thing *thing = to_thing(dev);

	mutex_lock(&thing->lock);
	start_it(thing, dev->id);
	mutex_unlock(&thing->lock);
	return 0;
}
";

fn adds_a_check() -> FixHunk {
    hunk(
        "static int probe(struct device *dev)",
        " \tstruct thing *thing = to_thing(dev);\n \n \tmutex_lock(&thing->lock);\n\
         +\tif (!thing->ready)\n+\t\tgoto unlock;\n \tstart_it(thing, dev->id);\n \tmutex_unlock(&thing->lock);\n",
    )
}

fn with_check() -> String {
    FUNCTION.replace(
        "\tstart_it",
        "\tif (!thing->ready)\n\t\tgoto unlock;\n\tstart_it",
    )
}

#[test]
fn added_lines_are_found_between_their_neighbours() {
    check(&adds_a_check(), FUNCTION, &[Found::Before]);
    check(&adds_a_check(), &with_check(), &[Found::After]);
}

#[test]
fn comments_blanks_and_indentation_do_not_matter() {
    let wrapped = with_check()
        .replace(
            "\tif (!thing->ready)",
            "    if ( ! thing->ready ) /* why */\n\n",
        )
        .replace("\tstart_it(", "// more\n\t\t\tstart_it (");
    check(&adds_a_check(), &wrapped, &[Found::After]);
}

#[test]
fn a_change_that_was_reworded_is_neither() {
    let reworded = with_check().replace("!thing->ready", "thing->state != READY");
    check(&adds_a_check(), &reworded, &[Found::Neither]);
}

#[test]
fn what_stands_in_another_function_does_not_count() {
    // Its twin always had the check, and lost what the hunk has around it here.
    let twin = with_check().replace("probe(", "reset(");
    let drifted = FUNCTION.replace("\tmutex_lock", "\ttrace(dev);\n\tspin(dev);\n\tmutex_lock");
    check(
        &adds_a_check(),
        &format!("{twin}\n{drifted}"),
        &[Found::Before],
    );
    let lost = FUNCTION
        .replace("\tmutex_lock(&thing->lock);\n", "")
        .replace("start_it(thing, dev->id)", "start_it(thing)");
    check(
        &adds_a_check(),
        &format!("{twin}\n{lost}"),
        &[Found::Neither],
    );
}

#[test]
fn removed_lines_prove_nothing_until_their_neighbours_are_joined() {
    let removes = hunk(
        "static int probe(struct device *dev)",
        " \tstruct thing *thing = to_thing(dev);\n \n \tmutex_lock(&thing->lock);\n\
         -\tstart_it(thing, dev->id);\n \tmutex_unlock(&thing->lock);\n \treturn 0;\n }\n",
    );
    check(&removes, FUNCTION, &[Found::Before]);
    let gone = FUNCTION.replace("\tstart_it(thing, dev->id);\n", "");
    check(&removes, &gone, &[Found::After]);
    let rewritten = FUNCTION.replace("start_it(thing, dev->id)", "start_all(thing)");
    check(&removes, &rewritten, &[Found::Neither]);
}

#[test]
fn lines_in_between_leave_a_block_in_doubt() {
    let adds = hunk(
        "static int probe(struct device *dev)",
        " \tmutex_lock(&thing->lock);\n+\tfirst_step(thing, dev->name);\n+\tsecond_step(thing, dev->id);\n \tstart_it(thing, dev->id);\n",
    );
    let between = FUNCTION.replace(
        "\tstart_it",
        "\tfirst_step(thing, dev->name);\n\tlater(dev);\n\tsecond_step(thing, dev->id);\n\tstart_it",
    );
    check(&adds, &between, &[Found::Both]);
    let half = FUNCTION.replace("\tstart_it", "\tfirst_step(thing, dev->name);\n\tstart_it");
    check(&adds, &half, &[Found::Neither]);
}

#[test]
fn comments_and_includes_alone_say_nothing() {
    check(
        &hunk("", " int a;\n+/* a comment(with, tokens) */\n+\n int b;\n"),
        "int a;\nint b;\n",
        &[],
    );
    check(
        &hunk(
            "",
            " #include <linux/a.h>\n+#include <linux/b.h>\n #include <linux/c.h>\n",
        ),
        "int x;\n",
        &[],
    );
}

#[test]
fn functions_that_a_fix_brings_are_missed_by_name() {
    let brings = hunk(
        "",
        " \n /* tail of\n+ * doc */\n+static int helper_of_fix(int a)\n+{\n+\treturn check_it(a, 1);\n+}\n+\n /*\n  * more\n",
    );
    check(&brings, FUNCTION, &[Found::Before]);
    // Something of that name is there, and is not it.
    let other = format!("{FUNCTION}int helper_of_fix(int b);\n");
    check(&brings, &other, &[Found::Neither]);
}

#[test]
fn what_the_preprocessor_may_leave_out_is_not_in_force() {
    check(&adds_a_check(), &with_check(), &[Found::After]);
    for (open, close) in [
        ("#if 0\n", "#endif\n"),
        ("#ifdef CONFIG_A\n", "#else\n#endif\n"),
    ] {
        let dead = with_check().replace("\tif (!thing", &format!("{open}\tif (!thing"));
        let dead = dead.replace("goto unlock;\n", &format!("goto unlock;\n{close}"));
        let found = look(&[adds_a_check()], &Source::read(&dead));
        assert_ne!(found[0].found, Found::After, "{dead}");
        let whole = format!("{open}{}{close}", with_check());
        check(&adds_a_check(), &whole, &[Found::Both]);
    }
}

#[test]
fn a_twin_of_a_renamed_function_is_not_it() {
    let renamed = with_check().replace("probe(", "probe_other(");
    let found = look(&[adds_a_check()], &Source::read(&renamed));
    assert_ne!(found[0].found, Found::After);
}

#[test]
fn added_lines_that_stand_on_another_path_are_not_the_fix() {
    let adds = hunk(
        "static int probe(struct device *dev)",
        " \tmutex_lock(&thing->lock);\n+\tfirst_step(thing, dev->name);\n+\tsecond_step(thing, dev->id);\n\
         +\tthird_step(thing, dev->id);\n+\tfourth_step(thing, dev->id);\n \tstart_it(thing, dev->id);\n",
    );
    let steps = "\tfirst_step(thing, dev->name);\n\tsecond_step(thing, dev->id);\n\tthird_step(thing, dev->id);\n\tfourth_step(thing, dev->id);\n";
    let fixed = FUNCTION.replace("\tstart_it", &format!("{steps}\tstart_it"));
    check(&adds, &fixed, &[Found::After]);
    let dead = FUNCTION.replace(
        "\tstart_it",
        &format!("\tif (0) {{\n{steps}\t}}\n\tstart_it"),
    );
    check(&adds, &dead, &[Found::Both]);
    let late = FUNCTION
        .replace("start_it(thing", "start_them(thing")
        .replace("\treturn 0;\n", &format!("\treturn 0;\n{steps}"));
    check(&adds, &late, &[Found::Both]);
}

#[test]
fn what_was_removed_and_stands_elsewhere_in_the_function_may_have_moved() {
    let removes = hunk(
        "static int probe(struct device *dev)",
        " \tmutex_lock(&thing->lock);\n \tprepare_it(thing, dev->id);\n-\tstart_it(thing, dev->id);\n \tfinish_it(thing, dev->id);\n \tmutex_unlock(&thing->lock);\n",
    );
    let without = FUNCTION.replace(
        "\tstart_it(thing, dev->id);\n",
        "\tprepare_it(thing, dev->id);\n\tfinish_it(thing, dev->id);\n",
    );
    check(&removes, &without, &[Found::After]);
    let moved = without.replace("\treturn 0;", "\tstart_it(thing, dev->id);\n\treturn 0;");
    check(&removes, &moved, &[Found::Both]);
}

#[test]
fn what_a_change_moves_is_looked_for_where_it_goes() {
    let moves = hunk(
        "static int probe(struct device *dev)",
        " \tmutex_lock(&thing->lock);\n-\tstart_it(thing, dev->id);\n \tprepare_it(thing, dev->id);\n+\tstart_it(thing, dev->id);\n \tmutex_unlock(&thing->lock);\n \treturn 0;\n",
    );
    let before = FUNCTION.replace("dev->id);\n", "dev->id);\n\tprepare_it(thing, dev->id);\n");
    let start = "\tstart_it(thing, dev->id);\n";
    let prepare = "\tprepare_it(thing, dev->id);\n";
    let after = before.replace(&format!("{start}{prepare}"), &format!("{prepare}{start}"));
    check(&moves, &before, &[Found::Before, Found::Before]);
    check(&moves, &after, &[Found::After, Found::After]);
    // It was done twice.
    let twice = after.replace(
        "\treturn 0;\n",
        &format!("\tlog_it(thing, 1);\n{start}\treturn 0;\n"),
    );
    let found = look(std::slice::from_ref(&moves), &Source::read(&twice));
    assert_ne!(
        weigh(found.iter().map(|block| block.found)),
        Verdict::Carries
    );
}

#[test]
fn one_block_in_doubt_makes_the_whole_partial() {
    use Found::{After, Before, Both, Neither, Nothing};
    for (blocks, expected) in [
        (&[After, After][..], Verdict::Carries),
        (&[After, After, Nothing], Verdict::Partial),
        (&[Before, Nothing], Verdict::Lacks),
        (&[After, Before], Verdict::Partial),
        (&[After, Neither], Verdict::Partial),
        (&[Before, Neither], Verdict::Partial),
        (&[After, Both], Verdict::Partial),
        (&[Nothing], Verdict::Nothing),
        (&[], Verdict::Nothing),
    ] {
        assert_eq!(weigh(blocks.iter().copied()), expected, "{blocks:?}");
    }
}

/// A file and a change of one of its functions.
#[derive(Clone, Debug)]
struct Case {
    before: Vec<String>,
    after: Vec<String>,
    hunk: FixHunk,
}

/// Makes a file of functions whose statements are `words`, and replaces some lines of one.
fn case(
    words: &[Vec<u8>],
    which: usize,
    at: usize,
    removed: usize,
    added: &[u8],
    unique: bool,
) -> Case {
    let mut next = 0_u32;
    let mut statement = |word: u8| {
        next += 1;
        if unique {
            format!("\tstep_{next}(context, {word});")
        } else {
            match word % 4 {
                0 => "\tkfree(entry->name);".to_owned(),
                1 => "\tif (ret < 0)".to_owned(),
                2 => "\t\tgoto out;".to_owned(),
                _ => "\tret = next_of(entry, flags);".to_owned(),
            }
        }
    };
    let mut before = Vec::new();
    let mut bodies = Vec::new();
    for (number, body) in words.iter().enumerate() {
        before.push(format!(
            "static int function_{number}(struct context *context)"
        ));
        before.push("{".to_owned());
        bodies.push(before.len());
        before.extend(body.iter().map(|word| statement(*word)));
        before.push("}".to_owned());
        before.push(String::new());
    }
    let which = which % words.len();
    let start = bodies[which] + at % words[which].len();
    let end = (start + removed).min(bodies[which] + words[which].len());
    let new: Vec<String> = added.iter().map(|word| statement(*word)).collect();
    let mut after = before.clone();
    after.splice(start..end, new.iter().cloned());
    let line = |side, text: &String| FixLine {
        side,
        text: text.clone(),
    };
    let first = start.saturating_sub(3);
    let last = (end + 3).min(before.len());
    let mut lines: Vec<FixLine> = Vec::new();
    lines.extend(
        before[first..start]
            .iter()
            .map(|text| line(FixSide::Both, text)),
    );
    lines.extend(
        before[start..end]
            .iter()
            .map(|text| line(FixSide::Old, text)),
    );
    lines.extend(new.iter().map(|text| line(FixSide::New, text)));
    lines.extend(
        before[end..last]
            .iter()
            .map(|text| line(FixSide::Both, text)),
    );
    // As diff does: the nearest head above the hunk's first line.
    let heading = before[..first]
        .iter()
        .rev()
        .find(|line| line.starts_with("static"))
        .cloned()
        .unwrap_or_default();
    Case {
        before,
        after,
        hunk: FixHunk { heading, lines },
    }
}

fn cases(unique: bool) -> impl Strategy<Value = Case> {
    let body = proptest::collection::vec(any::<u8>(), 3..14);
    (
        proptest::collection::vec(body, 1..5),
        any::<usize>(),
        any::<usize>(),
        0_usize..4,
        proptest::collection::vec(any::<u8>(), 0..4),
    )
        .prop_filter("a change changes something", |(_, _, _, removed, added)| {
            *removed > 0 || !added.is_empty()
        })
        .prop_map(move |(words, which, at, removed, added)| {
            case(&words, which, at, removed, &added, unique)
        })
}

fn verdict(case: &Case, lines: &[String]) -> Verdict {
    let source = Source::read(&lines.join("\n"));
    weigh(
        look(std::slice::from_ref(&case.hunk), &source)
            .iter()
            .map(|block| block.found),
    )
}

/// Lines above and below that have nothing to do with it, and other blanks.
fn drifted(lines: &[String]) -> Vec<String> {
    let mut drifted = vec![
        "static void new_above(int a)".to_owned(),
        "{".to_owned(),
        "\tunrelated(a, 1);".to_owned(),
        "}".to_owned(),
    ];
    for line in lines {
        drifted.push(line.replace('\t', "    ").replace(", ", ",   "));
        drifted.push("  /* said ( of it ) */".to_owned());
    }
    drifted.push("static const int new_below[] = { 1, 2 };".to_owned());
    drifted
}

proptest! {
    #[test]
    fn a_change_is_carried_after_it_and_not_before_it(case in cases(true)) {
        prop_assert_eq!(verdict(&case, &case.after), Verdict::Carries);
        prop_assert_eq!(verdict(&case, &case.before), Verdict::Lacks);
        prop_assert_eq!(verdict(&case, &drifted(&case.after)), Verdict::Carries);
        prop_assert_eq!(verdict(&case, &drifted(&case.before)), Verdict::Lacks);
    }

    #[test]
    fn where_lines_repeat_a_file_is_never_taken_for_the_other_side(case in cases(false)) {
        prop_assume!(case.before != case.after);
        prop_assert_ne!(verdict(&case, &case.before), Verdict::Carries);
        prop_assert_ne!(verdict(&case, &drifted(&case.before)), Verdict::Carries);
        prop_assert_ne!(verdict(&case, &case.after), Verdict::Lacks);
        prop_assert_ne!(verdict(&case, &drifted(&case.after)), Verdict::Lacks);
    }

    #[test]
    fn any_text_is_searched_without_panic(old in "[a-z(){};/*\"'#\n\t -]{0,200}", new in "[a-z(){};/*\"'#\n\t -]{0,200}", text in "[a-z(){};/*\"'#\\\\\n\t -]{0,400}") {
        let mut lines: Vec<FixLine> = old.lines().map(|text| FixLine { side: FixSide::Old, text: text.to_owned() }).collect();
        lines.extend(new.lines().map(|text| FixLine { side: FixSide::New, text: text.to_owned() }));
        look(&[FixHunk { heading: new, lines }], &Source::read(&text));
        crate::ctext::fuzz(text.as_bytes());
    }
}
