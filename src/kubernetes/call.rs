//! One request and its answer, in bounded time.

use std::time::Duration;

use http::Request;
use kube::Client;
use tokio::time::timeout;

use crate::kubernetes::Failure;

/// How long a request may take until it is answered.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes a request and returns the text of its answer.
///
/// # Errors
/// When the API server says so, cannot be reached, or has not answered within
/// `limit`; then nobody knows whether it did what it was asked.
pub async fn call(
    client: &Client,
    request: Request<Vec<u8>>,
    limit: Duration,
) -> Result<String, Failure> {
    match timeout(limit, client.request_text(request)).await {
        Ok(answer) => answer.map_err(|error| Failure::of(&error)),
        Err(_) => Err(Failure::late(limit)),
    }
}
