//! Parses the command line and runs; nothing else.

fn main() {}
