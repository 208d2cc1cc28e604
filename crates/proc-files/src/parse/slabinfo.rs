//! Parser of /proc/slabinfo, version 2.1.
//!
//! Linux 6.12: mm/slab_common.c (`cache_show`).

use std::fmt;
use std::string::String;

use super::{Cursor, Lines, ParseError};

/// A parsed /proc/slabinfo.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlabInfo {
    lines: Lines<SlabCache>,
}

/// One cache.
pub type SlabCache = crate::slabinfo::SlabCache<String>;

impl SlabInfo {
    /// Reads the file's text.
    ///
    /// # Errors
    /// At a line that is not a cache with its eleven numbers.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let lines = Lines::parse(text, |cursor| {
            let head = cursor.at_end() || cursor.rest().starts_with('#') || cursor.rest().starts_with("slabinfo - ");
            if head { Ok(None) } else { cache(cursor).map(Some) }
        })?;
        Ok(Self { lines })
    }

    /// Iterates over the caches.
    pub fn caches(&self) -> impl Iterator<Item = &SlabCache> {
        self.lines.items()
    }

    /// Returns the number of lines that are not caches in the kernel's form, the two of the head among them.
    pub fn nr_verbatim(&self) -> usize {
        self.lines.nr_verbatim()
    }
}

fn cache(cursor: &mut Cursor<'_>) -> Result<SlabCache, ParseError> {
    let name = String::from(cursor.word("a cache name")?);
    let [active_objs, num_objs, objsize, objperslab, pagesperslab] = numbers(cursor)?;
    cursor.literal(": tunables")?;
    let tunables = numbers(cursor)?;
    cursor.literal(": slabdata")?;
    let [active_slabs, num_slabs, sharedavail] = numbers(cursor)?;
    cursor.end()?;
    Ok(SlabCache {
        name,
        active_objs,
        num_objs,
        objsize,
        objperslab,
        pagesperslab,
        active_slabs,
        num_slabs,
        tunables,
        sharedavail,
    })
}

fn numbers<const N: usize>(cursor: &mut Cursor<'_>) -> Result<[u64; N], ParseError> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = cursor.number("a number")?;
    }
    Ok(numbers)
}

impl fmt::Display for SlabInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    const HEAD: &str = "slabinfo - version: 2.1\n# name            <active_objs> ...\n";

    #[test]
    fn a_cache_reads_and_prints_in_its_columns() {
        let line = "dentry             10332  10333    192   21    1 : tunables    5    6    7 : slabdata    492    493      9\n";
        let text = HEAD.to_string() + line;
        let parsed = SlabInfo::parse(&text).unwrap();
        assert_eq!((parsed.to_string(), parsed.nr_verbatim()), (text, 2));
        let cache = parsed.caches().next().unwrap();
        assert_eq!(
            (cache.name.as_str(), cache.active_objs, cache.num_objs, cache.objsize),
            ("dentry", 10332, 10333, 192)
        );
        assert_eq!((cache.objperslab, cache.pagesperslab, cache.active_slabs, cache.num_slabs), (21, 1, 492, 493));
    }

    #[test]
    fn a_cache_that_is_cut_off_is_refused_where_it_ends() {
        let error = SlabInfo::parse("dentry 1 2 3 4 5 : tunables 0 0 0 : slabdata 1\n").unwrap_err();
        assert_eq!((error.column, error.found.as_str()), (47, ""));
        assert_eq!(SlabInfo::parse("dentry 1 2 3 4 5 tunables\n").unwrap_err().expected, ": tunables");
    }
}
