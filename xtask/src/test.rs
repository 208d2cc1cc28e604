//! `cargo xtask test`: every test of the project, one step after the other, with a summary at the end.
//!
//! A failed step does not stop the ones after it. A step whose tool is missing is skipped with a line that starts with
//! `SKIPPED:`; where `CI=true` that is a failure.

mod steps;

use std::fmt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use crate::shell;
use steps::STEPS;

/// A run in CI may take this long.
const CI_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Options of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct Options {
    /// Runs the stress tests and the fuzz targets for minutes instead of seconds, and ignored tests as well
    #[arg(long)]
    pub(crate) long: bool,
    /// Runs only the steps whose names contain this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything in it passed.
    Passed,
    /// Something in it failed; its own output above says what.
    Failed,
    /// It could not run, for this reason.
    Skipped(String),
}

impl From<bool> for Outcome {
    fn from(succeeded: bool) -> Self {
        if succeeded { Self::Passed } else { Self::Failed }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Skipped(_) => "SKIPPED",
        })
    }
}

/// A step that has run.
struct Done {
    name: &'static str,
    outcome: Outcome,
    time: Duration,
    /// CPU time of the programs that it ran: what it would take on one CPU of an idle machine.
    cpu: Duration,
}

/// Runs the steps; the exit code tells whether all passed.
///
/// # Errors
/// None of the steps has the name that was asked for.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let wanted = options.only.as_deref().unwrap_or("");
    let chosen: Vec<_> = STEPS.iter().filter(|step| step.name.contains(wanted)).collect();
    anyhow::ensure!(!chosen.is_empty(), "no step is named like `{wanted}`");
    let mut done = Vec::new();
    for step in chosen {
        println!("\n=== {} ===", step.name);
        let (start, cpu) = (Instant::now(), shell::children_cpu_time());
        let outcome = (step.run)(options).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            Outcome::Failed
        });
        if let Outcome::Skipped(reason) = &outcome {
            println!("SKIPPED: {}: {reason}", step.name);
        }
        let cpu = shell::children_cpu_time().saturating_sub(cpu);
        done.push(Done { name: step.name, outcome, time: start.elapsed(), cpu });
    }
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    print!("{}", summary(&done, (!options.long).then_some(CI_LIMIT)));
    Ok(if is_success(&done, in_ci) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_success(done: &[Done], in_ci: bool) -> bool {
    done.iter().all(|step| match step.outcome {
        Outcome::Passed => true,
        Outcome::Failed => false,
        Outcome::Skipped(_) => !in_ci,
    })
}

/// Returns the table of the steps, with a verdict if there is a limit on the whole.
fn summary(done: &[Done], limit: Option<Duration>) -> String {
    let mut text = format!("\n{:<34} {:>8} {:>11}  outcome\n", "step", "seconds", "CPU seconds");
    let mut row = |name: &str, time: Duration, cpu: Duration, outcome: &dyn fmt::Display| {
        text += &format!("{name:<34} {:>8.1} {:>11.1}  {outcome}\n", time.as_secs_f64(), cpu.as_secs_f64());
    };
    done.iter().for_each(|step| row(step.name, step.time, step.cpu, &step.outcome));
    let total: Duration = done.iter().map(|step| step.time).sum();
    let verdict = limit.map_or_else(String::new, |limit| {
        let verdict = if total <= limit { "within" } else { "OVER" };
        format!("{verdict} the {} s of CI", limit.as_secs())
    });
    row("total", total, done.iter().map(|step| step.cpu).sum(), &verdict);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(outcome: Outcome) -> Vec<Done> {
        let (time, cpu) = (Duration::from_secs(700), Duration::from_secs(20));
        let passed = Done { name: "first", outcome: Outcome::Passed, time, cpu };
        vec![passed, Done { name: "second", outcome, time: Duration::from_secs(600), cpu }]
    }

    #[test]
    fn one_failed_step_fails_the_run() {
        assert!(is_success(&done(Outcome::Passed), true));
        assert!(!is_success(&done(Outcome::Failed), false));
    }

    #[test]
    fn a_skipped_step_fails_the_run_in_ci_only() {
        let skipped = done(Outcome::Skipped("no QEMU".into()));
        assert!(is_success(&skipped, false));
        assert!(!is_success(&skipped, true));
    }

    #[test]
    fn the_summary_adds_up_the_time_and_compares_it_with_the_limit() {
        let text = summary(&done(Outcome::Failed), Some(CI_LIMIT));
        assert!(text.contains("second                                600.0        20.0  FAILED"), "{text}");
        assert!(text.contains("1300.0        40.0  OVER the 1200 s of CI"), "{text}");
        assert!(!summary(&done(Outcome::Passed), None).contains("of CI"));
    }
}
