//! Without a decoder: what a program takes anyway.
#![no_std]
#![no_main]

firmware_decoders::program!(0);
