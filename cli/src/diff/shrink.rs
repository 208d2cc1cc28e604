//! Fewer calls that show the same kind of difference.

use page_allocator::Hooks;

use super::operation::Operation;
use super::{Difference, Session};
use crate::failure::Failure;

/// Runs that shrinking may take.
const RUNS: usize = 400;

/// Leaves calls out, many at first, as long as a difference stays.
pub(super) fn shrink<H: Hooks>(
    session: &Session<'_, '_, H>,
    failing: &[Operation],
    difference: Difference,
) -> Result<(Vec<Operation>, Difference), Failure> {
    let mut best = failing.to_vec();
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
            match session.first_difference(&candidate)? {
                Some(difference) => {
                    best = candidate.into_iter().take(difference.at).collect();
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
    Ok((best, found))
}

/// Prints the calls as a test, and what differs behind the last.
pub(super) fn print(operations: &[Operation], difference: &Difference) {
    println!("{}", difference.what);
    println!("#[test]\nfn agrees_with_linux() {{\n    assert_same(&[");
    for operation in operations {
        println!("        Operation::{operation:?},");
    }
    println!("    ]);\n}}");
}
