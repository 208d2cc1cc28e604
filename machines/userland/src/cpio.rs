//! The initrd: an archive in cpio's newc format, read entry by entry. Pure; foreign bytes give entries or an error with its place.
//!
//! Linux 6.12: Documentation/driver-api/early-userspace/buffer-format.rst, init/initramfs.c.

/// Bytes of an entry's header.
const HEADER: usize = 110;
const FIELD: usize = 8;
/// Fields of the header, in order: which one is where.
const MODE: usize = 1;
const SIZE: usize = 6;
const DEVICE_MAJOR: usize = 9;
const DEVICE_MINOR: usize = 10;
const NAME_SIZE: usize = 11;
const END: &[u8] = b"TRAILER!!!";

/// An entry of the archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry<'a> {
    /// Path without leading slashes.
    pub(crate) path: &'a [u8],
    pub(crate) mode: u32,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    pub(crate) contents: &'a [u8],
}

/// What is wrong with an archive, and at which byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadArchive {
    pub(crate) what: &'static str,
    pub(crate) offset: usize,
}

/// Reads the entries of `archive` up to its end; calls `each` for them in order.
///
/// # Errors
/// [`BadArchive`], after the entries before it; what `each` returns.
pub(crate) fn read<'a, E: From<BadArchive>>(
    archive: &'a [u8],
    mut each: impl FnMut(Entry<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let mut at = 0;
    loop {
        let (entry, next) = entry(archive, at)?;
        if entry.path == END {
            return Ok(());
        }
        each(entry)?;
        at = next;
    }
}

fn entry(archive: &[u8], at: usize) -> Result<(Entry<'_>, usize), BadArchive> {
    let bad = |what| BadArchive { what, offset: at };
    let header =
        archive.get(at..).and_then(<[u8]>::first_chunk::<HEADER>).ok_or(bad("the archive ends inside a header"))?;
    let (magic, fields) = header.split_at(6);
    if magic != b"070701" {
        return Err(bad("expected the magic number 070701"));
    }
    let field = |index: usize| {
        let text = fields.get(FIELD * index..FIELD * (index + 1))?;
        // A sign would be taken for part of a number.
        let is_hexadecimal = text.iter().all(u8::is_ascii_hexdigit);
        is_hexadecimal.then(|| u32::from_str_radix(core::str::from_utf8(text).ok()?, 16).ok())?
    };
    let number = |index| field(index).ok_or(bad("expected a hexadecimal number"));
    let (name_size, size) = (number(NAME_SIZE)? as usize, number(SIZE)? as usize);
    let name_start = at + HEADER;
    let part = |start: usize, len: usize| start.checked_add(len).and_then(|end| archive.get(start..end));
    let name = part(name_start, name_size).ok_or(bad("the archive ends inside a name"))?;
    let path = name.strip_suffix(&[0]).ok_or(bad("expected a name that ends with a zero"))?;
    let start = (name_start + name_size).next_multiple_of(4);
    let contents = part(start, size).ok_or(bad("the archive ends inside a file"))?;
    let entry = Entry {
        path: path.strip_prefix(b"./").unwrap_or(path),
        mode: number(MODE)?,
        device: (number(DEVICE_MAJOR)?, number(DEVICE_MINOR)?),
        contents,
    };
    Ok((entry, (start + size).next_multiple_of(4)))
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec::Vec;

    use super::*;

    fn member(path: &str, mode: u32, contents: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::from(*b"070701");
        let fields = [0, mode, 0, 0, 1, 0, contents.len() as u32, 0, 0, 5, 1, path.len() as u32 + 1, 0];
        for field in fields {
            bytes.extend(format!("{field:08x}").bytes());
        }
        bytes.extend(path.bytes().chain([0]));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(contents);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn names(archive: &[u8]) -> Result<Vec<Vec<u8>>, BadArchive> {
        let mut names = Vec::new();
        read(archive, |entry| {
            names.push(entry.path.to_vec());
            Ok::<(), BadArchive>(())
        })?;
        Ok(names)
    }

    #[test]
    fn entries_are_read_up_to_the_trailer() {
        let archive =
            [member("./bin", 0o40755, b""), member("bin/x", 0o100755, b"abc"), member("TRAILER!!!", 0, b"")].concat();
        assert_eq!(names(&archive).unwrap(), [b"bin".to_vec(), b"bin/x".to_vec()]);
        let (entry, _) = entry(&archive, member("./bin", 0, b"").len()).unwrap();
        assert_eq!((entry.mode, entry.device, entry.contents), (0o100755, (5, 1), &b"abc"[..]));
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_an_error_or_other_entries() {
        let archive = [member("a", 0o100644, b"12345"), member("TRAILER!!!", 0, b"")].concat();
        for length in 0..archive.len() - 3 {
            assert!(names(&archive[..length]).is_err(), "{length}");
        }
        for at in 0..archive.len() {
            let mut damaged = archive.clone();
            damaged[at] ^= 0x55;
            let _ = names(&damaged);
        }
        assert_eq!(names(b"").unwrap_err(), BadArchive { what: "the archive ends inside a header", offset: 0 });
    }
}
