//! The files of one recording: the trace and the two directories beside it.

use std::path::{Path, PathBuf};

use super::pfn_kinds::PfnKinds;
use super::snapshot::Snapshot;
use super::trace::TraceReader;
use crate::input_error::{InputError, Place, quoted};
use crate::node_files::NodeDistances;

/// Where the files of a recording are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recording {
    name: String,
    trace: PathBuf,
    before: PathBuf,
    after: PathBuf,
}

impl Recording {
    /// Takes the path of the trace, NAME.trace.zst or NAME.trace; the directories NAME.before and NAME.after lie beside it.
    ///
    /// # Errors
    /// The file name has another form. Whether the files exist shows when they are read.
    pub fn at(trace: &Path) -> Result<Self, InputError> {
        let file_name = trace.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = file_name.strip_suffix(".trace.zst").or_else(|| file_name.strip_suffix(".trace"));
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            let found = format!("the name {}", quoted(file_name.as_bytes()));
            let expected = "NAME.trace.zst or NAME.vmtrace.zst, or either without .zst";
            return Err(InputError::new(trace, Place::File, found, expected));
        };
        Ok(Self {
            name: name.to_owned(),
            trace: trace.to_owned(),
            before: trace.with_file_name(format!("{name}.before")),
            after: trace.with_file_name(format!("{name}.after")),
        })
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

    /// Reads the /proc files from before the trace.
    ///
    /// # Errors
    /// As [`Snapshot::read`].
    pub fn before(&self) -> Result<Snapshot, InputError> {
        Snapshot::read(&self.before)
    }

    /// Reads the /proc files from after the trace.
    ///
    /// # Errors
    /// As [`Snapshot::read`].
    pub fn after(&self) -> Result<Snapshot, InputError> {
        Snapshot::read(&self.after)
    }

    /// Returns the directory of the files from before the trace.
    pub fn directory_before(&self) -> &Path {
        &self.before
    }

    /// Reads the distances between the nodes, if the recording has them.
    ///
    /// # Errors
    /// As [`NodeDistances::read`].
    pub fn node_distances(&self) -> Result<NodeDistances, InputError> {
        NodeDistances::read(&self.before)
    }

    /// Reads the scan that was made at the start of the trace.
    ///
    /// # Errors
    /// As [`PfnKinds::open`].
    pub fn kinds_before(&self) -> Result<PfnKinds, InputError> {
        PfnKinds::open(&self.before.join("pfnkinds.zst"))
    }

    /// Reads the scan that was made at the end of the trace.
    ///
    /// # Errors
    /// As [`PfnKinds::open`].
    pub fn kinds_after(&self) -> Result<PfnKinds, InputError> {
        PfnKinds::open(&self.after.join("pfnkinds.zst"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directories_lie_beside_the_trace() {
        let recording = Recording::at(Path::new("data/pages/cargo.trace.zst")).unwrap();
        assert_eq!(recording.name(), "cargo");
        assert_eq!(recording.before, Path::new("data/pages/cargo.before"));
        assert_eq!(recording.after, Path::new("data/pages/cargo.after"));
    }

    #[test]
    fn other_file_names_are_refused() {
        for name in ["cargo.txt", ".trace.zst", ""] {
            assert!(Recording::at(Path::new(name)).is_err(), "{name}");
        }
    }
}
