//! Names that processes give to anonymous areas: each is kept once, with the number of areas that have it.
//!
//! Locking: a chain's lock (`rank::AREA_NAMES`), under which nothing is allocated or freed. Linux 6.12: `struct anon_vma_name`, which areas
//! point to and compare by its text.

use core::fmt;

use address_space::{AreaName, MmError, Process};
use object_allocator::{CacheFlags, KmemCache, ObjectAllocator, SlabBox};
use page_allocator::Hooks;
use platform::Platform;
use sync::{Cpu, SpinLock, rank};
use units::{Gfp, VirtAddr};

use super::MemoryManager;

const NR_CHAINS: usize = 128;
/// Bytes of the longest name (ANON_VMA_NAME_MAX_LEN, without the 0 behind it).
const ROOM: usize = 79;

#[derive(Debug)]
struct Name<'k> {
    text: [u8; ROOM],
    len: u8,
    /// Unique in its chain for good.
    serial: u64,
    users: u64,
    next: Option<SlabBox<'k, Name<'k>>>,
}

impl Name<'_> {
    fn bytes(&self) -> &[u8] {
        self.text.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// Names of like hashes.
#[derive(Debug)]
struct Chain<'k> {
    first: Option<SlabBox<'k, Name<'k>>>,
    last_serial: u64,
}

impl<'k> Chain<'k> {
    /// Returns the link to the first name that is meant, or the last link.
    fn link(&mut self, is_meant: impl Fn(&Name<'k>) -> bool) -> Option<&mut Option<SlabBox<'k, Name<'k>>>> {
        let mut at = &mut self.first;
        while at.as_ref().is_some_and(|name| !is_meant(name)) {
            at = &mut at.as_mut()?.next;
        }
        Some(at)
    }

    fn find(&mut self, is_meant: impl Fn(&Name<'k>) -> bool) -> Option<&mut Name<'k>> {
        self.link(is_meant)?.as_deref_mut()
    }

    /// Counts another user of a text that is there; returns its serial number.
    fn take(&mut self, text: &[u8]) -> Option<u64> {
        let name = self.find(|name| name.bytes() == text)?;
        name.users = name.users.checked_add(1)?;
        Some(name.serial)
    }

    fn push(&mut self, mut name: SlabBox<'k, Name<'k>>) -> u64 {
        self.last_serial += 1;
        name.serial = self.last_serial;
        name.next = self.first.take();
        self.first = Some(name);
        self.last_serial
    }

    /// Counts one user less; returns the name if that was the last.
    fn put(&mut self, serial: u64) -> Option<SlabBox<'k, Name<'k>>> {
        let at = self.link(|name| name.serial == serial)?;
        let name = at.as_mut()?;
        name.users = name.users.saturating_sub(1);
        if name.users > 0 {
            return None;
        }
        let mut last = at.take()?;
        *at = last.next.take();
        Some(last)
    }
}

/// The names of a machine's areas.
#[derive(Debug)]
pub(super) struct NameTable<'k, P: Platform, H: Hooks> {
    chains: [SpinLock<{ rank::AREA_NAMES }, Chain<'k>>; NR_CHAINS],
    cache: KmemCache<'k, Name<'k>, P, H>,
}

impl<'k, P: Platform, H: Hooks + Sync> NameTable<'k, P, H> {
    pub(super) fn new(objects: &'k ObjectAllocator<P, H>, cpu: &Cpu) -> Result<Self, MmError> {
        Ok(Self {
            chains: [const { SpinLock::new(Chain { first: None, last_serial: 0 }) }; NR_CHAINS],
            cache: KmemCache::create(objects, cpu, "anon_vma_name", CacheFlags::empty())?,
        })
    }

    /// Returns the chain and the serial number of a name's number.
    fn place(&self, name: AreaName) -> Option<(&SpinLock<{ rank::AREA_NAMES }, Chain<'k>>, u64)> {
        let number = name.raw();
        let chain = self.chains.get((number % NR_CHAINS as u64) as usize)?;
        Some((chain, number / NR_CHAINS as u64))
    }

    /// Counts a user of a name by its text.
    ///
    /// # Errors
    /// [`MmError::Invalid`], [`MmError::NoMemory`].
    fn intern(&self, cpu: &Cpu, text: &[u8]) -> Result<AreaName, MmError> {
        AreaName::check(text)?;
        let index = hash(text) % NR_CHAINS as u64;
        let chain = self.chains.get(index as usize).ok_or(MmError::Invalid)?;
        let number = |serial: u64| AreaName::from_raw(serial * NR_CHAINS as u64 + index).ok_or(MmError::Invalid);
        if let Some(serial) = chain.lock(cpu).take(text) {
            return number(serial);
        }
        let mut fresh = Name { text: [0; ROOM], len: text.len() as u8, serial: 0, users: 1, next: None };
        fresh.text.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
        let fresh = self.cache.alloc(cpu, Gfp::KERNEL, fresh)?;
        let mut locked = chain.lock(cpu);
        // Another CPU may have been faster.
        match locked.take(text) {
            None => number(locked.push(fresh)),
            Some(serial) => {
                drop(locked);
                self.cache.free(cpu, fresh);
                number(serial)
            }
        }
    }

    /// Counts another user of a name.
    pub(super) fn get(&self, cpu: &Cpu, name: AreaName) {
        let Some((chain, serial)) = self.place(name) else { return };
        if let Some(name) = chain.lock(cpu).find(|name| name.serial == serial) {
            name.users = name.users.saturating_add(1);
        }
    }

    /// Counts one user less; with the last the name goes.
    pub(super) fn put(&self, cpu: &Cpu, name: AreaName) {
        let Some((chain, serial)) = self.place(name) else { return };
        let last = chain.lock(cpu).put(serial);
        if let Some(last) = last {
            self.cache.free(cpu, last);
        }
    }

    /// Shows a name; `None` of a number that is no name.
    pub(super) fn show(
        &self,
        cpu: &Cpu,
        name: AreaName,
        show: &mut dyn FnMut(&str) -> fmt::Result,
    ) -> Option<fmt::Result> {
        let (chain, serial) = self.place(name)?;
        let mut chain = chain.lock(cpu);
        let name = chain.find(|name| name.serial == serial)?;
        Some(show(core::str::from_utf8(name.bytes()).ok()?))
    }
}

/// FNV-1a.
fn hash(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

impl<'k, P: Platform, H: Hooks + Sync> MemoryManager<'k, P, H> {
    /// Names the anonymous areas in the pages of `len` bytes from `start`, or takes their names (PR_SET_VMA_ANON_NAME).
    ///
    /// # Errors
    /// [`MmError::Invalid`] for bytes that are no name; as [`address_space::Call::set_anon_name`].
    pub fn name_areas(
        &self,
        cpu: &Cpu,
        mm: &address_space::Mm<'k>,
        process: &Process,
        (start, len): (VirtAddr, u64),
        text: Option<&[u8]>,
    ) -> Result<(), MmError> {
        let name = text.map(|text| self.names.intern(cpu, text)).transpose()?;
        let named = self.call(cpu, mm, process).set_anon_name(start, len, name);
        if let Some(name) = name {
            self.names.put(cpu, name);
        }
        named
    }
}
