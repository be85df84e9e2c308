//! The members of a finding, and their limits.
//!
//! Sources: the Security Hub model 2018-10-26 (`AwsSecurityFinding` and what is below it; most
//! limits are prose in its member documentation); User Guide, "Required top-level ASFF
//! attributes" and "Optional top-level ASFF attributes"; API Reference, "Timestamps". Parts that
//! no patch finding has are known by name only.

use super::shape::{Kind, Member, optional, required, text};

const SERVICE_FILLS: &str = "Security Hub fills it in; leave it out";
const FOR_CUSTOMERS: &str = "it belongs to the customer: what a provider sends of it counts at most \
                             when the finding is new; leave it out";
const IN_PROVIDER_FIELDS: &str = "what a provider says of it belongs into FindingProviderFields: \
                                  there it survives a customer's own value";
const DEPRECATED: &str = "deprecated: Severity.Label says it";

pub(super) const SEVERITY_LABELS: &[&str] = &["INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"];
pub(super) const NAMESPACES: &[&str] = &[
    "Software and Configuration Checks",
    "TTPs",
    "Effects",
    "Unusual Behaviors",
    "Sensitive Data Identifications",
];
/// As the model spells them.
pub(super) const PARTITIONS: &[&str] =
    &["aws", "aws-cn", "aws-us-gov", "aws-us-iso", "aws-us-iso-b", "AzureCloud"];
/// Partitions that exist, but that the model's enum doesn't have by this name.
pub(super) const PARTITIONS_UNLISTED: &[&str] =
    &["aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-eusc"];

const TYPES: Kind = Kind::List { items_min: 0, items_max: 50, of: &Kind::FindingType };
const RELATED: Kind =
    Kind::List { items_min: 0, items_max: 10, of: &Kind::Object(RELATED_FINDING) };

pub(super) const FINDING: &[Member] = &[
    required("SchemaVersion", Kind::OneOf(&["2018-10-08"])),
    required("Id", text(512)),
    required("ProductArn", Kind::Text { chars_min: 12, chars_max: 2_048 }),
    optional("ProductName", text(128)),
    optional("CompanyName", text(128)),
    optional("Region", text(16)).but(SERVICE_FILLS),
    required("GeneratorId", text(512)),
    required("AwsAccountId", Kind::Account),
    optional("AwsAccountName", text(50)).but(SERVICE_FILLS),
    optional("Types", TYPES).but(IN_PROVIDER_FIELDS),
    optional("FirstObservedAt", Kind::Time),
    optional("LastObservedAt", Kind::Time),
    required("CreatedAt", Kind::Time),
    required("UpdatedAt", Kind::Time),
    optional("ProcessedAt", Kind::Time).but(SERVICE_FILLS),
    optional("Severity", Kind::Object(SEVERITY)).but(IN_PROVIDER_FIELDS),
    optional("Confidence", Kind::Count { max: 100 }).but(IN_PROVIDER_FIELDS),
    optional("Criticality", Kind::Count { max: 100 }).but(IN_PROVIDER_FIELDS),
    required("Title", text(256)),
    required("Description", text(1_024)),
    optional("Remediation", Kind::Object(REMEDIATION)),
    optional("SourceUrl", Kind::Url),
    optional(
        "ProductFields",
        Kind::Pairs { pairs_max: 50, key_chars_max: 128, value_chars_max: 2_048 },
    ),
    optional(
        "UserDefinedFields",
        Kind::Pairs { pairs_max: 50, key_chars_max: 128, value_chars_max: 1_024 },
    )
    .but(FOR_CUSTOMERS),
    required("Resources", Kind::List { items_min: 1, items_max: 32, of: &Kind::Object(RESOURCE) }),
    optional("Compliance", Kind::Object(COMPLIANCE)),
    optional(
        "VerificationState",
        Kind::OneOf(&["UNKNOWN", "TRUE_POSITIVE", "FALSE_POSITIVE", "BENIGN_POSITIVE"]),
    ),
    optional("Workflow", Kind::Object(WORKFLOW)).but(FOR_CUSTOMERS),
    optional(
        "WorkflowState",
        Kind::OneOf(&["NEW", "ASSIGNED", "IN_PROGRESS", "DEFERRED", "RESOLVED"]),
    )
    .but("retired: Workflow took its place, and that is the customer's; leave it out"),
    optional("RecordState", Kind::OneOf(&["ACTIVE", "ARCHIVED"])),
    optional("RelatedFindings", RELATED).but(IN_PROVIDER_FIELDS),
    optional("Note", Kind::Object(NOTE)).but(FOR_CUSTOMERS),
    optional("Vulnerabilities", Kind::AnyList(&Kind::Object(VULNERABILITY))),
    optional("PatchSummary", Kind::Object(PATCH_SUMMARY)),
    optional("FindingProviderFields", Kind::Object(PROVIDER_FIELDS)),
    optional("Sample", Kind::Bool),
    optional("GeneratorDetails", Kind::Unchecked).but("for Amazon CodeGuru only; leave it out"),
    optional("Action", Kind::Unchecked),
    optional("Detection", Kind::Unchecked),
    optional("Malware", Kind::Unchecked),
    optional("Network", Kind::Unchecked),
    optional("NetworkPath", Kind::Unchecked),
    optional("Process", Kind::Unchecked),
    optional("ThreatIntelIndicators", Kind::Unchecked),
    optional("Threats", Kind::Unchecked),
];

const SEVERITY: &[Member] = &[
    optional("Label", Kind::OneOf(SEVERITY_LABELS)),
    optional("Normalized", Kind::Count { max: 100 }).but(DEPRECATED),
    optional("Product", Kind::Number).but(DEPRECATED),
    optional("Original", text(64)),
];

const PROVIDER_FIELDS: &[Member] = &[
    optional("Confidence", Kind::Count { max: 100 }),
    optional("Criticality", Kind::Count { max: 100 }),
    optional("RelatedFindings", RELATED),
    optional("Severity", Kind::Object(PROVIDER_SEVERITY)),
    optional("Types", TYPES),
];

const PROVIDER_SEVERITY: &[Member] =
    &[required("Label", Kind::OneOf(SEVERITY_LABELS)), optional("Original", text(64))];

const RELATED_FINDING: &[Member] = &[
    required("ProductArn", Kind::Text { chars_min: 1, chars_max: 2_048 }),
    required("Id", text(512)),
];

const REMEDIATION: &[Member] = &[optional("Recommendation", Kind::Object(RECOMMENDATION))];
const RECOMMENDATION: &[Member] = &[optional("Text", text(512)), optional("Url", Kind::Url)];

const COMPLIANCE: &[Member] = &[
    optional("Status", Kind::OneOf(&["PASSED", "WARNING", "FAILED", "NOT_AVAILABLE"])),
    optional("RelatedRequirements", Kind::List { items_min: 0, items_max: 32, of: &Kind::AnyText }),
    optional("StatusReasons", Kind::AnyList(&Kind::Object(STATUS_REASON))),
    optional("SecurityControlId", Kind::AnyText),
    optional("AssociatedStandards", Kind::Unchecked),
    optional("SecurityControlParameters", Kind::Unchecked),
];
const STATUS_REASON: &[Member] =
    &[required("ReasonCode", Kind::AnyText), optional("Description", Kind::AnyText)];

const WORKFLOW: &[Member] =
    &[optional("Status", Kind::OneOf(&["NEW", "NOTIFIED", "RESOLVED", "SUPPRESSED"]))];

const NOTE: &[Member] = &[
    required("Text", text(512)),
    required("UpdatedBy", text(512)),
    required("UpdatedAt", Kind::Time),
];

const RESOURCE: &[Member] = &[
    required("Type", text(256)),
    required("Id", text(512)),
    optional("Partition", Kind::Partition),
    optional("Region", text(16)),
    optional("Provider", Kind::AnyText),
    optional("Owner", Kind::Unchecked),
    optional("ResourceRole", Kind::AnyText),
    optional("Tags", Kind::Pairs { pairs_max: 50, key_chars_max: 128, value_chars_max: 256 }),
    optional("DataClassification", Kind::Unchecked),
    optional("Details", Kind::Object(DETAILS)),
    optional("ApplicationName", Kind::AnyText),
    optional("ApplicationArn", Kind::AnyText),
];

/// "Less than" 128 and 1,024.
const OTHER: Kind = Kind::Pairs { pairs_max: 50, key_chars_max: 127, value_chars_max: 1_023 };

const DETAILS: &[Member] = &[
    optional("AwsEc2Instance", Kind::Object(EC2_INSTANCE)),
    optional("AwsSsmPatchCompliance", Kind::Object(SSM_PATCH_COMPLIANCE)),
    optional("Other", OTHER),
    optional("AwsAmazonMqBroker", Kind::Unchecked),
    optional("AwsApiGatewayRestApi", Kind::Unchecked),
    optional("AwsApiGatewayStage", Kind::Unchecked),
    optional("AwsApiGatewayV2Api", Kind::Unchecked),
    optional("AwsApiGatewayV2Stage", Kind::Unchecked),
    optional("AwsAppSyncGraphQlApi", Kind::Unchecked),
    optional("AwsAthenaWorkGroup", Kind::Unchecked),
    optional("AwsAutoScalingAutoScalingGroup", Kind::Unchecked),
    optional("AwsAutoScalingLaunchConfiguration", Kind::Unchecked),
    optional("AwsBackupBackupPlan", Kind::Unchecked),
    optional("AwsBackupBackupVault", Kind::Unchecked),
    optional("AwsBackupRecoveryPoint", Kind::Unchecked),
    optional("AwsCertificateManagerCertificate", Kind::Unchecked),
    optional("AwsCloudFormationStack", Kind::Unchecked),
    optional("AwsCloudFrontDistribution", Kind::Unchecked),
    optional("AwsCloudTrailTrail", Kind::Unchecked),
    optional("AwsCloudWatchAlarm", Kind::Unchecked),
    optional("AwsCodeBuildProject", Kind::Unchecked),
    optional("AwsDmsEndpoint", Kind::Unchecked),
    optional("AwsDmsReplicationInstance", Kind::Unchecked),
    optional("AwsDmsReplicationTask", Kind::Unchecked),
    optional("AwsDynamoDbTable", Kind::Unchecked),
    optional("AwsEc2ClientVpnEndpoint", Kind::Unchecked),
    optional("AwsEc2Eip", Kind::Unchecked),
    optional("AwsEc2LaunchTemplate", Kind::Unchecked),
    optional("AwsEc2NetworkAcl", Kind::Unchecked),
    optional("AwsEc2NetworkInterface", Kind::Unchecked),
    optional("AwsEc2RouteTable", Kind::Unchecked),
    optional("AwsEc2SecurityGroup", Kind::Unchecked),
    optional("AwsEc2Subnet", Kind::Unchecked),
    optional("AwsEc2TransitGateway", Kind::Unchecked),
    optional("AwsEc2Volume", Kind::Unchecked),
    optional("AwsEc2Vpc", Kind::Unchecked),
    optional("AwsEc2VpcEndpointService", Kind::Unchecked),
    optional("AwsEc2VpcPeeringConnection", Kind::Unchecked),
    optional("AwsEc2VpnConnection", Kind::Unchecked),
    optional("AwsEcrContainerImage", Kind::Unchecked),
    optional("AwsEcrRepository", Kind::Unchecked),
    optional("AwsEcsCluster", Kind::Unchecked),
    optional("AwsEcsContainer", Kind::Unchecked),
    optional("AwsEcsService", Kind::Unchecked),
    optional("AwsEcsTask", Kind::Unchecked),
    optional("AwsEcsTaskDefinition", Kind::Unchecked),
    optional("AwsEfsAccessPoint", Kind::Unchecked),
    optional("AwsEksCluster", Kind::Unchecked),
    optional("AwsElasticBeanstalkEnvironment", Kind::Unchecked),
    optional("AwsElasticsearchDomain", Kind::Unchecked),
    optional("AwsElbLoadBalancer", Kind::Unchecked),
    optional("AwsElbv2LoadBalancer", Kind::Unchecked),
    optional("AwsEventSchemasRegistry", Kind::Unchecked),
    optional("AwsEventsEndpoint", Kind::Unchecked),
    optional("AwsEventsEventbus", Kind::Unchecked),
    optional("AwsGuardDutyDetector", Kind::Unchecked),
    optional("AwsIamAccessKey", Kind::Unchecked),
    optional("AwsIamGroup", Kind::Unchecked),
    optional("AwsIamPolicy", Kind::Unchecked),
    optional("AwsIamRole", Kind::Unchecked),
    optional("AwsIamUser", Kind::Unchecked),
    optional("AwsKinesisStream", Kind::Unchecked),
    optional("AwsKmsKey", Kind::Unchecked),
    optional("AwsLambdaFunction", Kind::Unchecked),
    optional("AwsLambdaLayerVersion", Kind::Unchecked),
    optional("AwsMskCluster", Kind::Unchecked),
    optional("AwsNetworkFirewallFirewall", Kind::Unchecked),
    optional("AwsNetworkFirewallFirewallPolicy", Kind::Unchecked),
    optional("AwsNetworkFirewallRuleGroup", Kind::Unchecked),
    optional("AwsOpenSearchServiceDomain", Kind::Unchecked),
    optional("AwsRdsDbCluster", Kind::Unchecked),
    optional("AwsRdsDbClusterSnapshot", Kind::Unchecked),
    optional("AwsRdsDbInstance", Kind::Unchecked),
    optional("AwsRdsDbSecurityGroup", Kind::Unchecked),
    optional("AwsRdsDbSnapshot", Kind::Unchecked),
    optional("AwsRdsEventSubscription", Kind::Unchecked),
    optional("AwsRedshiftCluster", Kind::Unchecked),
    optional("AwsRoute53HostedZone", Kind::Unchecked),
    optional("AwsS3AccessPoint", Kind::Unchecked),
    optional("AwsS3AccountPublicAccessBlock", Kind::Unchecked),
    optional("AwsS3Bucket", Kind::Unchecked),
    optional("AwsS3Object", Kind::Unchecked),
    optional("AwsSageMakerNotebookInstance", Kind::Unchecked),
    optional("AwsSecretsManagerSecret", Kind::Unchecked),
    optional("AwsSnsTopic", Kind::Unchecked),
    optional("AwsSqsQueue", Kind::Unchecked),
    optional("AwsStepFunctionStateMachine", Kind::Unchecked),
    optional("AwsWafRateBasedRule", Kind::Unchecked),
    optional("AwsWafRegionalRateBasedRule", Kind::Unchecked),
    optional("AwsWafRegionalRule", Kind::Unchecked),
    optional("AwsWafRegionalRuleGroup", Kind::Unchecked),
    optional("AwsWafRegionalWebAcl", Kind::Unchecked),
    optional("AwsWafRule", Kind::Unchecked),
    optional("AwsWafRuleGroup", Kind::Unchecked),
    optional("AwsWafWebAcl", Kind::Unchecked),
    optional("AwsWafv2RuleGroup", Kind::Unchecked),
    optional("AwsWafv2WebAcl", Kind::Unchecked),
    optional("AwsXrayEncryptionConfig", Kind::Unchecked),
    optional("AzureResource", Kind::Unchecked),
    optional("CodeRepository", Kind::Unchecked),
    optional("Container", Kind::Unchecked),
];

const EC2_INSTANCE: &[Member] = &[
    optional("Type", Kind::AnyText),
    optional("ImageId", Kind::AnyText),
    optional("IpV4Addresses", Kind::AnyList(&Kind::AnyText)),
    optional("IpV6Addresses", Kind::AnyList(&Kind::AnyText)),
    optional("KeyName", Kind::AnyText),
    optional("IamInstanceProfileArn", Kind::AnyText),
    optional("VpcId", Kind::AnyText),
    optional("SubnetId", Kind::AnyText),
    optional("LaunchedAt", Kind::Time),
    optional("NetworkInterfaces", Kind::Unchecked),
    optional("VirtualizationType", Kind::AnyText),
    optional("MetadataOptions", Kind::Unchecked),
    optional("Monitoring", Kind::Unchecked),
];

const SSM_PATCH_COMPLIANCE: &[Member] = &[optional("Patch", Kind::Object(SSM_PATCH))];
const SSM_PATCH: &[Member] = &[optional("ComplianceSummary", Kind::Object(SSM_SUMMARY))];

const ANY_COUNT: Kind = Kind::Count { max: i32::MAX as i64 };

const SSM_SUMMARY: &[Member] = &[
    optional("Status", Kind::OneOf(&["COMPLIANT", "NON_COMPLIANT", "UNSPECIFIED_DATA"])),
    optional("ComplianceType", Kind::AnyText),
    optional("ExecutionType", Kind::AnyText),
    optional("OverallSeverity", Kind::AnyText),
    optional("PatchBaselineId", Kind::AnyText),
    optional("PatchGroup", Kind::AnyText),
    optional("CompliantCriticalCount", ANY_COUNT),
    optional("CompliantHighCount", ANY_COUNT),
    optional("CompliantMediumCount", ANY_COUNT),
    optional("CompliantLowCount", ANY_COUNT),
    optional("CompliantInformationalCount", ANY_COUNT),
    optional("CompliantUnspecifiedCount", ANY_COUNT),
    optional("NonCompliantCriticalCount", ANY_COUNT),
    optional("NonCompliantHighCount", ANY_COUNT),
    optional("NonCompliantMediumCount", ANY_COUNT),
    optional("NonCompliantLowCount", ANY_COUNT),
    optional("NonCompliantInformationalCount", ANY_COUNT),
    optional("NonCompliantUnspecifiedCount", ANY_COUNT),
];

const PATCH_COUNT: Kind = Kind::Count { max: 100_000 };

const PATCH_SUMMARY: &[Member] = &[
    required("Id", text(256)),
    optional("InstalledCount", PATCH_COUNT),
    optional("MissingCount", PATCH_COUNT),
    optional("FailedCount", PATCH_COUNT),
    optional("InstalledOtherCount", PATCH_COUNT),
    optional("InstalledRejectedCount", PATCH_COUNT),
    optional("InstalledPendingReboot", PATCH_COUNT),
    optional("OperationStartTime", Kind::Time),
    optional("OperationEndTime", Kind::Time),
    optional("RebootOption", text(256)),
    optional("Operation", text(256)),
];

const VULNERABILITY: &[Member] = &[
    required("Id", Kind::AnyText),
    optional("VulnerablePackages", Kind::AnyList(&Kind::Object(PACKAGE))),
    optional("Cvss", Kind::Unchecked),
    optional("RelatedVulnerabilities", Kind::AnyList(&Kind::AnyText)),
    optional("Vendor", Kind::Object(VENDOR)),
    optional("ReferenceUrls", Kind::AnyList(&Kind::AnyText)),
    optional("FixAvailable", Kind::OneOf(&["YES", "NO", "PARTIAL"])),
    optional("EpssScore", Kind::Number),
    optional("ExploitAvailable", Kind::OneOf(&["YES", "NO"])),
    optional("LastKnownExploitAt", Kind::Time),
    optional("CodeVulnerabilities", Kind::Unchecked),
];

const VENDOR: &[Member] = &[
    required("Name", Kind::AnyText),
    optional("Url", Kind::Url),
    optional("VendorSeverity", Kind::AnyText),
    optional("VendorCreatedAt", Kind::Time),
    optional("VendorUpdatedAt", Kind::Time),
];

const PACKAGE: &[Member] = &[
    optional("Name", Kind::AnyText),
    optional("Version", Kind::AnyText),
    optional("Epoch", Kind::AnyText),
    optional("Release", Kind::AnyText),
    optional("Architecture", Kind::AnyText),
    optional("PackageManager", Kind::AnyText),
    optional("FilePath", Kind::AnyText),
    optional("FixedInVersion", Kind::AnyText),
    optional("Remediation", Kind::AnyText),
    optional("SourceLayerHash", Kind::AnyText),
    optional("SourceLayerArn", Kind::AnyText),
];
