//! How far this machine's clock is from AWS's: from the `Date` of an answer, whatever it says.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeDeserializationInterceptorContextRef},
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::{DateTime, config_bag::ConfigBag, date_time::Format};

/// `Date` has whole seconds: on average it is this much late.
const RESOLUTION: Duration = Duration::from_millis(500);

/// A clock's distance from AWS's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockOffset {
    Ahead(Duration),
    Behind(Duration),
}

impl ClockOffset {
    #[must_use]
    pub fn distance(self) -> Duration {
        match self {
            Self::Ahead(distance) | Self::Behind(distance) => distance,
        }
    }

    fn between(here: SystemTime, there: SystemTime) -> Self {
        match here.duration_since(there) {
            Ok(distance) => Self::Ahead(distance),
            Err(error) => Self::Behind(error.duration()),
        }
    }
}

/// Notes the offset at each answer of the calls that it is laid on. Clones share the note.
#[derive(Clone, Debug, Default)]
pub(super) struct DateWatch(Arc<Mutex<Option<ClockOffset>>>);

impl DateWatch {
    /// As of the last answer that had a date.
    pub(super) fn offset(&self) -> Option<ClockOffset> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for DateWatch {
    fn name(&self) -> &'static str {
        "DateWatch"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let there = context
            .response()
            .headers()
            .get("date")
            .and_then(|date| DateTime::from_str(date, Format::HttpDate).ok())
            .and_then(|date| SystemTime::try_from(date).ok());
        if let Some(there) = there {
            let offset = ClockOffset::between(SystemTime::now(), there + RESOLUTION);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(offset);
        }
        Ok(())
    }
}
