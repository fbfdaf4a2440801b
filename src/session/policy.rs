//! Who may register what: a pure decision from a file's rules.

mod glob;
mod list;
mod network;

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::session::command::Change;
use crate::session::place::Domain;
use crate::session::registration::ServiceName;
use crate::session::{Command, Problem, SessionKey};
use glob::Glob;
use network::Network;

/// The most rules; each is looked at with each command.
pub const MAX_RULES: usize = 1_000;
/// The most names of a certificate that are looked at.
const MAX_NAMES: usize = 100;

/// Rules; what none of them allows is refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    rules: Vec<Rule>,
}

/// What some clients may register.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// Where they are; anywhere if empty.
    #[serde(default, deserialize_with = "list::read")]
    networks: Vec<Network>,
    /// Who they are, by a name of their certificate; anybody if empty.
    #[serde(default, deserialize_with = "list::read")]
    certificates: Vec<Glob>,
    /// As which services.
    #[serde(deserialize_with = "list::read")]
    services: Vec<Glob>,
    /// For which domains; none without it.
    #[serde(default, deserialize_with = "list::read")]
    domains: Vec<Glob>,
}

/// Who sends commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address, IPv4-mapped ones unmapped.
    pub address: IpAddr,
    /// The names in its certificate, if it has shown one.
    pub names: Vec<String>,
}

impl Client {
    /// A client without a certificate.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self {
            address,
            names: Vec::new(),
        }
    }

    /// A client that has shown a certificate, which was verified.
    #[must_use]
    pub fn with(address: IpAddr, certificate: Option<&CertificateDer<'_>>) -> Self {
        Self {
            address,
            names: certificate.map(names).unwrap_or_default(),
        }
    }
}

/// The DNS names, URIs and common names of a certificate.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative
        .iter()
        .flat_map(|extension| &extension.value.general_names);
    let alternative = alternative.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    let common = certificate.subject().iter_common_name();
    let common = common.filter_map(|name| name.as_str().ok().map(str::to_owned));
    alternative.chain(common).take(MAX_NAMES).collect()
}

impl Policy {
    /// Reads a policy as YAML. `with_certificates` tells whether clients show
    /// certificates.
    ///
    /// # Errors
    /// When it is none; the text says where and why.
    pub fn parse(text: &str, with_certificates: bool) -> Result<Self, String> {
        let policy: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        if policy.rules.len() > MAX_RULES {
            return Err(format!(
                "it has more than {MAX_RULES} rules; put those of the same clients together"
            ));
        }
        for (at, rule) in policy.rules.iter().enumerate() {
            let number = at + 1;
            if rule.networks.is_empty() && rule.certificates.is_empty() {
                return Err(format!(
                    "rule {number} says not whom it is for; give it networks, certificates or both, such as networks: [\"0.0.0.0/0\", \"::/0\"]"
                ));
            }
            if rule.services.is_empty() {
                return Err(format!(
                    "rule {number} has no services; give it some, such as services: [\"*\"]"
                ));
            }
            for domain in &rule.domains {
                domain
                    .check_domain()
                    .map_err(|error| format!("rule {number}: domains: {error}"))?;
            }
            if !rule.certificates.is_empty() && !with_certificates {
                return Err(format!(
                    "rule {number} asks for certificates, and no client shows one; set --session-tls-client-ca"
                ));
            }
        }
        Ok(policy)
    }

    /// Whether it allows nothing to anybody, which is seldom meant.
    #[must_use]
    pub fn refuses_all(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a command is allowed. `service` tells that of a session; commands
    /// for a session that there is not are left to others.
    ///
    /// # Errors
    /// [`Problem::NotAllowed`], with what is answered.
    pub fn permit(
        &self,
        client: &Client,
        command: &Command,
        service: impl Fn(SessionKey) -> Option<ServiceName>,
    ) -> Result<(), Problem> {
        let refused = |text: String| Err(Problem::NotAllowed(text));
        let Some(key) = command.session() else {
            return match command {
                Command::Register(registration)
                    if !self.allows(client, &registration.instance.service) =>
                {
                    let service = &registration.instance.service;
                    refused(format!(
                        "Invalid format: service {service} is not allowed to you"
                    ))
                }
                _ => Ok(()),
            };
        };
        let Some(service) = service(key) else {
            return Ok(());
        };
        if !self.allows(client, &service) {
            return refused(format!(
                "Invalid session: service {service} is not allowed to you"
            ));
        }
        if let Command::Change(_, Change::Route(route)) = command {
            let allowed = |domain: &&Domain| self.allows_domain(client, &service, domain);
            if let Some(domain) = route.domains.iter().find(|domain| !allowed(domain)) {
                return refused(format!(
                    "Invalid route: domain {domain} is not allowed to you"
                ));
            }
        }
        Ok(())
    }

    fn allows(&self, client: &Client, service: &ServiceName) -> bool {
        self.rules_for(client, service).next().is_some()
    }

    fn allows_domain(&self, client: &Client, service: &ServiceName, domain: &Domain) -> bool {
        let matches = |glob: &Glob| glob.matches(domain.as_str());
        self.rules_for(client, service)
            .any(|rule| rule.domains.iter().any(matches))
    }

    fn rules_for<'a>(
        &'a self,
        client: &'a Client,
        service: &'a ServiceName,
    ) -> impl Iterator<Item = &'a Rule> {
        self.rules
            .iter()
            .filter(|rule| rule.is_for(client))
            .filter(|rule| {
                rule.services
                    .iter()
                    .any(|glob| glob.matches(service.as_str()))
            })
    }
}

impl Rule {
    /// Whether it speaks of a client: of where it is, and of who it is.
    fn is_for(&self, client: &Client) -> bool {
        let named = |glob: &Glob| client.names.iter().any(|name| glob.matches(name));
        (self.networks.is_empty()
            || self
                .networks
                .iter()
                .any(|network| network.contains(client.address)))
            && (self.certificates.is_empty() || self.certificates.iter().any(named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
rules:
  - networks: [10.0.0.0/8, "fd00::/8"]
    services: ["api-*", web]
    domains: ["*.example.com", example.com]
  - certificates: ["spiffe://prod/*", "*.prod.internal"]
    services: ["*"]
    domains: ["*"]
  - networks: [192.0.2.7]
    certificates: [builder]
    services: [build]
"#;

    fn client(address: &str, names: &[&str]) -> Client {
        Client {
            address: address.parse().unwrap(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn permit(client: &Client, line: &str, of: Option<&str>) -> Result<(), String> {
        let policy = Policy::parse(POLICY, true).unwrap();
        let service = |_| of.map(|of| ServiceName::parse(of).unwrap());
        let command = Command::parse(line).unwrap();
        policy
            .permit(client, &command, service)
            .map_err(|problem| problem.to_string())
    }

    #[test]
    fn what_no_rule_allows_is_refused() {
        let inside = client("10.1.2.3", &[]);
        let register = |client: &Client, service: &str| {
            permit(client, &format!("REGISTER|{service}|h|80|0"), None).is_ok()
        };
        assert!(register(&inside, "api-1") && register(&inside, "web"));
        assert!(register(&client("fd00::1", &[]), "web"));
        assert!(!register(&inside, "api") && !register(&inside, "web2"));
        assert!(!register(&client("11.0.0.1", &[]), "web"));
        assert_eq!(
            permit(&inside, "REGISTER|build|h|80|0", None),
            Err("Invalid format: service build is not allowed to you".into())
        );
        for named in ["spiffe://prod/a", "x.prod.internal"] {
            assert!(register(&client("203.0.113.1", &[named]), "any"));
        }
        assert!(!register(
            &client("203.0.113.1", &["spiffe://test/a"]),
            "any"
        ));
        // Both must hold where both are given.
        assert!(register(&client("192.0.2.7", &["builder"]), "build"));
        assert!(!register(&client("192.0.2.8", &["builder"]), "build"));
        assert!(!register(&client("192.0.2.7", &[]), "build"));
    }

    #[test]
    fn domains_are_those_of_the_rules_for_the_service() {
        let inside = client("10.1.2.3", &[]);
        let route = |of: &str, domains: &str| {
            let line = format!("ROUTE|s|{domains}|/|http://h");
            permit(&inside, &line, Some(of))
        };
        for domains in [
            "a.example.com",
            "example.com",
            "*.example.com",
            "x.y.example.com",
        ] {
            assert_eq!(route("web", domains), Ok(()), "{domains}");
        }
        for domains in [
            "example.org",
            "*.com",
            "a.example.com.evil.org",
            "badexample.com",
        ] {
            let text = route("web", &format!("a.example.com,{domains}")).unwrap_err();
            let expected = format!("Invalid route: domain {domains} is not allowed to you");
            assert_eq!(text, expected);
        }
        let builder = client("192.0.2.7", &["builder"]);
        let line = "ROUTE|s|a.example.com|/|http://h";
        assert!(
            permit(&builder, line, Some("build")).is_err(),
            "a rule without domains"
        );
    }

    #[test]
    fn every_command_is_judged_by_who_sends_it() {
        let outside = client("11.0.0.1", &[]);
        let text = "Invalid session: service web is not allowed to you";
        for line in [
            "ROUTE|s|a.example.com|/|http://h",
            "HEADER|s|a|b",
            "OPTIONS|s|http2|true",
            "VALIDATE|s",
            "MAINT_ENTER|s",
            "MAINT_EXIT|s",
            "SHUTDOWN|s",
            "RECONNECT|s",
        ] {
            assert_eq!(
                permit(&outside, line, Some("web")),
                Err(text.into()),
                "{line}"
            );
            assert_eq!(permit(&outside, line, None), Ok(()), "{line}");
        }
    }

    #[test]
    fn what_is_no_policy_is_told() {
        for (text, says) in [
            ("", "unexpected end"),
            ("rules: 1", "sequence"),
            ("rules:\n- services: [a]", "rule 1 says not whom it is for"),
            ("rules:\n- networks: [10.0.0.0/8]", "services"),
            (
                "rules:\n- networks: [10.0.0.0/8]\n  services: []",
                "rule 1 has no services",
            ),
            (
                "rules:\n- networks: [10.0.0.1/8]\n  services: [a]",
                "10.0.0.0/8",
            ),
            (
                "rules:\n- networks: [10.0.0.0/33]\n  services: [a]",
                "such as 10.0.0.0/8",
            ),
            (
                "rules:\n- network: [10.0.0.0/8]\n  services: [a]",
                "network",
            ),
            ("rules:\n- certificates: ['']\n  services: [a]", "empty"),
            (
                "rules:\n- networks: {a: 1}\n  services: [a]",
                "a list, or one text",
            ),
            (
                "rules:\n- networks: 10.0.0.0/33\n  services: [a]",
                "such as 10.0.0.0/8",
            ),
            (
                "rules:\n- {networks: '::/0', services: a}\n- {networks: '::/0', services: a, domains: [b, 'A.com']}",
                "rule 2: domains: \"A.com\" can never match: domains are in lower case",
            ),
        ] {
            let error = Policy::parse(text, true).unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        let with = "rules:\n- certificates: [a]\n  services: [a]";
        let error = Policy::parse(with, false).unwrap_err();
        assert!(error.contains("--session-tls-client-ca"), "{error}");
        assert!(Policy::parse(with, true).is_ok());
        assert!(
            Policy::parse("rules: []", true).is_ok(),
            "nobody may anything"
        );
        let many = "- {networks: [10.0.0.0/8], services: [a]}\n".repeat(MAX_RULES + 1);
        let error = Policy::parse(&format!("rules:\n{many}"), true).unwrap_err();
        assert!(error.contains("more than 1000 rules"), "{error}");
    }

    #[test]
    fn one_text_is_a_list_of_one() {
        let one = "rules:\n- networks: 127.0.0.1\n  services: web\n  domains: '*.a.com'\n";
        let list = "rules:\n- networks: [127.0.0.1]\n  services: [web]\n  domains: ['*.a.com']\n";
        let parse = |text| Policy::parse(text, false).unwrap();
        assert_eq!(parse(one), parse(list));
        assert!(!parse(one).refuses_all() && parse("rules: []").refuses_all());
    }

    #[test]
    fn a_certificate_has_names() {
        use rcgen::{CertificateParams, DnType, KeyPair, SanType};
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["Api.Example.com".into()]).unwrap();
        let uri = "spiffe://prod/api".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        params
            .distinguished_name
            .push(DnType::CommonName, "Api One");
        let certificate = params.self_signed(&key).unwrap();
        let client = Client::with([10, 0, 0, 1].into(), Some(certificate.der()));
        assert_eq!(client.names.len(), 3, "{:?}", client.names);
        for name in ["api.example.com", "spiffe://prod/api", "Api One"] {
            assert!(client.names.iter().any(|known| known == name), "{name}");
        }
    }
}
