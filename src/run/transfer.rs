//! `export` and `import`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use crate::args::Store;
use crate::args::transfer::{Export, Import, Part};
use crate::backend::Backend;
use crate::backend::memory::Memory;
use crate::record::{Kind, Record};
use crate::run::{StartError, store};
use crate::telemetry::{self, Format};
use crate::time::Now;
use crate::transfer::plan::prepared;
use crate::transfer::store::{Manner, Report, collect, put};
use crate::transfer::{What, format, peer, redis};

/// What stands for standard input and output.
const STANDARD: &str = "-";
/// At most so many records are named of those that were left out.
const NAMED: usize = 100;

/// Writes what a store holds.
pub(super) fn export(args: &Export) -> Result<ExitCode, StartError> {
    log()?;
    let (store, kinds) = (named(&args.part)?, args.part.kinds());
    if let Store::File(path) = &store
        && !path.exists()
    {
        return Err(format!("there is no store at {}", path.display()).into());
    }
    let runtime = runtime()?;
    let (present, keeps) = runtime.block_on(async {
        let backend = store::open_alone(&store, &args.part).await?;
        let present = collect(&*backend, &kinds).await?;
        let keeps: Vec<Kind> = kinds
            .iter()
            .copied()
            .filter(|kind| backend.keeps(*kind))
            .collect();
        Ok::<_, StartError>((present, keeps))
    })?;
    runtime.shutdown_background();
    let mut records: Vec<Record> = present.into_values().map(|stored| stored.record).collect();
    records.sort_by_cached_key(Record::key);
    let now = Now::read().wall;
    if args.file.as_os_str() == STANDARD {
        format::write(&mut BufWriter::new(io::stdout().lock()), &records, now)?;
    } else {
        let failed =
            |error: io::Error| format!("{} cannot be written: {error}", args.file.display());
        replace(&args.file, |out| format::write(out, &records, now)).map_err(failed)?;
    }
    let mut told = Vec::new();
    for kind in kinds {
        let count = records
            .iter()
            .filter(|record| record.kind() == kind)
            .count();
        told.push(match keeps.contains(&kind) {
            true => format!("{count} {}", plural(kind)),
            false => format!("no {} (this store keeps none)", plural(kind)),
        });
    }
    say(&format!("exported {}", told.join(", ")));
    Ok(ExitCode::SUCCESS)
}

/// Puts what was exported, or what the peer has, into a store.
pub(super) fn import(args: &Import) -> Result<ExitCode, StartError> {
    log()?;
    let (store, kinds) = (named(&args.part)?, args.part.kinds());
    let now = Now::read().wall;
    let (mut records, skipped) = match (&args.redis, &args.file) {
        (Some(url), _) => {
            let entries = redis::read(url, &args.redis_prefix)?;
            let found = peer::endpoints(&entries, args.redis_stale_after, now);
            let minutes = args.redis_stale_after;
            say(&format!(
                "Redis has {} connectors of tunnels, {} that were not renewed for {minutes:?} before the last renewal, {} entries that cannot be used",
                found.records.len(),
                found.stale,
                found.skipped.len()
            ));
            (found.records, found.skipped)
        }
        (None, Some(file)) => (read(file)?, Vec::new()),
        (None, None) => return Err("name a file, or --redis".into()),
    };
    for (what, why) in skipped.iter().take(NAMED) {
        say(&format!("left out: {what}: {why}"));
    }
    and_more(skipped.len());
    records.retain(|record| kinds.contains(&record.kind()));
    let records: Vec<Record> = records
        .iter()
        .map(|record| prepared(record, args.unheard_for, now))
        .collect();
    let manner = Manner {
        replace: args.replace,
        dry_run: args.dry_run,
    };
    let runtime = runtime()?;
    let report = runtime.block_on(async {
        let backend: Arc<dyn Backend> = match &store {
            // Opening it would make it.
            Store::File(path) if args.dry_run && !path.exists() => Arc::new(Memory::new()),
            store => store::open_alone(store, &args.part).await?,
        };
        let present = collect(&*backend, &kinds).await?;
        Ok::<_, StartError>(put(&*backend, &records, present, manner).await)
    })?;
    runtime.shutdown_background();
    Ok(tell(&report, manner, skipped.len()))
}

/// Tells what became of the records.
fn tell(report: &Report, manner: Manner, skipped: usize) -> ExitCode {
    let left_out = report.refused.len() + skipped;
    for (key, why) in report.refused.iter().take(NAMED) {
        say(&format!("left out: {key}: {why}"));
    }
    and_more(report.refused.len());
    let did = if manner.dry_run {
        "would import"
    } else {
        "imported"
    };
    say(&format!(
        "{did} {} records, {} of them in place of others; {} were there, {} left out",
        report.created + report.replaced,
        report.replaced,
        report.there,
        left_out
    ));
    match left_out {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// The store that is meant. One that ends with its process has nothing to move.
fn named(part: &Part) -> Result<Store, StartError> {
    match part.store.clone().map_or_else(Store::usual, Ok)? {
        Store::Memory => Err("the memory store is inside a running registry and ends with it: nothing can be exported from it or imported into it; use --store file:PATH, kubernetes or etcd:URL".into()),
        store => Ok(store),
    }
}

fn read(file: &Path) -> Result<Vec<Record>, StartError> {
    let records = if file.as_os_str() == STANDARD {
        format::read(&mut io::stdin().lock())
    } else {
        let opened = File::open(file).map_err(format::ReadError::Io);
        opened.and_then(|opened| format::read(&mut BufReader::new(opened)))
    };
    Ok(records.map_err(|error| format!("{}: {error}", file.display()))?)
}

/// Writes a file anew: it has all of it, or stays as it is.
fn replace(
    file: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let mut part = OsString::from(file);
    part.push(".part");
    let part = PathBuf::from(part);
    let written = File::create(&part).and_then(|out| {
        let mut out = BufWriter::new(out);
        write(&mut out)?;
        out.into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_all()?;
        fs::rename(&part, file)
    });
    if written.is_err() {
        // What is wrong is told; this would be the same again.
        let _ = fs::remove_file(&part);
    }
    written
}

/// What a person calls records of a kind.
fn plural(kind: Kind) -> &'static str {
    match (kind, What::of(kind)) {
        (Kind::Instance, _) => "instances of services",
        (_, Some(What::Endpoints)) => "endpoints",
        (_, Some(What::Sessions)) => "sessions",
        (_, Some(What::Services)) => "services",
        (_, None) => "others",
    }
}

fn and_more(count: usize) {
    if count > NAMED {
        say(&format!("left out: and {} more", count - NAMED));
    }
}

/// Standard output may be what is exported.
fn say(line: &str) {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(io::stderr(), "{line}");
}

/// What stores warn of is about what is moved: objects that cannot be read.
fn log() -> Result<(), StartError> {
    telemetry::start(&"warn".parse()?, Format::Auto)?;
    Ok(())
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
