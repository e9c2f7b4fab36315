//! With the decoder of P1.
#![no_std]
#![no_main]

firmware_decoders::program!(firmware_decoders::p1());
