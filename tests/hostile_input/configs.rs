//! Configurations: whatever the file and the environment hold, they are read, or what is wrong is
//! said; a secret is never repeated.

use std::{collections::BTreeMap, ffi::OsString, os::unix::ffi::OsStringExt as _, path::Path};

use patchferry::config::{Config, LoadOptions};
use proptest::{prelude::*, test_runner::TestCaseResult};

use super::mutation::{byte_changes, changed_bytes, check};

const SECRET: &str = "tell-nobody-this";

fn samples() -> Vec<String> {
    // Every key, in effect.
    let every: String = Config::init_text()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") || rest.starts_with('[') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let lanes = format!(
        "state_dir = \"/tmp/x\"\n[ingest]\npoll_interval = \"5m\"\n[deliver]\nburst = 30\n\
         [finding]\nunspecified_severity = \"HIGH\"\n[store]\nmax_bytes = \"4GiB\"\n\
         [http]\nlisten = \"127.0.0.1:0\"\nallowed_hosts = [\"a.example\"]\n\
         [[lanes]]\naccount = \"111122223333\"\nregions = [\"us-east-1\", \"eu-west-1\"]\n\
         [[lanes]]\naccount = \"444455556666\"\nregions = [\"us-east-1\"]\n\
         role_arn = \"arn:aws:iam::444455556666:role/patchferry\"\nexternal_id = \"{SECRET}\"\n"
    );
    vec![every, lanes, Config::init_text().to_string()]
}

fn is_judged(
    directory: &Path,
    file: &[u8],
    environment: BTreeMap<String, OsString>,
) -> TestCaseResult {
    let path = directory.join("patchferry.toml");
    std::fs::write(&path, file).expect("the file is written");
    let options = LoadOptions { config: Some(path), environment, ..LoadOptions::default() };
    let said = match Config::load(&options) {
        Ok(config) => format!("{config:?}{}", config.show()),
        Err(error) => {
            let said = error.to_string();
            prop_assert!(!said.is_empty());
            said
        }
    };
    // Bytes that were moved into another key's value are no secret there.
    let file = String::from_utf8_lossy(file);
    let mut lines = file.lines().filter(|line| line.contains(SECRET));
    let in_its_place = lines.all(|line| line.trim_start().starts_with("external_id"));
    prop_assert!(!in_its_place || !said.contains(SECRET), "{}", said);
    Ok(())
}

#[test]
fn a_file_with_changed_bytes_is_read_or_refused() {
    let strategy = (prop::sample::select(samples()), byte_changes());
    let directory = tempfile::tempdir().expect("a temporary directory");
    check("configuration files", 1_000, &strategy, |(sample, changes)| {
        is_judged(directory.path(), &changed_bytes(sample.as_bytes(), &changes), BTreeMap::new())
    });
}

#[test]
fn a_file_whose_values_were_exchanged_is_read_or_refused() {
    let values = prop_oneof![
        prop::sample::select(vec![
            "-1",
            "0",
            "1e400",
            "nan",
            "9223372036854775807",
            "\"18446744073709551616GiB\"",
            "\"1000000000000y\"",
            "[]",
            "{}",
            "1979-05-27",
            "[[1]]",
        ])
        .prop_map(str::to_string),
        "\"[^\"\\\\\\p{Cc}]{0,30}\"",
        any::<i64>().prop_map(|value| value.to_string()),
        any::<f64>().prop_map(|value| value.to_string()),
        "\"[0-9]{1,22}(ms|s|m|h|d|KiB|MiB|GiB|TiB)\"",
    ];
    let changes = prop::collection::vec((any::<prop::sample::Index>(), values), 1..4);
    let strategy = (prop::sample::select(samples()), changes);
    let directory = tempfile::tempdir().expect("a temporary directory");
    check("configuration values", 1_000, &strategy, |(sample, changes)| {
        let mut lines: Vec<String> = sample.lines().map(str::to_string).collect();
        for (at, value) in changes {
            let keys: Vec<usize> =
                (0..lines.len()).filter(|index| lines[*index].contains(" = ")).collect();
            let line = &mut lines[keys[at.index(keys.len())]];
            let name = line.split(" = ").next().unwrap_or_default();
            *line = format!("{name} = {value}");
        }
        is_judged(directory.path(), lines.join("\n").as_bytes(), BTreeMap::new())
    });
}

#[test]
fn an_environment_of_anything_is_read_or_refused() {
    let known = [
        "PATCHFERRY_INGEST__POLL_INTERVAL",
        "PATCHFERRY_STORE__MAX_BYTES",
        "PATCHFERRY_HTTP__LISTEN",
        "PATCHFERRY_HTTP__ALLOWED_HOSTS",
        "PATCHFERRY_FINDING__IDENTITY",
        "PATCHFERRY_FINDING__PRODUCT_ARN",
        "PATCHFERRY_LOG__LEVEL",
        "PATCHFERRY_STATE_DIR",
        "STATE_DIRECTORY",
        "XDG_STATE_HOME",
        "HOME",
    ];
    let names = prop_oneof![
        prop::sample::select(known.to_vec()).prop_map(str::to_string),
        "PATCHFERRY_[A-Z_]{0,20}",
    ];
    let values = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        "\\PC{0,40}".prop_map(String::into_bytes),
        "[0-9.:,/smhd%-]{0,20}".prop_map(String::into_bytes),
    ];
    let strategy = prop::collection::btree_map(names, values.prop_map(OsString::from_vec), 0..5);
    let directory = tempfile::tempdir().expect("a temporary directory");
    check("environments", 1_000, &strategy, |environment| {
        is_judged(directory.path(), samples()[1].as_bytes(), environment)
    });
}
