//! The file that a store is kept in: finding, making and locking it.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::StorageBackend;

use super::format;
use super::{Medium, Why};

/// Nobody but the owner: records tell where every tunnel is reached.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// A file, locked against every other process for as long as this lives. The
/// database gets the same open file each time it is opened, without redb's own
/// lock, which it would give back whenever the database is closed.
#[derive(Clone)]
pub(super) struct Disk {
    file: Arc<fs::File>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

impl Disk {
    /// Opens the file at `path`; makes an empty store there if nothing is.
    pub fn open(path: &Path) -> Result<Self, Why> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::create(path),
            Err(error) => return Err(error.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(Why::NotAFile);
        }
        lock(&file)?;
        Ok(Self::new(file))
    }

    /// Makes an empty store. It is made under another name, and gets its own
    /// when it is complete and on the disk, so that a process killed at any
    /// moment leaves a whole store at `path` or none.
    fn create(path: &Path) -> Result<Self, Why> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        create_folder(folder)?;
        let draft = draft(path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            // A draft that another process works on must survive until the lock is had.
            .truncate(false)
            .mode(FILE_MODE)
            .open(&draft)?;
        lock(&file)?;
        // Between the first look and the lock, another process may have made it.
        if path.try_exists()? {
            return Err(Why::InUse);
        }
        file.set_len(0)?;
        file.set_permissions(fs::Permissions::from_mode(FILE_MODE))?;
        let disk = Self::new(file);
        format::initialise(disk.clone())?;
        disk.file.sync_all()?;
        fs::rename(&draft, path)?;
        sync_folder(folder)?;
        Ok(disk)
    }

    fn new(file: fs::File) -> Self {
        Self {
            file: Arc::new(file),
        }
    }
}

/// The name under which a store is made: `registry.redb.new`.
fn draft(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn lock(file: &fs::File) -> Result<(), Why> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => Why::InUse,
        TryLockError::Error(error) => error.into(),
    })
}

/// Makes a folder and those above it, so that they outlive a power cut.
fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.try_exists()? {
        return Ok(());
    }
    let above = match folder.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    create_folder(above)?;
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| sync_folder(above)),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

impl Medium for Disk {
    type Storage = Self;

    fn storage(&self) -> Self {
        self.clone()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }
}
