//! Verifying what a store holds: every record, the indexes against each other, the accounting.
//!
//! A [`Verifier`] is shown every entry of a store or of a backup, in any order, and then says what
//! is wrong. It changes nothing, and keeps in memory only what has to be compared: places and
//! names, no items.

mod compare;

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Absence,
    accounting::{Accounting, Queued},
    care::LaneCare,
    dead,
    ledger::{Acked, Desired, LaneRow, Seen},
    outbox::{self, Place, Waiting},
    pages::Accepted,
    pause::Pause,
    reopening::Reopening,
    tenure::Tenure,
};
use crate::{
    record::{
        Assessment, DeadLetter, FindingId, Lane, PatchDetail, Revision, Source, UnixMillis,
        observation::PatchList,
    },
    store::{
        codec,
        keys::{KeyFields, Table},
    },
};

/// Problems that are told in full; the rest is counted.
pub const PROBLEMS_TOLD_MAX: usize = 100;

/// What is wrong, with what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub what: String,
    /// The key, in hexadecimal, or a name.
    pub place: String,
    pub advice: &'static str,
}

/// What a table holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TableContents {
    pub entries: u64,
    /// Of keys and values.
    pub bytes: u64,
    /// Entries whose key, checksum or body makes no sense.
    pub damaged: u64,
}

/// The outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    pub entries: u64,
    pub bytes: u64,
    /// By name; only those that hold anything.
    pub tables: BTreeMap<String, TableContents>,
    pub accounting: Accounting,
    pub problems_total: u64,
    /// At most [`PROBLEMS_TOLD_MAX`].
    pub problems: Vec<Problem>,
}

const DEFECT: &str = "a defect: keep a backup (`patchferry store backup`) and report it";
const DAMAGED: &str = "the disk or the memory has changed it: look at both. patchferry deals with it when it meets it: an item becomes a dead letter, a ledger row is made anew";

/// A node of a lane.
type Node = (String, String);
/// A patch list's lane, node and number.
type List = (String, String, u64);

/// See the module.
#[derive(Default)]
pub struct Verifier {
    tables: BTreeMap<String, TableContents>,
    problems_total: u64,
    problems: Vec<Problem>,
    live_bytes: i64,
    queued: Queued,
    dead: i64,
    /// Chunks that are there.
    chunks: HashMap<List, HashSet<u16>>,
    /// Chunks that items say they have.
    owned: HashMap<List, u16>,
    /// Of delayed findings, by lane and place: node and due time.
    delayed: HashMap<(String, u64), (String, UnixMillis)>,
    /// Of their index.
    delayed_index: HashMap<(String, u64), (String, UnixMillis)>,
    /// Waiting findings of the one-per-node kind, by node.
    waiting: HashMap<Node, (Revision, Place)>,
    desired: HashMap<Node, (Revision, Option<Place>)>,
    parked: HashMap<String, i64>,
    parked_told: HashMap<String, i64>,
}

impl Verifier {
    /// Looks at one entry.
    pub fn entry(&mut self, key: &[u8], value: &[u8]) {
        let bytes = (key.len() + value.len()) as u64;
        let Some(table) = Table::of(key) else {
            let contents = self.tables.entry("unknown".into()).or_default();
            contents.entries += 1;
            contents.bytes += bytes;
            return self.tell("an entry of a table that this patchferry doesn't know", key, DEFECT);
        };
        let contents = self.tables.entry(name(table)).or_default();
        contents.entries += 1;
        contents.bytes += bytes;
        if table != Table::Meta || key.ends_with(b"read_back\0") {
            self.live_bytes += i64::try_from(bytes).unwrap_or(i64::MAX);
        }
        if let Err(why) = self.look(table, key, value) {
            self.tables.entry(name(table)).or_default().damaged += 1;
            self.tell(format!("an entry of `{}` is damaged: {why}", name(table)), key, DAMAGED);
        }
    }

    fn look(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), String> {
        self.count(table, value);
        let fields = KeyFields::of(key);
        match table {
            Table::Meta => checked(value),
            Table::Tenure => decoded::<Tenure>(value).map(drop),
            Table::Observed => self.observed(fields, value),
            Table::Assessed => self.assessed(fields, value),
            Table::Parked => self.parked(fields, value),
            Table::Outbox => self.outbox(key, fields, value),
            Table::Delayed => self.delayed(key, fields, value),
            Table::DelayedIndex => self.delayed_index(fields, value),
            Table::Seen => node_row::<Seen>(fields, value).map(drop),
            Table::Desired => self.desired(fields, value),
            Table::Acked => node_row::<Acked>(fields, value).map(drop),
            Table::Details => self.details(fields, value),
            Table::Absent => node_row::<Absence>(fields, value).map(drop),
            Table::Dead => self.letter(key, value),
            Table::DeadHistory => node_row::<Vec<dead::Episode>>(fields, value).map(drop),
            Table::Lane => self.lane(fields, value),
            Table::Pause => decoded::<Pause>(value).map(drop),
            Table::Reopening => self.reopening(fields, value),
            Table::LaneCare => {
                lane_of(&mut { fields })?;
                decoded::<LaneCare>(value).map(drop)
            }
        }
    }

    /// Items count by their tag, whether they decode or not.
    fn count(&mut self, table: Table, value: &[u8]) {
        let tag = codec::tag(value).map_or(0, |tag| i64::try_from(tag).unwrap_or(i64::MAX));
        match table {
            Table::Observed => self.queued.observed += tag,
            Table::Assessed => self.queued.assessed += tag,
            Table::Outbox => self.queued.outbox += 1,
            Table::Delayed => self.queued.delayed += 1,
            Table::Parked => self.queued.parked += 1,
            Table::Dead => self.dead += tag,
            _ => {}
        }
    }

    fn observed(&mut self, mut fields: KeyFields<'_>, value: &[u8]) -> Result<(), String> {
        fields.u64().ok_or("its key has no sequence")?;
        let lane = lane_of(&mut fields)?;
        let (tag, items) = decoded::<Vec<Accepted>>(value)?;
        agrees(tag, items.len() as u64)?;
        for item in &items {
            let observation = &item.observation;
            self.own(&lane, observation.node.as_str(), observation.patches.as_ref());
        }
        Ok(())
    }

    fn assessed(&mut self, mut fields: KeyFields<'_>, value: &[u8]) -> Result<(), String> {
        fields.u64().ok_or("its key has no sequence")?;
        let lane = lane_of(&mut fields)?;
        let (tag, items) = decoded::<Vec<Assessment>>(value)?;
        agrees(tag, items.len() as u64)?;
        for item in &items {
            self.own(&lane, item.node.as_str(), item.facts.patches.as_ref());
        }
        Ok(())
    }

    fn parked(&mut self, mut fields: KeyFields<'_>, value: &[u8]) -> Result<(), String> {
        let lane = lane_of(&mut fields)?;
        *self.parked.entry(lane.to_string()).or_default() += 1;
        let (_, item) = decoded::<Assessment>(value)?;
        self.own(&lane, item.node.as_str(), item.facts.patches.as_ref());
        Ok(())
    }

    fn outbox(
        &mut self,
        key: &[u8],
        mut fields: KeyFields<'_>,
        value: &[u8],
    ) -> Result<(), String> {
        let lane = lane_of(&mut fields)?;
        let waiting = self.waiting(&lane, value)?;
        if outbox::outbox_key(&lane, waiting.place).as_bytes() != key {
            self.tell("a waiting finding isn't where it says it is", key, DEFECT);
        }
        Ok(())
    }

    fn delayed(
        &mut self,
        key: &[u8],
        mut fields: KeyFields<'_>,
        value: &[u8],
    ) -> Result<(), String> {
        let lane = lane_of(&mut fields)?;
        let due = fields.u64().and_then(|due_ms| i64::try_from(due_ms).ok()).map(UnixMillis);
        let due = due.ok_or("its key has no due time")?;
        let number = fields.u64().ok_or("its key has no place")?;
        let waiting = self.waiting(&lane, value)?;
        if outbox::delayed_key(&lane, due, waiting.place).as_bytes() != key {
            self.tell("a delayed finding isn't where it says it is", key, DEFECT);
        }
        let node = waiting.finding.node.to_string();
        self.delayed.insert((lane.to_string(), number), (node, due));
        Ok(())
    }

    fn waiting(&mut self, lane: &Lane, value: &[u8]) -> Result<Waiting, String> {
        let (tag, waiting) = decoded::<Waiting>(value)?;
        agrees(tag, waiting.revision.0)?;
        let finding = &waiting.finding;
        self.own(lane, finding.node.as_str(), finding.facts.patches.as_ref());
        if finding.id == FindingId::Node && finding.source != Source::Derived {
            let node = (lane.to_string(), finding.node.to_string());
            let here = (waiting.revision, waiting.place);
            if self.waiting.insert(node, here).is_some() {
                let name = format!("{lane} {}", finding.node);
                self.tell_of("two versions of a node's finding wait", name, DEFECT);
            }
        }
        Ok(waiting)
    }

    fn delayed_index(&mut self, mut fields: KeyFields<'_>, value: &[u8]) -> Result<(), String> {
        let lane = lane_of(&mut fields)?;
        let node = fields.text().ok_or("its key has no node")?.to_string();
        let number = fields.u64().ok_or("its key has no place")?;
        let (_, due) = decoded::<UnixMillis>(value)?;
        self.delayed_index.insert((lane.to_string(), number), (node, due));
        Ok(())
    }

    fn desired(&mut self, fields: KeyFields<'_>, value: &[u8]) -> Result<(), String> {
        let (node, tag, row) = node_row::<Desired>(fields, value)?;
        agrees(tag, row.tag())?;
        if row.finding.id == FindingId::Node {
            self.desired.insert(node, (row.revision, row.place));
        }
        Ok(())
    }

    fn details(&mut self, mut fields: KeyFields<'_>, value: &[u8]) -> Result<(), String> {
        let lane = lane_of(&mut fields)?;
        let node = fields.text().ok_or("its key has no node")?.to_string();
        let read = fields.u64().ok_or("its key has no read number")?;
        let (high, low) = (fields.u8(), fields.u8());
        let chunk = high.zip(low).ok_or("its key has no chunk number")?;
        let chunk = u16::from_be_bytes([chunk.0, chunk.1]);
        self.chunks.entry((lane.to_string(), node, read)).or_default().insert(chunk);
        decoded::<Vec<PatchDetail>>(value).map(drop)
    }

    fn letter(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let (tag, letter) = decoded::<DeadLetter>(value)?;
        agrees(tag, letter.count)?;
        let node = letter.node.as_str();
        if dead::key(&letter.lane, node, letter.stage, letter.reason).as_bytes() != key {
            self.tell("a dead letter isn't where it says it is", key, DEFECT);
        }
        self.own(&letter.lane, node, dead::patches_of(&letter.item));
        Ok(())
    }

    fn lane(&mut self, mut fields: KeyFields<'_>, value: &[u8]) -> Result<(), String> {
        let lane = lane_of(&mut fields)?;
        let (_, row) = decoded::<LaneRow>(value)?;
        self.parked_told.insert(lane.to_string(), row.parked);
        Ok(())
    }

    fn reopening(&mut self, fields: KeyFields<'_>, value: &[u8]) -> Result<(), String> {
        let ((lane, node), _, row) = node_row::<Reopening>(fields, value)?;
        if let Reopening::Closing(closing) = row {
            let lane = lane.parse().map_err(|_| "its key has no lane")?;
            self.own(&lane, &node, closing.finding.facts.patches.as_ref());
        }
        Ok(())
    }

    fn own(&mut self, lane: &Lane, node: &str, patches: Option<&PatchList>) {
        let Some(list) = patches else { return };
        self.owned.insert((lane.to_string(), node.to_string(), list.read.0), list.chunks);
    }

    fn tell(&mut self, what: impl Into<String>, key: &[u8], advice: &'static str) {
        use std::fmt::Write as _;
        let mut place = String::with_capacity(2 * key.len());
        for byte in key {
            let _ = write!(place, "{byte:02x}");
        }
        self.tell_of(what, place, advice);
    }

    fn tell_of(&mut self, what: impl Into<String>, place: String, advice: &'static str) {
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_TOLD_MAX {
            self.problems.push(Problem { what: what.into(), place, advice });
        }
    }
}

fn name(table: Table) -> String {
    format!("{table:?}").to_lowercase()
}

fn decoded<T: DeserializeOwned>(value: &[u8]) -> Result<(u64, T), String> {
    codec::decode(value).map_err(|error| error.to_string())
}

/// Of the store's own records only the checksum is looked at here.
fn checked(value: &[u8]) -> Result<(), String> {
    codec::decode_beginning::<()>(value).map(drop).map_err(|error| error.to_string())
}

fn lane_of(fields: &mut KeyFields<'_>) -> Result<Lane, String> {
    let lane = fields.text().and_then(|lane| lane.parse().ok());
    lane.ok_or_else(|| "its key has no lane".into())
}

fn agrees(tag: u64, expected: u64) -> Result<(), String> {
    if tag == expected { Ok(()) } else { Err(format!("its tag is {tag}, not {expected}")) }
}

fn node_row<T: DeserializeOwned>(
    mut fields: KeyFields<'_>,
    value: &[u8],
) -> Result<(Node, u64, T), String> {
    let lane = lane_of(&mut fields)?;
    let node = fields.text().ok_or("its key has no node")?.to_string();
    let (tag, row) = decoded(value)?;
    Ok(((lane.to_string(), node), tag, row))
}
