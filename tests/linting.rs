//! `patchferry lint` and `completions` as an operator meets them: no configuration, no state, no
//! network.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::harness::child::text;

const EXAMPLE: &str = include_str!("fixtures/aws-example-finding.json");

/// Runs `lint` with nothing in its environment, the input on its standard input.
fn lint(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_patchferry"))
        .env_clear()
        .arg("lint")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// AWS's example, mended until the hub takes it.
fn mended() -> Value {
    let mut finding: Value = serde_json::from_str(EXAMPLE).unwrap();
    finding["ProductArn"] =
        json!("arn:aws:securityhub:us-east-2:111122223333:product/111122223333/default");
    finding["ProductFields"] = json!({"example/product/field": "value"});
    finding
}

#[test]
fn errors_exit_with_65_warnings_with_0_and_strictly_with_65() {
    let refused = lint(&["-"], EXAMPLE.as_bytes());
    assert_eq!(refused.status.code(), Some(65), "{}", text(&refused.stderr));
    let said = text(&refused.stdout);
    assert!(said.contains("error: ProductArn: belongs to AWS"), "{said}");
    assert!(said.ends_with("1 findings, 1 of them with errors: 4 errors, 9 warnings\n"), "{said}");

    let finding = mended().to_string();
    let taken = lint(&["-"], finding.as_bytes());
    assert_eq!(taken.status.code(), Some(0), "{}", text(&taken.stdout));
    assert!(text(&taken.stdout).contains("warning: Title: doesn't name the resource"));
    assert_eq!(lint(&["-", "--strict"], finding.as_bytes()).status.code(), Some(65));
}

#[test]
fn as_json_every_line_is_an_object_and_the_last_is_the_summary() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("findings.json");
    let request = json!({"Findings": [mended(), mended()]});
    fs::write(&path, format!("{request:#}")).unwrap();
    let output = lint(&[path.to_str().unwrap(), "--json"], b"");
    assert_eq!(output.status.code(), Some(65));
    let lines: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (summary, remarks) = lines.split_last().unwrap();
    assert_eq!(summary["summary"]["findings"], 2);
    assert_eq!(summary["summary"]["errors"], 1);
    let twice = remarks.iter().find(|it| it["level"] == "error").unwrap();
    assert_eq!((&twice["finding"], &twice["path"]), (&json!(1), &json!("Id")));
    assert!(twice["line"].as_u64() > Some(1));
    assert_eq!(twice["id"], mended()["Id"]);
}

#[test]
fn a_file_that_can_t_be_read_is_named_and_exits_with_64() {
    for path in ["/nonexistent/findings.json", "/"] {
        assert!(Path::new(path).is_absolute());
        let output = lint(&[path], b"");
        assert_eq!(output.status.code(), Some(64));
        assert!(text(&output.stderr).contains(&format!("can't read {path}")));
    }
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_patchferry"))
            .env_clear()
            .args(["completions", shell])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let script = text(&output.stdout);
        for command in ["run", "sweep", "lint", "status", "completions"] {
            assert!(script.contains(command), "{shell} isn't told of {command}");
        }
    }
}
