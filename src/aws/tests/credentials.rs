//! Whose credentials, and what if there are none.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use aws_credential_types::{
    Credentials,
    credential_fn::provide_credentials_fn,
    provider::{SharedCredentialsProvider, error::CredentialsError},
};

use super::{
    held_for,
    http::{Answer, Canned, NoCredentials, lane},
    rendered,
};
use crate::aws::{AssumeRole, Fault, HoldReason, ImportReply, Unavailability};

async fn import_without_credentials(error: fn() -> CredentialsError) -> ImportReply {
    let canned = Canned::always(Answer::json(200, "{}"));
    let provider = SharedCredentialsProvider::new(NoCredentials(error));
    let reply = canned.aws(provider).await.lane(&lane(), None).await.hub;
    reply.import(vec![rendered()]).await
}

#[tokio::test]
async fn missing_credentials_hold_and_slow_ones_do_not() {
    let missing = import_without_credentials(CredentialsError::not_loaded_no_source).await;
    assert_eq!(held_for(&missing), Some(HoldReason::CredentialsMissing), "{missing:?}");
    let broken =
        import_without_credentials(|| CredentialsError::invalid_configuration("loop")).await;
    assert_eq!(held_for(&broken), Some(HoldReason::Misconfigured), "{broken:?}");
    let slow = import_without_credentials(|| {
        CredentialsError::provider_timed_out(std::time::Duration::from_secs(5))
    })
    .await;
    assert!(
        matches!(slow, ImportReply::Unavailable { kind: Unavailability::Timeout, .. }),
        "{slow:?}"
    );
}

async fn import_with_role(answer: Answer) -> ImportReply {
    let canned =
        Canned::new(
            move |name, _| {
                if name.contains("sts.") { answer.clone() } else { Answer::json(200, "{}") }
            },
        );
    let credentials = Credentials::new("AKIDTEST", "secret", None, None, "test");
    let aws = canned.aws(SharedCredentialsProvider::new(credentials)).await;
    let role = AssumeRole {
        role_arn: "arn:aws:iam::111122223333:role/patchferry".to_owned(),
        external_id: Some("EXTERNAL".to_owned()),
        session_name: "patchferry".to_owned(),
    };
    assert!(!format!("{role:?}").contains("EXTERNAL"));
    aws.lane(&lane(), Some(&role)).await.hub.import(vec![rendered()]).await
}

#[tokio::test]
async fn a_role_that_cannot_be_assumed_says_why() {
    let denied = import_with_role(Answer::json(
        403,
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>User is not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>",
    ))
    .await;
    assert_eq!(held_for(&denied), Some(HoldReason::AccessDenied), "{denied:?}");
    assert!(format!("{denied:?}").contains("sts:AssumeRole"), "{denied:?}");
    let expired = import_with_role(Answer::json(
        403,
        "<ErrorResponse><Error><Code>ExpiredToken</Code><Message>x</Message></Error></ErrorResponse>",
    ))
    .await;
    assert_eq!(held_for(&expired), Some(HoldReason::CredentialsExpired), "{expired:?}");
}

#[tokio::test]
async fn an_assumed_role_signs_the_lanes_requests() {
    let reply = import_with_role(Answer::json(
        200,
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>",
    ))
    .await;
    assert!(matches!(reply, ImportReply::Answered { .. }), "{reply:?}");
}

#[tokio::test]
async fn credentials_of_another_account_are_noticed() {
    let canned = Canned::always(Answer::json(
        200,
        "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::444455556666:user/x</Arn><UserId>u</UserId><Account>444455556666</Account></GetCallerIdentityResult></GetCallerIdentityResponse>",
    ));
    let clients = canned.lane().await;
    assert_eq!(clients.caller_account().await.unwrap().as_str(), "444455556666");
    let error = clients.check_account().await.unwrap_err();
    assert!(
        matches!(error.fault, Fault::Held { reason: HoldReason::ForeignAccount, .. }),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains("111122223333/us-east-2") && text.contains("role_arn"), "{text}");
}

const ASSUMED: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";

#[tokio::test]
async fn all_lanes_take_the_ambient_credentials_from_one_load() {
    let loads = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&loads);
    let provider = provide_credentials_fn(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Ok(Credentials::new("AKIDTEST", "secret", None, None, "test")) }
    });
    let canned = Canned::new(|name, _| {
        Answer::json(200, if name.contains("sts.") { ASSUMED } else { "{}" })
    });
    let aws = canned.aws(SharedCredentialsProvider::new(provider)).await;
    for account in 0..100 {
        let lane = format!("{account:012}/us-east-2").parse().unwrap();
        let role = AssumeRole {
            role_arn: format!("arn:aws:iam::{account:012}:role/patchferry"),
            external_id: None,
            session_name: "patchferry".to_owned(),
        };
        let hub = aws.lane(&lane, Some(&role)).await.hub;
        let reply = hub.import(vec![rendered()]).await;
        assert!(matches!(reply, ImportReply::Answered { .. }), "{reply:?}");
    }
    assert_eq!(loads.load(Ordering::Relaxed), 1);
}
