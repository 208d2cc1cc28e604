//! Cursor over the space-separated fields of one line, without allocation on the good path.

use units::{MigrateType, Order, Pfn};

use crate::input_error::quoted;

/// A field that is not what the line's format asks for.
#[derive(Debug)]
pub(crate) struct FieldError {
    pub(crate) found: String,
    pub(crate) expected: &'static str,
}

/// The frame after the last that a machine can have: tables with a place for each frame stay below a gigabyte.
pub(crate) const PFN_LIMIT: u64 = 1 << 32;

/// The fields of a line that were not read yet.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(line: &'a [u8]) -> Self {
        Self { rest: line }
    }

    /// Takes the next field; empty at the end of the line.
    #[inline]
    pub(crate) fn word(&mut self) -> &'a [u8] {
        let length = self.rest.iter().position(|&byte| byte == b' ').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest.split_first().map_or(rest, |(_, rest)| rest);
        word
    }

    /// Takes a decimal number.
    #[inline]
    pub(crate) fn decimal(&mut self, expected: &'static str) -> Result<u64, FieldError> {
        let word = self.word();
        parse_decimal(word).ok_or_else(|| wrong(word, expected))
    }

    /// Takes a hexadecimal number of at most 32 bits.
    #[inline]
    pub(crate) fn hex32(&mut self, expected: &'static str) -> Result<u32, FieldError> {
        let word = self.word();
        parse_hex(word).and_then(|raw| u32::try_from(raw).ok()).ok_or_else(|| wrong(word, expected))
    }

    /// Takes a hexadecimal number.
    pub(crate) fn hex(&mut self, expected: &'static str) -> Result<u64, FieldError> {
        let word = self.word();
        parse_hex(word).ok_or_else(|| wrong(word, expected))
    }

    /// Takes all that is left, blanks included.
    pub(crate) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Returns true if nothing is left.
    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes a frame number, or the dash that stands for none.
    #[inline]
    pub(crate) fn pfn_or_dash(&mut self) -> Result<Option<Pfn>, FieldError> {
        if let [b'-', b' ', rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(None);
        }
        self.pfn().map(Some)
    }

    /// Takes a frame number.
    #[inline]
    pub(crate) fn pfn(&mut self) -> Result<Pfn, FieldError> {
        let word = self.word();
        match parse_hex(word) {
            Some(raw) if raw < PFN_LIMIT => Ok(Pfn::new(raw)),
            _ => Err(wrong(word, "a page frame number in hex, below 100000000")),
        }
    }

    /// Takes the order of the block at `pfn`, which must be aligned to it.
    #[inline]
    pub(crate) fn order_of(&mut self, pfn: Pfn) -> Result<Order, FieldError> {
        let word = self.word();
        match parse_decimal(word).and_then(|raw| Order::try_new(raw).ok()) {
            Some(order) if pfn.is_aligned(order) => Ok(order),
            Some(_) => Err(wrong(word, "an order to which the page frame number is aligned")),
            None => Err(wrong(word, "an order from 0 to 13")),
        }
    }

    /// Takes a migratetype in the numbering of kernels without CMA.
    #[inline]
    pub(crate) fn migrate_type(&mut self) -> Result<MigrateType, FieldError> {
        let word = self.word();
        parse_decimal(word)
            .and_then(|raw| u8::try_from(raw).ok())
            .and_then(MigrateType::from_raw_without_cma)
            .ok_or_else(|| wrong(word, "a migratetype from 0 to 4"))
    }

    /// Takes a truth value.
    #[inline]
    pub(crate) fn flag(&mut self) -> Result<bool, FieldError> {
        match self.word() {
            b"0" => Ok(false),
            b"1" => Ok(true),
            word => Err(wrong(word, "0 or 1")),
        }
    }

    /// Checks that nothing is left.
    #[inline]
    pub(crate) fn end(&self) -> Result<(), FieldError> {
        if self.rest.is_empty() { Ok(()) } else { Err(wrong(self.rest, "the end of the line")) }
    }
}

#[cold]
pub(crate) fn wrong(word: &[u8], expected: &'static str) -> FieldError {
    let found = if word.is_empty() { "the end of the line".to_owned() } else { quoted(word) };
    FieldError { found, expected }
}

#[inline]
fn parse_decimal(word: &[u8]) -> Option<u64> {
    if word.is_empty() || word.len() > 19 {
        return None;
    }
    word.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| value * 10 + u64::from(digit))
    })
}

#[inline]
fn parse_hex(word: &[u8]) -> Option<u64> {
    if word.is_empty() || word.len() > 16 {
        return None;
    }
    word.iter().try_fold(0u64, |value, &byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_both_bases() {
        let mut fields = Fields::new(b"120 fff");
        assert_eq!(fields.decimal("a number").unwrap(), 120);
        assert_eq!(fields.hex32("a number").unwrap(), 0xfff);
        assert!(fields.end().is_ok());
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert!(Fields::new(b"99999999999999999999").decimal("a number").is_err());
        assert!(Fields::new(b"123456789").hex32("a number").is_err());
        assert!(Fields::new(b"100000000").pfn().is_err());
    }

    #[test]
    fn an_order_must_fit_the_alignment_of_its_block() {
        let error = Fields::new(b"3").order_of(Pfn::new(4)).unwrap_err();
        assert_eq!(error.found, "\"3\"");
        assert_eq!(Fields::new(b"2").order_of(Pfn::new(4)).unwrap().raw(), 2);
    }

    #[test]
    fn a_missing_field_is_named_the_end_of_the_line() {
        assert_eq!(Fields::new(b"").flag().unwrap_err().found, "the end of the line");
    }
}
