//! The checks that rustfmt, clippy and rustdoc make, with warnings as errors. Called by `lint`.

use anyhow::Result;

use super::Row;
use crate::{qemu, shell};

/// Runs `cargo fmt --check`.
pub(super) fn format() -> Result<Row> {
    Ok(row("rustfmt", shell::succeeds(&mut shell::cargo(&["fmt", "--all", "--check"]))?))
}

/// Runs clippy over every target, and over the bare-metal image with its own flags.
pub(super) fn clippy() -> Result<Row> {
    let mut command = shell::cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    Ok(row("clippy", shell::succeeds(&mut command)? & qemu::clippy()?))
}

/// Runs rustdoc over the workspace, private items included, so that links in them hold as well.
pub(super) fn rustdoc() -> Result<Row> {
    let mut command = shell::cargo(&["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
    Ok(row("rustdoc", shell::succeeds(command.env("RUSTDOCFLAGS", "-D warnings"))?))
}

/// The tool prints its own findings above the table; the row says only whether there were any.
fn row(budget: &'static str, held: bool) -> Row {
    let value = if held { "clean" } else { "see above" };
    Row { budget, value: value.into(), limit: "clean".into(), held, offenders: Vec::new() }
}
