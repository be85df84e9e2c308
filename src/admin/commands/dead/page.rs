//! Reading dead letters, a page at a time.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    admin::{
        command::{Caller, Command, Refusal},
        handler::Admin,
    },
    queue::{CompleteLetter, DeadCursor, DeadFilter, DeadPage},
    record::DeadLetter,
};

/// A page of letters.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetDead {
    pub filter: DeadFilter,
    pub from: Option<DeadCursor>,
}

impl Command for GetDead {
    const NAME: &'static str = "dead_page";
    type Answer = DeadPage<DeadLetter>;

    fn audited(&self) -> Option<Value> {
        None
    }

    async fn run(self, admin: &Admin, _: Caller) -> Result<Self::Answer, Refusal> {
        Ok(admin.queues().dead_page(self.filter, self.from).await?)
    }
}

/// A page of letters with all that belongs to them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetCompleteDead {
    pub filter: DeadFilter,
    pub from: Option<DeadCursor>,
}

impl Command for GetCompleteDead {
    const NAME: &'static str = "complete_dead_page";
    type Answer = DeadPage<CompleteLetter>;

    fn audited(&self) -> Option<Value> {
        None
    }

    async fn run(self, admin: &Admin, _: Caller) -> Result<Self::Answer, Refusal> {
        Ok(admin.queues().complete_dead_page(self.filter, self.from).await?)
    }
}
