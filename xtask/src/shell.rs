//! The checkout's top directory and child processes. Used by every task.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

/// The top directory of the checkout, found from this package's own place in it.
pub(crate) fn top() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// Starts a `cargo` command in the checkout's top directory, with the cargo that runs this task.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(top()).args(arguments);
    command
}

/// Runs a command with the caller's terminal; tells whether it succeeded.
///
/// # Errors
/// The program could not be started.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start {program}"))?;
    Ok(status.success())
}

/// CPU time of all child processes that have ended, and of theirs; zero where the system does not tell.
pub(crate) fn children_cpu_time() -> Duration {
    std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| waited_for(&stat)).unwrap_or_default()
}

/// Adds the fields `cutime` and `cstime` of /proc/PID/stat, in ticks of 10 ms. The name before them may hold anything.
fn waited_for(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: Option<Vec<u64>> = fields.split_whitespace().skip(13).take(2).map(|field| field.parse().ok()).collect();
    Some(Duration::from_millis(10 * ticks?.iter().sum::<u64>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_children_is_read_behind_a_name_with_brackets() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 200 0 0 5 6 300 42 20 0 1 0 99 0 0";
        assert_eq!(waited_for(stat), Some(Duration::from_millis(3420)));
        assert_eq!(waited_for("no such line"), None);
    }

    #[test]
    fn a_child_that_ended_is_counted() {
        let before = children_cpu_time();
        let spin = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        assert!(succeeds(Command::new("sh").args(["-c", spin])).unwrap());
        assert!(children_cpu_time() > before);
    }
}
