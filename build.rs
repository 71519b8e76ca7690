//! Compiles the public contract (`proto/`) with a protobuf compiler written in Rust, so that no `protoc` need be
//! installed.

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = [
        "common",
        "cluster",
        "catalog",
        "rollouts",
        "traffic",
        "events",
        "artifacts",
        "workers",
        "peer",
        "maintenance",
    ]
    .map(|name| format!("proto/slipway/v1/{name}.proto"));
    let set = protox::compile(&files, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("slipway_descriptor.bin"), set.encode_to_vec())?;
    tonic_prost_build::configure()
        .type_attribute(".", "#[derive(serde::Serialize)]")
        // What -o json prints is held against these (src/cli/tests).
        .type_attribute(".", "#[cfg_attr(test, derive(schemars::JsonSchema))]")
        .btree_map(".")
        .compile_fds(set)?;
    Ok(())
}
