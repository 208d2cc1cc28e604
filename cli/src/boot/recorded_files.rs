//! Files that were read on a recorded machine right after boot, beside its kernel log. Each may be missing.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use page_allocator::layout::ZoneSet;
use proc_files::parse::ZoneInfo;
use recordings::NodeDistances;
use recordings::pages::{InputError, Place, read_text};

use super::settings::Settings;

/// Directory of a recording.
#[derive(Clone, Debug)]
pub(super) struct RecordedFiles {
    directory: PathBuf,
}

/// Settings that boot takes as they are; min_free_kbytes it computes.
const TAKEN: [&str; 4] =
    ["watermark_scale_factor", "watermark_boost_factor", "lowmem_reserve_ratio", "percpu_pagelist_high_fraction"];

impl RecordedFiles {
    /// Looks for the files where `log` is.
    pub(super) fn beside(log: &Path) -> Self {
        Self { directory: log.parent().unwrap_or(Path::new(".")).to_owned() }
    }

    /// Reads a file; empty if there is none.
    ///
    /// # Errors
    /// A file that exists but cannot be read, or is not text.
    pub(super) fn text(&self, name: &str) -> Result<String, InputError> {
        let path = self.directory.join(name);
        if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return Ok(String::new());
        }
        read_text(&path)
    }

    /// Reads /proc/zoneinfo.
    pub(super) fn zoneinfo(&self) -> Result<Option<ZoneInfo>, InputError> {
        let text = self.text("zoneinfo")?;
        if text.is_empty() {
            return Ok(None);
        }
        ZoneInfo::parse(&text).map(Some).map_err(|error| {
            let place = Place::Line(u64::try_from(error.line).unwrap_or(u64::MAX));
            InputError::new(&self.directory.join("zoneinfo"), place, format!("\"{}\"", error.found), error.expected)
        })
    }

    /// Reads the settings that boot takes as they are; those without a file keep their default.
    pub(super) fn settings(&self, configured: ZoneSet) -> Result<Settings, InputError> {
        let mut settings = Settings::default();
        for name in TAKEN {
            let file = format!("sysctl-{name}");
            let text = self.text(&file)?;
            if !text.trim().is_empty() {
                settings.set(name, &text, configured).map_err(|expected| self.bad_value(&file, &text, expected))?;
            }
        }
        Ok(settings)
    }

    /// Reads the vm.min_free_kbytes that the kernel came to.
    pub(super) fn min_free_kbytes(&self) -> Result<Option<u64>, InputError> {
        let file = "sysctl-min_free_kbytes";
        let text = self.text(file)?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        text.trim().parse().map(Some).map_err(|_| self.bad_value(file, &text, "a decimal number"))
    }

    /// Reads the distances of all nodes.
    pub(super) fn distances(&self) -> Result<NodeDistances, InputError> {
        NodeDistances::read(&self.directory)
    }

    fn bad_value(&self, file: &str, text: &str, expected: &'static str) -> InputError {
        let found: String = text.trim().chars().take(40).collect();
        InputError::new(&self.directory.join(file), Place::Line(1), format!("{found:?}"), expected)
    }
}
