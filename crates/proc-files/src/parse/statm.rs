//! Parser of /proc/PID/statm.
//!
//! Linux 6.12: fs/proc/array.c (`proc_pid_statm`).

use super::{Cursor, ParseError};
use crate::statm::Statm;

impl Statm {
    /// Reads the file's text; the fields that Linux always writes as 0 may be anything.
    ///
    /// # Errors
    /// If it is not one line of seven numbers.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(1, text.strip_suffix('\n').unwrap_or(text));
        let mut next = || cursor.number("a number of pages");
        let [size, resident, shared, text, _, data, _] =
            [next()?, next()?, next()?, next()?, next()?, next()?, next()?];
        cursor.end()?;
        Ok(Self { size, resident, shared, text, data })
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn a_line_survives() {
        let text = "723 424 400 11 0 68 0\n";
        let statm = Statm::parse(text).unwrap();
        assert_eq!(statm, Statm { size: 723, resident: 424, shared: 400, text: 11, data: 68 });
        assert_eq!(statm.to_string(), text);
    }

    #[test]
    fn a_missing_number_and_one_too_many_are_refused() {
        assert_eq!(Statm::parse("1 2 3 4 5 6\n").unwrap_err().expected, "a number of pages");
        assert!(Statm::parse("1 2 3 4 5 6 7 8").is_err());
    }
}
