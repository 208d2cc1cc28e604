//! Descriptors and what they move: copies, flags, positions, vectors, files between processes.

use units::CpuId;
use userland::ManagedMemory;

use crate::abi::{
    CLOSE, CLOSE_RANGE, DUP, DUP2, DUP3, EAGAIN, EBADF, EEXIST, EINVAL, EISDIR, EMFILE, ENOENT, ENOSPC, ENOTDIR,
    ENOTTY, EOPNOTSUPP, EPIPE, ESPIPE, EXECVE, EXIT_GROUP, FALLOCATE, FCNTL, FORK, FTRUNCATE, IOCTL, LSEEK,
    MEMFD_CREATE, O_APPEND, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_NONBLOCK, O_RDWR, O_TMPFILE, O_TRUNC, OPEN,
    PIPE, PIPE2, PREAD64, PWRITE64, READ, READV, SENDFILE, WRITE, WRITEV,
};
use crate::common::{DATA, Host, Task, machine};

/// Opens a path with flags.
fn open(host: &Host<'_>, task: &mut Task, path: &str, flags: u64) -> i64 {
    let path = host.text(task, DATA, path);
    host.call(task, OPEN, &[path, flags, 0o644])
}

/// Writes text to a descriptor.
fn write(host: &Host<'_>, task: &mut Task, fd: u64, text: &str) -> i64 {
    let at = host.text(task, DATA + 0x400, text);
    host.call(task, WRITE, &[fd, at, text.len() as u64])
}

/// Reads up to 100 bytes as text.
fn read(host: &Host<'_>, task: &mut Task, fd: u64) -> String {
    let count = host.call(task, READ, &[fd, DATA + 0x800, 100]);
    String::from_utf8(host.peek(task, DATA + 0x800, count as usize)).unwrap()
}

#[test]
fn copies_of_a_descriptor_share_position_and_lifetime() {
    let (host, mut task) = Host::boot();
    assert_eq!(open(&host, &mut task, "/tmp/f", O_RDWR | O_CREAT), 3);
    assert_eq!(write(&host, &mut task, 3, "0123456789"), 10);
    assert_eq!(host.call(&mut task, DUP, &[3]), 4);
    assert_eq!(host.call(&mut task, LSEEK, &[4, 2, 0]), 2);
    assert_eq!(host.call(&mut task, CLOSE, &[4]), 0);
    assert_eq!(read(&host, &mut task, 3), "23456789");
    assert_eq!(host.call(&mut task, DUP2, &[3, 9]), 9);
    assert_eq!(host.call(&mut task, DUP2, &[9, 9]), 9);
    assert_eq!(host.call(&mut task, DUP3, &[9, 9, 0]), EINVAL);
    assert_eq!(host.call(&mut task, DUP2, &[8, 9]), EBADF);
    assert_eq!(host.call(&mut task, CLOSE, &[3]), 0);
    assert_eq!(host.call(&mut task, LSEEK, &[9, 0, 1]), 10);
}

#[test]
fn exec_closes_what_was_opened_for_this_program_only() {
    let (host, mut task) = Host::boot();
    assert_eq!(open(&host, &mut task, "/etc/note", O_CLOEXEC), 3);
    assert_eq!(open(&host, &mut task, "/etc/note", 0), 4);
    assert_eq!((host.call(&mut task, FCNTL, &[3, 1]), host.call(&mut task, FCNTL, &[4, 1])), (1, 0));
    assert_eq!(host.call(&mut task, FCNTL, &[4, 1030, 10]), 10);
    assert_eq!(host.call(&mut task, FCNTL, &[10, 1]), 1);
    assert_eq!(host.call(&mut task, FCNTL, &[10, 2, 0]), 0);
    let path = host.text(&task, DATA, "/bin/init");
    host.leave(task, EXECVE, &[path, 0, 0]);
    let mut task = host.run();
    let open = [3, 4, 10].map(|fd| host.call(&mut task, FCNTL, &[fd, 1]));
    assert_eq!(open, [EBADF, 0, 0]);
}

#[test]
fn flags_of_open_are_obeyed() {
    let (host, mut task) = Host::boot();
    assert_eq!(open(&host, &mut task, "/tmp/f", O_RDWR | O_CREAT | O_EXCL), 3);
    assert_eq!(open(&host, &mut task, "/tmp/f", O_RDWR | O_CREAT | O_EXCL), EEXIST);
    assert_eq!(write(&host, &mut task, 3, "first"), 5);
    assert_eq!(open(&host, &mut task, "/tmp/f", O_RDWR | O_APPEND), 4);
    assert_eq!(write(&host, &mut task, 4, " last"), 5);
    assert_eq!(host.call(&mut task, LSEEK, &[3, 0, 0]), 0);
    assert_eq!(read(&host, &mut task, 3), "first last");
    assert_eq!(open(&host, &mut task, "/tmp/f", O_RDWR | O_TRUNC), 5);
    assert_eq!(host.call(&mut task, LSEEK, &[5, 0, 2]), 0);
    assert_eq!(open(&host, &mut task, "/tmp/f", O_DIRECTORY), ENOTDIR);
    assert_eq!(open(&host, &mut task, "/tmp", O_RDWR), EISDIR);
    assert_eq!(open(&host, &mut task, "/tmp/none", 0), ENOENT);
    assert_eq!(open(&host, &mut task, "/none/f", O_CREAT), ENOENT);
    assert_eq!(open(&host, &mut task, "/etc/note/f", O_CREAT), ENOTDIR);
    assert_eq!(open(&host, &mut task, "/etc/note", 0), 6);
    assert_eq!(write(&host, &mut task, 6, "x"), EBADF);
}

#[test]
fn positions_are_checked_and_kept_apart() {
    let (host, mut task) = Host::boot();
    assert_eq!(open(&host, &mut task, "/tmp/f", O_RDWR | O_CREAT), 3);
    host.text(&task, DATA + 0x400, "abc");
    assert_eq!(host.call(&mut task, PWRITE64, &[3, DATA + 0x400, 3, 5]), 3);
    assert_eq!(host.call(&mut task, LSEEK, &[3, 0, 1]), 0);
    assert_eq!(host.call(&mut task, PREAD64, &[3, DATA + 0x800, 100, 6]), 2);
    assert_eq!(host.peek(&task, DATA + 0x800, 2), b"bc");
    assert_eq!(host.call(&mut task, PREAD64, &[3, DATA + 0x800, 100, u64::MAX]), EINVAL);
    assert_eq!(host.call(&mut task, LSEEK, &[3, -1_i64 as u64, 0]), EINVAL);
    assert_eq!(host.call(&mut task, LSEEK, &[3, -2_i64 as u64, 2]), 6);
    assert_eq!(host.call(&mut task, FTRUNCATE, &[3, 6]), 0);
    assert_eq!(host.call(&mut task, READ, &[3, DATA + 0x800, 100]), 0);
    assert_eq!(host.call(&mut task, FTRUNCATE, &[3, -1_i64 as u64]), EINVAL);
    assert_eq!(host.call(&mut task, PIPE, &[DATA]), 0);
    assert_eq!(host.call(&mut task, LSEEK, &[4, 0, 0]), ESPIPE);
    assert_eq!(host.call(&mut task, PREAD64, &[4, DATA, 1, 0]), ESPIPE);
}

#[test]
fn vectors_gather_and_scatter() {
    let (host, mut task) = Host::boot();
    assert_eq!(open(&host, &mut task, "/tmp/f", O_RDWR | O_CREAT), 3);
    host.text(&task, DATA + 0x400, "hello");
    host.text(&task, DATA + 0x500, "world");
    let parts = [DATA + 0x400, 5, DATA + 0x500, 5].map(u64::to_le_bytes).concat();
    host.poke(&task, DATA + 0x600, &parts);
    assert_eq!(host.call(&mut task, WRITEV, &[3, DATA + 0x600, 2]), 10);
    assert_eq!(host.call(&mut task, LSEEK, &[3, 0, 0]), 0);
    let parts = [DATA + 0x900, 3, DATA + 0xa00, 100].map(u64::to_le_bytes).concat();
    host.poke(&task, DATA + 0x600, &parts);
    assert_eq!(host.call(&mut task, READV, &[3, DATA + 0x600, 2]), 10);
    assert_eq!(
        (host.peek(&task, DATA + 0x900, 3), host.peek(&task, DATA + 0xa00, 7)),
        (b"hel".to_vec(), b"loworld".to_vec())
    );
    assert_eq!(host.call(&mut task, READV, &[3, DATA + 0x600, 1025]), EINVAL);
    let endless = [DATA, u64::MAX].map(u64::to_le_bytes).concat();
    host.poke(&task, DATA + 0x600, &endless);
    assert_eq!(host.call(&mut task, READV, &[3, DATA + 0x600, 1]), EINVAL);
}

#[test]
fn devices_do_what_they_are_for() {
    let (host, mut task) = Host::boot();
    for (number, path) in (3..).zip(["/dev/null", "/dev/zero", "/dev/full", "/dev/urandom"]) {
        assert_eq!(open(&host, &mut task, path, O_RDWR), number);
    }
    assert_eq!((write(&host, &mut task, 3, "gone"), read(&host, &mut task, 3)), (4, String::new()));
    host.poke(&task, DATA + 0x800, &[7; 16]);
    assert_eq!(host.call(&mut task, READ, &[4, DATA + 0x800, 16]), 16);
    assert_eq!(host.peek(&task, DATA + 0x800, 16), [0; 16]);
    assert_eq!(write(&host, &mut task, 5, "x"), ENOSPC);
    assert_eq!(host.call(&mut task, READ, &[6, DATA + 0x800, 16]), 16);
    assert_ne!(host.peek(&task, DATA + 0x800, 16), [0; 16]);
    for fd in 0..7 {
        assert_eq!(host.call(&mut task, IOCTL, &[fd, 0x5401, DATA]), ENOTTY);
    }
    assert_eq!(host.call(&mut task, IOCTL, &[7, 0x5401, DATA]), EBADF);
}

#[test]
fn a_pipe_that_does_not_wait_says_so() {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, PIPE2, &[DATA, O_NONBLOCK | O_CLOEXEC]), 0);
    assert_eq!(host.call(&mut task, PIPE2, &[DATA, 1]), EINVAL);
    assert_eq!(host.call(&mut task, READ, &[3, DATA + 0x800, 4]), EAGAIN);
    let mut written = 0;
    loop {
        match host.call(&mut task, WRITE, &[4, DATA, 4096]) {
            EAGAIN => break,
            count => written += count,
        }
    }
    assert_eq!(written, 65536);
    assert_eq!(host.call(&mut task, IOCTL, &[3, 0x541b, DATA + 0x800]), 0);
    assert_eq!(host.peek(&task, DATA + 0x800, 4), 65536u32.to_le_bytes());
    assert_eq!(host.call(&mut task, CLOSE, &[3]), 0);
    // SIGPIPE is ignored first, which else would end the program.
    let ignore = [1, 0x0400_0000, 0x40_1600, 0].map(u64::to_le_bytes).concat();
    host.poke(&task, DATA, &ignore);
    assert_eq!(host.call(&mut task, 13, &[13, DATA, 0, 8]), 0);
    assert_eq!(write(&host, &mut task, 4, "x"), EPIPE);
}

#[test]
fn a_writer_waits_until_its_whole_buffer_is_through() {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, PIPE, &[DATA]), 0);
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    // A brk of 256 KiB to write from.
    let brk = host.call(&mut task, 12, &[0]) as u64;
    assert_eq!(host.call(&mut task, 12, &[brk + 0x4_0000]) as u64, brk + 0x4_0000);
    host.leave(task, WRITE, &[4, brk, 0x3_0000]);
    let mut child = host.run();
    let mut got = 0;
    let mut parent = None;
    while got < 0x3_0000 {
        match host.step(&mut child, READ, &[3, DATA + 0x800, 0x800]) {
            Ok(count) => got += count,
            Err(leaving) => {
                host.userland.put_back(host.cpu, child, leaving);
                let next = host.run();
                if next.tid() == 1 {
                    parent = Some(next);
                    child = host.run();
                } else {
                    child = next;
                }
                got += child.registers.rax as i64;
            }
        }
    }
    assert_eq!(got, 0x3_0000);
    let parent = parent.unwrap_or_else(|| host.run());
    assert_eq!((parent.tid(), parent.registers.rax), (1, 0x3_0000));
    host.leave(child, EXIT_GROUP, &[0]);
}

#[test]
fn sendfile_copies_from_a_file_and_counts_its_position() {
    let (host, mut task) = Host::boot();
    assert_eq!(open(&host, &mut task, "/etc/note", 0), 3);
    assert_eq!(host.call(&mut task, SENDFILE, &[1, 3, 0, 100]), 5);
    assert_eq!(*host.userland.machine().console.lock().unwrap(), b"hello");
    assert_eq!(host.call(&mut task, SENDFILE, &[1, 3, 0, 100]), 0);
    host.poke(&task, DATA + 0x100, &3u64.to_le_bytes());
    assert_eq!(host.call(&mut task, SENDFILE, &[1, 3, DATA + 0x100, 100]), 2);
    assert_eq!(host.peek_word(&task, DATA + 0x100), 5);
    assert_eq!(host.call(&mut task, SENDFILE, &[3, 1, 0, 1]), EBADF);
}

#[test]
fn a_memfd_is_a_file_without_a_name_in_the_tree() {
    let (host, mut task) = Host::boot();
    let name = host.text(&task, DATA, "thing");
    let files = host.userland.memory().counts().1;
    assert_eq!(host.call(&mut task, MEMFD_CREATE, &[name, 1]), 3);
    assert_eq!(host.call(&mut task, MEMFD_CREATE, &[name, 0x1000]), EINVAL);
    assert_eq!(write(&host, &mut task, 3, "bytes"), 5);
    let link = host.text(&task, DATA, "/proc/self/fd/3");
    let count = host.call(&mut task, 89, &[link, DATA + 0x800, 100]);
    assert_eq!(host.peek(&task, DATA + 0x800, count as usize), b"/memfd:thing (deleted)");
    assert_eq!(host.userland.memory().counts().1, files + 1);
    assert_eq!(host.call(&mut task, CLOSE, &[3]), 0);
    assert_eq!(host.userland.memory().counts().1, files);
}

#[test]
fn numbers_end_at_the_limit_and_ranges_close() {
    let (host, mut task) = Host::boot();
    let limit = [8u64, 4096].map(u64::to_le_bytes).concat();
    host.poke(&task, DATA + 0x100, &limit);
    assert_eq!(host.call(&mut task, 160, &[7, DATA + 0x100]), 0);
    for number in 3..8 {
        assert_eq!(host.call(&mut task, DUP, &[0]), number);
    }
    assert_eq!(host.call(&mut task, DUP, &[0]), EMFILE);
    assert_eq!(host.call(&mut task, DUP2, &[0, 8]), EBADF);
    assert_eq!(host.call(&mut task, PIPE, &[DATA]), EMFILE);
    assert_eq!(host.call(&mut task, CLOSE_RANGE, &[4, u64::MAX, 0]), 0);
    assert_eq!(host.call(&mut task, CLOSE_RANGE, &[5, 4, 0]), EINVAL);
    assert_eq!((host.call(&mut task, CLOSE, &[4]), host.call(&mut task, CLOSE, &[3])), (EBADF, 0));
}

#[test]
fn a_file_without_a_name_is_as_good_as_another_and_goes_with_its_descriptor() {
    let (host, mut task) = Host::boot();
    let files = host.userland.memory().counts().1;
    assert_eq!(open(&host, &mut task, "/dev/shm", O_TMPFILE | O_RDWR), 3);
    assert_eq!(write(&host, &mut task, 3, "kept"), 4);
    assert_eq!(host.call(&mut task, LSEEK, &[3, 0, 0]), 0);
    assert_eq!(read(&host, &mut task, 3), "kept");
    assert_eq!(host.userland.memory().counts().1, files + 1);
    assert_eq!(host.call(&mut task, CLOSE, &[3]), 0);
    assert_eq!(host.userland.memory().counts().1, files);
    assert_eq!(open(&host, &mut task, "/tmp", O_TMPFILE), EINVAL, "nothing could ever be in it");
    assert_eq!(open(&host, &mut task, "/tmp", (O_TMPFILE & !O_DIRECTORY) | O_RDWR), EINVAL);
    assert_eq!(open(&host, &mut task, "/etc/note", O_TMPFILE | O_RDWR), ENOTDIR);
    assert_eq!(open(&host, &mut task, "/proc", O_TMPFILE | O_RDWR), EOPNOTSUPP);
    assert_eq!(open(&host, &mut task, "/none", O_TMPFILE | O_RDWR), ENOENT);
}

#[test]
fn files_in_dev_shm_get_their_pages_when_asked_and_others_have_no_such_call() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    for (path, flags, allocated) in [
        ("/dev/shm", O_TMPFILE | O_RDWR, 0),
        ("/dev/shm/name", O_CREAT | O_RDWR, 0),
        ("/tmp", O_TMPFILE | O_RDWR, EOPNOTSUPP),
        ("/tmp/name", O_CREAT | O_RDWR, EOPNOTSUPP),
    ] {
        let at = host.text(&task, DATA, path);
        let fd = host.call(&mut task, OPEN, &[at, flags, 0o600]) as u64;
        assert_eq!(host.call(&mut task, FALLOCATE, &[fd, 0, 0, 0x3000]), allocated, "{path}");
        let size = if allocated == 0 { 0x3000 } else { 0 };
        assert_eq!(host.call(&mut task, LSEEK, &[fd, 0, 2]), size, "{path}");
    }
}
