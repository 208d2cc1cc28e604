//! Files of /proc/PID: of another process, of one that has ended, of one that is gone.

use units::CpuId;
use userland::{ManagedMemory, Memory};

use crate::abi::{
    EFAULT, EINVAL, EIO, ENOENT, EOPNOTSUPP, ESRCH, EXECVE, EXIT_GROUP, FORK, GETDENTS64, LSEEK, MMAP, MUNMAP, OPEN,
    OPENAT, PREAD64, PWRITE64, READ, READLINK, WAIT4, WAITID, WRITE,
};
use crate::common::{DATA, Host, Task, machine};
use crate::remote::yield_to_child;

const PAGE: u64 = 0x1000;
const MARK: u64 = 1 << 55;
/// Where files are read to.
const TEXT: u64 = DATA + 0x100;
const TEXT_BYTES: u64 = 0x1e00;

fn open<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>, path: &str, flags: u64) -> i64 {
    let path = host.text(task, DATA, path);
    host.call(task, OPEN, &[path, flags, 0])
}

/// Reads an open file from its start.
fn read<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>, fd: i64) -> Result<String, i64> {
    let count = host.call(task, PREAD64, &[fd as u64, TEXT, TEXT_BYTES, 0]);
    let count = usize::try_from(count).map_err(|_| count)?;
    Ok(String::from_utf8_lossy(&host.peek(task, TEXT, count)).into_owned())
}

fn file<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>, path: &str) -> String {
    let fd = open(host, task, path, 0);
    assert!(fd >= 0, "{path}: {fd}");
    read(host, task, fd).unwrap()
}

#[test]
fn another_process_is_shown_as_it_sees_itself() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let area = host.call(&mut task, MMAP, &[0, 8 * PAGE, 3, 0x22, u64::MAX, 0]) as u64;
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    let (mut task, mut child) = yield_to_child(&host, task);
    assert_eq!(host.call(&mut child, MMAP, &[0x1000_0000, PAGE, 3, 0x32, u64::MAX, 0]), 0x1000_0000);
    (0..3).for_each(|page| host.poke(&child, area + page * PAGE, b"child"));
    for name in ["maps", "numa_maps", "smaps_rollup", "environ", "auxv", "limits", "cmdline", "comm"] {
        let seen = file(&host, &mut task, &format!("/proc/2/{name}"));
        assert_eq!(seen, file(&host, &mut child, &format!("/proc/self/{name}")), "{name}");
        assert!(!seen.is_empty(), "{name}");
    }
    let text = |task: &mut Task<_>, name: &str| file(&host, task, &format!("/proc/2/{name}"));
    assert!(
        text(&mut task, "maps").contains("10000000-10001000 rw-p") && text(&mut task, "smaps").contains("10000000-")
    );
    assert_eq!(text(&mut task, "cmdline"), "init\0one\0");
    assert_eq!(text(&mut task, "environ"), "A=1\0");
    assert!(text(&mut task, "auxv").starts_with("\u{10}\0\0\0\0\0\0\0"));
    let numa = format!("{area:08x} default anon=3 dirty=3 ");
    assert!(text(&mut task, "numa_maps").contains(&numa), "{}", text(&mut task, "numa_maps"));
    assert!(
        text(&mut task, "limits")
            .contains("\nMax open files            1024                 4096                 files     \n")
    );
    let (own, other) = (text(&mut child, "statm"), text(&mut task, "statm"));
    assert_eq!(own, other);
    let size: u64 = own.split(' ').next().unwrap().parse().unwrap();
    let stat = text(&mut task, "stat");
    let fields: Vec<&str> = stat.trim_end().split(' ').collect();
    assert_eq!((fields.len(), fields[1], fields[22]), (52, "(init)", (size * PAGE).to_string().as_str()));
    assert!(
        text(&mut task, "status").contains("\nState:\tR (running)\n") && text(&mut task, "status").contains("VmRSS:")
    );
}

#[test]
fn marks_and_pages_of_another_process_are_its_own() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let area = host.call(&mut task, MMAP, &[0, 4 * PAGE, 3, 0x22, u64::MAX, 0]) as u64;
    (0..4).for_each(|page| host.poke(&task, area + page * PAGE, b"before"));
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    let (mut task, child) = yield_to_child(&host, task);
    let (own, other) = (open(&host, &mut task, "/proc/self/pagemap", 0), open(&host, &mut task, "/proc/2/pagemap", 0));
    let clear = open(&host, &mut task, "/proc/2/clear_refs", 0o1001);
    let four = host.text(&task, DATA, "4");
    assert_eq!(host.call(&mut task, WRITE, &[clear as u64, four, 1]), 1);
    host.poke(&child, area + PAGE, b"after");
    let mut marked = |fd: i64| {
        assert_eq!(host.call(&mut task, PREAD64, &[fd as u64, TEXT, 32, area / PAGE * 8]), 32);
        (0..4).filter(|page| host.peek_word(&task, TEXT + 8 * page) & MARK != 0).collect::<Vec<_>>()
    };
    assert_eq!((marked(own), marked(other)), (vec![0, 1, 2, 3], vec![1]));
    let end = 0x7fff_ffff_f000 / PAGE * 8;
    assert_eq!(host.call(&mut task, PREAD64, &[other as u64, TEXT, 32, end - 8]), 8);
    assert_eq!(host.call(&mut task, PREAD64, &[other as u64, TEXT, 32, end]), 0, "behind the last page");
    assert_eq!(host.call(&mut task, PREAD64, &[other as u64, TEXT, 31, 0]), EINVAL);
}

#[test]
fn memory_of_another_process_is_a_file() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let area = host.call(&mut task, MMAP, &[0, PAGE, 3, 0x22, u64::MAX, 0]) as u64;
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    let (mut task, child) = yield_to_child(&host, task);
    host.poke(&child, area, b"of the child");
    let fd = open(&host, &mut task, "/proc/2/mem", 2) as u64;
    assert_eq!(host.call(&mut task, LSEEK, &[fd, area + 3, 0]), area as i64 + 3);
    assert_eq!(host.call(&mut task, READ, &[fd, TEXT, 9]), 9);
    assert_eq!(host.peek(&task, TEXT, 9), b"the child");
    assert_eq!(host.call(&mut task, WRITE, &[fd, TEXT, 9]), 9);
    assert_eq!(host.call(&mut task, LSEEK, &[fd, 0, 1]), area as i64 + 21);
    assert_eq!(host.call(&mut task, LSEEK, &[fd, 0, 2]), EINVAL);
    assert_eq!(host.peek(&child, area, 21), b"of the childthe child");
    assert_eq!(host.call(&mut task, PREAD64, &[fd, TEXT, 64, area + PAGE - 4]), 4, "up to the last page");
    for call in [PREAD64, PWRITE64] {
        assert_eq!(host.call(&mut task, call, &[fd, TEXT, 2, 0x1000]), EIO);
        assert_eq!(host.call(&mut task, call, &[fd, 1, 2, area]), EFAULT);
        assert_eq!(host.call(&mut task, call, &[fd, TEXT, 0, 0x1000]), 0);
        assert_eq!(host.call(&mut task, call, &[fd, TEXT, 2, u64::MAX - 4095]), EINVAL);
    }
}

/// What a read finds at its start, or its error.
type Found = Result<&'static str, i64>;

/// Files with what is read from them: of a process that has ended, and of one that is gone. As on Linux, where they were opened before.
const ENDED: [(&str, Found, Found); 13] = [
    ("maps", Ok(""), Err(ESRCH)),
    ("smaps", Ok(""), Err(ESRCH)),
    ("smaps_rollup", Err(ESRCH), Err(ESRCH)),
    ("numa_maps", Ok(""), Err(ESRCH)),
    ("statm", Ok("0 0 0 0 0 0 0\n"), Err(ESRCH)),
    ("status", Ok("Name:\tinit\nState:\tZ (zombie)\nTgid:\t2\n"), Err(ESRCH)),
    ("stat", Ok("2 (init) Z 1 "), Err(ESRCH)),
    ("cmdline", Ok(""), Err(ESRCH)),
    ("comm", Ok("init\n"), Err(ESRCH)),
    ("limits", Ok("Limit "), Err(ESRCH)),
    ("pagemap", Ok(""), Ok("")),
    ("environ", Ok(""), Ok("")),
    ("mem", Ok(""), Ok("")),
];

#[test]
fn a_process_that_ended_is_empty_and_one_that_is_gone_is_none() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    let opened = ENDED.map(|(name, ..)| open(&host, &mut task, &format!("/proc/2/{name}"), 0));
    let auxv = open(&host, &mut task, "/proc/2/auxv", 0);
    let told = read(&host, &mut task, auxv);
    let [directory, fds] = ["/proc/2", "/proc/2/fd"].map(|path| open(&host, &mut task, path, 0o20_0000) as u64);
    let clear = open(&host, &mut task, "/proc/2/clear_refs", 1) as u64;
    // WEXITED and WNOWAIT.
    host.leave(task, WAITID, &[0, 0, 0, 4 | 0x0100_0000, 0]);
    host.leave(host.run(), EXIT_GROUP, &[3]);
    let mut task = host.run();
    let begins = |read: Result<String, i64>, with: Result<&str, i64>| match (&read, with) {
        (Ok(text), Ok(start)) => text.starts_with(start) && (!start.is_empty() || text.is_empty()),
        (read, with) => read.as_ref().err() == with.as_ref().err(),
    };
    for ((name, ended, _), fd) in ENDED.into_iter().zip(opened) {
        assert!(begins(read(&host, &mut task, fd), ended), "{name}: {:?}", read(&host, &mut task, fd));
        let late = open(&host, &mut task, &format!("/proc/2/{name}"), 0);
        assert!(begins(read(&host, &mut task, late), ended), "{name}, opened late");
    }
    let status = file(&host, &mut task, "/proc/2/status");
    assert!(status.contains("Threads:\t1\n") && status.contains("FDSize:\t0\n") && !status.contains("Vm"), "{status}");
    assert!(file(&host, &mut task, "/proc/2/stat").ends_with(" 768\n"));
    let one = host.text(&task, DATA, "1");
    assert_eq!(host.call(&mut task, WRITE, &[clear, one, 1]), 1);
    assert_eq!(host.call(&mut task, GETDENTS64, &[fds, TEXT, 0x1000]), 48, "the two dots");
    for link in ["/proc/2/exe", "/proc/2/cwd"] {
        let path = host.text(&task, DATA, link);
        assert_eq!(host.call(&mut task, READLINK, &[path, TEXT, 100]), ENOENT);
    }
    assert_eq!(open(&host, &mut task, "/proc/2/cwd", 0), ENOENT);
    assert_eq!(host.call(&mut task, WAIT4, &[2, 0, 0, 0]), 2);
    for ((name, _, gone), fd) in ENDED.into_iter().zip(opened) {
        assert!(begins(read(&host, &mut task, fd), gone), "{name}: {:?}", read(&host, &mut task, fd));
    }
    assert_eq!(read(&host, &mut task, auxv), told, "said for good");
    let one = host.text(&task, DATA, "1 9");
    assert_eq!(host.call(&mut task, WRITE, &[clear, one, 1]), ESRCH);
    assert_eq!(host.call(&mut task, WRITE, &[clear, one + 2, 1]), EINVAL);
    assert_eq!(host.call(&mut task, GETDENTS64, &[directory, TEXT, 0x1000]), ENOENT);
    for name in ["maps", ".."] {
        let name = host.text(&task, DATA, name);
        assert_eq!(host.call(&mut task, OPENAT, &[directory, name, 0]), ESRCH);
    }
    assert_eq!(open(&host, &mut task, "/proc/2/maps", 0), ENOENT);
}

#[test]
fn an_open_file_stays_with_the_memory_of_before_an_exec() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    let (mut task, child) = yield_to_child(&host, task);
    let [maps, mem, statm] = ["maps", "mem", "statm"].map(|name| open(&host, &mut task, &format!("/proc/2/{name}"), 0));
    let path = host.text(&child, DATA, "/bin/init");
    host.leave(child, EXECVE, &[path, 0, 0]);
    assert_eq!(read(&host, &mut task, maps), Ok(String::new()), "nobody is in it any more");
    assert_eq!(host.call(&mut task, PREAD64, &[mem as u64, TEXT, 4, DATA]), 0);
    assert_ne!(read(&host, &mut task, statm).unwrap(), "0 0 0 0 0 0 0\n", "this one is of the process");
    assert!(file(&host, &mut task, "/proc/2/maps").contains("[stack]"));
    assert_eq!(file(&host, &mut task, "/proc/2/cmdline"), "");
}

#[test]
fn a_name_can_be_set_and_other_files_refuse_what_is_written() {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    for (path, wanted) in [
        ("/proc/self/comm", 21),
        ("/proc/2/comm", EINVAL),
        ("/proc/self/maps", EINVAL),
        ("/proc/self/limits", EINVAL),
        ("/proc/meminfo", EIO),
    ] {
        let fd = open(&host, &mut task, path, 0o1001) as u64;
        let text = host.text(&task, DATA, "a name that is longer");
        assert_eq!(host.call(&mut task, WRITE, &[fd, text, 21]), wanted, "{path}");
    }
    assert_eq!(file(&host, &mut task, "/proc/1/comm"), "a name that is \n");
    let fd = open(&host, &mut task, "/proc/self/maps", 0) as u64;
    assert_eq!(host.call(&mut task, LSEEK, &[fd, 0, 2]), EINVAL);
}

#[test]
fn the_files_of_sys_tell_and_set_which_areas_get_huge_pages() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let open = |task: &mut _, name: &str| {
        let path = host.text(task, DATA, &format!("/sys/kernel/mm/transparent_hugepage/{name}"));
        host.call(task, OPEN, &[path, 2]) as u64
    };
    let tell = |task: &mut _, fd: u64| {
        let count = host.call(task, PREAD64, &[fd, DATA + 0x100, 100, 0]);
        String::from_utf8(host.peek(task, DATA + 0x100, count as usize)).unwrap()
    };
    let set = |task: &mut _, fd: u64, text: &str| {
        let at = host.text(task, DATA + 0x200, text);
        host.call(task, WRITE, &[fd, at, text.len() as u64])
    };
    let huge_pages = |task: &mut _| {
        let area = host.call(task, MMAP, &[0, 4 << 20, 3, 0x22, u64::MAX, 0]) as u64;
        host.poke(task, area.next_multiple_of(2 << 20), b"x");
        let pages = host.userland.memory().manager().rss(task.mm()).anon;
        assert_eq!(host.call(task, MUNMAP, &[area, 4 << 20]), 0);
        pages - host.userland.memory().manager().rss(task.mm()).anon > 1
    };
    let enabled = open(&mut task, "enabled");
    assert_eq!((tell(&mut task, enabled), huge_pages(&mut task)), ("[always] madvise never\n".to_owned(), true));
    assert_eq!(set(&mut task, enabled, "never\n"), 6);
    assert_eq!((tell(&mut task, enabled), huge_pages(&mut task)), ("always madvise [never]\n".to_owned(), false));
    assert_eq!((set(&mut task, enabled, "madvise\0"), huge_pages(&mut task)), (8, false));
    assert_eq!(set(&mut task, enabled, "sometimes"), EINVAL);
    assert_eq!(tell(&mut task, enabled), "always [madvise] never\n");
    let size = open(&mut task, "hpage_pmd_size");
    assert_eq!((tell(&mut task, size), set(&mut task, size, "1")), ("2097152\n".to_owned(), EIO));
    let defrag = open(&mut task, "defrag");
    assert_eq!((set(&mut task, defrag, "madvise"), set(&mut task, defrag, "always")), (7, EOPNOTSUPP));
}
