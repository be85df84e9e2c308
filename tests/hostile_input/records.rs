//! Stored records: whatever their bytes, even with a checksum that fits, they decode or say why
//! not; and what decodes makes neither a judgement nor a rendering panic.

use std::sync::OnceLock;

use patchferry::{
    app,
    aws::render,
    pipeline::validate::{UnspecifiedSeverity, assess},
    queue::{
        Absence, Accepted, Acked, Desired, LaneCare, LaneRow, Pause, Reopening, Seen, Waiting,
    },
    record::{Assessment, Clock, DeadLetter, Finding, PatchDetail, UnixMillis},
    simulator::{Fault, FleetConfig, Nonsense, Scope, Service, SimulatorConfig},
    store::{
        SpaceLimits,
        codec::{self, DecodeError, HEADER_BYTES},
        keys::{Key, Table},
    },
};
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};

use super::mutation::{byte_changes, changed_bytes, check};
use crate::harness::{ACCOUNT, REGION, Rig, imports};

/// Values of a table that are taken for samples.
const SAMPLES_MAX: usize = 40;

type Samples = Vec<(Table, Vec<u8>)>;

/// Values of every table that holds records, from a store that has seen some trouble.
fn samples() -> &'static Samples {
    static SAMPLES: OnceLock<Samples> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(collect())
    })
}

async fn collect() -> Samples {
    let fleet = FleetConfig {
        nodes: 60,
        hybrid_share: 0.3,
        non_compliant_share: 0.8,
        never_scanned_share: 0.0,
    };
    let rig = Rig::new(SimulatorConfig::new(71).lane(ACCOUNT, REGION, fleet)).await;
    let rig = rig.without_quota();
    let lane = rig.only_lane();
    let node = rig.control.fleet(&lane)[0].id.clone();
    rig.control.corrupt_node(&lane, &node, Some(Nonsense::NegativeCount)).unwrap();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;

    // Findings that were refused wait for their time.
    rig.control.rescan(&lane, 1.0);
    rig.control
        .set_fault(imports(), Some(Fault::Partial { ratio: 1.0, code: "InternalFailure".into() }));
    rig.sweep(&app).await;
    rig.wait_for(&app, "delayed findings", |queues, _| queues.accounting().queued.delayed > 0)
        .await;
    app.shutdown().await.unwrap();
    let mut samples = read_all(&rig).await;

    // And others for an answer.
    rig.control.set_fault(Scope::of(Service::SecurityHub), Some(Fault::Outage));
    rig.control.rescan(&lane, 1.0);
    let app = rig.start().await;
    rig.sweep(&app).await;
    rig.wait_for(&app, "waiting findings", |queues, _| queues.accounting().queued.outbox > 0).await;
    app.shutdown().await.unwrap();
    samples.extend(read_all(&rig).await);
    samples
}

async fn read_all(rig: &Rig) -> Samples {
    let limits = SpaceLimits { live_bytes_max: 1 << 30, free_bytes_min: 0 };
    let state_dir = rig.state_dir();
    let opened =
        tokio::task::spawn_blocking(move || app::open_queues(&state_dir, limits, Clock::system()));
    let queues = opened.await.unwrap().expect("the store opens");
    let read = queues.store().read(|reader| {
        let mut samples = Samples::new();
        for table in Table::ALL {
            let prefix = Key::new(table);
            let entries = reader.page(&prefix, &prefix, SAMPLES_MAX)?;
            samples.extend(entries.into_iter().map(|(_, value)| (table, value)));
        }
        Ok(samples)
    });
    let samples = read.await.expect("a readable store");
    queues.close().await.unwrap();
    samples
}

/// `body` in an envelope whose checksum fits.
fn sealed(tag: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![codec::ENVELOPE_VERSION];
    bytes.extend(tag.to_le_bytes());
    bytes.extend(crc32fast::hash(body).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// Decodes; what was read can be written again.
fn decoded<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (tag, value) = codec::decode::<T>(bytes).ok()?;
    let _ = codec::encode(tag, &value);
    Some(value)
}

fn is_rendered(finding: &Finding) {
    let lane = "111122223333/us-east-1".parse().expect("a lane");
    let rendered = render(&lane, finding, &[]);
    assert!(
        rendered.bytes_max() <= 240 * 1024,
        "{} bytes are over the limit",
        rendered.bytes_max()
    );
}

/// Reads a value as what its table holds, and does with it what the stages do.
fn is_read(table: Table, bytes: &[u8]) {
    match table {
        Table::Observed => {
            for accepted in decoded::<Vec<Accepted>>(bytes).unwrap_or_default() {
                let _ = assess(&accepted, UnspecifiedSeverity::Counts);
            }
        }
        Table::Assessed => drop(decoded::<Vec<Assessment>>(bytes)),
        Table::Parked => drop(decoded::<Assessment>(bytes)),
        Table::Outbox | Table::Delayed => {
            if let Some(waiting) = decoded::<Waiting>(bytes) {
                is_rendered(&waiting.finding);
            }
        }
        Table::Desired => {
            if let Some(desired) = decoded::<Desired>(bytes) {
                is_rendered(&desired.finding);
            }
        }
        Table::DelayedIndex => drop(decoded::<UnixMillis>(bytes)),
        Table::Seen => drop(decoded::<Seen>(bytes)),
        Table::Acked => drop(decoded::<Acked>(bytes)),
        Table::Absent => drop(decoded::<Absence>(bytes)),
        Table::Details => drop(decoded::<Vec<PatchDetail>>(bytes)),
        Table::Dead => drop(decoded::<DeadLetter>(bytes)),
        Table::Lane => drop(decoded::<LaneRow>(bytes)),
        Table::Pause => drop(decoded::<Pause>(bytes)),
        Table::Reopening => {
            if let Some(Reopening::Closing(closing)) = decoded::<Reopening>(bytes) {
                is_rendered(&closing.finding);
            }
        }
        Table::LaneCare => drop(decoded::<LaneCare>(bytes)),
        _ => drop(decoded::<Vec<i64>>(bytes)),
    }
}

#[test]
fn the_samples_are_of_every_kind_that_a_stopped_store_holds() {
    for table in [
        Table::Outbox,
        Table::Delayed,
        Table::Seen,
        Table::Desired,
        Table::Acked,
        Table::Details,
        Table::Dead,
        Table::Lane,
    ] {
        assert!(samples().iter().any(|(of, _)| *of == table), "no {table:?}");
    }
}

#[test]
fn a_record_with_changed_bytes_and_a_checksum_that_fits_decodes_or_says_why_not() {
    let strategy = (any::<prop::sample::Index>(), byte_changes());
    check("records, bytes changed", 20_000, &strategy, |(sample, changes)| {
        let (table, value) = &samples()[sample.index(samples().len())];
        let body = changed_bytes(&value[HEADER_BYTES..], &changes);
        is_read(*table, &sealed(codec::tag(value).unwrap_or(0), &body));
        // With the old checksum a change is always noticed.
        let mut unsealed = value[..HEADER_BYTES].to_vec();
        unsealed.extend(&body);
        if body != value[HEADER_BYTES..] {
            let error = codec::decode::<Vec<u8>>(&unsealed).err();
            prop_assert_eq!(error, Some(DecodeError::Checksum));
        }
        Ok(())
    });
}

#[test]
fn a_record_of_another_kind_or_of_anything_decodes_or_says_why_not() {
    let tables = || prop::sample::select(Table::ALL.to_vec());
    // How bincode writes lengths: those that lie.
    let lengths = prop::sample::select(vec![0, 1, 7, 250, 251, 252, 253, 255_u8]);
    let strategy = prop_oneof![
        (tables(), any::<prop::sample::Index>()).prop_map(|(table, at)| {
            (table, samples()[at.index(samples().len())].1[HEADER_BYTES..].to_vec())
        }),
        (tables(), prop::collection::vec(any::<u8>(), 0..300)),
        (tables(), prop::collection::vec(lengths, 0..40)),
    ];
    check("records of anything", 20_000, &strategy, |(table, body)| {
        is_read(table, &sealed(1, &body));
        Ok(())
    });
}

#[test]
fn bytes_that_are_no_envelope_are_no_record() {
    let strategy = prop::collection::vec(any::<u8>(), 0..60);
    check("envelopes", 20_000, &strategy, |bytes| {
        let _ = codec::tag(&bytes);
        prop_assert!(codec::decode::<Vec<u8>>(&bytes).is_err());
        Ok(())
    });
}
