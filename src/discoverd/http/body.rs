//! The bodies of requests: read within their bounds, and understood.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::Request;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::discoverd::instance;
use crate::discoverd::meta::Json;
use crate::discoverd::problem::Problem;
use crate::discoverd::record::LeaderType;

/// The longest body, in bytes: the longest meta data with space in it.
pub(super) const MAX_BYTES: usize = 131_072;

#[derive(Deserialize)]
pub(super) struct Service {
    pub leader_type: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Meta {
    data: Option<Box<RawValue>>,
    #[serde(default)]
    pub index: u64,
    pub leader_id: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Instance {
    #[serde(default)]
    id: String,
    addr: String,
    proto: String,
    meta: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
pub(super) struct Leader {
    pub id: String,
}

impl Meta {
    /// The data; none is `null`.
    pub fn data(&self) -> Result<Json, Problem> {
        let data = self.data.as_deref().unwrap_or(RawValue::NULL);
        Ok(Json::new(data)?)
    }
}

impl Instance {
    /// The instance, which has the id that it says.
    pub fn instance(self) -> Result<instance::Instance, Problem> {
        let meta = self.meta.unwrap_or_default();
        let instance = instance::Instance::new(self.addr, self.proto, meta)?;
        Ok(instance.named(&self.id)?)
    }
}

/// Who is to lead, as it is written; nothing stands for the usual.
pub(super) fn leader_type(text: Option<&str>) -> Result<LeaderType, Problem> {
    match text {
        None | Some("" | "oldest") => Ok(LeaderType::Oldest),
        Some("manual") => Ok(LeaderType::Manual),
        Some(_) => Err(Problem::LeaderType),
    }
}

/// Reads a body of JSON, which must be there within `time`.
pub(super) async fn read<T: DeserializeOwned>(
    request: Request,
    time: Duration,
) -> Result<T, Problem> {
    if !may_be_json(request.headers()) {
        return Err(Problem::ContentType);
    }
    let body = Limited::new(request.into_body(), MAX_BYTES);
    let body = timeout(time, body.collect()).await;
    let body = body.map_err(|_| Problem::Slow)?;
    let body = body.map_err(|error| match error.is::<LengthLimitError>() {
        true => Problem::TooLarge(MAX_BYTES),
        false => Problem::Syntax("it was broken off".into()),
    })?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| Problem::Syntax(error.to_string()))
}

/// Whether nothing speaks against it.
fn may_be_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_none_or(|value| {
        let value = value.to_str().unwrap_or_default();
        let kind = value.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    const TIME: Duration = Duration::from_secs(1);

    async fn leader(kind: Option<&str>, body: Body) -> Result<String, Problem> {
        let mut request = http::Request::put("/");
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        let Leader { id } = read(request.body(body).unwrap(), TIME).await?;
        Ok(id)
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_are_json_and_bounded() {
        let good = || Body::from("{\"id\":\"a\",\"addr\":\"\",\"x\":1}");
        for kind in [
            None,
            Some("application/json"),
            Some("Application/JSON; charset=utf-8"),
        ] {
            assert_eq!(leader(kind, good()).await.unwrap(), "a");
        }
        let refused = leader(Some("text/plain"), good()).await;
        assert_eq!(refused, Err(Problem::ContentType));
        for bad in ["", "{", "[]", "{\"id\":1}"] {
            let refused = leader(None, Body::from(bad)).await;
            assert!(
                matches!(refused, Err(Problem::Syntax(_))),
                "{bad}: {refused:?}"
            );
        }
        let filled = |bytes: usize| {
            let body = "{\"id\":\"a\"}";
            format!("{body}{}", " ".repeat(bytes - body.len()))
        };
        assert_eq!(
            leader(None, Body::from(filled(MAX_BYTES))).await.unwrap(),
            "a"
        );
        let long = leader(None, Body::from(filled(MAX_BYTES + 1))).await;
        assert_eq!(long, Err(Problem::TooLarge(MAX_BYTES)));
        let never = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
        let slow = leader(None, Body::from_stream(never)).await;
        assert_eq!(slow, Err(Problem::Slow));
    }
}
