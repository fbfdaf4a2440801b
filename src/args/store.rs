//! Where registrations are kept.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use directories::ProjectDirs;

/// Where registrations are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// Nowhere beyond the process.
    Memory,
    /// In a file of the embedded database.
    File(PathBuf),
    /// As custom resources of Kubernetes.
    Kubernetes,
}

/// The name of the file in the platform's data folder.
const FILE: &str = "registry.redb";

impl Store {
    /// The store that is used when none is named: a file in the platform's data
    /// folder, because gost never registers twice and memory forgets.
    ///
    /// # Errors
    /// When the user has no home folder.
    pub fn usual() -> Result<Self, NoDataFolder> {
        let folders = ProjectDirs::from("", "", env!("CARGO_PKG_NAME"));
        Self::in_folder(folders.as_ref().map(ProjectDirs::data_local_dir))
    }

    fn in_folder(folder: Option<&Path>) -> Result<Self, NoDataFolder> {
        folder
            .map(|folder| Self::File(folder.join(FILE)))
            .ok_or(NoDataFolder)
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Kubernetes => f.write_str("kubernetes"),
        }
    }
}

/// There is no folder for the file of [`Store::usual`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no home folder to keep registrations in; name a file with --store file:PATH, or use --store memory, which forgets when it stops"
)]
pub struct NoDataFolder;

/// Why a text names no store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// `file:` and nothing else.
    #[error("names no file; write file:PATH, such as file:/var/lib/tunnel-registry/registry.redb")]
    NoPath,
    /// `file://host/path`.
    #[error("names a file on another host; write file:PATH")]
    Host,
    /// A store that this version does not have.
    #[error("this version has no {0} store; it has file:PATH, memory and kubernetes")]
    NotHere(&'static str),
    /// Anything else.
    #[error("is no store; use file:PATH, memory or kubernetes")]
    Unknown,
}

impl FromStr for Store {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (text, None),
        };
        match (kind, rest) {
            ("memory", None) => Ok(Self::Memory),
            ("file", None | Some("" | "//")) => Err(StoreError::NoPath),
            // As a URL (RFC 8089): an absolute path after an empty host.
            ("file", Some(rest)) => match rest.strip_prefix("//") {
                None => Ok(Self::File(rest.into())),
                Some(path) if path.starts_with('/') => Ok(Self::File(path.into())),
                Some(_) => Err(StoreError::Host),
            },
            ("kubernetes", None) => Ok(Self::Kubernetes),
            ("etcd", _) => Err(StoreError::NotHere("etcd")),
            _ => Err(StoreError::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_named() {
        let file = |path: &str| Ok(Store::File(path.into()));
        for (text, store) in [
            ("memory", Ok(Store::Memory)),
            ("file:/var/lib/r.redb", file("/var/lib/r.redb")),
            ("file:r.redb", file("r.redb")),
            ("file:a:b", file("a:b")),
            ("file:///var/r.redb", file("/var/r.redb")),
            ("file://host/r.redb", Err(StoreError::Host)),
            ("file:", Err(StoreError::NoPath)),
            ("file", Err(StoreError::NoPath)),
            ("file://", Err(StoreError::NoPath)),
            ("memory:", Err(StoreError::Unknown)),
            ("kubernetes", Ok(Store::Kubernetes)),
            ("kubernetes:x", Err(StoreError::Unknown)),
            ("etcd:http://etcd:2379", Err(StoreError::NotHere("etcd"))),
            ("", Err(StoreError::Unknown)),
            ("redis", Err(StoreError::Unknown)),
        ] {
            assert_eq!(text.parse(), store, "{text:?}");
        }
    }

    #[test]
    fn a_store_prints_as_it_is_given() {
        for text in ["memory", "file:/var/lib/r.redb", "kubernetes"] {
            assert_eq!(text.parse::<Store>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_usual_store_is_a_file_in_the_data_folder() {
        let folder = Path::new("/home/u/.local/share/tunnel-registry");
        assert_eq!(
            Store::in_folder(Some(folder)),
            Ok(Store::File(folder.join("registry.redb")))
        );
        let error = Store::in_folder(None).unwrap_err().to_string();
        assert!(error.contains("--store file:PATH"), "{error}");
    }
}
