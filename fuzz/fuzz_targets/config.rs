//! A configuration file: read, or what is wrong is said.

#![no_main]

use std::{collections::BTreeMap, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use patchferry_fuzz::config::{Config, LoadOptions};

static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
    std::env::temp_dir().join(format!("patchferry-fuzz-{}.toml", std::process::id()))
});

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&*PATH, bytes).expect("a temporary file");
    let environment = BTreeMap::from([("HOME".to_string(), "/home/op".into())]);
    let options =
        LoadOptions { config: Some(PATH.clone()), environment, ..LoadOptions::default() };
    match Config::load(&options) {
        Ok(config) => assert!(!config.show().is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
