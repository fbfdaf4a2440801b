//! What `export` and `import` are told.

use std::path::PathBuf;
use std::time::Duration;

use crate::args::kubernetes::Place;
use crate::args::{Etcd, Store, values};
use crate::record::Kind;
use crate::transfer::What;
use crate::transfer::redis::RedisUrl;

/// Which part of which store.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Part {
    /// The store, as `serve` has it: file:PATH, kubernetes or etcd:URL; unset, the file in the platform's data folder
    #[arg(long, env = "TUNNEL_REGISTRY_STORE", value_name = "STORE")]
    pub store: Option<Store>,
    /// Where its records are in Kubernetes.
    #[command(flatten)]
    pub place: Place,
    /// How etcd is spoken to.
    #[command(flatten)]
    pub etcd: Etcd,
    /// Only these, separated by commas; unset, all that the store keeps
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_enum)]
    pub only: Vec<What>,
}

impl Part {
    /// The kinds of records that are asked for.
    #[must_use]
    pub fn kinds(&self) -> Vec<Kind> {
        let asked = match self.only.is_empty() {
            true => &What::ALL[..],
            false => &self.only,
        };
        asked
            .iter()
            .flat_map(|what| what.kinds())
            .copied()
            .collect()
    }
}

/// What `export` is told.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Export {
    /// What to write.
    #[command(flatten)]
    pub part: Part,
    /// The file to write; - is standard output
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
}

/// What `import` is told.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Import {
    /// Where to write it.
    #[command(flatten)]
    pub part: Part,
    /// The file that `export` wrote; - is standard input
    #[arg(
        value_name = "FILE",
        required_unless_present = "redis",
        conflicts_with = "redis"
    )]
    pub file: Option<PathBuf>,
    /// Read the tunnels of today's peer (gost-plugins sd) from its Redis, as redis://USER:PASSWORD@HOST:PORT/DB
    ///
    /// Only the host must be given. Nothing is written there. Everyone on the machine
    /// can read a command line: with a password, use the variable.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_IMPORT_REDIS",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub redis: Option<RedisUrl>,
    /// Only the tunnels whose names begin so
    #[arg(long, value_name = "TEXT", default_value = "", conflicts_with = "file")]
    pub redis_prefix: String,
    /// Leave out what was not renewed for so long when the last renewal of all came
    #[arg(
        long,
        value_name = "TIME",
        default_value = "5m",
        conflicts_with = "file",
        value_parser = values::time(Duration::from_secs(1), Duration::from_secs(86_400))
    )]
    pub redis_stale_after: Duration,
    /// How long an endpoint stays that no registry hears; four renewals of a node that renews seldom, if that is longer
    ///
    /// Counted from when the store's collector first sees it, while it runs.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10m",
        value_parser = values::time(Duration::from_secs(1), Duration::from_secs(86_400))
    )]
    pub unheard_for: Duration,
    /// Replace what the store has where it differs; else that is kept
    #[arg(long)]
    pub replace: bool,
    /// Say what would be written, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;
    use crate::transfer::plan::UNHEARD_FOR;

    fn parse(line: &str) -> Result<Args, String> {
        let words = format!("tunnel-registry {line}");
        let words = words.split_whitespace().map(Into::into);
        Args::try_parse(words, None).map_err(|error| error.to_string())
    }

    fn import(line: &str) -> Import {
        match parse(&format!("import {line}")) {
            Ok(Args::Import(import)) => *import,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn all_is_exported_to_standard_output_unless_told_otherwise() {
        let Ok(Args::Export(export)) = parse("export --store file:r.redb") else {
            panic!()
        };
        assert_eq!(export.file.as_os_str(), "-");
        assert_eq!(export.part.store, Some(Store::File("r.redb".into())));
        assert_eq!(
            export.part.kinds(),
            [Kind::Endpoint, Kind::Session, Kind::Service, Kind::Instance]
        );
        let Ok(Args::Export(some)) = parse("export --only services,endpoints x.jsonl") else {
            panic!()
        };
        assert_eq!(
            some.part.kinds(),
            [Kind::Service, Kind::Instance, Kind::Endpoint]
        );
    }

    #[test]
    fn one_source_is_imported() {
        let file = import("--store kubernetes --namespace gost --replace x.jsonl");
        assert_eq!(file.file, Some("x.jsonl".into()));
        assert!(file.replace && !file.dry_run);
        assert_eq!(file.part.place.namespace.as_deref(), Some("gost"));
        let redis = import("--redis redis://:secret@h:6379/1 --dry-run");
        assert!(redis.dry_run && redis.redis.is_some() && redis.file.is_none());
        assert_eq!(redis.redis_stale_after, Duration::from_secs(300));
        assert_eq!(redis.unheard_for, UNHEARD_FOR);
        assert!(!format!("{redis:?}").contains("secret"));
        for (line, part) in [
            ("import", "<FILE>"),
            ("import --redis redis://h x.jsonl", "cannot be used with"),
            ("import --redis h:6379", "redis://127.0.0.1:6379"),
            ("import --redis rediss://h", "no TLS"),
            ("import --redis-prefix a x.jsonl", "cannot be used with"),
            (
                "import --only tunnels x.jsonl",
                "endpoints, sessions, services",
            ),
            ("export --replace", "unexpected argument"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
