//! What Prometheus is told. Labels come from closed sets only.

/// A call of a way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// A connector was announced.
    Register,
    /// A connector lives.
    Renew,
    /// A connector was withdrawn.
    Deregister,
    /// Who holds a tunnel?
    Get,
}

/// The protocol of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// gost's HTTP plugin.
    Http,
    /// gost's gRPC plugin.
    Grpc,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Done, and stored where something was to be stored.
    Ok,
    /// Accepted; the store takes it later.
    Pending,
    /// The request was malformed.
    Invalid,
    /// No valid token.
    Unauthenticated,
    /// A limit is reached.
    Exhausted,
    /// The registry is not ready to answer.
    Unavailable,
}
