//! The substitution of placeholders keeps its law in any text.

#![no_main]

use libfuzzer_sys::fuzz_target;

// By its path, as it needs nothing else of the engine: so the target is built in seconds.
#[allow(dead_code, unused_imports, reason = "the target uses a part of it")]
#[path = "../../operator/engine/src/sql/mod.rs"]
mod sql;

#[path = "../../operator/engine/src/sql/law.rs"]
mod law;

fuzz_target!(|text: &str| {
    if let Err(broken) = law::check(text) {
        panic!("{broken}");
    }
});
