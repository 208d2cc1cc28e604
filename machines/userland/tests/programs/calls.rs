//! System calls as a program makes them, on a machine whose processor is the test.

use std::sync::atomic::Ordering;

use crate::abi::{
    CHDIR, CLONE, CLOSE, EFAULT, EINTR, EXECVE, EXIT, EXIT_GROUP, FORK, FSTAT, FUTEX, GETCWD, GETDENTS64, GETPID, KILL,
    LSEEK, MKDIR, NANOSLEEP, OPEN, PIPE, READ, READLINK, RT_SIGACTION, RT_SIGRETURN, UNLINK, VFORK, WAIT4, WRITE,
};
use crate::common::{DATA, Host, Task};
use userland::Next;

/// Ends init and looks that nothing is left.
fn finish(host: &Host<'_>, task: Task) {
    host.leave(task, EXIT_GROUP, &[3]);
    while let Some(task) = host.try_run() {
        host.leave(task, EXIT_GROUP, &[0]);
    }
    assert!(matches!(host.userland.next(host.cpu), Next::Finished(3)));
    // The four files of the initrd stay.
    assert_eq!(host.userland.memory().counts(), (0, 3));
}

#[test]
fn init_finds_its_arguments_on_the_stack() {
    let (host, task) = Host::boot();
    let stack = task.registers.rsp;
    assert_eq!((task.registers.rip, host.peek_word(&task, stack)), (0x40_1000, 2));
    let argument = host.peek_word(&task, stack + 16);
    assert_eq!(host.peek(&task, argument, 4), b"one\0");
    finish(&host, task);
}

#[test]
fn the_lower_half_of_the_register_is_the_number_of_the_call() {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, 0x7_0000_0000 | GETPID, &[]), 1);
    assert_eq!(host.call(&mut task, 0x4000_0000 | GETPID, &[]), -38);
    assert_eq!(host.call(&mut task, u64::MAX, &[]), -38);
}

#[test]
fn a_file_is_made_written_found_and_removed() {
    let (host, mut task) = Host::boot();
    let path = host.text(&task, DATA, "/tmp/new");
    let fd = host.call(&mut task, OPEN, &[path, 0o102, 0o644]) as u64;
    host.poke(&task, DATA + 100, b"contents");
    assert_eq!(host.call(&mut task, WRITE, &[fd, DATA + 100, 8]), 8);
    assert_eq!(host.call(&mut task, LSEEK, &[fd, 3, 0]), 3);
    assert_eq!(host.call(&mut task, READ, &[fd, DATA + 200, 100]), 5);
    assert_eq!(host.peek(&task, DATA + 200, 5), b"tents");
    assert_eq!(host.call(&mut task, FSTAT, &[fd, DATA + 300]), 0);
    assert_eq!((host.peek_word(&task, DATA + 324) as u32, host.peek_word(&task, DATA + 348)), (0o100_644, 8));
    assert_eq!(host.call(&mut task, UNLINK, &[path]), 0);
    assert_eq!(host.call(&mut task, OPEN, &[path, 0]), -2);
    assert_eq!(host.call(&mut task, READ, &[fd, DATA + 200, 100]), 0);
    assert_eq!(host.call(&mut task, CLOSE, &[fd]), 0);
    assert_eq!(host.call(&mut task, CLOSE, &[fd]), -9);
    finish(&host, task);
}

#[test]
fn paths_lead_through_links_directories_and_proc() {
    let (host, mut task) = Host::boot();
    let link = host.text(&task, DATA, "/tmp/../link");
    assert_eq!(host.call(&mut task, OPEN, &[link, 0]), 3);
    assert_eq!(host.call(&mut task, READ, &[3, DATA + 100, 100]), 5);
    assert_eq!(host.peek(&task, DATA + 100, 5), b"hello");
    let name = host.text(&task, DATA, "/proc/self/fd/3");
    assert_eq!(host.call(&mut task, READLINK, &[name, DATA + 100, 100]), 9);
    assert_eq!(host.peek(&task, DATA + 100, 9), b"/etc/note");
    let made = host.text(&task, DATA, "/tmp/a");
    assert_eq!(host.call(&mut task, MKDIR, &[made, 0o755]), 0);
    assert_eq!(host.call(&mut task, MKDIR, &[made, 0o755]), -17);
    assert_eq!(host.call(&mut task, CHDIR, &[made]), 0);
    assert_eq!(host.call(&mut task, GETCWD, &[DATA + 100, 100]), 7);
    assert_eq!(host.peek(&task, DATA + 100, 7), b"/tmp/a\0");
    let exe = host.text(&task, DATA, "/proc/self/exe");
    assert_eq!(host.call(&mut task, READLINK, &[exe, DATA + 100, 100]), 9);
    assert_eq!(host.peek(&task, DATA + 100, 9), b"/bin/init");
    finish(&host, task);
}

#[test]
fn a_directory_lists_every_name_once_in_pieces() {
    let (host, mut task) = Host::boot();
    let root = host.text(&task, DATA, "/");
    let fd = host.call(&mut task, OPEN, &[root, 0o20_0000]) as u64;
    let mut names = Vec::new();
    loop {
        let count = host.call(&mut task, GETDENTS64, &[fd, DATA + 100, 64]) as usize;
        if count == 0 {
            break;
        }
        let mut listed = &host.peek(&task, DATA + 100, count)[..];
        while !listed.is_empty() {
            let length = usize::from(u16::from_le_bytes([listed[16], listed[17]]));
            let name = listed[19..length].split(|&byte| byte == 0).next().unwrap();
            names.push(String::from_utf8(name.to_vec()).unwrap());
            listed = &listed[length..];
        }
    }
    names.sort();
    assert_eq!(names, [".", "..", "bin", "dev", "etc", "link", "proc", "root", "sys", "tmp"]);
    finish(&host, task);
}

#[test]
fn a_child_runs_ends_and_is_waited_for() {
    let (host, mut task) = Host::boot();
    let child = host.call(&mut task, FORK, &[]);
    assert_eq!(child, 2);
    host.leave(task, WAIT4, &[u64::MAX, DATA, 0, 0]);
    let mut task = host.run();
    assert_eq!((task.registers.rax, host.call(&mut task, GETPID, &[])), (0, 2));
    host.leave(task, EXIT_GROUP, &[7]);
    let mut task = host.run();
    assert_eq!(task.registers.rax, 2);
    assert_eq!(host.peek_word(&task, DATA) as u32, 7 << 8);
    assert_eq!(host.call(&mut task, WAIT4, &[u64::MAX, 0, 0, 0]), -10);
    finish(&host, task);
}

#[test]
fn a_reader_waits_for_the_pipe_s_writer() {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, PIPE, &[DATA]), 0);
    assert_eq!(host.peek_word(&task, DATA), 3 | 4 << 32);
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    host.leave(task, READ, &[3, DATA + 100, 100]);
    let mut child = host.run();
    host.poke(&child, DATA + 100, b"through");
    assert_eq!(host.call(&mut child, WRITE, &[4, DATA + 100, 7]), 7);
    host.leave(child, EXIT_GROUP, &[0]);
    let mut task = host.run();
    assert_eq!((task.registers.rax, host.peek(&task, DATA + 100, 7)), (7, b"through".to_vec()));
    // The end of everything, once the writer here is closed too.
    assert_eq!(host.call(&mut task, CLOSE, &[4]), 0);
    assert_eq!(host.call(&mut task, READ, &[3, DATA + 100, 100]), 0);
    finish(&host, task);
}

/// Sets a handler for a signal at 0x401500 with a restorer, and flags.
fn handle(host: &Host<'_>, task: &mut Task, signal: u64, flags: u64) {
    let action = [0x40_1500, 0x0400_0000 | flags, 0x40_1600, 0];
    action.iter().zip(0..).for_each(|(word, index)| host.poke(task, DATA + 8 * index, &u64::to_le_bytes(*word)));
    assert_eq!(host.call(task, RT_SIGACTION, &[signal, DATA, 0, 8]), 0);
}

#[test]
fn a_handler_is_entered_and_goes_back_to_the_same_registers() {
    let (host, mut task) = Host::boot();
    handle(&host, &mut task, 10, 4);
    (task.registers.rbx, task.registers.r12) = (77, 78);
    let stack = task.registers.rsp;
    assert_eq!(host.call(&mut task, KILL, &[1, 10]), 0);
    assert_eq!((task.registers.rip, task.registers.rdi), (0x40_1500, 10));
    assert_eq!(host.peek_word(&task, task.registers.rsp), 0x40_1600);
    task.registers.rbx = 0;
    task.registers.rsp += 8;
    assert!(host.step(&mut task, RT_SIGRETURN, &[]).is_ok());
    let registers = &task.registers;
    assert_eq!((registers.rbx, registers.r12, registers.rsp, registers.rax), (77, 78, stack, 0));
    finish(&host, task);
}

#[test]
fn a_fault_becomes_a_signal_with_its_address_and_ends_a_program_without_handler() {
    use address_space::Access;
    use units::VirtAddr;
    use userland::{Step, Trap};
    let (host, mut task) = Host::boot();
    handle(&host, &mut task, 11, 4);
    let fault = Trap::PageFault { addr: VirtAddr::ZERO, access: Access::Read, is_fetch: false, is_present: false };
    assert!(matches!(host.userland.trap(host.cpu, &mut task, fault), Step::Run));
    let info = task.registers.rsi;
    assert_eq!(
        (host.peek_word(&task, info), host.peek_word(&task, info + 8), host.peek_word(&task, info + 16)),
        (11, 1, 0)
    );
    // A fault while SIGSEGV is blocked by its handler has no way out.
    let Step::Leave(leaving) = host.userland.trap(host.cpu, &mut task, fault) else { panic!("the process ends") };
    host.userland.put_back(host.cpu, task, leaving);
    assert!(host.try_run().is_none());
    assert!(matches!(host.userland.next(host.cpu), Next::Finished(139)));
}

#[test]
fn a_sleep_ends_with_its_time_or_with_a_signal() {
    let (host, mut task) = Host::boot();
    handle(&host, &mut task, 10, 0);
    let time = DATA + 100;
    host.poke(&task, time, &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    host.leave(task, NANOSLEEP, &[time, 0]);
    assert!(host.try_run().is_none());
    host.userland.machine().clock.store(5_000_000_000, Ordering::Relaxed);
    let mut task = host.run();
    assert_eq!(task.registers.rax, 0);
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    host.leave(task, NANOSLEEP, &[time, 0]);
    let mut child = host.run();
    assert_eq!(host.call(&mut child, KILL, &[1, 10]), 0);
    host.leave(child, EXIT_GROUP, &[0]);
    let task = host.run();
    assert_eq!(task.registers.rip, 0x40_1500);
    // Where the handler goes back to has the result of the sleep.
    let context = task.registers.rdx;
    assert_eq!(host.peek_word(&task, context + 40 + 8 * 13) as i64, EINTR);
    finish(&host, task);
}

#[test]
fn threads_share_memory_and_wake_each_other() {
    let (host, mut task) = Host::boot();
    let flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x20_0000;
    let tid = host.call(&mut task, CLONE, &[flags, DATA + 0x1000, 0, DATA + 8]);
    assert_eq!(tid, 2);
    host.leave(task, FUTEX, &[DATA, 128, 0, 0, 0, 0]);
    let mut other = host.run();
    assert_eq!((host.call(&mut other, GETPID, &[]), other.registers.rsp), (1, DATA + 0x1000));
    host.poke(&other, DATA, &[1, 0, 0, 0]);
    assert_eq!(host.call(&mut other, FUTEX, &[DATA, 1 | 128, 9, 0, 0, 0]), 1);
    host.poke(&other, DATA + 8, &[2, 0, 0, 0]);
    host.leave(other, EXIT, &[0]);
    let mut task = host.run();
    assert_eq!(task.registers.rax, 0);
    assert_eq!(host.peek(&task, DATA + 8, 4), [0; 4]);
    assert_eq!(host.call(&mut task, FUTEX, &[DATA, 128, 0, 0, 0, 0]), -11);
    finish(&host, task);
}

#[test]
fn vfork_s_parent_goes_on_when_the_child_executes() {
    let (host, task) = Host::boot();
    host.leave(task, VFORK, &[]);
    let child = host.run();
    assert_eq!(host.userland.memory().counts().0, 1);
    let path = host.text(&child, DATA, "/bin/script");
    let arguments = [path, DATA + 64, 0].map(u64::to_le_bytes).concat();
    host.text(&child, DATA + 64, "argument");
    host.poke(&child, DATA + 128, &arguments);
    host.leave(child, EXECVE, &[path, DATA + 128, 0]);
    let parent = host.run();
    assert_eq!(parent.registers.rax, 2);
    let child = host.try_run().expect("the new program");
    let stack = child.registers.rsp;
    // init -x /bin/script argument
    assert_eq!(host.peek_word(&child, stack), 4);
    let second = host.peek_word(&child, stack + 16);
    assert_eq!(host.peek(&child, second, 3), b"-x\0");
    host.leave(child, EXIT_GROUP, &[0]);
    finish(&host, parent);
}

#[test]
fn the_console_shows_what_is_written_to_standard_output() {
    let (host, mut task) = Host::boot();
    host.poke(&task, DATA, b"out\n");
    assert_eq!(host.call(&mut task, WRITE, &[1, DATA, 4]), 4);
    assert_eq!(*host.userland.machine().console.lock().unwrap(), b"out\n");
    assert_eq!(host.call(&mut task, WRITE, &[1, 0x9999_0000, 4]), EFAULT);
    finish(&host, task);
}
