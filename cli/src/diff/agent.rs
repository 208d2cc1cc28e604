//! A process on the host's kernel that makes the system calls which it is told to make, and nothing else.
//!
//! It is a static program of 85 bytes, so that its address space holds hardly anything but what the calls put there: it reads a system call's number and six
//! arguments from its standard input, makes the call and writes the result to its standard output, until the input ends.
//! It runs without address-space randomisation.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::personality::{self, Persona};
use rustix::fs::{MemfdFlags, memfd_create};
use std::os::fd::AsRawFd;

use crate::failure::Failure;

/// Where the program is loaded.
const LOAD_AT: u64 = 0x40_0000;
const HEADERS: usize = 64 + 2 * 56;

/// The program's instructions.
const CODE: [u8; 94] = [
    0x48, 0x83, 0xec, 0x40, // sub rsp, 64
    0x31, 0xc0, 0x31, 0xff, // again: xor eax, eax (read); xor edi, edi
    0x48, 0x89, 0xe6, // mov rsi, rsp
    0xba, 0x38, 0x00, 0x00, 0x00, // mov edx, 56
    0x0f, 0x05, // syscall
    0x83, 0xf8, 0x38, // cmp eax, 56
    0x75, 0x3e, // jne end
    0x48, 0x8b, 0x04, 0x24, // mov rax, [rsp]
    0x48, 0x8b, 0x7c, 0x24, 0x08, // mov rdi, [rsp + 8]
    0x48, 0x8b, 0x74, 0x24, 0x10, // mov rsi, [rsp + 16]
    0x48, 0x8b, 0x54, 0x24, 0x18, // mov rdx, [rsp + 24]
    0x4c, 0x8b, 0x54, 0x24, 0x20, // mov r10, [rsp + 32]
    0x4c, 0x8b, 0x44, 0x24, 0x28, // mov r8, [rsp + 40]
    0x4c, 0x8b, 0x4c, 0x24, 0x30, // mov r9, [rsp + 48]
    0x0f, 0x05, // syscall
    0x48, 0x89, 0x04, 0x24, // mov [rsp], rax
    0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1 (write)
    0xbf, 0x01, 0x00, 0x00, 0x00, // mov edi, 1
    0x48, 0x89, 0xe6, // mov rsi, rsp
    0xba, 0x08, 0x00, 0x00, 0x00, // mov edx, 8
    0x0f, 0x05, // syscall
    0xeb, 0xaf, // jmp again
    0xb8, 0xe7, 0x00, 0x00, 0x00, // end: mov eax, 231 (exit_group)
    0x31, 0xff, // xor edi, edi
    0x0f, 0x05, // syscall
];

/// Text behind the instructions, for calls that take names.
pub(super) const NAME: &str = "mmkit";

/// Returns where [`NAME`] is in the process.
pub(super) const fn name_address() -> u64 {
    LOAD_AT + (HEADERS + CODE.len()) as u64
}

/// Returns the program as an ELF file with one segment and a stack that is not executable.
fn program() -> Vec<u8> {
    let size = (HEADERS + CODE.len() + NAME.len() + 1) as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2u16, 62].iter().flat_map(|half| half.to_le_bytes()));
    file.extend(1u32.to_le_bytes());
    file.extend([LOAD_AT + HEADERS as u64, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 56, 2, 64, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
    let mut segment = |kind: u32, flags: u32, words: [u64; 6]| {
        file.extend(kind.to_le_bytes());
        file.extend(flags.to_le_bytes());
        file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    segment(1, 5, [0, LOAD_AT, LOAD_AT, size, size, 0x1000]);
    segment(0x6474_e551, 6, [0, 0, 0, 0, 0, 16]);
    file.extend(CODE);
    file.extend(NAME.bytes());
    file.push(0);
    file
}

/// The process.
pub(super) struct Agent {
    child: Child,
    calls: ChildStdin,
    results: ChildStdout,
    first: Member,
    /// Its child, and that one's: the last one makes the calls, the others wait for its end.
    family: Vec<Member>,
}

/// One process.
struct Member {
    id: u64,
    maps: File,
}

impl Member {
    fn of(id: u64) -> Result<Self, Failure> {
        Ok(Self { id, maps: File::open(format!("/proc/{id}/maps"))? })
    }
}

/// Numbers of the system calls that make and end processes.
mod number {
    pub(super) const GETPID: u64 = 39;
    pub(super) const CLONE: u64 = 56;
    pub(super) const WAIT4: u64 = 61;
    pub(super) const EXIT_GROUP: u64 = 231;
}

/// CLONE_VFORK, with a copy of the address space, and SIGCHLD at the end: the parent neither reads nor writes until then.
const CLONE_FLAGS: u64 = 0x4000 | 17;

impl Drop for Agent {
    fn drop(&mut self) {
        // Either may fail if the process has ended, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn host(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Host(format!("{what}: {error}"))
}

impl Agent {
    /// Starts the process.
    pub(super) fn start() -> Result<Self, Failure> {
        let image = memfd_create("mmkit-agent", MemfdFlags::CLOEXEC).map_err(|error| host("memfd_create", error))?;
        let mut image = File::from(image);
        image.write_all(&program())?;
        let before = personality::get().map_err(|error| host("personality", error))?;
        personality::set(before | Persona::ADDR_NO_RANDOMIZE).map_err(|error| host("personality", error))?;
        let mut command = Command::new(format!("/proc/self/fd/{}", image.as_raw_fd()));
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
        let started = command.spawn();
        personality::set(before).map_err(|error| host("personality", error))?;
        let mut child = started.map_err(|error| host("start", error))?;
        let (Some(calls), Some(results)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::Host("no pipes".into()));
        };
        let first = Member::of(child.id().into())?;
        Ok(Self { child, calls, results, first, family: Vec::new() })
    }

    /// Makes a system call in the process. Returns what the kernel returned.
    pub(super) fn call(&mut self, number: u64, arguments: [u64; 6]) -> Result<i64, Failure> {
        self.send(number, arguments)?;
        self.result()
    }

    fn send(&mut self, number: u64, arguments: [u64; 6]) -> Result<(), Failure> {
        let mut message = [0; 56];
        let words = [number].into_iter().chain(arguments);
        for (place, word) in message.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.calls.write_all(&message).map_err(|error| host("call", error))
    }

    fn result(&mut self) -> Result<i64, Failure> {
        let mut result = [0; 8];
        self.results.read_exact(&mut result).map_err(|error| host("result", error))?;
        Ok(i64::from_le_bytes(result))
    }

    /// Returns how many generations there are below the first process.
    pub(super) const fn nr_children(&self) -> usize {
        self.family.len()
    }

    /// Makes a child, which makes the calls from now on. Returns what the kernel returned to it, or why there is none.
    pub(super) fn fork(&mut self) -> Result<i64, Failure> {
        let result = self.call(number::CLONE, [CLONE_FLAGS, 0, 0, 0, 0, 0])?;
        if result == 0 {
            let id = self.call(number::GETPID, [0; 6])?;
            self.family.push(Member::of(id.cast_unsigned())?);
        }
        Ok(result)
    }

    /// Ends the child; its parent makes the calls from now on.
    pub(super) fn exit(&mut self) -> Result<(), Failure> {
        let Some(child) = self.family.pop() else { return Ok(()) };
        self.send(number::EXIT_GROUP, [0; 6])?;
        // What the parent's clone returns at last.
        let id = self.result()?;
        let waited = self.call(number::WAIT4, [child.id, 0, 0, 0, 0, 0])?;
        if id.cast_unsigned() == child.id && waited == id {
            return Ok(());
        }
        Err(Failure::Host(format!("child {} ended as {id}, wait4 returned {waited}", child.id)))
    }

    fn member(&mut self) -> &mut Member {
        self.family.last_mut().unwrap_or(&mut self.first)
    }

    /// Returns the number of the process that makes the calls.
    pub(super) fn id(&self) -> u64 {
        self.family.last().unwrap_or(&self.first).id
    }

    /// Returns /proc/PID/maps.
    pub(super) fn maps(&mut self) -> Result<String, Failure> {
        let mut text = String::new();
        let maps = &mut self.member().maps;
        maps.seek(SeekFrom::Start(0))?;
        maps.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Returns a file of /proc/PID.
    pub(super) fn proc_file(&self, name: &str) -> Result<String, Failure> {
        Ok(std::fs::read_to_string(format!("/proc/{}/{name}", self.id()))?)
    }

    /// Opens a file that the process has open.
    pub(super) fn open_fd(&self, fd: u64) -> Result<File, Failure> {
        Ok(File::options().read(true).write(true).open(format!("/proc/{}/fd/{fd}", self.child.id()))?)
    }
}
