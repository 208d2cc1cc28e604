//! Small pieces of log lines: literals, numbers, ranges.

use units::{PhysAddr, PhysRange};

/// Reads a line from left to right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan<'a> {
    rest: &'a str,
}

impl<'a> Scan<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// Returns what was not read yet.
    pub(super) const fn rest(&self) -> &'a str {
        self.rest
    }

    /// Skips `literal`.
    pub(super) fn skip(&mut self, literal: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(literal)?;
        Some(())
    }

    /// Skips blanks.
    pub(super) fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Reads `0x` and hexadecimal digits.
    pub(super) fn hex(&mut self) -> Option<u64> {
        self.skip("0x")?;
        self.bare_hex()
    }

    /// Reads hexadecimal digits.
    pub(super) fn bare_hex(&mut self) -> Option<u64> {
        let digits = self.take_while(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(digits, 16).ok()
    }

    /// Reads decimal digits.
    pub(super) fn decimal(&mut self) -> Option<u64> {
        self.take_while(|byte| byte.is_ascii_digit()).parse().ok()
    }

    /// Reads decimal digits with an optional minus sign.
    pub(super) fn signed(&mut self) -> Option<i64> {
        let negative = self.skip("-").is_some();
        let value = i64::try_from(self.decimal()?).ok()?;
        Some(if negative { -value } else { value })
    }

    /// Reads `[0xFIRST-0xLAST]` as first byte and size; the size wraps as the kernel's arithmetic did when it printed it.
    pub(super) fn bracket(&mut self) -> Option<(PhysAddr, u64)> {
        self.skip("[")?;
        self.first_to_last()
    }

    /// Reads `[mem 0xFIRST-0xLAST]`.
    pub(super) fn mem_bracket(&mut self) -> Option<PhysRange> {
        self.skip("[mem ")?;
        let (base, size) = self.first_to_last()?;
        Some(PhysRange::with_len(base, size))
    }

    fn first_to_last(&mut self) -> Option<(PhysAddr, u64)> {
        let first = self.hex()?;
        self.skip("-")?;
        let last = self.hex()?;
        self.skip("]")?;
        Some((PhysAddr::new(first), last.wrapping_sub(first).wrapping_add(1)))
    }

    fn take_while(&mut self, wanted: impl Fn(&u8) -> bool) -> &'a str {
        let len = self.rest.bytes().take_while(|byte| wanted(byte)).count();
        let (taken, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }
}

/// Returns the message of a log line: without syslog prefix, level, time stamp and task or CPU.
pub(super) fn message(line: &str) -> &str {
    let line = match line.split_once(" kernel: ") {
        Some((_, rest)) if !line.starts_with(['[', '<']) => rest,
        _ => line,
    };
    let line = match line.strip_prefix('<').and_then(|level| level.split_once('>')) {
        Some((level, rest)) if level.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => line,
    };
    let Some(rest) = strip_field(line, |byte| byte.is_ascii_digit() || b" .".contains(&byte)) else { return line };
    strip_field(rest, |byte| byte.is_ascii_digit() || b" TC".contains(&byte)).unwrap_or(rest)
}

/// Strips `[field] ` if every byte of the field is of the given kind.
fn strip_field(line: &str, kind: impl Fn(u8) -> bool) -> Option<&str> {
    let (field, rest) = line.strip_prefix('[')?.split_once(']')?;
    if field.is_empty() || !field.bytes().all(kind) {
        return None;
    }
    Some(rest.strip_prefix(' ').unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_prefix_is_stripped() {
        let lines = [
            "[    0.012297] memblock_add: x",
            "<6>[    0.012297] memblock_add: x",
            "[    0.012297][    T0] memblock_add: x",
            "Nov 22 16:00:00 host kernel: [    0.012297] memblock_add: x",
            "Nov 22 16:00:00 host kernel: memblock_add: x",
            "memblock_add: x",
        ];
        for line in lines {
            assert_eq!(message(line), "memblock_add: x");
        }
        assert_eq!(message("[    0.1]  memory.cnt  = 0x1"), " memory.cnt  = 0x1");
    }

    #[test]
    fn a_size_that_wrapped_is_recovered() {
        let mut scan = Scan::new("[0x0001000000000000-0x0000fffffffffffe] caller");
        assert_eq!(scan.bracket(), Some((PhysAddr::new(1 << 48), u64::MAX)));
        assert_eq!(scan.rest(), " caller");
    }
}
