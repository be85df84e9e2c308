//! Each fault does what its name says, where it is laid, and nowhere else.

use std::time::Duration;

use aws_sdk_securityhub::{
    error::{ProvideErrorMetadata, SdkError},
    operation::batch_import_findings::{BatchImportFindingsError, BatchImportFindingsOutput},
};
use patchferry::simulator::{Fault, FleetConfig, Scope, Service, SimLane};

use super::rig::{ACCOUNT, NODE, Rig, Says, config, long_term};

type Imported = Result<BatchImportFindingsOutput, SdkError<BatchImportFindingsError>>;

async fn import_in(rig: &Rig, region: &'static str) -> Imported {
    let client = aws_sdk_securityhub::Client::new(&rig.sdk(long_term(ACCOUNT), region));
    let says = Says { region, ..Says::open("f-1", NODE) };
    client.batch_import_findings().findings(says.build()).send().await
}

/// Imports one finding under a fault; whether the hub has it then, too.
async fn import_under(fault: Fault) -> (Imported, bool) {
    let rig = Rig::with_nodes(0).await;
    rig.control.set_fault(Scope::of(Service::SecurityHub), Some(fault));
    let imported = import_in(&rig, "us-east-1").await;
    (imported, !rig.control.hub(&rig.lane).is_empty())
}

#[tokio::test]
async fn faults_with_a_status_have_it() {
    for (fault, status, code) in [
        (Fault::Outage, 503, "ServiceUnavailable"),
        (Fault::Throttle { ratio: 1.0 }, 429, "TooManyRequestsException"),
        (Fault::ExpiredToken, 403, "ExpiredTokenException"),
        (Fault::AccessDenied, 403, "AccessDeniedException"),
        (Fault::HubOff, 401, "InvalidAccessException"),
    ] {
        let (imported, is_stored) = import_under(fault.clone()).await;
        let error = imported.unwrap_err();
        assert_eq!(error.raw_response().unwrap().status().as_u16(), status, "{fault:?}");
        assert_eq!(error.code(), Some(code), "{fault:?}");
        assert!(!is_stored, "{fault:?}");
    }
}

#[tokio::test]
async fn a_lost_connection_is_no_answer_and_only_some_faults_have_stored_the_batch() {
    for (fault, expect_stored) in [
        (Fault::Refuse, false),
        (Fault::Reset, false),
        (Fault::Truncated200, true),
        (Fault::LostReply { ratio: 1.0 }, true),
    ] {
        let (imported, is_stored) = import_under(fault.clone()).await;
        let error = imported.unwrap_err();
        assert!(
            matches!(error, SdkError::DispatchFailure(_) | SdkError::ResponseError(_)),
            "{fault:?}: {error:?}"
        );
        assert_eq!(is_stored, expect_stored, "{fault:?}");
    }
}

#[tokio::test]
async fn a_200_may_say_nothing_or_something_else() {
    let (empty, is_stored) = import_under(Fault::Empty200).await;
    let counted = empty.map(|answer| answer.success_count.unwrap_or_default());
    assert!(counted.is_err() || counted.is_ok_and(|count| count == 0));
    assert!(!is_stored);

    let (html, is_stored) = import_under(Fault::Html200).await;
    assert!(matches!(html, Err(SdkError::ResponseError(_) | SdkError::ServiceError(_))));
    assert!(!is_stored);

    let (foreign, is_stored) = import_under(Fault::ForeignAnswer).await;
    let foreign = foreign.unwrap();
    assert_ne!(foreign.success_count.unwrap() + foreign.failed_count.unwrap(), 1);
    assert_ne!(foreign.failed_findings()[0].id(), Some("f-1"));
    assert!(!is_stored);
}

#[tokio::test]
async fn findings_fail_inside_a_batch_that_succeeds() {
    let rig = Rig::with_nodes(0).await;
    let hub = Scope::of(Service::SecurityHub);
    let code = "ConcurrentUpdateError".to_string();
    rig.control.set_fault(hub.clone(), Some(Fault::Partial { ratio: 0.3, code }));
    let batch = |count: usize| {
        (0..count).map(|n| Says::open(&format!("f-{n}"), NODE).build()).collect::<Vec<_>>()
    };
    let answer = rig.import(batch(100)).await;
    let failed = answer.failed_findings();
    assert!((10..=50).contains(&failed.len()), "{}", failed.len());
    assert!(failed.iter().all(|failed| failed.error_code() == Some("ConcurrentUpdateError")));
    assert_eq!(rig.control.hub(&rig.lane).len(), 100 - failed.len());

    rig.control.set_fault(hub.clone(), None);
    rig.control.set_fault(hub, Some(Fault::RejectAll));
    let answer = rig.import(batch(10)).await;
    assert_eq!((answer.success_count, answer.failed_count), (Some(0), Some(10)));
    let stats = rig.control.stats(&rig.lane);
    assert!(stats.invalid_findings.is_empty(), "injected failures are no violations");
}

#[tokio::test]
async fn poison_fails_its_finding_or_its_call() {
    let rig = Rig::with_nodes(0).await;
    let good = || Says::open("good", "i-11111111111111111").build();
    rig.control.poison(&rig.lane, [NODE]);
    let answer = rig.import(vec![good(), Says::open("bad", NODE).build()]).await;
    assert_eq!(answer.failed_findings()[0].id(), Some("bad"));
    assert_eq!(answer.failed_findings()[0].error_code(), Some("InvalidInput"));

    rig.control.poison(&rig.lane, Vec::<String>::new());
    rig.control.poison_call(&rig.lane, [NODE]);
    let call = rig.hub().batch_import_findings().findings(good());
    let refused = call.findings(Says::open("bad", NODE).build()).send().await.unwrap_err();
    assert_eq!(refused.code(), Some("InvalidInputException"));
    assert_eq!(rig.import(vec![good()]).await.success_count, Some(1));
}

#[tokio::test]
async fn a_fault_hits_its_lane_its_operation_and_its_number_of_calls() {
    let rig = Rig::start(config(0).lane(ACCOUNT, "us-east-2", FleetConfig::of(0))).await;
    let east_2 = SimLane::new(ACCOUNT, "us-east-2");
    let hub = Scope::of(Service::SecurityHub);
    rig.control.set_fault(hub.clone().lane(&east_2), Some(Fault::Outage));
    assert!(import_in(&rig, "us-east-1").await.is_ok());
    assert!(import_in(&rig, "us-east-2").await.is_err());

    rig.control.clear_faults();
    rig.control.set_fault(hub.clone().operation("GetFindings"), Some(Fault::AccessDenied));
    assert!(import_in(&rig, "us-east-2").await.is_ok());
    assert!(rig.hub().get_findings().send().await.is_err());

    rig.control.clear_faults();
    rig.control.set_fault_for_calls(hub, Fault::Outage, 1);
    assert!(import_in(&rig, "us-east-1").await.is_err());
    assert!(import_in(&rig, "us-east-1").await.is_ok());
}

#[tokio::test]
async fn ssm_and_sts_fail_in_their_own_protocols() {
    let rig = Rig::with_nodes(0).await;
    rig.control.set_fault(Scope::of(Service::Ssm), Some(Fault::Throttle { ratio: 1.0 }));
    let ssm = rig.ssm().describe_instance_information().send().await.unwrap_err();
    assert_eq!(ssm.code(), Some("ThrottlingException"));
    rig.control.set_fault(Scope::of(Service::Sts), Some(Fault::ExpiredToken));
    let sts = rig.sts().get_caller_identity().send().await.unwrap_err();
    assert_eq!(sts.code(), Some("ExpiredToken"));
}

#[tokio::test]
async fn a_slow_call_is_in_flight_and_one_that_is_never_answered_ends_with_the_simulator() {
    let rig = Rig::with_nodes(0).await;
    let hub = Scope::of(Service::SecurityHub);
    let latency = Duration::from_millis(1);
    rig.control.set_fault(hub.clone(), Some(Fault::Latency { min: latency, max: latency }));
    assert!(import_in(&rig, "us-east-1").await.is_ok());

    rig.control.set_fault(hub, Some(Fault::NeverAnswer));
    let sdk = rig.sdk(long_term(ACCOUNT), "us-east-1");
    let client = aws_sdk_securityhub::Client::new(&sdk);
    let call = client.batch_import_findings().findings(Says::open("f-1", NODE).build());
    let call = tokio::spawn(call.send());
    let lane = rig.lane.clone();
    rig.control.wait_until(|control| control.stats(&lane).import_requests == 2).await;
    assert!(!call.is_finished());
    drop(rig);
    assert!(call.await.unwrap().is_err());
}
