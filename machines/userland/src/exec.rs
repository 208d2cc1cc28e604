//! What a program finds on its stack when it starts: arguments, environment, and what the kernel tells it. Pure.
//!
//! System V ABI, AMD64 supplement, 3.4.1; Linux 6.12: fs/binfmt_elf.c (`create_elf_tables`), fs/exec.c (`copy_strings`).

use alloc::vec::Vec;

use units::{VirtAddr, VirtRange};

use crate::errno::Errno;
use crate::slots::{extend, push};

/// End of the stack (STACK_TOP of x86-64 with four levels of page tables).
pub(crate) const STACK_TOP: u64 = (1 << 47) - 4096;
/// Bytes of the stack's area at first, beyond what arguments need (Linux expands by 128 KiB).
pub(crate) const STACK_EXTRA: u64 = 128 << 10;
/// Most bytes of arguments and environment: a quarter of the default stack limit.
pub(crate) const ARGUMENTS_MAX: usize = 2 << 20;

const AT_PHDR: u64 = 3;
const AT_PHENT: u64 = 4;
const AT_PHNUM: u64 = 5;
const AT_PAGESZ: u64 = 6;
const AT_BASE: u64 = 7;
const AT_FLAGS: u64 = 8;
const AT_ENTRY: u64 = 9;
const AT_UID: u64 = 11;
const AT_EUID: u64 = 12;
const AT_GID: u64 = 13;
const AT_EGID: u64 = 14;
const AT_PLATFORM: u64 = 15;
const AT_HWCAP: u64 = 16;
const AT_CLKTCK: u64 = 17;
const AT_SECURE: u64 = 23;
const AT_RANDOM: u64 = 25;
const AT_HWCAP2: u64 = 26;
const AT_EXECFN: u64 = 31;
const AT_NULL: u64 = 0;

/// What the loader tells a program of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ProgramFacts {
    pub(crate) headers: u64,
    pub(crate) nr_headers: u64,
    pub(crate) entry: u64,
    /// Features of the processor as CPUID has them (AT_HWCAP).
    pub(crate) features: u64,
    pub(crate) random: [u8; 16],
}

/// A stack before the program runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stack {
    /// Bytes up to the end of the stack.
    pub(crate) bytes: Vec<u8>,
    /// The stack pointer.
    pub(crate) pointer: VirtAddr,
    pub(crate) arguments: VirtRange,
    pub(crate) environment: VirtRange,
    /// The auxiliary vector, as it lies there.
    pub(crate) auxiliary: Vec<u8>,
}

/// Strings from low to high addresses, and where each begins.
struct Strings {
    bytes: Vec<u8>,
    starts: Vec<u64>,
}

impl Strings {
    fn add(&mut self, string: &[u8]) -> Result<(), Errno> {
        push(&mut self.starts, self.bytes.len() as u64)?;
        extend(&mut self.bytes, string)?;
        push(&mut self.bytes, 0)
    }
}

impl Stack {
    /// Lays the stack out below [`STACK_TOP`].
    ///
    /// # Errors
    /// ENOMEM, E2BIG.
    pub(crate) fn build<S: AsRef<[u8]>>(
        path: &[u8],
        arguments: &[S],
        environment: &[S],
        facts: &ProgramFacts,
    ) -> Result<Self, Errno> {
        let mut strings = Strings { bytes: Vec::new(), starts: Vec::new() };
        for string in arguments.iter().chain(environment) {
            strings.add(string.as_ref())?;
        }
        let strings_end = strings.bytes.len() as u64;
        strings.add(path)?;
        if strings.bytes.len() > ARGUMENTS_MAX {
            return Err(Errno::E2BIG);
        }
        // Eight zero bytes end the stack.
        let base = STACK_TOP - 8 - strings.bytes.len() as u64;
        let platform = base - 8;
        let random = platform - 16;
        let starts = |range: core::ops::Range<usize>| {
            strings.starts.get(range).unwrap_or_default().iter().map(|start| base + start)
        };
        let nr_strings = arguments.len() + environment.len();
        let mut words = Vec::new();
        push(&mut words, arguments.len() as u64)?;
        for word in starts(0..arguments.len()).chain([0]).chain(starts(arguments.len()..nr_strings)).chain([0]) {
            push(&mut words, word)?;
        }
        let executable = base + strings_end;
        let mut told = Vec::new();
        for word in auxiliary(facts, platform, random, executable).into_iter().flatten() {
            push(&mut words, word)?;
            extend(&mut told, &word.to_le_bytes())?;
        }
        let pointer = (random - 8 * words.len() as u64) & !15;
        let mut bytes = Vec::new();
        for word in &words {
            extend(&mut bytes, &word.to_le_bytes())?;
        }
        let gap = usize::try_from(random - pointer).map_err(|_| Errno::E2BIG)?;
        bytes.try_reserve(gap).map_err(|_| Errno::ENOMEM)?;
        bytes.resize(gap, 0);
        extend(&mut bytes, &facts.random)?;
        extend(&mut bytes, b"x86_64\0\0")?;
        extend(&mut bytes, &strings.bytes)?;
        extend(&mut bytes, &[0; 8])?;
        let environment_start = strings.starts.get(arguments.len()).copied().unwrap_or(strings_end);
        let range = |start, end| VirtRange::new(VirtAddr::new(base + start), VirtAddr::new(base + end));
        Ok(Self {
            bytes,
            pointer: VirtAddr::new(pointer),
            arguments: range(0, environment_start),
            environment: range(environment_start, strings_end),
            auxiliary: told,
        })
    }
}

const fn auxiliary(facts: &ProgramFacts, platform: u64, random: u64, executable: u64) -> [[u64; 2]; 19] {
    [
        [AT_HWCAP, facts.features],
        [AT_PAGESZ, 4096],
        [AT_CLKTCK, 100],
        [AT_PHDR, facts.headers],
        [AT_PHENT, crate::elf::PROGRAM_HEADER_BYTES as u64],
        [AT_PHNUM, facts.nr_headers],
        [AT_BASE, 0],
        [AT_FLAGS, 0],
        [AT_ENTRY, facts.entry],
        [AT_UID, 0],
        [AT_EUID, 0],
        [AT_GID, 0],
        [AT_EGID, 0],
        [AT_SECURE, 0],
        [AT_RANDOM, random],
        [AT_HWCAP2, 0],
        [AT_EXECFN, executable],
        [AT_PLATFORM, platform],
        [AT_NULL, 0],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(arguments: &[&[u8]], environment: &[&[u8]]) -> Stack {
        let facts = ProgramFacts { headers: 0x40_0040, nr_headers: 2, entry: 0x40_1000, features: 0, random: [7; 16] };
        Stack::build(b"/bin/sh", arguments, environment, &facts).unwrap()
    }

    fn word(stack: &Stack, addr: u64) -> u64 {
        let at = (addr - stack.pointer.raw()) as usize;
        u64::from_le_bytes(stack.bytes[at..at + 8].try_into().unwrap())
    }

    fn string(stack: &Stack, addr: u64) -> &[u8] {
        stack.bytes[(addr - stack.pointer.raw()) as usize..].split(|&byte| byte == 0).next().unwrap()
    }

    #[test]
    fn a_program_finds_its_arguments_and_environment() {
        let stack = stack(&[b"sh", b"-c"], &[b"A=1"]);
        let at = |index: u64| word(&stack, stack.pointer.raw() + 8 * index);
        assert_eq!((at(0), at(3), at(5)), (2, 0, 0));
        assert_eq!([at(1), at(2), at(4)].map(|addr| string(&stack, addr)), [&b"sh"[..], b"-c", b"A=1"]);
        assert_eq!(stack.pointer.raw() % 16, 0);
        assert_eq!(stack.pointer.raw() + stack.bytes.len() as u64, STACK_TOP);
        assert_eq!((stack.arguments.len(), stack.environment.len()), (6, 4));
    }

    #[test]
    fn the_auxiliary_vector_leads_to_the_random_bytes_and_the_path() {
        let stack = stack(&[b"x"], &[]);
        let mut found = 0;
        let mut at = stack.pointer.raw() + 8 * 4;
        while word(&stack, at) != AT_NULL {
            match word(&stack, at) {
                AT_RANDOM => assert_eq!(word(&stack, word(&stack, at + 8)), 0x0707_0707_0707_0707),
                AT_EXECFN => assert_eq!(string(&stack, word(&stack, at + 8)), b"/bin/sh"),
                AT_PLATFORM => assert_eq!(string(&stack, word(&stack, at + 8)), b"x86_64"),
                _ => found -= 1,
            }
            found += 1;
            at += 16;
        }
        assert_eq!(found, 3);
    }
}
