//! The policy's file, which may change while we run.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, Reload};
use crate::server::reload::{OpenError, Watched};
use crate::session::policy::Policy;

/// Who may register what, as a file says.
#[derive(Debug)]
pub struct PolicyFile(Watched<Policy>);

impl PolicyFile {
    /// Reads the file. It is read again when it changes, as long as
    /// [`PolicyFile::watch`] runs. `with_certificates` tells whether clients show
    /// certificates, of which rules may speak then.
    ///
    /// # Errors
    /// When the file cannot be read, or is no policy.
    pub fn open(path: PathBuf, with_certificates: bool) -> Result<Self, OpenError> {
        let file = Watched::open(vec![path], move |contents| {
            let text = contents.first().map_or("", String::as_str);
            Policy::parse(text, with_certificates)
        })
        .map(Self)?;
        file.warn_if_empty();
        Ok(file)
    }

    fn warn_if_empty(&self) {
        if self.current().refuses_all() {
            tracing::warn!(
                "the session policy has no rules, so nobody may register anything; give it rules, or start without --session-policy-file to allow everything"
            );
        }
    }

    /// The policy now.
    #[must_use]
    pub fn current(&self) -> Arc<Policy> {
        Arc::clone(&self.0.current())
    }

    /// Follows the file until cancelled. What is open and registered stays; every
    /// further command is judged by the policy in use.
    pub async fn watch(&self, metrics: &Metrics, cancelled: CancellationToken) {
        self.0
            .watch("the session policy", cancelled, |outcome| match outcome {
                Ok(()) => self.warn_if_empty(),
                Err(_) => metrics.reload_failed(Reload::SessionPolicy),
            })
            .await;
    }
}
