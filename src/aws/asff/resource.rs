//! The finding's one resource: the node.
//!
//! EC2 nodes are `AwsEc2Instance` by ARN. Hybrid nodes are `Other` by their managed-instance ARN,
//! unless the policy asks for AWS's way, which calls them EC2 instances as well.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use aws_sdk_securityhub::types::{
    AwsEc2InstanceDetails, AwsSsmComplianceSummary, AwsSsmPatch, AwsSsmPatchComplianceDetails,
    Partition as AsffPartition, Resource, ResourceDetails,
};

use super::limits::{Meter, Pairs, any_count};
use crate::record::{Facts, Finding, HybridAs, Lane, NodeKind, Partition, Text};

pub(super) const EC2_INSTANCE: &str = "AwsEc2Instance";
const OTHER: &str = "Other";
/// `Details.Other` values: under 1,024 characters (Security Hub model).
const OTHER_CHARS_MAX: usize = 1023;
/// Names and numbers of the compliance summary, and the frames of the details.
const DETAILS_FRAME_BYTES: usize = 1_500;

/// The resource before it takes the SDK's form, which has inline room for every kind of resource
/// there is: tens of KB each. A finding that waits for its request holds this.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NodeResource {
    pub r#type: &'static str,
    pub id: Option<String>,
    pub partition: Option<AsffPartition>,
    pub region: String,
    pub instance: Option<AwsEc2InstanceDetails>,
    pub patches: Option<AwsSsmPatchComplianceDetails>,
    pub other: Option<HashMap<String, String>>,
}

impl NodeResource {
    pub fn of(lane: &Lane, finding: &Finding, meter: &mut Meter) -> Self {
        let as_ec2 = finding.node.kind() == NodeKind::Ec2
            || finding.policy.hybrid_as == HybridAs::AwsEc2Instance;
        Self {
            r#type: if as_ec2 { EC2_INSTANCE } else { OTHER },
            id: meter.text::<512>(&arn(lane, finding)),
            partition: asff_partition(lane.partition()),
            region: lane.region.to_string(),
            instance: as_ec2.then(|| addresses(&finding.facts, meter)).flatten(),
            patches: patch_compliance(&finding.facts, meter),
            other: node_facts(finding, meter).into_map(),
        }
    }

    pub fn into_resources(self) -> Vec<Resource> {
        let mut resources = vec![Resource::builder().build()];
        let resource = &mut resources[0];
        resource.r#type = Some(self.r#type.to_owned());
        resource.id = self.id;
        resource.partition = self.partition;
        resource.region = Some(self.region);
        if self.instance.is_some() || self.patches.is_some() || self.other.is_some() {
            let details = resource.details.insert(ResourceDetails::builder().build());
            details.aws_ec2_instance = self.instance;
            details.aws_ssm_patch_compliance = self.patches;
            details.other = self.other;
        }
        resources
    }
}

/// The ARN tells what the node is, whatever type it is shown as.
fn arn(lane: &Lane, finding: &Finding) -> String {
    let (partition, region, account) = (lane.partition(), &lane.region, &lane.account);
    let node = &finding.node;
    match node.kind() {
        NodeKind::Ec2 => format!("arn:{partition}:ec2:{region}:{account}:instance/{node}"),
        NodeKind::Hybrid => {
            format!("arn:{partition}:ssm:{region}:{account}:managed-instance/{node}")
        }
    }
}

/// The model's names: it calls `aws-iso` `aws-us-iso` and doesn't have the younger partitions,
/// for which the field, an optional one, is left out.
pub(super) fn asff_partition(partition: Partition) -> Option<AsffPartition> {
    match partition {
        Partition::Aws => Some(AsffPartition::Aws),
        Partition::AwsCn => Some(AsffPartition::AwsCn),
        Partition::AwsUsGov => Some(AsffPartition::AwsUsGov),
        Partition::AwsIso => Some(AsffPartition::AwsUsIso),
        Partition::AwsIsoB => Some(AsffPartition::AwsUsIsoB),
        Partition::AwsIsoE | Partition::AwsIsoF | Partition::AwsEusc => None,
    }
}

/// What SSM knows of an `AwsEc2Instance`: an address.
fn addresses(facts: &Facts, meter: &mut Meter) -> Option<AwsEc2InstanceDetails> {
    let address = facts.node_info.as_ref()?.ip_address.as_ref()?.as_str();
    let details = AwsEc2InstanceDetails::builder();
    let details = if address.parse::<Ipv4Addr>().is_ok() {
        details.ipv4_addresses(meter.text::<46>(address)?)
    } else if address.parse::<Ipv6Addr>().is_ok() {
        details.ipv6_addresses(meter.text::<46>(address)?)
    } else {
        return None;
    };
    Some(details.build())
}

/// The service's own summary, as `AwsSsmPatchCompliance` has it.
fn patch_compliance(facts: &Facts, meter: &mut Meter) -> Option<AwsSsmPatchComplianceDetails> {
    let compliance = facts.compliance.as_ref()?;
    meter.add(DETAILS_FRAME_BYTES);
    // All zero: not told, as when an event had a node read.
    let is_told = compliance.compliant_counts.iter().any(|count| *count > 0);
    let [critical, high, medium, low, informational, unspecified] =
        compliance.compliant_counts.map(|count| is_told.then(|| any_count(count)));
    let non_compliant = compliance.non_compliant_counts.map(any_count);
    let summary = AwsSsmComplianceSummary::builder()
        .status(if compliance.non_compliant { "NON_COMPLIANT" } else { "COMPLIANT" })
        .compliance_type(if facts.are_by_association() { "Association" } else { "Patch" })
        .set_execution_type(meter.optional::<50, 50>(compliance.execution_type.as_ref()))
        .set_overall_severity(meter.optional::<32, 32>(compliance.overall_severity.as_ref()))
        .set_patch_baseline_id(meter.optional::<128, 128>(facts.baseline.as_ref()))
        .set_patch_group(meter.optional::<256, 256>(facts.patch_group.as_ref()))
        .set_compliant_critical_count(critical)
        .set_compliant_high_count(high)
        .set_compliant_medium_count(medium)
        .set_compliant_low_count(low)
        .set_compliant_informational_count(informational)
        .set_compliant_unspecified_count(unspecified)
        .non_compliant_critical_count(non_compliant[0])
        .non_compliant_high_count(non_compliant[1])
        .non_compliant_medium_count(non_compliant[2])
        .non_compliant_low_count(non_compliant[3])
        .non_compliant_informational_count(non_compliant[4])
        .non_compliant_unspecified_count(non_compliant[5])
        .build();
    let patch = AwsSsmPatch::builder().compliance_summary(summary).build();
    Some(AwsSsmPatchComplianceDetails::builder().patch(patch).build())
}

/// Where a hybrid node runs, as far as SSM knows: by its `SourceType` (SSM model). In words rather
/// than in `Resource.Provider`, which knows AWS and Azure only and isn't documented for importing.
fn hybrid_source(source_type: &str) -> Option<&'static str> {
    match source_type {
        "Microsoft.Compute/virtualMachines" => Some("Azure"),
        "compute.googleapis.com/Instance" => Some("Google Cloud"),
        "AWS::IoT::Thing" => Some("AWS IoT Greengrass"),
        "AWS::SSM::ManagedInstance" => Some("on-premises, or elsewhere outside EC2"),
        _ => None,
    }
}

/// What a person wants to know of a node and no typed detail has. The ping status is left out:
/// it is old by the time it is read.
fn node_facts(finding: &Finding, meter: &mut Meter) -> Pairs<OTHER_CHARS_MAX> {
    let mut pairs = Pairs::default();
    let Some(info) = &finding.facts.node_info else { return pairs };
    if finding.node.kind() == NodeKind::Hybrid
        && let Some(source) = info.source_type.as_ref().and_then(|it| hybrid_source(it.as_str()))
    {
        pairs.put(meter, "Source", source);
    }
    let resource_type = Text::<32>::non_blank(info.resource_type.as_str());
    pairs.put_given(meter, "ResourceType", resource_type.as_ref());
    pairs.put_given(meter, "Name", info.name.as_ref());
    pairs.put_given(meter, "ComputerName", info.computer_name.as_ref());
    pairs.put_given(meter, "PlatformType", info.platform_type.as_ref());
    pairs.put_given(meter, "PlatformName", info.platform_name.as_ref());
    pairs.put_given(meter, "PlatformVersion", info.platform_version.as_ref());
    pairs.put_given(meter, "IpAddress", info.ip_address.as_ref());
    pairs.put_given(meter, "AgentVersion", info.agent_version.as_ref());
    pairs.put_given(meter, "SourceType", info.source_type.as_ref());
    pairs.put_given(meter, "SourceId", info.source_id.as_ref());
    pairs
}
