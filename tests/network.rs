//! The way out: proxies, certificates, FIPS, dual-stack, China's and VPC endpoints, with the real
//! binary, through a real proxy.

mod proxy;

use std::process::{Output, Stdio};

use patchferry::simulator::{FleetConfig, SimulatorConfig};

use self::proxy::{Certificates, Manner, Proxy, profile_with};
use crate::harness::{
    ACCOUNT, REGION,
    child::{Daemon, EAGER, Site, skipped, text},
};

const CHINA: &str = "cn-north-1";
const SECRET: &str = "swordfish";

async fn site(seed: u64, region: &str) -> Site {
    let simulator = SimulatorConfig::new(seed).lane(ACCOUNT, region, FleetConfig::of(12));
    let config = format!("{EAGER}[[lanes]]\naccount = \"{ACCOUNT}\"\nregions = [\"{region}\"]\n");
    Site::new(simulator, Some(&config)).await.with("AWS_REGION", region)
}

/// One round, with no endpoint but AWS's own.
fn sweep_aws(site: &Site) -> Output {
    let mut command = site.command(&["sweep", "--once", "--timeout", "20s"]);
    command.env_remove("AWS_ENDPOINT_URL").stdin(Stdio::null()).output().unwrap()
}

fn succeeded(output: &Output) {
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}");
}

/// Runs a round through a proxy that opens TLS, whose certificates are trusted; the hosts.
async fn hosts_asked(region: &str, environment: &[(&str, &str)]) -> Option<Vec<String>> {
    let Some(certificates) = Certificates::make() else {
        skipped("there is no openssl to make certificates with");
        return None;
    };
    let mut site = site(801, region).await;
    let proxy = Proxy::start(&site.simulator.endpoint_url(), Some(&certificates)).await;
    site = site
        .with("HTTPS_PROXY", &proxy.url())
        .with("AWS_CA_BUNDLE", certificates.ca().to_str().unwrap());
    for (name, value) in environment {
        site = site.with(name, value);
    }
    succeeded(&tokio::task::block_in_place(|| sweep_aws(&site)));
    site.assert_hub_true();
    Some(proxy.asked())
}

fn connects(hosts: [&str; 3]) -> Vec<String> {
    let mut hosts = hosts.map(|host| format!("CONNECT {host}:443")).to_vec();
    hosts.sort();
    hosts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_through_the_proxy_to_the_region_s_own_endpoints() {
    let Some(asked) = hosts_asked(REGION, &[]).await else { return };
    let host = |service: &str| format!("{service}.us-east-1.amazonaws.com");
    assert_eq!(asked, connects([&host("ssm"), &host("securityhub"), &host("sts")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_fips_it_goes_to_the_fips_endpoints() {
    let Some(asked) = hosts_asked(REGION, &[("AWS_USE_FIPS_ENDPOINT", "true")]).await else {
        return;
    };
    let host = |service: &str| format!("{service}-fips.us-east-1.amazonaws.com");
    assert_eq!(asked, connects([&host("ssm"), &host("securityhub"), &host("sts")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_dual_stack_it_goes_to_the_dual_stack_endpoints() {
    let Some(asked) = hosts_asked(REGION, &[("AWS_USE_DUALSTACK_ENDPOINT", "true")]).await else {
        return;
    };
    let host = |service: &str| format!("{service}.us-east-1.api.aws");
    assert_eq!(asked, connects([&host("ssm"), &host("securityhub"), &host("sts")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_china_it_goes_to_china() {
    let Some(asked) = hosts_asked(CHINA, &[]).await else { return };
    let host = |service: &str| format!("{service}.cn-north-1.amazonaws.com.cn");
    assert_eq!(asked, connects([&host("ssm"), &host("securityhub"), &host("sts")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_trusted_only_if_somebody_says_so() {
    let Some(certificates) = Certificates::make() else {
        return skipped("there is no openssl to make certificates with");
    };
    let site = site(802, REGION).await;
    let proxy = Proxy::start(&site.simulator.endpoint_url(), Some(&certificates)).await;
    let site = site.with("HTTPS_PROXY", &proxy.url());
    let mut command = site.command(&["sweep", "--once", "--timeout", "3s"]);
    let refused =
        tokio::task::block_in_place(|| command.env_remove("AWS_ENDPOINT_URL").output().unwrap());
    let said = format!("{}{}", text(&refused.stdout), text(&refused.stderr));
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("certificate") || said.contains("UnknownIssuer"), "{said}");
    assert!(site.control.stats_total().requests.is_empty(), "nothing got through");

    let profile = profile_with(&certificates.ca(), site.path());
    let site = site.with("AWS_CONFIG_FILE", profile.to_str().unwrap());
    succeeded(&tokio::task::block_in_place(|| sweep_aws(&site)));
    site.assert_hub_true();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_t_be_used_as_certificates_or_proxy_is_an_error_that_names_it() {
    let site = site(803, REGION).await;
    let proxy_with_secret = format!("socks5://user:{SECRET}@proxy.example:1080");
    for (name, value, expected) in [
        ("AWS_CA_BUNDLE", "/nonexistent/ca.pem", "/nonexistent/ca.pem"),
        ("AWS_CA_BUNDLE", "/dev/null", "there is no certificate in `/dev/null`"),
        ("HTTPS_PROXY", proxy_with_secret.as_str(), "HTTPS_PROXY isn't the URL of an HTTP proxy"),
    ] {
        let mut command = site.command(&["sweep", "--once"]);
        let output = tokio::task::block_in_place(|| command.env(name, value).output().unwrap());
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains(expected) && !said.contains(SECRET), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vpc_endpoints_are_asked_by_their_names_and_no_proxy_is_honoured() {
    let site = site(804, REGION).await;
    let proxy = Proxy::start(&site.simulator.endpoint_url(), None).await;
    let site = site.with("HTTP_PROXY", &proxy.url());
    let host = |service: &str| format!("vpce-0a1b.{service}.us-east-1.vpce.amazonaws.com");
    let mut command = site.command(&["sweep", "--once"]);
    command.env_remove("AWS_ENDPOINT_URL");
    for (name, service) in [("SSM", "ssm"), ("SECURITYHUB", "securityhub"), ("STS", "sts")] {
        command.env(format!("AWS_ENDPOINT_URL_{name}"), format!("http://{}", host(service)));
    }
    succeeded(&tokio::task::block_in_place(|| command.output().unwrap()));
    site.assert_hub_true();
    let mut expected = ["ssm", "securityhub", "sts"].map(host).to_vec();
    expected.sort();
    assert_eq!(proxy.asked(), expected);

    let before = proxy.asked();
    let site = site.with("NO_PROXY", "127.0.0.1");
    succeeded(&tokio::task::block_in_place(|| site.run(&["sweep", "--once"])));
    assert_eq!(proxy.asked(), before, "the simulator's own address was asked directly");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_down_or_answers_itself_is_waited_for() {
    let site = site(805, REGION).await;
    let proxy = Proxy::start(&site.simulator.endpoint_url(), None).await;
    let with_password = proxy.url().replace("http://", &format!("http://user:{SECRET}@"));
    let site = site.with("HTTP_PROXY", &with_password);
    let daemon = site.start();
    daemon.settle();
    for manner in [Manner::Down, Manner::Answers(407), Manner::Answers(403), Manner::Answers(502)] {
        proxy.set(manner);
        for lane in site.control.lanes() {
            site.control.rescan(&lane, 1.0);
        }
        // Nothing can be read, and that is told.
        let note = |status: &serde_json::Value| status["lanes"][0]["note"].is_string();
        daemon.wait_for_status(&format!("{manner:?} to be told"), note);
        proxy.set(Manner::Forwards);
        daemon.settle();
        site.assert_hub_true();
    }
    let asked_directly = |it: &String| it.starts_with("169.254.");
    assert!(!proxy.asked().iter().any(asked_directly), "{:?}", proxy.asked());
    let (status, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains(SECRET), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_machine_s_metadata_is_never_asked_through_a_proxy() {
    let site = site(806, REGION).await;
    let proxy = Proxy::start(&site.simulator.endpoint_url(), None).await;
    let site = site.with("HTTP_PROXY", &proxy.url());
    // Without any other credentials it asks for those of the instance, which isn't one.
    let mut command = site.command(&["sweep", "--once", "--timeout", "15s"]);
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let (status, log) = Daemon::spawn(command).wait();
    assert_eq!(status.code(), Some(2), "{log}");
    let metadata = |it: &String| it.starts_with("169.254.");
    assert!(!proxy.asked().iter().any(metadata), "{:?}", proxy.asked());
}
