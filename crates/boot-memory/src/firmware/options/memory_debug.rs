//! Options that check or clear the page allocator's memory, and the one about huge pages.
//!
//! Linux 6.12: mm/mm_init.c (`init_mem_debugging_and_hardening`, early_init_on_alloc), mm/page_poison.c, mm/debug_page_alloc.c,
//! mm/page_owner.c, mm/fail_page_alloc.c, lib/fault-inject.c (setup_fault_attr), mm/huge_memory.c (setup_transparent_hugepage), lib/kstrtox.c (`kstrtobool`).

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
    /// `fail_page_alloc=`: let requests for pages fail from the end of the boot on.
    pub fail_page_alloc: Option<FailPageAlloc>,
}

/// `fail_page_alloc=INTERVAL,PROBABILITY,SPACE,TIMES`, as far as it can be asked for: every request fails (interval 1, probability 100,
/// space 0) until `times` did.
///
/// Requests of every order fail, and those that may reclaim or use high memory too, as with Linux's min-order of 0 and its ignore-gfp-wait
/// and ignore-gfp-highmem off. Those with `__GFP_NOFAIL` do not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FailPageAlloc {
    /// Number of failures; `u64::MAX` for no end.
    pub times: u64,
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

pub(super) const NAMES: [&str; 10] = [
    "page_poison",
    "init_on_alloc",
    "init_on_free",
    "debug_pagealloc",
    "page_owner",
    "transparent_hugepage",
    "slab_debug",
    "slub_debug",
    "slab_nomerge",
    "fail_page_alloc",
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
        if token.is("fail_page_alloc") {
            self.fail_page_alloc = FailPageAlloc::parse(token.value.unwrap_or_default())?;
            return Ok(true);
        }
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

impl FailPageAlloc {
    /// Reads the four numbers; a probability of 0 lets nothing fail.
    fn parse(value: &str) -> Result<Option<Self>, &'static str> {
        const FORM: &str = "INTERVAL,PROBABILITY,SPACE,TIMES, four decimal numbers, with TIMES -1 for no end";
        const TAKEN: &str = "interval 0 or 1, probability 0 or 100 and space 0: every request fails until TIMES did; none is left to chance";
        let mut numbers = value.split(',');
        let mut next = || numbers.next().ok_or(FORM);
        let [interval, probability, space] =
            [next()?, next()?, next()?].map(|number| number.parse::<u64>().map_err(|_| FORM));
        let times = match next()? {
            "-1" => u64::MAX,
            times => times.parse::<u32>().map_err(|_| FORM)?.into(),
        };
        if numbers.next().is_some() {
            return Err(FORM);
        }
        match (interval?, probability?, space?) {
            (_, 0, _) => Ok(None),
            (0 | 1, 100, 0) => Ok(Some(Self { times })),
            _ => Err(TAKEN),
        }
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
    extern crate std;

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
            fail_page_alloc: None,
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
    fn page_faults_are_injected_one_after_the_other_or_not_at_all() {
        let read = |text| BootOptions::parse(text).map(|options| options.debug.fail_page_alloc.map(|fail| fail.times));
        assert_eq!(read("fail_page_alloc=1,100,0,3"), Ok(Some(3)));
        assert_eq!(read("fail_page_alloc=0,100,0,-1"), Ok(Some(u64::MAX)));
        assert_eq!(read("fail_page_alloc=7,0,9,-1"), Ok(None));
        for text in ["10,100,0,-1", "1,50,0,-1", "1,101,0,-1", "1,100,4096,-1"] {
            let option = std::format!("fail_page_alloc={text}");
            assert!(BootOptions::parse(&option).unwrap_err().expected.starts_with("interval 0 or 1"), "{text}");
        }
        for text in [
            "",
            "1",
            "1,100,0",
            "1,100,0,-2",
            "1,100,0,",
            "1,100,0,1,1",
            "-1,100,0,1",
            "x,100,0,1",
            "1,100,0,4294967296",
        ] {
            let option = std::format!("fail_page_alloc={text}");
            assert!(BootOptions::parse(&option).unwrap_err().expected.starts_with("INTERVAL,"), "{text}");
        }
        assert!(BootOptions::parse("fail_page_alloc").is_err());
        assert_eq!(BootOptions::parse("fail_page_alloc=1,100,0,3").unwrap().unknown().count(), 0);
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
