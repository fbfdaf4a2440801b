//! Where registrations are kept.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use directories::ProjectDirs;

use crate::backend::etcd::{Url, UrlError};

/// Where registrations are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// Nowhere beyond the process.
    Memory,
    /// In a file of the embedded database.
    File(PathBuf),
    /// As custom resources of Kubernetes.
    Kubernetes,
    /// As keys of an etcd, of which these are the members, or some of them.
    Etcd(Vec<Url>),
}

/// The name of the file in the platform's data folder.
const FILE: &str = "registry.redb";
/// The most members of etcd that are named; a cluster has seldom more than seven.
const MAX_MEMBERS: usize = 32;

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
            Self::Etcd(urls) => {
                let urls: Vec<_> = urls.iter().map(Url::to_string).collect();
                write!(f, "etcd:{}", urls.join(","))
            }
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
    /// `etcd:` and nothing else.
    #[error("names no member of etcd; write etcd:URL, such as etcd:http://127.0.0.1:2379")]
    NoUrl,
    /// What is no URL of etcd.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Some with TLS, some without.
    #[error("has http:// and https:// URLs; all members are reached in the same way")]
    Mixed,
    /// One is named more than once.
    #[error("names {0} more than once")]
    Twice(String),
    /// More than there may be.
    #[error("names {0} members of etcd; {MAX_MEMBERS} are enough")]
    Members(usize),
    /// Anything else.
    #[error("is no store; use file:PATH, memory, kubernetes or etcd:URL[,URL…]")]
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
            ("etcd", None | Some("")) => Err(StoreError::NoUrl),
            ("etcd", Some(rest)) => members(rest).map(Self::Etcd),
            _ => Err(StoreError::Unknown),
        }
    }
}

fn members(text: &str) -> Result<Vec<Url>, StoreError> {
    let mut urls: Vec<Url> = Vec::new();
    for text in text.split(',') {
        let url: Url = text.parse()?;
        if urls.iter().any(|known| known.is_https() != url.is_https()) {
            return Err(StoreError::Mixed);
        }
        if urls
            .iter()
            .any(|known| known.authority() == url.authority())
        {
            return Err(StoreError::Twice(url.to_string()));
        }
        urls.push(url);
    }
    match urls.len() {
        ..=MAX_MEMBERS => Ok(urls),
        many => Err(StoreError::Members(many)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_named() {
        let file = |path: &str| Ok(Store::File(path.into()));
        let etcd = |urls: &[&str]| {
            let urls = urls.iter().map(|url| url.parse().unwrap());
            Ok(Store::Etcd(urls.collect()))
        };
        let many: Vec<_> = (0..=MAX_MEMBERS).map(|n| format!("http://m{n}")).collect();
        let many = format!("etcd:{}", many.join(","));
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
            (
                "etcd:http://a:1,http://b",
                etcd(&["http://a:1", "http://b"]),
            ),
            ("etcd:https://[::1]:2379", etcd(&["https://[::1]:2379"])),
            ("etcd", Err(StoreError::NoUrl)),
            ("etcd:", Err(StoreError::NoUrl)),
            ("etcd:http://a,https://b", Err(StoreError::Mixed)),
            (
                "etcd:http://a,http://a:2379",
                Err(StoreError::Twice("http://a:2379".into())),
            ),
            (&many, Err(StoreError::Members(MAX_MEMBERS + 1))),
            ("", Err(StoreError::Unknown)),
            ("redis", Err(StoreError::Unknown)),
        ] {
            assert_eq!(text.parse(), store, "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_told() {
        for text in [
            "etcd:a:2379",
            "etcd:http://a,",
            "etcd:http://u:p@a",
            "etcd://a",
        ] {
            let error = text.parse::<Store>().unwrap_err().to_string();
            assert!(error.contains("https://etcd-0.example.com:2379"), "{error}");
        }
    }

    #[test]
    fn a_store_prints_as_it_is_given() {
        for text in [
            "memory",
            "file:/var/lib/r.redb",
            "kubernetes",
            "etcd:http://a:1,http://b",
        ] {
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
