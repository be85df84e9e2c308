//! A lane's AWS clients, and the proof that their credentials are the lane's own.
//!
//! Both ingest and deliver work through one session: nothing is read from or sent to an account
//! other than the lane's.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    aws::{AssumeRole, Aws, AwsError, LaneClients},
    record::Lane,
};

/// See the module.
pub struct LaneSession {
    aws: Arc<Aws>,
    lane: Lane,
    role: Option<AssumeRole>,
    clients: RwLock<LaneClients>,
    verified: AtomicBool,
}

impl LaneSession {
    /// Builds the clients; calls nothing.
    pub async fn new(aws: Arc<Aws>, lane: Lane, role: Option<AssumeRole>) -> Self {
        let clients = RwLock::new(aws.lane(&lane, role.as_ref()).await);
        Self { aws, lane, role, clients, verified: AtomicBool::new(false) }
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

    fn unverified(&self) -> LaneClients {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
