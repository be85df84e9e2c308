//! AWS's answers through the real SDK: whatever their status and body, a call ends as one of the
//! ways in which it can end.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_sdk_ssm::config::{AsyncSleep, Sleep};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use patchferry::{
    aws::{Aws, HubQuery, ImportReply, LaneClients, Rendered, render},
    record::{
        Change, Facts, Finding, FindingId, Lane, RecordState, RenderPolicy, Severity, Source,
        UnixMillis,
    },
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::mutation::{byte_changes, changed_bytes, changed_json, check, node_changes, odd_value};

/// An error is read by a person.
const ERROR_CHARS_MAX: usize = 3_000;

/// Answers whatever it was told to, to everything.
#[derive(Clone, Debug)]
struct Canned(Arc<Mutex<(u16, Vec<u8>)>>);

impl HttpConnector for Canned {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let (status, body) = self.0.lock().unwrap().clone();
        let status = StatusCode::try_from(status).expect("a status code");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(body))))
    }
}

/// Waits before a retry, which are short, pass at once; time limits don't.
#[derive(Debug)]
struct Hurried;

impl AsyncSleep for Hurried {
    fn sleep(&self, duration: Duration) -> Sleep {
        if duration < Duration::from_secs(3) {
            return Sleep::new(std::future::ready(()));
        }
        Sleep::new(tokio::time::sleep(duration))
    }
}

struct Rig {
    canned: Canned,
    clients: LaneClients,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let canned = Canned(Arc::new(Mutex::new((200, Vec::new()))));
        let connector = SharedHttpConnector::new(canned.clone());
        let clients = runtime.block_on(async {
            let config = aws_config::defaults(BehaviorVersion::latest())
                .region(Region::new("us-east-2"))
                .credentials_provider(Credentials::new("AKIDTEST", "secret", None, None, "test"))
                .http_client(http_client_fn(move |_, _| connector.clone()))
                .sleep_impl(Hurried)
                .load()
                .await;
            Aws::from_config(config).lane(&lane(), None).await
        });
        Self { canned, clients, runtime }
    }

    fn answer(&self, (status, body): (u16, Vec<u8>)) {
        *self.canned.0.lock().unwrap() = (status, body);
    }
}

fn lane() -> Lane {
    "111122223333/us-east-2".parse().expect("a lane")
}

fn rendered() -> Rendered {
    let at = UnixMillis(1_636_668_325_000);
    let finding = Finding {
        node: "i-02573cafcfEXAMPLE".parse().expect("a node"),
        id: FindingId::Node,
        change: Change::Opened,
        state: RecordState::Open,
        severity: Severity::High,
        created_at: at,
        updated_at: at,
        first_observed_at: at,
        last_observed_at: at,
        facts: Facts::default(),
        policy: RenderPolicy::default(),
        source: Source::Sweep,
        accepted_at: at,
    };
    render(&lane(), &finding, &[])
}

fn import_answers() -> Vec<Value> {
    vec![
        json!({"SuccessCount": 1, "FailedCount": 0, "FailedFindings": []}),
        json!({"SuccessCount": 0, "FailedCount": 1, "FailedFindings": [
            {"Id": "patchferry/aws/us-east-2/111122223333/i-02573cafcfEXAMPLE/patch-compliance",
             "ErrorCode": "InvalidInput", "ErrorMessage": "no"}]}),
        json!({"__type": "InvalidInputException", "Message": "no", "Code": "x"}),
    ]
}

fn findings_answers() -> Vec<Value> {
    vec![
        json!({"Findings": [], "NextToken": ""}),
        json!({"NextToken": "n", "Findings": [{
            "SchemaVersion": "2018-10-08", "AwsAccountId": "111122223333",
            "Id": "patchferry/aws/us-east-2/111122223333/i-02573cafcfEXAMPLE/patch-compliance",
            "ProductArn": "arn:aws:securityhub:us-east-2:111122223333:product/111122223333/default",
            "GeneratorId": "patchferry/patch-compliance", "CreatedAt": "2021-11-11T22:05:25Z",
            "UpdatedAt": "2021-11-11T22:05:25.123Z", "FirstObservedAt": "2021-11-11T22:05:25Z",
            "Title": "t", "Description": "d", "RecordState": "ACTIVE",
            "Severity": {"Label": "HIGH", "Normalized": 70}, "Workflow": {"Status": "NEW"},
            "Compliance": {"Status": "FAILED"},
            "Resources": [{"Type": "AwsEc2Instance",
                "Id": "arn:aws:ec2:us-east-2:111122223333:instance/i-02573cafcfEXAMPLE"}]
        }]}),
    ]
}

fn ssm_answers() -> Vec<Value> {
    vec![
        json!({"NextToken": "", "ResourceComplianceSummaryItems": [{
            "ResourceId": "i-12345678", "Status": "NON_COMPLIANT", "OverallSeverity": "HIGH",
            "ExecutionSummary":
                {"ExecutionTime": 1_636_668_325.1, "ExecutionId": "x", "ExecutionType": "Command"},
            "NonCompliantSummary":
                {"NonCompliantCount": 2, "SeveritySummary": {"HighCount": 2}}}]}),
        json!({"NextToken": "n", "InstanceInformationList": [{
            "InstanceId": "mi-0123456789abcdef0", "ResourceType": "ManagedInstance",
            "LastPingDateTime": 1_636_668_325.1, "IsLatestVersion": true, "IPAddress": "10.0.0.1",
            "SourceType": "AWS::SSM::ManagedInstance",
            "AssociationOverview": {"DetailedStatus": "x"}}]}),
        json!({"InstancePatchStates": [{
            "InstanceId": "i-12345678", "PatchGroup": "g", "BaselineId": "pb-0123456789abcdef0",
            "OperationStartTime": 1_636_668_300, "OperationEndTime": 1_636_668_325.5,
            "Operation": "Scan", "MissingCount": 3, "CriticalNonCompliantCount": 1}]}),
        json!({"NextToken": "n", "Patches": [{
            "Title": "t", "KBId": "KB1", "Classification": "c", "Severity": "s",
            "State": "Missing", "InstalledTime": -62_135_596_800_i64, "CVEIds": "CVE-1,CVE-2"}]}),
        json!({"__type": "ThrottlingException", "message": "Rate exceeded"}),
    ]
}

/// Answers made of `samples`: fields changed, bytes changed, or anything at all.
fn answers(samples: Vec<Value>) -> impl Strategy<Value = (u16, Vec<u8>)> {
    let sample = prop::sample::select(samples);
    let fields = (sample.clone(), node_changes())
        .prop_map(|(sample, changes)| changed_json(&sample, &changes).to_string().into_bytes());
    let bytes = (sample, byte_changes())
        .prop_map(|(sample, changes)| changed_bytes(sample.to_string().as_bytes(), &changes));
    let anything = prop_oneof![
        odd_value().prop_map(|value| value.to_string().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..80),
    ];
    let statuses = prop_oneof![
        6 => Just(200_u16),
        1 => prop::sample::select(vec![201, 204, 301, 400, 403, 404, 413, 429, 500, 503]),
    ];
    (statuses, prop_oneof![6 => fields, 4 => bytes, 1 => anything])
}

#[test]
fn an_import_whose_answer_was_changed_ends_as_an_import_can_end() {
    let rig = Rig::new();
    check("answers to imports", 1_500, &answers(import_answers()), |answer| {
        let status = answer.0;
        rig.answer(answer);
        let reply = rig.runtime.block_on(rig.clients.hub.import(vec![rendered()]));
        // What isn't a success by its status acknowledges nothing.
        let answered = matches!(reply, ImportReply::Answered { .. });
        prop_assert!(!answered || (200..300).contains(&status), "{status}: {reply:?}");
        Ok(())
    });
}

#[test]
fn a_read_back_whose_answer_was_changed_is_a_page_or_an_error() {
    let rig = Rig::new();
    let query = HubQuery::Ours {
        product_arn: lane().default_product_arn(),
        id_prefix: "patchferry/aws/us-east-2/111122223333/".into(),
    };
    check("answers to read-backs", 600, &answers(findings_answers()), |answer| {
        rig.answer(answer);
        let page = rig.runtime.block_on(rig.clients.hub.get_findings(&query, None));
        let said = page.err().map(|error| error.to_string()).unwrap_or_default();
        prop_assert!(said.chars().count() < ERROR_CHARS_MAX, "{}", said);
        Ok(())
    });
}

#[test]
fn a_sweep_s_call_whose_answer_was_changed_is_a_page_or_an_error() {
    let rig = Rig::new();
    let node = "i-12345678".parse().expect("a node");
    let strategy = (0..4_u8, answers(ssm_answers()));
    check("answers to sweeps", 1_500, &strategy, |(call, answer)| {
        rig.answer(answer);
        let ssm = &rig.clients.ssm;
        let failed = rig.runtime.block_on(async {
            match call {
                0 => ssm.compliance_summaries(None).await.err(),
                1 => ssm.node_information(None).await.err(),
                2 => ssm.patch_states(std::slice::from_ref(&node), None).await.err(),
                _ => ssm.patches(&node, None).await.err(),
            }
        });
        let said = failed.map(|error| error.to_string()).unwrap_or_default();
        prop_assert!(said.chars().count() < ERROR_CHARS_MAX, "{}", said);
        Ok(())
    });
}
