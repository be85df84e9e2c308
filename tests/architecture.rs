//! The shape of the source: who may use whom, and what only one file may do.
//!
//! Read from the text of every file under `src/` and `migrations/`: paths that begin with
//! `crate::`, groups in braces included. Tests inside the files count like the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Longer files are two files.
const LINES_MAX: usize = 700;

/// Which modules a module may use. A module that isn't here may use nothing and fails the test.
const MAY_USE: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "admin", "app", "aws", "config", "demo", "drill", "lint", "queue", "record",
            "shutdown", "store",
        ],
    ),
    (
        "app",
        &[
            "admin",
            "aws",
            "config",
            "metrics",
            "migrations",
            "pipeline",
            "queue",
            "record",
            "shutdown",
            "store",
        ],
    ),
    // The demo is the whole product beside a simulator.
    (
        "demo",
        &[
            "admin",
            "app",
            "aws",
            "config",
            "metrics",
            "queue",
            "record",
            "shutdown",
            "simulator",
            "store",
        ],
    ),
    // The drill is the demo's world around a child process.
    ("drill", &["admin", "app", "demo", "metrics", "queue", "record", "simulator", "store"]),
    ("admin", &["config", "metrics", "queue", "record"]),
    ("pipeline", &["aws", "metrics", "queue", "record"]),
    ("queue", &["record", "store"]),
    ("aws", &["record"]),
    ("config", &["record"]),
    // Labels of its series: severities, stages, reasons, lanes.
    ("metrics", &["record"]),
    ("migrations", &["store"]),
    ("failpoint", &[]),
    // Neither the renderer's understanding of ASFF nor the simulator's.
    ("lint", &[]),
    ("record", &[]),
    ("shutdown", &[]),
    ("simulator", &[]),
    ("store", &[]),
];

/// What every module may use: a place to die at is nothing that a test could reach otherwise.
const EVERYBODY_MAY_USE: &[&str] = &["failpoint"];

/// Uses beyond the table, each with its reason: file, path as written there.
const EXCEPTIONS: &[(&str, &str)] = &[
    // A cursor into the outbox is a key; the queues hand it out, the lane keeps it.
    ("src/pipeline/deliver/batch.rs", "store::keys"),
    ("src/pipeline/deliver/flight.rs", "store::keys"),
    ("src/pipeline/ingest/error.rs", "store"),
    ("src/pipeline/ingest/error.rs", "store::StoreError"),
    // A chunk that the store has no room for is to be handed in again, not failed.
    ("src/pipeline/ingest/file/mod.rs", "store::Pause"),
    ("src/pipeline/ingest/file/mod.rs", "store::StoreError"),
    // What nodes are waits for their summaries in the form in which it would be stored.
    ("src/pipeline/ingest/sweep.rs", "store::codec"),
    ("src/pipeline/transform.rs", "store::StoreError"),
    ("src/pipeline/transform/reopening.rs", "store::StoreError"),
    // Digests of facts are over the bytes that would be stored.
    ("src/pipeline/transform/digest.rs", "store::codec"),
];

struct Source {
    /// From the repository's root.
    path: String,
    text: String,
}

impl Source {
    /// The top module that the file belongs to; `None` for the roots themselves.
    fn module(&self) -> Option<&str> {
        if self.path.starts_with("migrations/") {
            return Some("migrations");
        }
        let rest = self.path.strip_prefix("src/")?;
        let module = rest.split(['/', '.']).next()?;
        (!matches!(module, "main" | "lib")).then_some(module)
    }

    /// The text without comments.
    fn code(&self) -> String {
        let lines = self.text.lines().map(|line| match line.trim_start() {
            comment if comment.starts_with("//") => "",
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for directory in ["src", "migrations"] {
        collect(&root().join(directory), &mut found);
    }
    assert!(found.len() > 50, "the sources are where this test looks for them");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(directory: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_string();
            found.push(Source { path, text });
        }
    }
}

/// The paths below `crate::` that some code names, to the depth of two: `store::keys`.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let is_whole_word =
            !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        if is_whole_word {
            expand("", &code[at + "crate::".len()..], &mut paths);
        }
    }
    paths
}

/// Reads one path or one group in braces at the beginning of `code`.
fn expand(prefix: &str, code: &str, paths: &mut BTreeSet<String>) {
    let code = code.trim_start();
    if let Some(group) = code.strip_prefix('{') {
        for member in members(group) {
            expand(prefix, member, paths);
        }
        return;
    }
    let length = code.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(code.len());
    let (name, rest) = code.split_at(length);
    let path = if prefix.is_empty() { name.to_string() } else { format!("{prefix}::{name}") };
    match rest.strip_prefix("::") {
        // Two levels tell enough.
        Some(below) if prefix.is_empty() => expand(&path, below, paths),
        _ if path.ends_with("::self") => drop(paths.insert(path.replace("::self", ""))),
        _ => drop(paths.insert(path)),
    }
}

/// The members of a group that begins after its brace.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut members) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                members.push(&group[begin..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.push(&group[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    members.retain(|member| !member.trim().is_empty());
    members
}

fn top(path: &str) -> &str {
    path.split("::").next().unwrap_or(path)
}

#[test]
fn a_group_of_paths_is_read_member_by_member() {
    let code = "use crate::{\n a::{self, B},\n c::d::E,\n f,\n};\nlet x = crate::g::h(1);";
    let expected = ["a", "a::B", "c::d", "f", "g::h"].map(String::from);
    assert_eq!(crate_paths(code), BTreeSet::from(expected));
}

#[test]
fn modules_use_only_what_is_below_them() {
    let table: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut excused = BTreeSet::new();
    for source in sources() {
        let Some(module) = source.module() else { continue };
        let Some(allowed) = table.get(module) else {
            wrong.push(format!("{}: module `{module}` isn't in the table", source.path));
            continue;
        };
        for path in crate_paths(&source.code()) {
            // Words like `crate::metrics` name a module; `pub(in crate::aws)` names its own.
            let top = top(&path);
            if top == module || allowed.contains(&top) || EVERYBODY_MAY_USE.contains(&top) {
                continue;
            }
            match EXCEPTIONS.iter().find(|(file, what)| *file == source.path && *what == path) {
                Some(exception) => drop(excused.insert(exception)),
                None => wrong.push(format!("{} uses crate::{path}", source.path)),
            }
        }
    }
    assert!(wrong.is_empty(), "against the allowed directions:\n{}", wrong.join("\n"));
    let idle: Vec<_> = EXCEPTIONS.iter().filter(|it| !excused.contains(it)).collect();
    assert!(idle.is_empty(), "exceptions that nothing needs any more: {idle:?}");
}

#[test]
fn the_binary_only_calls_the_command_line() {
    let main = fs::read_to_string(root().join("src/main.rs")).unwrap();
    let used: BTreeSet<&str> = main
        .match_indices("patchferry::")
        .filter_map(|(at, name)| main[at + name.len()..].split("::").next())
        .collect();
    assert_eq!(used, BTreeSet::from(["cli"]));
}

/// Files whose code has `word` as a whole word before `::`, or otherwise if `bare`.
fn files_with(word: &str, bare: bool) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let names = |code: &str| {
        code.match_indices(word).any(|(at, _)| {
            let (before, after) = (&code[..at], &code[at + word.len()..]);
            let is_path = after.starts_with("::") && !before.ends_with("::");
            let whole = !before.ends_with(is_word) && !after.starts_with(is_word);
            whole && (bare || is_path)
        })
    };
    sources().into_iter().filter(|it| names(&it.code())).map(|it| it.path).collect()
}

#[test]
fn only_the_store_names_sled() {
    let elsewhere: Vec<String> =
        files_with("sled", false).into_iter().filter(|it| !it.starts_with("src/store/")).collect();
    assert_eq!(elsewhere, Vec::<String>::new());
}

#[test]
fn only_the_codec_names_bincode() {
    assert_eq!(files_with("bincode", false), ["src/store/codec.rs"]);
}

#[test]
fn only_one_file_names_the_backoff_crate() {
    let users: Vec<String> = sources()
        .into_iter()
        .filter(|it| {
            it.code().lines().any(|line| {
                let line = line.trim_start();
                line.starts_with("use backoff::")
                    || line.contains(" backoff::") && !line.contains("super::")
            })
        })
        .map(|it| it.path)
        .collect();
    assert_eq!(users, ["src/pipeline/backoff.rs"]);
}

#[test]
fn only_the_durability_file_has_unsafe_code() {
    assert_eq!(files_with("unsafe", true), ["src/store/durability.rs"]);
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    let silent: Vec<String> =
        sources().into_iter().filter(|it| !it.text.starts_with("//! ")).map(|it| it.path).collect();
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn no_file_is_too_long_to_be_about_one_thing() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|it| it.text.lines().count() > LINES_MAX)
        .map(|it| it.path)
        .collect();
    assert_eq!(long, Vec::<String>::new());
}

#[test]
fn the_store_and_its_codec_are_pinned() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let dependencies = &manifest["dependencies"];
    assert_eq!(dependencies["sled"].as_str(), Some("=0.34.7"));
    assert_eq!(dependencies["bincode"]["version"].as_str(), Some("=2.0.1"));
}
