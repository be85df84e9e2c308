//! No secret gets out: not into logs at any level, not into the store, the metrics or a status.

use std::{fs, time::Duration};

use patchferry::simulator::{Fault, FleetConfig, Scope, Service, SimulatorConfig};

use super::{exits_with_zero, walk};
use crate::harness::{
    ACCOUNT, REGION,
    child::{EAGER, Site, text},
};

const OTHER_ACCOUNT: &str = "444455556666";
const SECRET_KEY: &str = "tell-nobody-this-is-the-secret-key";
const EXTERNAL_ID: &str = "tell-nobody-this-is-the-external-id";
/// How the simulator's session tokens begin.
const SESSION_TOKEN: &str = "simulated-session/";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_stay_secret_through_every_fault() {
    let fleet = FleetConfig::of(30);
    let mut simulator =
        SimulatorConfig::new(9).lane(ACCOUNT, REGION, fleet).lane(OTHER_ACCOUNT, REGION, fleet);
    simulator.external_id = Some(EXTERNAL_ID.into());
    let config = format!(
        "{}\n[[lanes]]\naccount = \"{ACCOUNT}\"\nregions = [\"{REGION}\"]\n\
         [[lanes]]\naccount = \"{OTHER_ACCOUNT}\"\nregions = [\"{REGION}\"]\n\
         role_arn = \"arn:aws:iam::{OTHER_ACCOUNT}:role/patchferry\"\n\
         external_id = \"{EXTERNAL_ID}\"\n",
        EAGER.replace("[log]\n", "[log]\nlevel = \"trace\"\n")
    );
    let site = Site::new(simulator, Some(&config)).await.with("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    let daemon = site.start();
    daemon.settle();
    assert_eq!(site.control.differences_total(), Vec::<String>::new(), "both lanes deliver");

    let faults = [
        Fault::ExpiredToken,
        Fault::AccessDenied,
        Fault::Html200,
        Fault::HubOff,
        Fault::Outage,
        Fault::Truncated200,
    ];
    let mut seen = String::new();
    for fault in faults {
        site.control.set_fault(Scope::of(Service::SecurityHub), Some(fault));
        for lane in site.control.lanes() {
            site.control.rescan(&lane, 1.0);
        }
        site.control.expire_sessions();
        site.control.mark();
        let tried = site.control.wait_until(|control| {
            let lanes = control.lanes();
            lanes.iter().all(|lane| control.stats(lane).import_requests_since_mark > 0)
        });
        // A rescan may change nothing worth telling in a lane that is drained.
        let _ = tokio::time::timeout(Duration::from_secs(3), tried).await;
        seen += &daemon.get("/metrics");
        seen += &daemon.get("/api/v1/status");
        site.control.clear_faults();
    }
    for arguments in [["status"].as_slice(), &["status", "--json"], &["config", "show"]] {
        let output = site.run(arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        seen += &text(&output.stdout);
        seen += &text(&output.stderr);
    }
    seen += &daemon.log();
    assert!(seen.len() > 10_000, "there is something to look at");
    exits_with_zero(daemon);

    let secrets = [SECRET_KEY, EXTERNAL_ID, SESSION_TOKEN];
    for secret in secrets {
        let at = seen.find(secret).map(|at| seen[at.saturating_sub(400)..at].to_string());
        assert_eq!(at, None, "{secret} was told");
    }
    let mut told = Vec::new();
    walk(&site.state_dir(), &mut |path| {
        let is_reserve = path.file_name().is_some_and(|name| name == "reserve");
        if path.is_file() && !is_reserve {
            let bytes = fs::read(path).unwrap();
            for secret in secrets {
                if contains(&bytes, secret.as_bytes()) {
                    told.push(format!("{secret} in {}", path.display()));
                }
            }
        }
    });
    assert_eq!(told, Vec::<String>::new());
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
