//! Starts a worker process for each target, stops it if an input hangs, and keeps the input that ended it. Called by `main`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::targets::Target;
use crate::worker;

/// A worker that has not ended this long after its time is stuck in one input.
const GRACE: Duration = Duration::from_secs(30);

/// Runs the targets, as many at a time as there are CPUs.
///
/// # Errors
/// A worker could not be started or its input not be kept.
pub(crate) fn run(targets: &[&Target], seconds: u64, seed: u64) -> Result<ExitCode> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let jobs = std::thread::available_parallelism().map_or(1, usize::from).min(targets.len());
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            // Relaxed: the counter hands out indices and orders nothing else.
            while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                if !passes(target, seconds, seed)? {
                    // Relaxed: read after the threads were joined.
                    failed.store(true, Ordering::Relaxed);
                }
            }
            Ok(())
        };
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    // Relaxed: the threads were joined.
    Ok(if failed.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn passes(target: &Target, seconds: u64, seed: u64) -> Result<bool> {
    let directory = failures();
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let current = directory.join(format!("{}-{seed}.current", target.name));
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(program);
    command.args([target.name, "--seconds", &seconds.to_string(), "--seed", &seed.to_string(), "--worker"]);
    let mut child = command.arg(&current).stdin(Stdio::null()).spawn().context("cannot start a worker")?;
    let ending = wait(&mut child, Duration::from_secs(seconds) + GRACE)?;
    let passed = ending.is_some_and(|status| status.success());
    if !passed {
        let kept = directory.join(format!("{}-{seed}.input", target.name));
        std::fs::write(&kept, worker::read_current(&current)?).context("cannot keep the input")?;
        let reason = ending.map_or("an input does not end".to_string(), |status| status.to_string());
        println!("{}: FAILED ({reason}), seed {seed}, input kept in {}", target.name, kept.display());
    }
    std::fs::remove_file(&current).context("cannot remove the worker's file")?;
    Ok(passed)
}

/// Waits for the worker; `None` if it had to be stopped.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

fn failures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz-failures")
}
