//! Credentials name an account; roles are assumed into others; sessions end.

use aws_credential_types::Credentials;
use aws_sdk_sts::error::ProvideErrorMetadata;
use patchferry::simulator::FleetConfig;

use super::rig::{ACCOUNT, OTHER_ACCOUNT, REGION, Rig, config};

async fn rig_of_two_accounts() -> Rig {
    let mut config = config(0).lane(OTHER_ACCOUNT, REGION, FleetConfig::of(0));
    config.external_id = Some("shared secret".to_string());
    Rig::start(config).await
}

fn role() -> String {
    format!("arn:aws:iam::{OTHER_ACCOUNT}:role/patchferry")
}

#[tokio::test]
async fn the_caller_is_the_account_of_its_key() {
    let rig = rig_of_two_accounts().await;
    let identity = rig.sts().get_caller_identity().send().await.unwrap();
    assert_eq!(identity.account(), Some(ACCOUNT));
}

#[tokio::test]
async fn an_assumed_role_acts_in_its_own_account_until_its_session_ends() {
    let rig = rig_of_two_accounts().await;
    let assumed = rig.sts().assume_role().role_arn(role()).role_session_name("patchferry");
    let assumed = assumed.external_id("shared secret").send().await.unwrap();
    let keys = assumed.credentials.unwrap();
    let session = Credentials::new(
        keys.access_key_id(),
        keys.secret_access_key(),
        Some(keys.session_token().to_string()),
        None,
        "test",
    );
    let sdk = rig.sdk(session, REGION);
    let identity = aws_sdk_sts::Client::new(&sdk).get_caller_identity().send().await.unwrap();
    assert_eq!(identity.account(), Some(OTHER_ACCOUNT));
    let hub = aws_sdk_securityhub::Client::new(&sdk);
    assert!(hub.describe_hub().send().await.unwrap().hub_arn().unwrap().contains(OTHER_ACCOUNT));

    rig.control.expire_sessions();
    let refused = hub.describe_hub().send().await.unwrap_err();
    assert_eq!(refused.code(), Some("ExpiredTokenException"));
}

#[tokio::test]
async fn a_role_is_refused_without_its_external_id() {
    let rig = rig_of_two_accounts().await;
    let assume = |external_id: Option<String>| {
        let assume = rig.sts().assume_role().role_arn(role()).role_session_name("patchferry");
        assume.set_external_id(external_id).send()
    };
    for external_id in [None, Some("wrong".to_string())] {
        assert_eq!(assume(external_id).await.unwrap_err().code(), Some("AccessDenied"));
    }
    let short = rig.sts().assume_role().role_arn(role()).role_session_name("x").send().await;
    assert_eq!(short.unwrap_err().code(), Some("ValidationError"));
}
