//! The ladder of format versions: each step turns a store of version n into one of n + 1.
//!
//! A step is frozen once released: it has its own copy of the shapes it reads and writes, and
//! never uses those of `record`, which go on changing. Its writes and the new version number are
//! one durable batch, so a kill leaves the old version or the new one, nothing between. Version 1
//! is the first, so there is no step yet.
//!
//! Only [`migrate`] turns an opened store into one that opens queues.

use crate::store::{Current, FormatVersion, OpenError, Opened};

/// A step: `from` its version to the next.
pub struct Step {
    pub from: FormatVersion,
    pub run: fn(&mut Opened) -> Result<(), OpenError>,
}

/// All steps, lowest first. `LADDER[i]` goes from version `i + 1` to `i + 2`.
const LADDER: &[Step] = &[];

/// Brings a store to the current format.
pub fn migrate(mut opened: Opened) -> Result<Current, OpenError> {
    for step in LADDER {
        if opened.version() == step.from {
            tracing::info!(from = step.from.0, to = step.from.0 + 1, "migrating the store");
            (step.run)(&mut opened)?;
        }
    }
    Current::certify(opened)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::FORMAT_VERSION;

    #[test]
    fn the_ladder_reaches_the_current_format_without_a_gap() {
        for (index, step) in LADDER.iter().enumerate() {
            assert_eq!(step.from.0 as usize, index + 1);
        }
        assert_eq!(LADDER.len() + 1, FORMAT_VERSION.0 as usize);
    }
}
