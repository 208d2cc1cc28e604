//! Why a subcommand ended without its result, and with which exit code.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use recordings::boot_log::BootLogError;
use recordings::pages::InputError;
use sim::MachineError;
use sim::description::DescriptionError;

use crate::boot::{AppendError, SettingError};

/// Failure of a subcommand; one variant per exit code or kind of message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A file is not what its format promises.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A kernel log cannot be read.
    #[error("{}: {error}", .file.display())]
    BootLog {
        /// The log.
        file: PathBuf,
        /// Where and why.
        error: BootLogError,
    },
    /// A machine description cannot be used.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// A described machine does not boot.
    #[error("the machine does not boot: {0}")]
    Boot(#[from] MachineError),
    /// A setting that the kernel would refuse.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// Kernel options that cannot be used.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The recorded machine cannot be built on this host, or its recording describes none.
    #[error("cannot build the machine: {0}")]
    Machine(String),
    /// Arguments that do not fit together or the input.
    #[error("{0}")]
    Usage(String),
    /// The process on the host's kernel could not be run.
    #[error("the process on the host's kernel: {0}")]
    Host(String),
    /// Output could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// Returns the exit code that the command ends with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Input(_) | Self::BootLog { .. } | Self::Setting(_) | Self::Append(_) | Self::Description(_) => {
                ExitCode::from(2)
            }
            Self::Boot(MachineError::CommandLine(_) | MachineError::MapFull) | Self::Machine(_) | Self::Usage(_) => {
                ExitCode::from(2)
            }
            Self::Boot(_) | Self::Host(_) | Self::Output(_) => ExitCode::from(1),
        }
    }
}
