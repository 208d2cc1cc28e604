//! execve: a new program in the same process. Linux 6.12: fs/exec.c, fs/binfmt_elf.c, fs/binfmt_script.c.

use alloc::vec::Vec;

use address_space::{FileId, FileTraits, MapFlags, MapRequest, MmFlags, ProgramRanges, Prot, Vma};
use sync::Cpu;
use units::{VirtAddr, VirtRange, VmFlags};

use super::descriptors::{AT_EMPTY_PATH, AT_FDCWD};
use super::{Context, Outcome, Table, add};
use crate::elf::{self, Program, Segment};
use crate::errno::Errno;
use crate::exec::{ARGUMENTS_MAX, ProgramFacts, STACK_EXTRA, STACK_TOP, Stack};
use crate::files::{InodeKey, Kind, LastLink, Place, Target};
use crate::machine::Machine;
use crate::memory::{Memory, SpaceCall};
use crate::registers::Registers;
use crate::schedule::Stop;
use crate::signals::AltStack;
use crate::slots::{copy_of, push, zeros};
use crate::userland::Userland;
use crate::wait::{Progress, WaitFor};
use crate::world::World;

/// Where a program without addresses of its own goes (ELF_ET_DYN_BASE without randomisation).
const RELOCATED_AT: u64 = 0x5555_5555_4000;
const PAGE: u64 = 4096;
/// Bytes of a script's first line that are looked at (BINPRM_BUF_SIZE).
const FIRST_LINE: usize = 256;
/// Most interpreters of interpreters.
const MAX_SCRIPTS: u32 = 5;

/// A program that is loaded and has not run.
pub(crate) struct Image<M: Memory> {
    pub(crate) mm: M::Mm,
    pub(crate) registers: Registers,
    pub(crate) auxiliary: Vec<u8>,
}

/// A script's interpreter and the argument behind it.
type Script = (Vec<u8>, Option<Vec<u8>>);

/// A file to execute, by its open path.
#[derive(Clone, Copy, Debug)]
struct Executable {
    inode: InodeKey,
    contents: FileId,
}

impl<M: Memory> World<M> {
    /// Returns the contents of a file that may be executed.
    ///
    /// # Errors
    /// EACCES for something else.
    fn executable(&self, place: Place) -> Result<Executable, Errno> {
        let Place::Inode(key) = place else { return Err(Errno::EACCES) };
        let inode = self.files.inodes.get(key).ok_or(Errno::ENOENT)?;
        match inode.kind {
            Kind::Regular(contents) if inode.permissions & 0o111 != 0 => Ok(Executable { inode: key, contents }),
            _ => Err(Errno::EACCES),
        }
    }
}

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn program_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (59, "execve", |cx, [path, arguments, environment, ..]| cx.execve(AT_FDCWD, path, arguments, environment, 0)),
            (322, "execveat", |cx, [directory, path, arguments, environment, flags, _]| {
                    cx.execve(directory, path, arguments, environment, flags)
                }),
        ])
    }

    fn execve(&mut self, directory: u64, path: u64, arguments: u64, environment: u64, flags: u64) -> Outcome {
        let path = self.read_path(path)?;
        // Nobody writes to the file from here on; once the program runs, its thread counts for itself.
        let mut file = self.hold_executable(directory, &path, flags)?;
        let outcome = self.execute_held(&mut file, path, arguments, environment);
        self.world().files.leave_program(file.inode);
        outcome
    }

    /// Executes a file, or what it names as its interpreter, which is then held in its place.
    fn execute_held(&mut self, file: &mut Executable, mut path: Vec<u8>, arguments: u64, environment: u64) -> Outcome {
        let mut room = ARGUMENTS_MAX;
        let mut arguments = self.read_string_list(arguments, &mut room)?;
        let environment = self.read_string_list(environment, &mut room)?;
        for _ in 0..MAX_SCRIPTS {
            let Some((interpreter, argument)) = self.script(file.contents)? else {
                self.leave_other_threads()?;
                return self.execute(*file, &path, &arguments, &environment);
            };
            // The interpreter gets its path, its argument, the script's path, and the script's arguments.
            let mut new = Vec::new();
            push(&mut new, copy_of(&interpreter)?)?;
            if let Some(argument) = argument {
                push(&mut new, argument)?;
            }
            push(&mut new, copy_of(&path)?)?;
            for argument in arguments.into_iter().skip(1) {
                push(&mut new, argument)?;
            }
            arguments = new;
            let script = core::mem::replace(file, self.hold_executable(AT_FDCWD, &interpreter, 0)?);
            self.world().files.leave_program(script.inode);
            path = interpreter;
        }
        Err(Errno::ELOOP.into())
    }

    /// Finds a file to execute and counts the caller among those that run it.
    ///
    /// # Errors
    /// ETXTBSY while it is open for writing, or mapped by who had it open so; EACCES, and what a path can lead to.
    fn hold_executable(&self, directory: u64, path: &[u8], flags: u64) -> Result<Executable, Errno> {
        let mut world = self.world();
        let file = self.find_executable(&world, directory, path, flags)?;
        // A mapping keeps its open file, so it counts as long as that. A memfd as it was made counts nowhere.
        let is_memfd = world.files.inodes.get(file.inode).is_some_and(|inode| inode.memfd_name.is_some());
        if !is_memfd && self.userland.memory().file_is_mapped_writable(self.cpu, file.contents) {
            return Err(Errno::ETXTBSY);
        }
        world.files.run_program(file.inode)?;
        Ok(file)
    }

    fn find_executable(&self, world: &World<M>, directory: u64, path: &[u8], flags: u64) -> Result<Executable, Errno> {
        if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
            let process = world.processes.get(self.thread.process).ok_or(Errno::ESRCH)?;
            let open = world.files.open.get(process.descriptors.get(directory)?.file).ok_or(Errno::EBADF)?;
            return match open.target {
                Target::Inode(key) => world.executable(Place::Inode(key)),
                _ => Err(Errno::EACCES),
            };
        }
        world.executable(self.find(world, directory, path, LastLink::Follow)?.existing()?)
    }

    /// Returns interpreter and argument of a script; `None` of another file.
    fn script(&self, contents: FileId) -> Result<Option<Script>, Errno> {
        let mut start = [0; FIRST_LINE];
        let count = self.userland.memory().file_read(self.cpu, contents, 0, &mut start)?;
        script_line(start.get(..count).unwrap_or_default())
    }

    /// Ends the other threads of the process; waits until they are gone.
    fn leave_other_threads(&mut self) -> Result<(), Stop> {
        let (process, own) = (self.thread.process, self.thread.key);
        let mut world = self.world();
        if world.processes.get(process).ok_or(Errno::ESRCH)?.nr_threads == 1 {
            return Ok(());
        }
        world.end_other_threads(process, own);
        Err(Stop::Wait(world.wait_for(WaitFor::OtherThreads(process))))
    }

    /// Replaces the program; there is no way back once the new one is loaded.
    fn execute(&mut self, file: Executable, path: &[u8], arguments: &[Vec<u8>], environment: &[Vec<u8>]) -> Outcome {
        let executable = {
            let world = self.world();
            world.name_of(file.inode)?
        };
        let caller = self.thread.caller;
        let chosen = self.userland.memory().mm_flags(&self.thread.mm);
        let strings = (path, arguments, environment);
        let image = load(self.userland, self.cpu, (&caller, chosen), file.contents, strings)?;
        let pid = self.thread.pid;
        let shared = self.userland.memory().mmget(&image.mm);
        let mut world = self.world();
        let process = world.processes.get_mut(self.thread.process).ok_or(Errno::ESRCH)?;
        (process.executable, process.auxiliary) = (executable, image.auxiliary);
        process.set_name(path);
        process.actions.exec();
        process.registered_barriers = 0;
        while let Some(closed) =
            world.processes.get_mut(self.thread.process).and_then(|process| process.descriptors.remove_for_exec())
        {
            world.put_open(closed.file);
        }
        // The only thread left has the process's number.
        if let Some(entry) = world.threads.get_mut(self.thread.key) {
            entry.tid = pid;
        }
        let left = world.share_space(self.thread.key, (shared, Some(file.inode)), None);
        world.give_back_memory(self.thread.process);
        drop(world);
        if let Some(left) = left {
            self.userland.memory().mmput(self.cpu, left);
        }
        let thread = &mut *self.thread;
        thread.tid = pid;
        thread.old_mm = Some(core::mem::replace(&mut thread.mm, image.mm));
        thread.registers = image.registers;
        (thread.clear_tid, thread.robust_list) = (0, 0);
        thread.alt_stack = AltStack::NONE;
        thread.progress = Progress::default();
        Err(Stop::OtherMemory)
    }
}

/// Reads the first line of a script: `#!interpreter argument`.
fn script_line(start: &[u8]) -> Result<Option<Script>, Errno> {
    let Some(line) = start.strip_prefix(b"#!") else { return Ok(None) };
    let end = line.iter().position(|&byte| byte == b'\n').ok_or(Errno::ENOEXEC)?;
    let line = line.get(..end).unwrap_or_default().trim_ascii();
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let name_end = line.iter().position(is_blank).unwrap_or(line.len());
    let (interpreter, argument) = line.split_at(name_end);
    if interpreter.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    let argument = argument.trim_ascii();
    let argument = if argument.is_empty() { None } else { Some(copy_of(argument)?) };
    Ok(Some((copy_of(interpreter)?, argument)))
}

/// Loads a program into an address space of its own.
///
/// # Errors
/// ENOEXEC, ENOMEM, E2BIG; then nothing is left.
pub(crate) fn load<M: Memory, D: Machine, S: AsRef<[u8]>>(
    userland: &Userland<M, D>,
    cpu: &Cpu,
    (caller, chosen): (&address_space::Process, MmFlags),
    contents: FileId,
    (path, arguments, environment): (&[u8], &[S], &[S]),
) -> Result<Image<M>, Errno> {
    let memory = userland.memory();
    let program = read_program(memory, cpu, contents)?;
    let bias = if program.header.is_relocatable { RELOCATED_AT } else { 0 };
    let random = [userland.machine().random(), userland.machine().random()].map(u64::to_le_bytes);
    let facts = ProgramFacts {
        headers: bias + program.headers_addr(),
        nr_headers: program.header.nr_headers.into(),
        entry: bias.wrapping_add(program.header.entry),
        features: userland.machine().processor_features(),
        random: core::array::from_fn(|index| random.as_flattened().get(index).copied().unwrap_or(0)),
    };
    let stack = Stack::build(path, arguments, environment, &facts)?;
    let mm = memory.mm_alloc(cpu, caller, ranges(&program, bias, &stack), chosen)?;
    let loader = Loader { memory, cpu, caller, mm: &mm, contents, bias };
    match loader.map_program(&program).and_then(|()| loader.map_stack(&program, &stack)) {
        Ok(()) => {
            let registers = Registers::starting(VirtAddr::new(facts.entry), stack.pointer);
            Ok(Image { registers, mm, auxiliary: stack.auxiliary })
        }
        Err(error) => {
            memory.mmput(cpu, mm);
            Err(error)
        }
    }
}

fn read_program<M: Memory>(memory: &M, cpu: &Cpu, contents: FileId) -> Result<Program, Errno> {
    let mut bytes = [0; elf::HEADER_BYTES];
    let count = memory.file_read(cpu, contents, 0, &mut bytes)?;
    let header = elf::header(bytes.get(..count).unwrap_or_default())?;
    let mut headers = zeros(usize::from(header.nr_headers) * elf::PROGRAM_HEADER_BYTES)?;
    let count = memory.file_read(cpu, contents, header.headers_offset, &mut headers)?;
    if count < headers.len() {
        return Err(Errno::ENOEXEC);
    }
    elf::program(header, &headers)
}

/// Returns what the address space knows of its program.
fn ranges(program: &Program, bias: u64, stack: &Stack) -> ProgramRanges {
    let range = |segment: &Segment| {
        let start = bias + segment.addr;
        VirtRange::with_len(VirtAddr::new(start), segment.file_bytes)
    };
    let code = program.segments.iter().rfind(|segment| segment.prot.contains(Prot::EXEC)).map(range);
    let data = program.segments.last().map(range);
    let brk = VirtAddr::new(bias + program.span().1);
    ProgramRanges {
        code: code.unwrap_or_default(),
        data: data.unwrap_or_default(),
        start_stack: stack.pointer,
        start_brk: brk,
        brk,
        args: stack.arguments,
        env: stack.environment,
    }
}

/// A program on its way into an address space.
struct Loader<'a, M: Memory> {
    memory: &'a M,
    cpu: &'a Cpu,
    caller: &'a address_space::Process,
    mm: &'a M::Mm,
    contents: FileId,
    bias: u64,
}

impl<M: Memory> Loader<'_, M> {
    fn map_program(&self, program: &Program) -> Result<(), Errno> {
        program.segments.iter().try_for_each(|segment| self.map_segment(segment))
    }

    /// Maps what the file has of a segment, and memory for the rest (Linux: `elf_load`).
    fn map_segment(&self, segment: &Segment) -> Result<(), Errno> {
        let start = self.bias + segment.addr - segment.slack();
        let file_end = self.bias + segment.addr + segment.file_bytes;
        let mapped_end = if segment.file_bytes == 0 { start } else { file_end.next_multiple_of(PAGE) };
        if segment.file_bytes > 0 {
            let offset = segment.offset - segment.slack();
            self.map(start, mapped_end - start, segment.prot, Some((self.contents, offset)))?;
        }
        let end = (self.bias + segment.end()).next_multiple_of(PAGE);
        if segment.memory_bytes > segment.file_bytes && segment.file_bytes > 0 && segment.prot.contains(Prot::WRITE) {
            // What the file has behind the segment must not show.
            let rest = zeros((mapped_end - file_end) as usize)?;
            self.memory.write_user(self.cpu, (self.mm, self.caller), VirtAddr::new(file_end), &rest)?;
        }
        if end > mapped_end {
            self.map(mapped_end, end - mapped_end, segment.prot, None)?;
        }
        Ok(())
    }

    fn map(&self, addr: u64, len: u64, prot: Prot, file: Option<(FileId, u64)>) -> Result<(), Errno> {
        let mut flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
        flags.set(MapFlags::ANONYMOUS, file.is_none());
        let offset = file.map_or(0, |(_, offset)| offset);
        let file = file.map(|(file, _)| file);
        let request = MapRequest { addr: VirtAddr::new(addr), len, prot, flags, file, offset };
        self.memory.call(self.cpu, self.mm, self.caller, &SpaceCall::Mmap(request, FileTraits::all()))?;
        Ok(())
    }

    /// Makes the stack's area and puts what the program is to find there.
    fn map_stack(&self, program: &Program, stack: &Stack) -> Result<(), Errno> {
        let start = VirtAddr::new(stack.pointer.raw().saturating_sub(STACK_EXTRA)).align_down(PAGE);
        let mut flags = VmFlags::READ | VmFlags::WRITE | VmFlags::MAYACCESS | VmFlags::GROWSDOWN | VmFlags::ACCOUNT;
        flags.set(VmFlags::EXEC, program.has_executable_stack);
        let range = VirtRange::new(start, VirtAddr::new(STACK_TOP));
        let pgoff = start.raw() / PAGE;
        let vma = Vma { range, flags, pgoff, file: None, anon: None, uffd: 0, name: None };
        self.memory.insert_area(self.cpu, self.mm, self.caller, &vma)?;
        Ok(self.memory.write_user(self.cpu, (self.mm, self.caller), stack.pointer, &stack.bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_names_its_interpreter_and_one_argument() {
        let read = |text: &[u8]| script_line(text).unwrap();
        assert_eq!(read(b"#! /bin/sh -e x \nrest"), Some((b"/bin/sh".to_vec(), Some(b"-e x".to_vec()))));
        assert_eq!(read(b"#!/bin/sh\n"), Some((b"/bin/sh".to_vec(), None)));
        assert_eq!(read(b"\x7fELF"), None);
        assert_eq!(script_line(b"#!\n").err(), Some(Errno::ENOEXEC));
        assert_eq!(script_line(b"#!/bin/sh").err(), Some(Errno::ENOEXEC));
    }
}
