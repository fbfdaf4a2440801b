//! The store in a file: an embedded database that one thread writes, and the
//! same records in memory for whoever watches.
//!
//! A write is answered when it is on the disk. Writes that come together are
//! made together, with one commit. Reading the file is done once, at the start.

mod disk;
mod format;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use redb::StorageBackend;
use tokio::sync::{mpsc, oneshot};

use crate::backend::memory::View;
use crate::backend::{Backend, Change, Revision, WatchError, Write, WriteError};

use disk::Disk;
use writer::{Request, Writer};

/// How many requests may wait for the writer; the next one waits to be let in.
/// Four full batches, about 2 MiB.
const QUEUE_BOUND: usize = 4 * writer::BATCH_BOUND;

/// Keeps records in a file.
pub struct File {
    path: PathBuf,
    view: Arc<Mutex<View>>,
    requests: mpsc::Sender<Request>,
    thread: Mutex<Option<Thread>>,
}

/// The writer's thread, which ends when `closing` is dropped.
struct Thread {
    closing: oneshot::Sender<()>,
    handle: JoinHandle<()>,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the store {path:?} cannot be opened: {why}")]
pub struct OpenError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub why: Why,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// The system refused.
    #[error("{0}; check that its folder exists or can be made, is writable and has space")]
    Io(#[from] io::Error),
    /// Locked by somebody else.
    #[error("it is in use by another process; end that one, or choose another file")]
    InUse,
    /// A folder or a device.
    #[error("it is not a regular file; choose another path")]
    NotAFile,
    /// No bytes in it.
    #[error(
        "it is empty, which a store never is; move it away to begin with an empty store, or restore a backup"
    )]
    Empty,
    /// Not written by this program.
    #[error(
        "it is not a store of tunnel-registry, or its beginning is damaged; choose another path, or move it away to begin with an empty store"
    )]
    Foreign,
    /// Written by this program, but not as it is now.
    #[error("it is damaged ({0}); restore a backup, or move it away to begin with an empty store")]
    Damaged(String),
    /// Written by another version of this program.
    #[error(
        "it has format version {0}, and this program knows only version {known}; use the program that wrote it, or move it away to begin with an empty store",
        known = format::CURRENT
    )]
    Version(u64),
}

/// Where the database's bytes are. Tests put in one that fails.
trait Medium: Send + 'static {
    /// What redb reads and writes.
    type Storage: StorageBackend;

    /// The storage, to open a database on; asked for again after a failure.
    fn storage(&self) -> Self::Storage;
}

impl File {
    /// Opens the store at `path`, or makes an empty one, and locks it against
    /// other processes. Reads everything, about half a second for 100,000
    /// records, during which the calling thread waits and the file is in
    /// memory once.
    ///
    /// # Errors
    /// When the file cannot be used. One that is no good store is left as it was.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        Disk::open(path)
            .and_then(|disk| Self::open_with(path, disk))
            .map_err(|why| OpenError {
                path: path.to_owned(),
                why,
            })
    }

    fn open_with(path: &Path, medium: impl Medium) -> Result<Self, Why> {
        let contents = format::load(&medium.storage())?;
        let view = View::new(contents.records, contents.revision);
        let view = Arc::new(Mutex::new(view));
        let writer = Writer::open(path.to_owned(), medium, view.clone())?;
        let (requests, waiting) = mpsc::channel(QUEUE_BOUND);
        let (closing, closed) = oneshot::channel();
        let handle = thread::Builder::new()
            .name("file-store".into())
            .spawn(move || writer.run(waiting, closed))?;
        Ok(Self {
            path: path.to_owned(),
            view,
            requests,
            thread: Mutex::new(Some(Thread { closing, handle })),
        })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the writes that wait, closes the database and gives up the lock;
    /// the calling thread waits for it. Later writes are answered
    /// [`WriteError::Unavailable`]. Dropping the store does the same.
    pub fn close(&self) {
        let Some(Thread { closing, handle }) = self.thread.lock().take() else {
            return;
        };
        drop(closing);
        if handle.join().is_err() {
            tracing::error!(path = ?self.path, "the store's writer had failed before it was closed");
        }
    }

    /// Hands a request to the writer and waits for its answer.
    fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, WriteError>>) -> Request + Send + 'static,
    ) -> BoxFuture<'static, Result<T, WriteError>> {
        let requests = self.requests.clone();
        Box::pin(async move {
            let gone =
                || WriteError::Unavailable("the file store has ended; restart the registry".into());
            let (answer, answered) = oneshot::channel();
            requests.send(request(answer)).await.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({:?})", self.path)
    }
}

impl Backend for File {
    fn write(&self, write: Write) -> BoxFuture<'static, Result<Revision, WriteError>> {
        self.ask(|answer| Request::Write(write, answer))
    }

    fn watch(&self) -> BoxStream<'static, Result<Change, WatchError>> {
        self.view.lock().watch()
    }

    fn ping(&self) -> BoxFuture<'static, Result<(), WriteError>> {
        self.ask(Request::Ping)
    }

    fn ended(&self) -> BoxFuture<'static, String> {
        let (requests, path) = (self.requests.clone(), self.path.clone());
        Box::pin(async move {
            // redb panics on a damaged page, and its thread is gone.
            requests.closed().await;
            format!("{path:?} has a damaged page, most likely; the next start checks it")
        })
    }
}
