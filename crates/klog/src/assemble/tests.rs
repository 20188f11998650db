//! What is told of a report before it is closed.

use super::Limits;
use crate::blame::{Blamer, Verdict};
use crate::parser::Parser;
use crate::patches::{Baseline, Patches};

const OOPS: &str = "\
4,1,1000,-,caller=T88;livepatch: enabling patch 'tt_1'
4,2,2000,-,caller=T88;livepatch: 'tt_1': starting patching transition
4,3,3000,-,caller=T88;livepatch: 'tt_1': patching complete
4,4,4000,-,caller=T88;BUG: kernel NULL pointer dereference, address: 0000000000000000
4,5,5000,-,caller=T88;CPU: 1 PID: 88 Comm: curl Tainted: G           OE K    6.1.0-47 #1
4,6,6000,-,caller=T88;RIP: 0010:tcp_sendmsg+0x16/0x40 [tt_1]
4,7,7000,-,caller=T88;Call Trace:
4,8,8000,-,caller=T88; sock_sendmsg+0x58/0x70
4,9,9000,-,caller=T88; f+0x58/0x70
4,10,10000,-,caller=T88;---[ end trace 0000000000000000 ]---
";

#[test]
fn a_report_that_is_over_by_its_own_words_is_judged_before_it_is_closed() {
    let mut parser = Parser::new(Limits::default());
    let mut blamer = Blamer::new(Patches::default(), Baseline::default());
    let mut items = Vec::new();
    let (before, last) = OOPS.split_at(OOPS.rfind("4,10").expect("the last line"));
    parser.push(before.as_bytes(), &mut items);
    for item in items.drain(..) {
        blamer.take(&item);
    }
    assert_eq!(parser.foresee(), [], "it may go on");
    parser.push(last.as_bytes(), &mut items);
    assert_eq!(items, [], "it is still open");
    let foreseen = parser.foresee();
    assert_eq!(parser.foresee(), [], "once is enough");
    let verdict = |blamer: &Blamer| blamer.verdicts(None).first().map(|told| told.verdict);
    let ahead = blamer.foresee(&foreseen[0]).expect("it makes tt_1 guilty");
    assert_eq!(verdict(&ahead), Some(Verdict::Guilty));
    assert_eq!(verdict(&blamer), Some(Verdict::Innocent));
    parser.finish(&mut items);
    let closed = items.iter().find_map(|item| match item {
        super::Item::Report(report) => Some(report),
        super::Item::Event(_) | super::Item::Incident(_) | super::Item::Gap(_) => None,
    });
    let closed = closed.expect("one report");
    assert_eq!(closed.title, foreseen[0].title);
    blamer.take(&items[0]);
    assert_eq!(verdict(&blamer), Some(Verdict::Guilty));
    assert!(blamer.foresee(closed).is_none(), "that is known by then");
}
