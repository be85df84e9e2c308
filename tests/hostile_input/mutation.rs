//! Inputs that nobody would write: valid samples with bytes or JSON nodes changed.
//!
//! A suite says how many inputs it tries, and prints it. `PATCHFERRY_FUZZ_CASES` is the number
//! for a full run of each suite; without it, as many as everybody has the time for.

use std::{fmt::Debug, io::Write as _};

use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestCaseResult, TestError, TestRunner},
};
use serde_json::{Value, json};

/// Changes to one sample.
const CHANGES_MAX: usize = 4;

/// Tries `test` on inputs of `strategy`: `quick` of them, or as many as the environment says.
pub fn check<S>(what: &str, quick: u32, strategy: &S, test: impl Fn(S::Value) -> TestCaseResult)
where
    S: Strategy,
    S::Value: Debug,
{
    let asked = std::env::var("PATCHFERRY_FUZZ_CASES").ok();
    let cases = asked.map_or(quick, |asked| asked.parse().expect("a number of inputs"));
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 4_096, ..Config::default() };
    let began = std::time::Instant::now();
    match TestRunner::new(config).run(strategy, test) {
        Ok(()) => {}
        Err(TestError::Fail(why, input)) => panic!("{what}: {why}\ninput: {input:?}"),
        Err(TestError::Abort(why)) => panic!("{what}: {why}"),
    }
    // On the terminal itself: a passing test's output is swallowed otherwise.
    let _ = writeln!(
        std::io::stderr(),
        "hostile input: {what}: {cases} inputs in {:.1} s",
        began.elapsed().as_secs_f64()
    );
}

/// A change to bytes.
#[derive(Clone, Debug)]
pub enum ByteChange {
    Flip { at: Index, bit: u8 },
    Set { at: Index, byte: u8 },
    Insert { at: Index, bytes: Vec<u8> },
    Remove { at: Index, length: usize },
    Repeat { at: Index, length: usize },
    Cut { at: Index },
}

pub fn byte_changes() -> impl Strategy<Value = Vec<ByteChange>> {
    let at = any::<Index>;
    let change = prop_oneof![
        (at(), 0..8_u8).prop_map(|(at, bit)| ByteChange::Flip { at, bit }),
        (at(), any::<u8>()).prop_map(|(at, byte)| ByteChange::Set { at, byte }),
        (at(), prop::collection::vec(any::<u8>(), 1..12))
            .prop_map(|(at, bytes)| ByteChange::Insert { at, bytes }),
        (at(), 1..32_usize).prop_map(|(at, length)| ByteChange::Remove { at, length }),
        (at(), 1..64_usize).prop_map(|(at, length)| ByteChange::Repeat { at, length }),
        at().prop_map(|at| ByteChange::Cut { at }),
    ];
    prop::collection::vec(change, 1..=CHANGES_MAX)
}

pub fn changed_bytes(sample: &[u8], changes: &[ByteChange]) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for change in changes {
        let length_now = bytes.len();
        match change {
            ByteChange::Insert { at, bytes: more } => {
                let at = at.index(length_now + 1);
                bytes.splice(at..at, more.iter().copied());
            }
            ByteChange::Cut { at } => bytes.truncate(at.index(length_now + 1)),
            _ if bytes.is_empty() => {}
            ByteChange::Flip { at, bit } => bytes[at.index(length_now)] ^= 1 << bit,
            ByteChange::Set { at, byte } => bytes[at.index(length_now)] = *byte,
            ByteChange::Remove { at, length } => {
                let at = at.index(length_now);
                bytes.drain(at..(at + length).min(length_now));
            }
            ByteChange::Repeat { at, length } => {
                let at = at.index(length_now);
                let again = bytes[at..(at + length).min(length_now)].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

/// A change to one node of a JSON value, named by its place in the order of reading.
#[derive(Clone, Debug)]
pub enum NodeChange {
    Replace {
        node: Index,
        with: Value,
    },
    Remove {
        node: Index,
    },
    Rename {
        node: Index,
        name: String,
    },
    Add {
        node: Index,
        name: String,
        with: Value,
    },
    /// Another node of the same value takes its place.
    Copy {
        node: Index,
        from: Index,
    },
}

/// Values that a field doesn't expect.
pub fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![
            json!(-1),
            json!(0),
            json!(i64::MIN),
            json!(u64::MAX),
            json!(2_147_483_648_i64),
            json!(1e300),
            json!(-62_135_596_800_i64),
            json!(253_402_300_800_i64),
            json!(""),
            json!("\u{0}"),
            json!("\u{1b}[2J"),
            json!("é\u{301}\u{202e}"),
            json!("0001-01-01T00:00:00Z"),
            json!("9999-12-31T23:59:59Z"),
            json!("+200000-01-01T00:00:00Z"),
            json!("i-12345678"),
            json!([]),
            json!({}),
            json!([[[[[[{}]]]]]]),
            json!("x".repeat(3_000)),
        ]),
        "\\PC{0,24}".prop_map(Value::from),
        prop::collection::vec("\\PC{0,6}", 0..5).prop_map(Value::from),
    ]
}

pub fn node_changes() -> impl Strategy<Value = Vec<NodeChange>> {
    let node = any::<Index>;
    let change = prop_oneof![
        4 => (node(), odd_value()).prop_map(|(node, with)| NodeChange::Replace { node, with }),
        1 => node().prop_map(|node| NodeChange::Remove { node }),
        1 => (node(), "[A-Za-z]{0,12}").prop_map(|(node, name)| NodeChange::Rename { node, name }),
        1 => (node(), "\\PC{0,12}", odd_value())
            .prop_map(|(node, name, with)| NodeChange::Add { node, name, with }),
        1 => (node(), node()).prop_map(|(node, from)| NodeChange::Copy { node, from }),
    ];
    prop::collection::vec(change, 1..=CHANGES_MAX)
}

pub fn changed_json(sample: &Value, changes: &[NodeChange]) -> Value {
    let mut value = sample.clone();
    for change in changes {
        let paths = paths(&value);
        let path = |node: &Index| paths[node.index(paths.len())].as_str();
        match change {
            NodeChange::Replace { node, with } => {
                *value.pointer_mut(path(node)).expect("it is there") = with.clone();
            }
            NodeChange::Copy { node, from } => {
                let copy = value.pointer(path(from)).cloned().expect("it is there");
                *value.pointer_mut(path(node)).expect("it is there") = copy;
            }
            NodeChange::Remove { node } => drop(take(&mut value, path(node))),
            NodeChange::Rename { node, name } => {
                if let Some((parent, taken)) = take(&mut value, path(node)) {
                    put(&mut value, &parent, name, taken);
                }
            }
            NodeChange::Add { node, name, with } => {
                put(&mut value, path(node), name, with.clone());
            }
        }
    }
    value
}

/// JSON pointers of all nodes, the whole first.
fn paths(value: &Value) -> Vec<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Array(items) => (0..).map(|n: usize| n.to_string()).zip(items).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, item)| (name.replace('~', "~0").replace('/', "~1"), item))
            .collect(),
        _ => Vec::new(),
    };
    let mut all = vec![String::new()];
    for (name, child) in children {
        all.extend(paths(child).into_iter().map(|path| format!("/{name}{path}")));
    }
    all
}

/// Takes a node out; its parent's path, and what it was. The whole stays.
fn take(value: &mut Value, path: &str) -> Option<(String, Value)> {
    let (parent, name) = path.rsplit_once('/')?;
    let taken = match value.pointer_mut(parent)? {
        Value::Array(items) => items.remove(name.parse().ok()?),
        Value::Object(fields) => fields.remove(&name.replace("~1", "/").replace("~0", "~"))?,
        _ => return None,
    };
    Some((parent.to_string(), taken))
}

fn put(value: &mut Value, parent: &str, name: &str, child: Value) {
    match value.pointer_mut(parent) {
        Some(Value::Array(items)) => items.push(child),
        Some(Value::Object(fields)) => {
            fields.insert(name.to_string(), child);
        }
        _ => {}
    }
}
