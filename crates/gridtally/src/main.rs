//! The thin entry: parse the command line, run it, report the error.

fn main() {}
