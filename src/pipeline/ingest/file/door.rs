//! The door: whether a line is an observation at all. Pure.
//!
//! A line is one JSON object: an `InstancePatchState` as `DescribeInstancePatchStates` gives it
//! and the AWS CLI prints it (`PascalCase` names; times as seconds since 1970 or RFC 3339), plus
//! `Account` and `Region`. It may also have `Patches` (as `DescribeInstancePatches` lists them)
//! and any field of `DescribeInstanceInformation`. What AWS prints in these shapes and an
//! observation has no room for is let in and left out.
//!
//! | refused | |
//! |---|---|
//! | over [`LINE_BYTES_MAX`], not UTF-8, not one JSON object, a name twice | |
//! | without `Account`, `Region`, `InstanceId`, `BaselineId`, `Operation`, `OperationStartTime` or `OperationEndTime` | what AWS's model requires; `PatchGroup` isn't asked for, since nodes without one lack it |
//! | a field that is in none of the shapes, or of another type | |
//! | a count that is negative or over 2^31 - 1, a time that is none | |
//! | an account, Region or node id that is none | |
//! | a lane that isn't served | its findings would wait for ever |
//!
//! What passes is on disk before it is judged further: sense is the validate stage's business,
//! and what makes none becomes a dead letter there.

use std::collections::BTreeSet;

use super::fields::{Fields, cut};
use crate::record::{
    AccountId, Lane, NodeId, PatchDetail, Region, Text,
    ids::InvalidId,
    observation::{NodeInfo, PatchState, RawPatchState},
};

/// The longest line.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// Lanes that a refusal names.
const LANES_SHOWN_MAX: usize = 3;

const PATCH_STATE_FIELDS: [&str; 23] = [
    "Account",
    "Region",
    "InstanceId",
    "PatchGroup",
    "BaselineId",
    "SnapshotId",
    "Operation",
    "OperationStartTime",
    "OperationEndTime",
    "RebootOption",
    "InstalledCount",
    "InstalledOtherCount",
    "InstalledPendingRebootCount",
    "InstalledRejectedCount",
    "MissingCount",
    "FailedCount",
    "NotApplicableCount",
    "UnreportedNotApplicableCount",
    "AvailableSecurityUpdateCount",
    "CriticalNonCompliantCount",
    "SecurityNonCompliantCount",
    "OtherNonCompliantCount",
    "Patches",
];
const NODE_FIELDS: [&str; 11] = [
    "ResourceType",
    "PingStatus",
    "Name",
    "ComputerName",
    "PlatformType",
    "PlatformName",
    "PlatformVersion",
    "IPAddress",
    "AgentVersion",
    "SourceType",
    "SourceId",
];
/// Fields of AWS's shapes that an observation has no room for.
const LEFT_OUT: [&str; 13] = [
    "InstallOverrideList",
    "OwnerInformation",
    "LastNoRebootInstallOperationTime",
    "LastPingDateTime",
    "IsLatestVersion",
    "ActivationId",
    "IamRole",
    "RegistrationDate",
    "AssociationStatus",
    "LastAssociationExecutionDate",
    "LastSuccessfulAssociationExecutionDate",
    "AssociationOverview",
    "SourceLocation",
];
const PATCH_FIELDS: [&str; 7] =
    ["Title", "KBId", "Classification", "Severity", "State", "InstalledTime", "CVEIds"];

/// Why a line isn't let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it has {bytes} bytes, over the limit of {LINE_BYTES_MAX}: send fewer `Patches`")]
    TooLong { bytes: usize },
    #[error("it is not UTF-8 text")]
    NotText,
    #[error(
        "it is not one JSON object ({0}); a line is one InstancePatchState, as `jq -c \
         '.InstancePatchStates[]'` prints it"
    )]
    NotAnObject(String),
    #[error("{field}: it is missing{}", missing_advice(.field))]
    Missing { field: String },
    #[error("{field}: there is no such field{}", meant_advice(.meant.as_deref()))]
    Foreign { field: String, meant: Option<String> },
    #[error("{field}: expected {expected}, found {found}")]
    WrongType { field: String, expected: &'static str, found: String },
    #[error("{field}: {found} is not {allowed}")]
    OutOfRange { field: String, found: String, allowed: &'static str },
    #[error("{field}: {reason}")]
    Id { field: &'static str, reason: InvalidId },
    #[error(
        "Account, Region: lane {lane} is not served here (served: {served}); add it under \
         [[lanes]], or give the line to the daemon that serves it"
    )]
    NotServed { lane: Lane, served: String },
}

fn missing_advice(field: &str) -> &'static str {
    match field {
        "Account" | "Region" => "; AWS's output doesn't say whose it is: add Account and Region",
        _ => "",
    }
}

fn meant_advice(meant: Option<&str>) -> String {
    meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"))
}

/// A line that is let in.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub lane: Lane,
    pub node: NodeId,
    pub patch_state: RawPatchState,
    pub node_info: Option<NodeInfo>,
    /// The patches that make the node non-compliant, if the line lists patches at all.
    pub patches: Option<Vec<PatchDetail>>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Door {
    served: BTreeSet<Lane>,
}

impl Door {
    /// For the lanes that are served.
    pub fn new(served: impl IntoIterator<Item = Lane>) -> Self {
        Self { served: served.into_iter().collect() }
    }

    /// What the line says, if it may come in. `None`: it is blank.
    pub fn judge(&self, line: &str) -> Result<Option<Line>, Refusal> {
        let Some(line) = read(line)? else { return Ok(None) };
        if !self.served.contains(&line.lane) {
            return Err(Refusal::NotServed { lane: line.lane, served: self.served_shown() });
        }
        Ok(Some(line))
    }

    fn served_shown(&self) -> String {
        let shown: Vec<String> =
            self.served.iter().take(LANES_SHOWN_MAX).map(ToString::to_string).collect();
        match self.served.len().saturating_sub(LANES_SHOWN_MAX) {
            0 if shown.is_empty() => "none".into(),
            0 => shown.join(", "),
            more => format!("{} and {more} more", shown.join(", ")),
        }
    }
}

/// Reads a line whatever its lane. `None`: it is blank.
pub fn read(line: &str) -> Result<Option<Line>, Refusal> {
    if line.len() > LINE_BYTES_MAX {
        return Err(Refusal::TooLong { bytes: line.len() });
    }
    if line.trim().is_empty() {
        return Ok(None);
    }
    let mut fields = Fields::of_line(line)?;
    let account: AccountId = id(&mut fields, "Account")?;
    let region: Region = id(&mut fields, "Region")?;
    let node: NodeId = id(&mut fields, "InstanceId")?;
    let read = Line {
        lane: Lane::new(account, region),
        node,
        patch_state: patch_state(&mut fields)?,
        node_info: node_info(&mut fields)?,
        patches: patches(&mut fields)?,
    };
    for name in LEFT_OUT {
        fields.take(name);
    }
    fields.nothing_else(PATCH_STATE_FIELDS.into_iter().chain(NODE_FIELDS).chain(LEFT_OUT))?;
    Ok(Some(read))
}

fn id<T: std::str::FromStr<Err = InvalidId>>(
    fields: &mut Fields,
    field: &'static str,
) -> Result<T, Refusal> {
    let text = fields.required(field)?;
    text.parse().map_err(|reason: InvalidId| {
        // What is wrong may be long: told by its beginning.
        let reason = cut(&text).parse::<T>().err().unwrap_or(reason);
        Refusal::Id { field, reason }
    })
}

fn patch_state(fields: &mut Fields) -> Result<RawPatchState, Refusal> {
    Ok(RawPatchState {
        patch_group: fields.text("PatchGroup")?.unwrap_or_default(),
        baseline: Text::truncated(&fields.required("BaselineId")?),
        snapshot: fields.text("SnapshotId")?,
        operation: Text::truncated(&fields.required("Operation")?),
        operation_start: fields.required_time("OperationStartTime")?,
        operation_end: fields.required_time("OperationEndTime")?,
        reboot_option: fields.text("RebootOption")?,
        installed: fields.count("InstalledCount")?,
        installed_other: fields.count("InstalledOtherCount")?,
        installed_pending_reboot: fields.count("InstalledPendingRebootCount")?,
        installed_rejected: fields.count("InstalledRejectedCount")?,
        missing: fields.count("MissingCount")?,
        failed: fields.count("FailedCount")?,
        not_applicable: fields.count("NotApplicableCount")?,
        unreported_not_applicable: fields.count("UnreportedNotApplicableCount")?,
        available_security_update: fields.count("AvailableSecurityUpdateCount")?,
        critical_non_compliant: fields.count("CriticalNonCompliantCount")?,
        security_non_compliant: fields.count("SecurityNonCompliantCount")?,
        other_non_compliant: fields.count("OtherNonCompliantCount")?,
    })
}

/// `None` if the line says nothing of the node itself.
fn node_info(fields: &mut Fields) -> Result<Option<NodeInfo>, Refusal> {
    let info = NodeInfo {
        resource_type: fields.text("ResourceType")?.unwrap_or_default(),
        ping_status: fields.text("PingStatus")?.unwrap_or_default(),
        name: fields.text("Name")?,
        computer_name: fields.text("ComputerName")?,
        platform_type: fields.text("PlatformType")?,
        platform_name: fields.text("PlatformName")?,
        platform_version: fields.text("PlatformVersion")?,
        ip_address: fields.text("IPAddress")?,
        agent_version: fields.text("AgentVersion")?,
        source_type: fields.text("SourceType")?,
        source_id: fields.text("SourceId")?,
    };
    Ok((info != NodeInfo::default()).then_some(info))
}

fn patches(fields: &mut Fields) -> Result<Option<Vec<PatchDetail>>, Refusal> {
    let Some(list) = fields.list("Patches")? else { return Ok(None) };
    let mut patches = Vec::new();
    for (index, value) in list.into_iter().enumerate() {
        patches.extend(patch(Fields::of_value(format!("Patches[{index}]."), value)?)?);
    }
    Ok(Some(patches))
}

/// `None` for a patch that doesn't make its node non-compliant.
fn patch(mut fields: Fields) -> Result<Option<PatchDetail>, Refusal> {
    let state = PatchState::named(&fields.required("State")?);
    let detail = PatchDetail {
        state,
        kb: fields.text("KBId")?.unwrap_or_default(),
        title: fields.text("Title")?.unwrap_or_default(),
        classification: fields.text("Classification")?.unwrap_or_default(),
        severity: fields.text("Severity")?.unwrap_or_default(),
        cves: PatchDetail::split_cves(&fields.string("CVEIds")?.unwrap_or_default()),
    };
    fields.time("InstalledTime")?;
    fields.nothing_else(PATCH_FIELDS)?;
    Ok((state != PatchState::Other).then_some(detail))
}
