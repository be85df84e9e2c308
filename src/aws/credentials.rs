//! One cache in front of the ambient identity, shared by all lanes.
//!
//! The SDK's `AssumeRole` provider asks its base for credentials every time, uncached: without
//! this, five hundred lanes start five hundred credential processes.
//!
//! Guarantees: one load at a time; credentials are renewed a minute before they expire; if that
//! fails, those at hand are used until they do expire.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, Result, SharedCredentialsProvider, future},
};
use tokio::sync::Mutex;

/// Credentials with less than this left are renewed.
pub(super) const RENEWAL_MARGIN: Duration = Duration::from_secs(60);
/// Credentials without an expiry are read again after this long: a file may have changed.
const UNDATED_LIFE: Duration = Duration::from_secs(15 * 60);
/// Credentials younger than this aren't forgotten: many lanes notice one expiry together.
const FORGETTABLE_AGE: Duration = Duration::from_secs(5);

/// Clones share the cache.
#[derive(Clone, Debug)]
pub(super) struct CachedCredentials {
    source: SharedCredentialsProvider,
    held: Arc<Mutex<Option<Held>>>,
}

#[derive(Debug)]
struct Held {
    credentials: Credentials,
    loaded_at: SystemTime,
}

impl CachedCredentials {
    pub(super) fn new(source: SharedCredentialsProvider) -> Self {
        Self { source, held: Arc::default() }
    }

    /// Makes the next use load them again.
    pub(super) async fn forget(&self) {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|held| age(held.loaded_at) >= FORGETTABLE_AGE) {
            *held = None;
        }
    }

    async fn credentials(&self) -> Result {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref()
            && held.is_fresh()
        {
            return Ok(held.credentials.clone());
        }
        match self.source.provide_credentials().await {
            Ok(credentials) => {
                *held =
                    Some(Held { credentials: credentials.clone(), loaded_at: SystemTime::now() });
                Ok(credentials)
            }
            Err(error) => match held.as_ref().filter(|held| held.is_usable()) {
                Some(held) => Ok(held.credentials.clone()),
                None => Err(error),
            },
        }
    }
}

impl Held {
    fn is_fresh(&self) -> bool {
        match self.credentials.expiry() {
            Some(expiry) => expiry > SystemTime::now() + RENEWAL_MARGIN,
            None => age(self.loaded_at) < UNDATED_LIFE,
        }
    }

    fn is_usable(&self) -> bool {
        self.credentials.expiry().is_none_or(|expiry| expiry > SystemTime::now())
    }
}

fn age(since: SystemTime) -> Duration {
    SystemTime::now().duration_since(since).unwrap_or_default()
}

impl ProvideCredentials for CachedCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use aws_credential_types::{
        credential_fn::provide_credentials_fn, provider::error::CredentialsError,
    };

    use super::*;

    /// Gives credentials that expire at `expiry` once, and fails ever after.
    fn once(expiry: SystemTime) -> CachedCredentials {
        let given = Arc::new(AtomicBool::new(false));
        let provider = provide_credentials_fn(move || {
            let again = given.swap(true, Ordering::Relaxed);
            async move {
                if again {
                    return Err(CredentialsError::not_loaded_no_source());
                }
                Ok(Credentials::new("AKIDTEST", "TOPSECRET", None, Some(expiry), "test"))
            }
        });
        CachedCredentials::new(SharedCredentialsProvider::new(provider))
    }

    #[tokio::test]
    async fn credentials_at_hand_are_used_while_they_cannot_be_renewed() {
        let due = once(SystemTime::now() + RENEWAL_MARGIN / 2);
        assert!(due.credentials().await.is_ok());
        assert!(due.credentials().await.is_ok());
    }

    #[tokio::test]
    async fn expired_credentials_are_never_given_from_the_cache() {
        let expired = once(SystemTime::now() - RENEWAL_MARGIN);
        assert!(expired.credentials().await.is_ok());
        assert!(expired.credentials().await.is_err());
    }

    #[tokio::test]
    async fn debug_output_shows_no_secret() {
        let cached = once(SystemTime::now() + 2 * RENEWAL_MARGIN);
        cached.credentials().await.unwrap();
        assert!(!format!("{cached:?}").contains("TOPSECRET"), "{cached:?}");
    }
}
