//! What came of a call or an access.

use std::fmt;

/// What came of a call or an access, as far as a process sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// It returned a value, or an errno as a negative one.
    Returned(i64),
    /// It returned a value and wrote bytes.
    Wrote(i64, Vec<u8>),
    /// A signal came instead.
    Signal {
        /// si_signo.
        signal: u32,
        /// si_code.
        code: i32,
        /// si_addr.
        addr: u64,
    },
}

impl Outcome {
    /// Returns the value of a call that was not refused.
    pub(super) fn success(&self) -> Option<u64> {
        match self {
            Self::Returned(value) | Self::Wrote(value, _) => u64::try_from(*value).ok(),
            Self::Signal { .. } => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |f: &mut fmt::Formatter<'_>, value: i64| {
            if value < 0 { write!(f, "errno {}", -value) } else { write!(f, "{value:#x}") }
        };
        match self {
            Self::Returned(result) => value(f, *result),
            Self::Wrote(result, bytes) => {
                value(f, *result)?;
                let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
                write!(f, " {:?}", bytes.split_at(used).0)
            }
            Self::Signal { signal, code, addr } => write!(f, "signal {signal}, si_code {code}, si_addr {addr:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_and_a_signal_are_no_success_and_an_address_is() {
        assert_eq!(Outcome::Returned(0x1000).success(), Some(0x1000));
        assert_eq!(Outcome::Returned(-12).success(), None);
        assert_eq!(Outcome::Signal { signal: 11, code: 1, addr: 0 }.success(), None);
        assert_eq!(Outcome::Returned(-12).to_string(), "errno 12");
        assert_eq!(Outcome::Signal { signal: 7, code: 2, addr: 16 }.to_string(), "signal 7, si_code 2, si_addr 0x10");
    }
}
