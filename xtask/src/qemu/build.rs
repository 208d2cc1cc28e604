//! The image: one package, for an explicit target and in a target directory of its own, so that nothing else is rebuilt.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use super::red_zone;
use crate::shell;

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PACKAGE: &str = "mmkit-x86-64";
/// Interrupts do not spare the red zone; the image runs at -2 GiB and is not relocated.
const RUSTFLAGS: &str = "-Cno-redzone=yes -Crelocation-model=static -Ccode-model=kernel -Cforce-frame-pointers=yes";

/// How the image is compiled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Profile {
    /// With debug assertions: lock ranks and invariants are checked.
    Dev,
    /// As a user of the crates would build it.
    Release,
}

/// Builds and checks the image; returns its path.
///
/// # Errors
/// The build failed or the linked image uses the red zone.
pub(super) fn image(profile: Profile) -> Result<PathBuf> {
    let mut command = freestanding("build");
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => {
            command.arg("--release");
            "release"
        }
    };
    ensure!(shell::succeeds(&mut command)?, "the bare-metal image does not build");
    let image = directory().join(TARGET).join(folder).join(PACKAGE);
    red_zone::check(&image)?;
    Ok(image)
}

/// Runs clippy over the image, with warnings as errors; tells whether it found nothing.
///
/// # Errors
/// Cargo could not be started.
pub(crate) fn clippy() -> Result<bool> {
    shell::succeeds(freestanding("clippy").args(["--", "-D", "warnings"]))
}

/// A cargo command over the image's package with the image's flags.
fn freestanding(subcommand: &str) -> Command {
    let mut command = shell::cargo(&[subcommand, "--quiet", "--package", PACKAGE, "--features", "boot-image"]);
    command.args(["--target", TARGET]).arg("--target-dir").arg(directory()).env("RUSTFLAGS", RUSTFLAGS);
    // Not in the profile: the tests unwind, so every library would be compiled once for them and again for the programs that they run.
    command.env_remove("CARGO_ENCODED_RUSTFLAGS").env("CARGO_PROFILE_DEV_PANIC", "abort");
    command
}

fn directory() -> PathBuf {
    shell::top().join("target").join("bare-metal")
}
