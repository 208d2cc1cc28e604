//! Options of the command line that are this machine's own: what to do after the boot, and what the boot is expected to find.
//!
//! `init=PATH`, `mmkit.argv=PATH`, `mmkit.seed=N`, `mmkit.strace`, `mmkit.stress=OPERATIONS`, `mmkit.bench=pair|program`, `mmkit.die=HOW`,
//! `mmkit.dump_page_tables`, `mmkit.expect_cpus=N`, `mmkit.expect_nodes=N`. All others are the memory manager's (`BootOptions`) or unknown.

use core::fmt;

use boot_memory::firmware::{OptionToken, option_tokens};

use crate::deaths::Death;

/// A measurement to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bench {
    /// Allocation and free of one page.
    Pair,
    /// What the first program measures itself.
    Program,
}

/// The machine's own options.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct MachineOptions<'a> {
    /// Program of the initrd to run.
    pub(crate) init: Option<&'a str>,
    /// File of the initrd with the program's arguments, each ended by a zero.
    pub(crate) argv: Option<&'a str>,
    /// Where the random numbers of programs begin.
    pub(crate) seed: u64,
    /// Whether to print every system call.
    pub(crate) strace: bool,
    /// Allocations and frees for each CPU to make; `None` for the default, 0 for none.
    pub(crate) stress: Option<u64>,
    /// What to measure.
    pub(crate) bench: Option<Bench>,
    /// How to end the machine before anything else is done.
    pub(crate) die: Option<Death>,
    /// Whether to print the page tables.
    pub(crate) dump_page_tables: bool,
    /// CPUs that have to come up.
    pub(crate) expect_cpus: Option<u64>,
    /// Nodes that the firmware has to report.
    pub(crate) expect_nodes: Option<u64>,
}

/// An option of ours with a value that is not of its form, or a name that is none of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadOption<'a> {
    text: &'a str,
    offset: usize,
    expected: &'static str,
}

impl fmt::Display for BadOption<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command line, byte {}: `{}`: expected {}", self.offset, self.text, self.expected)
    }
}

impl<'a> MachineOptions<'a> {
    /// Takes the options with prefix `mmkit.` out of `command_line`.
    ///
    /// # Errors
    /// [`BadOption`] for the first that cannot be used.
    pub(crate) fn parse(command_line: &'a str) -> Result<Self, BadOption<'a>> {
        let mut options = Self::default();
        for token in
            option_tokens(command_line).filter(|token| token.name == "init" || token.name.starts_with("mmkit."))
        {
            options.take(token).map_err(|expected| BadOption { text: token.text, offset: token.offset, expected })?;
        }
        Ok(options)
    }

    fn take(&mut self, token: OptionToken<'a>) -> Result<(), &'static str> {
        let number = || token.value.and_then(|value| value.parse().ok()).ok_or("a number");
        match token.name {
            "init" => self.init = Some(token.value.ok_or("a path")?),
            "mmkit.argv" => self.argv = Some(token.value.ok_or("a path")?),
            "mmkit.seed" => self.seed = number()?,
            "mmkit.strace" if token.value.is_none() => self.strace = true,
            "mmkit.stress" => self.stress = Some(number()?),
            "mmkit.expect_cpus" => self.expect_cpus = Some(number()?),
            "mmkit.expect_nodes" => self.expect_nodes = Some(number()?),
            "mmkit.bench" if token.value == Some("pair") => self.bench = Some(Bench::Pair),
            "mmkit.bench" if token.value == Some("program") => self.bench = Some(Bench::Program),
            "mmkit.die" => self.die = Some(token.value.and_then(Death::named).ok_or("null, stack, text or panic")?),
            "mmkit.dump_page_tables" if token.value.is_none() => self.dump_page_tables = true,
            "mmkit.bench" => return Err("pair or program"),
            _ => {
                return Err(
                    "mmkit.argv, seed, strace, stress, bench, die, dump_page_tables, expect_cpus or expect_nodes",
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;

    use super::*;

    #[test]
    fn our_options_are_found_among_others() {
        let options =
            MachineOptions::parse("quiet mmkit.stress=1000 mem=64M mmkit.bench=pair mmkit.expect_cpus=8").unwrap();
        assert_eq!((options.stress, options.bench), (Some(1000), Some(Bench::Pair)));
        assert_eq!((options.expect_cpus, options.expect_nodes), (Some(8), None));
    }

    #[test]
    fn a_program_is_named_with_its_arguments() {
        let options = MachineOptions::parse("init=/bin/sh mmkit.argv=/argv mmkit.seed=7 mmkit.strace").unwrap();
        assert_eq!(
            (options.init, options.argv, options.seed, options.strace),
            (Some("/bin/sh"), Some("/argv"), 7, true)
        );
        assert!(MachineOptions::parse("init").is_err());
    }

    #[test]
    fn a_bad_value_and_an_unknown_name_are_named() {
        let error = MachineOptions::parse("mem=1G mmkit.stress=many").unwrap_err();
        assert_eq!(error.to_string(), "command line, byte 7: `mmkit.stress=many`: expected a number");
        assert!(MachineOptions::parse("mmkit.strss=1").is_err());
        assert!(MachineOptions::parse("mmkit.bench").is_err());
    }
}
