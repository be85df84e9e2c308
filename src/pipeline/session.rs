//! A lane's AWS clients, and the proof that their credentials are the lane's own.
//!
//! Everything that reads or writes a lane works through one session: nothing is read from or sent
//! to an account other than the lane's, and what reads the hub shares one quota. Whose the
//! credentials are is asked once for all who wait, and by few lanes at a time ([`Checks`]).

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, Semaphore, watch},
    time::Instant,
};

use super::limiter::{Limiter, SharedLimiter};
use crate::{
    aws::{AssumeRole, Aws, AwsError, LaneClients},
    record::Lane,
};

/// `GetFindings` requests per second and burst (API Reference, "Throttling limits").
const GET_FINDINGS_PER_SECOND: f64 = 3.0;
const GET_FINDINGS_BURST: u32 = 6;

/// Lanes whose credentials are obtained and checked at a time: five hundred that start together
/// don't call STS together.
const CHECKS_MAX: usize = 32;
/// No lane waits longer for others that check: theirs may hang.
const CHECK_WAIT_MAX: Duration = Duration::from_secs(5);

/// Bounds how many lanes check their credentials at a time. Clones share the bound.
#[derive(Clone)]
pub struct Checks(Arc<Semaphore>);

impl Default for Checks {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(CHECKS_MAX)))
    }
}

/// See the module.
pub struct LaneSession {
    aws: Arc<Aws>,
    lane: Lane,
    role: Option<AssumeRole>,
    clients: RwLock<LaneClients>,
    checks: Checks,
    /// Held by whoever checks.
    checking: Mutex<()>,
    verified: AtomicBool,
    dormant: watch::Sender<bool>,
    doubted: AtomicBool,
    hub_reads: SharedLimiter,
}

impl LaneSession {
    /// Builds the clients; calls nothing.
    pub async fn new(aws: Arc<Aws>, lane: Lane, role: Option<AssumeRole>, checks: Checks) -> Self {
        let clients = RwLock::new(aws.lane(&lane, role.as_ref()).await);
        let hub_reads = Limiter::new(GET_FINDINGS_PER_SECOND, GET_FINDINGS_BURST, Instant::now());
        Self {
            aws,
            lane,
            role,
            clients,
            checks,
            checking: Mutex::default(),
            verified: AtomicBool::new(false),
            dormant: watch::Sender::new(false),
            doubted: AtomicBool::new(false),
            hub_reads: SharedLimiter::new(hub_reads),
        }
    }

    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// The clients, once their account is known to be the lane's.
    pub async fn clients(&self) -> Result<LaneClients, AwsError> {
        let clients = self.unverified();
        if self.verified.load(Ordering::Acquire) {
            return Ok(clients);
        }
        let _checking = self.checking.lock().await;
        let clients = self.unverified();
        if !self.verified.load(Ordering::Acquire) {
            let permit = tokio::time::timeout(CHECK_WAIT_MAX, self.checks.0.acquire()).await;
            clients.check_account().await?;
            drop(permit);
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

    /// Whether the lane's Region or hub is off as intended: nobody reads it meanwhile.
    pub fn is_dormant(&self) -> bool {
        *self.dormant.borrow()
    }

    /// For deliver, which finds out whether the lane can be used.
    pub fn set_dormant(&self, is_dormant: bool) {
        self.dormant.send_if_modified(|known| std::mem::replace(known, is_dormant) != is_dormant);
    }

    /// Waits until the lane isn't dormant.
    pub async fn awake(&self) {
        let mut dormant = self.dormant.subscribe();
        // The sender lives in this session.
        let _ = dormant.wait_for(|dormant| !*dormant).await;
    }

    /// Has deliver look whether the lane can be used at all, the next time that it looks.
    pub fn doubt(&self) {
        self.verified.store(false, Ordering::Release);
        self.doubted.store(true, Ordering::Release);
    }

    /// Whether somebody has doubted since the last call.
    pub fn take_doubt(&self) -> bool {
        self.doubted.swap(false, Ordering::AcqRel)
    }

    /// The lane's quota of `GetFindings`.
    pub fn hub_reads(&self) -> &SharedLimiter {
        &self.hub_reads
    }

    fn unverified(&self) -> LaneClients {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
