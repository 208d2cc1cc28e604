//! Static C programs for the bare machine.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;

/// C compilers that are tried.
const COMPILERS: [&str; 3] = ["musl-gcc", "cc", "gcc"];

/// Compiles `source`, a path in the repository, to a program `name` with the first compiler that links it statically.
///
/// # Errors
/// None does.
pub(super) fn compile(source: &str, name: &str, options: &[&str]) -> Result<PathBuf> {
    let directory = shell::top().join("target").join("bare-metal");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let program = directory.join(name);
    let compiles = |compiler: &&str| {
        let mut command = Command::new(compiler);
        command.arg("-static").args(options).arg("-o").arg(&program).arg(shell::top().join(source));
        command.output().is_ok_and(|output| output.status.success())
    };
    let found = COMPILERS.iter().find(|compiler| compiles(compiler));
    found.map(|_| program).context("no C compiler here links statically (Debian and Ubuntu: musl-tools)")
}
