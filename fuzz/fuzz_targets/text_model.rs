#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| loom_ai::fuzzing::text_model(input));
