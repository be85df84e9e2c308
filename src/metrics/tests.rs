//! What is exposed: names, labels, help, and that all is there at the start.

use super::*;

const BUILD: BuildInfo = BuildInfo { version: "1.2.3", revision: "abc" };

fn lane(text: &str) -> Lane {
    text.parse().unwrap()
}

fn value(text: &str, series: &str) -> Option<f64> {
    let line =
        text.lines().find(|line| line.strip_prefix(series).is_some_and(|r| r.starts_with(' ')))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn every_series_of_fixed_labels_is_there_at_zero_before_anything_happens() {
    let text = Metrics::new(BUILD).render();
    for series in [
        "patchferry_findings_total{outcome=\"delivered\"}",
        "patchferry_hub_requests_total{outcome=\"unknown\"}",
        "patchferry_dead_letters{stage=\"validate\",reason=\"negative_count\"}",
        "patchferry_delivery_latency_seconds_bucket{severity=\"HIGH\",le=\"7200\"}",
        "patchferry_delivery_latency_seconds_count{severity=\"LOW\"}",
        "patchferry_ingest_paused{reason=\"free_space\"}",
        "patchferry_queue_items{queue=\"parked\"}",
        "patchferry_accounting_imbalance",
        "patchferry_store_commit_seconds_sum",
        "patchferry_observations_total{source=\"sweep\",outcome=\"accepted\"}",
        "patchferry_ssm_requests_total{operation=\"DescribeInstancePatches\",outcome=\"throttled\"}",
    ] {
        assert_eq!(value(&text, series), Some(0.0), "{series}\n{text}");
    }
    assert_eq!(
        value(&text, "patchferry_build_info{version=\"1.2.3\",revision=\"abc\"}"),
        Some(1.0)
    );
    assert!(value(&text, "process_resident_memory_bytes").is_some_and(|bytes| bytes > 0.0));
}

#[test]
fn every_metric_has_help_and_type() {
    let metrics = Metrics::new(BUILD);
    let _lane = metrics.lane(&lane("111122223333/us-east-1"));
    let text = metrics.render();
    let described = |kind: &str, name: &str| text.contains(&format!("# {kind} {name} "));
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|family| described("TYPE", family))
            .unwrap_or(name);
        assert!(described("HELP", family) && described("TYPE", family), "{name}");
    }
}

#[test]
fn two_daemons_in_one_process_count_apart() {
    let (one, other) = (Metrics::new(BUILD), Metrics::new(BUILD));
    one.hub_requests[HubOutcome::Held].increment(3);
    let series = "patchferry_hub_requests_total{outcome=\"held\"}";
    assert_eq!(value(&one.render(), series), Some(3.0));
    assert_eq!(value(&other.render(), series), Some(0.0));
}

#[test]
fn a_lane_is_in_exactly_one_state_and_says_why_it_is_held() {
    let metrics = Metrics::new(BUILD);
    let gauges = metrics.lane(&lane("111122223333/us-east-1"));
    let state = |state: &str| {
        let labels = "account=\"111122223333\",region=\"us-east-1\"";
        value(&metrics.render(), &format!("patchferry_lane_state{{{labels},state=\"{state}\"}}"))
    };
    assert_eq!(state("flowing"), Some(1.0));
    gauges.set_state(LaneState::Held(HoldReason::HubOff));
    assert_eq!((state("flowing"), state("held")), (Some(0.0), Some(1.0)));
    assert!(metrics.render().contains("reason=\"hub_off\"} 1"));
    gauges.set_state(LaneState::Paused);
    assert_eq!((state("paused"), state("held")), (Some(1.0), Some(0.0)));
    assert!(!metrics.render().contains("reason=\"hub_off\"}"));
}

#[test]
fn a_removed_lane_leaves_no_series_behind() {
    let metrics = Metrics::new(BUILD);
    let lane = lane("111122223333/us-east-1");
    metrics.lane(&lane).outbox_findings.set(7);
    assert!(metrics.render().contains("111122223333"));
    metrics.retain_lanes(|it| *it != lane);
    assert!(!metrics.render().contains("111122223333"));
}

#[test]
fn fifteen_hundred_lanes_stay_below_thirty_thousand_series() {
    let metrics = Metrics::new(BUILD);
    let series =
        || metrics.render().lines().filter(|l| !l.starts_with('#') && !l.is_empty()).count();
    let without_lanes = series();
    for account in 0..150 {
        for region in 0..10 {
            let gauges = metrics.lane(&lane(&format!("{account:012}/us-east-{region}")));
            gauges.set_state(LaneState::Held(HoldReason::Credentials));
        }
    }
    let with_lanes = series();
    assert!(with_lanes < 30_000, "{with_lanes}");
    assert!(with_lanes - without_lanes <= 1500 * SERIES_PER_LANE_MAX);
}

#[test]
fn totals_come_from_the_store_and_never_go_back() {
    let metrics = Metrics::new(BUILD);
    let balanced = Accounting {
        accepted: 10,
        delivered: 4,
        coalesced: 1,
        unchanged: 1,
        dead: 2,
        dropped: 0,
        queued: 2,
    };
    metrics.set_accounting(&balanced);
    let redriven = Accounting { dead: 0, queued: 4, ..balanced };
    metrics.set_accounting(&redriven);
    metrics.set_accounting(&Accounting { dead: 1, queued: 3, ..balanced });
    let text = metrics.render();
    assert_eq!(value(&text, "patchferry_accepted_total"), Some(10.0));
    assert_eq!(value(&text, "patchferry_findings_total{outcome=\"delivered\"}"), Some(4.0));
    assert_eq!(value(&text, "patchferry_findings_total{outcome=\"dead\"}"), Some(3.0));
    assert_eq!(value(&text, "patchferry_accounting_imbalance"), Some(0.0));

    metrics.set_accounting(&Accounting { accepted: 11, ..redriven });
    assert_eq!(value(&metrics.render(), "patchferry_accounting_imbalance"), Some(1.0));
}

#[test]
fn a_delivery_is_counted_by_severity_and_in_the_summary() {
    let metrics = Metrics::new(BUILD);
    assert_eq!(metrics.latency_summary(), None);
    let two_seconds = Duration::from_secs(2);
    metrics.record_delivery(Severity::High, two_seconds, Some(Duration::from_secs(70)));
    let text = metrics.render();
    let bucket = |le: &str| {
        let name = "patchferry_delivery_latency_seconds_bucket";
        value(&text, &format!("{name}{{severity=\"HIGH\",le=\"{le}\"}}"))
    };
    assert_eq!((bucket("1"), bucket("2.5")), (Some(0.0), Some(1.0)));
    assert_eq!(value(&text, "patchferry_scan_to_hub_seconds_sum"), Some(70.0));
    assert_eq!(metrics.latency_summary().map(|summary| summary.count), Some(1));
}
