//! Which statements of a function can be reached.

use super::align;
use crate::ctext::Unit;

/// Deepest nesting of statements that is followed; what is deeper is taken for reached.
const DEEPEST: u32 = 128;

/// Tells of each unit of a function whether jumps before it keep it from ever being reached. What is not
/// known is taken for reached: conditions that are always true in other words, calls that do not return.
pub(super) fn unreached(units: &[Unit]) -> Vec<bool> {
    let mut flow = Flow {
        units,
        unreached: vec![false; units.len()],
    };
    let mut at = 0;
    let mut is_live = true;
    while at < units.len() {
        let end = flow.statement(at, is_live, 0);
        (at, is_live) = (end.at, end.falls);
    }
    flow.unreached
}

struct Flow<'a> {
    units: &'a [Unit],
    unreached: Vec<bool>,
}

/// How a statement ends.
struct End {
    /// Index of the unit behind it.
    at: usize,
    /// Whether control reaches that.
    falls: bool,
    /// Whether a `break` in it leaves what is around it.
    breaks: bool,
    /// Whether a `continue` in it does.
    continues: bool,
}

impl Flow<'_> {
    fn code(&self, at: usize) -> &str {
        self.units.get(at).map_or("", |unit| unit.code.as_str())
    }

    /// Follows the statement that begins at `at`, which is before the end.
    fn statement(&mut self, at: usize, is_live: bool, depth: u32) -> End {
        let code = self.code(at).to_owned();
        let is_live = is_live || self.is_target(&code);
        if let Some(own) = self.unreached.get_mut(at) {
            *own = !is_live;
        }
        let next = at.saturating_add(1);
        let plain = End {
            at: next,
            falls: is_live,
            breaks: false,
            continues: false,
        };
        if depth >= DEEPEST {
            return End {
                falls: true,
                ..plain
            };
        }
        let depth = depth.saturating_add(1);
        let word = code.split(' ').next().unwrap_or_default();
        match word {
            _ if code == "{" || code.ends_with(" {") => self.block(next, is_live, depth),
            "if" if align::is_head(&code) => self.choice(next, is_live, is_always(&code), depth),
            "do" if align::is_head(&code) => self.repeated(next, is_live, depth),
            "while" | "for" if align::is_head(&code) => {
                let body = self.statement(next, is_live, depth);
                let falls = body.breaks || (is_live && !is_always(&code));
                End {
                    at: body.at,
                    falls,
                    ..plain
                }
            }
            "switch" if align::is_head(&code) => {
                let body = self.statement(next, is_live, depth);
                let own = self.units.get(at..body.at).unwrap_or_default();
                let is_any = own.iter().any(|unit| unit.code.starts_with("default"));
                End {
                    falls: body.falls || body.breaks || (is_live && !is_any),
                    breaks: false,
                    ..body
                }
            }
            "return" | "goto" => End {
                falls: false,
                ..plain
            },
            "break" => End {
                falls: false,
                breaks: is_live,
                ..plain
            },
            "continue" => End {
                falls: false,
                continues: is_live,
                ..plain
            },
            _ => plain,
        }
    }

    /// Follows the statements of a block up to behind its brace.
    fn block(&mut self, from: usize, is_live: bool, depth: u32) -> End {
        let mut end = End {
            at: from,
            falls: is_live,
            breaks: false,
            continues: false,
        };
        while end.at < self.units.len() {
            if self.code(end.at) == "}" {
                if let Some(own) = self.unreached.get_mut(end.at) {
                    *own = !end.falls;
                }
                end.at = end.at.saturating_add(1);
                break;
            }
            let next = self.statement(end.at, end.falls, depth);
            end = End {
                breaks: end.breaks || next.breaks,
                continues: end.continues || next.continues,
                ..next
            };
        }
        end
    }

    /// Follows what an `if` controls, and its `else`.
    fn choice(&mut self, from: usize, is_live: bool, is_always: bool, depth: u32) -> End {
        let first = self.statement(from, is_live, depth);
        if self.code(first.at) != "else" {
            let falls = first.falls || (is_live && !is_always);
            return End { falls, ..first };
        }
        let is_live = is_live && !is_always;
        if let Some(own) = self.unreached.get_mut(first.at) {
            *own = !is_live;
        }
        let other = self.statement(first.at.saturating_add(1), is_live, depth);
        End {
            at: other.at,
            falls: first.falls || other.falls,
            breaks: first.breaks || other.breaks,
            continues: first.continues || other.continues,
        }
    }

    /// Follows what a `do` controls, and its `while`.
    fn repeated(&mut self, from: usize, is_live: bool, depth: u32) -> End {
        let body = self.statement(from, is_live, depth);
        let is_endless = is_always(self.code(body.at));
        let reaches_end = body.falls || body.continues;
        if let Some(own) = self.unreached.get_mut(body.at) {
            *own = !reaches_end;
        }
        End {
            at: body.at.saturating_add(1),
            falls: body.breaks || (reaches_end && !is_endless),
            breaks: false,
            continues: false,
        }
    }

    /// Tells whether control may come to a unit from elsewhere: an arm of a switch, a label that is named
    /// somewhere, a directive, as which of its arms is compiled is not known.
    fn is_target(&self, code: &str) -> bool {
        if code.starts_with("# ") || code.starts_with("case ") || code.starts_with("default") {
            return true;
        }
        let Some(label) = code.strip_suffix(" :") else {
            return false;
        };
        let mut others = self.units.iter().filter(|unit| unit.code != code);
        others.any(|unit| unit.code.split(' ').any(|word| word == label))
    }
}

/// Tells whether the condition of a head is always true.
fn is_always(code: &str) -> bool {
    let Some((_, condition)) = code.split_once(' ') else {
        return false;
    };
    matches!(
        condition,
        "( 1 )" | "( true )" | "( ! 0 )" | "( ; ; )" | "( ; 1 ; )"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctext;

    /// Names the statements `x<number> ;` that are not reached.
    fn check(body: &str, expected: &[&str]) {
        let chunks = ctext::outline(&format!("int f(int a)\n{{\n{body}\n}}\n"));
        let units = &chunks.first().unwrap().units;
        let marks = unreached(units);
        let found: Vec<&str> = units
            .iter()
            .zip(marks)
            .filter(|(unit, is_unreached)| *is_unreached && unit.code.starts_with('x'))
            .map(|(unit, _)| unit.code.strip_suffix(" ;").unwrap())
            .collect();
        assert_eq!(found, expected, "{body}");
    }

    #[test]
    fn what_follows_a_jump_is_not_reached_but_by_its_label() {
        check("x1; return 0; x2;", &["x2"]);
        check("x1; if (a) return 0; x2;", &[]);
        check("if (a) { return 0; x1; } x2;", &["x1"]);
        check("goto out; x1; out: x2;", &["x1"]);
        check("return 0; unused: x1;", &["x1"]);
        check("if (a) goto used; return 0; x1; used: x2;", &["x1"]);
    }

    #[test]
    fn a_compound_statement_that_always_leaves_is_a_jump() {
        check("do { return 0; } while (0); x1;", &["x1"]);
        check("{ return 0; } x1;", &["x1"]);
        check("{ { goto out; } x1; } x2; out: x3;", &["x1", "x2"]);
        check("if (1) return 0; x1;", &["x1"]);
        check("if (1) { x1; return 0; } x2;", &["x2"]);
        check("if (a) return 0; else return 1; x1;", &["x1"]);
        check(
            "if (a) return 0; else if (b) { return 1; } else { return 2; } x1;",
            &["x1"],
        );
        check("for (;;) { x1; return 0; } x2;", &["x2"]);
        check("while (1) { if (a) return 0; } x1;", &["x1"]);
        check(
            "switch (a) { case 1: return 0; default: return 1; } x1;",
            &["x1"],
        );
    }

    #[test]
    fn a_compound_statement_that_may_end_is_none() {
        check("do { break; } while (0); x1;", &[]);
        check("do { if (a) continue; return 0; } while (0); x1;", &[]);
        check("do { if (a) break; return 0; } while (0); x1;", &[]);
        check("if (a) { return 0; } x1;", &[]);
        check("if (a) return 0; else x1; x2;", &[]);
        check("if (a) return 0; else if (b) return 1; x1;", &[]);
        check("while (a) { return 0; } x1;", &[]);
        check("for (;;) { if (a) break; } x1;", &[]);
        check("for (;;) { switch (a) { case 1: break; } } x1;", &["x1"]);
        check("switch (a) { case 1: return 0; } x1;", &[]);
        check("switch (a) { case 1: break; default: return 1; } x1;", &[]);
        check("#ifdef A\nreturn 0;\n#endif\nx1;", &[]);
    }

    #[test]
    fn nesting_without_end_ends() {
        check(&"if (a) ".repeat(5000), &[]);
        check(&"{".repeat(5000), &[]);
    }
}
