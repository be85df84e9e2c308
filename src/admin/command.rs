//! What a command of the operator is: arguments in, an answer or a refusal out.
//!
//! Every command is a type that implements [`Command`], in a file of its own below
//! [`commands`](super::commands), with a line in the table there. The daemon runs it for whoever
//! asks over the socket; the command line runs the very same code itself when no daemon runs.
//!
//! On the wire a request is one line of JSON, `{"command": NAME, "arguments": {…}}`, and so is
//! its answer: `{"done": …}` or `{"refused": {"kind": …, "text": …}}`. What is large goes in
//! pages: the answer has a cursor, and the next request begins there.

use std::{future::Future, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::handler::Admin;
use crate::queue::QueueError;

/// Bytes of a request, unless its command needs more.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// A daemon that takes longer to answer is stuck, unless the command says otherwise.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// See the module.
pub trait Command: Serialize + DeserializeOwned + Send + 'static {
    const NAME: &'static str;
    /// Of the whole line.
    const REQUEST_BYTES_MAX: usize = REQUEST_BYTES_MAX;
    const ANSWER_TIME_MAX: Duration = ANSWER_TIME_MAX;

    type Answer: Serialize + DeserializeOwned + Send;

    /// The arguments as the audit log is to keep them; `None` for a command that only looks.
    fn audited(&self) -> Option<Value>;

    /// Does it. What it changes must be on disk when this returns.
    fn run(
        self,
        admin: &Admin,
        caller: Caller,
    ) -> impl Future<Output = Result<Self::Answer, Refusal>> + Send;
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    /// Of the process, if the system tells.
    pub pid: Option<i32>,
}

impl Caller {
    /// This process: whoever runs a command while no daemon does.
    pub fn this_process() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self { uid: rustix::process::geteuid().as_raw(), pid: Some(pid) }
    }
}

/// Why a command was not carried out, in a word for the exit code and in words for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    pub kind: RefusalKind,
    /// What happened, to what, and what to do next.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The request makes no sense, or asks for what there can't be.
    Usage,
    /// Not in the state in which things are now.
    NotNow,
    /// The store can't be read or written.
    Store,
    /// A file can't be read or written.
    Io,
}

impl Refusal {
    pub fn new(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(RefusalKind::Usage, text)
    }
}

impl From<QueueError> for Refusal {
    fn from(error: QueueError) -> Self {
        let mut text = error.to_string();
        if let QueueError::Decode(cause) = &error {
            text = format!("{text}: {cause}");
        }
        Self::new(RefusalKind::Store, text)
    }
}

/// A request as it is on the wire.
#[derive(Serialize, Deserialize)]
pub(super) struct Request<A> {
    pub command: String,
    pub arguments: A,
}

/// An answer as it is on the wire.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Response<A> {
    Done(A),
    Refused(Refusal),
}
