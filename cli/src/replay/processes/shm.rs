//! System V shared memory. A recording lacks the sizes of segments; an attachment is placed right below an area, so its address tells the size.
//!
//! Linux 6.12: ipc/shm.c (`do_shmat`, `ksys_shmdt`).

use address_space::{MapFlags, MapRequest, MmError, PAGE_SIZE, Process, Prot};
use page_allocator::Hooks;
use recordings::processes::CallResult;
use units::{VirtAddr, VirtRange};

use super::calls::Outcome;
use super::catalogue::Catalogue;
use super::opened::FileTable;
use super::space::{Host, Space};

/// SHM_RDONLY.
const READ_ONLY: u64 = 0o10000;
/// SHM_EXEC.
const EXECUTE: u64 = 0o100_000;
/// What is taken from the recording.
const UNKNOWN: Outcome = Outcome::Taken("the sizes of System V segments attached at given addresses are not recorded");

/// An attachment as it was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attachment {
    pub(super) segment: u64,
    pub(super) addr: u64,
    pub(super) flags: u64,
    pub(super) result: CallResult,
}

/// Attaches a segment where the recorded kernel did.
pub(super) fn attach<'k, H: Hooks + Sync>(
    space: &Space<'k>,
    host: Host<'_, 'k, H>,
    process: &Process,
    asked: Attachment,
    places: (&mut FileTable, &Catalogue),
) -> Outcome {
    let (files, catalogue) = places;
    let CallResult::Value(at) = asked.result else { return UNKNOWN };
    let Some(above) = space.read(host.cpu).find(VirtAddr::new(at)).map(|area| area.start()) else { return UNKNOWN };
    let bytes = above.raw().saturating_sub(at);
    if asked.addr != 0 || bytes == 0 {
        return UNKNOWN;
    }
    Outcome::Made(files.segment(host, process, asked.segment, bytes, catalogue).and_then(|(file, bytes)| {
        let mut prot = Prot::READ;
        prot.set(Prot::WRITE, asked.flags & READ_ONLY == 0);
        prot.set(Prot::EXEC, asked.flags & EXECUTE != 0);
        if prot.contains(Prot::WRITE) {
            files.open_for_writing(file);
        }
        let (addr, flags) = (VirtAddr::ZERO, MapFlags::SHARED);
        let request = MapRequest { addr, len: bytes, prot, flags, file: Some(file), offset: 0 };
        space.call(host, process).mmap_opened(&request, files.opened(Some(file))).map(VirtAddr::raw)
    }))
}

/// Detaches the segment that is attached at `addr`.
pub(super) fn detach<'k, H: Hooks + Sync>(
    space: &Space<'k>,
    host: Host<'_, 'k, H>,
    process: &Process,
    addr: VirtAddr,
    files: &FileTable,
) -> Outcome {
    let Some(first) = space.read(host.cpu).lookup(addr).filter(|area| area.start() == addr) else { return UNKNOWN };
    let Some(file) = first.file.filter(|file| files.is_segment(*file)) else { return UNKNOWN };
    let size = host.manager.files(host.cpu, process).stat(file).map_or(0, |stat| stat.size);
    let whole = VirtRange::with_len(addr, size.next_multiple_of(PAGE_SIZE));
    // Parts of the attachment that were unmapped, and what is mapped there now, are left alone.
    let parts: Vec<_> = {
        let mm = space.read(host.cpu);
        let own = mm.areas().filter(|area| area.file == Some(file) && area.range.intersection(whole) == area.range);
        own.map(|area| area.range).collect()
    };
    let unmapped = parts.into_iter().try_for_each(|part| space.call(host, process).munmap(part.start, part.len()));
    Outcome::Made(unmapped.map(|()| 0).map_err(|_| MmError::Invalid))
}
