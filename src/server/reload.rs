//! Values that are read from files, and read again when the files change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// How often files are compared. Contents are, not times or inodes, because a
/// Kubernetes Secret is changed by swapping a symbolic link far above the file.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// The largest file that is read, in bytes. A CA bundle has about 200 KiB.
pub const MAX_BYTES: u64 = 1024 * 1024;

type Parse<T> = dyn Fn(&[String]) -> Result<T, String> + Send + Sync;

/// A value parsed from the contents of some files.
pub(super) struct Watched<T> {
    files: Arc<[PathBuf]>,
    parse: Box<Parse<T>>,
    current: ArcSwap<T>,
    /// What was last read, usable or not, so that each change is told once.
    seen: Mutex<Result<Vec<String>, String>>,
}

/// Why files could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{files} cannot be used: {why}")]
pub struct OpenError {
    files: String,
    why: String,
}

impl<T: Send + Sync> Watched<T> {
    /// Reads and parses the files.
    pub(super) fn open(
        files: Vec<PathBuf>,
        parse: impl Fn(&[String]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let seen = read(&files);
        let value = seen.clone().and_then(|contents| parse(&contents));
        match value {
            Ok(value) => Ok(Self {
                files: files.into(),
                parse: Box::new(parse),
                current: ArcSwap::from_pointee(value),
                seen: Mutex::new(seen),
            }),
            Err(why) => Err(OpenError {
                files: names(&files),
                why,
            }),
        }
    }

    /// The value now.
    pub(super) fn current(&self) -> arc_swap::Guard<Arc<T>> {
        self.current.load()
    }

    /// Takes what was read: none if it is what was read before. The value
    /// changes only if it can be parsed.
    fn take(&self, read: Result<Vec<String>, String>) -> Option<Result<(), OpenError>> {
        let mut seen = self.seen.lock();
        if *seen == read {
            return None;
        }
        let parsed = match &read {
            Ok(contents) => (self.parse)(contents),
            Err(why) => Err(why.clone()),
        };
        *seen = read;
        Some(match parsed {
            Ok(value) => {
                self.current.store(Arc::new(value));
                Ok(())
            }
            Err(why) => Err(OpenError {
                files: names(&self.files),
                why,
            }),
        })
    }

    /// Compares every [`INTERVAL`] until cancelled; logs each change of `what`
    /// once, and tells it.
    pub(super) async fn watch(
        &self,
        what: &str,
        cancelled: CancellationToken,
        tell: impl Fn(&Result<(), OpenError>),
    ) {
        while cancelled
            .run_until_cancelled(tokio::time::sleep(INTERVAL))
            .await
            .is_some()
        {
            let files = Arc::clone(&self.files);
            let read = tokio::task::spawn_blocking(move || read(&files)).await;
            let read = read.unwrap_or_else(|error| Err(error.to_string()));
            let Some(outcome) = self.take(read) else {
                continue;
            };
            match &outcome {
                Ok(()) => tracing::info!(files = names(&self.files), "{what} changed; in use now"),
                Err(error) => {
                    tracing::error!(%error, "{what} changed and cannot be used; what was read before stays in use")
                }
            }
            tell(&outcome);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The contents are secrets.
        f.debug_struct("Watched")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

fn names(files: &[PathBuf]) -> String {
    let names: Vec<_> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    names.join(", ")
}

fn read(files: &[PathBuf]) -> Result<Vec<String>, String> {
    files
        .iter()
        .map(|file| read_one(file).map_err(|error| format!("{}: {error}", file.display())))
        .collect()
}

fn read_one(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    io::Read::read_to_string(
        &mut io::Read::take(fs::File::open(file)?, MAX_BYTES + 1),
        &mut text,
    )?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!(
            "is larger than {MAX_BYTES} bytes"
        )));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn number(contents: &[String]) -> Result<u32, String> {
        contents
            .concat()
            .trim()
            .parse()
            .map_err(|_| "no number".into())
    }

    #[test]
    fn a_change_is_told_once_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        fs::write(&file, "1").unwrap();
        let files = [file.clone()];
        let watched = Watched::open(files.to_vec(), number).unwrap();
        let look = || watched.take(read(&files));
        assert_eq!(look(), None);
        fs::write(&file, "2").unwrap();
        assert_eq!(look(), Some(Ok(())));
        assert_eq!(look(), None);
        assert_eq!(**watched.current(), 2);
        fs::write(&file, "two").unwrap();
        let error = look().unwrap().unwrap_err().to_string();
        assert!(
            error.contains("number cannot be used: no number"),
            "{error}"
        );
        assert_eq!(look(), None);
        assert_eq!(**watched.current(), 2);
        fs::remove_file(&file).unwrap();
        assert!(look().unwrap().is_err());
        assert_eq!(look(), None);
        fs::write(&file, "3").unwrap();
        assert_eq!(look(), Some(Ok(())));
        assert_eq!(**watched.current(), 3);
    }

    #[test]
    fn what_cannot_be_used_at_the_start_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("none");
        let error = Watched::open(vec![file.clone()], number).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
        fs::write(&file, vec![b'1'; MAX_BYTES as usize + 1]).unwrap();
        let error = Watched::open(vec![file], number).unwrap_err();
        assert!(error.to_string().contains("larger than"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_swapped_link_is_seen() {
        // As the kubelet does it: file → ..data/file, ..data → a new folder.
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, value) in [("v1", "1"), ("v2", "2")] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("number"), value).unwrap();
        }
        symlink("v1", at("..data")).unwrap();
        symlink("..data/number", at("number")).unwrap();
        let watched = Watched::open(vec![at("number")], number).unwrap();
        let (cancelled, told) = (CancellationToken::new(), AtomicUsize::new(0));
        symlink("v2", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        watched
            .watch("the number", cancelled.clone(), |outcome| {
                assert_eq!(*outcome, Ok(()));
                told.fetch_add(1, Ordering::Relaxed);
                cancelled.cancel();
            })
            .await;
        assert_eq!(told.into_inner(), 1);
        assert_eq!(**watched.current(), 2);
    }
}
