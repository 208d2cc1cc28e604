//! Kernel options that are added to a recorded boot: which of them a recording can take, and what they come to with its own.

use boot_memory::firmware::{BootOptions, OptionToken, TransparentHugepage, option_tokens};
use page_allocator::layout::MovableRule;

use super::kernel_facts::Architecture;

/// An option that cannot be added to a recorded boot.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// The option is malformed.
    #[error("{0}")]
    Malformed(String),
    /// The option makes no sense on a recording.
    #[error("--append {option}: {reason}")]
    Refused {
        /// As written.
        option: String,
        /// Why, and what is taken.
        reason: &'static str,
    },
}

/// Options whose last mention counts, wherever it is.
const OVERRIDING: [&str; 4] = ["kernelcore", "movablecore", "movable_node", "transparent_hugepage"];
/// Options that a recording cannot take, with the reason.
const REFUSED: [(&str, &str); 11] = [
    ("numa", OTHER_REQUESTS),
    ("cma", OTHER_REQUESTS),
    ("page_poison", NO_ALLOCATOR),
    ("init_on_alloc", NO_ALLOCATOR),
    ("init_on_free", NO_ALLOCATOR),
    ("debug_pagealloc", NO_ALLOCATOR),
    ("page_owner", OTHER_REQUESTS),
    ("slab_debug", NO_ALLOCATOR),
    ("slub_debug", NO_ALLOCATOR),
    ("slab_nomerge", NO_ALLOCATOR),
    ("fail_page_alloc", NO_ALLOCATOR),
];
const OTHER_REQUESTS: &str = "with it the recorded kernel would have made other boot-time requests than those of its log; \
    expected mem=, memmap=, kernelcore=, movablecore=, movable_node or transparent_hugepage=";
const NO_ALLOCATOR: &str = "a recorded boot ends at the hand-over to the page allocator, which this option is about; \
    use it with --machine";
const NO_MAP: &str = "kernels of this architecture do not read it; expected mem=";

/// What `append` comes to on a recorded boot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Appended<'a> {
    /// The added options alone.
    pub(super) options: BootOptions<'a>,
}

impl<'a> Appended<'a> {
    /// Reads the options in `append`.
    ///
    /// # Errors
    /// One whose value is not of its form, or that a recording of the architecture cannot take.
    pub(super) fn parse(append: &'a str, architecture: Architecture) -> Result<Self, AppendError> {
        let options = BootOptions::parse(append).map_err(|error| AppendError::Malformed(error.to_string()))?;
        let refusal = |token: &OptionToken<'_>| {
            let refused = REFUSED.iter().find(|(name, _)| token.is(name)).map(|(_, reason)| *reason);
            refused.or((architecture == Architecture::Arm64 && token.is("memmap")).then_some(NO_MAP))
        };
        let refused = option_tokens(append).find_map(|token| Some((token, refusal(&token)?)));
        match refused {
            Some((token, reason)) => Err(AppendError::Refused { option: token.text.to_owned(), reason }),
            None => Ok(Self { options }),
        }
    }

    /// Chooses the rule for ZONE_MOVABLE from the recorded command line and these options.
    pub(super) fn movable_rule(&self, recorded: &str) -> MovableRule {
        self.with_recorded(recorded, |options| MovableRule::from(options))
    }

    /// Returns whether the kernel prepares for transparent huge pages.
    pub(super) fn transparent_hugepage(&self, recorded: &str) -> TransparentHugepage {
        self.with_recorded(recorded, |options| options.transparent_hugepage)
    }

    /// Reads the recorded options with these behind them. The kernel has read past those that it could not use.
    fn with_recorded<R>(&self, recorded: &str, read: impl FnOnce(&BootOptions<'_>) -> R) -> R {
        let usable = |token: &OptionToken<'_>| {
            OVERRIDING.iter().any(|option| token.is(option)) && BootOptions::parse(token.text).is_ok()
        };
        let recorded = option_tokens(recorded).filter(usable).map(|token| token.text);
        let command_line: Vec<&str> = recorded.chain([self.options.command_line()]).collect();
        read(&BootOptions::parse(&command_line.join(" ")).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use boot_memory::firmware::CoreSize;

    use super::*;

    fn parse(append: &str) -> Result<Appended<'_>, AppendError> {
        Appended::parse(append, Architecture::X86_64)
    }

    #[test]
    fn added_options_count_over_recorded_ones() {
        let rule = |recorded: &str, append: &str| parse(append).unwrap().movable_rule(recorded);
        let kernelcore = |size| MovableRule::Sizes { kernelcore: Some(CoreSize::Bytes(size)), movablecore: None };
        assert_eq!(rule("quiet kernelcore=1G", "mem=2G"), kernelcore(1 << 30));
        assert_eq!(rule("quiet kernelcore=1G", "kernelcore=512M"), kernelcore(512 << 20));
        assert_eq!(rule("kernelcore=much", ""), MovableRule::NONE, "the kernel reads past it");
        let huge = |recorded: &str| parse("transparent_hugepage=never").unwrap().transparent_hugepage(recorded);
        assert_eq!(huge("transparent_hugepage=always"), TransparentHugepage::Never);
    }

    #[test]
    fn options_that_make_no_sense_are_refused_with_the_reason() {
        for (name, reason) in REFUSED {
            let value = match name {
                "numa" => "off",
                "slab_debug" | "slub_debug" => "FZ",
                "fail_page_alloc" => "1,100,0,1",
                _ => "1",
            };
            let option = format!("quiet {name}={value}");
            let error = parse(&option).unwrap_err().to_string();
            assert_eq!(error, format!("--append {name}={value}: {reason}"));
        }
        assert!(Appended::parse("memmap=1G$1G", Architecture::Arm64).is_err());
        assert!(parse("memmap=1G$1G mem=3G memblock=debug unknown=5").is_ok());
        assert!(matches!(parse("mem=lots"), Err(AppendError::Malformed(_))));
    }
}
