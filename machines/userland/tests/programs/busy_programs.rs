//! Programs that run are not written to, and what is being written does not run (ETXTBSY).

use units::CpuId;
use userland::{ManagedMemory, Memory};

use crate::abi::{
    CHMOD, CLONE, CLOSE, EEXIST, EFAULT, ENOTDIR, ETXTBSY, EXECVE, EXECVEAT, EXIT, EXIT_GROUP, FORK, MEMFD_CREATE,
    MMAP, MUNMAP, O_PATH, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, OPEN, RENAME, SCHED_YIELD, TRUNCATE, UNLINK, WAITID,
};
use crate::common::{DATA, Host, Task, machine};

fn open<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>, path: &str, flags: u64) -> i64 {
    let path = host.text(task, DATA, path);
    host.call(task, OPEN, &[path, flags, 0o644])
}

/// Executes a path; `Err` says that the program was replaced.
fn execute<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>, path: &str) -> Result<i64, userland::Leaving> {
    let path = host.text(task, DATA, path);
    host.step(task, EXECVE, &[path, 0, 0])
}

#[test]
fn a_running_program_is_not_opened_for_writing_or_cut() {
    let (host, mut task) = Host::boot();
    for (flags, wanted) in [
        (O_WRONLY, ETXTBSY),
        (O_RDWR, ETXTBSY),
        (O_WRONLY | O_TRUNC, ETXTBSY),
        (O_RDONLY | O_TRUNC, ETXTBSY),
        (O_WRONLY | 0o300, EEXIST),
        (O_WRONLY | 0o20_0000, ENOTDIR),
        (O_RDONLY, 3),
        (O_WRONLY | O_TRUNC | O_PATH, 4),
        // Neither reads nor writes.
        (3, 5),
    ] {
        assert_eq!(open(&host, &mut task, "/proc/self/exe", flags), wanted, "{flags:o}");
        assert_eq!(open(&host, &mut task, "/bin/init", flags).signum(), wanted.signum(), "{flags:o}");
        if wanted > 0 {
            assert_eq!(host.call(&mut task, CLOSE, &[wanted as u64 + 1]), 0);
        }
    }
    let path = host.text(&task, DATA, "/bin/init");
    assert_eq!(host.call(&mut task, TRUNCATE, &[path, 0]), ETXTBSY);
    assert_eq!(host.call(&mut task, CHMOD, &[path, 0o700]), 0);
    let other = host.text(&task, DATA + 64, "/tmp/init");
    assert_eq!(host.call(&mut task, RENAME, &[path, other]), 0);
    assert_eq!(open(&host, &mut task, "/tmp/init", O_WRONLY), ETXTBSY, "whatever its name");
    let other = host.text(&task, DATA + 64, "/tmp/init");
    assert_eq!(host.call(&mut task, UNLINK, &[other]), 0);
    assert!(open(&host, &mut task, "/tmp/init", O_WRONLY | 0o100) > 0, "another file of that name");
}

#[test]
fn a_file_that_is_open_for_writing_is_not_executed() {
    let (host, mut task) = Host::boot();
    let fd = open(&host, &mut task, "/bin/script", O_RDWR) as u64;
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    assert!(matches!(execute(&host, &mut task, "/bin/script"), Ok(ETXTBSY)));
    // Checked before the arguments are looked at.
    let path = host.text(&task, DATA, "/bin/script");
    assert_eq!(host.call(&mut task, EXECVE, &[path, 8, 0]), ETXTBSY);
    assert_eq!(host.call(&mut task, CLOSE, &[fd]), 0);
    assert!(matches!(execute(&host, &mut task, "/bin/script"), Ok(ETXTBSY)), "the child has it open too");
    host.leave(task, WAITID, &[0, 0, 0, 4, 0]);
    host.leave(host.run(), EXIT_GROUP, &[0]);
    let mut task = host.run();
    let path = host.text(&task, DATA, "/bin/script");
    assert_eq!(host.call(&mut task, EXECVE, &[path, 8, 0]), EFAULT);
    let fd = open(&host, &mut task, "/bin/script", O_WRONLY);
    assert!(fd > 0, "an execution that failed holds nothing");
    assert_eq!(host.call(&mut task, CLOSE, &[fd as u64]), 0);
    let leaving = execute(&host, &mut task, "/bin/script").expect_err("its interpreter runs");
    host.userland.put_back(host.cpu, task, leaving);
    let mut task = host.run();
    assert!(open(&host, &mut task, "/bin/script", O_WRONLY) > 0, "the script itself is only read");
    assert_eq!(open(&host, &mut task, "/bin/init", O_WRONLY), ETXTBSY);
}

#[test]
fn a_program_is_free_again_once_the_last_who_runs_it_has_ended() {
    let (host, mut task) = Host::boot();
    // A program of its own: a copy that a memfd holds, which its own descriptor does not keep from running.
    let name = host.text(&task, DATA, "copy");
    let fd = host.call(&mut task, MEMFD_CREATE, &[name, 0]) as u64;
    let image = crate::common::program();
    for (piece, at) in image.chunks(0x800).zip((0u64..).step_by(0x800)) {
        host.poke(&task, DATA + 0x1000, piece);
        assert_eq!(host.call(&mut task, 18, &[fd, DATA + 0x1000, piece.len() as u64, at]), piece.len() as i64);
    }
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    host.leave(task, SCHED_YIELD, &[]);
    let child = host.run();
    let empty = host.text(&child, DATA, "");
    host.leave(child, EXECVEAT, &[fd, empty, 0, 0, 0x1000]);
    let mut task = host.run();
    let again = format!("/proc/self/fd/{fd}");
    assert_eq!(open(&host, &mut task, &again, O_WRONLY), ETXTBSY);
    host.leave(task, SCHED_YIELD, &[]);
    let mut child = host.run();
    // Two threads, of which the first ends.
    let flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000;
    assert_eq!(host.call(&mut child, CLONE, &[flags, DATA + 0x1000]), 3);
    host.leave(child, EXIT, &[0]);
    let (mut one, mut two) = (host.run(), host.run());
    if one.tid() != 1 {
        core::mem::swap(&mut one, &mut two);
    }
    assert_eq!(open(&host, &mut one, &again, O_WRONLY), ETXTBSY);
    host.leave(two, EXIT_GROUP, &[0]);
    assert!(open(&host, &mut one, &again, O_WRONLY) > 0);
}

#[test]
fn a_file_that_a_shared_mapping_may_write_is_not_executed() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let fd = open(&host, &mut task, "/bin/script", O_RDWR) as u64;
    let area = host.call(&mut task, MMAP, &[0, 4096, 1, 1, fd, 0]) as u64;
    assert_eq!(host.call(&mut task, CLOSE, &[fd]), 0);
    assert!(matches!(execute(&host, &mut task, "/bin/script"), Ok(ETXTBSY)));
    assert_eq!(host.call(&mut task, MUNMAP, &[area, 4096]), 0);
    let fd = open(&host, &mut task, "/bin/script", O_RDONLY) as u64;
    assert!(host.call(&mut task, MMAP, &[0, 4096, 1, 1, fd, 0]) > 0);
    assert!(execute(&host, &mut task, "/bin/script").is_err(), "it was replaced");
}
