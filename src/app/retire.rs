//! A way to the hub of a lane that isn't served: the lane's normal delivery, for as long as it
//! takes to close what is open there.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{lanes, settings};
use crate::{
    admin::{
        command::{Refusal, RefusalKind},
        handler::{GivenRole, Way},
    },
    aws::{AssumeRole, Aws},
    config::Config,
    metrics::{LaneState, Metrics},
    pipeline::{
        deliver::{LaneDelivery, LaneView},
        session::{Checks, LaneSession},
    },
    queue::{QueueError, Queues},
    record::Lane,
};

/// How often the outbox is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// If nothing was acknowledged for so long, the command is given up, and can be run again.
const STILL_MAX: Duration = Duration::from_secs(120);

/// What a way is made of.
pub(super) struct Ground<'a> {
    pub config: &'a Config,
    pub aws: Arc<Aws>,
    pub queues: &'a Queues,
    pub metrics: &'a Arc<Metrics>,
}

/// See the module.
struct LaneWay {
    lane: Lane,
    queues: Queues,
    view: watch::Receiver<LaneView>,
    stop: CancellationToken,
    delivery: JoinHandle<Result<(), QueueError>>,
}

/// Opens the way, and waits until the hub may be written to.
pub(super) async fn open(
    ground: Ground<'_>,
    lane: &Lane,
    given: Option<GivenRole>,
) -> Result<Box<dyn Way>, Refusal> {
    let role = role_for(ground.config, lane, given);
    let session = LaneSession::new(ground.aws, lane.clone(), role, Checks::default()).await;
    let (view_sender, view) = watch::channel(LaneView::default());
    let delivery = LaneDelivery {
        session: Arc::new(session),
        queues: ground.queues.clone(),
        metrics: Arc::clone(ground.metrics),
        settings: settings::deliver(ground.config, false),
        view: view_sender,
        preview: None,
    };
    let stop = CancellationToken::new();
    let delivery = tokio::spawn(delivery.run(stop.clone()));
    let queues = ground.queues.clone();
    let mut way = LaneWay { lane: lane.clone(), queues, view, stop, delivery };
    match way.opened().await {
        Ok(()) => Ok(Box::new(way)),
        Err(refusal) => {
            Box::new(way).end().await;
            Err(refusal)
        }
    }
}

/// The role that is given, or else the one that the configuration has for the account.
fn role_for(config: &Config, lane: &Lane, given: Option<GivenRole>) -> Option<AssumeRole> {
    if let Some((role_arn, external_id)) = given {
        return Some(AssumeRole { role_arn, external_id, session_name: lanes::session_name() });
    }
    let mut configured = config.lanes.iter().flatten();
    if let Some(same) = configured.find(|known| known.lane.account == lane.account) {
        return same.role.as_ref().map(lanes::assume_role);
    }
    let discovery = config.discovery.as_ref()?;
    discovery.role_in(lane).as_ref().map(lanes::assume_role)
}

impl LaneWay {
    async fn opened(&mut self) -> Result<(), Refusal> {
        let ended = |_| self::refused("the lane's delivery has ended");
        let view = self
            .view
            .wait_for(|view| view.since.0 != 0 && view.state != LaneState::ReadingBack)
            .await
            .map_err(ended)?
            .clone();
        if view.state == LaneState::Flowing {
            return Ok(());
        }
        Err(refused(&format!(
            "the hub of lane {} can't be written to: {}; nothing was changed. Give a role with \
             --role-arn, or leave its findings open (without --archive)",
            self.lane,
            view.note.as_deref().unwrap_or(view.state.as_str())
        )))
    }

    fn waiting(&self) -> i64 {
        let state = self.queues.lane(&self.lane);
        state.outbox_findings() + state.delayed_findings()
    }

    async fn drained(&mut self) -> Result<(), Refusal> {
        let mut fewest = i64::MAX;
        let mut moved_at = Instant::now();
        loop {
            let waiting = self.waiting();
            if waiting <= 0 {
                return Ok(());
            }
            if waiting < fewest {
                (fewest, moved_at) = (waiting, Instant::now());
            }
            let view = self.view.borrow().clone();
            let stands = matches!(view.state, LaneState::Held(_) | LaneState::Paused);
            if stands || moved_at.elapsed() > STILL_MAX || self.delivery.is_finished() {
                return Err(refused(&format!(
                    "{waiting} findings of lane {} are not closed yet: {}; nothing else was \
                     changed, run the command again to go on",
                    self.lane,
                    view.note.as_deref().unwrap_or("the hub acknowledges nothing")
                )));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

impl Way for LaneWay {
    fn drain(&mut self) -> Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + '_>> {
        Box::pin(self.drained())
    }

    fn end(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            self.stop.cancel();
            let _ = self.delivery.await;
        })
    }
}

fn refused(text: &str) -> Refusal {
    Refusal::new(RefusalKind::NotNow, text)
}
