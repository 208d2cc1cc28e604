//! A process on the host's kernel that makes the system calls and accesses which it is told to make, and nothing else.
//!
//! It is a static program of 172 bytes, so that its address space holds hardly anything but what the calls put there. Again and again it reads a message
//! from its standard input onto its stack: a number, six arguments, and bytes for calls that take some. It makes the call, or the access, and writes the
//! message back, with the result in it, until the input ends. A signal that an access brings is told in the result.
//! It runs without address-space randomisation.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::personality::{self, Persona};
use rustix::fs::{MemfdFlags, memfd_create};
use std::os::fd::AsRawFd;

use super::outcome::Outcome;
use crate::failure::Failure;

/// Where the program is loaded.
const LOAD_AT: u64 = 0x40_0000;
const HEADERS: usize = 64 + 2 * 56;

/// Bytes of a message that are for what calls read and write.
pub(super) const PAYLOAD: usize = 128;
/// Bytes before them.
const HEAD: usize = 56;
const MESSAGE: usize = HEAD + PAYLOAD;

/// The program's instructions; rbp is where the message is.
const CODE: [u8; 172] = [
    0x48, 0x81, 0xec, 0xc0, 0x00, 0x00, 0x00, // sub rsp, 192
    0x48, 0x89, 0xe5, // mov rbp, rsp
    0x31, 0xc0, 0x31, 0xff, // again: xor eax, eax (read); xor edi, edi
    0x48, 0x89, 0xee, // mov rsi, rbp
    0xba, 0xb8, 0x00, 0x00, 0x00, // mov edx, 184
    0x0f, 0x05, // syscall
    0x3d, 0xb8, 0x00, 0x00, 0x00, // cmp eax, 184
    0x0f, 0x85, 0x80, 0x00, 0x00, 0x00, // jne end
    0x48, 0x8b, 0x45, 0x00, // mov rax, [rbp]
    0x48, 0x8b, 0x7d, 0x08, // mov rdi, [rbp + 8]
    0x48, 0x8b, 0x75, 0x10, // mov rsi, [rbp + 16]
    0x48, 0x8b, 0x55, 0x18, // mov rdx, [rbp + 24]
    0x4c, 0x8b, 0x55, 0x20, // mov r10, [rbp + 32]
    0x4c, 0x8b, 0x45, 0x28, // mov r8, [rbp + 40]
    0x4c, 0x8b, 0x4d, 0x30, // mov r9, [rbp + 48]
    0x48, 0x83, 0x65, 0x08, 0x00, // and qword [rbp + 8], 0
    0x3d, 0x00, 0x10, 0x00, 0x00, // cmp eax, LOAD
    0x73, 0x04, // jae access
    0x0f, 0x05, // syscall
    0xeb, 0x1e, // jmp reply
    0x74, 0x0e, // access: je load
    0x3d, 0x02, 0x10, 0x00, 0x00, // cmp eax, FETCH
    0x72, 0x0c, // jb store
    0x74, 0x11, // je fetch
    0x48, 0x89, 0xe8, // mov rax, rbp
    0xeb, 0x0e, // jmp reply
    0x0f, 0xb6, 0x07, // load: movzx eax, byte [rdi]
    0xeb, 0x09, // jmp reply
    0x40, 0x88, 0x37, // store: mov [rdi], sil
    0x31, 0xc0, // xor eax, eax
    0xeb, 0x02, // jmp reply
    0xff, 0xd7, // fetch: call rdi
    0x48, 0x89, 0x45, 0x00, // reply: mov [rbp], rax
    0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1 (write)
    0xbf, 0x01, 0x00, 0x00, 0x00, // mov edi, 1
    0x48, 0x89, 0xee, // mov rsi, rbp
    0xba, 0xb8, 0x00, 0x00, 0x00, // mov edx, 184
    0x0f, 0x05, // syscall
    0xeb, 0x83, // jmp again
    0x48, 0x8b, 0x06, // handler: mov rax, [rsi]
    0x48, 0x89, 0x45, 0x08, // mov [rbp + 8], rax (si_signo)
    0x48, 0x8b, 0x46, 0x08, // mov rax, [rsi + 8]
    0x48, 0x89, 0x45, 0x10, // mov [rbp + 16], rax (si_code)
    0x48, 0x8b, 0x46, 0x10, // mov rax, [rsi + 16]
    0x48, 0x89, 0x45, 0x18, // mov [rbp + 24], rax (si_addr)
    0x48, 0x89, 0xec, // mov rsp, rbp
    0xeb, 0xca, // jmp reply
    0xb8, 0xe7, 0x00, 0x00, 0x00, // end: mov eax, 231 (exit_group)
    0x31, 0xff, // xor edi, edi
    0x0f, 0x05, // syscall
];
/// Where the handler of signals begins in it.
const HANDLER: usize = 0x87;

/// Accesses, beyond the numbers of system calls.
pub(super) mod access {
    /// Reads the byte at the first argument.
    pub(in super::super) const LOAD: u64 = 0x1000;
    /// Writes the second argument there.
    pub(in super::super) const STORE: u64 = 0x1001;
    /// Goes there.
    pub(in super::super) const FETCH: u64 = 0x1002;
    /// None: tells where messages lie.
    pub(super) const BUFFER: u64 = 0x1003;
}

/// Returns the program as an ELF file with one segment and a stack that is not executable.
fn program() -> Vec<u8> {
    let size = (HEADERS + CODE.len()) as u64;
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
    file
}

/// The process.
pub(super) struct Agent {
    child: Child,
    calls: ChildStdin,
    results: ChildStdout,
    /// Where messages lie.
    buffer: u64,
    first: Member,
    /// Its child, and that one's: the last one makes the calls, the others wait for its end.
    family: Vec<Member>,
}

/// One process.
struct Member {
    id: u64,
    /// Its descriptor of itself, once it was asked for.
    pidfd: Option<u64>,
    /// Its areas, once they were asked for. An open file stays with the address space at that time, which is the parent's until a new
    /// process has its own program.
    maps: Option<File>,
}

impl Member {
    const fn of(id: u64) -> Self {
        Self { id, pidfd: None, maps: None }
    }

    /// Returns its areas' file. The process has answered a call before.
    fn maps(&mut self) -> Result<&mut File, Failure> {
        let maps = match self.maps.take() {
            Some(maps) => maps,
            None => File::open(proc_path(self.id, "maps"))?,
        };
        Ok(self.maps.insert(maps))
    }
}

/// Numbers of the system calls that are about processes.
mod number {
    pub(super) const RT_SIGACTION: u64 = 13;
    pub(super) const GETPID: u64 = 39;
    pub(super) const CLONE: u64 = 56;
    pub(super) const WAIT4: u64 = 61;
    pub(super) const EXIT_GROUP: u64 = 231;
    pub(super) const PIDFD_OPEN: u64 = 434;
}

const SIGBUS: u64 = 7;
const SIGSEGV: u64 = 11;
const SA_SIGINFO: u64 = 4;
const SA_RESTORER: u64 = 0x0400_0000;
/// Signals come while one is handled: no handler returns.
const SA_NODEFER: u64 = 0x4000_0000;

/// CLONE_VFORK, with a copy of the address space, and SIGCHLD at the end: the parent neither reads nor writes until then.
const CLONE_FLAGS: u64 = 0x4000 | 17;

impl Drop for Agent {
    fn drop(&mut self) {
        // Either may fail if the process has ended, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn proc_path(id: u64, name: &str) -> String {
    format!("/proc/{id}/{name}")
}

/// Returns the words that bytes are.
pub(super) fn words_of(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word))
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
        let first = Member::of(child.id().into());
        let mut agent = Self { child, calls, results, buffer: 0, first, family: Vec::new() };
        agent.buffer = agent.call(access::BUFFER, [0; 6])?.cast_unsigned();
        agent.handle_signals()?;
        Ok(agent)
    }

    /// Has the signals of bad accesses handled.
    fn handle_signals(&mut self) -> Result<(), Failure> {
        let handler = LOAD_AT + (HEADERS + HANDLER) as u64;
        // The handler does not return, so what it would return to is never used.
        let action = [handler, SA_SIGINFO | SA_RESTORER | SA_NODEFER, handler, 0];
        for signal in [SIGBUS, SIGSEGV] {
            let result = self.call_with(number::RT_SIGACTION, [signal, self.payload(), 0, 8, 0, 0], &action)?;
            if result != Outcome::Returned(0) {
                return Err(Failure::Host(format!("rt_sigaction: {result}")));
            }
        }
        Ok(())
    }

    /// Returns where the words of [`Agent::call_with`] lie in the process.
    pub(super) const fn payload(&self) -> u64 {
        self.buffer + HEAD as u64
    }

    /// Makes a system call in the process. Returns what the kernel returned.
    pub(super) fn call(&mut self, number: u64, arguments: [u64; 6]) -> Result<i64, Failure> {
        match self.call_with(number, arguments, &[])? {
            Outcome::Returned(value) => Ok(value),
            signal => Err(Failure::Host(format!("system call {number}: {signal}"))),
        }
    }

    /// Makes a system call or an access in the process, with words for it to read or write.
    pub(super) fn call_with(&mut self, number: u64, arguments: [u64; 6], payload: &[u64]) -> Result<Outcome, Failure> {
        self.send(number, arguments, payload)?;
        Ok(self.result()?.0)
    }

    /// Makes a system call that writes bytes; they were zeros before.
    pub(super) fn call_for_bytes(&mut self, number: u64, arguments: [u64; 6]) -> Result<(i64, [u8; PAYLOAD]), Failure> {
        self.send(number, arguments, &[])?;
        match self.result()? {
            (Outcome::Returned(value), bytes) => Ok((value, bytes)),
            (signal, _) => Err(Failure::Host(format!("system call {number}: {signal}"))),
        }
    }

    fn send(&mut self, number: u64, arguments: [u64; 6], payload: &[u64]) -> Result<(), Failure> {
        let mut message = [0; MESSAGE];
        let words = [number].into_iter().chain(arguments).chain(payload.iter().copied());
        for (place, word) in message.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.calls.write_all(&message).map_err(|error| host("call", error))
    }

    fn result(&mut self) -> Result<(Outcome, [u8; PAYLOAD]), Failure> {
        let mut message = [0; MESSAGE];
        self.results.read_exact(&mut message).map_err(|error| host("result", error))?;
        let (head, payload) = message.split_at(HEAD);
        let mut words = words_of(head);
        let [value, signal, code, addr] = std::array::from_fn(|_| words.next().unwrap_or(0));
        let outcome = match signal as u32 {
            0 => Outcome::Returned(value.cast_signed()),
            signal => Outcome::Signal { signal, code: code as i32, addr },
        };
        let mut bytes = [0; PAYLOAD];
        bytes.copy_from_slice(payload);
        Ok((outcome, bytes))
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
            self.family.push(Member::of(id.cast_unsigned()));
        }
        Ok(result)
    }

    /// Ends the child; its parent makes the calls from now on.
    pub(super) fn exit(&mut self) -> Result<(), Failure> {
        let Some(child) = self.family.pop() else { return Ok(()) };
        self.send(number::EXIT_GROUP, [0; 6], &[])?;
        // What the parent's clone returns at last.
        let id = match self.result()?.0 {
            Outcome::Returned(id) => id,
            signal => return Err(Failure::Host(format!("the parent of child {}: {signal}", child.id))),
        };
        let waited = self.call(number::WAIT4, [child.id, 0, 0, 0, 0, 0])?;
        if id.cast_unsigned() == child.id && waited == id {
            return Ok(());
        }
        Err(Failure::Host(format!("child {} ended as {id}, wait4 returned {waited}", child.id)))
    }

    fn member(&mut self) -> &mut Member {
        self.family.last_mut().unwrap_or(&mut self.first)
    }

    /// Returns the descriptor by which the process that makes the calls names itself.
    pub(super) fn pidfd(&mut self) -> Result<u64, Failure> {
        if let Some(fd) = self.member().pidfd {
            return Ok(fd);
        }
        let fd = self.call(number::PIDFD_OPEN, [self.id(), 0, 0, 0, 0, 0])?;
        let fd = u64::try_from(fd).map_err(|_| Failure::Host(format!("pidfd_open returned {fd}")))?;
        self.member().pidfd = Some(fd);
        Ok(fd)
    }

    /// Returns the number of the process that makes the calls.
    pub(super) fn id(&self) -> u64 {
        self.family.last().unwrap_or(&self.first).id
    }

    /// Returns /proc/PID/maps.
    pub(super) fn maps(&mut self) -> Result<String, Failure> {
        let mut text = String::new();
        let maps = self.member().maps()?;
        maps.seek(SeekFrom::Start(0))?;
        maps.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Returns a file of /proc/PID.
    pub(super) fn proc_file(&self, name: &str) -> Result<String, Failure> {
        Ok(std::fs::read_to_string(proc_path(self.id(), name))?)
    }

    /// Writes to a file of /proc/PID.
    pub(super) fn write_proc_file(&self, name: &str, text: &str) -> Result<(), Failure> {
        Ok(std::fs::write(proc_path(self.id(), name), text)?)
    }

    /// Opens a file of /proc/PID.
    pub(super) fn open_proc_file(&self, name: &str) -> Result<File, Failure> {
        Ok(File::open(proc_path(self.id(), name))?)
    }

    /// Opens a file that the process has open.
    pub(super) fn open_fd(&self, fd: u64) -> Result<File, Failure> {
        Ok(File::options().read(true).write(true).open(format!("/proc/{}/fd/{fd}", self.child.id()))?)
    }
}
