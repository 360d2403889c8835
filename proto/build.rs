//! Generates the wire types with protox, so that no protoc has to be installed.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "firebreak/v1/messages.proto",
        "firebreak/v1/admin.proto",
        "firebreak/v1/recorder.proto",
        "firebreak/node/v1/peer.proto",
    ];
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(
        out.join("firebreak.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        // Bounded while it is decoded.
        .extern_path(".firebreak.node.v1.Frames", "crate::frames::Frames")
        .compile_fds(descriptors)?;
    Ok(())
}
