//! The commands, one file each, and the table by which a request finds its own.
//!
//! To add one: a file with a type that implements [`Command`], and a line in [`table`].

pub mod backup;
pub mod dead;
pub mod ingest;
pub mod pause;
pub mod receipt;
pub mod reconcile;
pub mod retire;
pub mod status;

use serde_json::Value;

use super::{
    command::{Caller, Command, Refusal},
    handler::{Admin, Encoded},
};

/// Makes the dispatch and the largest request from the list of commands.
macro_rules! table {
    ($($command:ty),+ $(,)?) => {
        /// Bytes of the longest request that any command takes.
        pub(super) const REQUEST_BYTES_MAX: usize = {
            let mut most = 0;
            $(if <$command>::REQUEST_BYTES_MAX > most { most = <$command>::REQUEST_BYTES_MAX; })+
            most
        };

        pub(super) async fn dispatch(
            admin: &Admin,
            caller: Caller,
            name: &str,
            arguments: Value,
            request_bytes: usize,
        ) -> Result<Encoded, Refusal> {
            match name {
                $(<$command>::NAME => {
                    let command: $command = read::<$command>(arguments, request_bytes)?;
                    admin.run_encoded(command, caller).await
                })+
                other => Err(Refusal::usage(format!(
                    "the daemon knows no command {other:?}: it is older than this patchferry, \
                     restart it"
                ))),
            }
        }
    };
}

table![
    status::GetStatus,
    dead::GetDead,
    dead::GetCompleteDead,
    dead::PreviewRedrive,
    dead::RedriveDead,
    dead::DropDead,
    pause::PauseLanes,
    pause::ResumeLanes,
    receipt::GetReceipt,
    reconcile::ReconcileLane,
    retire::RetireLane,
    ingest::BeginIngest,
    ingest::IngestLines,
    ingest::EndIngest,
    backup::BackUp,
];

fn read<C: Command>(arguments: Value, request_bytes: usize) -> Result<C, Refusal> {
    if request_bytes > C::REQUEST_BYTES_MAX {
        return Err(Refusal::usage(format!(
            "a request of {request_bytes} bytes is over the limit of {} for `{}`",
            C::REQUEST_BYTES_MAX,
            C::NAME
        )));
    }
    serde_json::from_value(arguments).map_err(|error| {
        Refusal::usage(format!(
            "the daemon makes no sense of `{}`: {error}; if it is older than this patchferry, \
             restart it",
            C::NAME
        ))
    })
}
