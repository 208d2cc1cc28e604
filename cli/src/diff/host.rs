//! The host's side: operations as system calls of the agent.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt};

use address_space::PAGE_SIZE;

use super::agent::{Agent, name_address};
use super::maps::{self, MapLine, Smap};
use super::operation::{FILE_PAGES, FILES, Operation, Slots};
use crate::failure::Failure;

/// Numbers of x86-64's system calls.
mod number {
    pub(super) const MMAP: u64 = 9;
    pub(super) const MPROTECT: u64 = 10;
    pub(super) const MUNMAP: u64 = 11;
    pub(super) const BRK: u64 = 12;
    pub(super) const PREAD64: u64 = 17;
    pub(super) const PWRITE64: u64 = 18;
    pub(super) const MREMAP: u64 = 25;
    pub(super) const MSYNC: u64 = 26;
    pub(super) const MADVISE: u64 = 28;
    pub(super) const FTRUNCATE: u64 = 77;
    pub(super) const SETRESUID: u64 = 117;
    pub(super) const MLOCK: u64 = 149;
    pub(super) const MUNLOCK: u64 = 150;
    pub(super) const MLOCKALL: u64 = 151;
    pub(super) const MUNLOCKALL: u64 = 152;
    pub(super) const REMAP_FILE_PAGES: u64 = 216;
    pub(super) const MEMFD_CREATE: u64 = 319;
    pub(super) const MLOCK2: u64 = 325;
    pub(super) const MSEAL: u64 = 462;
}

/// A user without rights.
const NOBODY: u64 = 65534;
/// First descriptor that the agent opens.
const FIRST_FD: u64 = 3;
/// MLOCK_ONFAULT.
const ONFAULT: u64 = 1;

/// The agent with its files.
pub(super) struct Host {
    agent: Agent,
    files: BTreeMap<u64, String>,
    /// File through which bytes are read and written.
    scratch: std::fs::File,
    start_brk: u64,
    start_stack: u64,
}

/// Returns the lowest address that the host's kernel gives out: it lifts hints up to there, and says so nowhere else.
pub(super) fn lowest_address() -> Result<u64, Failure> {
    let private_anonymous = 0x22;
    let placed = Agent::start()?.call(number::MMAP, [PAGE_SIZE, PAGE_SIZE, 0, private_anonymous, u64::MAX, 0])?;
    u64::try_from(placed).map_err(|_| Failure::Host(format!("mmap with a low hint returned {placed}")))
}

impl Host {
    /// Starts the agent, gives it files and takes its rights.
    pub(super) fn start() -> Result<Self, Failure> {
        let mut agent = Agent::start()?;
        let mut files = BTreeMap::new();
        for file in 0..=FILES {
            let fd = agent.call(number::MEMFD_CREATE, [name_address(), 0, 0, 0, 0, 0])?;
            if fd != (FIRST_FD + file) as i64 {
                return Err(Failure::Host(format!("memfd_create returned {fd}, expected {}", FIRST_FD + file)));
            }
            let size = if file < FILES { FILE_PAGES * PAGE_SIZE } else { 1 };
            agent.call(number::FTRUNCATE, [FIRST_FD + file, size, 0, 0, 0, 0])?;
            if file < FILES {
                files.insert(agent.open_fd(FIRST_FD + file)?.metadata()?.ino(), format!("file {file}"));
            }
        }
        let scratch = agent.open_fd(FIRST_FD + FILES)?;
        let stat = agent.proc_file("stat")?;
        let field = |index: usize| {
            let fields = stat.rsplit(") ").next().unwrap_or_default();
            let text = fields.split(' ').nth(index - 3);
            text.and_then(|text| text.parse().ok())
                .ok_or_else(|| Failure::Host(format!("/proc/PID/stat: expected a number in field {index}")))
        };
        let (start_stack, start_brk) = (field(28)?, field(47)?);
        Ok(Self { agent, files, scratch, start_brk, start_stack })
    }

    /// Returns all areas as they are before the first operation.
    pub(super) fn areas(&self) -> Result<Vec<Smap>, Failure> {
        maps::parse_smaps(&self.agent.proc_file("smaps")?, &self.files)
    }

    /// Gives up all rights. The kernel tells less of the process from now on.
    pub(super) fn drop_rights(&mut self) -> Result<(), Failure> {
        self.agent.call(number::SETRESUID, [NOBODY, NOBODY, NOBODY, 0, 0, 0]).map(drop)
    }

    /// Returns where the heap and the stack began.
    pub(super) const fn program(&self) -> (u64, u64) {
        (self.start_brk, self.start_stack)
    }

    /// Returns /proc/PID/maps.
    pub(super) fn maps(&mut self) -> Result<Vec<MapLine>, Failure> {
        maps::parse(&self.agent.maps()?, &self.files)
    }

    /// Makes the call; `None` if it is on a slot that holds nothing.
    pub(super) fn make(&mut self, operation: &Operation, slots: &Slots) -> Result<Option<i64>, Failure> {
        if let Operation::Write { byte, .. } = operation {
            self.scratch.write_all_at(&[*byte], 0)?;
        }
        let Some((number, arguments)) = self.system_call(operation, slots) else { return Ok(None) };
        let result = self.agent.call(number, arguments)?;
        if let Operation::Read { .. } = operation
            && result == 1
        {
            let mut byte = [0];
            self.scratch.read_exact_at(&mut byte, 0)?;
            return Ok(Some(i64::from(byte[0])));
        }
        Ok(Some(result))
    }

    fn system_call(&self, operation: &Operation, slots: &Slots) -> Option<(u64, [u64; 6])> {
        let pad = |number, [a, b, c]: [u64; 3]| Some((number, [a, b, c, 0, 0, 0]));
        let scratch = FIRST_FD + FILES;
        match *operation {
            Operation::Mmap { at, len, prot, flags, file, offset, .. } => {
                let addr = slots.resolve(at, len)?;
                let fd = file.map_or(u64::MAX, |file| FIRST_FD + file);
                Some((number::MMAP, [addr, len, prot.bits().into(), flags.bits().into(), fd, offset]))
            }
            Operation::Munmap { at, len } => pad(number::MUNMAP, [slots.resolve(at, len)?, len, 0]),
            Operation::Mprotect { at, len, prot } => {
                pad(number::MPROTECT, [slots.resolve(at, len)?, len, prot.bits().into()])
            }
            Operation::Mremap { at, old_len, new_len, flags, to, .. } => {
                let (addr, to) = (slots.resolve(at, old_len)?, slots.resolve(to, 0)?);
                Some((number::MREMAP, [addr, old_len, new_len, flags.bits().into(), to, 0]))
            }
            Operation::Madvise { at, len, advice } => {
                pad(number::MADVISE, [slots.resolve(at, len)?, len, advice as u64])
            }
            Operation::Mlock { at, len } => pad(number::MLOCK, [slots.resolve(at, len)?, len, 0]),
            Operation::MlockOnFault { at, len } => pad(number::MLOCK2, [slots.resolve(at, len)?, len, ONFAULT]),
            Operation::Munlock { at, len } => pad(number::MUNLOCK, [slots.resolve(at, len)?, len, 0]),
            Operation::Mlockall { flags } => pad(number::MLOCKALL, [flags.bits().into(), 0, 0]),
            Operation::Munlockall => pad(number::MUNLOCKALL, [0; 3]),
            Operation::Brk { bytes } => pad(number::BRK, [self.start_brk + bytes, 0, 0]),
            Operation::Msync { at, len, flags } => {
                pad(number::MSYNC, [slots.resolve(at, len)?, len, flags.bits().into()])
            }
            Operation::Mseal { at, len } => pad(number::MSEAL, [slots.resolve(at, len)?, len, 0]),
            Operation::RemapFilePages { at, len, prot, pgoff, flags } => {
                let arguments = [slots.resolve(at, len)?, len, prot.bits().into(), pgoff, flags.bits().into(), 0];
                Some((number::REMAP_FILE_PAGES, arguments))
            }
            Operation::Write { at, .. } => pad(number::PREAD64, [scratch, slots.resolve(at, 1)?, 1]),
            Operation::Read { at } => pad(number::PWRITE64, [scratch, slots.resolve(at, 1)?, 1]),
        }
    }
}
