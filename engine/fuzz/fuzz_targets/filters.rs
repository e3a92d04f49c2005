#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| corvoy_fuzz::filters(input));
