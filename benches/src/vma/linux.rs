//! Linux's own code for areas beside mmkit's in the same run: built in user space from a source tree that the user names.
//!
//! The programs in `benches/linux` are the project's; what they are built of is Linux's, and stays in the build directory. They print what
//! one round took, and are run once a round, in turn with the others.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clock::median;

/// Columns of the table of stores, and of the table of calls.
const STORES: usize = 5;
const CALLS: usize = 3;

/// Says where Linux's figures come from.
pub(crate) const fn source(peer: Option<&Linux>) -> &'static str {
    match peer {
        Some(_) => "built in user space, in the same run",
        None => "built in user space, recorded on another machine",
    }
}

/// Linux's figures of one row: those of each round, or the recorded ones.
pub(crate) struct Rounds<const N: usize> {
    recorded: [f64; N],
    samples: [Vec<f64>; N],
}

impl<const N: usize> Rounds<N> {
    /// Starts with the recorded figures.
    pub(crate) fn of(recorded: [f64; N]) -> Self {
        Self { recorded, samples: [const { Vec::new() }; N] }
    }

    /// Adds a round's figures, if there are any; ends the program if they could not be had.
    pub(crate) fn extend(&mut self, row: Option<Result<[f64; N], LinuxError>>) {
        let row = row.map(|row| row.unwrap_or_else(|error| error.exit()));
        row.into_iter().flatten().zip(&mut self.samples).for_each(|(value, samples)| samples.push(value));
    }

    /// Returns the median of each column.
    pub(crate) fn medians(mut self) -> [f64; N] {
        let measured = self.samples.each_mut().map(|samples| (!samples.is_empty()).then(|| median(samples)));
        std::array::from_fn(|column| measured[column].unwrap_or(self.recorded[column]))
    }
}

/// What could not be done.
#[derive(Debug)]
pub(crate) enum LinuxError {
    /// The directory has no file that Linux 6.12's source tree has.
    NotATree(PathBuf),
    /// A file or a program of ours.
    Io(PathBuf, io::Error),
    /// The compiler or the built program says no; its words.
    Failed(String, String),
}

impl std::fmt::Display for LinuxError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotATree(path) => write!(f, "{}: not found; expected a source tree of Linux 6.12", path.display()),
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Failed(what, words) => write!(f, "{what} failed (it needs liburcu's headers and library): {words}"),
        }
    }
}

impl LinuxError {
    /// Says what is wrong with what the user named, and ends the program.
    pub(crate) fn exit(&self) -> ! {
        eprintln!("error: {self}");
        std::process::exit(2)
    }
}

/// Linux's code, built.
#[derive(Debug)]
pub(crate) struct Linux {
    program: PathBuf,
}

/// Headers that Linux's makefiles write for their user-space programs.
const GENERATED: [(&str, &str); 3] = [
    ("autoconf.h", "#include \"bit-length.h\"\n"),
    ("bit-length.h", "#define CONFIG_64BIT 1\n"),
    ("map-shift.h", "#define XA_CHUNK_SHIFT 3\n"),
];

impl Linux {
    /// Builds the programs of Linux's tree at `tree`, beside this program.
    ///
    /// # Errors
    /// [`LinuxError`]: no such tree, or it does not build here.
    pub(crate) fn build(tree: &Path) -> Result<Self, LinuxError> {
        let build = std::env::current_exe().map_err(|error| LinuxError::Io("this program".into(), error))?;
        let (build, tools) = (build.with_file_name("linux-areas"), tree.join("tools"));
        let expected = tools.join("testing/vma/vma_internal.h");
        if !expected.is_file() {
            return Err(LinuxError::NotATree(expected));
        }
        let generated = build.join("generated");
        std::fs::create_dir_all(&generated).map_err(|error| LinuxError::Io(generated.clone(), error))?;
        for (name, text) in GENERATED {
            let file = generated.join(name);
            std::fs::write(&file, text).map_err(|error| LinuxError::Io(file, error))?;
        }
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("linux");
        let program = build.join("areas");
        let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        // As kernels are compiled; the warnings are for Linux's makefiles to heed.
        compiler.args(["-O2", "-w", "-D_LGPL_SOURCE", "-o"]).arg(&program);
        let headers = [ours.clone(), build.clone(), tools.join("testing/vma"), tools.join("testing/shared")];
        headers.iter().chain(&[tools.join("include"), tree.join("lib")]).for_each(|folder| {
            compiler.arg("-I").arg(folder);
        });
        compiler.args(["areas.c", "pool.c", "maple_tree.c"].map(|file| ours.join(file)));
        compiler.args(["find_bit.c", "bitmap.c", "hweight.c", "vsprintf.c"].map(|file| tools.join("lib").join(file)));
        output_of(compiler.args(["-lpthread", "-lurcu"]))?;
        Ok(Self { program })
    }

    /// Runs one round of the stores with so many areas; nanoseconds per operation.
    ///
    /// # Errors
    /// [`LinuxError`] if the program fails or prints something else.
    pub(crate) fn stores(&self, areas: u64) -> Result<[f64; STORES], LinuxError> {
        self.row("stores", areas)
    }

    /// Runs one round of pairs of calls with so many areas; nanoseconds per pair.
    ///
    /// # Errors
    /// [`LinuxError`] if the program fails or prints something else.
    pub(crate) fn calls(&self, areas: u64) -> Result<[f64; CALLS], LinuxError> {
        self.row("calls", areas)
    }

    fn row<const N: usize>(&self, what: &str, areas: u64) -> Result<[f64; N], LinuxError> {
        let words = output_of(Command::new(&self.program).args([what, &areas.to_string()]))?;
        let values: Option<Vec<f64>> = words.split_whitespace().map(|word| word.parse().ok()).collect();
        let row = values.and_then(|values| values.try_into().ok());
        row.ok_or_else(|| LinuxError::Failed(format!("reading {N} numbers"), words))
    }
}

fn output_of(command: &mut Command) -> Result<String, LinuxError> {
    let name = PathBuf::from(command.get_program());
    let output = command.output().map_err(|error| LinuxError::Io(name.clone(), error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(LinuxError::Failed(name.display().to_string(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_linux_is_refused_with_the_file_that_is_missing() {
        let error = Linux::build(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/tools/testing/vma/vma_internal.h: not found"), "{error}");
    }

    #[test]
    fn measured_rounds_stand_for_the_recorded_figures() {
        assert_eq!(Rounds::of([1.0, 2.0]).medians(), [1.0, 2.0]);
        let mut rounds = Rounds::of([1.0, 2.0]);
        [[5.0, 6.0], [9.0, 8.0], [7.0, 7.0]].into_iter().for_each(|row| rounds.extend(Some(Ok(row))));
        assert_eq!(rounds.medians(), [7.0, 7.0]);
    }

    #[test]
    fn a_row_has_as_many_numbers_as_columns() {
        let echo = Linux { program: "echo".into() };
        // It prints its arguments: one word and one number.
        assert!(echo.calls(7).is_err());
        assert!(matches!(Linux { program: "/nonexistent".into() }.stores(7), Err(LinuxError::Io(..))));
    }
}
