//! Reading a lane's hub, page by page, within the lane's quota of `GetFindings`.
//!
//! Guarantees: a request ends within its own time, the whole within [`READ_MAX`]; a throttled one is
//! sent again with the next token of a slower limiter, one that failed otherwise a few times.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    aws::{
        AwsError, Fault, Page,
        security_hub::{HubQuery, HubRecord},
    },
    pipeline::session::LaneSession,
};

/// A hub that takes longer to tell what it holds is tried again later.
pub(super) const READ_MAX: Duration = Duration::from_secs(30 * 60);
/// Findings of one lane that are compared at most: far beyond a lane's nodes.
const FINDINGS_MAX: usize = 400_000;
const THROTTLED_MAX: u32 = 12;
const FAILED_MAX: u32 = 3;
/// After the first failure; doubled with each, drawn between nothing and that.
const FAILED_WAIT: Duration = Duration::from_secs(1);

/// Everything that the hub answers to `query`, each record passed to `take`.
pub(super) async fn read_all(
    session: &LaneSession,
    query: &HubQuery,
    mut take: impl FnMut(HubRecord),
) -> Result<(), AwsError> {
    let mut from = None;
    let mut read = 0;
    loop {
        let page = read_page(session, query, from).await?;
        read += page.items.len();
        page.items.into_iter().for_each(&mut take);
        from = page.next;
        if from.is_none() || read >= FINDINGS_MAX {
            return Ok(());
        }
    }
}

async fn read_page(
    session: &LaneSession,
    query: &HubQuery,
    from: Option<String>,
) -> Result<Page<HubRecord>, AwsError> {
    let (mut throttled, mut failed) = (0, 0);
    loop {
        session.hub_reads().take().await;
        let clients = session.clients().await?;
        let sent_at = Instant::now();
        let error = match clients.hub.get_findings(query, from.clone()).await {
            Ok(page) => return Ok(page),
            Err(error) => error,
        };
        match error.fault {
            Fault::Throttled { .. } if throttled < THROTTLED_MAX => {
                throttled += 1;
                session.hub_reads().throttled(sent_at, Instant::now());
            }
            Fault::Unavailable { .. } if failed + 1 < FAILED_MAX => {
                let longest = FAILED_WAIT * 2_u32.pow(failed);
                failed += 1;
                tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
            }
            _ => return Err(error),
        }
    }
}
