//! What is read back from a bucket that others may write to as well: plan, sidecars, bodies, and what is at the location
//! already. Whatever somebody makes of these, a transfer ends in a delivery that is what its manifest says or in an error, a
//! cleanup ends, and neither leaves the two folders that are theirs.

#![no_main]

mod edit;
mod world;

use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    if let Ok(case) = world::Case::read(&mut input) {
        case.check();
    }
});
