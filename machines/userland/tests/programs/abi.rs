//! Numbers of Linux's interface on x86-64, by Linux's names: calls, errors as calls return them, flags, signals.

// System calls.
pub(crate) const READ: u64 = 0;
pub(crate) const WRITE: u64 = 1;
pub(crate) const OPEN: u64 = 2;
pub(crate) const CLOSE: u64 = 3;
pub(crate) const FSTAT: u64 = 5;
pub(crate) const POLL: u64 = 7;
pub(crate) const LSEEK: u64 = 8;
pub(crate) const MMAP: u64 = 9;
pub(crate) const MPROTECT: u64 = 10;
pub(crate) const MUNMAP: u64 = 11;
pub(crate) const RT_SIGACTION: u64 = 13;
pub(crate) const RT_SIGPROCMASK: u64 = 14;
pub(crate) const RT_SIGRETURN: u64 = 15;
pub(crate) const IOCTL: u64 = 16;
pub(crate) const PREAD64: u64 = 17;
pub(crate) const PWRITE64: u64 = 18;
pub(crate) const READV: u64 = 19;
pub(crate) const WRITEV: u64 = 20;
pub(crate) const PIPE: u64 = 22;
pub(crate) const SELECT: u64 = 23;
pub(crate) const SCHED_YIELD: u64 = 24;
pub(crate) const DUP: u64 = 32;
pub(crate) const DUP2: u64 = 33;
pub(crate) const NANOSLEEP: u64 = 35;
pub(crate) const GETPID: u64 = 39;
pub(crate) const SENDFILE: u64 = 40;
pub(crate) const SENDTO: u64 = 44;
pub(crate) const RECVFROM: u64 = 45;
pub(crate) const SHUTDOWN: u64 = 48;
pub(crate) const SOCKETPAIR: u64 = 53;
pub(crate) const CLONE: u64 = 56;
pub(crate) const FORK: u64 = 57;
pub(crate) const VFORK: u64 = 58;
pub(crate) const EXECVE: u64 = 59;
pub(crate) const EXIT: u64 = 60;
pub(crate) const WAIT4: u64 = 61;
pub(crate) const KILL: u64 = 62;
pub(crate) const FCNTL: u64 = 72;
pub(crate) const TRUNCATE: u64 = 76;
pub(crate) const FTRUNCATE: u64 = 77;
pub(crate) const GETCWD: u64 = 79;
pub(crate) const CHDIR: u64 = 80;
pub(crate) const RENAME: u64 = 82;
pub(crate) const MKDIR: u64 = 83;
pub(crate) const UNLINK: u64 = 87;
pub(crate) const READLINK: u64 = 89;
pub(crate) const CHMOD: u64 = 90;
pub(crate) const SETPGID: u64 = 109;
pub(crate) const GETPPID: u64 = 110;
pub(crate) const RT_SIGPENDING: u64 = 127;
pub(crate) const RT_SIGTIMEDWAIT: u64 = 128;
pub(crate) const RT_SIGSUSPEND: u64 = 130;
pub(crate) const SIGALTSTACK: u64 = 131;
pub(crate) const SETRLIMIT: u64 = 160;
pub(crate) const FUTEX: u64 = 202;
pub(crate) const GETDENTS64: u64 = 217;
pub(crate) const CLOCK_GETTIME: u64 = 228;
pub(crate) const CLOCK_NANOSLEEP: u64 = 230;
pub(crate) const EXIT_GROUP: u64 = 231;
pub(crate) const TGKILL: u64 = 234;
pub(crate) const WAITID: u64 = 247;
pub(crate) const OPENAT: u64 = 257;
pub(crate) const FALLOCATE: u64 = 285;
pub(crate) const VMSPLICE: u64 = 278;
pub(crate) const DUP3: u64 = 292;
pub(crate) const PIPE2: u64 = 293;
pub(crate) const PROCESS_VM_READV: u64 = 310;
pub(crate) const PROCESS_VM_WRITEV: u64 = 311;
pub(crate) const MEMFD_CREATE: u64 = 319;
pub(crate) const EXECVEAT: u64 = 322;
pub(crate) const MEMBARRIER: u64 = 324;
pub(crate) const PIDFD_SEND_SIGNAL: u64 = 424;
pub(crate) const PIDFD_OPEN: u64 = 434;
pub(crate) const CLONE3: u64 = 435;
pub(crate) const CLOSE_RANGE: u64 = 436;
pub(crate) const PROCESS_MADVISE: u64 = 440;
pub(crate) const PROCESS_MRELEASE: u64 = 448;

// Errors.
pub(crate) const EPERM: i64 = -1;
pub(crate) const ENOENT: i64 = -2;
pub(crate) const ESRCH: i64 = -3;
pub(crate) const EINTR: i64 = -4;
pub(crate) const EIO: i64 = -5;
pub(crate) const E2BIG: i64 = -7;
pub(crate) const EBADF: i64 = -9;
pub(crate) const ECHILD: i64 = -10;
pub(crate) const EAGAIN: i64 = -11;
pub(crate) const ENOMEM: i64 = -12;
pub(crate) const EACCES: i64 = -13;
pub(crate) const EFAULT: i64 = -14;
pub(crate) const EBUSY: i64 = -16;
pub(crate) const EEXIST: i64 = -17;
pub(crate) const ENOTDIR: i64 = -20;
pub(crate) const EISDIR: i64 = -21;
pub(crate) const EINVAL: i64 = -22;
pub(crate) const EMFILE: i64 = -24;
pub(crate) const ENOTTY: i64 = -25;
pub(crate) const ETXTBSY: i64 = -26;
pub(crate) const EFBIG: i64 = -27;
pub(crate) const ENOSPC: i64 = -28;
pub(crate) const ESPIPE: i64 = -29;
pub(crate) const EPIPE: i64 = -32;
pub(crate) const ERANGE: i64 = -34;
pub(crate) const ENOTSOCK: i64 = -88;
pub(crate) const EMSGSIZE: i64 = -90;
pub(crate) const EPROTONOSUPPORT: i64 = -93;
pub(crate) const ESOCKTNOSUPPORT: i64 = -94;
pub(crate) const EOPNOTSUPP: i64 = -95;
pub(crate) const EAFNOSUPPORT: i64 = -97;
pub(crate) const ECONNRESET: i64 = -104;
pub(crate) const EISCONN: i64 = -106;
pub(crate) const ETIMEDOUT: i64 = -110;

// Flags of open.
pub(crate) const O_RDONLY: u64 = 0;
pub(crate) const O_WRONLY: u64 = 1;
pub(crate) const O_RDWR: u64 = 2;
pub(crate) const O_CREAT: u64 = 0o100;
pub(crate) const O_EXCL: u64 = 0o200;
pub(crate) const O_TRUNC: u64 = 0o1000;
pub(crate) const O_APPEND: u64 = 0o2000;
pub(crate) const O_NONBLOCK: u64 = 0o4000;
pub(crate) const O_DIRECTORY: u64 = 0o20_0000;
/// With O_DIRECTORY in it.
pub(crate) const O_TMPFILE: u64 = 0o2020_0000;
pub(crate) const O_CLOEXEC: u64 = 0o200_0000;
pub(crate) const O_PATH: u64 = 0o1000_0000;

// Flags of clone.
pub(crate) const CLONE_PIDFD: u64 = 0x1000;
pub(crate) const CLONE_PARENT_SETTID: u64 = 0x10_0000;
pub(crate) const CLONE_DETACHED: u64 = 0x40_0000;
pub(crate) const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

// Commands of fcntl.
pub(crate) const F_ADD_SEALS: u64 = 1033;
pub(crate) const F_GET_SEALS: u64 = 1034;

// Advice.
pub(crate) const MADV_DONTNEED: u64 = 4;
pub(crate) const MADV_COLD: u64 = 20;

// Signals.
pub(crate) const SIGKILL: u64 = 9;
pub(crate) const SIGUSR1: u64 = 10;
pub(crate) const SIGPIPE: u64 = 13;
pub(crate) const SIGUSR2: u64 = 12;
pub(crate) const SIGCHLD: u64 = 17;
