//! The terminal behind the standard output.

use std::io;

/// Returns the columns of the terminal on the standard output; `None` where it is none, or does not
/// say.
pub fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}
