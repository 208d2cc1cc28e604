//! System calls as a trace spells them: a name and the registers.
//!
//! Calls that change an address space or make and end tasks have their arguments by name; any other call keeps its words.
//! Linux 6.12: include/linux/syscalls.h, for the order of arguments on x86-64.

use std::fmt;

use crate::fields::{FieldError, wrong};

/// Most arguments of a call.
pub(super) const MAX_ARGUMENTS: usize = 6;

macro_rules! calls {
    ($($(#[$doc:meta])* $variant:ident $text:literal ($($argument:ident),*);)*) => {
        /// A system call with its arguments, as they stand in the registers.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum Call {
            $($(#[$doc])* $variant { $(#[doc = concat!("Argument `", stringify!($argument), "`.")] $argument: u64,)* },)*
            /// A call that the replay does not know.
            Other {
                /// Its name.
                name: Box<str>,
                /// Its arguments.
                arguments: Vec<u64>,
            },
        }

        /// Name of a system call.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum CallName {
            $($(#[$doc])* $variant,)*
            /// A call that the replay does not know.
            Other(Box<str>),
        }

        impl Call {
            /// Returns the call's name.
            pub fn name(&self) -> CallName {
                match self {
                    $(Self::$variant { .. } => CallName::$variant,)*
                    Self::Other { name, .. } => CallName::Other(name.clone()),
                }
            }

            /// Makes a call of its arguments.
            pub(super) fn new(name: CallName, arguments: &[u64]) -> Result<Self, FieldError> {
                match (name, arguments) {
                    $((CallName::$variant, &[$($argument),*]) => Ok(Self::$variant { $($argument),* }),)*
                    (CallName::Other(name), _) => Ok(Self::Other { name, arguments: arguments.to_vec() }),
                    (name, _) => {
                        let found = format!("{} arguments of {name}", arguments.len());
                        Err(FieldError { found, expected: "the arguments that the call has" })
                    }
                }
            }
        }

        impl CallName {
            /// Reads a name.
            pub(super) fn parse(word: &[u8]) -> Result<Self, FieldError> {
                const EXPECTED: &str = "the name of a system call";
                let is_name = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_';
                if word.is_empty() || !word.iter().all(is_name) {
                    return Err(wrong(word, EXPECTED));
                }
                match std::str::from_utf8(word).map_err(|_| wrong(word, EXPECTED))? {
                    $($text => Ok(Self::$variant),)*
                    other => Ok(Self::Other(other.into())),
                }
            }
        }

        impl fmt::Display for CallName {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text,)*
                    Self::Other(name) => name,
                })
            }
        }
    };
}

calls! {
    /// mmap(2).
    Mmap "mmap" (addr, len, prot, flags, fd, offset);
    /// munmap(2).
    Munmap "munmap" (addr, len);
    /// brk(2).
    Brk "brk" (brk);
    /// mprotect(2).
    Mprotect "mprotect" (addr, len, prot);
    /// pkey_mprotect(2).
    PkeyMprotect "pkey_mprotect" (addr, len, prot, pkey);
    /// mremap(2).
    Mremap "mremap" (addr, old_len, new_len, flags, new_addr);
    /// msync(2).
    Msync "msync" (addr, len, flags);
    /// mincore(2).
    Mincore "mincore" (addr, len, vec);
    /// madvise(2).
    Madvise "madvise" (addr, len, advice);
    /// process_madvise(2).
    ProcessMadvise "process_madvise" (pidfd, vec, vec_len, advice, flags);
    /// mlock(2).
    Mlock "mlock" (addr, len);
    /// mlock2(2).
    Mlock2 "mlock2" (addr, len, flags);
    /// munlock(2).
    Munlock "munlock" (addr, len);
    /// mlockall(2).
    Mlockall "mlockall" (flags);
    /// munlockall(2).
    Munlockall "munlockall" ();
    /// remap_file_pages(2).
    RemapFilePages "remap_file_pages" (addr, len, prot, page_offset, flags);
    /// mseal(2).
    Mseal "mseal" (addr, len, flags);
    /// shmat(2).
    Shmat "shmat" (shmid, addr, flags);
    /// shmdt(2).
    Shmdt "shmdt" (addr);
    /// clone(2).
    Clone "clone" (flags, stack, parent_tid, child_tid, tls);
    /// clone3(2).
    Clone3 "clone3" (args, size);
    /// fork(2).
    Fork "fork" ();
    /// vfork(2).
    Vfork "vfork" ();
    /// execve(2).
    Execve "execve" (path, argv, envp);
    /// execveat(2).
    Execveat "execveat" (fd, path, argv, envp, flags);
    /// exit(2): one thread ends.
    Exit "exit" (status);
    /// exit_group(2): the process ends.
    ExitGroup "exit_group" (status);
    /// prlimit64(2).
    Prlimit64 "prlimit64" (pid, resource, new_limit, old_limit);
    /// setrlimit(2).
    Setrlimit "setrlimit" (resource, limit);
}
