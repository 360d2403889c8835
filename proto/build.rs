//! Generates the wire types with protox, so that no protoc has to be installed.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "firebreak/v1/messages.proto",
        "firebreak/v1/changes.proto",
        "firebreak/v1/tenants.proto",
        "firebreak/v1/admin.proto",
        "firebreak/v1/recorder.proto",
        "firebreak/v1/faults.proto",
        "firebreak/v1/drills.proto",
        "firebreak/v1/access.proto",
        "firebreak/node/v1/peer.proto",
        "firebreak/node/v1/quotas.proto",
    ];
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(
        out.join("firebreak.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    recorded(tonic_prost_build::configure())
        .bytes(".")
        .btree_map(".")
        // Bounded while it is decoded.
        .extern_path(".firebreak.node.v1.Frames", "crate::frames::Frames")
        .compile_fds(descriptors)?;
    Ok(())
}

/// What the flight recorder keeps is in documents for people, too. A message says there only what differs
/// from its default, and does not mind what a later version adds.
const RECORDED: [&str; 27] = [
    "StartedRecord",
    "StopRecord",
    "ClusterRecord",
    "RecordedNode",
    "RecordedShard",
    "RecordedTuning",
    "SecondRecord",
    "ShardSecond",
    "AskedSecond",
    "LinksRecord",
    "RecordedLink",
    "StoodRecord",
    "RefusalRecord",
    "RoomRecord",
    "ReplicaRecord",
    "VoteRecord",
    "LedRecord",
    "ElectionRecord",
    "HandOverRecord",
    "VerdictRecord",
    "StallRecord",
    "ClockRecord",
    "MoveRecord",
    "DrainRecord",
    "SnapshotRecord",
    "QuorumRecord",
    "FaultRecord",
];

fn recorded(mut builder: tonic_prost_build::Builder) -> tonic_prost_build::Builder {
    let derive = "#[derive(serde::Serialize, serde::Deserialize)]";
    let message = format!("{derive} #[serde(default)]");
    for name in RECORDED {
        let path = format!(".firebreak.v1.{name}");
        let skip = "#[serde(skip_serializing_if = \"crate::is_default\")]";
        builder = builder
            .type_attribute(&path, &message)
            .field_attribute(&path, skip);
    }
    builder
        .message_attribute(".firebreak.v1.Record", &message)
        .enum_attribute(".firebreak.v1.Record.what", derive)
        .enum_attribute(
            ".firebreak.v1.Record.what",
            "#[serde(rename_all = \"snake_case\")]",
        )
}
