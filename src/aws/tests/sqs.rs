//! SQS's answers.

use std::time::Duration;

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};

use super::http::{Answer, Canned};
use crate::{
    aws::{Fault, HoldReason, Receipt, Sqs},
    record::UnixMillis,
};

const URL: &str = "http://127.0.0.1:1/111122223333/events";

async fn sqs(canned: &Canned) -> Sqs {
    let credentials = Credentials::new("AKIDTEST", "secret", None, None, "test");
    let aws = canned.aws(SharedCredentialsProvider::new(credentials)).await;
    aws.queue(URL, &"us-east-2".parse().unwrap(), None).await
}

#[tokio::test]
async fn a_message_without_a_receipt_is_none_and_what_aws_leaves_out_is_not_missed() {
    let canned = Canned::always(Answer::json(
        200,
        r#"{"Messages":[{"Body":"lost"},{"ReceiptHandle":"r1","Body":"a","Attributes":{"ApproximateReceiveCount":"3","SentTimestamp":"1636668325000"}},{"ReceiptHandle":"r2"}]}"#,
    ));
    let received = sqs(&canned).await.receive(Duration::from_secs(30)).await.unwrap();
    assert_eq!(received.len(), 2);
    assert_eq!((received[0].body.as_str(), received[0].receives), ("a", 3));
    assert_eq!(received[0].sent_at, Some(UnixMillis(1_636_668_325_000)));
    assert_eq!((received[1].body.as_str(), received[1].receives), ("", 1));
    assert!(!format!("{received:?}").contains("r1"), "whoever has a receipt can delete");
    let (_, body) = &canned.requests()[0];
    assert!(body.contains("\"WaitTimeSeconds\":20") && body.contains("\"MaxNumberOfMessages\":10"));
}

#[tokio::test]
async fn of_a_batch_each_entry_has_its_own_outcome() {
    let canned = Canned::always(Answer::json(
        200,
        r#"{"Successful":[{"Id":"0"}],"Failed":[{"Id":"1","SenderFault":true,"Code":"ReceiptHandleIsInvalid"},{"Id":"2","SenderFault":false,"Code":"InternalError"}]}"#,
    ));
    let receipts = ["a", "b", "c"].map(Receipt::new);
    let failed = sqs(&canned).await.delete(&receipts).await.unwrap();
    let failed: Vec<(usize, bool)> =
        failed.into_iter().map(|entry| (entry.index, entry.for_good)).collect();
    assert_eq!(failed, [(1, true), (2, false)]);
}

#[tokio::test]
async fn a_queue_that_may_not_be_read_holds_and_one_that_is_not_there_is_refused() {
    let denied = Canned::always(Answer::error(403, "AccessDeniedException", "{}"));
    let error = sqs(&denied).await.receive(Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error.fault, Fault::Held { reason: HoldReason::AccessDenied, .. }), "{error}");
    let none = Canned::always(Answer::error(400, "QueueDoesNotExist", "{}"));
    let error = sqs(&none).await.receive(Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error.fault, Fault::Refused { .. }), "{error}");
    assert_eq!(none.requests().len(), 1, "nothing is tried again here");
}
