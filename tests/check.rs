//! Preflight by the real binary against the simulator: each thing that is wrong is named, with the
//! statement that is missing or the remedy, and nothing is changed by asking.

use std::{collections::BTreeMap, process::Output};

use patchferry::{
    aws::permissions::{Holder, STATEMENTS},
    simulator::{
        Fault, FleetConfig, Lacking, Quotas, Scope, Service, SimLane, SimOrganization,
        SimulatorConfig, Stats,
    },
};
use serde_json::Value;

use crate::harness::{
    ACCOUNT, REGION,
    child::{EAGER, Site, text},
};

const OTHER_ACCOUNT: &str = "444455556666";
const EXTERNAL_ID: &str = "tell-nobody-this-is-the-external-id";

fn role(account: &str) -> String {
    format!("arn:aws:iam::{account}:role/patchferry")
}

/// The caller's own account, and another by a role.
fn two_lanes() -> String {
    format!(
        "{EAGER}\n[[lanes]]\naccount = \"{ACCOUNT}\"\nregions = [\"{REGION}\"]\n\
         [[lanes]]\naccount = \"{OTHER_ACCOUNT}\"\nregions = [\"{REGION}\"]\n\
         role_arn = \"{}\"\nexternal_id = \"{EXTERNAL_ID}\"\n",
        role(OTHER_ACCOUNT)
    )
}

async fn two_accounts(seed: u64) -> Site {
    let fleet = FleetConfig::of(30);
    let mut simulator =
        SimulatorConfig::new(seed).lane(ACCOUNT, REGION, fleet).lane(OTHER_ACCOUNT, REGION, fleet);
    simulator.external_id = Some(EXTERNAL_ID.into());
    Site::new(simulator, Some(&two_lanes())).await
}

fn check(site: &Site, arguments: &[&str]) -> (Value, Output) {
    let output = site.run(&[&["check", "--json"], arguments].concat());
    let told = text(&output.stdout);
    let report = serde_json::from_str(&told)
        .unwrap_or_else(|error| panic!("{error}: {told}{}", text(&output.stderr)));
    (report, output)
}

/// What isn't well, as `lane check outcome`.
fn trouble(report: &Value) -> Vec<String> {
    let of = |place: &str, items: &Value| -> Vec<String> {
        let items = items.as_array().unwrap().iter().filter(|item| item["outcome"] != "ok");
        let line = |item: &Value| {
            let word = |name: &str| item[name].as_str().unwrap().to_string();
            format!("{place} {} {}", word("check"), word("outcome"))
        };
        items.map(line).collect()
    };
    let mut lines = of("machine", &report["machine"]);
    for lane in report["lanes"].as_array().unwrap() {
        lines.extend(of(lane["lane"].as_str().unwrap(), &lane["items"]));
    }
    lines
}

fn item<'a>(report: &'a Value, lane: &str, check: &str) -> &'a Value {
    let items = if lane == "machine" {
        &report["machine"]
    } else {
        let lanes = report["lanes"].as_array().unwrap();
        &lanes.iter().find(|it| it["lane"] == lane).expect("the lane is reported")["items"]
    };
    let found = items.as_array().unwrap().iter().find(|item| item["check"] == check);
    found.unwrap_or_else(|| panic!("no {check} of {lane} in {report:#}"))
}

/// What a check may not change: what the hub holds, and what it was sent but for the probe.
fn taken(stats: &Stats) -> (u64, u64) {
    (stats.accepted, stats.ignored_updates)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_everything_granted_all_is_well_and_nothing_was_changed() {
    let site = two_accounts(1).await;
    let (report, output) = check(&site, &[]);
    assert_eq!(trouble(&report), Vec::<String>::new());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!((&report["failures"], &report["warnings"]), (&0.into(), &0.into()));
    for lane in report["lanes"].as_array().unwrap() {
        let predicted = &lane["predicted"];
        assert!(predicted["nodes"].as_u64() > Some(20), "{lane:#}");
        assert_eq!(predicted["requests_per_sweep"], 2);
        assert!(predicted["ssm_requests"].as_u64() >= predicted["sweeps"].as_u64(), "{lane:#}");
    }
    assert_eq!(report["lanes"][1]["role_arn"], role(OTHER_ACCOUNT));
    assert!(
        item(&report, &format!("{ACCOUNT}/{REGION}"), "securityhub:DescribeHub")["text"]
            .as_str()
            .unwrap()
            .contains("since")
    );

    assert!(!site.state_dir().exists(), "not even the state directory was made");
    assert_eq!(taken(&site.control.stats_total()), (0, 0));
    assert!(site.control.lanes().iter().all(|lane| site.control.hub(lane).is_empty()));
    let sent = site.control.stats_total().invalid_findings;
    assert_eq!(sent.values().sum::<u64>(), 2, "one probe a lane, refused: {sent:?}");
    let as_text = text(&site.run(&["check"]).stdout);
    assert!(as_text.contains("OK: 2 lanes, 0 warnings"), "{as_text}");
    for told in [as_text, text(&output.stdout), text(&output.stderr)] {
        assert!(!told.contains(EXTERNAL_ID) && !told.contains("simulated-session/"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_action_that_is_denied_is_named_with_its_statement_and_no_other_is() {
    let fleet = FleetConfig::of(30);
    let mut simulator = SimulatorConfig::new(2)
        .lane(ACCOUNT, REGION, fleet)
        .lane(OTHER_ACCOUNT, REGION, fleet)
        .queue(ACCOUNT, REGION, "patch-events");
    simulator.external_id = Some(EXTERNAL_ID.into());
    let url = format!("https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/patch-events");
    simulator.organization = SimOrganization {
        readers: vec![ACCOUNT.into()],
        accounts: BTreeMap::from([(OTHER_ACCOUNT.into(), "ACTIVE".into())]),
    };
    let config = format!(
        "{}[[sqs]]\nurl = \"{url}\"\n[discovery]\norganization = true\nregions = [\"{REGION}\"]\n\
         role_name = \"patchferry\"\n",
        two_lanes()
    );
    let site = Site::new(simulator, Some(&config)).await;
    // A check a second is more than a lane's own quota of GetFindings bears.
    for lane in site.control.lanes() {
        site.control.set_quotas(&lane, &Quotas::UNLIMITED);
    }
    let lane = format!("{OTHER_ACCOUNT}/{REGION}");
    let queue = format!("queue {ACCOUNT}/{REGION}/patch-events");
    for statement in STATEMENTS {
        for action in statement.actions {
            let (place, named) = match *action {
                "sts:AssumeRole" => (lane.as_str(), "identity"),
                "ec2:DescribeInstances" => (lane.as_str(), "cloudformation:GetResource"),
                listing @ "organizations:ListAccounts" => ("machine", listing),
                other if other.starts_with("sqs:") => ("machine", queue.as_str()),
                other => (lane.as_str(), other),
            };
            let account = match statement.holder {
                Holder::Lane => OTHER_ACCOUNT,
                Holder::Runner => ACCOUNT,
            };
            site.control.deny(account, action);
            let (report, output) = check(&site, &["--lane", &lane]);
            let is_optional = statement.without.is_some();
            let outcome = if is_optional { "warn" } else { "fail" };
            assert_eq!(trouble(&report), [format!("{place} {named} {outcome}")], "{action}");
            assert_eq!(output.status.code(), Some(i32::from(!is_optional)), "{action}");
            let item = item(&report, place, named);
            let missing = &item["missing"];
            assert_eq!(
                (&missing["action"], &missing["sid"]),
                (&(*action).into(), &statement.sid.into())
            );
            let resource = missing["resource"].as_str().unwrap();
            let is_list = named == "organizations:ListAccounts";
            assert!(resource.starts_with("arn:") || is_list, "{action}: {resource}");
            let part = missing["part"].as_str().unwrap();
            let advice = item["advice"].as_str().unwrap();
            assert!(advice.contains(&format!("iam-policy --part {part}")), "{advice}");
            assert!(advice.contains(statement.sid), "{advice}");
            let printed = text(&site.run(&["iam-policy", "--part", part]).stdout);
            assert!(printed.contains(action) && printed.contains(statement.sid), "{printed}");
            site.control.allow_all();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_is_tried_without_a_message_being_taken() {
    let simulator = SimulatorConfig::new(14).lane(ACCOUNT, REGION, FleetConfig::of(5)).queue(
        ACCOUNT,
        REGION,
        "patch-events",
    );
    let url = format!("https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/patch-events");
    let site = Site::new(simulator, Some(&format!("{EAGER}[[sqs]]\nurl = \"{url}\"\n"))).await;
    let queue = site.control.queues(REGION).remove(0);
    let checked = format!("queue {ACCOUNT}/{REGION}/patch-events");
    let told = || {
        let (report, _) = check(&site, &[]);
        assert_eq!(trouble(&report), Vec::<String>::new());
        item(&report, "machine", &checked)["text"].as_str().unwrap().to_string()
    };
    let receives = || site.control.stats_total().requests.get("ReceiveMessage").copied();
    assert_eq!(told(), "no message waits");
    assert_eq!(receives(), Some(1));
    for _ in 0..3 {
        site.control.send_raw(&queue, "{}");
    }
    assert!(told().starts_with("3 messages wait: sqs:ReceiveMessage was not tried"), "{}", told());
    assert_eq!(receives(), Some(1));
    assert_eq!((site.control.depth(&queue).visible, site.control.deleted(&queue)), (3, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_policy_is_to_blame_is_told_as_aws_tells_it() {
    let site = two_accounts(3).await;
    let lane = format!("{OTHER_ACCOUNT}/{REGION}");
    let advice = |check_name: &str| {
        let (report, _) = check(&site, &["--lane", &lane]);
        item(&report, &lane, check_name)["advice"].as_str().unwrap().to_string()
    };
    site.control.deny_for_lack(OTHER_ACCOUNT, "sts:AssumeRole", Lacking::Resource);
    let told = advice("identity");
    assert!(told.contains("trust policy") && told.contains("--part trust"), "{told}");
    site.control.allow_all();
    let action = "ssm:DescribeInstancePatches";
    site.control.deny_for_lack(OTHER_ACCOUNT, action, Lacking::Organization);
    let told = advice(action);
    assert!(told.contains("organization"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_does_not_let_the_daemon_in_fails_its_lane_only() {
    let site = two_accounts(4).await;
    site.configure(&two_lanes().replace(EXTERNAL_ID, "another-external-id"));
    let (report, output) = check(&site, &[]);
    let lane = format!("{OTHER_ACCOUNT}/{REGION}");
    assert_eq!(trouble(&report), [format!("{lane} identity fail")]);
    assert_eq!(output.status.code(), Some(1));
    let told = item(&report, &lane, "identity")["advice"].as_str().unwrap().to_string();
    assert!(told.contains("external id") && told.contains("EnterAccounts"), "{told}");
    assert!(!text(&output.stdout).contains("another-external-id"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_of_another_account_are_named() {
    let fleet = FleetConfig::of(5);
    let simulator = SimulatorConfig::new(5).lane(OTHER_ACCOUNT, REGION, fleet);
    let config =
        format!("{EAGER}\n[[lanes]]\naccount = \"{OTHER_ACCOUNT}\"\nregions = [\"{REGION}\"]\n");
    let site = Site::new(simulator, Some(&config)).await;
    let (report, output) = check(&site, &[]);
    let lane = format!("{OTHER_ACCOUNT}/{REGION}");
    assert_eq!(trouble(&report), [format!("{lane} identity fail")]);
    assert_eq!(output.status.code(), Some(1));
    let item = item(&report, &lane, "identity");
    assert!(item["text"].as_str().unwrap().contains(ACCOUNT), "{item:#}");
    assert!(item["advice"].as_str().unwrap().contains("role_arn"), "{item:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_is_off_is_told_once() {
    let site = two_accounts(6).await;
    let off = SimLane::new(ACCOUNT, REGION);
    site.control.set_fault(Scope::of(Service::SecurityHub).lane(&off), Some(Fault::HubOff));
    let (report, output) = check(&site, &[]);
    let lane = format!("{ACCOUNT}/{REGION}");
    let failed: Vec<String> =
        trouble(&report).into_iter().filter(|line| line.ends_with("fail")).collect();
    assert_eq!(failed, [format!("{lane} securityhub:DescribeHub fail")]);
    assert_eq!(output.status.code(), Some(1));
    let item = item(&report, &lane, "securityhub:DescribeHub");
    assert!(item["advice"].as_str().unwrap().contains("enable Security Hub"), "{item:#}");
    let told = text(&site.run(&["check"]).stdout);
    assert!(told.contains("NOT READY") && told.contains("1 of 2 lanes"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_s_own_integration_is_a_warning_with_the_command_that_ends_it() {
    let site = two_accounts(7).await;
    site.control.set_aws_integration_enabled(true);
    let (report, output) = check(&site, &[]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(report["warnings"], 2);
    let lane = format!("{ACCOUNT}/{REGION}");
    let item = item(&report, &lane, "securityhub:ListEnabledProductsForImport");
    let advice = item["advice"].as_str().unwrap();
    assert!(advice.contains("product-subscription/aws/ssm-patch-manager"), "{advice}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_wrong_is_told_from_aws_s_own() {
    let site = two_accounts(8).await;
    let clock = |seconds: i64| {
        let fault = Fault::ClockAhead { seconds };
        site.control.set_fault(Scope::of(Service::Sts), Some(fault));
        let (report, output) = check(&site, &[]);
        let item = item(&report, "machine", "clock").clone();
        (item["outcome"].as_str().unwrap().to_string(), item["text"].clone(), output.status.code())
    };
    assert_eq!(clock(10).0, "ok");
    let (outcome, told, code) = clock(90);
    assert_eq!((outcome.as_str(), code), ("warn", Some(0)));
    assert!(told.as_str().unwrap().contains("behind AWS's"), "{told}");
    assert_eq!(clock(-270).0, "fail");
    let (outcome, told, code) = clock(3_600);
    assert_eq!((outcome.as_str(), code), ("fail", Some(1)), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_out_of_reach_exits_69() {
    // Bound and closed again: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let site = two_accounts(9).await.with("AWS_ENDPOINT_URL", &endpoint);
    let (report, output) = check(&site, &[]);
    assert_eq!(output.status.code(), Some(69), "{report:#}");
    assert_eq!(item(&report, "machine", "credentials")["outcome"], "fail");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hangs_ends_with_the_time_given() {
    let site = two_accounts(10).await;
    let hanging = SimLane::new(ACCOUNT, REGION);
    site.control.set_fault(Scope::of(Service::Ssm).lane(&hanging), Some(Fault::NeverAnswer));
    let (report, output) = check(&site, &["--timeout", "3s"]);
    assert_eq!(trouble(&report), [format!("{ACCOUNT}/{REGION} time fail")]);
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_lanes_are_checked_with_few_requests_each() {
    let mut simulator = SimulatorConfig::new(11);
    let mut config = EAGER.to_string();
    for account in 0..50 {
        let account = format!("{:012}", 100_000_000_000_u64 + account);
        simulator = simulator.lane(&account, REGION, FleetConfig::of(3));
        let lane = format!(
            "[[lanes]]\naccount = \"{account}\"\nregions = [\"{REGION}\"]\nrole_arn = \"{}\"\n",
            role(&account)
        );
        config.push_str(&lane);
    }
    let site = Site::new(simulator, Some(&config)).await;
    let (report, output) = check(&site, &[]);
    assert_eq!(trouble(&report), Vec::<String>::new());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(report["lanes"].as_array().unwrap().len(), 50);
    let requests: BTreeMap<String, u64> = site.control.stats_total().requests;
    for (operation, count) in requests {
        assert!(count <= 52, "{operation}: {count}");
    }
    let told = text(&site.run(&["check"]).stdout);
    assert!(told.lines().count() < 70, "lanes with which all is well take a line each:\n{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_running_daemon_it_disturbs_nothing() {
    let simulator = SimulatorConfig::new(12).lane(ACCOUNT, REGION, FleetConfig::of(20));
    let site = Site::new(simulator, Some(EAGER)).await;
    let daemon = site.start();
    daemon.settle();
    let before = taken(&site.control.stats_total());
    let (report, output) = check(&site, &[]);
    assert_eq!(trouble(&report), Vec::<String>::new());
    assert_eq!(output.status.code(), Some(0));
    assert!(item(&report, "machine", "daemon")["text"].as_str().unwrap().contains("runs"));
    daemon.settle();
    assert_eq!(taken(&site.control.stats_total()), before);
    assert_eq!(site.control.differences_total(), Vec::<String>::new());
    let (status, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    let (report, _) = check(&site, &[]);
    assert!(item(&report, "machine", "store")["text"].as_str().unwrap().contains("format"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_this_machine_is_told_before_a_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let simulator = SimulatorConfig::new(13).lane(ACCOUNT, REGION, FleetConfig::of(5));
    let site = Site::new(simulator, Some(EAGER))
        .await
        .with("PATCHFERRY_HTTP__LISTEN", &address)
        .with("PATCHFERRY_STORE__MIN_FREE_BYTES", "1024GiB");
    std::fs::create_dir(site.state_dir()).unwrap();
    let newer = patchferry::store::FORMAT_VERSION.0 + 1;
    let current = format!("store-1\nformat {newer}\n");
    std::fs::write(site.state_dir().join("CURRENT"), current).unwrap();
    let (report, output) = check(&site, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(trouble(&report), ["machine store fail", "machine disk fail", "machine http fail"]);
    let advice = item(&report, "machine", "http")["advice"].as_str().unwrap();
    assert!(advice.contains("http.listen"), "{advice}");
    let stranger = site.run(&["check", "--lane", "999999999999/us-east-1"]);
    assert_eq!(stranger.status.code(), Some(1), "{}", text(&stranger.stderr));
    assert!(text(&stranger.stdout).contains("not served here"), "{}", text(&stranger.stdout));
}
