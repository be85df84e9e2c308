//! `BatchImportFindings`: read the batch, refuse it whole or finding by finding, store the rest.

use std::collections::{BTreeSet, HashSet};

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::Outcome;
use crate::simulator::{
    asff::{Finding, complaints},
    faults::Fault,
    hub::Imported,
    reply::ApiError,
    stats::Stats,
    world::{LaneWorld, Poison, World, lock},
};

const BATCH_FINDINGS_MAX: usize = 100;
/// "6 MB" and "240 KB" are read as the smaller, decimal numbers: what fits them fits both readings.
const BATCH_BYTES_MAX: usize = 6_000_000;
const FINDING_BYTES_MAX: usize = 240_000;

/// A finding of the batch, as far as it could be read.
struct Sent<'b> {
    json: &'b str,
    /// The finding, or what its shape breaks.
    finding: Result<Finding<'b>, String>,
    head: Head,
}

/// What authorization looks at, even in a finding that is otherwise nonsense.
struct Head {
    id: String,
    product_arn: String,
    account: String,
}

/// A finding that the answer names as failed.
struct Failed {
    id: String,
    code: String,
    message: String,
}

pub(super) fn import(world: &World, lane: &LaneWorld, body: &[u8], faults: &[Fault]) -> Outcome {
    let batch = read_batch(body).and_then(|batch| {
        *lock(&lane.stats).batch_sizes.entry(batch.len()).or_default() += 1;
        authorize(lane, &batch)?;
        Ok(batch)
    });
    let batch = match batch {
        Ok(batch) => batch,
        Err(error) => {
            Stats::count_text(&mut lock(&lane.stats).invalid_calls, &error.message);
            return Err(error);
        }
    };
    let poison = lock(&lane.poison);
    let poisoned_call = batch.iter().find(|sent| concerns(sent, &poison.calls));
    if poisoned_call.is_some() {
        return Err(invalid("Invalid parameter: Findings (poisoned by the simulation)"));
    }
    let judged: Vec<Option<Failed>> =
        batch.iter().map(|sent| judge(world, lane, sent, &poison, faults)).collect();
    drop(poison);
    Ok(settle(world, lane, &batch, judged))
}

/// Stores what has passed, counts, and writes the answer.
fn settle(
    world: &World,
    lane: &LaneWorld,
    batch: &[Sent<'_>],
    judged: Vec<Option<Failed>>,
) -> Vec<u8> {
    let now_ms = world.now_ms();
    let mut seen = HashSet::with_capacity(batch.len());
    let mut failed = Vec::new();
    let mut success_count = 0;
    let mut hub = lock(&lane.hub);
    let mut stats = lock(&lane.stats);
    for (sent, verdict) in batch.iter().zip(judged) {
        if !seen.insert(sent.head.id.as_str()) {
            // "Only processes the first": the answer doesn't mention the others.
            stats.duplicate_ids += 1;
            continue;
        }
        if let Some(failure) = verdict {
            failed.push(failure);
            continue;
        }
        let Ok(finding) = &sent.finding else { continue };
        success_count += 1;
        match hub.import(finding, sent.json, world.keep_json, now_ms) {
            Imported::Accepted => stats.accepted += 1,
            Imported::Ignored => stats.ignored_updates += 1,
            Imported::Rewritten => {
                stats.ignored_updates += 1;
                stats.rewritten_history += 1;
            }
        }
    }
    stats.failed_findings += failed.len() as u64;
    let failed: Vec<Value> = failed
        .into_iter()
        .map(|Failed { id, code, message }| {
            json!({"Id": id, "ErrorCode": code, "ErrorMessage": message})
        })
        .collect();
    json!({
        "SuccessCount": success_count,
        "FailedCount": failed.len(),
        "FailedFindings": failed,
    })
    .to_string()
    .into_bytes()
}

/// Why a finding fails alone; `None` if it doesn't.
fn judge(
    world: &World,
    lane: &LaneWorld,
    sent: &Sent<'_>,
    poison: &Poison,
    faults: &[Fault],
) -> Option<Failed> {
    let fail = |code: &str, message: String| Failed {
        id: sent.head.id.clone(),
        code: code.to_string(),
        message,
    };
    if let Some(broken) = broken_rules(sent) {
        let message = format!("Finding does not adhere to Amazon Finding Format. {broken}.");
        Stats::count_text(&mut lock(&lane.stats).invalid_findings, &message);
        return Some(fail("InvalidInput", message));
    }
    if concerns(sent, &poison.findings) {
        return Some(fail("InvalidInput", "Finding is poisoned by the simulation.".to_string()));
    }
    faults.iter().find_map(|fault| match fault {
        Fault::RejectAll => {
            Some(fail("InvalidInput", "Finding is rejected like all others.".to_string()))
        }
        Fault::Partial { ratio, code } if world.draw(*ratio) => {
            Some(fail(code, format!("{code} of the simulation.")))
        }
        _ => None,
    })
}

fn broken_rules(sent: &Sent<'_>) -> Option<String> {
    if sent.json.len() > FINDING_BYTES_MAX {
        return Some("data should NOT be larger than 240 KB".to_string());
    }
    match &sent.finding {
        Err(shape) => Some(shape.clone()),
        Ok(finding) => {
            let complaints = complaints(finding);
            (!complaints.is_empty()).then(|| complaints.join(", "))
        }
    }
}

/// Whether the finding is about one of `nodes`.
fn concerns(sent: &Sent<'_>, nodes: &BTreeSet<String>) -> bool {
    if nodes.is_empty() {
        return false;
    }
    let Ok(finding) = &sent.finding else { return false };
    let resource = finding.first_resource_id();
    nodes.contains(resource.rsplit('/').next().unwrap_or(resource))
}

/// Whether the caller may import these findings here: one bad apple refuses the whole call.
fn authorize(lane: &LaneWorld, batch: &[Sent<'_>]) -> Result<(), ApiError> {
    let product_arn = lane.lane.product_arn();
    let products = lock(&lane.products);
    for Sent { head, .. } in batch {
        if head.id.is_empty() {
            return Err(invalid("Invalid parameter: Findings[].Id is missing"));
        }
        if head.product_arn != product_arn && !products.contains(&head.product_arn) {
            let account = head.product_arn.split(':').nth(4).unwrap_or_default();
            let rest_fits = head.product_arn.replace(account, lane.lane.account()) == product_arn;
            if is_account(account) && rest_fits {
                return Err(denied(lane, &head.product_arn));
            }
            return Err(invalid(&format!(
                "Invalid parameter: ProductArn {} is not {product_arn}",
                head.product_arn
            )));
        }
        if head.account != lane.lane.account() {
            if is_account(&head.account) {
                return Err(denied(lane, &head.account));
            }
            return Err(invalid("Invalid parameter: AwsAccountId is malformed"));
        }
    }
    Ok(())
}

fn denied(lane: &LaneWorld, what: &str) -> ApiError {
    ApiError::new(
        403,
        "AccessDeniedException",
        format!(
            "User: arn:aws:iam::{}:user/simulated is not authorized to perform: \
             securityhub:BatchImportFindings on resource: {what}",
            lane.lane.account()
        ),
    )
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(400, "InvalidInputException", message)
}

fn read_batch(body: &[u8]) -> Result<Vec<Sent<'_>>, ApiError> {
    if body.len() > BATCH_BYTES_MAX {
        return Err(ApiError::new(
            413,
            "RequestEntityTooLargeException",
            "Request must be smaller than 6 MB",
        ));
    }
    let body = std::str::from_utf8(body).map_err(|_| malformed())?;
    let batch = split_batch(body)?;
    if !(1..=BATCH_FINDINGS_MAX).contains(&batch.len()) {
        return Err(invalid(
            "Invalid parameter 'Findings'. data.Findings should have 1 to 100 items",
        ));
    }
    Ok(batch)
}

/// Splits `{"Findings":[…]}` into findings, each with the text that it was read from.
fn split_batch(body: &str) -> Result<Vec<Sent<'_>>, ApiError> {
    let mut rest = body.trim_start();
    for token in ["{", "\"Findings\"", ":", "["] {
        rest = rest.strip_prefix(token).ok_or_else(malformed)?.trim_start();
    }
    let mut batch = Vec::with_capacity(BATCH_FINDINGS_MAX);
    if let Some(after) = rest.strip_prefix(']') {
        return end_of_batch(after, batch);
    }
    loop {
        let (sent, after) = read_finding(rest)?;
        batch.push(sent);
        let after = after.trim_start();
        if let Some(next) = after.strip_prefix(',') {
            rest = next.trim_start();
        } else {
            return end_of_batch(after.strip_prefix(']').ok_or_else(malformed)?, batch);
        }
    }
}

fn end_of_batch<'b>(after: &str, batch: Vec<Sent<'b>>) -> Result<Vec<Sent<'b>>, ApiError> {
    let end = after.trim_start().strip_prefix('}').ok_or_else(malformed)?;
    if end.trim().is_empty() { Ok(batch) } else { Err(malformed()) }
}

fn read_finding(text: &str) -> Result<(Sent<'_>, &str), ApiError> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Finding<'_>>();
    match values.next() {
        Some(Ok(finding)) => {
            let (json, after) = text.split_at(values.byte_offset());
            let head = Head {
                id: finding.id().unwrap_or_default().to_string(),
                product_arn: finding.product_arn().unwrap_or_default().to_string(),
                account: finding.aws_account_id().unwrap_or_default().to_string(),
            };
            Ok((Sent { json, finding: Ok(finding), head }, after))
        }
        Some(Err(error)) => read_misshapen(text, &error),
        None => Err(malformed()),
    }
}

/// A finding that is JSON, but not of a finding's shape.
fn read_misshapen<'b>(
    text: &'b str,
    error: &serde_json::Error,
) -> Result<(Sent<'b>, &'b str), ApiError> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let Some(Ok(_)) = values.next() else { return Err(malformed()) };
    let (json, after) = text.split_at(values.byte_offset());
    let value: Value = serde_json::from_str(json).map_err(|_| malformed())?;
    let member = |name: &str| value[name].as_str().unwrap_or_default().to_string();
    let head = Head {
        id: member("Id"),
        product_arn: member("ProductArn"),
        account: member("AwsAccountId"),
    };
    Ok((Sent { json, finding: Err(shape_complaint(error)), head }, after))
}

/// serde's message about a shape, in the service's words.
fn shape_complaint(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    match message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
        Some(field) => format!("data should NOT have additional properties ({field})"),
        None => format!("data is misshapen: {message}"),
    }
}

fn malformed() -> ApiError {
    ApiError::new(400, "SerializationException", "Malformed BatchImportFindings request")
}
