//! The process itself, read from /proc at each scrape, under the names that
//! every Prometheus client library uses.

use std::fmt;

use procfs::process::LimitValue;
use procfs::{CurrentSI, KernelStats, ProcResult};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Tells CPU, memory, open files and the start time.
#[derive(Debug)]
pub(super) struct Process;

/// What /proc says.
#[derive(Debug)]
struct Facts {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    open_files: usize,
    /// None when there is no limit.
    max_files: Option<u64>,
    started: f64,
}

impl Facts {
    fn read() -> ProcResult<Self> {
        let process = procfs::process::Process::myself()?;
        let stat = process.stat()?;
        let ticks = procfs::ticks_per_second() as f64;
        let max_files = match process.limits()?.max_open_files.soft_limit {
            LimitValue::Value(limit) => Some(limit),
            LimitValue::Unlimited => None,
        };
        Ok(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
            resident_bytes: stat.rss * procfs::page_size(),
            virtual_bytes: stat.vsize,
            open_files: process.fd_count()?,
            max_files,
            started: KernelStats::current()?.btime as f64 + stat.starttime as f64 / ticks,
        })
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        // Without /proc the rest of the metrics is still worth having.
        let facts = match Facts::read() {
            Ok(facts) => facts,
            Err(error) => {
                tracing::debug!(%error, "/proc tells nothing about this process");
                return Ok(());
            }
        };
        let mut tell = |name: &str, help: &str, value: &dyn EncodeMetric| {
            value.encode(encoder.encode_descriptor(name, help, None, value.metric_type())?)
        };
        tell(
            "process_cpu_seconds",
            "CPU time used, user and system.",
            &ConstCounter::new(facts.cpu_seconds),
        )?;
        tell(
            "process_resident_memory_bytes",
            "Memory in use.",
            &ConstGauge::new(facts.resident_bytes as f64),
        )?;
        tell(
            "process_virtual_memory_bytes",
            "Address space in use.",
            &ConstGauge::new(facts.virtual_bytes as f64),
        )?;
        tell(
            "process_open_fds",
            "Open files and sockets.",
            &ConstGauge::new(facts.open_files as f64),
        )?;
        if let Some(max) = facts.max_files {
            tell(
                "process_max_fds",
                "How many files and sockets may be open.",
                &ConstGauge::new(max as f64),
            )?;
        }
        tell(
            "process_start_time_seconds",
            "When the process started, as Unix time.",
            &ConstGauge::new(facts.started),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_files() {
        let facts = Facts::read().unwrap();
        assert!(facts.resident_bytes > 1024 * 1024);
        assert!(facts.virtual_bytes >= facts.resident_bytes);
        assert!(facts.open_files >= 3);
        assert!(
            facts
                .max_files
                .is_none_or(|max| max >= facts.open_files as u64)
        );
        assert!(facts.started > 1.6e9);
        assert!(facts.cpu_seconds >= 0.0);
    }

    #[test]
    fn it_is_told_under_the_usual_names() {
        let text = crate::metrics::Metrics::new().encode().unwrap();
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_max_fds",
            "process_start_time_seconds",
        ] {
            assert!(
                text.contains(&format!("\n{name} ")),
                "{name} is not in\n{text}"
            );
        }
    }
}
