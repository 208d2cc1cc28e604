//! The host's side: operations as system calls of the agent.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::os::unix::fs::{FileExt, MetadataExt};

use address_space::{Advice, Limits, NO_LIMIT, PAGE_SIZE};
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use proc_files::parse::Status;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::agent::{Agent, access, words_of};
use super::contents::{PageContents, hash};
use super::huge::HugePages;
use super::maps::{self, MapLine, Smap};
use super::operation::{FILE_PAGES, FILES, MOST_CHILDREN, Operation, Place, Slots};
use super::outcome::Outcome;
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
    pub(super) const MINCORE: u64 = 27;
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
    pub(super) const PRCTL: u64 = 157;
    pub(super) const PROCESS_MADVISE: u64 = 440;
    pub(super) const MSEAL: u64 = 462;
}

/// A user without rights.
const NOBODY: u64 = 65534;
/// First descriptor that the agent opens.
const FIRST_FD: u64 = 3;
/// MLOCK_ONFAULT.
const ONFAULT: u64 = 1;

/// PR_SET_THP_DISABLE.
const NO_HUGE_PAGES: [u64; 6] = [41, 1, 0, 0, 0, 0];

/// The agent with its files.
pub(super) struct Host {
    agent: Agent,
    files: BTreeMap<u64, String>,
    /// File through which bytes are read and written.
    scratch: std::fs::File,
    program: Program,
}

/// Where the agent's program lies.
pub(super) struct Program {
    /// Code.
    pub(super) code: (u64, u64),
    /// Data.
    pub(super) data: (u64, u64),
    /// Start of the heap.
    pub(super) start_brk: u64,
    /// Start of the stack.
    pub(super) start_stack: u64,
}

impl Program {
    /// Reads /proc/PID/stat.
    fn of(stat: &str) -> Result<Self, Failure> {
        let field = |index: usize| {
            let fields = stat.rsplit(") ").next().unwrap_or_default();
            let text = fields.split(' ').nth(index - 3);
            text.and_then(|text| text.parse().ok())
                .ok_or_else(|| Failure::Host(format!("/proc/PID/stat: expected a number in field {index}")))
        };
        Ok(Self {
            code: (field(26)?, field(27)?),
            data: (field(45)?, field(46)?),
            start_brk: field(47)?,
            start_stack: field(28)?,
        })
    }
}

/// Returns the lowest address that the host's kernel gives out: it lifts hints up to there, and says so nowhere else.
pub(super) fn lowest_address() -> Result<u64, Failure> {
    let private_anonymous = 0x22;
    let placed = Agent::start()?.call(number::MMAP, [PAGE_SIZE, PAGE_SIZE, 0, private_anonymous, u64::MAX, 0])?;
    u64::try_from(placed).map_err(|_| Failure::Host(format!("mmap with a low hint returned {placed}")))
}

impl Host {
    /// Starts the agent, gives it files and takes its rights.
    pub(super) fn start(huge: HugePages) -> Result<Self, Failure> {
        let mut agent = Agent::start()?;
        let mut files = BTreeMap::new();
        for file in 0..=FILES {
            // Without a name: the words behind the arguments are zeros.
            let fd = agent.call(number::MEMFD_CREATE, [agent.payload(), 0, 0, 0, 0, 0])?;
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
        if huge == HugePages::Off {
            agent.call(number::PRCTL, NO_HUGE_PAGES)?;
        }
        let program = Program::of(&agent.proc_file("stat")?)?;
        Ok(Self { agent, files, scratch, program })
    }

    /// Returns what /proc/PID/smaps says.
    pub(super) fn smaps(&self) -> Result<Vec<Smap>, Failure> {
        maps::parse_smaps(&self.agent.proc_file("smaps")?, &self.files)
    }

    /// Returns what /proc/PID/pagemap says of the pages of an area.
    pub(super) fn pagemap(&self, area: &Smap) -> Result<Vec<u64>, Failure> {
        let mut bytes = vec![0; ((area.line.end - area.line.start) / PAGE_SIZE * 8) as usize];
        self.agent.open_proc_file("pagemap")?.read_exact_at(&mut bytes, area.line.start / PAGE_SIZE * 8)?;
        Ok(words_of(&bytes).collect())
    }

    /// Gives up all rights. The kernel tells less of the process from now on.
    pub(super) fn drop_rights(&mut self) -> Result<(), Failure> {
        self.agent.call(number::SETRESUID, [NOBODY, NOBODY, NOBODY, 0, 0, 0]).map(drop)
    }

    /// Lowers limits of the process to those of `limits`.
    pub(super) fn set_limits(&self, limits: &Limits) -> Result<(), Failure> {
        let pid = i32::try_from(self.agent.id()).ok().and_then(Pid::from_raw);
        let all = [
            (Resource::As, limits.address_space),
            (Resource::Data, limits.data),
            (Resource::Stack, limits.stack),
            (Resource::Memlock, limits.locked),
        ];
        for (resource, limit) in all {
            let maximum = getrlimit(resource).maximum;
            let current = Some(limit).filter(|&limit| limit != NO_LIMIT);
            prlimit(pid, resource, Rlimit { current, maximum })
                .map_err(|error| Failure::Host(format!("prlimit: {error}")))?;
        }
        Ok(())
    }

    /// Returns where the program lies.
    pub(super) const fn program(&self) -> &Program {
        &self.program
    }

    /// Returns what /proc/PID/status says.
    pub(super) fn status(&self) -> Result<Status, Failure> {
        let text = self.agent.proc_file("status")?;
        Status::parse(&text).map_err(|error| Failure::Host(format!("/proc/PID/status: {error}")))
    }

    /// Returns what the pages at `pages` hold, read as another process reads them: as if the process itself did.
    pub(super) fn contents(&self, pages: &[u64]) -> Result<Vec<PageContents>, Failure> {
        let pid = i32::try_from(self.agent.id()).map_err(|_| Failure::Host("a process number".into()))?;
        let pid = nix::unistd::Pid::from_raw(pid);
        let mut bytes = [0; PAGE_SIZE as usize];
        let mut one = |&page: &u64| {
            let remote = [RemoteIoVec { base: page as usize, len: bytes.len() }];
            let read = process_vm_readv(pid, &mut [IoSliceMut::new(&mut bytes)], &remote);
            match read {
                Ok(len) if len == bytes.len() => Ok(PageContents { page, hash: Some(hash(&bytes)) }),
                Err(Errno::EFAULT) => Ok(PageContents { page, hash: None }),
                other => Err(Failure::Host(format!("process_vm_readv of a page returned {other:?}"))),
            }
        };
        pages.iter().map(&mut one).collect()
    }

    /// Returns /proc/PID/maps.
    pub(super) fn maps(&mut self) -> Result<Vec<MapLine>, Failure> {
        maps::parse(&self.agent.maps()?, &self.files)
    }

    /// Makes the call; `None` if it is on a slot that holds nothing.
    pub(super) fn make(&mut self, operation: &Operation, slots: &Slots) -> Result<Option<Outcome>, Failure> {
        match *operation {
            Operation::Fork if self.agent.nr_children() >= MOST_CHILDREN => return Ok(None),
            Operation::Fork => return self.agent.fork().map(|result| Some(Outcome::Returned(result))),
            Operation::Exit if self.agent.nr_children() == 0 => return Ok(None),
            Operation::Exit => return self.agent.exit().map(|()| Some(Outcome::Returned(0))),
            Operation::ClearMarks => {
                return self.agent.write_proc_file("clear_refs", "4").map(|()| Some(Outcome::Returned(0)));
            }
            Operation::Mincore { at, len } => return self.mincore(at, len, slots),
            Operation::ProcessMadvise { ranges, advice } => return self.process_madvise(ranges, advice, slots),
            Operation::Write { byte, .. } => self.scratch.write_all_at(&[byte], 0)?,
            _ => {}
        }
        let Some((number, arguments)) = self.system_call(operation, slots) else { return Ok(None) };
        let outcome = self.agent.call_with(number, arguments, &[])?;
        if let Operation::Read { .. } = operation
            && outcome == Outcome::Returned(1)
        {
            let mut byte = [0];
            self.scratch.read_exact_at(&mut byte, 0)?;
            return Ok(Some(Outcome::Returned(i64::from(byte[0]))));
        }
        Ok(Some(outcome))
    }

    fn mincore(&mut self, at: Place, len: u64, slots: &Slots) -> Result<Option<Outcome>, Failure> {
        let Some(addr) = slots.resolve(at, len) else { return Ok(None) };
        let bytes = self.agent.payload();
        let (result, bytes) = self.agent.call_for_bytes(number::MINCORE, [addr, len, bytes, 0, 0, 0])?;
        Ok(Some(Outcome::Wrote(result, bytes.to_vec())))
    }

    fn process_madvise(
        &mut self,
        ranges: [(Place, u64); 2],
        advice: Advice,
        slots: &Slots,
    ) -> Result<Option<Outcome>, Failure> {
        let mut words = Vec::with_capacity(2 * ranges.len());
        for (at, len) in ranges {
            let Some(addr) = slots.resolve(at, len) else { return Ok(None) };
            words.extend([addr, len]);
        }
        let arguments = [self.agent.pidfd()?, self.agent.payload(), ranges.len() as u64, advice as u64, 0, 0];
        self.agent.call_with(number::PROCESS_MADVISE, arguments, &words).map(Some)
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
            Operation::Brk { bytes } => pad(number::BRK, [self.program.start_brk + bytes, 0, 0]),
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
            Operation::Load { at } => pad(access::LOAD, [slots.resolve(at, 1)?, 0, 0]),
            Operation::Store { at, byte } => pad(access::STORE, [slots.resolve(at, 1)?, byte.into(), 0]),
            Operation::Fetch { at } => pad(access::FETCH, [slots.resolve(at, 1)?, 0, 0]),
            Operation::Truncate { file, bytes } => pad(number::FTRUNCATE, [FIRST_FD + file, bytes, 0]),
            Operation::Mincore { .. }
            | Operation::ClearMarks
            | Operation::ProcessMadvise { .. }
            | Operation::Fork
            | Operation::Exit => None,
        }
    }
}
