//! Parser of /proc/vmallocinfo.
//!
//! Linux 6.12: mm/vmalloc.c (`vmalloc_info_show`).

use std::fmt;
use std::string::String;

use super::{Cursor, Lines, ParseError};

/// A parsed /proc/vmallocinfo.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmallocInfo {
    lines: Lines<VmallocArea>,
}

/// One area.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmallocArea {
    /// Address range as printed, often hashed; empty where a recording cut it off.
    pub addresses: String,
    /// Size in bytes, the guard page included.
    pub bytes: u64,
    /// Who asked for it, and what for.
    pub details: String,
}

impl VmallocArea {
    /// Returns the function that asked for the area; `None` if the line does not say.
    pub fn caller(&self) -> Option<&str> {
        self.details.split_whitespace().next().filter(|word| word.contains("+0x"))
    }

    /// Returns the number after `key=`, such as `pages` or `N0`.
    pub fn number(&self, key: &str) -> Option<u64> {
        let mut words = self.details.split_whitespace();
        words.find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
    }

    /// Returns true if `word` (`vmalloc`, `ioremap`, `vmap`) stands in the line.
    pub fn is(&self, word: &str) -> bool {
        self.details.split_whitespace().any(|found| found == word)
    }
}

impl fmt::Display for VmallocArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.addresses.is_empty() {
            write!(f, "{} {}", self.bytes, self.details)
        } else {
            write!(f, "{} {:7} {}", self.addresses, self.bytes, self.details)
        }
    }
}

impl VmallocInfo {
    /// Reads the file's text.
    ///
    /// # Errors
    /// At a line without a size.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let lines = Lines::parse(text, |cursor| if cursor.at_end() { Ok(None) } else { area(cursor).map(Some) })?;
        Ok(Self { lines })
    }

    /// Iterates over the areas.
    pub fn areas(&self) -> impl Iterator<Item = &VmallocArea> {
        self.lines.items()
    }

    /// Returns the number of lines that are not in the kernel's form.
    pub fn nr_verbatim(&self) -> usize {
        self.lines.nr_verbatim()
    }
}

fn area(cursor: &mut Cursor<'_>) -> Result<VmallocArea, ParseError> {
    let has_addresses = cursor.rest().trim_start().starts_with("0x");
    let addresses = if has_addresses { cursor.word("an address range")? } else { "" };
    let addresses = String::from(addresses);
    let bytes = cursor.number("the size of an area")?;
    Ok(VmallocArea { addresses, bytes, details: cursor.rest().trim().into() })
}

impl fmt::Display for VmallocInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn an_area_tells_who_asked_and_what_for() {
        let text = "0x(ptrval)-0x(ptrval)  135168 crypto_init+0x78/0xb0 [crypto] pages=32 vmalloc N0=30 N1=2\n";
        let parsed = VmallocInfo::parse(text).unwrap();
        assert_eq!((parsed.to_string().as_str(), parsed.nr_verbatim()), (text, 0));
        let area = parsed.areas().next().unwrap();
        assert_eq!((area.bytes, area.caller()), (135_168, Some("crypto_init+0x78/0xb0")));
        assert_eq!(["pages", "N0", "N1", "N2"].map(|key| area.number(key)), [Some(32), Some(30), Some(2), None]);
        assert!(area.is("vmalloc") && !area.is("vmap"));
    }

    #[test]
    fn an_area_may_lack_a_caller_and_addresses() {
        let parsed = VmallocInfo::parse("20480 unpurged vm_area\n").unwrap();
        let area = parsed.areas().next().unwrap();
        assert_eq!((area.addresses.as_str(), area.caller(), parsed.nr_verbatim()), ("", None, 0));
        assert_eq!(VmallocInfo::parse("0x1-0x2 big vmap\n").unwrap_err().expected, "the size of an area");
    }
}
