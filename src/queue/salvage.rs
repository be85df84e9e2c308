//! Salvage: what waited in a store that was set aside goes on in the live one.
//!
//! Findings are readmitted as they are; of observations and assessments the newest of each node.
//! Whatever the live store knows of a node counts as newer: their read numbers, which another
//! counter gave, become 0, so that they lose to everything that was read since, and patch lists
//! get numbers of the live store. So a salvage can be repeated: what it has queued before is
//! found again as it stands, and ends as coalesced or unchanged.
//!
//! Deliberately doesn't know: how the entries were got at, and of which format they were.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    QueueError, Queues, Readmission, Readmitted, details,
    outbox::Waiting,
    pages::Accepted,
    readmit::{self, node_of},
};
use crate::{
    record::{
        Assessment, DeadLetter, Lane, PatchDetail, ReadNumber, dead_letter::DeadItem,
        observation::PatchList,
    },
    store::{
        codec,
        keys::{Key, KeyFields, Table},
    },
};

/// Items that one commit readmits.
const STEP_ITEMS_MAX: usize = 200;

/// Tables that items wait in, findings first: what was decided goes before what would be.
const TABLES: [Table; 6] =
    [Table::Outbox, Table::Delayed, Table::Dead, Table::Parked, Table::Assessed, Table::Observed];

/// Entries of a store that was set aside, in today's form.
pub trait Wreckage: Send + Sync {
    /// Visits what can be read of a table; whether all of it could be.
    fn visit(&self, table: Table, visit: &mut dyn FnMut(&[u8], &[u8])) -> bool;
    fn get(&self, key: &Key) -> Option<Vec<u8>>;
}

/// What became of the items of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SalvageCount {
    /// Items that were found and could be read.
    pub found: u64,
    /// Those that wait in the live store now.
    pub queued: u64,
    /// Those of which the live store knows a newer state.
    pub coalesced: u64,
    /// Those of which the same wreckage has a newer state.
    pub superseded: u64,
    /// Items that don't decode.
    pub unreadable: u64,
    /// A part of the table can't be read, and nobody knows how much was in it.
    pub incomplete: bool,
}

/// The outcome, by table.
pub type SalvageReport = BTreeMap<String, SalvageCount>;

/// An item on its way from the wreckage.
struct Found {
    table: Table,
    lane: Lane,
    item: DeadItem,
}

impl Queues {
    /// Queues what `wreckage` has waiting. On disk when this returns.
    pub async fn salvage(&self, wreckage: &dyn Wreckage) -> Result<SalvageReport, QueueError> {
        let mut report = SalvageReport::new();
        let (findings, mut states) = collect(wreckage, &mut report);
        states.sort_by_key(|found| std::cmp::Reverse(read_of(&found.item)));
        let mut newest = HashMap::new();
        for found in states {
            let node = (found.lane.clone(), node_of(&found.item).to_string());
            match newest.entry(node) {
                Entry::Vacant(place) => drop(place.insert(found)),
                Entry::Occupied(_) => count(&mut report, found.table).superseded += 1,
            }
        }
        for found in [findings, newest.into_values().collect()] {
            self.readmit_all(wreckage, found, &mut report).await?;
        }
        Ok(report)
    }

    async fn readmit_all(
        &self,
        wreckage: &dyn Wreckage,
        found: Vec<Found>,
        report: &mut SalvageReport,
    ) -> Result<(), QueueError> {
        let mut found = found.into_iter().peekable();
        while found.peek().is_some() {
            let step: Vec<Found> = found.by_ref().take(STEP_ITEMS_MAX).collect();
            let tables: Vec<Table> = step.iter().map(|found| found.table).collect();
            let mut items = Vec::with_capacity(step.len());
            for found in step {
                items.push(self.prepare(wreckage, found).await?);
            }
            for (table, became) in tables.into_iter().zip(self.readmit(items).await?) {
                let count = count(report, table);
                match became {
                    Readmitted::Observed | Readmitted::Assessed | Readmitted::Outbox => {
                        count.queued += 1;
                    }
                    Readmitted::Coalesced => count.coalesced += 1,
                    Readmitted::Undecodable => count.unreadable += 1,
                }
            }
        }
        Ok(())
    }

    /// Brings an item's patches along, under a number of the live store.
    async fn prepare(
        &self,
        wreckage: &dyn Wreckage,
        found: Found,
    ) -> Result<Readmission, QueueError> {
        let Found { lane, mut item, .. } = found;
        let node = node_of(&item).to_string();
        let mut patches = Vec::new();
        if let Some(list) = readmit::patches_mut(&mut item) {
            patches = patches_of(wreckage, &lane, &node, list);
            list.read = self.next_read(&lane).await?;
        }
        match &mut item {
            DeadItem::Observation { observation, .. } => observation.read = ReadNumber(0),
            DeadItem::Assessment(assessment) => assessment.read = ReadNumber(0),
            DeadItem::Finding(_) | DeadItem::Raw { .. } => {}
        }
        Ok(Readmission { lane, item, patches })
    }
}

/// Findings, and observations and assessments.
fn collect(wreckage: &dyn Wreckage, report: &mut SalvageReport) -> (Vec<Found>, Vec<Found>) {
    let (mut findings, mut states) = (Vec::new(), Vec::new());
    for table in TABLES {
        let mut here = SalvageCount::default();
        let complete = wreckage.visit(table, &mut |key, value| {
            let Some((lane, items)) = items(table, key, value) else {
                here.unreadable += match table {
                    Table::Outbox | Table::Delayed => 1,
                    _ => codec::tag(value).unwrap_or(1),
                };
                return;
            };
            for item in items {
                here.found += 1;
                let found = Found { table, lane: lane.clone(), item };
                match found.item {
                    DeadItem::Finding(_) => findings.push(found),
                    DeadItem::Raw { .. } => here.unreadable += 1,
                    _ => states.push(found),
                }
            }
        });
        here.incomplete = !complete;
        report.insert(name(table), here);
    }
    (findings, states)
}

/// The lane and the items of an entry; `None` if it doesn't decode.
fn items(table: Table, key: &[u8], value: &[u8]) -> Option<(Lane, Vec<DeadItem>)> {
    let mut fields = KeyFields::of(key);
    if matches!(table, Table::Observed | Table::Assessed) {
        fields.u64()?;
    }
    let lane = fields.text()?.parse().ok()?;
    let items = match table {
        Table::Observed => {
            let page = decoded::<Vec<Accepted>>(value)?.into_iter();
            page.map(|accepted| DeadItem::Observation {
                accepted_at: accepted.at,
                observation: Box::new(accepted.observation),
            })
            .collect()
        }
        Table::Assessed => {
            let page = decoded::<Vec<Assessment>>(value)?.into_iter();
            page.map(|assessment| DeadItem::Assessment(Box::new(assessment))).collect()
        }
        Table::Parked => vec![DeadItem::Assessment(Box::new(decoded(value)?))],
        Table::Dead => vec![decoded::<DeadLetter>(value)?.item],
        _ => vec![DeadItem::Finding(Box::new(decoded::<Waiting>(value)?.finding))],
    };
    Some((lane, items))
}

fn patches_of(
    wreckage: &dyn Wreckage,
    lane: &Lane,
    node: &str,
    list: &PatchList,
) -> Vec<PatchDetail> {
    let chunks = (0..list.chunks).map_while(|chunk| {
        let bytes = wreckage.get(&details::key(lane, node, list, chunk))?;
        decoded::<Vec<PatchDetail>>(&bytes)
    });
    chunks.flatten().collect()
}

fn decoded<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    codec::decode(value).ok().map(|(_, decoded)| decoded)
}

fn count(report: &mut SalvageReport, table: Table) -> &mut SalvageCount {
    report.entry(name(table)).or_default()
}

fn name(table: Table) -> String {
    format!("{table:?}").to_lowercase()
}

fn read_of(item: &DeadItem) -> ReadNumber {
    match item {
        DeadItem::Observation { observation, .. } => observation.read,
        DeadItem::Assessment(assessment) => assessment.read,
        DeadItem::Finding(_) | DeadItem::Raw { .. } => ReadNumber(0),
    }
}
