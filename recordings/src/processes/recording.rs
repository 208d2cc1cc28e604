//! The files of one recording: the trace and the directory beside it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::event::{TaskId, numbered};
use super::state::ProcessState;
use super::trace::TraceReader;
use crate::input_error::{InputError, Place, quoted};

/// When a state was read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Moment {
    /// After this exec of the recording, counted from 1, before the program's first instruction.
    Exec(u32),
    /// At the task's exit, its memory still whole.
    Exit,
}

/// Where the files of a recording are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recording {
    name: String,
    trace: PathBuf,
    states: PathBuf,
}

impl Recording {
    /// Takes the path of the trace, NAME.vmtrace.zst or NAME.vmtrace; the directory NAME.vm lies beside it.
    ///
    /// # Errors
    /// The file name has another form. Whether the files exist shows when they are read.
    pub fn at(trace: &Path) -> Result<Self, InputError> {
        let file_name = trace.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = file_name.strip_suffix(".vmtrace.zst").or_else(|| file_name.strip_suffix(".vmtrace"));
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            let found = format!("the name {}", quoted(file_name.as_bytes()));
            return Err(InputError::new(trace, Place::File, found, "NAME.vmtrace.zst or NAME.vmtrace"));
        };
        let states = trace.with_file_name(format!("{name}.vm"));
        Ok(Self { name: name.to_owned(), trace: trace.to_owned(), states })
    }

    /// Returns the recording's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens the trace.
    ///
    /// # Errors
    /// As [`TraceReader::open`].
    pub fn events(&self) -> Result<TraceReader, InputError> {
        TraceReader::open(&self.trace)
    }

    /// Returns the tasks and moments whose states were recorded, in order.
    ///
    /// # Errors
    /// The directory cannot be read, or a maps file has a name of another form.
    pub fn moments(&self) -> Result<BTreeSet<(TaskId, Moment)>, InputError> {
        let unreadable = |error: std::io::Error| {
            InputError::new(&self.states, Place::File, error.to_string(), "a readable directory")
        };
        let mut moments = BTreeSet::new();
        for entry in std::fs::read_dir(&self.states).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|extension| extension == "maps") {
                let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
                let moment = moment_of(stem).ok_or_else(|| {
                    let found = format!("the name {}", quoted(stem.as_bytes()));
                    InputError::new(&path, Place::File, found, "tN.execK.maps or tN.exit.maps")
                })?;
                moments.insert(moment);
            }
        }
        Ok(moments)
    }

    /// Reads the state of `task` at `moment`.
    ///
    /// # Errors
    /// A file is missing or cannot be parsed.
    pub fn state(&self, task: TaskId, moment: Moment) -> Result<ProcessState, InputError> {
        let stem = match moment {
            Moment::Exec(number) => format!("t{}.exec{number}", task.0),
            Moment::Exit => format!("t{}.exit", task.0),
        };
        ProcessState::read(&self.states, &stem)
    }
}

/// Reads `tN.execK` or `tN.exit`.
fn moment_of(stem: &str) -> Option<(TaskId, Moment)> {
    let (task, moment) = stem.split_once('.')?;
    let task = TaskId(numbered(task.as_bytes(), b't')?);
    match moment.strip_prefix("exec") {
        Some(number) => Some((task, Moment::Exec(number.parse().ok()?))),
        None => (moment == "exit").then_some((task, Moment::Exit)),
    }
}
