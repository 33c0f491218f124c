//! Packs the texts that the agent serves now and then, but carries always.

use std::path::Path;
use std::{env, fs};

/// The hardest that deflate can be asked to try.
const LEVEL: u8 = 10;

fn main() {
    let to = env::var_os("OUT_DIR").expect("cargo names it");
    for name in ["openapi.json", "page.html"] {
        let from = Path::new("src/api").join(name);
        println!("cargo::rerun-if-changed={}", from.display());
        let text = fs::read(from).expect("it is part of the source");
        let packed = miniz_oxide::deflate::compress_to_vec(&text, LEVEL);
        fs::write(Path::new(&to).join(name), packed).expect("cargo's folder can be written");
    }
    println!("cargo::rerun-if-changed=src/build.rs");
}
