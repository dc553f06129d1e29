//! What a pod says of itself, which the controller reads: its last word, and its counters.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pgexport_api::progress::WorkerProgress;
use pgexport_api::report::Report;

fuzz_target!(|text: &str| {
    let _ = serde_json::from_str::<WorkerProgress>(text);
    if let Some(report) = Report::from_termination_message(text) {
        let written = report.to_termination_message();
        assert!(Report::from_termination_message(&written).is_some(), "it cannot be read again: {written}");
    }
});
