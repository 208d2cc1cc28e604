//! Deliberate ends of the machine, for testing that each is reported: `mmkit.die=null|stack|text|panic`.

use core::hint::black_box;
use core::ptr;

use crate::exit;

/// A way to die.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Death {
    /// A read of address 0, which is not mapped.
    Null,
    /// A recursion without end, into the guard page.
    Stack,
    /// A write to code.
    Text,
    /// A panic of Rust's.
    Panic,
}

impl Death {
    /// Returns the death of a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [("null", Self::Null), ("stack", Self::Stack), ("text", Self::Text), ("panic", Self::Panic)]
            .into_iter()
            .find_map(|(known, death)| (known == name).then_some(death))
    }

    /// Dies. Comes back only if nothing stopped the attempt, which is reported as a failed check.
    pub(crate) fn die(self) -> ! {
        match self {
            Self::Null => {
                // SAFETY: the page at 0 is not mapped, so the access faults; it has no other effect.
                black_box(unsafe { black_box(ptr::without_provenance::<u8>(0)).read_volatile() });
            }
            Self::Stack => {
                black_box(recurse(0));
            }
            Self::Text => {
                let code = Self::die as *const () as *mut u8;
                // SAFETY: code is mapped read-only and CR0.WP is set, so the access faults; it has no other effect.
                unsafe { black_box(code).write_volatile(0) };
            }
            // A panic site on purpose: it is what is being tested.
            Self::Panic => panic!("asked for on the command line"),
        }
        exit::exit(exit::Outcome::Fail)
    }
}

#[expect(unconditional_recursion, reason = "meant to use up the stack")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + frame[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_are_known_by_name() {
        assert_eq!(Death::named("stack"), Some(Death::Stack));
        assert_eq!(Death::named("boredom"), None);
    }
}
