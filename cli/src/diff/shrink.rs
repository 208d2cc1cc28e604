//! Fewer calls that show the same kind of difference.

use page_allocator::Hooks;

use super::{Difference, Session, Trial};
use crate::failure::Failure;

/// Runs that shrinking may take.
const RUNS: usize = 400;

/// Leaves calls out, many at first, as long as a difference stays.
pub(super) fn shrink<H: Hooks + Sync>(
    session: &Session<'_, '_, H>,
    failing: &Trial,
    difference: Difference,
) -> Result<(Trial, Difference), Failure> {
    let (scarcity, theme) = (failing.scarcity, failing.theme);
    let mut best: Vec<_> = failing.operations.iter().take(difference.at).copied().collect();
    let mut found = difference;
    let mut runs = 0;
    let mut chunk = best.len().div_ceil(2);
    while chunk > 0 && runs < RUNS {
        let mut start = 0;
        let mut shorter = false;
        while start < best.len() && runs < RUNS {
            let end = (start + chunk).min(best.len());
            let candidate: Vec<_> = best.iter().take(start).chain(best.iter().skip(end)).copied().collect();
            runs += 1;
            let candidate = Trial { scarcity, theme, operations: candidate };
            match session.first_difference(&candidate)? {
                Some(difference) => {
                    best = candidate.operations.into_iter().take(difference.at).collect();
                    found = difference;
                    shorter = true;
                }
                None => start = end,
            }
        }
        if !shorter || chunk > 1 {
            chunk /= 2;
        }
    }
    Ok((Trial { scarcity, theme, operations: best }, found))
}

/// Prints the calls as a test, and what differs behind the last.
pub(super) fn print(trial: &Trial, difference: &Difference) {
    println!("{}\n{}", difference.what, trial.scarcity);
    println!("#[test]\nfn agrees_with_linux() {{\n    assert_same(&[");
    for operation in &trial.operations {
        println!("        Operation::{operation:?},");
    }
    println!("    ]);\n}}");
}
