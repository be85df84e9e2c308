//! The two queues of pages: observed, which validate empties into assessed, and assessed, which
//! transform empties into the outboxes.

use super::{
    QueueError, Queues, accounting as account,
    dead::Death,
    pages::{self, Accepted, ClaimedPage},
    parked, table_prefix,
    transition::Transition,
};
use crate::{
    record::{Assessment, Lane, Stage},
    store::{Commit, StoreError, keys::Table},
};

/// What validate made of one page.
#[derive(Debug, Default)]
pub struct Validated {
    pub assessments: Vec<Assessment>,
    pub deaths: Vec<Death>,
}

impl Queues {
    /// Claims up to `pages_max` pages of observations, oldest first.
    pub async fn claim_observed(
        &self,
        pages_max: usize,
    ) -> Result<Vec<ClaimedPage<Accepted>>, QueueError> {
        self.claim_pages(Table::Observed, pages_max).await
    }

    /// Claims up to `pages_max` pages of assessments, oldest first.
    pub async fn claim_assessed(
        &self,
        pages_max: usize,
    ) -> Result<Vec<ClaimedPage<Assessment>>, QueueError> {
        self.claim_pages(Table::Assessed, pages_max).await
    }

    async fn claim_pages<T>(
        &self,
        table: Table,
        pages_max: usize,
    ) -> Result<Vec<ClaimedPage<T>>, QueueError>
    where
        T: serde::de::DeserializeOwned + Send + 'static,
    {
        let claimed = self
            .store
            .read(move |reader| {
                let prefix = table_prefix(table);
                let entries = reader.page(&prefix, &prefix, pages_max)?;
                Ok(entries
                    .into_iter()
                    .filter_map(|(key, value)| pages::claimed(key, value))
                    .collect())
            })
            .await?;
        Ok(claimed)
    }

    /// Moves validated pages on. `validated` goes with the pages one to one.
    pub async fn settle_observed(
        &self,
        validated: Vec<(ClaimedPage<Accepted>, Validated)>,
    ) -> Result<(), QueueError> {
        let items = validated.iter().map(|(page, _)| page.count).sum::<u64>();
        let prepared: Vec<_> = validated
            .into_iter()
            .map(|(page, out)| {
                (page.key, page.lane, page.count, pages::paginate(&out.assessments), out.deaths)
            })
            .collect();
        self.transition(Commit::hand_off(to_usize(items)), move |step| {
            for (key, lane, count, pages, deaths) in prepared {
                if !step.tx.remove(&key)? {
                    continue;
                }
                step.add(account::OBSERVED, -to_i64(count));
                for (page, count) in pages {
                    let key = pages::fifo_key(Table::Assessed, step.tx.next_sequence(), &lane);
                    step.tx.insert_new(&key, page)?;
                    step.add(account::ASSESSED, count);
                }
                for death in deaths {
                    step.bury(&lane, death)?;
                }
            }
            step.effects.assessed = true;
            Ok(())
        })
        .await
    }

    /// Judges claimed assessments: `judge` runs in the committer, item by item in order, and
    /// must send, end or bury each. Pages of a lane that is being read back are parked instead,
    /// one state per node if they coalesce.
    pub async fn settle_assessed<J>(
        &self,
        pages: Vec<ClaimedPage<Assessment>>,
        coalesces: bool,
        mut judge: J,
    ) -> Result<(), QueueError>
    where
        J: FnMut(&mut Transition<'_, '_>, &Lane, Assessment) -> Result<(), StoreError>
            + Send
            + 'static,
    {
        let items = pages.iter().map(|page| page.count).sum::<u64>();
        // Durable: what reaches the outbox may be sent as soon as this returns.
        self.transition(Commit::durable(to_usize(items)), move |step| {
            for page in pages {
                settle_assessed_page(step, page, coalesces, &mut judge)?;
            }
            Ok(())
        })
        .await
    }
}

fn settle_assessed_page(
    step: &mut Transition<'_, '_>,
    page: ClaimedPage<Assessment>,
    coalesces: bool,
    judge: &mut impl FnMut(&mut Transition<'_, '_>, &Lane, Assessment) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    if !step.tx.remove(&page.key)? {
        return Ok(());
    }
    step.add(account::ASSESSED, -to_i64(page.count));
    let items = match page.items {
        Ok(items) => items,
        Err(damaged) => {
            let message = damaged.error.to_string();
            let name = format!("(page {:08x})", crc32fast::hash(page.key.as_bytes()));
            let death =
                Death::undecodable(&name, Stage::Transform, &message, &damaged.bytes, page.count);
            return step.bury(&page.lane, death);
        }
    };
    let row = step.lane_row(&page.lane)?;
    if row.read_back.parks(page.released) {
        return parked::park(step, &page.lane, row, items, coalesces);
    }
    for assessment in items {
        judge(step, &page.lane, assessment)?;
    }
    Ok(())
}

fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
