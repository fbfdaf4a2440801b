//! What is told of etcd.

use std::path::PathBuf;

use crate::backend::etcd::{Settings, TlsFiles, Url, User};

/// How etcd is spoken to. Read with `--store etcd:…` only.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "etcd (with --store etcd)")]
pub struct Etcd {
    /// What all keys of this registry begin with; a slash is added at its end
    ///
    /// Several registries may share an etcd under different prefixes. All replicas
    /// of one must have the same.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_ETCD_PREFIX",
        value_name = "PREFIX",
        default_value = "/tunnel-registry/",
        value_parser = prefix
    )]
    pub etcd_prefix: String,
    /// The authorities that etcd's certificate is checked against (PEM); unset, those of the system
    ///
    /// Read again for each connection, as are the other files.
    #[arg(long, env = "TUNNEL_REGISTRY_ETCD_CA_FILE", value_name = "FILE")]
    pub etcd_ca_file: Option<PathBuf>,
    /// The certificate by which etcd knows this process (PEM); needs --etcd-key-file
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_ETCD_CERT_FILE",
        value_name = "FILE",
        requires = "etcd_key_file"
    )]
    pub etcd_cert_file: Option<PathBuf>,
    /// The private key of --etcd-cert-file (PEM)
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_ETCD_KEY_FILE",
        value_name = "FILE",
        requires = "etcd_cert_file"
    )]
    pub etcd_key_file: Option<PathBuf>,
    /// The user of etcd that this process is; needs --etcd-password-file
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_ETCD_USER",
        value_name = "NAME",
        requires = "etcd_password_file"
    )]
    pub etcd_user: Option<String>,
    /// The file with the password of --etcd-user
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_ETCD_PASSWORD_FILE",
        value_name = "FILE",
        requires = "etcd_user"
    )]
    pub etcd_password_file: Option<PathBuf>,
}

/// The longest prefix, in bytes.
const MAX_PREFIX: usize = 200;

/// What all keys begin with. A slash is added at the end unless there is one.
fn prefix(text: &str) -> Result<String, &'static str> {
    let fits = text.starts_with('/')
        && text.len() <= MAX_PREFIX
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    match fits {
        true => Ok(format!("{}/", text.trim_end_matches('/'))),
        false => Err(
            "must be a slash and at most 199 printable ASCII characters without spaces, such as /tunnel-registry/",
        ),
    }
}

impl Etcd {
    /// How the etcd at these URLs is spoken to.
    #[must_use]
    pub fn settings(&self, urls: Vec<Url>) -> Settings {
        let identity = self.etcd_cert_file.clone().zip(self.etcd_key_file.clone());
        let user = self.etcd_user.clone().zip(self.etcd_password_file.clone());
        Settings {
            urls,
            prefix: self.etcd_prefix.clone(),
            tls: TlsFiles {
                ca: self.etcd_ca_file.clone(),
                identity,
            },
            user: user.map(|(name, password_file)| User {
                name,
                password_file,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        etcd: Etcd,
    }

    fn parse(line: &str) -> Result<Etcd, String> {
        Line::try_parse_from(format!("x {line}").split_whitespace())
            .map(|line| line.etcd)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_prefix_ends_in_one_slash() {
        for (given, prefix) in [("/a", "/a/"), ("/a/b/", "/a/b/"), ("/", "/")] {
            let told = parse(&format!("--etcd-prefix {given}")).unwrap();
            assert_eq!(told.settings(Vec::new()).prefix, prefix);
        }
        let long = format!("/{}", "x".repeat(MAX_PREFIX));
        for given in ["a", "é", "/é", &long] {
            let error = parse(&format!("--etcd-prefix {given}")).unwrap_err();
            assert!(error.contains("such as /tunnel-registry/"), "{error}");
        }
    }

    #[test]
    fn files_come_in_pairs() {
        let told = parse(
            "--etcd-ca-file ca --etcd-cert-file c --etcd-key-file k --etcd-user u --etcd-password-file p",
        )
        .unwrap()
        .settings(vec!["https://e".parse().unwrap()]);
        assert_eq!(told.tls.ca, Some("ca".into()));
        assert_eq!(told.tls.identity, Some(("c".into(), "k".into())));
        assert_eq!(told.user.unwrap().password_file, PathBuf::from("p"));
        for line in [
            "--etcd-cert-file c",
            "--etcd-key-file k",
            "--etcd-user u",
            "--etcd-password-file p",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
