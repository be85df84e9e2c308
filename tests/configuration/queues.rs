//! `[[sqs]]`: queues for events.

use std::time::Duration;

use super::{LANE, error, load, shown};

const URL: &str = "https://sqs.us-east-1.amazonaws.com/111122223333/events";

fn queue(url: &str) -> String {
    format!("[[sqs]]\nurl = \"{url}\"\n")
}

#[test]
fn a_queue_s_url_tells_its_account_and_region_and_what_is_shown_is_read_again() {
    let file = format!(
        "{LANE}{}[[sqs]]\nurl = \"http://127.0.0.1:4566/444455556666/e\"\nregion = \"eu-west-1\"\n\
         role_arn = \"arn:aws:iam::444455556666:role/x\"\nexternal_id = \"my-secret-id\"\n",
        queue(URL)
    );
    let config = load(&file);
    let queues: Vec<String> = config
        .queues
        .iter()
        .map(|queue| format!("{}/{}/{}", queue.account, queue.region, queue.name()))
        .collect();
    assert_eq!(queues, ["111122223333/us-east-1/events", "444455556666/eu-west-1/e"]);
    let text = config.show();
    assert!(!text.contains("my-secret-id"), "{text}");
    assert_eq!(load(&shown(&config)).queues[0], config.queues[0]);
}

#[test]
fn lanes_that_events_tell_of_are_swept_less_often_unless_told_otherwise() {
    let minutes = |file: &str, region: &str| {
        load(file).poll_interval(&region.parse().unwrap()).as_secs() / 60
    };
    let fed = format!("{LANE}{}", queue(URL));
    assert_eq!((minutes(&fed, "us-east-1"), minutes(&fed, "eu-west-1")), (30, 5));
    let told = format!("[ingest]\npoll_interval = \"2m\"\n{fed}");
    assert_eq!((minutes(&told, "us-east-1"), minutes(&told, "eu-west-1")), (2, 2));
    assert_eq!(load(LANE).ingest.poll_interval, Duration::from_secs(300));
}

#[test]
fn queues_that_can_not_be_meant_are_refused() {
    let other = "[[sqs]]\nurl = \"http://localhost/111122223333/x\"\n";
    for (file, message) in [
        (queue("nonsense"), ":2: `sqs.url`: `nonsense` is not a queue's URL"),
        (queue("https://sqs.us-east-1.amazonaws.com/111/x"), "is not a queue's URL"),
        ("[[sqs]]\nregion = \"us-east-1\"".into(), ":1: `sqs.url`: missing"),
        (other.into(), ":1: `sqs.region`: missing: the host of this queue's URL doesn't tell"),
        (format!("{}region = \"eu-west-1\"", queue(URL)), "is eu-west-1, but the queue's URL says"),
        (format!("{other}region = \"mars\""), ":3: `sqs.region`: `mars` is not an AWS Region"),
        (format!("{}{}", queue(URL), queue(URL)), ":3: `sqs`: queue https://"),
        (
            format!(
                "{LANE}[[sqs]]\nurl = \"https://sqs.cn-north-1.amazonaws.com.cn/111122223333/x\""
            ),
            "is in partition aws-cn, the lanes in aws",
        ),
        (
            format!("{}role_arn = \"arn:aws:iam::444455556666:role/x\"", queue(URL)),
            "is a role of account 444455556666, but the queue's account is 111122223333",
        ),
        (format!("{}external_id = \"abc\"", queue(URL)), "no meaning without `sqs.role_arn`"),
        (format!("{}ulr = \"x\"", queue(URL)), "unknown key `sqs.ulr`; did you mean `sqs.url`?"),
        ("[sqs]\nurl = \"x\"".into(), "`sqs` is a list: write `[[sqs]]`"),
        ("sqs = [1]".into(), "`sqs` is a list: write `[[sqs]]`"),
    ] {
        let said = error(&file);
        assert!(said.contains(message), "{said}\ndoesn't say\n{message}");
    }
}
