//! Checks that no function of the linked image keeps data below its stack pointer.
//!
//! The image is compiled with `-Cno-redzone`, but the precompiled `core` is not. A use shows in the disassembly as an access
//! below rsp, or below what a function with a frame pointer has reserved. The machine does not rest on this alone: every
//! vector has an interrupt stack.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::run::in_ci;

/// Disassembles `image` and looks at every function.
///
/// # Errors
/// A function uses the red zone, or there is no disassembler and this is a CI run.
pub(super) fn check(image: &Path) -> Result<()> {
    let output = match Command::new("objdump").args(["--disassemble", "--no-show-raw-insn"]).arg(image).output() {
        Ok(output) => output,
        Err(error) if in_ci() => return Err(error).context("objdump is needed to check the image for red zone use"),
        Err(error) => {
            eprintln!("SKIPPED: red zone check of the image: objdump does not start: {error}");
            return Ok(());
        }
    };
    ensure!(output.status.success(), "objdump cannot read {}", image.display());
    let listing = String::from_utf8_lossy(&output.stdout);
    let users = users(&listing);
    if !users.is_empty() {
        bail!("{} functions of the image use the red zone: {}", users.len(), users.join(", "));
    }
    Ok(())
}

/// Returns the functions of an AT&T-syntax disassembly that use the red zone.
fn users(listing: &str) -> Vec<&str> {
    let mut users = Vec::new();
    let mut function = "";
    let mut frame = Frame::default();
    for line in listing.lines() {
        if let Some(name) = line.strip_suffix(">:").and_then(|line| line.split_once('<')).map(|(_, name)| name) {
            if frame.uses_red_zone() {
                users.push(function);
            }
            function = name;
            frame = Frame::default();
        } else if let Some((_, instruction)) = line.split_once('\t') {
            frame.step(instruction.trim());
        }
    }
    if frame.uses_red_zone() {
        users.push(function);
    }
    users
}

/// What a function does with its stack.
#[derive(Default)]
struct Frame {
    /// rbp holds the frame's address.
    has_frame_pointer: bool,
    /// Bytes reserved below the frame pointer, at most.
    reserved: u64,
    /// Depth of the lowest access below the frame pointer.
    deepest: u64,
    below_stack_pointer: bool,
}

impl Frame {
    fn step(&mut self, instruction: &str) {
        let (mnemonic, operands) = instruction.split_once(' ').unwrap_or((instruction, ""));
        let operands = operands.trim();
        if mnemonic == "mov" && operands == "%rsp,%rbp" {
            self.has_frame_pointer = true;
            return;
        }
        if mnemonic.starts_with("push") {
            self.reserved += 8;
        } else if let Some(bytes) = reservation(mnemonic, operands) {
            self.reserved += bytes;
        } else if !mnemonic.starts_with("lea") {
            self.below_stack_pointer |= depth_below("(%rsp)", operands).is_some();
            if self.has_frame_pointer {
                self.deepest = self.deepest.max(depth_below("(%rbp)", operands).unwrap_or(0));
            }
        }
    }

    fn uses_red_zone(&self) -> bool {
        self.below_stack_pointer || self.deepest > self.reserved
    }
}

/// Returns the bytes by which the instruction lowers rsp, other than a push. A realignment counts as nothing.
///
/// A large frame is probed page by page down to an address that was computed in r11.
fn reservation(mnemonic: &str, operands: &str) -> Option<u64> {
    let (source, target) = operands.rsplit_once(',')?;
    let bytes = match mnemonic {
        "lea" if target == "%r11" => depth_below("(%rsp)", source),
        "sub" if target == "%r11" => hexadecimal(source.strip_prefix('$')?),
        _ if target != "%rsp" => None,
        "sub" => hexadecimal(source.strip_prefix('$')?),
        // `add $0xffffffffffffff80,%rsp` is the short form of `sub $0x80,%rsp`, and the other way round.
        "add" => hexadecimal(source.strip_prefix('$')?).map(u64::wrapping_neg),
        _ => None,
    };
    bytes.filter(|&bytes| bytes < 1 << 31)
}

/// Returns n if an operand is `-n` off the register, `(%rsp)` or `(%rbp)`. Indexed operands say nothing about the address.
fn depth_below(register: &str, operands: &str) -> Option<u64> {
    let (before, _) = operands.split_once(register)?;
    let displacement = before.rsplit(',').next()?;
    hexadecimal(displacement.strip_prefix('-')?)
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(name: &str, instructions: &[&str]) -> String {
        let mut text = format!("ffffffff81000000 <{name}>:\n");
        for instruction in instructions {
            text.push_str(&format!("ffffffff81000000:\t{instruction}\n"));
        }
        text
    }

    #[test]
    fn an_access_below_the_stack_pointer_is_found() {
        let text = listing("leaf", &["mov    %rdi,-0x8(%rsp)", "ret"]);
        assert_eq!(users(&text), ["leaf"]);
    }

    #[test]
    fn an_access_below_an_unreserved_frame_is_found() {
        let text = listing("leaf", &["push   %rbp", "mov    %rsp,%rbp", "push   %rbx", "mov    %rdi,-0x18(%rbp)"]);
        assert_eq!(users(&text), ["leaf"]);
    }

    #[test]
    fn reserved_frames_and_address_arithmetic_are_fine() {
        let reserved = ["push   %rbp", "mov    %rsp,%rbp", "sub    $0x20,%rsp", "mov    %rdi,-0x20(%rbp)"];
        let short_form = ["mov    %rsp,%rbp", "add    $0xffffffffffffff80,%rsp", "mov    %eax,-0x80(%rbp)"];
        let released = ["mov    %rsp,%rbp", "sub    $0x10,%rsp", "sub    $0xffffffffffffff80,%rsp", "ret"];
        let probed = ["mov    %rsp,%rbp", "lea    -0x5000(%rsp),%r11", "mov    %rdi,-0x5000(%rbp)"];
        let copied = ["mov    %rsp,%rbp", "mov    %rsp,%r11", "sub    $0x5000,%r11", "mov    %rdi,-0x5000(%rbp)"];
        let indexed = ["mov    %rsp,%rbp", "mov    %rdi,-0x5000(%rbp,%rax,8)"];
        let address = ["lea    -0x80(%rsp),%rsp", "mov    %rdi,0x8(%rsp)"];
        for instructions in [&reserved[..], &short_form, &released, &probed, &copied, &indexed, &address] {
            assert!(users(&listing("framed", instructions)).is_empty(), "{instructions:?}");
        }
    }

    #[test]
    fn each_function_is_judged_by_its_own_frame() {
        let text = listing("first", &["sub    $0x100,%rsp", "ret"])
            + &listing("second", &["push   %rbp", "mov    %rsp,%rbp", "mov    %rdi,-0x10(%rbp)"]);
        assert_eq!(users(&text), ["second"]);
    }
}
