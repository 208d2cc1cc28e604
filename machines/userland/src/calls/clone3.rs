//! The arguments of clone3. Linux 6.12: kernel/fork.c (`copy_clone_args_from_user`, `clone3_args_valid`).

use super::Context;
use super::processes::{CloneFlags, NewTask};
use crate::errno::Errno;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::signals::MAX_SIGNAL;
use crate::slots::zeros;
use crate::user_memory::{CHUNK, PROGRAM_END};

/// Bytes of the structure in its first version, and in the one with a control group.
const FIRST_VERSION: u64 = 64;
const GROUP_VERSION: u64 = 88;
const KNOWN_WORDS: usize = 11;
/// Most levels of name spaces of numbers; there is one here.
const MAX_LEVELS: u64 = 32;
const SIGNAL: u64 = 0xff;
const INTO_GROUP: u64 = 0x2_0000_0000;

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Takes the arguments of clone from a structure that may be shorter or longer than the one that is known here.
    ///
    /// # Errors
    /// E2BIG, EINVAL, EFAULT as clone3(2) says; EBADF for a control group, of which there are none.
    pub(super) fn clone3_arguments(&self, from: u64, bytes: u64) -> Result<NewTask, Errno> {
        if bytes > CHUNK as u64 {
            return Err(Errno::E2BIG);
        }
        if bytes < FIRST_VERSION {
            return Err(Errno::EINVAL);
        }
        let mut raw = zeros(bytes.next_multiple_of(8).max(8 * KNOWN_WORDS as u64) as usize)?;
        self.read(from, raw.get_mut(..bytes as usize).unwrap_or_default())?;
        let mut words = raw.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
        let mut next = || words.next().unwrap_or(0);
        let [flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_bytes, tls, tids, nr_tids, group] =
            core::array::from_fn::<u64, KNOWN_WORDS, _>(|_| next());
        if words.any(|word| word != 0) {
            return Err(Errno::E2BIG);
        }
        let joins_group = flags & INTO_GROUP != 0;
        if nr_tids > MAX_LEVELS
            || (tids == 0) != (nr_tids == 0)
            || exit_signal > MAX_SIGNAL.into()
            || joins_group && (group > i32::MAX as u64 || bytes < GROUP_VERSION)
        {
            return Err(Errno::EINVAL);
        }
        let mut tid = [0; 4];
        for index in 0..nr_tids {
            self.read(tids.wrapping_add(4 * index), &mut tid)?;
        }
        let flags = CloneFlags::from_bits(flags & !INTO_GROUP).filter(|flags| flags.bits() & SIGNAL == 0);
        let flags = flags.ok_or(Errno::EINVAL)?;
        let is_part = flags.intersects(CloneFlags::THREAD | CloneFlags::PARENT);
        let stack_end = stack.checked_add(stack_bytes).filter(|&end| end <= PROGRAM_END);
        if flags.contains(CloneFlags::DETACHED)
            || flags.contains(CloneFlags::CLEAR_SIGHAND | CloneFlags::SIGHAND)
            || is_part && exit_signal != 0
            || (stack == 0) != (stack_bytes == 0)
            || nr_tids > 1
        {
            return Err(Errno::EINVAL);
        }
        let stack = stack_end.ok_or(Errno::EINVAL)?;
        if joins_group {
            return Err(Errno::EBADF);
        }
        let chosen = (nr_tids == 1).then_some(u32::from_le_bytes(tid));
        Ok(NewTask { flags, exit_signal: exit_signal as u8, stack, parent_tid, child_tid, tls, pidfd, chosen })
    }
}
