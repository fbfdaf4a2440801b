//! Why a request was not done, in the wire's words.

use http::StatusCode;
use serde::Serialize;

use crate::discoverd::instance::InstanceError;
use crate::discoverd::meta::TooLong;
use crate::discoverd::name::{NameError, ServiceName};

/// What a client is told, as a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// There is no such thing.
    ObjectNotFound,
    /// There is one already.
    ObjectExists,
    /// What was asked for is out of bounds.
    ValidationError,
    /// The body is not what it should be.
    SyntaxError,
    /// Somebody else was faster.
    PreconditionFailed,
    /// There is no valid token.
    Unauthorized,
    /// Anything else.
    UnknownError,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is no such service.
    #[error("service \"{0}\" not found")]
    NoService(ServiceName),
    /// The service has no meta data.
    #[error("service meta not found")]
    NoMeta,
    /// Nobody leads.
    #[error("no leader found")]
    NoLeader,
    /// The path leads nowhere.
    #[error("there is nothing at this path")]
    NoPath,
    /// The path does not know this method.
    #[error("there is no {0} at this path")]
    NoVerb(String),
    /// The service exists.
    #[error("service \"{0}\" already exists")]
    ServiceExists(ServiceName),
    /// Meta data exists, and index 0 was given.
    #[error("service metadata already exists; give its index, {0}, to replace it")]
    MetaExists(u64),
    /// The meta data has another index, or there is none.
    #[error("service metadata was changed by somebody else: its index is {0}; read it again")]
    MetaChanged(u64),
    /// The name of a service is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The instance is none.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The meta data is too long.
    #[error(transparent)]
    Meta(#[from] TooLong),
    /// The leader of this service is not named by hand.
    #[error("service leader election type is not manual")]
    NotManual,
    /// The text is not the id of an instance.
    #[error("`{0}` is not the id of an instance: 32 lower-case hexadecimal digits")]
    Id(&'static str),
    /// There is no such way to choose a leader.
    #[error("`leader_type` must be oldest or manual")]
    LeaderType,
    /// The body says that it is no JSON.
    #[error("the body must be JSON; send the header `Content-Type: application/json`")]
    ContentType,
    /// The body is not the JSON that it should be.
    #[error("the body is not the JSON that this path takes: {0}")]
    Syntax(String),
    /// The body is longer than it may be, in bytes.
    #[error("the body has more than {0} bytes")]
    TooLarge(usize),
    /// The body did not arrive in time.
    #[error("the body did not arrive in time")]
    Slow,
    /// There is no valid token.
    #[error("no valid token; send the header `Authorization: Bearer <token>`")]
    Unauthorized,
    /// A bound is reached.
    #[error("there are as many {0} as there may be ({1})")]
    Full(&'static str, usize),
    /// The store was not read yet.
    #[error("the services have not been read from the store yet; ask again")]
    NotReady,
    /// The store did not take it in time. It may yet.
    #[error("the store did not take it in time, and may yet; ask again")]
    Unavailable,
    /// The store will not take it.
    #[error("the store refused it: {0}")]
    Refused(String),
    /// They are switched off.
    #[error(
        "this registry serves no services: start it with --services (in the chart: services.enabled); with --store kubernetes their definitions and rights must be there"
    )]
    Off,
    /// The answer could not be made.
    #[error("the answer could not be made; the log says why")]
    Broken,
}

impl Problem {
    /// The code and the status of it.
    #[must_use]
    pub fn code(&self) -> (Code, StatusCode) {
        match self {
            Self::NoService(_) | Self::NoMeta | Self::NoLeader | Self::NoPath => {
                (Code::ObjectNotFound, StatusCode::NOT_FOUND)
            }
            Self::NoVerb(_) => (Code::ValidationError, StatusCode::METHOD_NOT_ALLOWED),
            Self::ServiceExists(_) | Self::MetaExists(_) => {
                (Code::ObjectExists, StatusCode::CONFLICT)
            }
            Self::MetaChanged(_) => (Code::PreconditionFailed, StatusCode::PRECONDITION_FAILED),
            Self::Name(_)
            | Self::Instance(_)
            | Self::Meta(_)
            | Self::NotManual
            | Self::Id(_)
            | Self::LeaderType
            | Self::ContentType => (Code::ValidationError, StatusCode::BAD_REQUEST),
            Self::Syntax(_) => (Code::SyntaxError, StatusCode::BAD_REQUEST),
            Self::TooLarge(_) => (Code::ValidationError, StatusCode::PAYLOAD_TOO_LARGE),
            Self::Slow => (Code::UnknownError, StatusCode::REQUEST_TIMEOUT),
            Self::Unauthorized => (Code::Unauthorized, StatusCode::UNAUTHORIZED),
            Self::Full(..) => (Code::UnknownError, StatusCode::TOO_MANY_REQUESTS),
            Self::Off => (Code::UnknownError, StatusCode::NOT_IMPLEMENTED),
            Self::Refused(_) | Self::Broken => {
                (Code::UnknownError, StatusCode::INTERNAL_SERVER_ERROR)
            }
            Self::NotReady | Self::Unavailable => {
                (Code::UnknownError, StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    }

    /// Whether the same request may be done later.
    #[must_use]
    pub fn retry(&self) -> bool {
        matches!(
            self,
            Self::Slow | Self::Full(..) | Self::NotReady | Self::Unavailable
        )
    }

    /// The body of the answer.
    #[must_use]
    pub fn json(&self) -> String {
        let (code, _) = self.code();
        serde_json::json!({
            "code": code,
            "message": self.to_string(),
            "retry": self.retry(),
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_the_code_and_the_status_that_clients_know() {
        let name = ServiceName::parse("db").unwrap();
        for (problem, code, status) in [
            (Problem::NoService(name.clone()), "object_not_found", 404),
            (Problem::ServiceExists(name), "object_exists", 409),
            (Problem::MetaExists(3), "object_exists", 409),
            (Problem::MetaChanged(3), "precondition_failed", 412),
            (NameError::Character.into(), "validation_error", 400),
            (Problem::NotManual, "validation_error", 400),
            (Problem::Syntax("x".into()), "syntax_error", 400),
            (Problem::Unauthorized, "unauthorized", 401),
            (Problem::Full("services", 1), "unknown_error", 429),
            (Problem::Unavailable, "unknown_error", 503),
        ] {
            assert_eq!(problem.code().1.as_u16(), status, "{problem}");
            let body: serde_json::Value = serde_json::from_str(&problem.json()).unwrap();
            assert_eq!(body["code"], code);
            assert_eq!(body["message"], problem.to_string());
            assert_eq!(body["retry"], status == 429 || status == 503);
        }
        let no_leader = Problem::NoLeader.json();
        assert_eq!(
            no_leader,
            r#"{"code":"object_not_found","message":"no leader found","retry":false}"#
        );
        let text = Problem::NoService(ServiceName::parse("db").unwrap()).to_string();
        assert_eq!(text, "service \"db\" not found");
    }
}
