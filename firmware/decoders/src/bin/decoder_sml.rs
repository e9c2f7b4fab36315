//! With the decoder of SML.
#![no_std]
#![no_main]

firmware_decoders::program!(firmware_decoders::sml());
