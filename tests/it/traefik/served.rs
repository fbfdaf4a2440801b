//! What Traefik is told, without one.

use bytes::Bytes;
use http::Method;

use crate::process::{Net, Setup, folder, until};
use crate::traefik::visitor::ask;
use crate::traefik::{Answer, Backend, Client};

#[tokio::test]
async fn the_configuration_is_on_the_main_port_for_who_may_call() {
    let (net, folder) = (Net::take(), folder());
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "a-token\n").unwrap();
    let flags = format!("--token-file={}", tokens.display());
    let mut setup = Setup::new(net, folder.path()).flags(&flags);
    setup.sessions = Some(net.at(1, 8181));
    let registry = setup.start().await;
    let get = async |headers: &[(&str, &str)]| -> Answer {
        let place = ("registry", "/traefik");
        let answer = ask(setup.listen, Method::GET, place, headers, Bytes::new()).await;
        answer.unwrap()
    };
    let token = ("authorization", "Bearer a-token");
    assert_eq!(get(&[]).await.status, 401);
    let answer = get(&[token]).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "{}"));
    let place = ("registry", "/traefik");
    let post = ask(setup.listen, Method::POST, place, &[token], Bytes::new()).await;
    assert_eq!(post.unwrap().status, 405);

    let backend = Backend::start(net.at(3, 9000), "api").await;
    let mut session = Client::register(net.at(1, 8181), "api", &backend, 0).await;
    session.route("a.example.com", "/", &backend.url()).await;
    session.does("MAINT_ENTER", "").await;
    let told = until("it is told", async || {
        let answer = get(&[token]).await;
        answer.body.contains("a.example.com").then_some(answer)
    })
    .await;
    assert_eq!(told.header("content-type"), Some("application/json"));
    let responder = format!("http://{}", net.at(1, 8182));
    assert!(told.body.contains(&responder), "{}", told.body);
    assert!(!told.body.contains(&session.session), "{}", told.body);
    let tag = told.header("etag").unwrap();
    assert_eq!(get(&[token, ("if-none-match", tag)]).await.status, 304);

    // The responder itself.
    let page = ask(
        net.at(1, 8182),
        Method::GET,
        ("a.example.com", "/"),
        &[],
        Bytes::new(),
    );
    assert_eq!(page.await.unwrap().status, 503);
    registry.stop().await;
}
