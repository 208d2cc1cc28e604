//! Pairs of sockets: two pipes, one each way, with bytes in a row or messages.
//!
//! There is no network and no name for a socket, so socketpair makes them all, and only of the family AF_UNIX. Linux 6.12: net/socket.c, net/unix/af_unix.c.

use super::open_files::{Source, Stream};
use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::files::{OpenFlags, PIPE_CAPACITY, Pipe, PipeKey, Target};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::slots::zeros;
use crate::user_memory::UserBuffer;
use crate::wait::WaitFor;

const AF_UNIX: u64 = 1;
const SOCK_STREAM: u64 = 1;
const SOCK_SEQPACKET: u64 = 5;
/// Types have these bits of their argument, flags the others.
const SOCK_TYPE_MASK: u64 = 15;
const SOCK_MAX: u64 = 11;
const MSG_DONTWAIT: u64 = 0x40;
const MSG_NOSIGNAL: u64 = 0x4000;

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn socket_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (44, "sendto", |cx, [fd, addr, bytes, flags, name, name_bytes]| cx.sendto(fd, UserBuffer { addr, bytes }, flags, (name, name_bytes))),
            (45, "recvfrom", |cx, [fd, addr, bytes, flags, name, name_bytes]| cx.recvfrom(fd, UserBuffer { addr, bytes }, flags, (name, name_bytes))),
            (48, "shutdown", |cx, [fd, how, ..]| cx.shutdown(fd, how)),
            (53, "socketpair", |cx, [family, kind, protocol, ends, ..]| cx.socketpair(family, kind, protocol, ends)),
        ])
    }

    fn socketpair(&mut self, family: u64, kind: u64, protocol: u64, to: u64) -> Outcome {
        let flags = OpenFlags::from_bits_retain((kind & !SOCK_TYPE_MASK) as u32);
        let kind = kind & SOCK_TYPE_MASK;
        if !(OpenFlags::NONBLOCK | OpenFlags::CLOEXEC).contains(flags) {
            return Err(Errno::EINVAL.into());
        }
        match (family, kind, protocol) {
            (_, SOCK_MAX.., _) => return Err(Errno::EINVAL.into()),
            (AF_UNIX, SOCK_STREAM | SOCK_SEQPACKET, 0 | AF_UNIX) => {}
            (AF_UNIX, _, 0 | AF_UNIX) => return Err(Errno::ESOCKTNOSUPPORT.into()),
            (AF_UNIX, ..) => return Err(Errno::EPROTONOSUPPORT.into()),
            _ => return Err(Errno::EAFNOSUPPORT.into()),
        }
        let way = || if kind == SOCK_SEQPACKET { Pipe::of_messages() } else { Pipe::default() };
        let [there, back] = self.insert_pair([way(), way()])?;
        let ends = [Target::Socket(back, there), Target::Socket(there, back)];
        self.open_ends(&[there, back], ends.map(|end| (end, flags | OpenFlags::RDWR)), to)
    }

    fn insert_pair(&self, [one, other]: [Pipe; 2]) -> Result<[PipeKey; 2], Errno> {
        let mut world = self.world();
        let there = world.files.pipes.insert(one)?;
        let back = world.files.pipes.insert(other).inspect_err(|_| drop(world.files.pipes.remove(there)))?;
        Ok([there, back])
    }

    /// Returns a socket with what it reads from and what it writes to.
    fn socket(&mut self, fd: u64) -> Result<(Source, PipeKey, PipeKey), Errno> {
        let source = self.source(fd)?;
        match source.stream {
            Stream::Socket(from, to) => Ok((source, from, to)),
            _ => Err(Errno::ENOTSOCK),
        }
    }

    fn shutdown(&mut self, fd: u64, how: u64) -> Outcome {
        let (_, from, to) = self.socket(fd)?;
        let shut: &[PipeKey] = match how as u32 {
            0 => &[from],
            1 => &[to],
            2 => &[from, to],
            _ => return Err(Errno::EINVAL.into()),
        };
        let mut world = self.world();
        for &pipe in shut {
            if let Some(pipe) = world.files.pipes.get_mut(pipe) {
                pipe.shut();
            }
            world.wake_files(WaitFor::Pipe(pipe));
        }
        Ok(0)
    }

    /// Writes with flags. A name is refused by bytes in a row, and passed over by messages, as in Linux.
    fn sendto(&mut self, fd: u64, part: UserBuffer, flags: u64, (name, name_bytes): (u64, u64)) -> Outcome {
        let (source, _, to) = self.socket(fd)?;
        if flags & !(MSG_DONTWAIT | MSG_NOSIGNAL) != 0 {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let has_messages = self.pipe_of_messages(source.stream).is_some();
        if name != 0 && name_bytes != 0 && !has_messages {
            return Err(Errno::EISCONN.into());
        }
        let is_broken = self.world().files.pipes.get(to).is_none_or(Pipe::is_broken);
        if is_broken && flags & MSG_NOSIGNAL != 0 {
            return Err(Errno::EPIPE.into());
        }
        self.write_to(with_flags(source, flags), &[part], None)
    }

    /// Reads with flags. The other end has no name.
    fn recvfrom(&mut self, fd: u64, part: UserBuffer, flags: u64, (name, name_bytes): (u64, u64)) -> Outcome {
        let (source, ..) = self.socket(fd)?;
        if flags & !MSG_DONTWAIT != 0 {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let count = self.read_from(with_flags(source, flags), &[part], None)?;
        if name != 0 {
            self.write_u32(name_bytes, 0)?;
        }
        Ok(count)
    }

    /// Returns what a socket of messages reads from.
    pub(super) fn pipe_of_messages(&self, stream: Stream) -> Option<PipeKey> {
        let Stream::Socket(from, _) = stream else { return None };
        self.world().files.pipes.get(from).is_some_and(Pipe::has_messages).then_some(from)
    }

    /// Reads one message into the parts; what they do not hold is lost.
    pub(super) fn read_message(&self, pipe: PipeKey, flags: OpenFlags, parts: &[UserBuffer]) -> Outcome {
        let room: u64 = parts.iter().map(|part| part.bytes).sum();
        let mut message = zeros(room.min(PIPE_CAPACITY) as usize)?;
        let count = self.read_pipe(pipe, flags, &mut message)?;
        let mut rest = message.get(..count).unwrap_or_default();
        for part in parts {
            let (here, behind) = rest.split_at(rest.len().min(part.bytes as usize));
            self.write(part.addr, here)?;
            rest = behind;
        }
        Ok(count as u64)
    }

    /// Writes the parts as one message.
    pub(super) fn write_message(&self, pipe: PipeKey, flags: OpenFlags, parts: &[UserBuffer]) -> Outcome {
        let length: u64 = parts.iter().map(|part| part.bytes).sum();
        if length > PIPE_CAPACITY {
            return Err(Errno::EMSGSIZE.into());
        }
        let mut message = zeros(length as usize)?;
        let mut rest = message.as_mut_slice();
        for part in parts {
            let (here, behind) = rest.split_at_mut(part.bytes as usize);
            self.read(part.addr, here)?;
            rest = behind;
        }
        Ok(self.write_pipe(pipe, flags, &message)? as u64)
    }
}

/// Returns a socket as a call with these flags takes it.
fn with_flags(source: Source, flags: u64) -> Source {
    let mut open = source.flags;
    open.set(OpenFlags::NONBLOCK, open.contains(OpenFlags::NONBLOCK) || flags & MSG_DONTWAIT != 0);
    Source { flags: open, ..source }
}
