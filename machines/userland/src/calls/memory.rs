//! Calls on the address space: from a program's numbers to the values that `address_space` takes.
//!
//! Arguments are checked there, in Linux's order; here are only the checks that need descriptors. Linux 6.12: mm/mmap.c, mm/mincore.c, mm/memfd.c.

use address_space::{
    Advice, FileId, FileTraits, LockAllFlags, LockWhen, MapFlags, MapRequest, PAGE_SIZE, Prot, RemapFlags,
    RemapRequest, SyncFlags,
};
use units::VirtAddr;

use super::open_files::Stream;
use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::files::{Device, OpenFlags};
use crate::machine::Machine;
use crate::memory::{Memory, SpaceCall};
use crate::user_memory::CHUNK;

/// What mmap uses of a descriptor.
struct Mapped {
    /// None of /dev/zero, which maps as no file does.
    contents: Option<FileId>,
    flags: OpenFlags,
}

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn memory_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (9, "mmap", |cx, arguments| cx.mmap(arguments)),
            (10, "mprotect", |cx, [start, len, prot, ..]| {
                    cx.space(&SpaceCall::Mprotect { start: at(start), len, prot: prot_of(prot) })
                }),
            (11, "munmap", |cx, [start, len, ..]| cx.space(&SpaceCall::Munmap { start: at(start), len })),
            (12, "brk", |cx, [addr, ..]| cx.space(&SpaceCall::Brk(at(addr)))),
            (25, "mremap", |cx, [addr, old_len, new_len, flags, new_addr, _]| {
                    let flags = RemapFlags::from_bits_retain(checked_u32(flags)?);
                    let (addr, new_addr) = (at(addr), at(new_addr));
                    cx.space(&SpaceCall::Mremap(RemapRequest { addr, old_len, new_len, flags, new_addr }))
                }),
            (26, "msync", |cx, [start, len, flags, ..]| {
                    let flags = SyncFlags::from_bits_retain(flags as u32);
                    cx.space(&SpaceCall::Msync { start: at(start), len, flags })
                }),
            (27, "mincore", |cx, [start, len, resident, ..]| cx.mincore(start, len, resident)),
            (28, "madvise", |cx, [start, len, advice, ..]| {
                    let advice = Advice::try_new(advice as u32)?;
                    cx.space(&SpaceCall::Madvise { start: at(start), len, advice })
                }),
            (149, "mlock", |cx, [start, len, ..]| { cx.space(&SpaceCall::Mlock { start: at(start), len, when: LockWhen::Now }) }),
            (150, "munlock", |cx, [start, len, ..]| cx.space(&SpaceCall::Munlock { start: at(start), len })),
            (151, "mlockall", |cx, [flags, ..]| cx.space(&SpaceCall::Mlockall(LockAllFlags::from_bits_retain(flags as u32)))),
            (152, "munlockall", |cx, _| cx.space(&SpaceCall::Munlockall)),
            (216, "remap_file_pages", |cx, [start, len, prot, pgoff, flags, _]| {
                    let flags = MapFlags::from_bits_retain(flags as u32);
                    cx.space(&SpaceCall::RemapFilePages { start: at(start), len, prot: prot_of(prot), pgoff, flags })
                }),
            (329, "pkey_mprotect", |cx, [start, len, prot, key, ..]| cx.pkey_mprotect(start, len, prot, key)),
            // The processor has no keys, or none that the kernel has turned on.
            (330, "pkey_alloc", |_, _| Err(Errno::EINVAL.into())),
            (331, "pkey_free", |_, _| Err(Errno::EINVAL.into())),
            (325, "mlock2", |cx, [start, len, flags, ..]| cx.mlock2(start, len, flags)),
            (462, "mseal", |cx, [start, len, flags, ..]| { cx.space(&SpaceCall::Mseal { start: at(start), len, flags }) }),
        ])
    }

    /// Makes a call on the caller's own address space.
    pub(super) fn space(&mut self, call: &SpaceCall) -> Outcome {
        Ok(self.userland.memory().call(self.cpu, &self.thread.mm, &self.thread.caller, call)?)
    }

    fn mmap(&mut self, [addr, len, prot, flags, fd, offset]: [u64; 6]) -> Outcome {
        if !offset.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL.into());
        }
        let mut flags = MapFlags::from_bits_retain(flags as u32);
        let prot = prot_of(prot);
        let (mut file, mut opened) = (None, FileTraits::all());
        if !flags.contains(MapFlags::ANONYMOUS) {
            let mapped = self.mapped(fd)?;
            opened.set(FileTraits::READ, mapped.flags.reads());
            opened.set(FileTraits::WRITE, mapped.flags.writes());
            match mapped.contents {
                Some(contents) => file = Some(contents),
                None => flags |= MapFlags::ANONYMOUS,
            }
        }
        self.space(&SpaceCall::Mmap(MapRequest { addr: at(addr), len, prot, flags, file, offset }, opened))
    }

    fn mapped(&mut self, fd: u64) -> Result<Mapped, Errno> {
        let source = self.source(fd)?;
        let contents = match source.stream {
            Stream::Contents(contents) => Some(contents),
            Stream::Device(Device::Zero) => None,
            _ => return Err(Errno::ENODEV),
        };
        Ok(Mapped { contents, flags: source.flags })
    }

    /// Without keys only the key -1, which says none, can be set (Linux: `do_mprotect_pkey`).
    fn pkey_mprotect(&mut self, start: u64, len: u64, prot: u64, key: u64) -> Outcome {
        if key as i32 == -1 {
            return self.space(&SpaceCall::Mprotect { start: at(start), len, prot: prot_of(prot) });
        }
        if start.is_multiple_of(PAGE_SIZE) && len == 0 { Ok(0) } else { Err(Errno::EINVAL.into()) }
    }

    fn mlock2(&mut self, start: u64, len: u64, flags: u64) -> Outcome {
        const ON_FAULT: u64 = 1;
        let when = match flags {
            0 => LockWhen::Now,
            ON_FAULT => LockWhen::OnFault,
            _ => return Err(Errno::EINVAL.into()),
        };
        self.space(&SpaceCall::Mlock { start: at(start), len, when })
    }

    /// Tells of a chunk of pages at a time, as Linux does with a page of its own.
    fn mincore(&mut self, start: u64, len: u64, resident: u64) -> Outcome {
        if !start.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL.into());
        }
        let end = start.checked_add(len).ok_or(Errno::ENOMEM)?;
        let nr_pages = end.div_ceil(PAGE_SIZE) - start / PAGE_SIZE;
        let mut chunk = [0; CHUNK];
        let mut done = 0;
        while done < nr_pages {
            let count = (nr_pages - done).min(CHUNK as u64);
            let told = chunk.get_mut(..count as usize).unwrap_or_default();
            let from = at(start + done * PAGE_SIZE);
            self.userland.memory().mincore(self.cpu, &self.thread.mm, &self.thread.caller, from, told)?;
            self.write(resident.wrapping_add(done), told)?;
            done += count;
        }
        Ok(0)
    }
}

const fn at(addr: u64) -> VirtAddr {
    VirtAddr::new(addr)
}

/// Takes permissions, of which the program passes an unsigned long.
const fn prot_of(raw: u64) -> Prot {
    Prot::from_bits_retain(raw as u32)
}

/// Takes flags whose upper half has to be zero.
fn checked_u32(raw: u64) -> Result<u32, Errno> {
    u32::try_from(raw).map_err(|_| Errno::EINVAL)
}
