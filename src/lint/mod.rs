//! A checker of findings in ASFF: what Security Hub would refuse, and what it would take but
//! shouldn't be given.
//!
//! - [`schema`]: the members of a finding and their limits, as the service states them; [`shape`]:
//!   the words that it is written in.
//! - [`walk`]: a value against its shape. [`rules`]: members against each other; [`arn`], [`time`].
//! - [`input`]: findings out of a file of any size, and what a request as a whole may be.
//! - [`json`]: a finding as it is written, repeated members included.
//!
//! Guarantees: pure; never panics, whatever is given; memory is bounded by the largest finding
//! that is looked into, not by the input.
//!
//! Deliberately doesn't know: how patchferry renders findings, and how the simulator judges them.
//! The rules were read from AWS's model and documentation once more, so that a misunderstanding
//! would have to be had twice.

mod arn;
mod input;
mod json;
mod report;
mod rules;
mod schema;
mod shape;
mod time;
mod walk;

pub use input::{Broken, INPUT_BYTES_MAX, Summary, lint};
pub use report::{Level, Place, Remark, Told};

use json::Json;
use report::Remarks;

/// What the hub takes of one finding ("`AwsSecurityFinding`", API Reference: 240 KB), in the
/// smaller reading.
pub const FINDING_BYTES_MAX: usize = 240_000;

/// What is to be said of one finding, given as JSON, at `now` (milliseconds since the epoch).
#[must_use]
pub fn lint_finding(text: &[u8], now_unix_ms: i64) -> Vec<Remark> {
    judge(text, now_unix_ms).1.into_vec()
}

/// The finding as far as it could be read, and what is to be said of it.
fn judge(text: &[u8], now_unix_ms: i64) -> (Option<Json>, Remarks) {
    let mut remarks = Remarks::default();
    let finding = match Json::read(text) {
        Ok(finding) => finding,
        Err(error) => {
            remarks.error(report::Path::ROOT, format!("is no JSON: {error}"));
            return (None, remarks);
        }
    };
    if !matches!(finding, Json::Object(_)) {
        let found = finding.kind();
        remarks.error(report::Path::ROOT, format!("is {found}; a finding is an object"));
        return (Some(finding), remarks);
    }
    let bytes = json::compact_bytes(text);
    if bytes > FINDING_BYTES_MAX {
        let limit = "the hub takes 240 KB of a finding";
        remarks
            .error(report::Path::ROOT, format!("has {bytes} bytes without white space; {limit}"));
    }
    walk::object(&report::Path::ROOT, &finding, schema::FINDING, &mut remarks);
    rules::check(&finding, now_unix_ms, &mut remarks);
    (Some(finding), remarks)
}

#[cfg(test)]
mod tests;
