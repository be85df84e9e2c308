//! Reading the hub: `GetFindings`, `DescribeHub`, `ListEnabledProductsForImport`.
//!
//! Of `GetFindings` the string filters are covered, for the attributes that a provider reads its own
//! findings by; sorting and other filters are refused and counted as unknown.

use std::{collections::BTreeMap, ops::Bound};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Outcome, parse};
use crate::simulator::{
    clock::format_timestamp,
    config::SimLane,
    hub::HubFinding,
    reply::ApiError,
    world::{LaneWorld, World, lock},
};

const PAGE_FINDINGS_MAX: usize = 100;
const ATTRIBUTES_MAX: usize = 10;
const VALUES_MAX: usize = 20;
const TOKEN_PREFIX: &str = "after:";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GetFindings {
    #[serde(default)]
    filters: BTreeMap<String, Value>,
    #[serde(default)]
    sort_criteria: Vec<Value>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct StringFilter {
    value: String,
    comparison: Comparison,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Comparison {
    Equals,
    Prefix,
    NotEquals,
    PrefixNotEquals,
}

/// The values of a finding that filters can ask for.
#[derive(Clone, Copy)]
enum Attribute {
    ProductArn,
    GeneratorId,
    Id,
    AwsAccountId,
    RecordState,
    WorkflowStatus,
    ResourceId,
    ComplianceStatus,
    SeverityLabel,
    Region,
}

type Filter = (Attribute, Vec<StringFilter>);

pub(super) fn get_findings(world: &World, lane: &LaneWorld, body: &[u8]) -> Outcome {
    let request: GetFindings = parse(body)?;
    if !world.keep_json {
        return Err(refuse(world, lane, "GetFindings of a hub that keeps no JSON"));
    }
    if !request.sort_criteria.is_empty() {
        return Err(refuse(world, lane, "GetFindings with SortCriteria"));
    }
    let max_results = request.max_results.unwrap_or(PAGE_FINDINGS_MAX);
    if !(1..=PAGE_FINDINGS_MAX).contains(&max_results) {
        return Err(invalid("MaxResults must be between 1 and 100"));
    }
    let filters = read_filters(world, lane, request.filters)?;
    let start = match request.next_token.as_deref().filter(|token| !token.is_empty()) {
        None => Bound::Unbounded,
        Some(token) => match token.strip_prefix(TOKEN_PREFIX) {
            Some(name) => match name.split_once(' ') {
                Some((product_arn, id)) => {
                    Bound::Excluded((id.to_string(), product_arn.to_string()))
                }
                None => return Err(invalid("Invalid NextToken")),
            },
            None => return Err(invalid("Invalid NextToken")),
        },
    };
    let hub = lock(&lane.hub);
    let mut matching = hub
        .findings
        .range((start, Bound::Unbounded))
        .map(|(_, finding)| finding)
        .filter(|finding| filters.iter().all(|filter| matches(filter, finding, &lane.lane)));
    let page: Vec<&HubFinding> = matching.by_ref().take(max_results).collect();
    let mut answer = json!({
        "Findings": page
            .iter()
            .map(|finding| finding.render(lane.lane.account(), lane.lane.region()))
            .collect::<Vec<Value>>(),
    });
    if let (Some(last), Some(_)) = (page.last(), matching.next()) {
        answer["NextToken"] = json!(format!("{TOKEN_PREFIX}{} {}", last.product_arn, last.id));
    }
    Ok(answer.to_string().into_bytes())
}

pub(super) fn describe_hub(lane: &LaneWorld) -> Vec<u8> {
    let (partition, region, account) =
        (lane.lane.partition(), lane.lane.region(), lane.lane.account());
    let answer = json!({
        "HubArn": format!("arn:{partition}:securityhub:{region}:{account}:hub/default"),
        "SubscribedAt": format_timestamp(1_700_000_000_000),
        "AutoEnableControls": true,
        "ControlFindingGenerator": "SECURITY_CONTROL",
    });
    answer.to_string().into_bytes()
}

pub(super) fn list_enabled_products(world: &World, lane: &LaneWorld) -> Vec<u8> {
    let (partition, region, account) =
        (lane.lane.partition(), lane.lane.region(), lane.lane.account());
    let product = |name: &str| {
        format!("arn:{partition}:securityhub:{region}:{account}:product-subscription/{name}")
    };
    let mut products = vec![product("aws/securityhub")];
    if *lock(&world.aws_integration_enabled) {
        products.push(product("aws/ssm-patch-manager"));
    }
    json!({"ProductSubscriptions": products}).to_string().into_bytes()
}

fn read_filters(
    world: &World,
    lane: &LaneWorld,
    filters: BTreeMap<String, Value>,
) -> Result<Vec<Filter>, ApiError> {
    if filters.len() > ATTRIBUTES_MAX {
        return Err(invalid("Filters should NOT have more than 10 attributes"));
    }
    filters
        .into_iter()
        .map(|(name, values)| {
            let Some(attribute) = Attribute::of(&name) else {
                return Err(refuse(world, lane, &format!("GetFindings by {name}")));
            };
            let values: Vec<StringFilter> = serde_json::from_value(values)
                .map_err(|error| refuse(world, lane, &format!("GetFindings by {name}: {error}")))?;
            if values.len() > VALUES_MAX {
                return Err(invalid("Filters should NOT have more than 20 values"));
            }
            Ok((attribute, values))
        })
        .collect()
}

impl Attribute {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "ProductArn" => Self::ProductArn,
            "GeneratorId" => Self::GeneratorId,
            "Id" => Self::Id,
            "AwsAccountId" => Self::AwsAccountId,
            "RecordState" => Self::RecordState,
            "WorkflowStatus" => Self::WorkflowStatus,
            "ResourceId" => Self::ResourceId,
            "ComplianceStatus" => Self::ComplianceStatus,
            "SeverityLabel" => Self::SeverityLabel,
            "Region" => Self::Region,
            _ => return None,
        })
    }

    fn of_finding<'f>(self, finding: &'f HubFinding, lane: &'f SimLane) -> &'f str {
        match self {
            Self::ProductArn => &finding.product_arn,
            Self::GeneratorId => &finding.generator_id,
            Self::Id => &finding.id,
            Self::AwsAccountId => lane.account(),
            Self::RecordState => &finding.record_state,
            Self::WorkflowStatus => &finding.workflow_status,
            Self::ResourceId => &finding.resource_id,
            Self::ComplianceStatus => &finding.compliance_status,
            Self::SeverityLabel => &finding.severity_label,
            Self::Region => lane.region(),
        }
    }
}

/// Values that include are joined by OR, values that exclude by AND (model, `StringFilter`).
fn matches((attribute, values): &Filter, finding: &HubFinding, lane: &SimLane) -> bool {
    let actual = attribute.of_finding(finding, lane);
    let mut including = values.iter().filter(|filter| filter.comparison.includes()).peekable();
    let excluding = values.iter().filter(|filter| !filter.comparison.includes());
    let is_included = including.peek().is_none() || including.any(|filter| filter.names(actual));
    is_included && !excluding.into_iter().any(|filter| filter.names(actual))
}

impl Comparison {
    fn includes(self) -> bool {
        matches!(self, Self::Equals | Self::Prefix)
    }
}

impl StringFilter {
    fn names(&self, actual: &str) -> bool {
        match self.comparison {
            Comparison::Equals | Comparison::NotEquals => actual == self.value,
            Comparison::Prefix | Comparison::PrefixNotEquals => actual.starts_with(&self.value),
        }
    }
}

/// Refuses loudly what the service can do and the simulator can't.
fn refuse(world: &World, lane: &LaneWorld, what: &str) -> ApiError {
    world.note_unknown(Some(lane), what);
    invalid(&format!("the simulator doesn't know {what}"))
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(400, "InvalidInputException", message)
}
