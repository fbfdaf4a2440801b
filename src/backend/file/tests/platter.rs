//! A disk with a page cache that fails when it is told to.

use std::io::{Error, ErrorKind};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

use crate::backend::file::{Medium, format};

/// The unit that a disk writes wholly or not at all.
const SECTOR: usize = 512;

/// What goes wrong, counted in operations that change the disk: writes,
/// changes of length, syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// From this operation on, everything fails.
    PowerCut(usize),
    /// From this operation on, nothing can be written until it is mended.
    Full(usize),
    /// The first sync from this operation on fails, and so does each until it
    /// is mended. The system takes what was to be synced for written.
    Sync(usize),
}

#[derive(Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

#[derive(Debug, Default)]
struct State {
    /// What reading finds.
    cache: Vec<u8>,
    /// What is certain to outlive a power cut.
    durable: Vec<u8>,
    /// What may or may not.
    unsynced: Vec<Change>,
    operations: usize,
    fault: Option<Fault>,
}

/// The disk. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Platter(Arc<Mutex<State>>);

impl Platter {
    /// A disk with an empty store on it.
    pub fn initialised() -> Self {
        let platter = Self::default();
        format::initialise(platter.clone()).unwrap();
        platter.0.lock().operations = 0;
        platter
    }

    /// A disk that holds these bytes.
    pub fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State {
            cache: bytes.clone(),
            durable: bytes,
            ..State::default()
        })))
    }

    /// What reading finds.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().cache.clone()
    }

    /// How many changing operations there were.
    pub fn operations(&self) -> usize {
        self.0.lock().operations
    }

    /// Has something go wrong.
    pub fn break_with(&self, fault: Fault) {
        self.0.lock().fault = Some(fault);
    }

    /// Puts it right again.
    pub fn mend(&self) {
        self.0.lock().fault = None;
    }

    /// Lets nobody use it while the guard lives.
    pub fn stall(&self) -> impl Drop + '_ {
        self.0.lock()
    }

    /// What is on the disk after a power cut: all that was synced, and of the
    /// rest each sector that `kept` says. Lengths are kept in their order.
    pub fn after_power_cut(&self, mut kept: impl FnMut() -> bool) -> Self {
        let state = self.0.lock();
        let mut bytes = state.durable.clone();
        let mut lengths = true;
        for change in &state.unsynced {
            match change {
                Change::Length(len) => {
                    lengths &= kept();
                    if lengths {
                        bytes.resize(*len, 0);
                    }
                }
                Change::Write(at, data) => {
                    for (piece, data) in data.chunks(SECTOR).enumerate() {
                        let at = at + piece * SECTOR;
                        if kept() && at + data.len() <= bytes.len() {
                            bytes[at..at + data.len()].copy_from_slice(data);
                        }
                    }
                }
            }
        }
        Self::holding(bytes)
    }
}

impl State {
    fn change(&mut self, is_sync: bool) -> Result<(), Error> {
        let now = self.operations;
        self.operations += 1;
        match self.fault {
            Some(Fault::PowerCut(at)) if now >= at => Err(Error::other("the power is cut")),
            Some(Fault::Full(at)) if now >= at && !is_sync => Err(ErrorKind::StorageFull.into()),
            Some(Fault::Sync(at)) if now >= at && is_sync => {
                self.unsynced.clear();
                Err(Error::other("the disk is worn out"))
            }
            _ => Ok(()),
        }
    }
}

impl Medium for Platter {
    type Storage = Self;

    fn storage(&self) -> Self {
        self.clone()
    }
}

impl StorageBackend for Platter {
    fn len(&self) -> Result<u64, Error> {
        Ok(self.0.lock().cache.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let state = self.0.lock();
        if matches!(state.fault, Some(Fault::PowerCut(at)) if state.operations > at) {
            return Err(Error::other("the power is cut"));
        }
        let at = usize::try_from(offset).unwrap();
        let found = state.cache.get(at..at + out.len());
        out.copy_from_slice(found.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        let mut state = self.0.lock();
        state.change(false)?;
        let len = usize::try_from(len).unwrap();
        state.cache.resize(len, 0);
        state.unsynced.push(Change::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        let mut state = self.0.lock();
        state.change(true)?;
        let State {
            durable, unsynced, ..
        } = &mut *state;
        for change in unsynced.drain(..) {
            match change {
                Change::Length(len) => durable.resize(len, 0),
                Change::Write(at, data) => {
                    // After a failed sync the disk may be shorter than reading tells.
                    let end = at + data.len();
                    if durable.len() < end {
                        durable.resize(end, 0);
                    }
                    durable[at..end].copy_from_slice(&data);
                }
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut state = self.0.lock();
        state.change(false)?;
        let at = usize::try_from(offset).unwrap();
        let end = at + data.len();
        let place = state.cache.get_mut(at..end);
        place.ok_or(ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        state.unsynced.push(Change::Write(at, data.to_vec()));
        Ok(())
    }
}
