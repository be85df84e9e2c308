//! A line that is handed in: let in, or refused in one short line that can't steer a terminal.

#![no_main]

use libfuzzer_sys::fuzz_target;
use patchferry_fuzz::door;

fuzz_target!(|line: &str| {
    if let Err(refusal) = door::read(line) {
        let said = refusal.to_string();
        assert!(said.chars().count() <= 500 && !said.contains(char::is_control), "{said:?}");
    }
});
