//! A simulator with one lane, SDK clients for it, and a client that sends what no SDK would.

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_securityhub::{
    operation::batch_import_findings::BatchImportFindingsOutput,
    types::{
        AwsSecurityFinding, Compliance, ComplianceStatus, FindingProviderFields,
        FindingProviderSeverity, PatchSummary, RecordState, Resource, SeverityLabel,
    },
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use patchferry::simulator::{
    Control, FleetConfig, Quotas, SECRET_ACCESS_KEY, SimLane, Simulator, SimulatorConfig,
    access_key_id,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub const ACCOUNT: &str = "111122223333";
pub const OTHER_ACCOUNT: &str = "444455556666";
pub const REGION: &str = "us-east-1";
pub const NODE: &str = "i-0123456789abcdef0";

pub struct Rig {
    pub simulator: Simulator,
    pub control: Control,
    pub lane: SimLane,
}

impl Rig {
    /// A lane with `nodes` nodes and no quotas.
    pub async fn with_nodes(nodes: usize) -> Self {
        let mut config = config(nodes);
        config.quotas = Quotas::UNLIMITED;
        Self::start(config).await
    }

    pub async fn start(config: SimulatorConfig) -> Self {
        let simulator = Simulator::start(config).await.unwrap();
        let control = simulator.control();
        Self { simulator, control, lane: SimLane::new(ACCOUNT, REGION) }
    }

    pub fn sdk(&self, credentials: Credentials, region: &str) -> SdkConfig {
        let http_client =
            Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_string()))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .endpoint_url(self.simulator.endpoint_url())
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .http_client(http_client)
            .build()
    }

    fn own_sdk(&self) -> SdkConfig {
        self.sdk(long_term(ACCOUNT), REGION)
    }

    pub fn ssm(&self) -> aws_sdk_ssm::Client {
        aws_sdk_ssm::Client::new(&self.own_sdk())
    }

    pub fn hub(&self) -> aws_sdk_securityhub::Client {
        aws_sdk_securityhub::Client::new(&self.own_sdk())
    }

    pub fn sts(&self) -> aws_sdk_sts::Client {
        aws_sdk_sts::Client::new(&self.own_sdk())
    }

    pub async fn import(&self, findings: Vec<AwsSecurityFinding>) -> BatchImportFindingsOutput {
        let import = self.hub().batch_import_findings().set_findings(Some(findings));
        import.send().await.unwrap()
    }

    /// Posts findings as raw JSON; the status and the answer.
    pub async fn import_json(&self, findings: &[Value]) -> (u16, Value) {
        let body = json!({ "Findings": findings }).to_string();
        let (status, body) = self.raw("POST", "/findings/import", "", &body).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    /// Sends any request, signed as the lane's account; the status and the body.
    pub async fn raw(&self, method: &str, path: &str, head: &str, body: &str) -> (u16, String) {
        let address = self.simulator.endpoint_url().replace("http://", "");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let key_id = access_key_id(ACCOUNT);
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: simulator\r\nConnection: close\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={key_id}/20261123/{REGION}/x/aws4_request, \
             SignedHeaders=host, Signature=0\r\nContent-Length: {}\r\n{head}\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_string())
    }
}

pub fn config(nodes: usize) -> SimulatorConfig {
    SimulatorConfig::new(7).lane(ACCOUNT, REGION, FleetConfig::of(nodes))
}

pub fn long_term(account: &str) -> Credentials {
    Credentials::new(access_key_id(account), SECRET_ACCESS_KEY, None, None, "test")
}

/// A valid finding for [`NODE`] as raw JSON.
pub fn finding_json(id: &str, updated_at: &str) -> Value {
    json!({
        "SchemaVersion": "2018-10-08",
        "Id": id,
        "ProductArn": format!("arn:aws:securityhub:{REGION}:{ACCOUNT}:product/{ACCOUNT}/default"),
        "GeneratorId": "test/generator",
        "AwsAccountId": ACCOUNT,
        "CreatedAt": "2026-11-23T10:00:00Z",
        "UpdatedAt": updated_at,
        "Title": "A title",
        "Description": "A description",
        "Remediation": {"Recommendation": {"Text": "Do it", "Url": "https://example.com/"}},
        "ProductFields": {"company/product/field": "value"},
        "Resources": [{
            "Type": "AwsEc2Instance",
            "Id": format!("arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{NODE}"),
            "Partition": "aws",
            "Region": REGION,
            "Details": {"Other": {"fact": "value"}},
        }],
        "Compliance": {"Status": "FAILED", "StatusReasons": [{"ReasonCode": "MISSING_PATCHES"}]},
        "RecordState": "ACTIVE",
        "PatchSummary": {
            "Id": "pb-0123456789abcdef0",
            "MissingCount": 2,
            "OperationEndTime": "2026-11-23T10:00:00Z",
            "Operation": "SCAN",
        },
        "FindingProviderFields": {
            "Severity": {"Label": "HIGH"},
            "Types": ["Software and Configuration Checks/Patch Management/Compliance"],
        },
    })
}

/// What a finding says, for the SDK's builder.
#[derive(Clone)]
pub struct Says {
    pub id: String,
    pub node: String,
    pub region: &'static str,
    pub updated_at: &'static str,
    pub record_state: RecordState,
    pub status: ComplianceStatus,
    pub counts: [i32; 4],
}

impl Says {
    pub fn open(id: &str, node: &str) -> Self {
        Self {
            id: id.to_string(),
            node: node.to_string(),
            region: REGION,
            updated_at: "2026-11-23T10:00:00.000Z",
            record_state: RecordState::Active,
            status: ComplianceStatus::Failed,
            counts: [2, 0, 0, 0],
        }
    }

    pub fn at(mut self, updated_at: &'static str) -> Self {
        self.updated_at = updated_at;
        self
    }

    pub fn resolved(mut self) -> Self {
        self.record_state = RecordState::Archived;
        self.status = ComplianceStatus::Passed;
        self
    }

    /// The finding in the SDK's terms.
    pub fn build(self) -> AwsSecurityFinding {
        let [missing, failed, rejected, pending_reboot] = self.counts;
        let severity = FindingProviderSeverity::builder().label(SeverityLabel::High).build();
        let provider = FindingProviderFields::builder()
            .severity(severity)
            .types("Software and Configuration Checks/Patch Management/Compliance")
            .build();
        AwsSecurityFinding::builder()
            .schema_version("2018-10-08")
            .id(self.id)
            .product_arn(format!(
                "arn:aws:securityhub:{}:{ACCOUNT}:product/{ACCOUNT}/default",
                self.region
            ))
            .generator_id("test/generator")
            .aws_account_id(ACCOUNT)
            .created_at("2026-11-23T10:00:00.000Z")
            .updated_at(self.updated_at)
            .title("A title")
            .description("A description")
            .resources(
                Resource::builder()
                    .r#type("AwsEc2Instance")
                    .id(format!("arn:aws:ec2:{}:{ACCOUNT}:instance/{}", self.region, self.node))
                    .build(),
            )
            .compliance(Compliance::builder().status(self.status).build())
            .record_state(self.record_state)
            .patch_summary(
                PatchSummary::builder()
                    .id("pb-0123456789abcdef0")
                    .missing_count(missing)
                    .failed_count(failed)
                    .installed_rejected_count(rejected)
                    .installed_pending_reboot(pending_reboot)
                    .build(),
            )
            .finding_provider_fields(provider)
            .build()
    }
}
