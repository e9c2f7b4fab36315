//! With all three decoders.
#![no_std]
#![no_main]

firmware_decoders::program!(firmware_decoders::p1() + firmware_decoders::sml() + firmware_decoders::push());
