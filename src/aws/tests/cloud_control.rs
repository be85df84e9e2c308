//! Cloud Control's answers about one instance.

use super::http::{Answer, Canned};
use crate::aws::{AwsError, Fault, HoldReason, InstanceFate};

const NODE: &str = "i-0123456789abcdef0";

async fn ask(answer: Answer) -> Result<InstanceFate, AwsError> {
    let canned = Canned::always(answer);
    let fate = canned.lane().await.cloud_control.instance(&NODE.parse().unwrap()).await;
    assert_eq!(canned.requests().len(), 1, "one call is one request");
    fate
}

#[tokio::test]
async fn the_request_names_the_type_and_the_instance() {
    let canned = Canned::always(Answer::error(400, "ResourceNotFoundException", "{}"));
    canned.lane().await.cloud_control.instance(&NODE.parse().unwrap()).await.unwrap();
    let [(target, body)] = canned.requests().try_into().unwrap();
    assert_eq!(target, "CloudApiService.GetResource");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["TypeName"], "AWS::EC2::Instance");
    assert_eq!(body["Identifier"], NODE);
}

#[tokio::test]
async fn only_an_instance_that_aws_does_not_know_or_calls_terminated_is_gone() {
    for answer in [
        Answer::error(400, "ResourceNotFoundException", r#"{"Message":"was not found"}"#),
        Answer::json(
            400,
            r#"{"__type":"com.amazonaws.cloudapiservice#ResourceNotFoundException"}"#,
        ),
        described(r#"{\"State\":{\"Code\":\"48\",\"Name\":\"terminated\"}}"#),
        described(r#"{\"State\":{\"Code\":\"32\",\"Name\":\"shutting-down\"}}"#),
    ] {
        assert_eq!(ask(answer.clone()).await, Ok(InstanceFate::Gone), "{answer:?}");
    }
    for answer in [
        described(r#"{\"State\":{\"Code\":\"80\",\"Name\":\"stopped\"}}"#),
        described(r#"{\"State\":{\"Code\":\"16\",\"Name\":\"running\"}}"#),
        described(r#"{\"State\":{\"Name\":\"dreaming\"}}"#),
        described(r#"{\"InstanceId\":\"i-0123456789abcdef0\"}"#),
        described("not json"),
        Answer::json(200, r#"{"ResourceDescription":{"Identifier":"i-0123456789abcdef0"}}"#),
    ] {
        assert_eq!(ask(answer.clone()).await, Ok(InstanceFate::Exists), "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_that_tells_nothing_of_the_instance_is_an_error() {
    for answer in [
        Answer::json(200, "{}"),
        Answer::json(200, ""),
        Answer::json(200, "<html>sign in</html>"),
        Answer::json(200, r#"{"ResourceDescription":{"Identifier":"i-0aaaaaaaaaaaaaaaa"}}"#),
        Answer::error(404, "TypeNotFoundException", "{}"),
        Answer::error(400, "UnsupportedActionException", "{}"),
        Answer::error(400, "InvalidRequestException", "{}"),
        Answer::json(404, "not found"),
        Answer::json(503, ""),
        Answer::error(400, "ThrottlingException", "{}"),
        Answer::Refused,
        Answer::TimedOut,
    ] {
        assert!(ask(answer.clone()).await.is_err(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_denial_is_one_whether_cloud_control_or_ec2_says_so() {
    for answer in [
        Answer::error(400, "AccessDeniedException", r#"{"message":"not authorized"}"#),
        Answer::error(
            400,
            "GeneralServiceException",
            r#"{"Message":"AWS::EC2::Instance Handler returned status FAILED: You are not authorized to perform this operation. (HandlerErrorCode: AccessDenied)"}"#,
        ),
    ] {
        let error = ask(answer.clone()).await.unwrap_err();
        assert!(
            matches!(error.fault, Fault::Held { reason: HoldReason::AccessDenied, .. }),
            "{answer:?}: {error}"
        );
    }
}

fn described(properties: &str) -> Answer {
    let body = format!(
        r#"{{"TypeName":"AWS::EC2::Instance","ResourceDescription":{{"Identifier":"{NODE}","Properties":"{properties}"}}}}"#
    );
    Answer::json(200, Box::leak(body.into_boxed_str()))
}
