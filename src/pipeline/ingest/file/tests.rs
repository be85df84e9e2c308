//! The door, line by line.

use serde_json::{Value, json};

use super::door::{Door, LINE_BYTES_MAX, Line, Refusal};
use crate::record::{
    Lane, UnixMillis,
    observation::{PatchState, RawPatchState},
};

const LANE: &str = "111122223333/us-east-1";

fn door() -> Door {
    Door::new([LANE.parse::<Lane>().unwrap()])
}

/// As the AWS CLI prints a patch state, with what has to be added.
fn sample() -> Value {
    json!({
        "Account": "111122223333",
        "Region": "us-east-1",
        "InstanceId": "i-02573cafcfEXAMPLE",
        "PatchGroup": "web",
        "BaselineId": "pb-0123456789abcdef0",
        "SnapshotId": "2f1e6a1c-8a94-4c3e-8f9e-0242ac120002",
        "OwnerInformation": "",
        "InstalledCount": 32,
        "InstalledOtherCount": 1,
        "InstalledPendingRebootCount": 0,
        "InstalledRejectedCount": 0,
        "MissingCount": 2,
        "FailedCount": 0,
        "UnreportedNotApplicableCount": 4,
        "NotApplicableCount": 2_671,
        "OperationStartTime": 1_636_668_300.5,
        "OperationEndTime": "2021-11-11T22:05:25.123000+00:00",
        "Operation": "Scan",
        "RebootOption": "NoReboot",
        "CriticalNonCompliantCount": 1,
        "SecurityNonCompliantCount": 0,
        "OtherNonCompliantCount": 1
    })
}

fn with(changes: &Value) -> Value {
    let mut line = sample();
    for (name, value) in changes.as_object().unwrap() {
        line[name] = value.clone();
    }
    line
}

fn without(name: &str) -> Value {
    let mut line = sample();
    line.as_object_mut().unwrap().remove(name).expect("the sample has it");
    line
}

fn judge(line: &Value) -> Result<Line, Refusal> {
    door().judge(&line.to_string()).map(|line| line.expect("it is not blank"))
}

fn refusal(line: &Value) -> String {
    judge(line).expect_err("it is refused").to_string()
}

#[test]
fn a_line_as_the_cli_prints_it_comes_in_whole() {
    let line = judge(&sample()).unwrap();
    assert_eq!(line.lane.to_string(), LANE);
    assert_eq!(line.node.as_str(), "i-02573cafcfEXAMPLE");
    assert_eq!((line.node_info, line.patches), (None, None));
    let expected = RawPatchState {
        patch_group: "web".into(),
        baseline: "pb-0123456789abcdef0".into(),
        snapshot: Some("2f1e6a1c-8a94-4c3e-8f9e-0242ac120002".into()),
        operation: "Scan".into(),
        operation_start: Some(UnixMillis(1_636_668_300_500)),
        operation_end: Some(UnixMillis(1_636_668_325_123)),
        reboot_option: Some("NoReboot".into()),
        installed: 32,
        installed_other: 1,
        missing: 2,
        not_applicable: 2_671,
        unreported_not_applicable: 4,
        critical_non_compliant: 1,
        other_non_compliant: 1,
        ..RawPatchState::default()
    };
    assert_eq!(line.patch_state, expected);
}

#[test]
fn what_the_node_is_and_which_patches_it_lacks_come_in_too() {
    let line = judge(&with(&json!({
        "ResourceType": "ManagedInstance",
        "ComputerName": "web-1",
        "IPAddress": "10.0.0.1",
        "PlatformName": "Amazon Linux",
        "IamRole": "service/role",
        "AssociationOverview": {"DetailedStatus": "Success"},
        "Patches": [
            {"Title": "t", "KBId": "KB1", "Classification": "SecurityUpdates", "State": "Missing",
             "Severity": "Critical", "InstalledTime": 0.0, "CVEIds": "CVE-1,CVE-2"},
            {"Title": "u", "KBId": "KB2", "Classification": "", "State": "Installed",
             "Severity": "", "InstalledTime": "2021-11-11T22:05:25Z"}
        ]
    })))
    .unwrap();
    let info = line.node_info.unwrap();
    assert_eq!(info.resource_type.as_str(), "ManagedInstance");
    assert_eq!(info.computer_name.unwrap().as_str(), "web-1");
    assert_eq!(info.ip_address.unwrap().as_str(), "10.0.0.1");
    let patches = line.patches.unwrap();
    assert_eq!(patches.len(), 1, "those that make it non-compliant");
    assert_eq!((patches[0].state, patches[0].cves.len()), (PatchState::Missing, 2));
}

#[test]
fn null_and_absent_are_the_same_and_times_of_1970_and_year_one_are_none() {
    let line = judge(&with(&json!({
        "PatchGroup": null, "InstalledCount": null, "SnapshotId": "",
        "OperationStartTime": 0, "OperationEndTime": "0001-01-01T00:00:00Z"
    })))
    .unwrap();
    let state = line.patch_state;
    assert_eq!((state.installed, state.snapshot), (0, None));
    assert_eq!((state.operation_start, state.operation_end), (None, None));
    assert!(judge(&without("PatchGroup")).is_ok(), "a node may have none");
}

#[test]
fn a_blank_line_says_nothing() {
    for blank in ["", "  ", "\t\r"] {
        assert_eq!(door().judge(blank), Ok(None));
    }
}

#[test]
fn what_is_not_one_json_object_is_refused_with_the_way_to_make_one() {
    for line in ["{", "nonsense", "[]", "17", "null", "\"x\"", "{} {}", "[{}]", "{\"a\":1,}"] {
        let said = door().judge(line).expect_err(line).to_string();
        assert!(said.contains("not one JSON object") && said.contains("jq -c"), "{line}: {said}");
    }
    let long = door().judge(&json!("x".repeat(5_000)).to_string()).unwrap_err().to_string();
    assert!(long.len() < 300, "{long}");
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    assert!(matches!(door().judge(&deep), Err(Refusal::NotAnObject(_))));
}

#[test]
fn a_line_over_the_limit_is_refused_and_one_at_it_is_not() {
    let padded = |bytes: usize| {
        let line = sample().to_string();
        let padding = " ".repeat(bytes - line.len());
        line + &padding
    };
    assert!(door().judge(&padded(LINE_BYTES_MAX)).is_ok());
    let refusal = door().judge(&padded(LINE_BYTES_MAX + 1)).unwrap_err();
    assert_eq!(refusal, Refusal::TooLong { bytes: LINE_BYTES_MAX + 1 });
}

#[test]
fn a_missing_field_is_named() {
    for name in [
        "Account",
        "Region",
        "InstanceId",
        "BaselineId",
        "Operation",
        "OperationStartTime",
        "OperationEndTime",
    ] {
        for line in [without(name), with(&json!({ name: null }))] {
            assert!(refusal(&line).starts_with(&format!("{name}: it is missing")), "{name}");
        }
    }
    assert!(refusal(&without("Region")).contains("add Account and Region"));
    let said = refusal(&with(&json!({"Patches": [{"State": "Missing"}, {"KBId": "KB1"}]})));
    assert_eq!(said, "Patches[1].State: it is missing");
}

#[test]
fn a_foreign_field_is_named_with_what_may_have_been_meant() {
    let said = refusal(&with(&json!({"MissingCuont": 1})));
    assert_eq!(said, "MissingCuont: there is no such field; did you mean MissingCount?");
    assert_eq!(refusal(&with(&json!({"Zebra": 1}))), "Zebra: there is no such field");
    let said = refusal(&with(&json!({"Patches": [{"State": "Missing", "KBID": "KB1"}]})));
    assert!(said.starts_with("Patches[0].KBID: there is no such field"), "{said}");
    let long = refusal(&with(&json!({"x".repeat(5_000): 1})));
    assert!(long.len() < 250, "{long}");
}

#[test]
fn a_name_that_is_there_twice_is_refused() {
    let line = sample().to_string();
    let twice = line.replacen('{', "{\"InstanceId\":\"i-12345678\",", 1);
    let said = door().judge(&twice).unwrap_err().to_string();
    assert!(said.contains("the field `InstanceId` is there twice"), "{said}");
}

#[test]
fn a_refusal_repeats_nothing_that_could_steer_a_terminal() {
    for changes in [json!({"\u{1b}[2J\n": 1}), json!({"InstanceId": "\u{1b}]0;x\u{7}"})] {
        let said = refusal(&with(&changes));
        assert!(!said.contains(char::is_control), "{said:?}");
    }
}

#[test]
fn a_value_of_another_type_is_refused_with_what_was_found() {
    for (changes, said) in [
        (json!({"Account": 111_122_223_333_u64}), "Account: expected a text, found 111122223333"),
        (json!({"Operation": ["Scan"]}), "Operation: expected a text, found a list"),
        (json!({"PatchGroup": {}}), "PatchGroup: expected a text, found an object"),
        (json!({"MissingCount": "2"}), "MissingCount: expected a whole number, found \"2\""),
        (json!({"MissingCount": 2.5}), "MissingCount: expected a whole number, found 2.5"),
        (json!({"ComputerName": true}), "ComputerName: expected a text, found true"),
        (json!({"Patches": {}}), "Patches: expected a list, found an object"),
        (json!({"Patches": ["KB1"]}), "Patches[0]: expected an object, found \"KB1\""),
    ] {
        assert_eq!(refusal(&with(&changes)), said);
    }
    for time in [json!("yesterday"), json!(true), json!(1e300), json!("2021-11-11")] {
        let said = refusal(&with(&json!({"OperationEndTime": time})));
        assert!(said.starts_with("OperationEndTime: expected a time"), "{said}");
    }
    let long = refusal(&with(&json!({"MissingCount": "x".repeat(5_000)})));
    assert!(long.len() < 250, "{long}");
}

#[test]
fn a_count_that_is_negative_or_beyond_reason_is_refused() {
    for count in [json!(-1), json!(2_147_483_648_u64), json!(u64::MAX), json!(i64::MIN)] {
        let said = refusal(&with(&json!({"FailedCount": count})));
        assert_eq!(said, format!("FailedCount: {count} is not a count from 0 to 2147483647"));
    }
    assert!(judge(&with(&json!({"FailedCount": i32::MAX}))).is_ok());
}

#[test]
fn an_account_a_region_or_a_node_that_is_none_is_refused() {
    for (field, value) in [
        ("Account", "12345"),
        ("Region", "US-EAST-1"),
        ("InstanceId", "no-node"),
        ("InstanceId", ""),
    ] {
        let said = refusal(&with(&json!({ field: value })));
        assert!(said.starts_with(&format!("{field}: `{value}` is not a")), "{said}");
    }
    let long = refusal(&with(&json!({"Account": "1".repeat(5_000)})));
    assert!(long.len() < 250, "{long}");
}

#[test]
fn a_lane_that_is_not_served_is_refused_with_advice() {
    let said = refusal(&with(&json!({"Region": "eu-west-1"})));
    assert!(said.contains("lane 111122223333/eu-west-1 is not served here"), "{said}");
    assert!(said.contains(&format!("served: {LANE}")) && said.contains("[[lanes]]"), "{said}");
    let many = Door::new((0..9).map(|n| format!("00000000000{n}/us-east-1").parse().unwrap()));
    let said = many.judge(&sample().to_string()).unwrap_err().to_string();
    assert!(said.contains("000000000002/us-east-1 and 6 more"), "{said}");
}

#[test]
fn what_only_makes_no_sense_comes_in_and_is_for_validate_to_judge() {
    let line = judge(&with(&json!({"Operation": "Banana", "OperationEndTime": 40_000_000})));
    assert_eq!(line.unwrap().patch_state.operation.as_str(), "Banana");
}
