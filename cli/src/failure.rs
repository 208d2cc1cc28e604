//! Why a subcommand ended without its result, and with which exit code.

use std::io;
use std::process::ExitCode;

use recordings::pages::InputError;

/// Failure of a subcommand; one variant per exit code or kind of message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A file is not what its format promises.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Output could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// Returns the exit code that the command ends with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Input(_) => ExitCode::from(2),
            Self::Output(_) => ExitCode::from(1),
        }
    }
}
