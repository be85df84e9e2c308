//! Format 2 to 3: the tables `Absent`, `Reopening`, `LaneCare` and `Tenure` are new, and a lane's
//! row may say things of its read-back that format 2 doesn't know. Every entry stays what it is.

use super::Step;
use crate::store::{FormatVersion, RawEntry};

pub(super) const STEP: Step =
    Step { from: FormatVersion(2), entry: |entry: RawEntry| vec![entry], counters: |_| {} };
