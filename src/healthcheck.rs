//! Asks a running registry how it is, for images that have no shell.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::args::Healthcheck;

/// The longest answer that is read, in bytes.
const ANSWER: usize = 64 * 1024;

/// Why the registry is not well, or cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum HealthcheckError {
    /// Nothing listens there.
    #[error("cannot connect to {0}: {1}; is the registry running, and is --admin right?")]
    Connect(String, std::io::Error),
    /// What listens there does not speak HTTP, or went away.
    #[error("{0} did not answer: {1}")]
    Exchange(String, Box<dyn std::error::Error + Send + Sync>),
    /// It said no.
    #[error("{0} answered {1}: {2}")]
    Unwell(&'static str, StatusCode, String),
    /// It said nothing.
    #[error("{0} did not answer within {1:?}")]
    Late(String, Duration),
}

/// Asks once.
///
/// # Errors
/// When the answer is anything but 200, or does not come in time.
pub async fn ask(what: &Healthcheck) -> Result<(), HealthcheckError> {
    let target = target(&what.admin);
    let path = if what.ready { "/readyz" } else { "/livez" };
    timeout(what.timeout, exchange(&target, path))
        .await
        .unwrap_or_else(|_| Err(HealthcheckError::Late(target, what.timeout)))
}

/// Where a process that listens at `admin` is reached on its own host.
fn target(admin: &str) -> String {
    match admin.parse::<SocketAddr>() {
        Ok(SocketAddr::V4(at)) if at.ip().is_unspecified() => format!("127.0.0.1:{}", at.port()),
        Ok(SocketAddr::V6(at)) if at.ip().is_unspecified() => format!("[::1]:{}", at.port()),
        _ => admin.to_owned(),
    }
}

async fn exchange(target: &str, path: &'static str) -> Result<(), HealthcheckError> {
    let stream = TcpStream::connect(target)
        .await
        .map_err(|error| HealthcheckError::Connect(target.to_owned(), error))?;
    let (status, body) = get(stream, target, path)
        .await
        .map_err(|error| HealthcheckError::Exchange(target.to_owned(), error))?;
    if status == StatusCode::OK {
        return Ok(());
    }
    // One line, as it goes into logs.
    let text = String::from_utf8_lossy(&body);
    let lines: Vec<&str> = text.lines().collect();
    Err(HealthcheckError::Unwell(path, status, lines.join("; ")))
}

async fn get(
    stream: TcpStream,
    host: &str,
    path: &str,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let request = Request::get(path)
        .header(HOST, host)
        .body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER).collect().await?.to_bytes();
        Ok((head.status, body))
    };
    // The answer fails when the connection does.
    let (answer, _) = futures::join!(answer, connection);
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn asking(admin: String, ready: bool) -> Healthcheck {
        Healthcheck {
            admin,
            ready,
            timeout: Duration::from_secs(3),
        }
    }

    /// Asks a server that answers with these bytes, and tells what it was sent.
    async fn answered(ready: bool, answer: &str) -> (String, Result<(), HealthcheckError>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let what = asking(listener.local_addr().unwrap().to_string(), ready);
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(head).unwrap()
        };
        tokio::join!(server, ask(&what))
    }

    #[tokio::test]
    async fn only_200_is_well() {
        let well = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";
        let (sent, result) = answered(false, well).await;
        assert!(
            sent.starts_with("GET /livez HTTP/1.1\r\nhost: 127.0.0.1:"),
            "{sent}"
        );
        assert!(result.is_ok(), "{result:?}");
        let unwell =
            "HTTP/1.1 503 No\r\nconnection: close\r\n\r\nstore: not ready: x\nserver: ready\n";
        let (sent, result) = answered(true, unwell).await;
        assert!(sent.starts_with("GET /readyz "), "{sent}");
        assert_eq!(
            result.unwrap_err().to_string(),
            "/readyz answered 503 Service Unavailable: store: not ready: x; server: ready"
        );
    }

    #[tokio::test]
    async fn what_is_no_answer_is_not_well() {
        for answer in [
            "",
            "SSH-2.0-x\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok",
        ] {
            let (_, result) = answered(false, answer).await;
            assert!(
                matches!(result, Err(HealthcheckError::Exchange(..))),
                "{result:?}"
            );
        }
        let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(ANSWER + 1));
        let (_, result) = answered(false, &endless).await;
        assert!(
            matches!(result, Err(HealthcheckError::Exchange(..))),
            "{result:?}"
        );
    }

    #[tokio::test]
    async fn nobody_there_is_not_well() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = ask(&asking(admin.clone(), false)).await.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("cannot connect to {admin}: "))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn silence_has_an_end() {
        // Connected by the system, never accepted.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap().to_string();
        let error = ask(&asking(admin, false)).await.unwrap_err();
        assert!(
            error.to_string().ends_with("did not answer within 3s"),
            "{error}"
        );
    }

    #[test]
    fn an_unspecified_host_is_asked_on_loopback() {
        assert_eq!(target("0.0.0.0:8090"), "127.0.0.1:8090");
        assert_eq!(target("[::]:8090"), "[::1]:8090");
        assert_eq!(target("10.0.0.1:8090"), "10.0.0.1:8090");
        assert_eq!(target("registry:8090"), "registry:8090");
    }
}
