//! Options that check or clear the page allocator's memory, and the one about huge pages.
//!
//! Linux 6.12: mm/mm_init.c (`init_mem_debugging_and_hardening`, early_init_on_alloc), mm/page_poison.c, mm/debug_page_alloc.c,
//! mm/page_owner.c, mm/huge_memory.c (setup_transparent_hugepage), lib/kstrtox.c (`kstrtobool`).

use super::OptionToken;

/// `transparent_hugepage=`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TransparentHugepage {
    /// Wherever a mapping is large enough.
    #[default]
    Always,
    /// Where a program asks for them.
    Madvise,
    /// Nowhere.
    Never,
}

/// Switches of the page allocator's checks; `None` where the command line does not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryDebug {
    /// `page_poison=`: fill freed pages with a pattern.
    pub page_poison: Option<bool>,
    /// `init_on_alloc=`: clear pages that are handed out.
    pub init_on_alloc: Option<bool>,
    /// `init_on_free=`: clear pages that are freed.
    pub init_on_free: Option<bool>,
    /// `debug_pagealloc=`: make every use of a freed page show.
    pub debug_pagealloc: Option<bool>,
    /// `page_owner=`: record who owns each block.
    pub page_owner: Option<bool>,
}

/// Checks of all slab caches, as `slab_debug=` names them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SlabDebug {
    /// `F`: check frees at once.
    pub consistency: bool,
    /// `Z`: check bytes around each object.
    pub red_zone: bool,
    /// `P`: fill free objects with a pattern.
    pub poison: bool,
    /// `U`: keep who allocated and freed each object.
    pub store_user: bool,
}

pub(super) const NAMES: [&str; 9] = [
    "page_poison",
    "init_on_alloc",
    "init_on_free",
    "debug_pagealloc",
    "page_owner",
    "transparent_hugepage",
    "slab_debug",
    "slub_debug",
    "slab_nomerge",
];

impl SlabDebug {
    /// Reads the flags; without a value all checks run, and `-` switches them off.
    pub(super) fn parse(value: Option<&str>) -> Result<Self, &'static str> {
        let mut debug = Self::default();
        let letters = match value {
            None | Some("") => "FZPU",
            Some("-") => "",
            Some(letters) => letters,
        };
        for letter in letters.bytes() {
            match letter.to_ascii_uppercase() {
                b'F' => debug.consistency = true,
                b'Z' => debug.red_zone = true,
                b'P' => debug.poison = true,
                b'U' => debug.store_user = true,
                _ => return Err("letters of F, Z, P and U, for all caches, or -"),
            }
        }
        Ok(debug)
    }
}

impl MemoryDebug {
    /// Takes an option in; returns false if it is none of these.
    pub(super) fn take(&mut self, token: OptionToken<'_>) -> Result<bool, &'static str> {
        let slots = [
            &mut self.page_poison,
            &mut self.init_on_alloc,
            &mut self.init_on_free,
            &mut self.debug_pagealloc,
            &mut self.page_owner,
        ];
        let Some((_, slot)) = NAMES.into_iter().zip(slots).find(|(name, _)| token.is(name)) else { return Ok(false) };
        *slot = Some(token.value.and_then(parse_bool).ok_or("on, off, y, n, 1 or 0")?);
        Ok(true)
    }
}

/// Reads a switch as `kstrtobool` does: by its first letter, or two of `on` and `off`.
fn parse_bool(value: &str) -> Option<bool> {
    let mut letters = value.bytes().map(|letter| letter.to_ascii_lowercase());
    match (letters.next()?, letters.next()) {
        (b'y' | b't' | b'1', _) | (b'o', Some(b'n')) => Some(true),
        (b'n' | b'f' | b'0', _) | (b'o', Some(b'f')) => Some(false),
        _ => None,
    }
}

impl TransparentHugepage {
    pub(super) fn parse(value: Option<&str>) -> Result<Self, &'static str> {
        match value {
            Some("always") => Ok(Self::Always),
            Some("madvise") => Ok(Self::Madvise),
            Some("never") => Ok(Self::Never),
            _ => Err("always, madvise or never"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::BootOptions;
    use super::*;

    fn debug(command_line: &str) -> MemoryDebug {
        BootOptions::parse(command_line).unwrap().debug
    }

    #[test]
    fn switches_are_read_as_the_kernel_reads_them() {
        let read = debug("page_poison=1 init_on_alloc=on init-on-free=Yes debug_pagealloc=off page_owner=n");
        let expected = MemoryDebug {
            page_poison: Some(true),
            init_on_alloc: Some(true),
            init_on_free: Some(true),
            debug_pagealloc: Some(false),
            page_owner: Some(false),
        };
        assert_eq!(read, expected);
        assert_eq!(debug("quiet"), MemoryDebug::default());
        assert_eq!(debug("page_owner=on page_owner=0").page_owner, Some(false), "the last one counts");
    }

    #[test]
    fn a_switch_needs_a_value_that_is_one() {
        for text in ["page_poison", "page_poison=", "init_on_alloc=o", "debug_pagealloc=2", "page_owner=maybe"] {
            let error = BootOptions::parse(text).unwrap_err();
            assert_eq!((error.text, error.expected), (text, "on, off, y, n, 1 or 0"));
        }
    }

    #[test]
    fn slab_checks_are_letters() {
        let read = |text| BootOptions::parse(text).map(|options| options.slab_debug);
        let all = SlabDebug { consistency: true, red_zone: true, poison: true, store_user: true };
        assert_eq!(read("slab_debug"), Ok(all));
        assert_eq!(read("slub_debug=fzpu"), Ok(all));
        assert_eq!(read("slab_debug slab_debug=-"), Ok(SlabDebug::default()));
        assert_eq!(read("slab-debug=ZP"), Ok(SlabDebug { red_zone: true, poison: true, ..SlabDebug::default() }));
        let error = BootOptions::parse("slab_debug=FZ,dentry").unwrap_err();
        assert_eq!(error.expected, "letters of F, Z, P and U, for all caches, or -");
        assert!(BootOptions::parse("slab_nomerge").unwrap().slab_nomerge);
    }

    #[test]
    fn huge_pages_are_always_on_unless_said_otherwise() {
        let read = |text| BootOptions::parse(text).map(|options| options.transparent_hugepage);
        assert_eq!(read(""), Ok(TransparentHugepage::Always));
        assert_eq!(read("transparent_hugepage=madvise"), Ok(TransparentHugepage::Madvise));
        assert_eq!(read("transparent_hugepage=never"), Ok(TransparentHugepage::Never));
        assert_eq!(read("transparent_hugepage=on").unwrap_err().expected, "always, madvise or never");
    }
}
