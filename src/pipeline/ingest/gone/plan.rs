//! What is decided about absent nodes, given what is known of them. Pure.

use std::time::Duration;

use crate::{queue::Absence, record::UnixMillis};

/// So many nodes may be gone at once in any lane.
const GONE_NODES_MAX: usize = 10;
/// And this share of a lane's open findings.
const GONE_PERCENT_MAX: usize = 20;
/// An absence that nobody has confirmed for this long may have been interrupted: the lane wasn't
/// swept, or the clock has jumped. Longer than the longest poll interval.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(3 * 86_400);
/// An absence is confirmed in the store so often.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(86_400);

/// What becomes of the nodes that are proven gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Resolve,
    /// Too many at once to be believed: a person has to say so.
    Withhold,
    /// It would be too many if those are gone, too, that weren't asked about yet.
    Wait,
}

/// Judges `proven` nodes, where another `unknown` may turn out gone, of `open` open findings.
pub(super) fn judge(proven: usize, unknown: usize, open: usize, is_accepted: bool) -> Verdict {
    let too_many = |nodes: usize| nodes > GONE_NODES_MAX && nodes * 100 > open * GONE_PERCENT_MAX;
    if is_accepted || !too_many(proven + unknown) {
        Verdict::Resolve
    } else if too_many(proven) {
        Verdict::Withhold
    } else {
        Verdict::Wait
    }
}

/// An absence that was found again, or for the first time.
pub(super) fn confirmed(before: Option<Absence>, now: UnixMillis) -> Absence {
    let goes_on = |row: &Absence| now.since(row.confirmed_at) <= UNCONFIRMED_MAX;
    let since = before.filter(goes_on).map_or(now, |row| row.since);
    Absence { since, confirmed_at: now }
}

/// Whether the store is to be told.
pub(super) fn is_news(before: Option<Absence>, after: Absence) -> bool {
    before.is_none_or(|before| {
        before.since != after.since
            || after.confirmed_at.since(before.confirmed_at) >= CONFIRM_INTERVAL
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn absence(since: i64, confirmed_at: i64) -> Absence {
        Absence {
            since: UnixMillis(since * DAY_MS),
            confirmed_at: UnixMillis(confirmed_at * DAY_MS),
        }
    }

    #[test]
    fn ten_nodes_or_a_fifth_are_believed_and_more_than_both_are_not() {
        assert_eq!(judge(10, 0, 10, false), Verdict::Resolve);
        assert_eq!(judge(20, 0, 100, false), Verdict::Resolve);
        assert_eq!(judge(11, 0, 54, false), Verdict::Withhold);
        assert_eq!(judge(21, 0, 100, false), Verdict::Withhold);
        assert_eq!(judge(5_000, 0, 5_000, true), Verdict::Resolve);
    }

    #[test]
    fn a_mass_that_is_asked_about_in_parts_is_not_resolved_in_parts() {
        assert_eq!(judge(240, 4_760, 10_000, false), Verdict::Wait);
        assert_eq!(judge(5_000, 0, 10_000, false), Verdict::Withhold);
        assert_eq!(judge(240, 100, 10_000, false), Verdict::Resolve);
    }

    #[test]
    fn an_absence_goes_on_while_it_is_confirmed_and_begins_anew_after_a_gap() {
        let first = confirmed(None, UnixMillis(0));
        assert_eq!(first, absence(0, 0));
        let second = confirmed(Some(first), UnixMillis(3 * DAY_MS));
        assert_eq!(second, absence(0, 3));
        assert_eq!(confirmed(Some(second), UnixMillis(7 * DAY_MS)), absence(7, 7));
    }

    #[test]
    fn a_clock_that_was_set_back_lengthens_no_absence() {
        let row = confirmed(Some(absence(10, 12)), UnixMillis(5 * DAY_MS));
        assert_eq!(row.since.0, 10 * DAY_MS);
        assert!(row.confirmed_at.since(row.since).is_zero());
    }

    #[test]
    fn an_absence_is_written_daily_not_with_every_sweep() {
        assert!(is_news(None, absence(0, 0)));
        let minute_later = Absence { confirmed_at: UnixMillis(60_000), ..absence(0, 0) };
        assert!(!is_news(Some(absence(0, 0)), minute_later));
        assert!(is_news(Some(absence(0, 0)), absence(0, 1)));
        assert!(is_news(Some(absence(0, 0)), absence(4, 4)));
    }
}
