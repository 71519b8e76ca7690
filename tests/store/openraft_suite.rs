//! openraft's own suite of storage tests on the real adapters: RocksDB log, real state machine, real snapshot files.

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use slipway::{
    raft::testing::{LogStore, Machine, TypeConfig},
    storage::DataDir,
};
use tempfile::TempDir;

struct Fresh;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Fresh {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = DataDir::open(dir.path()).expect("a fresh data directory");
        let (log, machine) = (LogStore::new(data.log().clone()), Machine::new(data.snapshots().clone()));
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_adapters_pass_openrafts_suite() {
    Suite::test_all(Fresh).await.expect("openraft's suite passes");
}
