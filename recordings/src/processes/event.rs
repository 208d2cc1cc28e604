//! Events of a process trace, and how one line spells one event.
//!
//! The letters are the recording's own; data/README.md lists them. Linux 6.12: include/trace/events/syscalls.h, kmem.h (`rss_stat`),
//! task.h; arch/x86/include/asm/trace/exceptions.h, asm/trap_pf.h (error bits).

use units::VirtAddr;

use super::call::{Call, CallName, MAX_ARGUMENTS};
use crate::fields::{FieldError, Fields, wrong};

/// Task, numbered by first appearance, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskId(pub u32);

/// Address space, numbered by first appearance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MmId(pub u32);

/// One event of a trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Nanoseconds since the first event of the trace.
    pub time_ns: u64,
    /// Task in which it happened.
    pub task: TaskId,
    /// What happened.
    pub action: Action,
}

/// What an event says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// A system call begins.
    Enter(Call),
    /// A system call ends. The first event of a new task is the end of the call that made it.
    Return {
        /// The call.
        call: CallName,
        /// What it returned.
        result: CallResult,
        /// The file that an mmap mapped.
        file: Option<MappedFile>,
    },
    /// Page fault in user mode.
    UserFault {
        /// Address that was accessed.
        addr: VirtAddr,
        /// Instruction.
        ip: VirtAddr,
        /// Kind of access.
        error: FaultError,
    },
    /// Page fault of the kernel on a user address, as while copying.
    KernelFault {
        /// Address that was accessed.
        addr: VirtAddr,
        /// Kind of access.
        error: FaultError,
    },
    /// A counter of an address space changed (rss_stat).
    RssStat {
        /// Address space.
        mm: MmId,
        /// True if it is the task's own.
        is_current: bool,
        /// Counter.
        member: RssMember,
        /// Value after the change.
        bytes: u64,
    },
    /// The task made another one.
    NewTask {
        /// The other one.
        child: TaskId,
        /// Flags of clone.
        flags: u64,
    },
    /// An exec is done: the task has a new address space.
    Exec,
    /// The task exits.
    Exit,
}

/// What a system call returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallResult {
    /// A number or an address.
    Value(u64),
    /// An error number, such as 12 for ENOMEM.
    Errno(u16),
    /// The task that it made.
    Task(TaskId),
}

/// A file that was mapped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MappedFile {
    /// Bytes of the file.
    pub size: u64,
    /// Path.
    pub path: Box<str>,
}

/// Kind of the access that faulted: the x86 error code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultError(u32);

impl FaultError {
    /// Wraps an error code.
    pub const fn new(bits: u32) -> Self {
        Self(bits)
    }

    /// Returns the error code.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Returns true if there was an entry that forbade the access, false if there was none.
    pub const fn is_protection(self) -> bool {
        self.0 & 1 != 0
    }

    /// Returns true for a write.
    pub const fn is_write(self) -> bool {
        self.0 & 2 != 0
    }

    /// Returns true for an access from user mode.
    pub const fn is_user(self) -> bool {
        self.0 & 4 != 0
    }

    /// Returns true for an instruction fetch.
    pub const fn is_fetch(self) -> bool {
        self.0 & 16 != 0
    }
}

/// Counter of resident pages (Linux: `MM_FILEPAGES` and the others).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RssMember {
    /// Pages of files.
    File,
    /// Anonymous pages.
    Anon,
    /// Swapped pages.
    Swap,
    /// Pages of shared memory.
    Shmem,
}

/// An event with the time since the one before.
pub(super) struct RawEvent {
    pub(super) delta_ns: u64,
    pub(super) task: TaskId,
    pub(super) action: Action,
}

/// Reads one line that is not a header.
pub(super) fn parse_event(line: &[u8]) -> Result<RawEvent, FieldError> {
    let mut fields = Fields::new(line);
    let letter = fields.word();
    let delta_ns = fields.decimal("nanoseconds since the line before")?;
    let task = task_id(fields.word())?;
    let action = match letter {
        b">" => enter(&mut fields)?,
        b"<" => returned(&mut fields)?,
        b"U" => {
            let (addr, ip) = (address(&mut fields)?, address(&mut fields)?);
            Action::UserFault { addr, ip, error: fault_error(&mut fields)? }
        }
        b"K" => Action::KernelFault { addr: address(&mut fields)?, error: fault_error(&mut fields)? },
        b"R" => rss_stat(&mut fields)?,
        b"N" => {
            let child = child(fields.word())?;
            Action::NewTask { child, flags: fields.hex("flags of clone in hex")? }
        }
        b"E" => Action::Exec,
        b"Q" => Action::Exit,
        _ => return Err(wrong(letter, "an event: one of > < U K R N E Q")),
    };
    fields.end()?;
    Ok(RawEvent { delta_ns, task, action })
}

fn enter(fields: &mut Fields<'_>) -> Result<Action, FieldError> {
    let name = CallName::parse(fields.word())?;
    let mut arguments = [0; MAX_ARGUMENTS];
    let mut count = 0;
    for argument in &mut arguments {
        if fields.is_at_end() {
            break;
        }
        *argument = fields.hex("an argument in hex")?;
        count += 1;
    }
    Call::new(name, arguments.get(..count).unwrap_or_default()).map(Action::Enter)
}

fn returned(fields: &mut Fields<'_>) -> Result<Action, FieldError> {
    const EXPECTED: &str = "a result: a number in hex, -ERRNO, or tN for a task";
    let call = CallName::parse(fields.word())?;
    let word = fields.word();
    let result = match word {
        [b'-', digits @ ..] => {
            let errno = Fields::new(digits).decimal(EXPECTED)?;
            u16::try_from(errno).ok().filter(|errno| *errno > 0).map(CallResult::Errno)
        }
        [b't', ..] => Some(CallResult::Task(child(word)?)),
        _ => Some(CallResult::Value(Fields::new(word).hex(EXPECTED)?)),
    };
    let result = result.ok_or_else(|| wrong(word, EXPECTED))?;
    let file = if fields.is_at_end() { None } else { Some(mapped_file(fields)?) };
    Ok(Action::Return { call, result, file })
}

fn mapped_file(fields: &mut Fields<'_>) -> Result<MappedFile, FieldError> {
    let word = fields.word();
    if word != b"file" {
        return Err(wrong(word, "`file`, or the end of the line"));
    }
    let size = fields.decimal("the size of a file")?;
    let rest = fields.take_rest();
    let path = std::str::from_utf8(rest).ok().filter(|path| !path.is_empty());
    Ok(MappedFile { size, path: path.ok_or_else(|| wrong(rest, "the path of a file"))?.into() })
}

fn rss_stat(fields: &mut Fields<'_>) -> Result<Action, FieldError> {
    let word = fields.word();
    let mm = MmId(numbered(word, b'm').ok_or_else(|| wrong(word, "an address space mN"))?);
    let is_current = fields.flag()?;
    let member = match fields.word() {
        b"0" => RssMember::File,
        b"1" => RssMember::Anon,
        b"2" => RssMember::Swap,
        b"3" => RssMember::Shmem,
        word => return Err(wrong(word, "a counter from 0 to 3")),
    };
    Ok(Action::RssStat { mm, is_current, member, bytes: fields.decimal("a number of bytes")? })
}

fn address(fields: &mut Fields<'_>) -> Result<VirtAddr, FieldError> {
    fields.hex("an address in hex").map(VirtAddr::new)
}

fn fault_error(fields: &mut Fields<'_>) -> Result<FaultError, FieldError> {
    fields.hex32("the error code of a fault in hex").map(FaultError)
}

/// Reads the number of the task that an event happened in.
fn task_id(word: &[u8]) -> Result<TaskId, FieldError> {
    let number = Fields::new(word).decimal("the number of a task").ok().and_then(|number| u32::try_from(number).ok());
    number.map(TaskId).ok_or_else(|| wrong(word, "the number of a task"))
}

/// Reads a task as results and new tasks are spelled.
fn child(word: &[u8]) -> Result<TaskId, FieldError> {
    numbered(word, b't').map(TaskId).ok_or_else(|| wrong(word, "a task tN"))
}

/// Reads a letter with a number behind it.
pub(super) fn numbered(word: &[u8], letter: u8) -> Option<u32> {
    let (first, digits) = word.split_first()?;
    let number = Fields::new(digits).decimal("a number").ok()?;
    (*first == letter).then(|| u32::try_from(number).ok())?
}
