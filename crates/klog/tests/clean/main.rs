//! Messages of kernels that are well: nothing may be found in them.

use tuxtape_klog::assemble::{Item, Limits};
use tuxtape_klog::parser::{Parser, parse};

/// Real messages; `@` is a number.
const MESSAGES: &str = include_str!("messages.txt");

/// One line in `dmesg`'s form.
fn line(index: usize) -> String {
    let count = MESSAGES.lines().count();
    // Neighbours change from round to round.
    let place = (index * 31 + index / count) % count;
    let text = MESSAGES.lines().nth(place).unwrap_or_default();
    let number = index.wrapping_mul(2_654_435_761) % 9973;
    format!(
        "[{:5}.{:06}] {}\n",
        index / 50,
        index * 20_000 % 1_000_000,
        text.replace('@', &number.to_string())
    )
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let mut parser = Parser::new(Limits::default());
    let mut items = Vec::new();
    let mut wrong = Vec::new();
    let mut block = String::new();
    let lines = 200_000;
    for index in 0..lines {
        block.push_str(&line(index));
        if block.len() > 1 << 16 || index + 1 == lines {
            parser.push(block.as_bytes(), &mut items);
            block.clear();
        }
        for item in items.drain(..) {
            if let Item::Report(report) = item {
                wrong.push(report.header);
            }
        }
    }
    parser.finish(&mut items);
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(parser.counts().records, lines as u64);
}

#[test]
fn the_same_lines_with_one_report_among_them_give_one() {
    let mut log: String = (0..500).map(line).collect();
    log.push_str("[   10.000000] WARNING: CPU: 0 PID: 1 at net/x.c:1 f+0x1/0x2\n");
    log.extend((500..1000).map(line));
    let found = parse(log.as_bytes(), Limits::default())
        .0
        .into_iter()
        .filter(|item| matches!(item, Item::Report(_)))
        .count();
    assert_eq!(found, 1);
}
