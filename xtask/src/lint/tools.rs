//! The checks that rustfmt, clippy and rustdoc make, with warnings as errors. Called by `lint`.

use std::process::Command;

use anyhow::Result;

use super::Row;
use crate::shell;
use crate::workspace::Member;

/// Members that build for the bare machine only and are checked with its flags by `qemu`.
const FREESTANDING: [&str; 1] = ["machines/x86_64"];

/// Runs `cargo fmt --check`.
pub(super) fn format() -> Result<Row> {
    run("rustfmt differences", &mut shell::cargo(&["fmt", "--all", "--check"]))
}

/// Runs clippy over every target of the members that build on the host.
pub(super) fn clippy(members: &[Member]) -> Result<Row> {
    let mut command = shell::cargo(&["clippy", "--quiet", "--workspace", "--all-targets"]);
    exclude_freestanding(&mut command, members);
    run("clippy", command.args(["--", "-D", "warnings"]))
}

/// Runs rustdoc over the members that build on the host.
pub(super) fn rustdoc(members: &[Member]) -> Result<Row> {
    let mut command = shell::cargo(&["doc", "--quiet", "--workspace", "--no-deps"]);
    exclude_freestanding(&mut command, members);
    run("rustdoc", command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Adds `--exclude` for each freestanding member.
pub(crate) fn exclude_freestanding(command: &mut Command, members: &[Member]) {
    for member in members.iter().filter(|member| FREESTANDING.contains(&member.path().as_str())) {
        command.args(["--exclude", &member.name]);
    }
}

/// The tool prints its own findings above the table; the row says only whether there were any.
fn run(budget: &'static str, command: &mut Command) -> Result<Row> {
    let held = shell::succeeds(command)?;
    let value = if held { "clean" } else { "see above" };
    Ok(Row { budget, value: value.into(), limit: "clean".into(), held, offenders: Vec::new() })
}
