//! What it won't begin with, and what it says then: exit code, cause, advice; nothing touched.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use patchferry::store::FORMAT_VERSION;

use super::{one_lane, space::Tmpfs, walk};
use crate::harness::child::{EAGER, Site, skipped, text};

/// A user that isn't us.
const STRANGER_UID: u32 = 61_234;

fn i_am_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_configuration_exits_64_with_file_and_line() {
    let site = Site::new(one_lane(1, 1), Some("[ingest]\n\npol_interval = \"1s\"\n")).await;
    for command in [["run"].as_slice(), &["status"], &["config", "check"], &["dead", "list"]] {
        let output = site.run(command);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{command:?}: {said}");
        let place = format!("{}:3:", site.config_path().display());
        assert!(said.contains(&place) && said.contains("ingest.poll_interval"), "{said}");
    }
    site.configure("[ingest\n");
    let output = site.run(&["run"]);
    assert_eq!(output.status.code(), Some(64), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("patchferry.toml:1"), "{}", text(&output.stderr));
    assert!(!site.state_dir().exists(), "nothing was begun");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_out_of_reach_exits_69() {
    // Bound and closed again: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let site = Site::new(one_lane(2, 1), Some(EAGER)).await.with("AWS_ENDPOINT_URL", &endpoint);
    let output = site.run(&["run"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("own account and Region"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_in_use_exits_69_and_names_the_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let site =
        Site::new(one_lane(3, 1), Some(EAGER)).await.with("PATCHFERRY_HTTP__LISTEN", &address);
    let output = site.run(&["run"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains(&address) && said.contains("http.listen"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_directory_that_can_not_be_written_is_refused_with_advice() {
    let site = Site::new(one_lane(4, 1), Some(EAGER)).await;
    fs::create_dir(site.state_dir()).unwrap();
    let mounted = if i_am_root() {
        match Tmpfs::mount(&site.state_dir(), "1m", true) {
            Some(mounted) => Some(mounted),
            None => return skipped("no read-only file system can be mounted here"),
        }
    } else {
        fs::set_permissions(site.state_dir(), fs::Permissions::from_mode(0o500)).unwrap();
        None
    };
    for command in [["run"].as_slice(), &["status"]] {
        let output = site.run(command);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(73), "{command:?}: {said}");
        assert!(said.contains("--state-dir"), "{said}");
        assert!(said.contains(&site.state_dir().display().to_string()), "{said}");
    }
    drop(mounted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offline_commands_refuse_a_state_that_belongs_to_another_user() {
    if !i_am_root() {
        return skipped("only root can give a directory away");
    }
    let site = Site::new(one_lane(5, 5), Some(EAGER)).await;
    let daemon = site.start();
    daemon.settle();
    super::exits_with_zero(daemon);
    std::os::unix::fs::chown(site.state_dir(), Some(STRANGER_UID), None).unwrap();
    let before = contents(&site.state_dir());
    for command in [
        ["status"].as_slice(),
        &["status", "--json"],
        &["dead", "list"],
        &["dead", "redrive", "--yes"],
        &["dead", "drop", "--yes"],
        &["pause"],
        &["receipt", "i-00000001"],
    ] {
        let output = site.run(command);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(77), "{command:?}: {said}");
        assert!(said.contains(&STRANGER_UID.to_string()), "{said}");
    }
    assert_eq!(contents(&site.state_dir()), before, "nothing was touched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_store_is_refused_and_not_touched() {
    let site = Site::new(one_lane(6, 20), Some(EAGER)).await;
    let daemon = site.start();
    daemon.settle();
    super::exits_with_zero(daemon);
    let current = site.state_dir().join("CURRENT");
    let ours = fs::read(&current).unwrap();
    let newer = FORMAT_VERSION.0 + 1;
    fs::write(&current, format!("store-1\nformat {newer}\n")).unwrap();
    let before = contents(&site.state_dir());
    for command in [["run"].as_slice(), &["status"], &["store", "verify"]] {
        let output = site.run(command);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(73), "{command:?}: {said}");
        let format = format!("format {newer}");
        assert!(said.contains(&format) && said.contains("install the newer"), "{said}");
    }
    assert_eq!(contents(&site.state_dir()), before, "not one byte was touched");

    fs::write(&current, ours).unwrap();
    let daemon = site.start();
    daemon.settle();
    super::assert_true(&site);
    super::exits_with_zero(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_current_file_that_makes_no_sense_is_told_of_and_the_store_is_found_without_it() {
    let site = Site::new(one_lane(7, 5), Some(EAGER)).await;
    fs::create_dir(site.state_dir()).unwrap();
    let current = site.state_dir().join("CURRENT");
    fs::write(&current, "elsewhere\n").unwrap();
    let daemon = site.start();
    assert!(daemon.log().contains("CURRENT is damaged and there is no store"), "{}", daemon.log());
    daemon.settle();
    super::exits_with_zero(daemon);
    let accounting = site.status()["accounting"].clone();

    let ours = fs::read_to_string(&current).unwrap();
    for lost in [Some("elsewhere\n"), Some(""), None] {
        match lost {
            Some(text) => fs::write(&current, text).unwrap(),
            None => fs::remove_file(&current).unwrap(),
        }
        assert_eq!(site.status()["accounting"], accounting, "{lost:?}");
        assert_eq!(fs::read_to_string(&current).unwrap(), ours, "it is written anew");
    }
    fs::write(&current, "elsewhere\n").unwrap();
    let daemon = site.start();
    assert!(daemon.log().contains("the latest store is taken"), "{}", daemon.log());
    daemon.settle();
    super::assert_true(&site);
    super::exits_with_zero(daemon);
}

/// Length, time of last change and bytes of every file of a state but its lock.
fn contents(state_dir: &Path) -> BTreeMap<PathBuf, (i64, Vec<u8>)> {
    let mut contents = BTreeMap::new();
    walk(state_dir, &mut |path| {
        let is_lock = path.file_name().is_some_and(|name| name == "lock");
        if path.is_file() && !is_lock {
            let changed_at = fs::metadata(path).unwrap().mtime_nsec();
            // The reserve is 64 MiB of nothing.
            let is_reserve = path.file_name().is_some_and(|name| name == "reserve");
            let bytes = if is_reserve { Vec::new() } else { fs::read(path).unwrap() };
            contents.insert(path.to_path_buf(), (changed_at, bytes));
        }
    });
    contents
}
