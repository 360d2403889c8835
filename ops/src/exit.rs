//! How the command ends, as scripts and service managers see it.
//!
//! | Code | Meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed; the text on stderr says why |
//! | 2 | wrong arguments or configuration; nothing was tried |
//! | 70 | the node was running and had to stop at once (a failed fsync, say); starting it again is right |
//! | 77 | the cluster does not want this node any more (it was removed, or its disk is not the one that its peers know); starting it again does not help |

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

/// Wrong arguments or configuration: exit code 2.
#[derive(Debug)]
pub struct Usage(pub String);

/// The cluster does not want this node any more: exit code 77.
#[derive(Debug)]
pub struct Unwanted(pub String);

/// A running node had to stop at once: exit code 70.
#[derive(Debug)]
pub struct Fatal(pub String);

/// The exit code of [`Usage`], the same that clap uses.
pub const USAGE: u8 = 2;
/// The exit code of [`Unwanted`] (EX_NOPERM of sysexits.h); service managers must not restart on it.
pub const UNWANTED: u8 = 77;
/// The exit code of [`Fatal`] (EX_SOFTWARE of sysexits.h).
pub const FATAL: u8 = 70;

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Unwanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}
impl std::error::Error for Unwanted {}
impl std::error::Error for Fatal {}

/// Ends a process that runs a node, at once. Nothing that the process set up is taken down: C++ would destroy
/// what RocksDB's threads still lock with, and a node that stopped well would end by SIGABRT.
#[allow(unsafe_code, reason = "the system's call has no safe form in std")]
pub fn end(code: u8) -> ! {
    // SAFETY: the call takes a number and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Ends a process that ran a node, with what came of it.
pub fn end_with(outcome: anyhow::Result<()>) -> ! {
    end(match outcome {
        Ok(()) => 0,
        Err(error) => told(&error),
    })
}

/// Prints an error, if there is one, and picks the exit code.
pub fn report(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(error) => ExitCode::from(told(&error)),
    }
}

/// Prints an error and gives its exit code.
fn told(error: &anyhow::Error) -> u8 {
    tell(format_args!("error: {error:#}"));
    code_of(error)
}

/// Prints a line on standard error. Where that cannot be written nobody is left to tell, and the exit code
/// says enough.
pub fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn code_of(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() {
        USAGE
    } else if error.is::<Unwanted>() {
        UNWANTED
    } else if error.is::<Fatal>() {
        FATAL
    } else {
        1
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_code_tells_usage_from_failure_and_from_a_fatal_stop_even_with_context() {
        let usage = anyhow::Error::new(Usage("no".into())).context("while starting");
        let fatal = Err::<(), _>(Fatal("fsync".into()))
            .context("node")
            .unwrap_err();
        assert_eq!(code_of(&usage), USAGE);
        let unwanted = anyhow::Error::new(Unwanted("removed".into())).context("node");
        assert_eq!(code_of(&unwanted), UNWANTED);
        assert_eq!(code_of(&fatal), FATAL);
        assert_eq!(code_of(&anyhow::anyhow!("plain")), 1);
    }
}
