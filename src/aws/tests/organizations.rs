//! What of AWS Organizations' answers counts as an account.

use super::http::{Answer, Canned};
use crate::record::Partition;

#[tokio::test]
async fn only_active_accounts_count_by_state_or_where_there_is_none_by_status() {
    let canned = Canned::new(|_, body| {
        if body.contains("NextToken") {
            return Answer::json(200, r#"{"Accounts":[{"Id":"555555555555","State":"ACTIVE"}]}"#);
        }
        Answer::json(
            200,
            r#"{"Accounts":[
                {"Id":"111111111111","Status":"ACTIVE"},
                {"Id":"222222222222","Status":"SUSPENDED"},
                {"Id":"333333333333","Status":"ACTIVE","State":"PENDING_CLOSURE"},
                {"Id":"444444444444"}
            ],"NextToken":"more"}"#,
        )
    });
    let credentials = aws_credential_types::Credentials::new("AKIDTEST", "s", None, None, "test");
    let provider = aws_credential_types::provider::SharedCredentialsProvider::new(credentials);
    let aws = canned.aws(provider).await;
    let accounts = aws.organization(Partition::Aws, None).await.active_accounts().await.unwrap();
    let accounts: Vec<&str> = accounts.iter().map(crate::record::AccountId::as_str).collect();
    assert_eq!(accounts, ["111111111111", "555555555555"]);
    let requests = canned.requests();
    assert_eq!(requests[0].0, "AWSOrganizationsV20161128.ListAccounts");
    assert!(requests[0].1.contains(r#""MaxResults":20"#), "{requests:?}");
}

#[tokio::test]
async fn an_account_that_is_none_is_an_unreadable_answer() {
    let canned = Canned::always(Answer::json(200, r#"{"Accounts":[{"Id":"1","State":"ACTIVE"}]}"#));
    let credentials = aws_credential_types::Credentials::new("AKIDTEST", "s", None, None, "test");
    let provider = aws_credential_types::provider::SharedCredentialsProvider::new(credentials);
    let aws = canned.aws(provider).await;
    assert!(aws.organization(Partition::Aws, None).await.active_accounts().await.is_err());
}
