//! What of the configuration each stage is told, in the stage's own terms.

use std::time::Duration;

use crate::{
    config::{self, Config},
    pipeline::{
        deliver, ingest, reconcile,
        transform::{Identity, Policy},
        validate::UnspecifiedSeverity,
    },
    record::{Region, RenderPolicy, Template},
    store::SpaceLimits,
};

/// A lane's task looks around twice a minute; what is shorter than this is no absence.
const ABSENCE_MIN: Duration = Duration::from_secs(60);

pub(super) fn space(config: &Config) -> SpaceLimits {
    SpaceLimits {
        live_bytes_max: config.store.max_bytes,
        free_bytes_min: config.store.min_free_bytes,
    }
}

pub(super) fn unspecified_severity(config: &Config) -> UnspecifiedSeverity {
    match config.finding.unspecified_severity {
        config::UnspecifiedSeverity::Counts => UnspecifiedSeverity::Counts,
        config::UnspecifiedSeverity::Fixed(severity) => UnspecifiedSeverity::Fixed(severity),
    }
}

pub(super) fn policy(config: &Config) -> Policy {
    let finding = &config.finding;
    Policy {
        identity: match finding.identity {
            config::Identity::Node => Identity::Node,
            config::Identity::Operation => Identity::Operation,
        },
        resolve: finding.resolve,
        refresh_after: finding.refresh_after,
        render: RenderPolicy {
            template: if finding.is_aws_parity() {
                Template::AwsParity
            } else {
                Template::Patchferry
            },
            hybrid_as: finding.hybrid_as,
            product_arn: finding.product_arn.clone(),
            product_name: finding.product_name.clone(),
            company_name: finding.company_name.clone(),
        },
    }
}

pub(super) fn ingest(config: &Config, region: &Region, start_spread: Duration) -> ingest::Settings {
    ingest::Settings {
        start_spread,
        poll_interval: config.poll_interval(region),
        patch_details: config.ingest.patch_details,
        refresh_after: config.finding.refresh_after,
        policy: policy(config).fingerprint(),
    }
}

pub(super) fn reconcile(config: &Config) -> reconcile::Settings {
    reconcile::Settings {
        interval: config.reconcile.interval,
        repair: config.reconcile.repair,
        product_arn: config.finding.product_arn.as_ref().map(ToString::to_string),
        one_per_node: config.finding.identity == config::Identity::Node,
        resolves: config.finding.resolve,
    }
}

pub(super) fn gone(config: &Config) -> ingest::gone::Settings {
    // A finding per operation is told once and never again: AWS's way.
    let is_kept = config.finding.identity == config::Identity::Node;
    ingest::gone::Settings {
        resolves: config.finding.resolve,
        asks_cloud_control: config.ingest.cloud_control,
        gone_after: config.finding.gone_after,
        refresh_after: is_kept.then_some(config.finding.refresh_after),
        cloud_control_requests_per_second: config.ingest.ssm_requests_per_second,
    }
}

pub(super) fn deliver(config: &Config, hub_off: bool) -> deliver::Settings {
    deliver::Settings {
        hub_off,
        requests_per_second: config.deliver.requests_per_second,
        burst_requests: config.deliver.burst_requests,
        in_flight_max: usize::try_from(config.deliver.max_in_flight_requests).unwrap_or(1),
        probe_interval: config.deliver.probe_interval,
        product_arn: config.finding.product_arn.as_ref().map(ToString::to_string),
        absence_max: config.shard.lease.max(ABSENCE_MIN),
        reads_back: config.finding.identity == config::Identity::Node,
    }
}
