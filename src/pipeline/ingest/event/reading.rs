//! What SSM says of one node when it is asked for it alone, made into the row that a sweep would
//! have read. Pure.
//!
//! A sweep reads the service's summary of each node. There is no such call for one node, but the
//! summary is a sum of the node's compliance items: those that are non-compliant give its verdict,
//! its severities and its execution, so that an event and the sweep after it come to the same
//! finding. What is compliant isn't counted, since that would be a page for every fifty patches; so
//! the row is none to compare a later summary with.
//!
//! SSM writes a node's patch state and its items one after the other. Where they disagree, or are
//! older than the event that told of them, the node is to be read again later.
//!
//! Deliberately doesn't know: how any of it was read.

use std::time::Duration;

use super::parse::What;
use crate::{
    aws::ItemRow,
    record::{
        Text, UnixMillis,
        observation::{RawCompliance, RawPatchState, SeverityCounts},
    },
};

/// Levels from the worst down, as the summary's `OverallSeverity` spells them.
const LEVELS: [&str; 6] = ["CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNSPECIFIED"];

/// A patch operation ends this long before its event at most.
const EVENT_DELAY_MAX: Duration = Duration::from_secs(15 * 60);

/// The items that make a node non-compliant, summed up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NonCompliance {
    by_level: [i32; LEVELS.len()],
    newest: Option<ItemRow>,
}

impl NonCompliance {
    pub fn add(&mut self, row: ItemRow) {
        let level = LEVELS.iter().position(|level| *level == row.severity.as_str());
        let count = &mut self.by_level[level.unwrap_or(LEVELS.len() - 1)];
        *count = count.saturating_add(1);
        let newest = self.newest.as_ref().and_then(|newest| newest.execution_time);
        if self.newest.is_none() || row.execution_time > newest {
            self.newest = Some(row);
        }
    }

    fn count(&self) -> i32 {
        self.by_level.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    fn is_non_compliant(&self) -> bool {
        self.newest.is_some()
    }

    fn to_compliance(&self) -> RawCompliance {
        let [critical, high, medium, low, informational, unspecified] = self.by_level;
        let worst = LEVELS.iter().zip(self.by_level).find(|(_, count)| *count > 0);
        let newest = self.newest.as_ref();
        RawCompliance {
            status: if self.is_non_compliant() { "NON_COMPLIANT" } else { "COMPLIANT" }.into(),
            overall_severity: worst.map_or_else(Text::default, |(level, _)| (*level).into()),
            execution_id: newest.and_then(|row| row.execution_id.clone()),
            execution_type: newest.and_then(|row| row.execution_type.clone()),
            execution_time: newest.and_then(|row| row.execution_time),
            non_compliant_count: self.count(),
            non_compliant: SeverityCounts {
                critical,
                high,
                medium,
                low,
                informational,
                unspecified,
            },
            ..RawCompliance::default()
        }
    }
}

/// What was read of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// To be accepted.
    Settled(RawCompliance),
    /// To be read again later: why.
    Unsettled(&'static str),
    /// SSM has nothing on its patches.
    Unknown,
}

/// Whether what was read can stand.
pub(super) fn judge(
    state: Option<&RawPatchState>,
    items: &NonCompliance,
    what: What,
    told_at: Option<UnixMillis>,
) -> Reading {
    let non_compliant = items.is_non_compliant();
    let Some(state) = state else {
        return if non_compliant {
            Reading::Settled(items.to_compliance())
        } else {
            Reading::Unknown
        };
    };
    if state.counts_problems() != non_compliant {
        return Reading::Unsettled("its counts and its items disagree");
    }
    if let (What::Scanned { non_compliant: Some(told) }, Some(told_at), Some(ended_at)) =
        (what, told_at, state.operation_end)
        && told != non_compliant
        && told_at.since(ended_at) > EVENT_DELAY_MAX
    {
        return Reading::Unsettled("SSM still tells what was before the event");
    }
    Reading::Settled(items.to_compliance())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(severity: &str, execution: &str, at: i64) -> ItemRow {
        ItemRow {
            severity: severity.into(),
            execution_id: Some(execution.into()),
            execution_type: Some("Command".into()),
            execution_time: Some(UnixMillis(at)),
        }
    }

    fn items(rows: &[(&str, &str, i64)]) -> NonCompliance {
        let mut items = NonCompliance::default();
        for (severity, id, at) in rows {
            items.add(item(severity, id, *at));
        }
        items
    }

    fn state(missing: i32, ended_at: i64) -> RawPatchState {
        let operation_end = Some(UnixMillis(ended_at));
        RawPatchState { operation_end, missing, ..RawPatchState::default() }
    }

    const SCANNED: What = What::Scanned { non_compliant: None };

    #[test]
    fn the_sum_of_the_items_is_the_service_s_summary() {
        let items = items(&[("HIGH", "old", 1), ("UNSPECIFIED", "new", 2), ("", "new", 2)]);
        let Reading::Settled(row) = judge(Some(&state(3, 0)), &items, SCANNED, None) else {
            panic!("it is settled")
        };
        assert_eq!((row.status.as_str(), row.overall_severity.as_str()), ("NON_COMPLIANT", "HIGH"));
        assert_eq!((row.non_compliant.high, row.non_compliant.unspecified), (1, 2));
        assert_eq!(row.non_compliant_count, 3);
        assert_eq!(row.execution_id.as_ref().map(Text::as_str), Some("new"));
    }

    #[test]
    fn no_item_and_no_count_is_compliant_but_nothing_at_all_is_unknown() {
        let none = NonCompliance::default();
        let Reading::Settled(row) = judge(Some(&state(0, 0)), &none, SCANNED, None) else {
            panic!("it is settled")
        };
        assert_eq!(row.status.as_str(), "COMPLIANT");
        assert_eq!(judge(None, &none, SCANNED, None), Reading::Unknown);
    }

    #[test]
    fn what_disagrees_or_is_older_than_the_event_is_read_again() {
        let some = items(&[("HIGH", "x", 1)]);
        let none = NonCompliance::default();
        for (missing, items) in [(0, &some), (2, &none)] {
            let reading = judge(Some(&state(missing, 0)), items, SCANNED, None);
            assert!(matches!(reading, Reading::Unsettled(_)), "{reading:?}");
        }
        let told = What::Scanned { non_compliant: Some(true) };
        let hour = Some(UnixMillis(3_600_000));
        let stale = judge(Some(&state(0, 0)), &none, told, hour);
        assert!(matches!(stale, Reading::Unsettled(_)), "{stale:?}");
        // A newer scan than the event's has its own verdict.
        let newer = judge(Some(&state(0, 3_600_000)), &none, told, hour);
        assert!(matches!(newer, Reading::Settled(_)), "{newer:?}");
    }
}
