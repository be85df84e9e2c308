//! `status`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::admin::{
    command::{Caller, Command, Refusal},
    handler::Admin,
    status::Status,
};

/// What the daemon does, what waits, and whether anything needs somebody.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetStatus {}

/// The status, and whether a daemon gives it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Given {
    pub running: bool,
    pub status: Status,
}

impl Command for GetStatus {
    const NAME: &'static str = "status";
    type Answer = Given;

    fn audited(&self) -> Option<Value> {
        None
    }

    async fn run(self, admin: &Admin, _: Caller) -> Result<Given, Refusal> {
        Ok(Given { running: admin.host().is_running(), status: admin.host().status().await? })
    }
}
