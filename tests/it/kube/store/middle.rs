//! A client through which a test changes what is asked.

use http::{Request, Uri};
use kube::Client;
use kube::client::Body;
use tower::service_fn;

/// A client that asks `client` what `change` makes of a request; none when the
/// connection is to break.
pub fn through(
    client: Client,
    change: impl Fn(Request<Body>) -> Option<Request<Body>> + Clone + Send + 'static,
) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = service_fn(move |request| {
        let (client, change) = (client.clone(), change.clone());
        async move {
            let request = change(request).ok_or("the test cut the connection")?;
            client.send(request).await.map_err(tower::BoxError::from)
        }
    });
    Client::new(service, namespace)
}

/// The same request with another query.
pub fn with_query(request: Request<Body>, change: impl Fn(&str) -> String) -> Request<Body> {
    let (mut parts, body) = request.into_parts();
    let uri = &parts.uri;
    let query = change(uri.query().unwrap_or_default());
    parts.uri = Uri::try_from(format!("{}?{query}", uri.path())).unwrap();
    Request::from_parts(parts, body)
}
