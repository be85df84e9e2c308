//! Events: nodes that something is known to have happened to, between two sweeps.
//!
//! An event is a hint and nothing more: the node's state is read from SSM and accepted durably, and
//! only then is the message deleted. So a message that comes twice, or late, or out of order does no
//! harm, and one whose node can't be read stays in its queue. SSM's events are best effort: sweeps
//! go on and find what none told of.
//!
//! - [`parse`]: what a message says (pure).
//! - [`queue`]: takes messages from one queue, deals them out to the lanes, and ends them.
//! - [`lane`]: reads the nodes of one lane, or has a sweep do so when they are many; [`reading`] is
//!   what the answers come to (pure), [`awaited`] the nodes that a sweep is to see.
//!
//! Guarantees: a message is deleted only after what it told of is on disk, or if it tells nothing
//! that concerns us; at most [`queue::HELD_MESSAGES_MAX`] of a queue are held, hidden from others for
//! as long as they are worked on; a lane that can't be read takes no other lane's room, since its
//! messages go back to the queue.

mod awaited;
mod lane;
pub mod parse;
mod queue;
mod reading;

use std::time::Duration;

use tokio::sync::mpsc;

pub use awaited::Awaited;
pub use lane::LaneEvents;
pub use queue::{EventQueue, EventQueueStatus, Source as QueueSource};

use self::parse::Told;
use crate::{
    metrics::{EventOutcome, Metrics},
    record::Lane,
};

/// Hints that wait for a lane to look at them.
pub const LANE_HINTS_MAX: usize = 1_024;

/// Where a lane's hints go, looked up for each: lanes may come and go.
pub struct Routes(Box<LookUp>);

type LookUp = dyn Fn(&Lane) -> Option<mpsc::Sender<Hint>> + Send + Sync;

impl Routes {
    /// `to` gives nothing for lanes that aren't served.
    pub fn new(to: impl Fn(&Lane) -> Option<mpsc::Sender<Hint>> + Send + Sync + 'static) -> Self {
        Self(Box::new(to))
    }

    fn to(&self, lane: &Lane) -> Option<mpsc::Sender<Hint>> {
        (self.0)(lane)
    }
}

/// A message that was put back comes again after this time; it doubles with each receive.
const PUT_BACK_MIN: Duration = Duration::from_secs(5);
const PUT_BACK_MAX: Duration = Duration::from_secs(15 * 60);
/// While a whole lane can't be read, its messages come again at least this often.
const LANE_PUT_BACK_MAX: Duration = Duration::from_secs(2 * 60);
/// A node that could not be read so often is left to the sweeps: with the times above that is more
/// than half an hour.
const RECEIVES_MAX: u32 = 10;

/// Something that a message tells of a node.
pub struct Hint {
    told: Told,
    message: Message,
}

/// A message that is held. Dropped without a fate it stays hidden for a while and comes again.
struct Message {
    /// In its queue's table.
    number: u64,
    receives: u32,
    fates: mpsc::UnboundedSender<(u64, Fate)>,
}

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Delete,
    /// It comes again after this time.
    PutBack(Duration),
}

impl Message {
    /// It has served its purpose.
    fn done(self, outcome: EventOutcome, metrics: &Metrics) {
        metrics.events[outcome].increment(1);
        // Without its queue's task the message comes again.
        let _ = self.fates.send((self.number, Fate::Delete));
    }

    /// Its lane can't be read: it comes again, however often.
    fn put_back(self, metrics: &Metrics) {
        let delay = self.delay().min(LANE_PUT_BACK_MAX);
        metrics.events[EventOutcome::PutBack].increment(1);
        let _ = self.fates.send((self.number, Fate::PutBack(delay)));
    }

    /// Its node can't be read: it comes again, some times.
    fn put_back_or_give_up(self, metrics: &Metrics) {
        if self.receives >= RECEIVES_MAX {
            return self.done(EventOutcome::GivenUp, metrics);
        }
        let delay = self.delay();
        metrics.events[EventOutcome::PutBack].increment(1);
        let _ = self.fates.send((self.number, Fate::PutBack(delay)));
    }

    fn delay(&self) -> Duration {
        let doublings = self.receives.saturating_sub(1).min(16);
        let longest = PUT_BACK_MIN.saturating_mul(1 << doublings).min(PUT_BACK_MAX);
        longest.mul_f64(1.0 - fastrand::f64() / 4.0)
    }
}
