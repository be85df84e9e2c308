//! What `iam-policy` prints is what a configuration needs and nothing else, and tells no secret.

use std::{collections::BTreeSet, fs, process::Command};

use patchferry::aws::permissions::{Holder, STATEMENTS};
use serde_json::Value;

const EXTERNAL_ID: &str = "tell-nobody-this-is-the-external-id";

/// An account of one's own and another by a role, in two Regions.
fn two_accounts() -> String {
    format!(
        "[[lanes]]\naccount = \"111122223333\"\nregions = [\"us-east-1\", \"eu-west-1\"]\n\
         [[lanes]]\naccount = \"444455556666\"\nregions = [\"us-east-1\"]\n\
         role_arn = \"arn:aws:iam::444455556666:role/security/ferry\"\n\
         external_id = \"{EXTERNAL_ID}\"\n"
    )
}

/// A queue of events in an account.
fn queue(account: &str) -> String {
    format!("[[sqs]]\nurl = \"https://sqs.us-east-1.amazonaws.com/{account}/events\"\n")
}

/// All accounts of the organization.
const DISCOVERY: &str =
    "[discovery]\norganization = true\nregions = [\"us-east-1\"]\nrole_name = \"ferry\"\n";

/// Standard output, error and exit code of `iam-policy` with this configuration file.
fn run(config: &str, arguments: &[&str]) -> (String, String, Option<i32>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("patchferry.toml");
    fs::write(&path, config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_patchferry"))
        .env_clear()
        .env("HOME", directory.path())
        .arg("iam-policy")
        .args(arguments)
        .arg("--config")
        .arg(&path)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

fn document(config: &str, arguments: &[&str]) -> Value {
    let (out, err, code) = run(config, arguments);
    assert_eq!(code, Some(0), "{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error} in\n{out}"))
}

fn part(config: &str, part: &str) -> Value {
    document(config, &["--part", part])
}

fn list(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    }
}

fn sids(policy: &Value) -> Vec<&str> {
    let statements = policy["Statement"].as_array().unwrap();
    statements.iter().filter_map(|statement| statement["Sid"].as_str()).collect()
}

fn statement<'a>(policy: &'a Value, sid: &str) -> &'a Value {
    let statements = policy["Statement"].as_array().unwrap();
    let found = statements.iter().find(|statement| statement["Sid"] == sid);
    found.unwrap_or_else(|| panic!("no {sid} in {policy:#}"))
}

/// Calls `visit` with every text in a document.
fn texts(value: &Value, visit: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, visit)),
        Value::Object(members) => members.values().for_each(|member| texts(member, visit)),
        _ => {}
    }
}

#[test]
fn the_runner_may_assume_exactly_the_roles_of_the_configuration() {
    let policy = part(&two_accounts(), "runner");
    assert_eq!(sids(&policy), ["ReadFleet", "ReadItems", "Import", "EnterAccounts"]);
    let entering = statement(&policy, "EnterAccounts");
    assert_eq!(entering["Action"], "sts:AssumeRole");
    assert_eq!(entering["Resource"], "arn:aws:iam::444455556666:role/security/ferry");
    let import = statement(&policy, "Import");
    assert_eq!(
        import["Resource"],
        "arn:aws:securityhub:*:111122223333:product/111122223333/default"
    );
    let regions = &import["Condition"]["StringEquals"]["aws:RequestedRegion"];
    assert_eq!(list(regions), ["eu-west-1", "us-east-1"]);

    let all_by_roles = two_accounts().split_off(two_accounts().rfind("[[lanes]]").unwrap());
    assert_eq!(sids(&part(&all_by_roles, "runner")), ["EnterAccounts"]);
}

#[test]
fn every_action_of_the_table_is_in_one_part_or_another() {
    let config = format!("{}{}{DISCOVERY}", two_accounts(), queue("111122223333"));
    let mut printed = BTreeSet::new();
    for name in ["runner", "member", "optional"] {
        for statement in part(&config, name)["Statement"].as_array().unwrap() {
            printed.extend(list(&statement["Action"]).into_iter().map(str::to_string));
        }
    }
    let table = STATEMENTS.iter().flat_map(|it| it.actions).map(ToString::to_string);
    assert_eq!(printed, table.collect());
}

#[test]
fn what_a_configuration_has_no_use_for_is_not_granted() {
    let as_aws_does = format!("[finding]\nidentity = \"operation\"\n{}", two_accounts());
    assert_eq!(sids(&part(&as_aws_does, "optional")), ["ReadAssociations", "Preflight"]);
    assert_eq!(
        sids(&part(&two_accounts(), "optional")),
        ["ReadBack", "ReadAssociations", "AskWhetherInstancesExist", "Preflight"]
    );
    assert_eq!(sids(&part("", "runner")), ["ReadFleet", "ReadItems", "Import"]);
    let sparing = "[ingest]\nassociations = false\ncloud_control = false\n";
    assert_eq!(sids(&part(sparing, "runner")), ["ReadFleet", "Import"]);
    assert_eq!(sids(&part(sparing, "optional")), ["ReadBack", "Preflight"]);
}

#[test]
fn queues_are_read_by_the_daemon_itself_or_by_the_role_that_is_given_for_them() {
    let own = part(&format!("{}{}", two_accounts(), queue("111122223333")), "runner");
    let reading = statement(&own, "ReadEvents");
    assert_eq!(reading["Resource"], "arn:aws:sqs:us-east-1:111122223333:events");
    assert_eq!(reading["Condition"], Value::Null);
    let role = "arn:aws:iam::777788889999:role/events";
    let other = format!("{}{}role_arn = \"{role}\"\n", two_accounts(), queue("777788889999"));
    let entering = part(&other, "runner");
    assert!(!sids(&entering).contains(&"ReadEvents"), "{entering:#}");
    let roles = list(&statement(&entering, "EnterAccounts")["Resource"]).len();
    assert_eq!(roles, 2, "{entering:#}");
}

#[test]
fn for_discovery_the_accounts_may_be_listed_and_roles_entered_of_those_that_are_named_or_of_all() {
    let policy = part(DISCOVERY, "runner");
    assert_eq!(sids(&policy), ["EnterAccounts", "DiscoverAccounts"]);
    assert_eq!(statement(&policy, "EnterAccounts")["Resource"], "arn:aws:iam::*:role/ferry");
    let listing = statement(&policy, "DiscoverAccounts");
    assert_eq!(listing["Action"], "organizations:ListAccounts");
    assert_eq!(listing["Condition"], Value::Null);
    let member = part(DISCOVERY, "member");
    let import = &statement(&member, "Import")["Resource"];
    assert!(import.as_str().unwrap().contains(":${aws:PrincipalAccount}:"), "{import}");

    let list_role = "arn:aws:iam::999900001111:role/list";
    let named = format!(
        "{DISCOVERY}include = [\"444455556666\", \"777788889999\"]\n\
         exclude = [\"777788889999\"]\nlist_role_arn = \"{list_role}\"\n"
    );
    let policy = part(&named, "runner");
    assert_eq!(sids(&policy), ["EnterAccounts"]);
    let entering = list(&statement(&policy, "EnterAccounts")["Resource"]);
    assert_eq!(entering, ["arn:aws:iam::444455556666:role/ferry", list_role]);
}

#[test]
fn arns_are_of_the_partition_that_is_served() {
    let config = "[[lanes]]\naccount = \"111122223333\"\nregions = [\"cn-north-1\"]\n\
                  [[lanes]]\naccount = \"444455556666\"\nregions = [\"cn-north-1\"]\n\
                  role_arn = \"arn:aws-cn:iam::444455556666:role/patchferry\"\n";
    let mut arns = 0;
    texts(&document(config, &[]), &mut |text| {
        if text.starts_with("arn:") {
            assert!(text.starts_with("arn:aws-cn:"), "{text}");
            arns += 1;
        }
    });
    assert!(arns > 8, "{arns}");
}

#[test]
fn no_wildcard_is_wider_than_it_has_to_be() {
    let mut policies = vec![];
    for name in ["runner", "member", "optional", "trust"] {
        policies.push(part(&two_accounts(), name));
    }
    policies.extend(part(&two_accounts(), "queue").as_object().unwrap().values().cloned());
    for statement in policies.iter().flat_map(|it| it["Statement"].as_array().unwrap()) {
        let sid = statement["Sid"].as_str().unwrap();
        for action in list(&statement["Action"]) {
            assert!(!action.contains('*'), "{sid}: {action}");
        }
        for resource in list(&statement["Resource"]) {
            // These reads know no resource that confines them within an account; the Region of the
            // others is confined by a condition.
            let reads = ["ReadFleet", "ReadItems", "ReadAssociations", "AskWhetherInstancesExist"];
            let is_known = (reads.contains(&sid) && resource == "*")
                || resource.matches('*').count() == 0
                || (resource.starts_with("arn:aws:securityhub:*:")
                    && resource.matches('*').count() == 1
                    && statement["Condition"]["StringEquals"]["aws:RequestedRegion"].is_array());
            assert!(is_known, "{sid}: {resource}");
        }
        let principal = &statement["Principal"];
        assert!(principal["AWS"] != "*" && principal != "*", "{sid}: {principal}");
    }
}

#[test]
fn the_external_id_is_asked_for_and_never_told() {
    let config = two_accounts();
    let trust = part(&config, "trust");
    let trusting = statement(&trust, "TrustRunner");
    assert_eq!(trusting["Condition"]["StringEquals"]["sts:ExternalId"], "EXTERNAL_ID");
    assert_eq!(trusting["Principal"]["AWS"], "arn:aws:iam::111122223333:root");
    for arguments in [[].as_slice(), &["--format", "cloudformation"], &["--part", "trust"]] {
        let (out, err, _) = run(&config, arguments);
        assert!(!out.contains(EXTERNAL_ID) && !err.contains(EXTERNAL_ID), "{arguments:?}");
    }
    let template = document(&config, &["--format", "cloudformation"]);
    let parameter = &template["Parameters"]["ExternalId"];
    assert_eq!(parameter["NoEcho"], true);
    assert_eq!(parameter["Default"], "");
    let without = config.replace(&format!("external_id = \"{EXTERNAL_ID}\"\n"), "");
    assert_eq!(statement(&part(&without, "trust"), "TrustRunner")["Condition"], Value::Null);
}

#[test]
fn a_queue_takes_messages_of_our_own_rules_only() {
    let config = two_accounts();
    let queues = part(&config, "queue");
    let events = part(&config, "events");
    let rules: Vec<&str> = events["runner_rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["Name"].as_str().unwrap())
        .collect();
    for region in ["us-east-1", "eu-west-1"] {
        let taking = statement(&queues[region], "TakeEvents");
        assert_eq!(taking["Principal"]["Service"], "events.amazonaws.com");
        assert_eq!(taking["Action"], "sqs:SendMessage");
        let sources = list(&taking["Condition"]["ArnEquals"]["aws:SourceArn"]);
        let expected: Vec<String> = rules
            .iter()
            .map(|rule| format!("arn:aws:events:{region}:111122223333:rule/{rule}"))
            .collect();
        assert_eq!(sources, expected);
    }
    for rule in events["runner_rules"].as_array().unwrap() {
        let pattern = &rule["EventPattern"];
        assert_eq!(list(&pattern["account"]), ["111122223333", "444455556666"]);
        assert!(pattern["detail-type"].is_array(), "{rule:#}");
    }
}

/// The names that a template's value refers to, and the conditions.
fn references(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match (key.as_str(), member) {
                    ("Ref" | "Condition", Value::String(name)) => drop(names.insert(name.clone())),
                    ("Fn::GetAtt" | "Fn::If", Value::Array(items)) => {
                        names.extend(items[0].as_str().map(str::to_string));
                        for item in &items[1..] {
                            references(item, names);
                        }
                    }
                    ("Fn::Sub", Value::String(text)) => {
                        let inner = text.split("${").skip(1);
                        let inner = inner.filter_map(|rest| rest.split_once('}'));
                        names.extend(inner.map(|(name, _)| name.split('.').next().unwrap().into()));
                    }
                    _ => references(member, names),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, names)),
        _ => {}
    }
}

#[test]
fn the_template_refers_only_to_what_it_has_and_makes_global_things_once() {
    let template = document(&two_accounts(), &["--format", "cloudformation"]);
    let mut names = BTreeSet::new();
    references(&template["Resources"], &mut names);
    references(&template["Conditions"], &mut names);
    references(&template["Outputs"], &mut names);
    let is_there = |name: &String| {
        name.starts_with("AWS::")
            || ["Parameters", "Conditions", "Resources"]
                .iter()
                .any(|it| template[it][name].is_object())
    };
    let missing: Vec<_> = names.iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let unused =
        template["Parameters"].as_object().unwrap().keys().filter(|it| !names.contains(*it));
    assert_eq!(unused.collect::<Vec<_>>(), Vec::<&String>::new());

    let (mut roles, mut sends, mut takes) = (0, 0, 0);
    for (name, resource) in template["Resources"].as_object().unwrap() {
        let condition = resource["Condition"].as_str().unwrap_or_else(|| panic!("{name}"));
        if resource["Type"].as_str().unwrap().starts_with("AWS::IAM::") {
            let mut of_condition = BTreeSet::new();
            references(&template["Conditions"][condition], &mut of_condition);
            assert!(of_condition.contains("IsHome"), "{name} is global: {condition}");
            roles += 1;
        }
        sends += usize::from(condition == "SendsEvents");
        takes += usize::from(condition == "TakesEvents");
    }
    // The role, the runner's policy, the role that hands events on; rules; queues and policies.
    assert_eq!((roles, sends, takes), (3, 5, 5 + 4));
    let mut raw = Vec::new();
    texts(&template["Resources"], &mut |text| {
        if text.starts_with("arn:") && !text.contains("${") {
            raw.push(text.to_string());
        }
    });
    assert_eq!(
        raw,
        ["arn:aws:iam::444455556666:role/security/ferry"],
        "all else is of its account"
    );
    assert_eq!(template["Parameters"]["RoleName"]["Default"], "ferry");
    assert_eq!(template["Parameters"]["RolePath"]["Default"], "/security/");
    assert_eq!(template["Parameters"]["HomeRegion"]["Default"], "eu-west-1");
}

#[test]
fn the_template_grants_the_role_what_the_policies_say() {
    let template = document(&two_accounts(), &["--format", "cloudformation"]);
    let policies = &template["Resources"]["MemberRole"]["Properties"]["Policies"];
    let mut actions = BTreeSet::new();
    for policy in [&policies[0]["PolicyDocument"], &policies[1]["Fn::If"][1]["PolicyDocument"]] {
        for statement in policy["Statement"].as_array().unwrap() {
            actions.extend(list(&statement["Action"]).into_iter().map(str::to_string));
        }
    }
    let of_lanes = STATEMENTS.iter().filter(|it| it.holder == Holder::Lane);
    assert_eq!(actions, of_lanes.flat_map(|it| it.actions).map(ToString::to_string).collect());
}

#[test]
fn without_lanes_nothing_is_known_and_nothing_is_asked() {
    let policy = part("", "runner");
    let import = statement(&policy, "Import");
    assert_eq!(
        import["Resource"],
        "arn:*:securityhub:*:${aws:PrincipalAccount}:product/${aws:PrincipalAccount}/default"
    );
    let known = document("", &["--part", "runner", "--region", "us-gov-west-1"]);
    let import = statement(&known, "Import");
    assert!(import["Resource"].as_str().unwrap().starts_with("arn:aws-us-gov:"), "{import:#}");
    assert_eq!(
        list(&import["Condition"]["StringEquals"]["aws:RequestedRegion"]),
        ["us-gov-west-1"]
    );
}

#[test]
fn a_part_of_the_template_is_refused_with_the_reason() {
    let (out, err, code) = run("", &["--format", "cloudformation", "--part", "queue"]);
    assert_eq!((out.as_str(), code), ("", Some(64)));
    assert!(err.contains("--format json"), "{err}");
}
