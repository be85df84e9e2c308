//! The simulator keeps the contract that the product's tests lean on: each rule of the real
//! services is enforced on the real SDK clients, and each fault does what its name says.

mod asff;
mod faults;
mod fleet;
mod hub;
mod linted;
mod rig;
mod sqs;
mod sts;
