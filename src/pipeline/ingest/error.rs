//! Why nothing, or not everything, was taken in.

use std::fmt;

use super::reads::ReadError;
use crate::{
    aws::AwsError,
    queue::QueueError,
    record::Text,
    store::{self, StoreError},
};

/// Why a sweep isn't complete, or a look at some nodes was given up.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error(transparent)]
    Aws(#[from] AwsError),
    #[error("ingest is paused: {0}")]
    Paused(store::Pause),
    #[error("ingest is paused by an operator")]
    PausedByOperator,
    #[error(transparent)]
    Queue(QueueError),
    /// All nodes were read but these.
    #[error("{0}")]
    Skipped(Box<Skipped>),
}

impl From<ReadError> for IngestError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Aws(error) => Self::Aws(error),
            ReadError::Paused => Self::PausedByOperator,
            ReadError::Queue(error) => error.into(),
        }
    }
}

impl From<QueueError> for IngestError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Store(StoreError::Full(pause)) => Self::Paused(pause),
            other => Self::Queue(other),
        }
    }
}

/// Nodes that SSM has failed to tell of, while it told of others.
#[derive(Debug)]
pub struct Skipped {
    pub(super) nodes: usize,
    pub(super) first: Text<128>,
    pub(super) error: AwsError,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, first, error } = self;
        write!(f, "{nodes} of its nodes could not be read, {first} first: {error}")
    }
}
