//! Files whose pages live in memory: the page cache, tmpfs, memfd and shared anonymous memory.
//!
//! [`Files`] keeps the files of a machine by number. A file's pages are in an `XArray`, each with a reference that the file holds; a [`FileCall`] is an
//! operation on a file: find or make a page, read, write, truncate, punch holes, write back. Pages are never reclaimed.
//! Locking: each file's state is under a lock of its own (`rank::FILE`), under which nothing is allocated, freed, read or written back. Callers
//! that change one file's size at the same time exclude each other, as Linux's inode lock does; else a page may stay that is behind the end.
//! Every allocation can fail; each operation says what has happened then.
//! Linux 6.12: mm/filemap.c, mm/shmem.c, mm/truncate.c, mm/page-writeback.c, mm/memfd.c, fs/ramfs.
#![no_std]
#![forbid(unsafe_code)]

mod check;
mod data;
mod file;
mod files;
mod lifetime;
mod migrate;
mod name;
mod pager;
mod pages;
mod resident;
mod seals;
mod source;
mod table;
mod truncate;
mod writeback;

pub use file::{FileKind, FileStat};
pub use files::{FileCall, Files};
pub use name::FileName;
pub use seals::Seals;
pub use source::{BytesSource, PageSource};
pub use truncate::EndRule;
