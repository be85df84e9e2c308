//! Security Hub's answers.

use super::{
    held_for,
    http::{Answer, Canned},
    rendered,
};
use crate::{
    aws::{HoldReason, HubQuery, HubSwitch, ImportReply, Unavailability},
    record::{Severity, UnixMillis},
};

async fn import(answer: Answer) -> ImportReply {
    let canned = Canned::always(answer);
    let reply = canned.lane().await.hub.import(vec![rendered()]).await;
    assert_eq!(canned.requests().len(), 1, "delivery must not be retried by the SDK");
    reply
}

#[tokio::test]
async fn an_answer_tells_what_failed_and_the_request_id() {
    let reply = import(Answer::json(
        200,
        r#"{"SuccessCount":1,"FailedCount":1,"FailedFindings":[{"Id":"x","ErrorCode":"InvalidInput","ErrorMessage":"no"}]}"#,
    ))
    .await;
    let ImportReply::Answered { success, failed_count, failed, request_id } = reply else {
        panic!("{reply:?}")
    };
    assert_eq!((success, failed_count), (1, 1));
    assert_eq!(failed[0].id, "x");
    assert!(failed[0].is_invalid_input() && !failed[0].is_invalid_access());
    assert_eq!(request_id.unwrap().as_str(), "request-1");
}

#[tokio::test]
async fn an_empty_answer_is_an_answer_that_acknowledges_nothing() {
    for body in ["", "{}"] {
        let reply = import(Answer::json(200, body)).await;
        assert!(
            matches!(&reply, ImportReply::Answered { success: 0, failed, .. } if failed.is_empty()),
            "{reply:?}"
        );
    }
}

#[tokio::test]
async fn a_200_that_is_not_awss_is_a_bad_body() {
    for body in ["<html>sign in</html>", r#"{"SuccessCount":1,"Fai"#] {
        let reply = import(Answer::json(200, body)).await;
        assert!(
            matches!(reply, ImportReply::Unavailable { kind: Unavailability::BadBody, .. }),
            "{reply:?}"
        );
    }
}

#[tokio::test]
async fn every_throttling_answer_is_throttled_whatever_its_status() {
    for answer in [
        Answer::error(429, "LimitExceededException", "{}"),
        Answer::error(429, "TooManyRequestsException", "{}"),
        Answer::error(400, "ThrottlingException", r#"{"message":"Rate exceeded"}"#),
        Answer::error(503, "SlowDown", "{}"),
        Answer::json(429, "slow down"),
    ] {
        let reply = import(answer.clone()).await;
        assert!(matches!(reply, ImportReply::Throttled { .. }), "{answer:?}: {reply:?}");
    }
}

#[tokio::test]
async fn only_what_aws_calls_invalid_is_invalid() {
    for answer in [
        Answer::error(400, "InvalidInputException", r#"{"Message":"Invalid parameter"}"#),
        Answer::error(400, "ValidationException", "{}"),
        Answer::json(413, "<html>too large</html>"),
        Answer::json(400, r#"{"__type":"com.amazonaws#SerializationException"}"#),
    ] {
        let reply = import(answer.clone()).await;
        assert!(matches!(reply, ImportReply::CallInvalid { .. }), "{answer:?}: {reply:?}");
    }
    for (answer, status) in [
        (Answer::json(400, "<html>bad gateway</html>"), 400),
        (Answer::json(404, "not found"), 404),
        (Answer::error(404, "UnknownOperationException", "{}"), 404),
        (Answer::json(500, "{}"), 500),
        (Answer::error(500, "InternalException", "{}"), 500),
        (Answer::json(502, "<html>bad gateway</html>"), 502),
        (Answer::json(503, ""), 503),
    ] {
        let reply = import(answer.clone()).await;
        assert!(
            matches!(reply, ImportReply::Unavailable { kind: Unavailability::Server { status: s }, .. } if s == status),
            "{answer:?}: {reply:?}"
        );
    }
}

#[tokio::test]
async fn what_only_a_person_can_mend_holds_the_lane() {
    use HoldReason as R;
    for (answer, reason) in [
        (Answer::error(403, "ExpiredTokenException", "{}"), R::CredentialsExpired),
        (Answer::error(400, "ExpiredToken", "{}"), R::CredentialsExpired),
        (Answer::error(403, "UnrecognizedClientException", "{}"), R::CredentialsInvalid),
        (Answer::error(403, "InvalidSignatureException", "{}"), R::CredentialsInvalid),
        (
            Answer::error(
                403,
                "InvalidSignatureException",
                r#"{"message":"Signature expired: 20211111T220525Z is now earlier than"}"#,
            ),
            R::ClockSkewed,
        ),
        (Answer::error(403, "AccessDeniedException", "{}"), R::AccessDenied),
        (Answer::json(403, "<html>proxy</html>"), R::AccessDenied),
        (Answer::json(401, ""), R::AccessDenied),
        (Answer::error(401, "InvalidAccessException", "{}"), R::HubOff),
        (
            Answer::error(
                403,
                "AccessDeniedException",
                r#"{"Message":"Account 111122223333 is not subscribed to AWS Security Hub"}"#,
            ),
            R::HubOff,
        ),
        (Answer::error(403, "OptInRequired", "{}"), R::RegionOff),
    ] {
        let reply = import(answer.clone()).await;
        assert_eq!(held_for(&reply), Some(reason), "{answer:?}: {reply:?}");
    }
}

#[tokio::test]
async fn a_bad_signature_does_not_put_the_session_token_into_the_error() {
    let body =
        r#"{"message":"The Canonical String should have been 'x-amz-security-token:TOPSECRET'"}"#;
    let reply = import(Answer::error(403, "SignatureDoesNotMatch", body)).await;
    assert!(!format!("{reply:?}").contains("TOPSECRET"), "{reply:?}");
}

#[tokio::test]
async fn the_network_is_told_from_the_service() {
    let refused = import(Answer::Refused).await;
    assert!(
        matches!(refused, ImportReply::Unavailable { kind: Unavailability::Connect, .. }),
        "{refused:?}"
    );
    let late = import(Answer::TimedOut).await;
    assert!(
        matches!(late, ImportReply::Unavailable { kind: Unavailability::Timeout, .. }),
        "{late:?}"
    );
}

#[tokio::test]
async fn a_hub_that_is_off_is_told_from_one_that_may_not_be_asked() {
    for (answer, switch) in [
        (Answer::json(200, r#"{"HubArn":"arn"}"#), HubSwitch::On),
        (Answer::error(401, "InvalidAccessException", "{}"), HubSwitch::Off),
        (Answer::error(404, "ResourceNotFoundException", "{}"), HubSwitch::Off),
        (Answer::error(403, "AccessDeniedException", "{}"), HubSwitch::Denied),
    ] {
        let told = Canned::always(answer).lane().await.hub.describe_hub().await;
        assert_eq!(told.unwrap(), switch);
    }
}

#[tokio::test]
async fn read_back_asks_for_ours_only_and_reads_what_counts() {
    let canned = Canned::always(Answer::json(
        200,
        r#"{"NextToken":"","Findings":[{"Id":"patchferry/aws/us-east-2/111122223333/i-02573cafcfEXAMPLE/patch-compliance","ProductArn":"p","CreatedAt":"2021-11-11T22:05:25Z","UpdatedAt":"2021-11-11T22:05:25.007Z","RecordState":"ACTIVE","Severity":{"Label":"LOW"},"FindingProviderFields":{"Severity":{"Label":"HIGH"}},"Workflow":{"Status":"SUPPRESSED"}}]}"#,
    ));
    let hub = canned.lane().await.hub;
    let query = HubQuery::Ours { product_arn: "p".into(), id_prefix: "patchferry/".into() };
    let page = hub.get_findings(&query, None).await.unwrap();
    assert_eq!(page.next, None);
    let record = &page.items[0];
    assert_eq!(record.updated_at, Some(UnixMillis(1_636_668_325_007)));
    assert_eq!(record.severity, Some(Severity::High));
    assert_eq!(record.node.as_ref().unwrap().as_str(), "i-02573cafcfEXAMPLE");
    let body = &canned.requests()[0].1;
    for part in [r#""Comparison":"PREFIX""#, "patchferry/patch-compliance", r#""ProductArn""#] {
        assert!(body.contains(part), "{part} in {body}");
    }
}
