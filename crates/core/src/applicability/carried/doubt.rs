//! Why a change that stands in a file may not be in force there.

use std::fmt;

/// One reason for which what stands as after a change does not show that the change is in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// It is within other blocks, or under other conditions of the preprocessor.
    OtherBlocks,
    /// Its lines are part of other statements, or control others.
    OtherNeighbours,
    /// There are other definitions of this name than the change knows.
    OtherDefinitions(String),
    /// A jump before it keeps it from being reached.
    NotReached,
    /// A jump goes over it to this label, as none does after the change.
    JumpedOver(String),
    /// This label parts it from what it guards.
    Parted(String),
    /// This statement, of which the change brings one more, stands less often than after it.
    Fewer(String),
    /// What it removes is still in the function.
    StillThere(String),
    /// What it sets or asks for is set once more.
    SetAgain(String),
    /// A statement that the change does not know uses what it bounds or gives up.
    UsedOtherwise(String),
    /// A statement that the change does not know uses what it asks for, before it asks.
    UsedBefore(String),
    /// A call that it removes is made by another statement, or by this function that is called from there.
    CalledAgain(String),
    /// The preprocessor makes something else of this name.
    OtherMacro(String),
    /// This value is another one.
    OtherValue(String),
    /// This function, which it asks, is another one.
    OtherCallee(String),
    /// This function is as the changed one was before, under another name.
    Twin(String),
    /// This definition uses the changed function after the change, and does not here.
    NotUsed(String),
}

impl fmt::Display for Doubt {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherBlocks => write!(to, "it stands within other blocks or conditions"),
            Self::OtherNeighbours => write!(to, "what stands next to it is something else"),
            Self::OtherDefinitions(name) => write!(to, "`{name}` is defined otherwise, too"),
            Self::NotReached => write!(to, "a jump before it keeps it from being reached"),
            Self::JumpedOver(label) => write!(to, "a jump goes over it to `{label}`"),
            Self::Parted(label) => write!(to, "`{label}` parts it from what follows"),
            Self::Fewer(code) => write!(to, "`{code}` stands there less often"),
            Self::StillThere(code) => write!(to, "`{code}` is still there"),
            Self::SetAgain(path) => write!(to, "`{path}` is set otherwise, too"),
            Self::UsedOtherwise(path) => write!(to, "`{path}` is used otherwise, too"),
            Self::UsedBefore(path) => write!(to, "`{path}` is used before it"),
            Self::CalledAgain(name) => write!(to, "what it removes is done by `{name}`"),
            Self::OtherMacro(name) => write!(to, "`{name}` is another macro"),
            Self::OtherValue(name) => write!(to, "`{name}` has another value"),
            Self::OtherCallee(name) => write!(to, "`{name}` is another function"),
            Self::Twin(name) => write!(to, "`{name}` is as it was before the fix"),
            Self::NotUsed(name) => write!(to, "`{name}` does not use it"),
        }
    }
}
