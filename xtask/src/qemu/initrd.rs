//! The initrd of a run with programs: an archive in cpio's newc format with busybox, the program, and its arguments.
//!
//! Format: Linux 6.12, Documentation/driver-api/early-userspace/buffer-format.rst.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::shell;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const PLAIN: u32 = 0o100_644;
const LINK: u32 = 0o120_777;
/// Where the image finds the arguments of the first program.
const ARGUMENTS: &str = "etc/argv";
/// Program header type of a program that needs a dynamic linker.
const PT_INTERP: u32 = 3;

/// An archive on disk, removed when dropped.
pub(super) struct Initrd {
    pub(super) path: PathBuf,
    /// What the kernel's command line says about it.
    pub(super) append: String,
}

impl Drop for Initrd {
    fn drop(&mut self) {
        // Nothing depends on it any more; the directory is cargo's.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Initrd {
    /// Packs a program of the host by its path, or an applet of busybox by its name, with `arguments` and further files.
    ///
    /// # Errors
    /// There is no such program, it is not linked statically, or the archive cannot be written.
    pub(super) fn pack(program: &str, arguments: &[String], files: &[PathBuf]) -> Result<Self> {
        let mut archive = Archive::default();
        for directory in ["bin", "etc", "root", "tmp"] {
            archive.add(directory, DIRECTORY, b"");
        }
        let is_path = program.contains('/');
        let busybox = match find_busybox() {
            Ok(busybox) => Some(busybox),
            Err(_) if is_path => None,
            Err(error) => return Err(error),
        };
        if let Some(busybox) = &busybox {
            add_busybox(&mut archive, busybox)?;
        }
        let name = Path::new(program).file_name().and_then(|name| name.to_str()).context("the program has no name")?;
        if is_path {
            archive.add(&format!("bin/{name}"), PROGRAM, &static_program(Path::new(program))?);
        } else {
            ensure!(
                archive.has(&format!("bin/{name}")),
                "{program}: busybox has no such applet; give a path for another program"
            );
        }
        for file in files {
            let name = file.file_name().and_then(|name| name.to_str()).context("a file has no name")?;
            let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            archive.add(&format!("root/{name}"), PROGRAM, &bytes);
        }
        let argv = [name].into_iter().chain(arguments.iter().map(String::as_str));
        let argv: Vec<u8> = argv.flat_map(|argument| argument.bytes().chain([0])).collect();
        archive.add(ARGUMENTS, PLAIN, &argv);
        let directory = shell::top().join("target").join("bare-metal");
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let path = directory.join(format!("initrd-{}.cpio", std::process::id()));
        std::fs::write(&path, archive.finish()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, append: format!("init=/bin/{name} mmkit.argv=/{ARGUMENTS}") })
    }
}

/// Returns the host's busybox.
///
/// # Errors
/// There is none, or it needs a dynamic linker.
pub(super) fn find_busybox() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([PathBuf::from("/bin"), PathBuf::from("/usr/bin")]);
    let found = places.map(|place| place.join("busybox")).find(|candidate| candidate.is_file());
    let Some(busybox) = found else {
        bail!("busybox is not installed; programs need a static one (Debian and Ubuntu: busybox-static)");
    };
    static_program(&busybox).context("programs need a static busybox (Debian and Ubuntu: busybox-static)")?;
    Ok(busybox)
}

/// Reads a program that needs no dynamic linker.
fn static_program(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(bytes.starts_with(b"\x7fELF\x02\x01"), "{}: no 64-bit ELF program", path.display());
    ensure!(!needs_linker(&bytes).unwrap_or(true), "{}: not linked statically", path.display());
    Ok(bytes)
}

/// Tells whether a program names an interpreter; `None` for a damaged file.
fn needs_linker(bytes: &[u8]) -> Option<bool> {
    let offset = usize::try_from(u64::from_le_bytes(*bytes.get(32..)?.first_chunk()?)).ok()?;
    let count = usize::from(u16::from_le_bytes(*bytes.get(56..)?.first_chunk()?));
    let headers = bytes.get(offset..)?.chunks_exact(56).take(count);
    Some(headers.into_iter().any(|header| header.starts_with(&PT_INTERP.to_le_bytes())))
}

/// Adds busybox and a link for each of its applets.
fn add_busybox(archive: &mut Archive, busybox: &Path) -> Result<()> {
    archive.add("bin/busybox", PROGRAM, &static_program(busybox)?);
    let list =
        Command::new(busybox).arg("--list").output().with_context(|| format!("cannot start {}", busybox.display()))?;
    for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|&applet| applet != "busybox") {
        archive.add(&format!("bin/{applet}"), LINK, b"busybox");
    }
    Ok(())
}

/// An archive under way.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    paths: Vec<String>,
}

impl Archive {
    fn add(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.paths.push(path.to_owned());
        let number = self.paths.len();
        let fields = [number, mode as usize, 0, 0, 1, 0, contents.len(), 0, 0, 0, 0, path.len() + 1, 0];
        self.bytes.extend(b"070701");
        fields.iter().for_each(|field| self.bytes.extend(format!("{field:08x}").bytes()));
        self.bytes.extend(path.bytes().chain([0]));
        self.pad();
        self.bytes.extend(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn has(&self, path: &str) -> bool {
        self.paths.iter().any(|known| known == path)
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, b"");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_begin_at_multiples_of_four() {
        let mut archive = Archive::default();
        archive.add("a", PLAIN, b"12345");
        let second = archive.bytes.len();
        archive.add("bc", DIRECTORY, b"");
        let bytes = archive.finish();
        assert_eq!(second % 4, 0);
        assert!(bytes[second..].starts_with(b"0707010000000200"));
        assert_eq!(&bytes[112..117], b"12345");
        assert_eq!(&bytes[54..62], b"00000005");
    }

    #[test]
    fn a_program_with_an_interpreter_is_told_apart() {
        let mut elf = vec![0; 64 + 56];
        (elf[32], elf[56]) = (64, 1);
        assert_eq!(needs_linker(&elf), Some(false));
        elf[64] = 3;
        assert_eq!(needs_linker(&elf), Some(true));
        assert_eq!(needs_linker(&elf[..40]), None);
    }
}
