//! The steps of `cargo xtask test`. Called by `test`, which times them and adds them up.

use std::process::Command;

use anyhow::{Context, Result};

use super::{Options, Outcome};
use crate::workspace;
use crate::{qemu, shell};

/// Tests that hammer for a time of their own read it from this variable.
const STRESS_SECONDS: &str = "MMKIT_STRESS_SECONDS";

/// One step.
pub(super) struct Step {
    /// Name in the summary, and what `--only` looks at.
    pub(super) name: &'static str,
    /// Runs it.
    pub(super) run: fn(&Options) -> Result<Outcome>,
}

/// All steps in the order in which they run.
pub(super) const STEPS: [Step; 5] = [
    Step { name: "unit, property and model tests", run: hosted_tests },
    Step { name: "documentation examples", run: doc_tests },
    Step { name: "concurrency models (loom)", run: concurrency_models },
    Step { name: "fuzz targets", run: fuzz_targets },
    Step { name: "bare metal in QEMU", run: bare_metal },
];

fn stress(command: &mut Command, options: &Options) {
    command.env(STRESS_SECONDS, if options.long { "180" } else { "3" });
}

fn hosted_tests(options: &Options) -> Result<Outcome> {
    let mut command =
        shell::cargo(&["test", "--workspace", "--lib", "--bins", "--tests", "--examples", "--no-fail-fast"]);
    stress(&mut command, options);
    if options.long {
        command.args(["--", "--include-ignored"]);
    }
    shell::succeeds(&mut command).map(Outcome::from)
}

fn doc_tests(_: &Options) -> Result<Outcome> {
    shell::succeeds(&mut shell::cargo(&["test", "--workspace", "--doc", "--no-fail-fast"])).map(Outcome::from)
}

/// Runs the tests of every member that uses loom, with `--cfg loom` and a target directory of its own, so that the host's
/// build is not thrown away.
fn concurrency_models(options: &Options) -> Result<Outcome> {
    let packages = packages_with_loom()?;
    if packages.is_empty() {
        return Ok(Outcome::Skipped("no member uses loom".into()));
    }
    let mut command = shell::cargo(&["test", "--release", "--lib", "--tests", "--no-fail-fast"]);
    command.args(packages.iter().flat_map(|name| ["--package", name]));
    command.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", shell::top().join("target/loom"));
    command.env("CARGO_PROFILE_RELEASE_LTO", "false").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    stress(&mut command, options);
    shell::succeeds(&mut command).map(Outcome::from)
}

fn fuzz_targets(options: &Options) -> Result<Outcome> {
    let seconds = if options.long { "120" } else { "10" };
    let run = ["run", "--quiet", "--package", "mmkit-fuzz", "--profile", "fuzz", "--", "--all", "--seconds", seconds];
    shell::succeeds(&mut shell::cargo(&run)).map(Outcome::from)
}

fn bare_metal(options: &Options) -> Result<Outcome> {
    if !qemu::is_installed() {
        return Ok(Outcome::Skipped("qemu-system-x86_64 is not installed".into()));
    }
    let length = if options.long { qemu::Length::Long } else { qemu::Length::Short };
    qemu::test(length).map(Outcome::from)
}

fn packages_with_loom() -> Result<Vec<String>> {
    let top = shell::top();
    let mut names = Vec::new();
    for member in workspace::members(&top)? {
        let manifest = top.join(&member.directory).join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
        if text.lines().any(|line| line.starts_with("loom")) {
            names.push(member.name);
        }
    }
    Ok(names)
}
