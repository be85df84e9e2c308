//! ASFF as the hub reads it: its shapes, and the rules that Security Hub states in prose.
//!
//! Strict on purpose: what is legal but of no use to a provider (retired fields, fields that the
//! service fills, resource details of a kind that no patch finding has) is refused, so that sending
//! it is noticed.

mod check;
mod rules;
mod shapes;

pub(super) use rules::complaints;
pub(super) use shapes::Finding;
