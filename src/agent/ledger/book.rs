//! The journal of a deployment and what its records add up to, under one lock for all of its tasks.
//!
//! Invariant: what is read was written and synced before. Not here: the records (`ledger`), the file (`journal`).

use std::{path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{Ledger, Record};
use crate::agent::journal::{Journal, JournalError};

/// Between two looks whether a full disk has room again.
const ROOM_LOOK: Duration = Duration::from_secs(1);

/// A journal and the state of its records, shared by the tasks of a deployment.
#[derive(Debug, Clone)]
pub struct Book(Arc<Mutex<(Journal, Ledger)>>);

impl Book {
    /// Opens a deployment's journal.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let (journal, records) = Journal::open::<Record>(path)?;
        let mut ledger = Ledger::default();
        records.into_iter().for_each(|r| ledger.apply(r));
        Ok(Self(Arc::new(Mutex::new((journal, ledger)))))
    }

    /// Writes a record, fsyncs it and applies it. The caller acts after that. While the disk has no room for it the
    /// caller waits: what runs goes on, and nothing is done that is not written.
    pub async fn write(&self, record: Record) -> Result<(), JournalError> {
        let mut said = false;
        loop {
            match self.try_write(record.clone()).await {
                Err(e @ JournalError::Full { .. }) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::error!("{e}");
                    }
                    tokio::time::sleep(ROOM_LOOK).await;
                }
                other => return other,
            }
        }
    }

    /// Writes a record that may as well be left out, unless room is scarce.
    pub async fn write_if_room(&self, record: Record) -> Result<bool, JournalError> {
        if self.0.lock().0.is_low() {
            return Ok(false);
        }
        match self.try_write(record).await {
            Ok(()) => Ok(true),
            Err(JournalError::Full { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    async fn try_write(&self, record: Record) -> Result<(), JournalError> {
        let book = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            let mut book = book.lock();
            let (journal, ledger) = &mut *book;
            journal.append(&record)?;
            ledger.apply(record);
            if journal.wants_compaction() {
                // The record is written; that the file is long is no reason to end.
                match journal.compact(&[Record::Whole(Box::new(ledger.clone()))]) {
                    Ok(()) => {}
                    Err(e) => tracing::warn!("not made shorter: {e}"),
                }
            }
            Ok(())
        });
        // A task that panicked holds no record back: the journal says what was written.
        done.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
    }

    /// Looks at the state.
    pub fn read<R>(&self, look: impl FnOnce(&Ledger) -> R) -> R {
        look(&self.0.lock().1)
    }
}
