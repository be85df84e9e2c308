//! How many requests a day a lane will make, with what was assumed: an upper estimate that can be
//! followed with pen and paper.

use serde::Serialize;

use crate::{
    aws::ssm::{PAGE_ROWS_MAX, Ssm},
    config::{Config, Identity},
};

const SECONDS_PER_DAY: f64 = 86_400.0;
/// Nodes whose patch state changes in a day: those that are patched weekly, and then some.
const CHANGED_SHARE: f64 = 0.2;
/// Nodes with an open finding, which is sent again now and then.
const OPEN_SHARE: f64 = 0.3;

/// Of the configuration, what the number of requests depends on.
#[derive(Clone, Debug)]
pub struct Settings {
    pub poll_interval_seconds: f64,
    pub refresh_after_days: f64,
    pub patch_details: bool,
    pub reads_back: bool,
    pub ssm_requests_per_second: f64,
}

impl Settings {
    pub fn of(config: &Config) -> Self {
        Self {
            poll_interval_seconds: config.ingest.poll_interval.as_secs_f64().max(1.0),
            refresh_after_days: config.finding.refresh_after.as_secs_f64() / SECONDS_PER_DAY,
            patch_details: config.ingest.patch_details,
            reads_back: config.finding.identity == Identity::Node,
            ssm_requests_per_second: config.ingest.ssm_requests_per_second,
        }
    }
}

/// The nodes of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeCount {
    pub nodes: u64,
    /// There are more than were counted.
    pub is_more: bool,
}

/// Requests a day, at most if the assumptions hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    pub nodes: u64,
    pub more_nodes_than_counted: bool,
    pub sweeps: u64,
    pub requests_per_sweep: u64,
    pub changed_nodes: u64,
    pub ssm_requests: u64,
    pub import_requests_max: u64,
    pub get_findings_requests: u64,
    /// How long a sweep's requests take at the lane's pace.
    pub sweep_seconds: u64,
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // positive, far below 2^53
fn up(value: f64) -> u64 {
    value.ceil() as u64
}

impl Prediction {
    #[allow(clippy::cast_precision_loss)] // counts of nodes
    pub fn of(count: NodeCount, settings: &Settings) -> Self {
        let nodes = count.nodes as f64;
        // Both lists come in pages, and an empty list is a page, too.
        let pages = up(nodes / f64::from(PAGE_ROWS_MAX)).max(1);
        let requests_per_sweep = 2 * pages;
        let sweep_seconds = requests_per_sweep as f64 / settings.ssm_requests_per_second;
        let sweeps = up(SECONDS_PER_DAY / (settings.poll_interval_seconds + sweep_seconds));
        let changed = up(nodes * CHANGED_SHARE);
        let details = changed * if settings.patch_details { 2 } else { 1 };
        let open = nodes * OPEN_SHARE;
        let refreshed = up(open / settings.refresh_after_days.max(1.0));
        let read_back = if settings.reads_back { up(open / 100.0).max(1) } else { 0 };
        Self {
            nodes: count.nodes,
            more_nodes_than_counted: count.is_more,
            sweeps,
            requests_per_sweep,
            changed_nodes: changed,
            ssm_requests: sweeps * requests_per_sweep + details,
            import_requests_max: changed + refreshed,
            get_findings_requests: read_back,
            sweep_seconds: up(sweep_seconds),
        }
    }

    /// For a terminal.
    pub fn lines(&self) -> Vec<String> {
        let nodes = if self.more_nodes_than_counted {
            format!("at least {} nodes (no more were counted)", self.nodes)
        } else {
            format!("{} nodes", self.nodes)
        };
        let Self { sweeps, requests_per_sweep, changed_nodes, ssm_requests, .. } = self;
        let details = ssm_requests - sweeps * requests_per_sweep;
        vec![
            format!("a day, with {nodes} of which {changed_nodes} change:"),
            format!(
                "  SSM                  {ssm_requests} = {sweeps} sweeps x {requests_per_sweep} \
                 pages + {details} for what changed; a sweep takes {} s",
                self.sweep_seconds
            ),
            format!(
                "  BatchImportFindings  {} at most, one for each change or refresh; up to 100 share \
                 a request",
                self.import_requests_max
            ),
            format!("  GetFindings          {}", self.get_findings_requests),
        ]
    }
}

/// Asks for pages at the lane's pace, so that a daemon beside this keeps its share.
pub async fn count_nodes(
    ssm: &Ssm,
    settings: &Settings,
    pages_max: usize,
) -> Result<(NodeCount, Option<crate::record::NodeId>), crate::aws::AwsError> {
    let pace = std::time::Duration::from_secs_f64(1.0 / settings.ssm_requests_per_second.max(0.1));
    let (mut count, mut first, mut from) = (NodeCount { nodes: 0, is_more: false }, None, None);
    for page in 0..pages_max {
        if page > 0 {
            tokio::time::sleep(pace).await;
        }
        let answer = ssm.node_information(from).await?;
        count.nodes += answer.items.len() as u64;
        first =
            first.or_else(|| answer.items.iter().find_map(|row| row.node.as_str().parse().ok()));
        from = answer.next;
        if from.is_none() {
            return Ok((count, first));
        }
    }
    count.is_more = true;
    Ok((count, first))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Settings = Settings {
        poll_interval_seconds: 300.0,
        refresh_after_days: 7.0,
        patch_details: true,
        reads_back: true,
        ssm_requests_per_second: 2.0,
    };

    #[test]
    fn the_figures_follow_from_the_formula() {
        let count = NodeCount { nodes: 1_000, is_more: false };
        let predicted = Prediction::of(count, &DEFAULTS);
        // 20 pages of each list at two requests a second: 20 s, so a sweep every 320 s.
        assert_eq!((predicted.requests_per_sweep, predicted.sweep_seconds), (40, 20));
        assert_eq!((predicted.sweeps, predicted.changed_nodes), (270, 200));
        assert_eq!(predicted.ssm_requests, 270 * 40 + 2 * 200);
        assert_eq!(predicted.import_requests_max, 200 + 43);
        assert_eq!(predicted.get_findings_requests, 3);
    }

    #[test]
    fn a_lane_without_nodes_is_still_asked() {
        let predicted = Prediction::of(NodeCount { nodes: 0, is_more: false }, &DEFAULTS);
        assert_eq!((predicted.ssm_requests, predicted.import_requests_max), (288 * 2, 0));
    }
}
