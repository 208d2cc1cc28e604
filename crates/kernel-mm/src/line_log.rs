//! Cuts written text into the lines of a boot log.

use core::fmt;

use boot_memory::memblock::BootLog;

/// Longest line kept whole; what is longer is cut.
const LINE_BYTES: usize = 256;

/// Writer that passes each finished line on.
pub(crate) struct LineLog<'a> {
    log: &'a mut dyn BootLog,
    line: [u8; LINE_BYTES],
    used: usize,
}

impl<'a> LineLog<'a> {
    pub(crate) fn new(log: &'a mut dyn BootLog) -> Self {
        Self { log, line: [0; LINE_BYTES], used: 0 }
    }

    fn finish_line(&mut self) {
        // Cut at a character's start, so the text is valid; log lines are ASCII anyway.
        let text = core::str::from_utf8(&self.line[..self.used]).unwrap_or("");
        self.log.line(format_args!("{text}"));
        self.used = 0;
    }
}

impl fmt::Write for LineLog<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if byte == b'\n' {
                self.finish_line();
            } else if self.used < LINE_BYTES {
                self.line[self.used] = byte;
                self.used += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::{String, ToString};
    use std::vec::Vec;

    use core::fmt::Write;

    use super::*;

    struct Lines(Vec<String>);

    impl BootLog for Lines {
        fn line(&mut self, args: fmt::Arguments<'_>) {
            self.0.push(args.to_string());
        }
    }

    #[test]
    fn pieces_become_lines_and_an_unfinished_one_waits() {
        let mut lines = Lines(Vec::new());
        let mut log = LineLog::new(&mut lines);
        log.write_str("one ").unwrap();
        log.write_str("line\nanother\nun").unwrap();
        assert_eq!(lines.0, ["one line", "another"]);
    }

    #[test]
    fn a_line_too_long_is_cut() {
        let mut lines = Lines(Vec::new());
        writeln!(LineLog::new(&mut lines), "{:x>300}", 1).unwrap();
        assert_eq!(lines.0[0].len(), LINE_BYTES);
    }
}
