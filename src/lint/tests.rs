//! Rules by example: what is said of a finding that is otherwise right, and of every form of input.

use std::io::Cursor;

use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000_000;
const ARN: &str = "arn:aws:securityhub:us-east-1:111122223333:product/111122223333/default";

fn clean() -> Value {
    json!({
        "SchemaVersion": "2018-10-08",
        "Id": "finding-1",
        "ProductArn": ARN,
        "GeneratorId": "rule-1",
        "AwsAccountId": "111122223333",
        "CreatedAt": "2026-11-23T10:00:00Z",
        "UpdatedAt": "2026-11-23T10:00:00.5+01:00",
        "Title": "i-0123456789abcdef0 is odd",
        "Description": "A description",
        "Resources": [{
            "Type": "AwsEc2Instance",
            "Id": "arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0",
            "Partition": "aws",
            "Region": "us-east-1",
        }],
        "FindingProviderFields": {
            "Severity": {"Label": "HIGH"},
            "Types": ["Software and Configuration Checks/Patch Management/Compliance"],
        },
    })
}

/// `clean`, otherwise in one place.
fn with(pointer: &str, value: Value) -> Value {
    let mut finding = clean();
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    match finding.pointer_mut(parent).unwrap() {
        Value::Object(members) if value.is_null() => drop(members.remove(member)),
        Value::Object(members) => drop(members.insert(member.to_string(), value)),
        Value::Array(items) => items[member.parse::<usize>().unwrap()] = value,
        other => panic!("{pointer} is in {other}"),
    }
    finding
}

fn remarks(finding: &Value) -> Vec<String> {
    let remarks = lint_finding(finding.to_string().as_bytes(), NOW);
    let line = |it: Remark| format!("{}: {}: {}", it.level, it.path, it.text);
    remarks.into_iter().map(line).collect()
}

fn lines(input: &str) -> (Summary, Vec<String>) {
    let mut told = Vec::new();
    let mut tell = |it: Told| {
        told.push(it.to_string());
        true
    };
    let summary = lint(Cursor::new(input), NOW, &mut tell).unwrap();
    (summary, told)
}

#[test]
fn a_finding_as_it_should_be_gets_no_remark() {
    // The zone makes UpdatedAt an hour earlier than it looks.
    let finding = with("/CreatedAt", json!("2026-11-23T08:00:00Z"));
    assert_eq!(remarks(&finding), Vec::<String>::new());
}

#[test]
fn what_the_hub_refuses_is_an_error_with_what_is_allowed() {
    for (pointer, value, expected) in [
        ("/Title", Value::Null, "error: Title: is missing: it is required"),
        ("/Title", json!("x".repeat(257)), "error: Title: has 257 characters; allowed: 1 to 256"),
        ("/Title", json!(" \u{feff}"), "error: Title: is nothing but white space"),
        ("/Title", json!(7), "error: Title: is a number; a text is expected"),
        ("/AwsAccountId", json!("123"), "error: AwsAccountId: is \"123\"; an account id has 12"),
        ("/UpdatedAt", json!("2026-11-23"), "error: UpdatedAt: is \"2026-11-23\"; a time is"),
        ("/Resources", json!([]), "error: Resources: has 0 items; allowed: 1 to 32"),
        (
            "/Resources/0/Partition",
            json!("mars"),
            "error: Resources[0].Partition: is \"mars\"; allowed: aws,",
        ),
        (
            "/FindingProviderFields/Severity/Label",
            json!("SEVERE"),
            "error: FindingProviderFields.Severity.Label: is \"SEVERE\"; allowed: INFORMATIONAL,",
        ),
        ("/FindingProviderFields", Value::Null, "must have both Severity and Types"),
        (
            "/FindingProviderFields/Types/0",
            json!("Effects/a/b/c"),
            "error: FindingProviderFields.Types[0]: is \"Effects/a/b/c\"; a type is",
        ),
        (
            "/ProductFields",
            json!({"aws/securityhub/x": "y"}),
            "error: ProductFields[\"aws/securityhub/x\"]: keys that begin with aws/ are reserved",
        ),
        ("/ProductFields", json!({"a/b": 1}), "error: ProductFields[\"a/b\"]: is a number; a text"),
        ("/PatchSummary", json!({"Id": "pb", "MissingCount": 100_001}), "allowed: 0 to 100000"),
        ("/PatchSummary", json!({"Id": "pb", "MissingCount": 1.5}), "a whole number, 0 to 100000"),
        ("/SourceUrl", json!("ftp://x"), "error: SourceUrl: is \"ftp://x\"; it must begin with"),
        ("/ProductArn", json!("arn:aws:iam::1:x"), "error: ProductArn: is \"arn:aws:iam::1:x\""),
        (
            "/ProductArn",
            json!(ARN.replace("111122223333:", "444455556666:")),
            "its account is \"444455556666\", but AwsAccountId is 111122223333",
        ),
        ("/ProductArn", json!(ARN.replace("arn:aws:", "arn:aws-cn:")), "is in partition aws, not"),
        (
            "/ProductArn",
            json!("arn:aws:securityhub:us-east-1::product/aws/ssm-patch-manager"),
            "error: ProductArn: belongs to AWS",
        ),
    ] {
        let told = remarks(&with(pointer, value.clone()));
        let found = told.iter().any(|it| it.contains(expected) && it.starts_with("error"));
        assert!(found, "{pointer} = {value}: {told:#?} doesn't say {expected}");
    }
}

#[test]
fn what_the_hub_takes_but_should_not_get_is_a_warning() {
    for (pointer, value, expected) in [
        ("/Titel", json!("x"), "Titel: isn't a member that ASFF has; did you mean Title?"),
        ("/Confidence", json!(7), "Confidence: what a provider says of it belongs into"),
        ("/Region", json!("us-east-1"), "Region: Security Hub fills it in"),
        ("/WorkflowState", json!("NEW"), "WorkflowState: retired"),
        ("/Title", json!("odd"), "Title: doesn't name the resource"),
        ("/GeneratorId", json!("finding-1"), "GeneratorId: is the Id"),
        ("/UpdatedAt", json!("2026-11-22T10:00:00Z"), "UpdatedAt: is before CreatedAt"),
        ("/UpdatedAt", json!("2099-11-22T10:00:00Z"), "is in the future: until then the hub"),
        ("/Resources/0/Region", json!("us-east-2"), "Resources[0].Region: is \"us-east-2\", but"),
        ("/Resources/0/Id", json!("i-0123456789abcdef0"), "should be the resource's ARN"),
        ("/Compliance", json!({"Status": "PASSED"}), "Compliance.Status: is PASSED, but"),
        ("/Compliance", json!({"Status": null}), "Compliance.Status: is null: leave it out"),
        ("/ProductFields", json!({"key": "v"}), "should be of the form company/product/field"),
    ] {
        let told = remarks(&with(pointer, value.clone()));
        let found = told.iter().any(|it| it.contains(expected) && it.starts_with("warning"));
        assert!(found, "{pointer} = {value}: {told:#?} doesn't say {expected}");
        // UpdatedAt of `clean` is early on purpose.
        assert!(!told.iter().any(|it| it.starts_with("error")), "{told:#?}");
    }
}

#[test]
fn a_member_that_is_there_twice_is_an_error() {
    let text = clean().to_string().replacen('{', "{\"Title\":\"x\",", 1);
    let told = lint_finding(text.as_bytes(), NOW);
    assert!(told.iter().any(|it| it.path == "Title" && it.text == "is there twice"), "{told:?}");
}

#[test]
fn more_than_240_kb_is_an_error_and_white_space_costs_nothing() {
    let large = with("/ProductFields", json!({"a/b": "x".repeat(240_000)}));
    assert!(remarks(&large).iter().any(|it| it.contains("the hub takes 240 KB")));
    let spaced = clean().to_string().replace("\":", &format!("\":{}", " ".repeat(20_000)));
    assert!(spaced.len() > FINDING_BYTES_MAX);
    assert!(!lint_finding(spaced.as_bytes(), NOW).iter().any(|it| it.text.contains("240 KB")));
}

#[test]
fn every_form_of_input_is_read() {
    let compact = with("/CreatedAt", json!("2026-11-23T08:00:00Z"));
    let other = with("/Id", json!("finding-2"));
    for (input, findings) in [
        (format!("{{\"Findings\": [{compact}]}}\n"), 1),
        (format!(" [{compact} , {other}] "), 2),
        (format!("{compact}\n\n{other}\n"), 2),
        (format!("{compact:#}\n{other:#}"), 2),
    ] {
        let (summary, told) = lines(&input);
        assert_eq!((summary.findings, summary.errors), (findings, 0), "{input}: {told:#?}");
    }
}

#[test]
fn a_request_is_judged_as_a_whole_and_lines_are_not() {
    let finding = clean().to_string();
    let many = vec![finding.as_str(); 101];
    let (summary, told) = lines(&format!("{{\"Findings\":[{}]}}", many.join(",")));
    assert_eq!(summary.findings, 101);
    assert!(told.iter().any(|it| it == "error: there are 101 findings; a request takes 1 to 100"));
    assert!(told.iter().any(|it| it.contains("Findings[0] has it, too: of a request's")));
    let (summary, _) = lines(&many.join("\n"));
    assert_eq!((summary.findings, summary.errors), (101, 0));
    let large = with("/ProductFields", json!({"a/b": "x".repeat(200_000)})).to_string();
    let (_, told) = lines(&format!("[{}]", vec![large.as_str(); 31].join(",")));
    assert!(told.iter().any(|it| it.contains("the hub takes 6 MB")), "{told:#?}");
    let (_, told) = lines("[]");
    assert_eq!(told, ["error: there are 0 findings; a request takes 1 to 100"]);
}

#[test]
fn what_is_no_json_is_told_with_its_line() {
    let finding = clean().to_string();
    let (summary, told) = lines(&format!("{finding}\n{{oops\n{finding}\n"));
    assert_eq!(summary.findings, 3);
    assert!(told.iter().any(|it| it.starts_with("Findings[1] (line 2): error: is no JSON")));
    let (_, told) = lines(&format!("[{finding},\n{finding} {finding}]"));
    assert!(told.iter().any(|it| it.starts_with("error: it stops being JSON in line 2")));
    for (input, expected) in [
        ("", "there is nothing in it"),
        ("<html>", "it is neither a finding nor"),
        ("[7]", "is a number; a finding is an object"),
        ("[{\"a\": ", "is no JSON"),
        ("{\"Findings\": [{}], \"NextToken\": \"x\"}", "takes Findings and nothing beside"),
        ("{} {}", "is no JSON: trailing characters"),
        ("{\n}\n]", "it stops being JSON in line 3"),
        ("{\n}\n,{}", "it stops being JSON in line 3"),
    ] {
        let (_, told) = lines(input);
        assert!(told.iter().any(|it| it.contains(expected)), "{input}: {told:#?}");
    }
}

#[test]
fn what_is_too_large_to_be_read_is_told_and_passed_over() {
    let huge = format!("{{\"Id\": \"{}\"}}", "x".repeat(5 << 20));
    let (summary, told) = lines(&format!("{}\n{huge}\n{}\n", clean(), clean()));
    assert_eq!((summary.findings, summary.findings_with_errors), (3, 1));
    assert!(
        told.iter().any(|it| it.contains("5242890 bytes") && it.contains("line 2")),
        "{told:?}"
    );
}

#[test]
fn a_remark_obeys_no_terminal_and_is_short() {
    let told =
        remarks(&with("/SchemaVersion", json!(format!("\u{1b}[2J\u{202e}{}", "y".repeat(900)))));
    assert!(told.iter().all(|it| !it.contains(char::is_control) && it.chars().count() < 400));
    assert!(told.iter().any(|it| it.contains("\\u{1b}[2J\\u{202e}yyy")), "{told:?}");
}

#[test]
fn timestamps_are_read_as_documented() {
    for (text, expected) in [
        ("2018-10-31T23:00:00Z", Some(1_541_026_800_000)),
        ("2018-10-31T23:00:00.123456789Z", Some(1_541_026_800_123)),
        ("2018-11-01T00:30:00+01:30", Some(1_541_026_800_000)),
        ("2018-10-31T21:30:00.5-0130", Some(1_541_026_800_500)),
        ("2018-10-31T23:00:00+18:00", Some(1_540_962_000_000)),
        ("2018-10-31T23:00:00+18:01", None),
        ("2018-02-30T23:00:00Z", None),
        ("2018-10-31T24:00:00Z", None),
        ("2018-10-31T23:00:00", None),
        ("2018-10-31T23:00:00z", None),
        ("2018-10-31 23:00:00Z", None),
        ("2018-10-31T23:00:00.Z", None),
        ("2018-10-31T23:00:00.1234567890Z", None),
        ("2018-10-31T23:00:00+1:30", None),
        ("2018-10-31T23:00:00+é1", None),
    ] {
        assert_eq!(time::parse(text), expected, "{text}");
    }
}
