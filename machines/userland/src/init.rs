//! The start of init: the tree of files out of the initrd, and the first process. Linux 6.12: init/initramfs.c, init/main.c.

use alloc::vec::Vec;

use address_space::{Limits, MmFlags, Rights};
use sync::Cpu;

use crate::calls;
use crate::cpio::{self, BadArchive};
use crate::errno::Errno;
use crate::files::{
    Descriptor, Descriptors, Device, InodeKey, Kind, LastLink, OpenFlags, Place, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT,
    S_IFREG, Target,
};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::process::{Life, OtherLimits, Process};
use crate::signals::{Actions, AltStack, Pending, SignalSet};
use crate::slots::{Owned, copy_of, zeros};
use crate::thread::Thread;
use crate::userland::Userland;
use crate::wait::Progress;
use crate::world::World;

/// Names that every machine has: directories and devices.
const DIRECTORIES: [&[u8]; 5] = [b"dev", b"proc", b"sys", b"tmp", b"root"];
const DEVICES: [(&[u8], Device); 7] = [
    (b"null", Device::Null),
    (b"zero", Device::Zero),
    (b"full", Device::Full),
    (b"random", Device::Random),
    (b"urandom", Device::Random),
    (b"console", Device::Console),
    (b"tty", Device::Console),
];
/// Descriptors of init: all three are the console.
const STANDARD_DESCRIPTORS: u32 = 3;

/// What init is to be.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Path in the initrd.
    pub path: &'a [u8],
    /// Arguments, the program's name first.
    pub arguments: &'a [&'a [u8]],
    /// Environment.
    pub environment: &'a [&'a [u8]],
}

/// Why there is no init.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InitError {
    /// The initrd is no newc archive: what is wrong, and at which byte.
    Archive(&'static str, usize),
    /// A file of the initrd could not be made, or the program not started.
    Failed(Errno),
}

impl core::fmt::Display for InitError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Archive(what, offset) => write!(f, "initrd, byte {offset}: {what}"),
            Self::Failed(errno) => write!(f, "init cannot be started: {errno}"),
        }
    }
}

impl core::error::Error for InitError {}

impl From<Errno> for InitError {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

impl From<BadArchive> for InitError {
    fn from(bad: BadArchive) -> Self {
        Self::Archive(bad.what, bad.offset)
    }
}

impl<M: Memory, D: Machine> Userland<M, D> {
    /// Unpacks an archive into the machine's files, over what is there, and adds the names that every machine has.
    ///
    /// # Errors
    /// [`InitError`]; what was made stays.
    pub fn unpack(&self, cpu: &Cpu, archive: &[u8]) -> Result<(), InitError> {
        cpio::read(archive, |entry| self.unpack_entry(cpu, &entry).map_err(InitError::from))?;
        let now = self.machine().boot_time_ns();
        let mut world = self.world(cpu);
        let root = world.files.root(now)?;
        for name in DIRECTORIES {
            world.ensure_directory(root, name, now)?;
        }
        let devices = world.ensure_directory(root, b"dev", now)?;
        world.ensure_directory(devices, b"shm", now)?;
        for (name, device) in DEVICES {
            if world.files.find(devices, name).is_none() {
                world.files.create(devices, name, Kind::Device(device), 0o666, now)?;
            }
        }
        Ok(())
    }

    fn unpack_entry(&self, cpu: &Cpu, entry: &cpio::Entry<'_>) -> Result<(), Errno> {
        let kind = match entry.mode & S_IFMT {
            S_IFREG => return self.unpack_file(cpu, entry),
            S_IFDIR => None,
            S_IFLNK => Some(Kind::Link(copy_of(entry.contents)?)),
            S_IFCHR => Some(Kind::Device(Device::of_numbers(entry.device.0, entry.device.1).ok_or(Errno::ENODEV)?)),
            _ => return Err(Errno::EINVAL),
        };
        let now = self.machine().boot_time_ns();
        let mut world = self.world(cpu);
        let (directory, name) = world.make_parents(entry.path, now)?;
        match kind {
            None if name.is_empty() => Ok(()),
            None => world.ensure_directory(directory, name, now).map(|_| ()),
            Some(kind) => world.files.create(directory, name, kind, entry.mode, now).map(|_| ()),
        }
    }

    fn unpack_file(&self, cpu: &Cpu, entry: &cpio::Entry<'_>) -> Result<(), Errno> {
        let contents = self.memory().file_create(cpu, None)?;
        let now = self.machine().boot_time_ns();
        let made = self.memory().file_write(cpu, contents, 0, entry.contents).map_err(Errno::from).and_then(|()| {
            let mut world = self.world(cpu);
            let (directory, name) = world.make_parents(entry.path, now)?;
            world.files.create(directory, name, Kind::Regular(contents), entry.mode, now)
        });
        match made {
            Ok(inode) => {
                let name = self.world(cpu).name_of(inode);
                if let Ok(name) = name {
                    // Without memory for its name a file goes without.
                    let _ = self.memory().file_set_name(cpu, contents, &name);
                }
                Ok(())
            }
            Err(error) => {
                self.memory().file_put(cpu, contents);
                Err(error)
            }
        }
    }

    /// Makes the first process, ready to run `program`.
    ///
    /// # Errors
    /// [`InitError`]: the program is not there or cannot be loaded.
    pub fn start_init(&self, cpu: &Cpu, program: &Program<'_>) -> Result<(), InitError> {
        let now = self.machine().boot_time_ns();
        let (mut process, (program_file, contents)) = {
            let mut world = self.world(cpu);
            let root = Place::Inode(world.files.root(now)?);
            let mut process = first_process(root);
            process.set_name(program.path);
            let contents = world.init_contents(root, program.path, &mut process)?;
            (process, contents)
        };
        let strings = (program.path, program.arguments, program.environment);
        let caller = process.caller();
        let image = calls::load(self, cpu, (&caller, MmFlags::empty()), contents, strings)?;
        let mut world = self.world(cpu);
        process.descriptors = world.standard_descriptors()?;
        process.auxiliary = image.auxiliary;
        process.pid = world.new_pid()?;
        (process.group, process.session) = (process.pid, process.pid);
        let key = world.next_thread_key();
        let thread = Thread {
            registers: image.registers,
            key,
            tid: process.pid,
            pid: process.pid,
            parent: 0,
            process: world.next_process_key(),
            mm: image.mm,
            old_mm: None,
            caller,
            blocked: SignalSet::EMPTY,
            blocked_before: None,
            alt_stack: AltStack::NONE,
            clear_tid: 0,
            robust_list: 0,
            progress: Progress::default(),
            held: [None; 2],
            in_call: false,
        };
        let space = self.memory().mmget(&thread.mm);
        let key = world.add_init(Owned::try_new(thread).map_err(|_| Errno::ENOMEM)?, process)?;
        world.share_space(key, (space, Some(program_file)), None);
        Ok(())
    }
}

fn first_process(root: Place) -> Process {
    Process {
        serial: 0,
        registered_barriers: 0,
        pid: 0,
        parent: 0,
        group: 0,
        session: 0,
        life: Life::Runs,
        nr_threads: 0,
        name: [0; crate::process::NAME_BYTES],
        started: 0,
        ended_ns: 0,
        children_ns: 0,
        executable: Vec::new(),
        auxiliary: Vec::new(),
        exit_signal: 0,
        borrows_memory: false,
        descriptors: Descriptors::default(),
        directory: root,
        umask: 0o22,
        actions: Actions::new(),
        pending: Pending::new(),
        rights: Rights::IPC_LOCK | Rights::SYS_RAWIO | Rights::SYS_ADMIN | Rights::SYS_NICE,
        limits: Limits::default(),
        other_limits: OtherLimits::default(),
    }
}

impl<M: Memory> World<M> {
    /// Returns the directory of a name, which is made if it is missing.
    fn ensure_directory(&mut self, parent: InodeKey, name: &[u8], now: u64) -> Result<InodeKey, Errno> {
        match self.files.find(parent, name) {
            Some(found) if self.files.is_directory(found) => Ok(found),
            Some(_) => Err(Errno::ENOTDIR),
            None => self.files.create(parent, name, Kind::Directory { entries: Vec::new(), parent }, 0o755, now),
        }
    }

    /// Makes the directories of a path; returns the last and the name in it.
    fn make_parents<'p>(&mut self, path: &'p [u8], now: u64) -> Result<(InodeKey, &'p [u8]), Errno> {
        let mut at = self.files.root(now)?;
        let mut names = path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b".")).peekable();
        while let Some(name) = names.next() {
            if name == b".." {
                return Err(Errno::EINVAL);
            }
            if names.peek().is_none() {
                return Ok((at, name));
            }
            at = self.ensure_directory(at, name, now)?;
        }
        Ok((at, b""))
    }

    /// Finds init's program and notes its path.
    fn init_contents(
        &mut self,
        root: Place,
        path: &[u8],
        process: &mut Process,
    ) -> Result<(InodeKey, address_space::FileId), Errno> {
        // No process is there yet that links of /proc could be about.
        let nobody = self.next_process_key();
        let found = self.walk(nobody, root, path, LastLink::Follow)?.existing()?;
        let Place::Inode(key) = found else { return Err(Errno::EACCES) };
        process.executable = self.name_of(key)?;
        match self.files.inodes.get(key).map(|inode| &inode.kind) {
            Some(Kind::Regular(contents)) => Ok((key, *contents)),
            _ => Err(Errno::EACCES),
        }
    }

    /// Opens the console three times.
    fn standard_descriptors(&mut self) -> Result<Descriptors, Errno> {
        let mut descriptors = Descriptors::default();
        let console = self.files.root_place().ok().and_then(|place| match place {
            Place::Inode(root) => self.files.find(self.files.find(root, b"dev")?, b"console"),
            Place::Proc(_) => None,
        });
        let console = console.ok_or(Errno::ENOENT)?;
        let file = self.files.open(Target::Inode(console), OpenFlags::RDWR)?;
        for number in 0..STANDARD_DESCRIPTORS {
            if number > 0 {
                self.files.get(file);
            }
            descriptors.add(Descriptor { file, closes_on_exec: false }, 0, STANDARD_DESCRIPTORS.into())?;
        }
        Ok(descriptors)
    }
}

/// Reads a file of the machine whole, for what the boot needs out of the initrd.
impl<M: Memory, D: Machine> Userland<M, D> {
    /// Returns the contents of a regular file.
    ///
    /// # Errors
    /// [`InitError::Failed`].
    pub fn read_file(&self, cpu: &Cpu, path: &[u8]) -> Result<Vec<u8>, InitError> {
        let contents = {
            let mut world = self.world(cpu);
            let root = world.files.root_place()?;
            world.init_contents(root, path, &mut first_process(root))?.1
        };
        let size = self.memory().file_size(cpu, contents);
        let mut bytes = zeros(usize::try_from(size).map_err(|_| Errno::EFBIG)?)?;
        self.memory().file_read(cpu, contents, 0, &mut bytes).map_err(Errno::from)?;
        Ok(bytes)
    }
}
