//! Small readers for text inputs: numbers in the kernel's notation, lines with their numbers.

use units::{PhysAddr, PhysRange};

/// Splits a hexadecimal number with an optional `0x` off the front; `None` if there is no digit or it exceeds 64 bits.
pub(super) fn take_hex(text: &str) -> Option<(u64, &str)> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let end = digits.bytes().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(digits.len());
    let (number, rest) = digits.split_at_checked(end)?;
    Some((u64::from_str_radix(number, 16).ok()?, rest))
}

/// Splits `START-LAST`, both hexadecimal and inclusive, off the front.
///
/// A range whose last byte lies below its first is empty; the highest byte of the address space is cut off, because a half-open
/// range cannot hold it.
pub(super) fn take_range(text: &str) -> Option<(PhysRange, &str)> {
    let (start, rest) = take_hex(text)?;
    let (last, rest) = take_hex(rest.strip_prefix('-')?)?;
    let start = PhysAddr::new(start);
    Some((PhysRange::new(start, PhysAddr::new(last).saturating_add(1)), rest))
}

/// Splits a size off the front: decimal, `0x` hexadecimal or `0` octal, with one of the suffixes K M G T P E (Linux: memparse).
///
/// `None` if there is no digit or the product exceeds 64 bits.
pub fn take_size(text: &str) -> Option<(u64, &str)> {
    let (number, rest) = take_number(text)?;
    let shift = match rest.bytes().next().map(|byte| byte.to_ascii_uppercase()) {
        Some(b'K') => 10,
        Some(b'M') => 20,
        Some(b'G') => 30,
        Some(b'T') => 40,
        Some(b'P') => 50,
        Some(b'E') => 60,
        _ => return Some((number, rest)),
    };
    Some((number.checked_mul(1 << shift)?, rest.get(1..)?))
}

/// Splits a number in C notation off the front.
pub(super) fn take_number(text: &str) -> Option<(u64, &str)> {
    let (radix, digits) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None if text.starts_with('0') => (8, text),
        None => (10, text),
    };
    let end = digits.bytes().position(|byte| !char::from(byte).is_digit(radix)).unwrap_or(digits.len());
    let (number, rest) = digits.split_at_checked(end)?;
    Some((u64::from_str_radix(number, radix).ok()?, rest))
}

/// Iterates over lines with their numbers, from 1.
pub(super) fn numbered_lines(text: &str) -> impl Iterator<Item = (u32, &str)> {
    (1..=u32::MAX).zip(text.lines())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_c_notation_and_suffixes() {
        assert_eq!(take_size("64M$256M"), Some((64 << 20, "$256M")));
        assert_eq!(take_size("0x10k"), Some((16 << 10, "")));
        assert_eq!(take_size("010"), Some((8, "")));
        assert_eq!(take_size("0@1"), Some((0, "@1")));
        assert_eq!(take_size("99999999E"), None);
        assert_eq!(take_size("M"), None);
        assert_eq!(take_size("0x"), None);
    }

    #[test]
    fn an_inclusive_range_becomes_half_open() {
        let (range, rest) = take_range("0x1000-0x1fff] usable").unwrap();
        assert_eq!((range.len(), rest), (0x1000, "] usable"));
        assert!(take_range("10-f:").unwrap().0.is_empty());
        assert_eq!(take_range("10-"), None);
    }
}
