//! Files that the command writes: whole or not at all, and never over its own input.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use crate::failure::Failure;

/// Refuses to write `output` over `input`, whatever names they go by.
///
/// # Errors
/// [`Failure::Usage`] if both are one file.
pub(crate) fn spare_input(output: &Path, input: &Path) -> Result<(), Failure> {
    let same = output == input
        || fs::canonicalize(output).is_ok_and(|output| fs::canonicalize(input).is_ok_and(|input| input == output));
    if same { Err(Failure::Usage(format!("{}: the output would replace the input", output.display()))) } else { Ok(()) }
}

/// Writes `text` to `path`. A file gets its name when all of it is written, so that nobody finds a part; devices are written as they are.
///
/// # Errors
/// What the system says, with the path. What was there before stays.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let is_no_file = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
    let written = if is_no_file { fs::write(path, text) } else { write_then_rename(path, text) };
    written.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn write_then_rename(path: &Path, text: &str) -> io::Result<()> {
    // A link stays a link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = OsString::from(path.as_os_str());
    name.push(format!(".{}.part", std::process::id()));
    let part = Path::new(&name);
    let written = fs::write(part, text).and_then(|()| fs::rename(part, &path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(part);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty directory of a test, gone with the value.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("mmkit-{test}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_else_is_left() {
        let directory = Scratch::new("replaced");
        let path = directory.0.join("out.csv");
        for text in ["first", "second"] {
            write(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1);
    }

    #[test]
    fn an_error_names_the_path() {
        let directory = Scratch::new("named");
        let missing = directory.0.join("missing").join("out.csv");
        let error = write(&missing, "text").unwrap_err();
        assert!(error.to_string().contains("out.csv"), "{error}");
        assert!(write(&directory.0, "text").is_err(), "a directory");
    }

    #[test]
    fn the_input_is_spared_under_another_name_too() {
        let directory = Scratch::new("spared");
        let input = directory.0.join("input");
        fs::write(&input, "precious").unwrap();
        assert!(spare_input(&input, &input).is_err());
        assert!(spare_input(&directory.0.join(".").join("input"), &input).is_err());
        assert!(spare_input(&directory.0.join("output"), &input).is_ok());
    }
}
