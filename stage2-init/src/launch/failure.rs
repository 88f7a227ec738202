//! Why a process could not be executed, as bytes over the pipe between the launcher and its child.
//!
//! ```text
//! ┌───────┬───────────────┬───────────────────────────┐
//! │ phase │ errno: u32 LE │ object, at most 512 bytes │
//! └───────┴───────────────┴───────────────────────────┘
//! ```
//!
//! The pipe is closed by `execve`: nothing but its end means success. By the time the child writes
//! it may see files of the app, never run any: still, what comes out is bounded and checked.

use std::io;

use pod_abi::exit::{CANNOT_EXECUTE, NOT_FOUND, OURS};
use pod_abi::report::Report;

/// The longest object that is told.
const MAX_OBJECT: usize = 512;
/// The longest message.
pub(super) const MAX_MESSAGE: usize = 5 + MAX_OBJECT;

macro_rules! phases {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $text:literal;)*) => {
        /// What the launcher was doing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Phase {
            $($(#[$doc])* $variant,)*
        }

        impl Phase {
            const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the stable word of the report.
            const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// Returns what could not be done, to be followed by the object.
            const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

phases! {
    /// Reading the specification.
    Prepare = "app.spec", "cannot prepare";
    /// Compiling the seccomp profile.
    Profile = "app.seccomp", "cannot apply";
    /// Making the process.
    Clone = "app.clone", "cannot make a process in";
    /// Resetting what was inherited.
    Inherit = "app.inherited", "cannot reset";
    /// Taking a controlling terminal.
    Terminal = "app.terminal", "cannot take";
    /// Setting a resource limit.
    Limit = "app.limit", "cannot set";
    /// Setting `oom_score_adj`.
    OomScore = "app.oom-score", "cannot set";
    /// Entering the app's namespaces.
    Join = "app.join", "cannot enter";
    /// Making namespaces of its own.
    Namespaces = "app.namespaces", "cannot make";
    /// Mounting what belongs to those namespaces.
    Mount = "app.mount", "cannot mount";
    /// Hiding a path.
    Mask = "app.mask", "cannot mask";
    /// Making a path read-only.
    ReadOnly = "app.read-only", "cannot make read-only";
    /// Placing standard input, output and error.
    Stdio = "app.stdio", "cannot place";
    /// Placing the sockets of a service manager.
    Sockets = "app.sockets", "cannot place";
    /// Entering the working directory.
    WorkingDirectory = "app.cwd", "cannot enter the working directory";
    /// Closing what is not the app's.
    Descriptors = "app.descriptors", "cannot close";
    /// Giving up capabilities.
    Capabilities = "app.capabilities", "cannot set";
    /// Becoming the user.
    Identity = "app.identity", "cannot become";
    /// Installing the filter.
    Filter = "app.seccomp", "cannot install";
    /// The program does not exist.
    NotFound = "app.not-found", "there is no program";
    /// The program exists, and the kernel does not execute it.
    NotExecutable = "app.not-executable", "cannot execute";
    /// The program has no permission to be executed.
    NotPermitted = "app.not-executable", "cannot execute";
    /// The interpreter of the program does not exist.
    NoInterpreter = "app.no-interpreter", "cannot execute";
    /// The same, for a carriage return at the end of its name.
    WindowsLines = "app.no-interpreter", "cannot execute";
    /// Copying files in or out.
    Copy = "app.copy", "cannot copy";
    /// A shared library the program needs does not exist.
    MissingLibrary = "app.missing-library", "a shared library is missing:";
    /// The program is for another machine.
    WrongMachine = "app.wrong-machine", "cannot execute";
}

/// Why a process could not be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    phase: Phase,
    errno: i32,
    object: String,
}

impl Failure {
    pub(super) fn new(phase: Phase, error: &io::Error, object: impl Into<String>) -> Self {
        Self { phase, errno: error.raw_os_error().unwrap_or(0), object: object.into() }
    }

    /// Makes a failure the kernel has not told of.
    pub(super) fn without_cause(phase: Phase, object: impl Into<String>) -> Self {
        Self { phase, errno: 0, object: object.into() }
    }

    /// Returns the exit status it stands for.
    pub(crate) const fn code(&self) -> u8 {
        match self.phase {
            Phase::NotFound | Phase::MissingLibrary => NOT_FOUND,
            Phase::NotExecutable
            | Phase::NotPermitted
            | Phase::NoInterpreter
            | Phase::WindowsLines
            | Phase::WrongMachine => CANNOT_EXECUTE,
            _ => OURS,
        }
    }

    /// Returns the report for a person; `whose` is the app's name.
    pub(crate) fn report(&self, whose: &str) -> Report {
        let Self { phase, errno, object } = self;
        let message = format!("{} {object} in app `{whose}`", phase.text());
        let mut report = Report::new(phase.code(), message).exit(self.code());
        if *errno != 0 {
            report.causes.push(io::Error::from_raw_os_error(*errno).to_string());
        }
        match self.hint() {
            Some(hint) => report.hint(hint),
            None => report,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self.phase {
            Phase::NotFound => Some(
                "name a program that is in the image, or give its whole path; without a slash it \
                 is looked up in `PATH` of the app's environment",
            ),
            Phase::NoInterpreter => Some(
                "use an image that contains this interpreter, or a program that is linked \
                 statically",
            ),
            Phase::NotPermitted => {
                Some("make it executable in the image (`chmod +x`), or name its interpreter first")
            }
            Phase::WindowsLines => Some("write the script with lines that end in LF (`dos2unix`)"),
            Phase::MissingLibrary => Some(
                "use an image that contains this library, or a program that is linked statically",
            ),
            Phase::WrongMachine => Some("fetch the image for the platform of this machine"),
            Phase::Limit => Some("ask for no more than the limit of the caller (`ulimit -Ha`)"),
            Phase::OomScore => Some("ask for no less than the caller's `oom_score_adj`"),
            _ => None,
        }
    }

    /// Encodes it, the object cut to what is told.
    pub(super) fn encode(&self) -> Vec<u8> {
        let phase = Phase::ALL.iter().position(|phase| *phase == self.phase);
        let mut end = self.object.len().min(MAX_OBJECT);
        while !self.object.is_char_boundary(end) {
            end -= 1;
        }
        let mut bytes = vec![phase.and_then(|index| u8::try_from(index).ok()).unwrap_or(0)];
        bytes.extend_from_slice(&self.errno.unsigned_abs().to_le_bytes());
        bytes.extend_from_slice(&self.object.as_bytes()[..end]);
        bytes
    }

    /// Decodes what a child has written.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (phase, rest) = bytes.split_first()?;
        let (errno, object) = rest.split_first_chunk::<4>()?;
        Some(Self {
            phase: *Phase::ALL.get(usize::from(*phase))?,
            errno: i32::try_from(u32::from_le_bytes(*errno)).unwrap_or(0),
            object: String::from_utf8_lossy(object).into_owned(),
        })
    }
}

/// Says of a failed call what it was for.
pub(super) trait At<T> {
    /// Turns the error into a [`Failure`] of `phase` with `object`.
    fn at(self, phase: Phase, object: &str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, phase: Phase, object: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(phase, &error.into(), object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_pipe() {
        let error = io::Error::from_raw_os_error(13);
        for phase in Phase::ALL {
            let failure = Failure::new(*phase, &error, "`x`");
            assert_eq!(Failure::decode(&failure.encode()), Some(failure));
        }
    }

    #[test]
    fn a_long_object_is_cut_between_letters() {
        let failure = Failure::new(Phase::Mask, &io::Error::from_raw_os_error(2), "é".repeat(400));
        let bytes = failure.encode();
        assert!(bytes.len() <= MAX_MESSAGE);
        assert_eq!(Failure::decode(&bytes).unwrap().object.chars().count(), 256);
    }

    #[test]
    fn other_bytes_are_no_failure() {
        for bytes in [&b""[..], &[0], &[0, 1, 2, 3], &[200, 0, 0, 0, 0]] {
            assert_eq!(Failure::decode(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn only_a_missing_program_is_127_and_only_one_that_cannot_run_126() {
        let code =
            |phase| Failure::new(phase, &io::Error::from_raw_os_error(2), "").report("a").exit;
        assert_eq!(code(Phase::NotFound), 127);
        assert_eq!(code(Phase::NotExecutable), 126);
        assert_eq!(code(Phase::NoInterpreter), 126);
        assert_eq!(code(Phase::Mask), 125);
    }
}
