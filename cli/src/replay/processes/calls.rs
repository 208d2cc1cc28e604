//! A recorded system call, made on an address space of ours.

use address_space::{
    Advice, LockAllFlags, LockWhen, MapFlags, MapRequest, MmError, PAGE_SHIFT, PAGE_SIZE, PlaceRequest, Process, Prot,
    RemapFlags, RemapRequest, SyncFlags,
};
use page_allocator::Hooks;
use recordings::processes::{Call, CallResult, MappedFile};
use units::VirtAddr;

use super::catalogue::Catalogue;
use super::opened::FileTable;
use super::shm::{self, Attachment};
use super::space::{Host, Space};

/// MLOCK_ONFAULT.
const LOCK_ON_FAULT: u64 = 1;
/// Key of pkey_mprotect that is no key.
const NO_KEY: u64 = 0xffff_ffff;

/// What became of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// It was made and returned this.
    Made(Result<u64, MmError>),
    /// Its result is taken from the recording, which lacks what decides it.
    Taken(&'static str),
}

/// A call with what the recording says of its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recorded<'a> {
    /// The call.
    pub(super) call: &'a Call,
    /// What it returned.
    pub(super) result: CallResult,
    /// The file that it mapped.
    pub(super) file: Option<&'a MappedFile>,
}

/// Makes the call.
pub(super) fn make<'k, H: Hooks + Sync>(
    space: &Space<'k>,
    host: Host<'_, 'k, H>,
    process: &Process,
    recorded: &Recorded<'_>,
    places: (&mut FileTable, &Catalogue),
) -> Outcome {
    if let Call::Mmap { .. } = recorded.call {
        return mmap(space, host, process, recorded, places);
    }
    if let Call::Mincore { addr, len, .. } = *recorded.call {
        return Outcome::Made(mincore(space, host, process, (addr, len)));
    }
    match *recorded.call {
        Call::Shmat { shmid, addr, flags } => {
            let asked = Attachment { segment: shmid, addr, flags, result: recorded.result };
            return shm::attach(space, host, process, asked, places);
        }
        Call::Shmdt { addr } => return shm::detach(space, host, process, VirtAddr::new(addr), places.0),
        _ => {}
    }
    let mut mm = space.call(host, process);
    let unit = |result: Result<(), MmError>| result.map(|()| 0);
    let at = VirtAddr::new;
    Outcome::Made(match *recorded.call {
        Call::Munmap { addr, len } => unit(mm.munmap(at(addr), len)),
        Call::Brk { brk } => Ok(mm.brk(at(brk)).raw()),
        Call::Mprotect { addr, len, prot } => unit(mm.mprotect(at(addr), len, protection(prot))),
        Call::PkeyMprotect { addr, len, prot, pkey } if pkey & NO_KEY == NO_KEY => {
            unit(mm.mprotect(at(addr), len, protection(prot)))
        }
        Call::Mremap { addr, old_len, new_len, flags, new_addr } => {
            let flags = RemapFlags::from_bits_retain(low(flags));
            let request = RemapRequest { addr: at(addr), old_len, new_len, flags, new_addr: at(new_addr) };
            mm.mremap(&request).map(VirtAddr::raw)
        }
        Call::Msync { addr, len, flags } => unit(mm.msync(at(addr), len, SyncFlags::from_bits_retain(low(flags)))),
        Call::Madvise { addr, len, advice } => {
            unit(Advice::try_new(low(advice)).and_then(|advice| mm.madvise(at(addr), len, advice)))
        }
        Call::Mlock { addr, len } => unit(mm.mlock(at(addr), len, LockWhen::Now)),
        Call::Mlock2 { addr, len, flags: 0 } => unit(mm.mlock(at(addr), len, LockWhen::Now)),
        Call::Mlock2 { addr, len, flags: LOCK_ON_FAULT } => unit(mm.mlock(at(addr), len, LockWhen::OnFault)),
        Call::Mlock2 { .. } => Err(MmError::Invalid),
        Call::Munlock { addr, len } => unit(mm.munlock(at(addr), len)),
        Call::Mlockall { flags } => unit(mm.mlockall(LockAllFlags::from_bits_retain(low(flags)))),
        Call::Munlockall {} => {
            mm.munlockall();
            Ok(0)
        }
        Call::RemapFilePages { addr, len, prot, page_offset, flags } => {
            let flags = MapFlags::from_bits_retain(low(flags));
            unit(mm.remap_file_pages(at(addr), len, protection(prot), page_offset, flags))
        }
        Call::Mseal { addr, len, flags } => unit(mm.mseal(at(addr), len, flags)),
        ref other => return Outcome::Taken(why_taken(other)),
    })
}

/// Names what the recording lacks to make a call.
pub(super) const fn why_taken(call: &Call) -> &'static str {
    match call {
        Call::Prlimit64 { .. } | Call::Setrlimit { .. } => "limits lie in the process's memory",
        Call::ProcessMadvise { .. } => "its ranges lie in the process's memory",
        Call::PkeyMprotect { .. } => "protection keys are not here",
        Call::Execve { .. } | Call::Execveat { .. } => "the programs are not recorded",
        Call::Clone { .. } | Call::Clone3 { .. } | Call::Fork {} | Call::Vfork {} => "no task was made",
        _ => "it is no call on memory",
    }
}

fn mmap<'k, H: Hooks + Sync>(
    space: &Space<'k>,
    host: Host<'_, 'k, H>,
    process: &Process,
    recorded: &Recorded<'_>,
    places: (&mut FileTable, &Catalogue),
) -> Outcome {
    let (files, catalogue) = places;
    match request(host, process, recorded, (&mut *files, catalogue)) {
        Ok(Some(request)) => {
            let opened = files.opened(request.file);
            Outcome::Made(space.call(host, process).mmap_opened(&request, opened).map(VirtAddr::raw))
        }
        Ok(None) => Outcome::Taken("the file behind the descriptor is not recorded"),
        Err(error) => Outcome::Made(Err(error)),
    }
}

/// Returns the arguments of an mmap; `None` if its file is not recorded.
fn request<H: Hooks + Sync>(
    host: Host<'_, '_, H>,
    process: &Process,
    recorded: &Recorded<'_>,
    places: (&mut FileTable, &Catalogue),
) -> Result<Option<MapRequest>, MmError> {
    let (files, catalogue) = places;
    let Call::Mmap { addr, len, prot, flags, offset, .. } = *recorded.call else { return Ok(None) };
    let (prot, flags) = (protection(prot), MapFlags::from_bits_retain(low(flags)));
    let file = match recorded.file {
        _ if flags.contains(MapFlags::ANONYMOUS) => None,
        Some(file) => {
            let id = files.file(host, process, &file.path, Some(file.size), catalogue)?;
            // A shared mapping that may be written tells how the file was opened; of others it makes no difference.
            if flags.contains(MapFlags::SHARED) && prot.contains(Prot::WRITE) {
                files.open_for_writing(id);
            }
            Some(id)
        }
        None => return Ok(None),
    };
    Ok(Some(MapRequest { addr: VirtAddr::new(addr), len, prot, flags, file, offset }))
}

/// Returns true if an mmap would get the recorded address now, false if another; `None` for calls that are given no address by the kernel.
pub(super) fn would_fit<'k, H: Hooks + Sync>(
    space: &Space<'k>,
    host: Host<'_, 'k, H>,
    process: &Process,
    recorded: &Recorded<'_>,
    places: (&mut FileTable, &Catalogue),
) -> Option<bool> {
    let CallResult::Value(address) = recorded.result else { return None };
    let (files, catalogue) = places;
    let request = request(host, process, recorded, (&mut *files, catalogue)).ok()??;
    if request.flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE) {
        return None;
    }
    let place = PlaceRequest {
        file: request.file,
        addr: request.addr,
        len: request.len.checked_next_multiple_of(PAGE_SIZE)?,
        pgoff: request.offset >> PAGE_SHIFT,
        flags: request.flags,
    };
    Some(space.call(host, process).unmapped_area(&place) == Ok(VirtAddr::new(address)))
}

fn mincore<'k, H: Hooks + Sync>(
    space: &Space<'k>,
    host: Host<'_, 'k, H>,
    process: &Process,
    range: (u64, u64),
) -> Result<u64, MmError> {
    let (addr, len) = range;
    // A range with more pages than are mapped meets a hole first.
    let nr_pages = len.div_ceil(1 << PAGE_SHIFT).min(space.read(host.cpu).counters().total);
    let nr_pages = usize::try_from(nr_pages).map_err(|_| MmError::NoMemory)?;
    let mut resident = Vec::new();
    resident.try_reserve_exact(nr_pages).map_err(|_| MmError::NoMemory)?;
    resident.resize(nr_pages, 0);
    space.call(host, process).mincore(VirtAddr::new(addr), len, &mut resident).map(|()| 0)
}

/// Flags are ints, of which the upper half of a register is no part.
const fn low(register: u64) -> u32 {
    (register & 0xffff_ffff) as u32
}

fn protection(register: u64) -> Prot {
    Prot::from_bits_retain(low(register))
}
