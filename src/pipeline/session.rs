//! A lane's AWS clients, and the proof that their credentials are the lane's own.
//!
//! Everything that reads or writes a lane works through one session: nothing is read from or sent
//! to an account other than the lane's, and what reads the hub shares one quota.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use tokio::time::Instant;

use super::limiter::{Limiter, SharedLimiter};
use crate::{
    aws::{AssumeRole, Aws, AwsError, LaneClients},
    record::Lane,
};

/// `GetFindings` requests per second and burst (API Reference, "Throttling limits").
const GET_FINDINGS_PER_SECOND: f64 = 3.0;
const GET_FINDINGS_BURST: u32 = 6;

/// See the module.
pub struct LaneSession {
    aws: Arc<Aws>,
    lane: Lane,
    role: Option<AssumeRole>,
    clients: RwLock<LaneClients>,
    verified: AtomicBool,
    hub_reads: SharedLimiter,
}

impl LaneSession {
    /// Builds the clients; calls nothing.
    pub async fn new(aws: Arc<Aws>, lane: Lane, role: Option<AssumeRole>) -> Self {
        let clients = RwLock::new(aws.lane(&lane, role.as_ref()).await);
        let hub_reads = Limiter::new(GET_FINDINGS_PER_SECOND, GET_FINDINGS_BURST, Instant::now());
        Self {
            aws,
            lane,
            role,
            clients,
            verified: AtomicBool::new(false),
            hub_reads: SharedLimiter::new(hub_reads),
        }
    }

    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// The clients, once their account is known to be the lane's.
    pub async fn clients(&self) -> Result<LaneClients, AwsError> {
        let clients = self.unverified();
        if !self.verified.load(Ordering::Acquire) {
            clients.check_account().await?;
            self.verified.store(true, Ordering::Release);
        }
        Ok(clients)
    }

    /// Loads the credentials anew: after AWS called them expired or invalid.
    pub async fn renew(&self) {
        let clients = self.aws.renewed_lane(&self.lane, self.role.as_ref()).await;
        self.verified.store(false, Ordering::Release);
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = clients;
    }

    /// The lane's quota of `GetFindings`.
    pub fn hub_reads(&self) -> &SharedLimiter {
        &self.hub_reads
    }

    fn unverified(&self) -> LaneClients {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
