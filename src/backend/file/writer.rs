//! The thread that owns the database.

use std::io;
use std::iter;
use std::path::PathBuf;
use std::sync::Arc;

use futures::executor::block_on;
use parking_lot::Mutex;
use redb::Database;
use tokio::sync::{mpsc, oneshot};

use super::{Medium, format};
use crate::backend::memory::{Edit, View, decide};
use crate::backend::{Revision, Write, WriteError};
use crate::map::Map;
use crate::record::Key;

/// The most requests that one commit makes. Bounds how long the first of them
/// waits: about 20 ms of work on a small machine.
pub(super) const BATCH_BOUND: usize = 1_024;

/// What the writer is asked to do, and where it answers. Nobody may be waiting
/// for the answer any more; the work is done all the same.
pub(super) enum Request {
    /// Make a write.
    Write(Write, oneshot::Sender<Result<Revision, WriteError>>),
    /// Say whether writes can be made.
    Ping(oneshot::Sender<Result<(), WriteError>>),
}

/// Edits that are decided on and not committed yet.
#[derive(Default)]
struct Plan {
    edits: Vec<Edit>,
    /// The last edit of each key, by its place in `edits`.
    last: Map<Key, usize>,
}

impl Plan {
    /// Decides on a write after those planned before it.
    fn add(&mut self, view: &View, write: Write) -> Result<Revision, WriteError> {
        let key = write.key();
        let planned = self.last.get(&key).map(|at| self.edits[*at].stored());
        let current = match &planned {
            Some(planned) => planned.as_ref(),
            None => view.get(&key),
        };
        let revision = self.edits.last().map_or(view.revision(), |e| e.revision);
        let next = Revision(revision.0 + 1);
        let Some(edit) = decide(current, write, next)? else {
            return Ok(revision);
        };
        self.last.insert(key, self.edits.len());
        self.edits.push(edit);
        Ok(next)
    }
}

/// Makes writes in the database and tells the view.
pub(super) struct Writer<M> {
    path: PathBuf,
    medium: M,
    view: Arc<Mutex<View>>,
    /// None after a failure: redb takes no more writes until it is opened again.
    database: Option<Database>,
    /// The edits of a commit that failed. It may have reached the disk
    /// nevertheless, which is known when the database is open again.
    doubtful: Vec<Edit>,
}

impl<M: Medium> Writer<M> {
    /// Opens the database, of which `view` is what was read.
    pub fn open(path: PathBuf, medium: M, view: Arc<Mutex<View>>) -> Result<Self, redb::Error> {
        let mut writer = Self {
            path,
            medium,
            view,
            database: None,
            doubtful: Vec::new(),
        };
        writer.database()?;
        Ok(writer)
    }

    /// Does what is asked until `closing` is dropped, then what still waits.
    pub fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut closing: oneshot::Receiver<()>,
    ) {
        let mut batch = Vec::new();
        while block_on(async {
            tokio::select! {
                count = requests.recv_many(&mut batch, BATCH_BOUND) => count > 0,
                _ = &mut closing => false,
            }
        }) {
            self.serve(batch.drain(..));
        }
        requests.close();
        // Those let in already may not be waited for: they need not come.
        loop {
            let waiting = iter::from_fn(|| requests.try_recv().ok());
            batch.extend(waiting.take(BATCH_BOUND));
            if batch.is_empty() {
                return;
            }
            self.serve(batch.drain(..));
        }
    }

    /// Serves requests with at most one commit.
    fn serve(&mut self, requests: impl Iterator<Item = Request>) {
        let mut pings = Vec::new();
        let mut writes = Vec::new();
        for request in requests {
            match request {
                Request::Write(write, answer) => writes.push((write, answer)),
                Request::Ping(answer) => pings.push(answer),
            }
        }
        let (writes, answers): (Vec<_>, Vec<_>) = writes.into_iter().unzip();
        // A send fails when the asker has gone away.
        match self.write(writes) {
            Ok(results) => {
                for (answer, result) in answers.into_iter().zip(results) {
                    let _ = answer.send(result);
                }
                for answer in pings {
                    let _ = answer.send(Ok(()));
                }
            }
            Err(error) => {
                let error = self.unavailable(&error);
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
                for answer in pings {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Makes writes: those whose conditions hold, all together or none.
    fn write(
        &mut self,
        writes: Vec<Write>,
    ) -> Result<Vec<Result<Revision, WriteError>>, redb::Error> {
        self.database()?;
        let mut plan = Plan::default();
        let results = {
            let view = self.view.lock();
            let decided = writes.into_iter().map(|write| plan.add(&view, write));
            decided.collect()
        };
        if !plan.edits.is_empty() {
            let committed = format::commit(self.database()?, &plan.edits);
            self.doubtful = plan.edits;
            if let Err(error) = committed {
                self.database = None;
                return Err(error);
            }
            self.settle();
        }
        Ok(results)
    }

    /// The database, opened again if it had failed.
    fn database(&mut self) -> Result<&Database, redb::Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => {
                let database = format::open(self.medium.storage())?;
                let on_disk = format::revision(&database)?;
                let doubtful = self.doubtful.last().map(|edit| edit.revision);
                if Some(on_disk) == doubtful {
                    self.settle();
                } else if on_disk == self.view.lock().revision() {
                    self.doubtful.clear();
                } else {
                    let text = "somebody else changed the file; restart the registry";
                    return Err(redb::Error::Corrupted(text.into()));
                }
                database
            }
        };
        Ok(self.database.insert(database))
    }

    /// Tells the view that the last edits are on the disk.
    fn settle(&mut self) {
        let mut view = self.view.lock();
        for edit in self.doubtful.drain(..) {
            view.apply(edit);
        }
    }

    /// What is answered when the database has failed.
    fn unavailable(&self, error: &redb::Error) -> WriteError {
        let path = &self.path;
        let mend = match error {
            redb::Error::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                "free space on its disk"
            }
            _ => "check its disk",
        };
        WriteError::Unavailable(format!("{path:?}: {error}; {mend}"))
    }
}
