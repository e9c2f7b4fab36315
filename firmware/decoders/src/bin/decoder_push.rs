//! With the decoder of DLMS push.
#![no_std]
#![no_main]

firmware_decoders::program!(firmware_decoders::push());
