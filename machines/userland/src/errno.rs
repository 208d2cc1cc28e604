//! Linux's error numbers, as system calls return them.
//!
//! Those of calls on address spaces come from `kernel_mm::errno`. Linux 6.12: include/uapi/asm-generic/errno-base.h, errno.h.

use core::fmt;

use address_space::MmError;

/// Why a system call failed: a positive number that the program gets negated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(i32);

macro_rules! numbers {
    ($($name:ident = $number:literal, $meaning:literal;)*) => {
        impl Errno {
            $(#[doc = $meaning] pub const $name: Self = Self($number);)*
        }
    };
}

numbers! {
    EPERM = 1, "Not permitted.";
    ENOENT = 2, "No such file.";
    ESRCH = 3, "No such process.";
    EINTR = 4, "A signal came first.";
    EIO = 5, "Input or output failed.";
    E2BIG = 7, "Arguments and environment are too long.";
    ENOEXEC = 8, "Not a program that can be executed.";
    EBADF = 9, "Not an open descriptor, or not open for this.";
    ECHILD = 10, "No child to wait for.";
    EAGAIN = 11, "Not now, or a limit of the process is reached.";
    ENOMEM = 12, "No memory.";
    EACCES = 13, "Access denied.";
    EFAULT = 14, "A bad address.";
    EEXIST = 17, "The file exists.";
    EXDEV = 18, "Not on one file system.";
    ENODEV = 19, "No such device.";
    ENOTDIR = 20, "Not a directory.";
    EISDIR = 21, "A directory.";
    EINVAL = 22, "An argument is out of its range.";
    ENFILE = 23, "Too many open files in the machine.";
    EMFILE = 24, "Too many descriptors.";
    ENOTTY = 25, "Not a terminal.";
    ETXTBSY = 26, "The file is a running program, or open for writing.";
    EFBIG = 27, "The file would be too large.";
    ENOSPC = 28, "No space.";
    ESPIPE = 29, "Not a file with positions.";
    EPIPE = 32, "Nobody reads from the pipe.";
    ERANGE = 34, "The result does not fit.";
    ENAMETOOLONG = 36, "The name is too long.";
    ENOSYS = 38, "No such system call here.";
    ENOTEMPTY = 39, "The directory is not empty.";
    ELOOP = 40, "Too many symbolic links.";
    EOVERFLOW = 75, "A value does not fit its type.";
    ENOTSOCK = 88, "Not a socket.";
    EMSGSIZE = 90, "The message is too long.";
    EPROTONOSUPPORT = 93, "The family has no such protocol.";
    ESOCKTNOSUPPORT = 94, "The family has no such type of socket.";
    EOPNOTSUPP = 95, "The file has no such thing.";
    EAFNOSUPPORT = 97, "No such family of addresses.";
    ECONNRESET = 104, "The other end was closed with bytes unread.";
    EISCONN = 106, "The socket is connected, and takes no address.";
    ETIMEDOUT = 110, "The time is over.";
}

impl Errno {
    /// Returns what the program finds in its result register.
    pub const fn result(self) -> u64 {
        (-(self.0 as i64)) as u64
    }

    /// Returns the positive number.
    pub const fn raw(self) -> i32 {
        self.0
    }
}

impl From<MmError> for Errno {
    fn from(error: MmError) -> Self {
        Self(kernel_mm::errno(error))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "errno {}", self.0)
    }
}

impl core::error::Error for Errno {}
