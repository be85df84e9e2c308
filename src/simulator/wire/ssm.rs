//! SSM: reading the fleet's compliance, a page at a time.
//!
//! Limits of pages are the live service's where they differ from the model's
//! (`DescribeInstancePatches`: 50).

use std::{collections::BTreeSet, ops::Bound};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Outcome, parse, ssm_answers as answers, ssm_associations as associations};
use crate::simulator::{
    fleet::{Fleet, Node},
    reply::ApiError,
    world::{LaneWorld, World, lock},
};

/// Carries out an operation; `None` if it is unknown.
pub(super) fn call(
    world: &World,
    lane: &LaneWorld,
    operation: &str,
    body: &[u8],
) -> Option<Outcome> {
    let fleet = lock(&lane.fleet);
    let answer = match operation {
        "ListResourceComplianceSummaries" => list_summaries(&fleet, body),
        "DescribeInstanceInformation" => describe_information(&fleet, body, world.now_ms()),
        "DescribeInstancePatchStates" => describe_patch_states(&fleet, body),
        "DescribeInstancePatches" => describe_patches(&fleet, body),
        "ListComplianceItems" => list_items(&fleet, body),
        "ListAssociations" => associations::list_associations(&fleet, body),
        "DescribeInstanceAssociationsStatus" => associations::describe_status(&fleet, body),
        _ => return None,
    };
    Some(answer.map(|answer| answer.to_string().into_bytes()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ComplianceFilter {
    key: String,
    values: Vec<String>,
    #[serde(rename = "Type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ListSummaries {
    #[serde(default)]
    filters: Vec<ComplianceFilter>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

fn list_summaries(fleet: &Fleet, body: &[u8]) -> Result<Value, ApiError> {
    let request: ListSummaries = parse(body)?;
    let page = page_size(request.max_results, 1..=50, 50)?;
    let start = Start::of(request.next_token.as_deref())?;
    let list = "ResourceComplianceSummaryItems";
    Ok(match compliance_type(&request.filters)? {
        ComplianceType::Patch => {
            let is_told = |node: &Node| node.told_scan().is_some();
            page_of_nodes(fleet, start, page, list, is_told, answers::compliance_summary)
        }
        ComplianceType::Association => {
            let has_any = |node: &Node| !node.is_forgotten && !node.associations.is_empty();
            page_of_nodes(fleet, start, page, list, has_any, associations::summary)
        }
    })
}

#[derive(Clone, Copy)]
enum ComplianceType {
    Patch,
    Association,
}

/// The one type that the filters ask for; the simulation lists one at a time.
fn compliance_type(filters: &[ComplianceFilter]) -> Result<ComplianceType, ApiError> {
    let invalid = |what: &str| Err(ApiError::new(400, "InvalidFilter", what));
    let [ComplianceFilter { key, values, kind }] = filters else {
        return invalid("The simulation wants one filter, by ComplianceType");
    };
    if key != "ComplianceType" || kind.as_deref().is_some_and(|kind| kind != "EQUAL") {
        return invalid(&format!("The filter {key} is not valid"));
    }
    match values.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["Patch"] => Ok(ComplianceType::Patch),
        ["Association"] => Ok(ComplianceType::Association),
        _ => invalid("The simulation lists compliance of type Patch or Association"),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct KeyValues {
    key: String,
    values: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DescribeInformation {
    #[serde(default)]
    filters: Vec<KeyValues>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

fn describe_information(fleet: &Fleet, body: &[u8], now_ms: i64) -> Result<Value, ApiError> {
    let request: DescribeInformation = parse(body)?;
    let page = page_size(request.max_results, 5..=50, 10)?;
    let start = Start::of(request.next_token.as_deref())?;
    for filter in &request.filters {
        if !["InstanceIds", "ResourceType"].contains(&filter.key.as_str()) {
            return Err(ApiError::new(400, "InvalidFilterKey", filter.key.clone()));
        }
        if !(1..=100).contains(&filter.values.len()) {
            return Err(validation("Filters.Values must have 1 to 100 members"));
        }
    }
    let listed = |node: &Node| {
        node.is_managed()
            && request.filters.iter().all(|filter| match filter.key.as_str() {
                "InstanceIds" => filter.values.contains(&node.id),
                _ => filter.values.iter().any(|value| value == answers::resource_type(node)),
            })
    };
    Ok(page_of_nodes(fleet, start, page, "InstanceInformationList", listed, |node| {
        answers::information(node, now_ms)
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DescribePatchStates {
    instance_ids: Vec<String>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

fn describe_patch_states(fleet: &Fleet, body: &[u8]) -> Result<Value, ApiError> {
    let request: DescribePatchStates = parse(body)?;
    if request.instance_ids.len() > 50 {
        return Err(constraint("instanceIds", "length less than or equal to 50"));
    }
    let page = page_size(request.max_results, 10..=100, 50)?;
    let start = Start::of(request.next_token.as_deref())?;
    let asked: BTreeSet<&String> = request.instance_ids.iter().collect();
    // Only the nodes asked for: a look-up each, not a walk through the fleet.
    let states: Vec<(&String, Value)> = asked
        .into_iter()
        .filter(|id| start.is_before(id))
        .filter_map(|id| fleet.nodes.get(id))
        .filter_map(|node| Some((&node.id, answers::patch_state(node)?)))
        .collect();
    let next = states.get(page - 1).filter(|_| states.len() > page).map(|(id, _)| id.as_str());
    let token = next.map(|id| format!("{TOKEN_PREFIX}{id}"));
    let states: Vec<Value> = states.into_iter().take(page).map(|(_, state)| state).collect();
    Ok(with_token(json!({"InstancePatchStates": states}), token, states.len()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DescribePatches {
    instance_id: String,
    #[serde(default)]
    filters: Vec<KeyValues>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

fn describe_patches(fleet: &Fleet, body: &[u8]) -> Result<Value, ApiError> {
    let request: DescribePatches = parse(body)?;
    let page = page_size(request.max_results, 10..=50, 50)?;
    let node = fleet.nodes.get(&request.instance_id).ok_or_else(|| {
        ApiError::new(400, "InvalidInstanceId", format!("{} not found", request.instance_id))
    })?;
    let keys = ["State", "Severity", "Classification", "KBId"];
    if let Some(filter) = request.filters.iter().find(|filter| !keys.contains(&filter.key.as_str()))
    {
        return Err(ApiError::new(400, "InvalidFilter", filter.key.clone()));
    }
    let patches = answers::patches(node).filter(|patch| {
        request.filters.iter().all(|filter| {
            let actual = patch[&filter.key].as_str().unwrap_or_default();
            filter.values.iter().any(|value| value == actual)
        })
    });
    page_by_offset("Patches", patches, request.next_token.as_deref(), page)
}

/// Filters of single items.
const ITEM_KEYS: [&str; 2] = ["Status", "Severity"];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ListItems {
    #[serde(default)]
    filters: Vec<ComplianceFilter>,
    resource_ids: Vec<String>,
    #[serde(default)]
    resource_types: Vec<String>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

fn list_items(fleet: &Fleet, body: &[u8]) -> Result<Value, ApiError> {
    let request: ListItems = parse(body)?;
    let page = page_size(request.max_results, 1..=50, 50)?;
    let [id] = request.resource_ids.as_slice() else {
        return Err(validation("ResourceIds: specify one resource"));
    };
    if request.resource_types.iter().any(|kind| kind != "ManagedInstance") {
        return Err(ApiError::new(400, "InvalidResourceType", "Only ManagedInstance is valid"));
    }
    let (of_items, of_type): (Vec<_>, Vec<_>) =
        request.filters.into_iter().partition(|filter| ITEM_KEYS.contains(&filter.key.as_str()));
    let is_asked = |item: &Value| {
        of_items.iter().all(|filter| {
            let actual = item[&filter.key].as_str().unwrap_or_default();
            filter.values.iter().any(|value| value == actual)
        })
    };
    let node = fleet.nodes.get(id).into_iter();
    let (list, token) = ("ComplianceItems", request.next_token.as_deref());
    match compliance_type(&of_type)? {
        ComplianceType::Patch => {
            let items = node.flat_map(answers::compliance_items).filter(is_asked);
            page_by_offset(list, items, token, page)
        }
        ComplianceType::Association => {
            let items = node.flat_map(associations::items).filter(is_asked);
            page_by_offset(list, items, token, page)
        }
    }
}

const TOKEN_PREFIX: &str = "sim-after-";

/// Where a page of nodes starts.
enum Start {
    Beginning,
    After(String),
}

impl Start {
    fn of(token: Option<&str>) -> Result<Self, ApiError> {
        match token {
            None | Some("") => Ok(Self::Beginning),
            Some(token) => match token.strip_prefix(TOKEN_PREFIX) {
                Some(id) => Ok(Self::After(id.to_string())),
                None => Err(invalid_token()),
            },
        }
    }

    fn is_before(&self, id: &str) -> bool {
        match self {
            Self::Beginning => true,
            Self::After(last) => id > last.as_str(),
        }
    }
}

/// A page of the nodes that are `listed`, in order of their ids: stable while the fleet changes.
fn page_of_nodes(
    fleet: &Fleet,
    start: Start,
    page: usize,
    list_name: &str,
    listed: impl Fn(&Node) -> bool,
    render: impl Fn(&Node) -> Value,
) -> Value {
    let start = match start {
        Start::Beginning => Bound::Unbounded,
        Start::After(id) => Bound::Excluded(id),
    };
    let mut nodes = fleet
        .nodes
        .range((start, Bound::Unbounded))
        .map(|(_, node)| node)
        .filter(|node| listed(node));
    let on_page: Vec<&Node> = nodes.by_ref().take(page).collect();
    let has_more = nodes.next().is_some();
    let token =
        on_page.last().filter(|_| has_more).map(|last| format!("{TOKEN_PREFIX}{}", last.id));
    let items: Vec<Value> = on_page.iter().map(|node| render(node)).collect();
    with_token(json!({list_name: items}), token, on_page.len())
}

pub(super) fn page_by_offset(
    list_name: &str,
    mut items: impl Iterator<Item = Value>,
    token: Option<&str>,
    page: usize,
) -> Result<Value, ApiError> {
    let offset = match token {
        None | Some("") => 0,
        Some(token) => token
            .strip_prefix(TOKEN_PREFIX)
            .and_then(|offset| offset.parse::<usize>().ok())
            .ok_or_else(invalid_token)?,
    };
    let on_page: Vec<Value> = items.by_ref().skip(offset).take(page).collect();
    let token = items.next().map(|_| format!("{TOKEN_PREFIX}{}", offset + page));
    let len = on_page.len();
    Ok(with_token(json!({list_name: on_page}), token, len))
}

/// Adds the token. At the end there is none, or an empty one: the live service does both.
fn with_token(mut answer: Value, token: Option<String>, items: usize) -> Value {
    match token {
        Some(token) => answer["NextToken"] = json!(token),
        None if items.is_multiple_of(2) => answer["NextToken"] = json!(""),
        None => {}
    }
    answer
}

pub(super) fn page_size(
    asked: Option<usize>,
    limits: std::ops::RangeInclusive<usize>,
    default: usize,
) -> Result<usize, ApiError> {
    let asked = asked.unwrap_or(default);
    if asked > *limits.end() {
        let rule = format!("value less than or equal to {}", limits.end());
        return Err(constraint("maxResults", &rule));
    }
    if asked < *limits.start() {
        let rule = format!("value greater than or equal to {}", limits.start());
        return Err(constraint("maxResults", &rule));
    }
    Ok(asked)
}

fn constraint(member: &str, rule: &str) -> ApiError {
    validation(&format!(
        "1 validation error detected: Value at '{member}' failed to satisfy constraint: \
         Member must have {rule}"
    ))
}

pub(super) fn validation(message: &str) -> ApiError {
    ApiError::new(400, "ValidationException", message)
}

fn invalid_token() -> ApiError {
    ApiError::new(400, "InvalidNextToken", "The specified token is not valid.")
}
