//! The dashboard asks only for what patchferry exposes, and everything that it exposes is asked for.

#![allow(clippy::unwrap_used)] // a test that can't go on fails

mod live;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use patchferry::{
    metrics::{BuildInfo, HoldReason, LaneState, Metrics},
    record::{Reason, Severity, Stage},
};
use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};
use serde_json::Value;

const DASHBOARD: &str = include_str!("../dashboards/patchferry.json");

/// Given to every series by Prometheus itself.
const TARGET_LABELS: [&str; 2] = ["instance", "job"];

/// Metrics that the dashboard need not show, with the reason.
const NOT_SHOWN: [(&str, &str); 0] = [];

struct Query {
    /// Panel and letter, for messages.
    place: String,
    /// As Grafana would send it.
    expression: String,
}

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).unwrap()
}

fn panels(dashboard: &Value) -> &Vec<Value> {
    dashboard["panels"].as_array().unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Every expression of panels and variables, Grafana's own variables filled in.
fn queries() -> Vec<Query> {
    let dashboard = dashboard();
    let of_panels = panels(&dashboard).iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(|target| Query {
            place: format!("{} {}", text(panel, "title"), text(&target, "refId")),
            expression: filled_in(text(&target, "expr")),
        })
    });
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let of_variables =
        variables.iter().filter(|variable| text(variable, "type") == "query").map(|variable| {
            let query = text(variable, "definition");
            assert_eq!(query, text(&variable["query"], "query"), "both forms must agree");
            let inner = query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')'));
            let (expression, label) = inner.and_then(|inner| inner.rsplit_once(',')).unwrap();
            Query {
                place: format!("variable {}", text(variable, "name")),
                expression: format!("count by ({label}) ({})", filled_in(expression)),
            }
        });
    of_panels.chain(of_variables).collect()
}

fn filled_in(expression: &str) -> String {
    let filled = expression
        .replace("$__rate_interval", "5m")
        .replace("$instance", ".*")
        .replace("$account", ".*")
        .replace("$region", ".*");
    assert!(!filled.contains('$'), "a variable that isn't there: {filled}");
    filled
}

/// A daemon's metrics after some work, so that nothing is absent for lack of events.
fn metrics() -> Arc<Metrics> {
    let metrics = Metrics::new(BuildInfo { version: "1.2.3", revision: "abc" });
    let lane = metrics.lane(&"111122223333/us-east-1".parse().unwrap());
    lane.set_state(LaneState::Held(HoldReason::HubOff));
    lane.last_complete_sweep_timestamp_seconds.set(1_700_000_000_u32);
    lane.gone_withheld_nodes.set(11_u32);
    metrics.store_max_bytes.set(1024);
    metrics.dead_letters[Stage::Deliver][Reason::RejectedByHub].set(1);
    for severity in Severity::ALL {
        metrics.record_delivery(severity, Duration::from_secs(1), Some(Duration::from_secs(60)));
    }
    metrics
}

#[derive(Debug)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
}

fn series(exposition: &str) -> Vec<Series> {
    let samples = exposition.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, labels) = line
                .split_once('{')
                .map_or_else(|| (line.split(' ').next().unwrap(), ""), |(name, rest)| (name, rest));
            let labels = labels.split_once('}').map_or("", |(labels, _)| labels);
            let labels = labels.split(',').filter_map(|label| label.split_once('='));
            Series {
                name: name.to_string(),
                labels: labels.map(|(k, v)| (k.into(), v.trim_matches('"').into())).collect(),
            }
        })
        .collect()
}

/// Visits every expression below, itself included. (The parser's own walk leaves out the
/// parameters of aggregations.)
fn walk<'a>(expression: &'a Expr, visit: &mut dyn FnMut(&'a Expr)) {
    visit(expression);
    match expression {
        Expr::Aggregate(aggregate) => {
            walk(&aggregate.expr, visit);
            if let Some(parameter) = &aggregate.param {
                walk(parameter, visit);
            }
        }
        Expr::Unary(unary) => walk(&unary.expr, visit),
        Expr::Binary(binary) => {
            walk(&binary.lhs, visit);
            walk(&binary.rhs, visit);
        }
        Expr::Paren(paren) => walk(&paren.expr, visit),
        Expr::Subquery(subquery) => walk(&subquery.expr, visit),
        Expr::Call(call) => call.args.args.iter().for_each(|argument| walk(argument, visit)),
        Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::Extension(_) => {}
    }
}

fn selectors(expression: &Expr) -> Vec<&VectorSelector> {
    let mut found = Vec::new();
    walk(expression, &mut |expression| match expression {
        Expr::VectorSelector(selector) => found.push(selector),
        Expr::MatrixSelector(matrix) => found.push(&matrix.vs),
        _ => {}
    });
    found
}

fn is_selected(series: &Series, selector: &VectorSelector) -> bool {
    selector.name.as_deref() == Some(&series.name)
        && selector.matchers.or_matchers.is_empty()
        && selector.matchers.matchers.iter().all(|matcher| {
            let value = series.labels.get(&matcher.name).map_or("", String::as_str);
            TARGET_LABELS.contains(&matcher.name.as_str()) || matcher.is_match(value)
        })
}

fn parse(query: &Query) -> Expr {
    parser::parse(&query.expression).unwrap_or_else(|error| panic!("{}: {error}", query.place))
}

#[test]
fn every_selector_of_every_expression_finds_a_series() {
    let series = series(&metrics().render());
    for query in queries() {
        let expression = parse(&query);
        for selector in selectors(&expression) {
            let found = series.iter().any(|series| is_selected(series, selector));
            assert!(found, "{}: nothing is selected by {selector}", query.place);
            let filtered = selector.matchers.matchers.iter();
            let labels: Vec<&str> = filtered.map(|matcher| matcher.name.as_str()).collect();
            let whole = query.place.starts_with("variable");
            assert!(whole || labels.contains(&"instance"), "{}: {selector}", query.place);
        }
    }
}

#[test]
fn every_label_that_is_grouped_by_is_one_of_the_series() {
    let series = series(&metrics().render());
    for query in queries() {
        let expression = parse(&query);
        walk(&expression, &mut |part| {
            let Expr::Aggregate(aggregate) = part else { return };
            let Some(LabelModifier::Include(labels)) = &aggregate.modifier else { return };
            for selector in selectors(&aggregate.expr) {
                let selected = series.iter().find(|series| is_selected(series, selector)).unwrap();
                for label in &labels.labels {
                    let known = selected.labels.contains_key(label);
                    let of_target = TARGET_LABELS.contains(&label.as_str());
                    assert!(known || of_target, "{}: no {label} in {selector}", query.place);
                }
            }
        });
    }
}

#[test]
fn every_quantile_is_taken_over_buckets_by_le() {
    let mut quantiles = 0;
    for query in queries() {
        let expression = parse(&query);
        walk(&expression, &mut |part| {
            let Expr::Call(call) = part else { return };
            if call.func.name != "histogram_quantile" {
                return;
            }
            quantiles += 1;
            let buckets = &call.args.args[1];
            let Expr::Aggregate(aggregate) = &**buckets else { panic!("{}", query.place) };
            let Some(LabelModifier::Include(labels)) = &aggregate.modifier else {
                panic!("{}", query.place)
            };
            assert!(labels.labels.iter().any(|label| label == "le"), "{}", query.place);
            for selector in selectors(buckets) {
                let name = selector.name.as_deref().unwrap();
                assert!(name.ends_with("_bucket"), "{}: {name}", query.place);
            }
        });
    }
    assert!(quantiles >= 15, "{quantiles}");
}

fn families(exposition: &str) -> BTreeSet<String> {
    let types = exposition.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|rest| rest.split(' ').next().unwrap().to_string()).collect()
}

fn family<'a>(name: &'a str, families: &BTreeSet<String>) -> &'a str {
    let mut bases = ["_bucket", "_sum", "_count"].iter().filter_map(|end| name.strip_suffix(end));
    bases.find(|base| families.contains(*base)).unwrap_or(name)
}

#[test]
fn every_metric_of_patchferry_is_on_the_dashboard_or_left_out_for_a_reason() {
    let families = families(&metrics().render());
    let queries = queries();
    let expressions: Vec<Expr> = queries.iter().map(parse).collect();
    let shown: BTreeSet<&str> = expressions
        .iter()
        .flat_map(selectors)
        .map(|selector| family(selector.name.as_deref().unwrap(), &families))
        .collect();
    for name in families.iter().filter(|name| name.starts_with("patchferry_")) {
        let left_out = NOT_SHOWN.iter().any(|(known, _)| known == name);
        assert!(shown.contains(name.as_str()) != left_out, "{name}");
    }
}

#[test]
fn every_exposed_series_has_help_and_type() {
    let exposition = metrics().render();
    let families = families(&exposition);
    for series in series(&exposition) {
        let family = family(&series.name, &families);
        assert!(families.contains(family), "{} has no TYPE", series.name);
        let help = exposition.lines().find(|l| l.starts_with(&format!("# HELP {family} ")));
        assert!(help.is_some_and(|help| help.ends_with(['.', ')'])), "{family}: {help:?}");
    }
}

#[test]
fn every_panel_says_what_it_shows_and_none_overlaps_another() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39);
    let mut ids = BTreeSet::new();
    let mut places = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = text(panel, "title");
        assert!(!title.is_empty() && ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let grid = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(grid("x") + grid("w") <= 24, "{title}");
        for x in grid("x")..grid("x") + grid("w") {
            for y in grid("y")..grid("y") + grid("h") {
                assert!(places.insert((x, y)), "{title} overlaps another panel");
            }
        }
        if text(panel, "type") != "row" {
            assert!(text(panel, "description").ends_with('.'), "{title} has no description");
            assert_eq!(text(&panel["datasource"], "uid"), "${datasource}", "{title}");
        }
    }
}
