//! `pause` and `resume`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    admin::{
        command::{Caller, Command, Refusal},
        handler::Admin,
        status::PauseStatus,
    },
    queue::PauseWhat,
    record::{Lane, Text},
};

/// Lanes that a refusal names.
const LANES_NAMED_MAX: usize = 5;

/// Pauses delivery, ingest or both, of one lane or of all.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseLanes {
    pub what: Vec<PauseWhat>,
    pub lane: Option<Lane>,
    pub reason: Text<256>,
}

/// Takes pauses back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeLanes {
    pub what: Vec<PauseWhat>,
    pub lane: Option<Lane>,
}

/// What a change came to, and what is paused after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseAnswer {
    /// What is in another state than before.
    pub changed: Vec<PauseWhat>,
    /// All that is paused now.
    pub pauses: Vec<PauseStatus>,
}

impl Command for PauseLanes {
    const NAME: &'static str = "pause";
    type Answer = PauseAnswer;

    fn audited(&self) -> Option<Value> {
        Some(json!(self))
    }

    async fn run(self, admin: &Admin, caller: Caller) -> Result<PauseAnswer, Refusal> {
        let Self { what, lane, reason } = self;
        let known = admin.known_lanes();
        if let Some(lane) = lane.as_ref().filter(|lane| !known.contains(lane)) {
            return Err(no_such_lane(lane, &known));
        }
        let mut changed = Vec::new();
        for what in what {
            if admin.queues().pause(what, lane.clone(), caller.uid, reason.clone()).await? {
                tell("paused by an operator", what, lane.as_ref(), caller);
                changed.push(what);
            }
        }
        Ok(PauseAnswer { changed, pauses: PauseStatus::all(admin.queues()) })
    }
}

impl Command for ResumeLanes {
    const NAME: &'static str = "resume";
    type Answer = PauseAnswer;

    fn audited(&self) -> Option<Value> {
        Some(json!(self))
    }

    async fn run(self, admin: &Admin, caller: Caller) -> Result<PauseAnswer, Refusal> {
        let mut changed = Vec::new();
        for what in self.what {
            if admin.queues().resume(what, self.lane.clone()).await? {
                tell("resumed by an operator", what, self.lane.as_ref(), caller);
                changed.push(what);
            }
        }
        Ok(PauseAnswer { changed, pauses: PauseStatus::all(admin.queues()) })
    }
}

fn tell(news: &str, what: PauseWhat, lane: Option<&Lane>, caller: Caller) {
    let lane = lane.map_or("all".into(), ToString::to_string);
    tracing::info!(%what, lane, uid = caller.uid, "{news}");
}

fn no_such_lane(lane: &Lane, known: &[Lane]) -> Refusal {
    let mut names: Vec<String> = known.iter().take(LANES_NAMED_MAX).map(Lane::to_string).collect();
    if known.len() > LANES_NAMED_MAX {
        names.push(format!("{} more", known.len() - LANES_NAMED_MAX));
    }
    Refusal::usage(format!("there is no lane {lane}; there are {}", names.join(", ")))
}
