//! The findings that one lane's Security Hub holds, and what an import does to them.
//!
//! User Guide, "`BatchImportFindings` for finding providers": an unknown Id creates, a known one is
//! replaced if its `UpdatedAt` is later and ignored otherwise; `Workflow` belongs to the customer and
//! is reset only when a finding comes back. What reaches this file has passed the rules of `asff`.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::{
    asff::Finding,
    clock::{format_timestamp, parse_timestamp},
};

/// Versions remembered per finding.
const HISTORY_MAX: usize = 64;

/// What the hub holds of one finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFinding {
    pub id: String,
    pub product_arn: String,
    pub generator_id: String,
    /// `ACTIVE` or `ARCHIVED`.
    pub record_state: String,
    /// `PASSED`, `FAILED`, …; empty if the provider gave none.
    pub compliance_status: String,
    pub severity_label: String,
    /// `NEW`, `NOTIFIED`, `RESOLVED` or `SUPPRESSED`.
    pub workflow_status: String,
    /// As sent.
    pub created_at: String,
    pub updated_at: String,
    pub updated_at_ms: i64,
    pub processed_at_ms: i64,
    /// The Id of the first resource.
    pub resource_id: String,
    /// Missing, failed, installed-rejected, pending-reboot, installed, installed-other.
    pub patch_counts: [i64; 6],
    /// How many versions were accepted.
    pub imports: u32,
    /// `UpdatedAt` and `RecordState` of the last accepted versions, oldest first.
    pub history: VecDeque<(String, String)>,
    /// `LastObservedAt` of the same versions; empty where the provider gave none.
    pub observed_history: VecDeque<String>,
    /// The accepted version as sent; empty if the simulator keeps none.
    pub json: String,
}

/// What became of one imported version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Imported {
    Accepted,
    /// Not newer than what is there.
    Ignored,
    /// As new as what is there, and not the same.
    Rewritten,
}

/// Id and product: what makes two findings the same.
pub(super) type Name = (String, String);

/// The findings of a lane.
#[derive(Debug, Default)]
pub(super) struct Hub {
    pub findings: BTreeMap<Name, HubFinding>,
}

impl Hub {
    pub(super) fn import(
        &mut self,
        finding: &Finding<'_>,
        json: &str,
        keep_json: bool,
        now_ms: i64,
    ) -> Imported {
        let updated_at_ms = parse_timestamp(finding.updated_at()).unwrap_or_default();
        let name = |text: Option<&str>| text.unwrap_or_default().to_string();
        let name = (name(finding.id()), name(finding.product_arn()));
        let old = self.findings.get_mut(&name);
        if let Some(old) = &old
            && updated_at_ms <= old.updated_at_ms
        {
            let is_rewritten = updated_at_ms == old.updated_at_ms
                && keep_json
                && !is_same_content(json, &old.json);
            return if is_rewritten { Imported::Rewritten } else { Imported::Ignored };
        }
        let mut new = version(finding, updated_at_ms, now_ms);
        if keep_json {
            new.json = json.to_string();
        }
        match old {
            Some(old) => {
                new.succeed(old);
                *old = new;
            }
            None => {
                self.findings.insert(name, new);
            }
        }
        Imported::Accepted
    }

    /// Has the hub hold exactly this, whatever it held under that name.
    pub(super) fn put(&mut self, mut finding: HubFinding) {
        finding.agree();
        self.findings.insert((finding.id.clone(), finding.product_arn.clone()), finding);
    }

    /// All findings with this Id.
    pub(super) fn with_id(&mut self, id: &str) -> impl Iterator<Item = &mut HubFinding> {
        self.findings.values_mut().filter(move |finding| finding.id == id)
    }
}

fn version(finding: &Finding<'_>, updated_at_ms: i64, now_ms: i64) -> HubFinding {
    let version = (finding.updated_at().to_string(), finding.record_state().to_string());
    HubFinding {
        id: finding.id().unwrap_or_default().to_string(),
        product_arn: finding.product_arn().unwrap_or_default().to_string(),
        generator_id: finding.generator_id().to_string(),
        record_state: finding.record_state().to_string(),
        compliance_status: finding.compliance_status().to_string(),
        severity_label: finding.severity_label().to_string(),
        workflow_status: "NEW".to_string(),
        created_at: finding.created_at().to_string(),
        updated_at: finding.updated_at().to_string(),
        updated_at_ms,
        processed_at_ms: now_ms,
        resource_id: finding.first_resource_id().to_string(),
        patch_counts: finding.patch_counts(),
        imports: 1,
        history: VecDeque::from([version]),
        observed_history: VecDeque::from([finding.last_observed_at().to_string()]),
        json: String::new(),
    }
}

impl HubFinding {
    /// Takes over from the version before what an import doesn't change.
    fn succeed(&mut self, old: &mut Self) {
        let returns = (old.record_state == "ARCHIVED" && self.record_state == "ACTIVE")
            || (old.compliance_status == "PASSED" && self.compliance_status == "FAILED");
        self.workflow_status = match old.workflow_status.as_str() {
            "NOTIFIED" | "RESOLVED" if returns => "NEW".to_string(),
            status => status.to_string(),
        };
        self.imports = old.imports.saturating_add(1);
        self.history = appended(&mut old.history, &mut self.history);
        self.observed_history = appended(&mut old.observed_history, &mut self.observed_history);
    }

    /// Has the kept JSON say what the fields do.
    fn agree(&mut self) {
        self.updated_at_ms = parse_timestamp(&self.updated_at).unwrap_or(self.updated_at_ms);
        let mut json: Value = serde_json::from_str(&self.json).unwrap_or_else(|_| json!({}));
        json["Id"] = json!(self.id);
        json["ProductArn"] = json!(self.product_arn);
        json["GeneratorId"] = json!(self.generator_id);
        json["CreatedAt"] = json!(self.created_at);
        json["UpdatedAt"] = json!(self.updated_at);
        json["RecordState"] = json!(self.record_state);
        json["Compliance"]["Status"] = json!(self.compliance_status);
        json["FindingProviderFields"]["Severity"] = json!({"Label": self.severity_label});
        self.json = json.to_string();
    }

    /// The finding as `GetFindings` shows it: as sent, with what the service fills in.
    pub(super) fn render(&self, account: &str, region: &str) -> Value {
        let mut finding: Value = serde_json::from_str(&self.json).unwrap_or_else(|_| json!({}));
        let provider = &finding["FindingProviderFields"];
        let (severity, types) = (provider["Severity"].clone(), provider["Types"].clone());
        if severity.is_object() {
            finding["Severity"] = severity;
        }
        if types.is_array() {
            finding["Types"] = types;
        }
        finding["Severity"]["Normalized"] = json!(normalized(&self.severity_label));
        finding["FindingProviderFields"] =
            json!({"Severity": finding["Severity"].clone(), "Types": finding["Types"].clone()});
        finding["RecordState"] = json!(self.record_state);
        finding["Workflow"] = json!({"Status": self.workflow_status});
        finding["WorkflowState"] = json!("NEW");
        finding["ProcessedAt"] = json!(format_timestamp(self.processed_at_ms));
        finding["Region"] = json!(region);
        finding["AwsAccountId"] = json!(account);
        finding["ProductFields"]["aws/securityhub/FindingId"] =
            json!(format!("{}/{}", self.product_arn, self.id));
        finding
    }
}

/// The last versions of both, oldest first.
fn appended<T>(old: &mut VecDeque<T>, new: &mut VecDeque<T>) -> VecDeque<T> {
    let mut history = std::mem::take(old);
    history.append(new);
    while history.len() > HISTORY_MAX {
        history.pop_front();
    }
    history
}

/// `Severity.Normalized` that the service derives from a label (model, `Severity`).
fn normalized(label: &str) -> u8 {
    match label {
        "LOW" => 1,
        "MEDIUM" => 40,
        "HIGH" => 70,
        "CRITICAL" => 90,
        _ => 0,
    }
}

/// Equal apart from the order of keys.
fn is_same_content(one: &str, other: &str) -> bool {
    one == other
        || matches!(
            (serde_json::from_str::<Value>(one), serde_json::from_str::<Value>(other)),
            (Ok(one), Ok(other)) if one == other
        )
}
