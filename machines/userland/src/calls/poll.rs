//! Waiting for several files: poll, ppoll, select, pselect6. Linux 6.12: fs/select.c.

use alloc::vec::Vec;

use super::open_files::Stream;
use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::files::Pipe;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::process::Life;
use crate::schedule::Stop;
use crate::slots::{push, zeros};
use crate::wait::{Wait, WaitFor};

const POLLIN: u16 = 1;
const POLLOUT: u16 = 4;
const POLLERR: u16 = 8;
const POLLHUP: u16 = 16;
const POLLNVAL: u16 = 32;
const POLLRDHUP: u16 = 0x2000;
/// Most descriptors of a select (FD_SETSIZE).
const MAX_SELECT: u64 = 1024;

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn poll_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (7, "poll", |cx, [list, count, timeout, ..]| {
                    let timeout = u32::try_from(timeout as i32).ok().map(|millis| u64::from(millis) * 1_000_000);
                    cx.poll(list, count, timeout)
                }),
            (23, "select", |cx, [count, read, write, except, timeout, _]| {
                    let timeout = match timeout {
                        0 => None,
                        _ => Some(cx.read_timeval(timeout)?),
                    };
                    cx.select(count, [read, write, except], timeout)
                }),
            (270, "pselect6", |cx, [count, read, write, except, timeout, _]| {
                    let timeout = cx.read_optional_timespec(timeout)?;
                    cx.select(count, [read, write, except], timeout)
                }),
            (271, "ppoll", |cx, [list, count, timeout, ..]| {
                    let timeout = cx.read_optional_timespec(timeout)?;
                    cx.poll(list, count, timeout)
                }),
        ])
    }

    /// Returns what a descriptor is ready for; an unknown one is POLLNVAL.
    fn readiness(&self, fd: u64) -> u16 {
        let world = self.world();
        let process = world.processes.get(self.thread.process);
        let descriptor = process.and_then(|process| process.descriptors.get(fd).ok());
        let source = descriptor.and_then(|descriptor| world.files.source(descriptor.file).ok());
        let Some(source) = source else { return POLLNVAL };
        match source.stream {
            Stream::Reader(pipe) => world.files.pipes.get(pipe).map_or(POLLERR, |pipe| {
                let ended = if pipe.nr_writers == 0 { POLLHUP } else { 0 };
                if pipe.is_empty() { ended } else { ended | POLLIN }
            }),
            Stream::Writer(pipe) => world.files.pipes.get(pipe).map_or(POLLERR, |pipe| {
                let broken = if pipe.nr_readers == 0 { POLLERR } else { 0 };
                if pipe.has_room() { broken | POLLOUT } else { broken }
            }),
            Stream::Socket(from, to) => {
                let sides = (world.files.pipes.get(from), world.files.pipes.get(to));
                let (Some(from), Some(to)) = sides else { return POLLERR };
                socket_readiness(from, to)
            }
            Stream::Thread(serial, first_of) => match world.thread_by_serial(serial) {
                Some(_) => 0,
                // The first is known as long as its process is.
                None if world.by_serial(first_of).is_some() => POLLIN,
                None => POLLIN | POLLHUP,
            },
            Stream::Process(serial) => {
                match world.by_serial(serial).and_then(|key| world.processes.get(key)).map(|process| process.life) {
                    Some(Life::Runs | Life::Ends(_)) => 0,
                    Some(Life::Zombie(_)) => POLLIN,
                    None => POLLIN | POLLHUP,
                }
            }
            _ => POLLIN | POLLOUT,
        }
    }

    /// Begins the wait of a call that found nothing ready; at the end of its time there is none.
    ///
    /// `events` is the number from before the look.
    fn wait_for_files(&mut self, events: u64, timeout: Option<u64>) -> Option<Wait> {
        let now = self.userland.machine().now_ns();
        let deadline = self.thread.progress.deadline.or_else(|| timeout.map(|timeout| now.saturating_add(timeout)));
        self.thread.progress.deadline = deadline;
        let is_over = deadline.is_some_and(|deadline| deadline <= now);
        (!is_over).then_some(Wait { what: WaitFor::Files, bits: u32::MAX, deadline, events })
    }

    fn poll(&mut self, list: u64, count: u64, timeout: Option<u64>) -> Outcome {
        let limit = self.with_process(|process| process.other_limits.descriptors[0])?;
        if count > limit {
            return Err(Errno::EINVAL.into());
        }
        let events = self.world().events;
        let mut nr_ready = 0;
        for index in 0..count {
            let at = list.wrapping_add(8 * index);
            let [word] = self.read_words(at)?;
            let (fd, wanted) = (word as u32, (word >> 32) as u16);
            let always = POLLERR | POLLHUP | POLLNVAL;
            let ready = if (fd as i32) < 0 { 0 } else { self.readiness(fd.into()) & (wanted | always) };
            self.write(at.wrapping_add(6), &ready.to_le_bytes())?;
            nr_ready += u64::from(ready != 0);
        }
        if nr_ready > 0 {
            return Ok(nr_ready);
        }
        self.wait_for_files(events, timeout).map_or(Ok(0), |wait| Err(Stop::Wait(wait)))
    }

    fn select(&mut self, count: u64, sets: [u64; 3], timeout: Option<u64>) -> Outcome {
        if count > MAX_SELECT {
            return Err(Errno::EINVAL.into());
        }
        let events = self.world().events;
        let bytes = count.div_ceil(64) as usize * 8;
        let mut results: Vec<Vec<u8>> = Vec::new();
        let mut nr_ready = 0;
        for (set, bits) in sets.into_iter().zip([POLLIN | POLLHUP | POLLERR, POLLOUT | POLLERR, 0]) {
            let (mut wanted, mut result) = (zeros(bytes)?, zeros(bytes)?);
            if set != 0 {
                self.read(set, &mut wanted)?;
            }
            for fd in 0..count {
                let (at, bit) = ((fd / 8) as usize, 1 << (fd % 8));
                if wanted.get(at).is_none_or(|byte| byte & bit == 0) {
                    continue;
                }
                let ready = self.readiness(fd);
                if ready == POLLNVAL {
                    return Err(Errno::EBADF.into());
                }
                if ready & bits != 0
                    && let Some(byte) = result.get_mut(at)
                {
                    *byte |= bit;
                    nr_ready += 1;
                }
            }
            push(&mut results, result)?;
        }
        if nr_ready == 0
            && let Some(wait) = self.wait_for_files(events, timeout)
        {
            return Err(Stop::Wait(wait));
        }
        for (set, result) in sets.into_iter().zip(&results) {
            if set != 0 {
                self.write(set, result)?;
            }
        }
        Ok(nr_ready)
    }
}

/// Returns what one of a pair of sockets is ready for: the end of what it reads is something to read (Linux: `unix_poll`).
fn socket_readiness(from: &Pipe, to: &Pipe) -> u16 {
    let mut ready = 0;
    if !from.is_empty() {
        ready |= POLLIN;
    }
    if from.has_ended() {
        ready |= POLLIN | POLLRDHUP;
    }
    if from.has_ended() && to.is_broken() {
        ready |= POLLHUP;
    }
    if from.was_reset() {
        ready |= POLLERR;
    }
    if to.has_room() { ready | POLLOUT } else { ready }
}
