//! What the README says is so: its metrics, keys, commands, permissions, alerts and tests exist,
//! and none that exists is left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use patchferry::{
    aws::permissions::STATEMENTS,
    config::{Config, LoadOptions},
    metrics::{BuildInfo, HoldReason, LaneState, Metrics},
};
use promql_parser::parser;

const README: &str = include_str!("../README.md");

/// The files of `src/aws` that call AWS, and what IAM calls the service there.
const CALLERS: [(&str, &str); 4] = [
    ("src/aws/ssm.rs", "ssm"),
    ("src/aws/security_hub.rs", "securityhub"),
    ("src/aws/preflight.rs", "securityhub"),
    ("src/aws/sqs.rs", "sqs"),
];

/// The text of a section, its subsections included.
fn section(title: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("\n## {title}\n")).expect("the section is there");
    rest.split_once("\n## ").map_or(rest, |(section, _)| section)
}

/// The contents of all fenced blocks in a language.
fn blocks(text: &'static str, language: &str) -> Vec<&'static str> {
    let opening = format!("```{language}\n");
    text.split(opening.as_str())
        .skip(1)
        .map(|rest| rest.split_once("\n```").expect("every block is closed").0)
        .collect()
}

/// Everything between single backticks, outside of fenced blocks.
fn spans(text: &str) -> Vec<&str> {
    let outside = text.split("```").step_by(2);
    outside.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

/// The rows of the table whose first heading is `heading`, cell by cell.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let start = README.find(&format!("| {heading} |")).expect("the table is there");
    README[start..]
        .lines()
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

/// All metric families of a daemon with one held lane.
fn exposed() -> BTreeSet<String> {
    let metrics = Metrics::new(BuildInfo { version: "1.2.3", revision: "abc" });
    let lane = metrics.lane(&"111122223333/us-east-1".parse().unwrap());
    lane.set_state(LaneState::Held(HoldReason::HubOff));
    let text = metrics.render();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split(' ').next()).map(str::to_string).collect()
}

#[test]
fn every_metric_is_in_the_table_and_none_other() {
    let rows = table("Metric");
    let told: BTreeSet<String> =
        rows.iter().flat_map(|row| spans(row[0])).map(str::to_string).collect();
    let ours = exposed().into_iter().filter(|name| name.starts_with("patchferry_")).collect();
    assert_eq!(told, ours);
}

#[test]
fn every_alert_parses_and_asks_for_what_is_exposed() {
    let exposed = exposed();
    for row in table("Alert") {
        let expression = row[1].trim_matches('`');
        parser::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let mut names = words.filter(|word| word.starts_with("patchferry_")).peekable();
        assert!(names.peek().is_some(), "{expression} asks for nothing");
        for name in names {
            assert!(exposed.contains(name), "{name} in {expression} doesn't exist");
        }
    }
}

fn load(file: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("patchferry.toml");
    fs::write(&path, file).unwrap();
    let environment = BTreeMap::from([("HOME".into(), "/home/op".into())]);
    Config::load(&LoadOptions { config: Some(path), environment, ..LoadOptions::default() })
        .unwrap_or_else(|error| panic!("{error}\nin\n{file}"))
}

/// What a configuration comes to, without where it comes from.
fn meant(config: &Config) -> Vec<String> {
    let shown = config.show();
    let lines = shown.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split("  # ").next().unwrap_or_default().to_string()).collect()
}

#[test]
fn every_key_is_in_the_table_with_its_default_and_none_other() {
    let rows = table("Key");
    let told: BTreeSet<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    let mut section = "";
    let mut keys = BTreeSet::new();
    for line in Config::init_text().lines() {
        if line.contains("[[lanes]]") {
            break;
        } else if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((name, _)) = line.trim_start_matches("# ").split_once(" = ")
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        {
            let dot = if section.is_empty() { "" } else { "." };
            keys.insert(format!("{section}{dot}{name}"));
        }
    }
    assert_eq!(told, keys.iter().map(String::as_str).collect());

    let set = rows.iter().filter(|row| row[1] != "not set");
    let lines =
        set.map(|row| format!("{} = {}", row[0].trim_matches('`'), row[1].trim_matches('`')));
    let file = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(meant(&load(&file)), meant(&load("")));
}

#[test]
fn every_configuration_shown_is_read() {
    let shown = blocks(section("Configure"), "toml");
    assert_eq!(load(shown[0]).lanes.expect("lanes are configured").len(), 8);
    assert_eq!(load(shown[1]).discovery.expect("it is on").regions.len(), 2);
    assert!(load(shown[2]).finding.is_aws_parity());
    assert!(load(shown[3]).shard.shard.is_divided());
    assert_eq!(shown.len(), 4, "another example wants a check of its own");
    let queues = load(blocks(section("Events"), "toml")[0]).queues;
    assert_eq!(queues[0].region.as_str(), "us-east-1");
}

#[test]
fn the_configuration_errors_shown_are_those_that_are_given() {
    let file = "[ingest]\npoll_intervall = \"1m\"\n\n[deliver]\nburst = 5000\n\n\
                [[lanes]]\naccount = \"11112222333\"\nregions = [\"us-east-1\"]\n";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("patchferry.toml");
    fs::write(&path, file).unwrap();
    let options = LoadOptions { config: Some(path), ..LoadOptions::default() };
    let error = Config::load(&options).unwrap_err().to_string();
    let error = error.replace(&format!("{}/", directory.path().display()), "");
    assert_eq!(error, blocks(section("Configure"), "text")[0]);
}

/// The command lines of patchferry that the README shows, without the program's name.
fn commands() -> BTreeSet<String> {
    let in_blocks = blocks(README, "sh").into_iter().flat_map(str::lines);
    let lines = in_blocks.chain(spans(README)).map(|line| line.split('#').next().unwrap().trim());
    lines
        .filter_map(|line| {
            line.strip_prefix("patchferry ")
                .or_else(|| line.strip_prefix("cargo run --release -- "))
        })
        .map(str::to_string)
        .collect()
}

fn assert_accepted(commands: &BTreeSet<String>) {
    for command in commands {
        let output = Command::new(env!("CARGO_BIN_EXE_patchferry"))
            .args(command.split_whitespace())
            .arg("--help")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`patchferry {command}` isn't accepted: {told}");
    }
}

#[test]
fn every_command_shown_is_accepted() {
    let commands = commands();
    assert!(commands.contains("run") && commands.contains("demo"), "{commands:?}");
    assert_accepted(&commands);
}

#[test]
fn every_command_that_the_program_or_the_dashboard_advises_is_accepted() {
    let texts = files("src", "").into_iter().chain(files("dashboards", ".json"));
    let advised = texts.flat_map(|(_, text)| {
        let advice = text.split("`patchferry ").skip(1).filter_map(|rest| rest.split_once('`'));
        advice.map(|(command, _)| command.to_string()).collect::<Vec<_>>()
    });
    assert_accepted(&advised.filter(|command| !command.contains('\n')).collect());
}

#[test]
fn every_exit_code_shown_is_one_that_the_command_line_tells_of() {
    let output = Command::new(env!("CARGO_BIN_EXE_patchferry")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let codes = help.split_once("Exit codes:").and_then(|(_, rest)| rest.split_once("\n\n"));
    let words = codes.expect("the help tells of exit codes").0.split_whitespace();
    let told: BTreeSet<u8> = words.filter_map(|word| word.parse().ok()).collect();
    let shown = table("Code").iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(told, shown);
}

/// Paths within the package, and contents.
fn files(directory: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut open = vec![root.join(directory)];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root).unwrap().to_path_buf(), text));
            }
        }
    }
    found
}

/// `batch_import_findings` as IAM writes it: `BatchImportFindings`.
fn action(operation: &str) -> String {
    let capitals = operation.split('_').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    capitals.collect()
}

/// Operations of AWS's clients that the source calls, by the module that calls them.
fn operations() -> BTreeSet<String> {
    let sources = files("src/aws", ".rs");
    let mut found = BTreeSet::new();
    for (path, text) in &sources {
        let caller = CALLERS.iter().find(|(file, _)| path.ends_with(file));
        let Some((_, service)) = caller else { continue };
        for (verb, _) in text.match_indices("client") {
            // A call of the client begins its chain, on this line or on the next.
            let rest = text[verb + "client".len()..].trim_start();
            let Some((operation, _)) = rest.strip_prefix('.').and_then(|it| it.split_once("()"))
            else {
                continue;
            };
            let is_name = operation.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if is_name && operation.contains('_') {
                // A batch needs what each of its entries would.
                let operation = operation.trim_end_matches("_batch");
                found.insert(format!("{service}:{}", action(operation)));
            }
        }
    }
    if sources.iter().any(|(_, text)| text.contains("AWSOrganizationsV20161128")) {
        found.insert("organizations:ListAccounts".into());
    }
    if sources.iter().any(|(_, text)| text.contains("AssumeRoleProvider")) {
        found.insert("sts:AssumeRole".into());
    }
    if sources.iter().any(|(_, text)| text.contains("\"CloudApiService\"")) {
        // What Cloud Control reads, it reads with the caller's permissions.
        found.extend(["cloudformation:GetResource".into(), "ec2:DescribeInstances".into()]);
    }
    found
}

#[test]
fn the_table_of_permissions_is_exactly_what_is_called() {
    let actions = STATEMENTS.iter().flat_map(|statement| statement.actions);
    let listed: BTreeSet<String> = actions.map(ToString::to_string).collect();
    assert_eq!(listed, operations());
    let count: usize = STATEMENTS.iter().map(|statement| statement.actions.len()).sum();
    assert_eq!(count, listed.len(), "each action stands in one statement");
}

#[test]
fn the_policy_shown_is_the_one_that_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("patchferry.toml");
    fs::write(&path, blocks(section("Configure"), "toml")[0]).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_patchferry"))
        .args(["iam-policy", "--part", "runner", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(blocks(section("Point it at AWS"), "json"), [printed.trim_end()]);
}

#[test]
fn every_statement_that_is_optional_is_told_of_with_what_happens_without_it() {
    let told: Vec<_> = table("Statement")
        .into_iter()
        .map(|row| (row[0].trim_matches('`').to_string(), row[1].to_string()))
        .collect();
    let optional =
        STATEMENTS.iter().filter_map(|it| Some((it.sid.to_string(), it.without?.to_string())));
    assert_eq!(told, optional.collect::<Vec<_>>());
}

#[test]
fn every_test_named_as_a_proof_exists() {
    let sources: Vec<String> =
        files("tests", ".rs").into_iter().chain(files("src", ".rs")).map(|it| it.1).collect();
    for row in table("#") {
        let names = spans(row[2]);
        assert!(!names.is_empty(), "guarantee {} has no test", row[0]);
        for name in names {
            let is_there = sources.iter().any(|text| text.contains(&format!("fn {name}(")));
            assert!(is_there, "guarantee {} names the test {name}, which isn't there", row[0]);
        }
    }
}

#[test]
fn every_file_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for span in spans(README) {
        let is_ours = ["src/", "packaging/", "dashboards/", ".ci/"];
        if is_ours.iter().any(|start| span.starts_with(start)) {
            assert!(root.join(span).exists(), "{span} isn't there");
        }
    }
}
