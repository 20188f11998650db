//! What a family of reports looks like: which line opens it, what it is called, where the guilty
//! function stands.

use super::class::Class;

/// Reports that one text opens.
#[derive(Debug)]
pub(super) struct Family {
    /// The text. Where a line has several, the family that comes first has it.
    pub(super) literal: &'static str,
    /// Class of a report that fits no shape.
    pub(super) class: Class,
    /// The line opens nothing when it also says one of these.
    pub(super) unless: &'static [&'static str],
    /// The shapes, most telling first.
    pub(super) shapes: &'static [Shape],
    /// How it stands to other headers of its context.
    pub(super) place: Standing,
}

/// How a header stands to others nearby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Opens a report, also inside another.
    Alone,
    /// Belongs to an open report where there is one, and else opens its own.
    Inside,
    /// Says why a header follows; where none does, it is a report itself.
    Before,
}

/// One form of a family's reports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Has to be found; the shape whose place comes first wins.
    pub(super) header: &'static str,
    /// Has to be found too, and then says what is captured.
    pub(super) whole: Option<&'static str>,
    /// The title: `{1}` and so on stand for captures, then for the guilty functions.
    pub(super) title: &'static str,
    /// Other names of the same bug.
    pub(super) alt: &'static [&'static str],
    /// Where the guilty function stands.
    pub(super) walk: Option<Walk>,
    /// Comes without a stack.
    pub(super) bare: bool,
    /// Seen as a header only where the real one was lost.
    pub(super) lost: bool,
    /// What it is about.
    pub(super) class: Class,
}

/// The way to the guilty function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// Places to pass, in order.
    pub(super) steps: &'static [Step],
    /// Places to pass where those lead nowhere, one way after another.
    pub(super) or: &'static [&'static [Step]],
    /// Functions to pass over beside those of [`super::skip::ALWAYS`].
    pub(super) skip: &'static [&'static str],
    /// Which function of those left.
    pub(super) pick: Pick,
}

/// One place to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The line of the instruction pointer.
    Pointer,
    /// The same, or ppc's `--- interrupt:` line.
    PointerOrInterrupt,
    /// The line above a call trace.
    Trace,
    /// A line of this pattern; what it captures counts as a function.
    Line(&'static str),
    /// Lines of a stack up to the next step or the next stack.
    Frames,
}

/// Which function of a walk is guilty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    /// The first.
    First,
    /// The one above the first anchor: the top of a looping stack is random.
    Stall,
    /// The first that is no waiting itself, with what everybody waits for taken together.
    Hang,
}

impl Family {
    pub(super) const fn new(literal: &'static str, class: Class, shapes: &'static [Shape]) -> Self {
        Self {
            literal,
            class,
            unless: &[],
            shapes,
            place: Standing::Alone,
        }
    }

    pub(super) const fn unless(self, unless: &'static [&'static str]) -> Self {
        Self { unless, ..self }
    }

    pub(super) const fn stands(self, place: Standing) -> Self {
        Self { place, ..self }
    }
}

impl Shape {
    pub(super) const fn new(class: Class, header: &'static str, title: &'static str) -> Self {
        Self {
            header,
            whole: None,
            title,
            alt: &[],
            walk: None,
            bare: false,
            lost: false,
            class,
        }
    }

    pub(super) const fn whole(self, whole: &'static str) -> Self {
        Self {
            whole: Some(whole),
            ..self
        }
    }

    pub(super) const fn alt(self, alt: &'static [&'static str]) -> Self {
        Self { alt, ..self }
    }

    pub(super) const fn walk(self, walk: Walk) -> Self {
        Self {
            walk: Some(walk),
            ..self
        }
    }

    pub(super) const fn bare(self) -> Self {
        Self { bare: true, ..self }
    }

    pub(super) const fn lost(self) -> Self {
        Self { lost: true, ..self }
    }
}

impl Walk {
    pub(super) const fn new(steps: &'static [Step]) -> Self {
        Self {
            steps,
            or: &[],
            skip: &[],
            pick: Pick::First,
        }
    }

    pub(super) const fn or(self, or: &'static [&'static [Step]]) -> Self {
        Self { or, ..self }
    }

    pub(super) const fn skip(self, skip: &'static [&'static str]) -> Self {
        Self { skip, ..self }
    }

    pub(super) const fn pick(self, pick: Pick) -> Self {
        Self { pick, ..self }
    }
}

/// The call trace alone.
pub(super) const TRACE: Walk = Walk::new(&[Step::Trace, Step::Frames]);
/// The instruction pointer, then the call trace.
pub(super) const POINTER: Walk = Walk::new(&[Step::Pointer, Step::Trace, Step::Frames]);
/// The instruction pointer alone.
pub(super) const POINTER_ONLY: Walk = Walk::new(&[Step::Pointer]);
/// Where the kernel traps to warn, its stack starts anew at the instruction pointer; where it does
/// not, there is the call trace alone.
pub(super) const WARNING: Walk =
    Walk::new(&[Step::PointerOrInterrupt, Step::Frames]).or(&[&[Step::Trace, Step::Frames]]);
