use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use clap::Command;

use super::*;
use crate::lease::Timing;
use crate::telemetry::Format;

fn parse(line: &str) -> Result<Args, String> {
    let words = format!("tunnel-registry {line}");
    let words = words.split_whitespace().map(OsString::from);
    Args::try_parse(words, None).map_err(|error| error.to_string())
}

fn serve(line: &str) -> Serve {
    match parse(line) {
        Ok(Args::Serve(serve)) => *serve,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_command_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn defaults_are_as_promised() {
    let serve = serve("");
    assert_eq!(serve.listening.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(serve.listening.admin_listen.to_string(), "127.0.0.1:8090");
    assert!(serve.listening.pod_ip.is_empty());
    assert_eq!(serve.store, None);
    assert_eq!(serve.access.tokens, None);
    assert_eq!(serve.access.tls(), None);
    assert_eq!(serve.times.timing(), Timing::default());
    assert_eq!(serve.times.register_wait, Duration::from_secs(2));
    assert_eq!(serve.limits.max_endpoints_per_tunnel, 1024);
    assert_eq!(serve.logs.log_level.to_string(), "info");
    assert_eq!(serve.logs.log_format, Format::Auto);
}

#[test]
fn serving_needs_no_command() {
    let flags = "--listen [::]:80 --store memory --pod-ip 10.0.0.1,fd00::1 --max-queue 7";
    let without = serve(flags);
    assert_eq!(serve(&format!("serve {flags}")), without);
    assert_eq!(without.store, Some(Store::Memory));
    assert_eq!(without.listening.pod_ip.len(), 2);
    assert_eq!(without.limits.max_queue, 7);
}

#[test]
fn flags_belong_to_one_command() {
    assert!(parse("--listen [::]:80 healthcheck").is_err());
    assert!(parse("healthcheck --listen [::]:80").is_err());
    assert!(parse("crd --listen [::]:80").is_err());
    assert_eq!(parse("crd"), Ok(Args::Crd));
    assert!(parse("controller --listen [::]:80").is_err());
    assert!(matches!(parse("controller"), Ok(Args::Controller(_))));
}

#[test]
fn a_healthcheck_asks_the_usual_port() {
    let expected = Healthcheck {
        admin: "127.0.0.1:8090".into(),
        ready: false,
        timeout: Duration::from_secs(3),
    };
    assert_eq!(parse("healthcheck"), Ok(Args::Healthcheck(expected)));
    let expected = Healthcheck {
        admin: "localhost:1".into(),
        ready: true,
        timeout: Duration::from_millis(500),
    };
    assert_eq!(
        parse("healthcheck --ready --admin localhost:1 --timeout 500ms"),
        Ok(Args::Healthcheck(expected))
    );
}

#[test]
fn tls_takes_a_pair() {
    let served = serve("--tls-cert c.pem --tls-key k.pem --tls-client-ca ca.pem");
    let tls = served.access.tls().unwrap();
    assert_eq!(tls.certificate, Path::new("c.pem"));
    assert_eq!(tls.key, Path::new("k.pem"));
    assert_eq!(tls.client_ca.unwrap(), Path::new("ca.pem"));
    for line in [
        "--tls-cert c.pem",
        "--tls-key k.pem",
        "--tls-client-ca ca.pem",
    ] {
        for command in ["", "serve "] {
            let error = parse(&format!("{command}{line}")).unwrap_err();
            assert!(error.contains("required"), "{line}: {error}");
        }
    }
}

#[test]
fn variables_that_are_misspelt_are_found() {
    let names = [
        "TUNNEL_REGISTRY_TOKENS",
        "TUNNEL_REGISTRY_MAX_ENDPOINT",
        "TUNNEL_REGISTRY_TOKEN",
        "TUNNEL_REGISTRY_MAX_ENDPOINTS",
        "TUNNEL_REGISTRY_SERVER",
        "TUNNEL_REGISTRY_CA_FILE",
        "TUNNEL_REGISTRY_SERVICE_HOST",
        "TUNNEL_REGISTRY_PORT_8000_TCP_ADDR",
        "TUNNEL_REGISTRY_ADMIN_SERVICE_PORT",
        "PATH",
    ];
    let found = super::misspelt(names.map(String::from).into_iter());
    assert_eq!(
        found,
        ["TUNNEL_REGISTRY_TOKENS", "TUNNEL_REGISTRY_MAX_ENDPOINT"]
    );
}

#[test]
fn tokens_come_from_the_environment_only() {
    let with = |tokens: &str| Args::try_parse(["tunnel-registry".into()], Some(tokens.into()));
    match with("one, two").unwrap() {
        Args::Serve(serve) => {
            let tokens = serve.access.tokens.unwrap();
            assert!(tokens.accept(b"one") && tokens.accept(b"two") && !tokens.accept(b"three"));
        }
        other => panic!("{other:?}"),
    }
    let error = with("secret,with space").unwrap_err().to_string();
    assert!(error.contains("TUNNEL_REGISTRY_TOKEN: token 2"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    let both = ["tunnel-registry", "--token-file", "f"].map(Into::into);
    let error = Args::try_parse(both, Some("one".into()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("not both"), "{error}");
    let error = parse("--token x").unwrap_err();
    assert!(error.contains("--token-file"), "{error}");
}

#[test]
fn wrong_values_are_refused_with_how_they_should_be() {
    for (line, mend) in [
        ("--listen 8000", "IP:PORT"),
        ("--admin-listen localhost:8090", "IP:PORT"),
        ("--namespace A", "1 to 63 of a to z"),
        ("--watch-pods some", "possible values: own, all, off"),
        ("--replica-lease 1s", "from 4s to 1h"),
        ("--store etcd:e:2379", "https://etcd-0.example.com:2379"),
        ("--store etcd:", "names no member of etcd"),
        ("--store redis", "kubernetes or etcd:URL"),
        ("--etcd-prefix a", "such as /tunnel-registry/"),
        ("--etcd-user u", "--etcd-password-file"),
        ("--orphan-for 0s", "from 1s to 24h"),
        ("--store file:", "write file:PATH"),
        ("--pod-ip pod", "10.42.0.7,fd00::7"),
        ("--pod-ip 10.0.0.1,127.0.0.1", "the pod's own address"),
        ("--max-endpoints 0", "1..=10000000"),
        ("--max-endpoints 10000001", "1..=10000000"),
        ("--max-endpoints-per-tunnel -1", "unexpected argument"),
        ("--max-endpoints-per-node x", "invalid digit"),
        ("--max-queue 1e6", "invalid digit"),
        ("--max-connections 0", "1..=10000000"),
        ("--max-connections-per-address 0", "1..=10000000"),
        ("--register-wait 2", "500ms, 2s or 10m"),
        ("--register-wait 61s", "from 0s to 1m"),
        ("--base-time 0s", "from 1s to 24h"),
        ("--released-for 999ms", "from 1s to 24h"),
        ("--start-grace 25h", "from 0s to 24h"),
        ("--first-request-timeout 0s", "from 100ms to 1h"),
        ("--request-timeout 2h", "from 100ms to 1h"),
        ("--request-timeout 2s", "longer than --register-wait"),
        ("--idle-timeout 1ms", "from 1s to 24h"),
        ("--drain 2h", "from 0s to 1h"),
        ("--flush 2h", "from 0s to 1h"),
        ("--log-level inof", "use off, error, warn"),
        ("--log-format xml", "possible values: auto, text, json"),
        ("healthcheck --admin 8090", "HOST:PORT"),
        ("healthcheck --timeout 0s", "from 10ms to 1m"),
    ] {
        let error = parse(line).unwrap_err();
        assert!(error.contains(mend), "{line}: {error}");
    }
}

fn client(line: &str) -> Client {
    match parse(line) {
        Ok(Args::Client(client)) => *client,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn a_client_is_told_what_to_ask_and_whom() {
    match client("get db -o json --server http://a,http://b --timeout 1s") {
        Client::Get(get) => {
            assert_eq!(get.service.as_deref(), Some("db"));
            assert_eq!(get.output, client::Listing::Json);
            assert_eq!(get.connection.server, "http://a,http://b");
            assert_eq!(get.connection.timeout, Duration::from_secs(1));
        }
        other => panic!("{other:?}"),
    }
    let get = client("get");
    assert_eq!(get.connection().server, "http://127.0.0.1:8000");
    assert!(
        matches!(client("leader db --set h:1"), Client::Leader(leader) if leader.set.is_some())
    );
    let line = "register db h:1 --meta a=b --meta c= --create -- run --meta x";
    match client(line) {
        Client::Register(register) => {
            let meta = [("a".into(), "b".into()), ("c".into(), String::new())];
            assert_eq!(register.meta, meta);
            assert_eq!(register.create.unwrap().to_string(), "oldest");
            assert_eq!(register.command, ["run", "--meta", "x"]);
        }
        other => panic!("{other:?}"),
    }
    for (line, mend) in [
        ("watch", "<SERVICE>"),
        ("leader db --watch --set h:1", "cannot be used with"),
        ("register db", "<ADDR>"),
        ("register db h:1 --meta zone", "NAME=TEXT, such as zone=b"),
        (
            "register db h:1 --create=newest",
            "must be oldest or manual",
        ),
        (
            "service create db --leader first",
            "must be oldest or manual",
        ),
        ("service meta db --set {", "must be JSON"),
        ("service meta db --index 1", "--set"),
        ("get --client-cert c.pem", "--client-key"),
        ("get --listen [::]:80", "unexpected argument"),
        ("completions tcsh", "bash"),
    ] {
        let error = parse(line).unwrap_err();
        assert!(error.contains(mend), "{line}: {error}");
    }
}

#[test]
fn a_client_sends_the_first_token_and_does_not_show_it() {
    let with = |words: &[&str]| {
        let words = ["tunnel-registry"].iter().chain(words).map(OsString::from);
        Args::try_parse(words, Some(" first-token, two".into()))
    };
    let args = with(&["get"]).unwrap();
    assert!(!format!("{args:?}").contains("first-token"), "{args:?}");
    match args {
        Args::Client(client) => {
            let token = client.connection().token.as_ref().unwrap();
            assert_eq!(token.0, "first-token");
        }
        other => panic!("{other:?}"),
    }
    let error = with(&["get", "--token-file", "f"]).unwrap_err();
    assert!(error.to_string().contains("not both"), "{error}");
}

/// The flags of a command, without clap's own.
fn flags(command: &Command) -> impl Iterator<Item = &clap::Arg> {
    command
        .get_arguments()
        .filter(|flag| !["help", "version"].contains(&flag.get_id().as_str()))
}

#[test]
fn every_flag_has_a_variable_that_is_named_after_it() {
    let cli = Cli::command();
    let mut seen = 0;
    let subcommand = |name| cli.find_subcommand(name).unwrap();
    for command in [&cli, subcommand("serve"), subcommand("controller")] {
        for flag in flags(command) {
            let long = flag.get_long().unwrap();
            let variable = format!("TUNNEL_REGISTRY_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(flag.get_env().unwrap(), &*variable, "--{long}");
            assert_ne!(variable, TOKEN_VARIABLE);
            seen += 1;
        }
    }
    assert_eq!(seen, 2 * 63 + 12, "both ways to serve have all flags");
    let registry = |flag: &&clap::Arg| flag.get_help_heading() == Some("Registry");
    for command in ["get", "watch", "leader", "register"] {
        let flags: Vec<_> = flags(subcommand(command)).filter(registry).collect();
        assert_eq!(flags.len(), 6, "{command}");
        for flag in flags {
            let long = flag.get_long().unwrap();
            let variable = format!("TUNNEL_REGISTRY_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(flag.get_env().unwrap(), &*variable, "--{long}");
        }
    }
    for flag in flags(cli.find_subcommand("healthcheck").unwrap()) {
        let variable = match flag.get_long().unwrap() {
            "admin" => "TUNNEL_REGISTRY_ADMIN_LISTEN".into(),
            long => format!("TUNNEL_REGISTRY_HEALTHCHECK_{}", long.to_uppercase()),
        };
        assert_eq!(flag.get_env().unwrap(), &*variable);
    }
}

#[test]
fn the_version_tells_where_the_program_is_from() {
    let error = parse("-V").unwrap_err();
    assert_eq!(
        error.trim(),
        concat!("tunnel-registry ", env!("CARGO_PKG_VERSION"))
    );
    let error = parse("--version").unwrap_err();
    for fact in ["commit:", "target:", "compiler:", "profile:"] {
        assert!(error.contains(fact), "{error}");
    }
}

const BEGIN: &str = "<!-- flags:begin -->\n";
const END: &str = "<!-- flags:end -->";

/// All flags of `serve` and `controller` in Markdown.
fn table() -> String {
    let serve = flag_tables("serve");
    let controller = flag_tables("controller");
    let name = TOKEN_VARIABLE;
    format!(
        "Each flag has an environment variable that is named after it: `--max-queue` is\n\
        `TUNNEL_REGISTRY_MAX_QUEUE`. A flag wins over its variable. `{name}` holds\n\
        tokens, separated by commas, and has no flag because a command line is public.\n\
        Times are a number and a unit, such as `500ms`, `2s` or `10m`.\n{serve}\n\
        `tunnel-registry controller` has these:\n{controller}"
    )
}

fn flag_tables(command: &str) -> String {
    let mut text = String::new();
    let cli = Cli::command();
    let mut heading = None;
    for flag in flags(cli.find_subcommand(command).unwrap()) {
        if heading != flag.get_help_heading() {
            heading = flag.get_help_heading();
            let name = heading.unwrap();
            write!(text, "\n| {name} | Default | |\n| --- | --- | --- |\n").unwrap();
        }
        let long = flag.get_long().unwrap();
        let takes_value = flag.get_action().takes_values();
        let value = flag.get_value_names().filter(|_| takes_value);
        let value = value.map_or(String::new(), |names| format!(" {}", names[0]));
        let default = match flag.get_default_values() {
            _ if !takes_value => String::new(),
            [] => String::new(),
            [value, ..] => format!("`{}`", value.to_str().unwrap()),
        };
        let help = flag.get_help().unwrap().to_string();
        writeln!(text, "| `--{long}{value}` | {default} | {help} |").unwrap();
    }
    text
}

/// Run with `UPDATE_GENERATED=1` to write the table anew.
#[test]
fn generated_table_of_flags_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let before = fs::read_to_string(&path).unwrap();
    let (head, rest) = before.split_once(BEGIN).unwrap();
    let (_, tail) = rest.split_once(END).unwrap();
    let after = format!("{head}{BEGIN}{}{END}{tail}", table());
    if std::env::var_os("UPDATE_GENERATED").is_some_and(|value| value == "1") {
        fs::write(&path, after).unwrap();
    } else {
        let up_to_date = before == after;
        assert!(up_to_date, "run with UPDATE_GENERATED=1, commit {path:?}");
    }
}
