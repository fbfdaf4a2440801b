//! TLS and tokens.

use std::fs;
use std::time::Duration;

use tunnel_registry::client::{Client, Code, Error, Instance, LeaderType, State};

use super::shell::Shell;
use super::told::{are, next, short};
use crate::access::Authority;
use crate::process::{Net, Setup, folder, until};

fn code(error: &Error) -> Option<&Code> {
    match error {
        Error::Refused(refusal) => Some(&refusal.code),
        _ => None,
    }
}

#[tokio::test]
async fn tokens_and_certificates_are_presented_and_checked() {
    let (folder, authority) = (folder(), Authority::new());
    let path = |name: &str| folder.path().join(name);
    let mut setup = Setup::new(Net::take(), folder.path());
    authority
        .sign(&setup.listen.ip().to_string())
        .write(folder.path());
    fs::write(path("ca.crt"), &authority.certificate).unwrap();
    fs::write(path("tokens"), "# for tests\nsecret\nother\n").unwrap();
    setup.environment = vec![
        ("TUNNEL_REGISTRY_TLS_CERT", path("tls.crt").into()),
        ("TUNNEL_REGISTRY_TLS_KEY", path("tls.key").into()),
        ("TUNNEL_REGISTRY_TOKEN_FILE", path("tokens").into()),
    ];
    let registry = setup.start().await;
    let url = format!("https://{}", registry.setup.listen);
    let builder = || {
        Client::builder()
            .server(&url)
            .patience(Duration::ZERO)
            .ca_file(path("ca.crt"))
    };
    // Reading needs no token, writing does.
    let anybody = builder().build().unwrap();
    assert_eq!(anybody.services().await, Ok(Vec::new()));
    let refused = anybody.create("db", LeaderType::Oldest).await.unwrap_err();
    assert_eq!(code(&refused), Some(&Code::Unauthorized));
    let wrong = builder().token("wrong").build().unwrap();
    assert!(wrong.create("db", LeaderType::Oldest).await.is_err());

    // The first one in a file, which may change.
    fs::write(path("mine"), "wrong\n").unwrap();
    let client = builder().token_file(path("mine")).build().unwrap();
    let kept = client
        .register("db", Instance::new("a:1"))
        .create(LeaderType::Oldest)
        .every(Duration::from_millis(200));
    let refused = kept.clone().await.unwrap_err();
    assert_eq!(code(&refused), Some(&Code::Unauthorized));
    let mut kept = kept.start();
    let mut watch = client.watch("db");
    are(&mut watch, &["current"]).await;
    until("the wrong token is refused", async || {
        matches!(kept.state(), State::Failing(_)).then_some(())
    })
    .await;
    fs::write(path("mine"), "# the right one\nother\n").unwrap();
    kept.registered().await.unwrap();
    assert_eq!(short(&next(&mut watch).await), "up a:1");
    fs::remove_file(path("mine")).unwrap();
    until("a token that cannot be read is told", async || {
        matches!(kept.state(), State::Failing(Error::Token(..))).then_some(())
    })
    .await;

    let mut shell = Shell::of(&registry.setup, folder.path());
    shell.variables = vec![("TUNNEL_REGISTRY_SERVER", url.clone())];
    let untrusted = shell.run(&["get"]).await;
    assert_eq!(untrusted.code, Some(1), "{}", untrusted.err);
    let ca = (
        "TUNNEL_REGISTRY_CA_FILE",
        path("ca.crt").display().to_string(),
    );
    shell.variables.push(ca);
    assert_eq!(shell.prints(&["get", "-o", "name"]).await, "db\n");
    let create = ["service", "create", "web"];
    let refused = shell.run(&create).await;
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(
        refused
            .err
            .contains("--token-file or TUNNEL_REGISTRY_TOKEN"),
        "{}",
        refused.err
    );
    shell
        .variables
        .push(("TUNNEL_REGISTRY_TOKEN", "secret,other".into()));
    assert_eq!(shell.prints(&create).await, "");
    let both = [&create[..], &["--token-file", "f"]].concat();
    assert_eq!(shell.run(&both).await.code, Some(2));
    // An authority that did not sign for it.
    fs::write(path("ca.crt"), Authority::new().certificate).unwrap();
    let untrusted = shell.run(&["get"]).await;
    assert!(
        untrusted.err.contains("invalid peer certificate"),
        "{}",
        untrusted.err
    );
    registry.stop().await;
}

#[tokio::test]
async fn a_client_is_known_by_its_certificate() {
    let (folder, authority) = (folder(), Authority::new());
    let path = |name: &str| folder.path().join(name);
    let mut setup = Setup::new(Net::take(), folder.path());
    authority
        .sign(&setup.listen.ip().to_string())
        .write(folder.path());
    fs::write(path("ca.crt"), &authority.certificate).unwrap();
    setup.environment = vec![
        ("TUNNEL_REGISTRY_TLS_CERT", path("tls.crt").into()),
        ("TUNNEL_REGISTRY_TLS_KEY", path("tls.key").into()),
        ("TUNNEL_REGISTRY_TLS_CLIENT_CA", path("ca.crt").into()),
    ];
    let registry = setup.start().await;
    let builder = || {
        Client::builder()
            .server(&format!("https://{}", registry.setup.listen))
            .patience(Duration::ZERO)
            .ca_file(path("ca.crt"))
    };
    let stranger = builder().build().unwrap();
    assert!(stranger.services().await.unwrap_err().is_temporary());
    // The same pair will do: what it may be used for is not said in it.
    let known = builder().client_certificate(path("tls.crt"), path("tls.key"));
    assert_eq!(known.build().unwrap().services().await, Ok(Vec::new()));
    registry.stop().await;
}
