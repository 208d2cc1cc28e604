//! A part of a kernel as its author would write it: no standard library, and boxes, vectors and maps on the machine's own memory.
//!
//! The kernel's binary, here `tests/on_sim.rs`, declares `object_allocator::GlobalHeap` as its global allocator. Linux has no twin:
//! there each of these would be a kmalloc.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// A file in memory: named, growing by appends.
#[derive(Debug, Default)]
pub struct Ramfs {
    files: BTreeMap<String, Box<File>>,
}

/// Contents in chunks, so that a large file needs no large block.
#[derive(Debug, Default)]
struct File {
    chunks: Vec<Vec<u8>>,
}

/// Bytes of a chunk, a size that kmalloc serves without waste.
const CHUNK: usize = 2048;

impl Ramfs {
    /// Appends to a file, which is made if there is none. Returns its length.
    pub fn append(&mut self, name: &str, mut bytes: &[u8]) -> usize {
        let file = self.files.entry(String::from(name)).or_default();
        while !bytes.is_empty() {
            if file.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
                file.chunks.push(Vec::new());
            }
            let Some(chunk) = file.chunks.last_mut() else { break };
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - chunk.len()));
            chunk.extend_from_slice(now);
            bytes = later;
        }
        file.len()
    }

    /// Returns a file's contents.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        Some(self.files.get(name)?.chunks.concat())
    }

    /// Removes a file; false if there is none.
    pub fn remove(&mut self, name: &str) -> bool {
        self.files.remove(name).is_some()
    }

    /// Iterates over the names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }
}

impl File {
    fn len(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }
}
