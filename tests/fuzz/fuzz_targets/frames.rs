#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| firebreak_decoders::run("frames", data));
