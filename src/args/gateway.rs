//! What the part of `controller` that is for proxy sessions is told.

use crate::controller::plan::routes::Settings;
use crate::resources::gateway::{BackendRef, MAX_PARENTS, ParentRef, is_name};

/// What the part of `controller` that is for proxy sessions is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Gateways {
    /// Tell what becomes of ProxySessions in their statuses; --gateway does so, too
    #[arg(long, env = "TUNNEL_REGISTRY_SESSIONS")]
    pub sessions: bool,
    /// A Gateway that serves the routes of ProxySessions: NAME, NAMESPACE/NAME or
    /// NAMESPACE/NAME/LISTENER; may be given up to 32 times
    ///
    /// Each session gets HTTPRoutes of the Gateway API, with Services and
    /// EndpointSlices for its backends.
    #[arg(
        long = "gateway",
        env = "TUNNEL_REGISTRY_GATEWAY",
        value_name = "GATEWAY",
        value_delimiter = ',',
        value_parser = gateway
    )]
    pub gateways: Vec<ParentRef>,
    /// The Service, in the same namespace, that answers 503 for what is in maintenance
    ///
    /// Unset, Gateways answer 503 by themselves, without the page of the
    /// maintenance port.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_MAINTENANCE_SERVICE",
        value_name = "NAME:PORT",
        value_parser = service
    )]
    pub maintenance_service: Option<BackendRef>,
}

impl Gateways {
    /// How sessions become objects; none when that is switched off.
    ///
    /// # Errors
    /// With what does not go together.
    pub fn settings(&self) -> Result<Option<Settings>, String> {
        let gateways = &self.gateways;
        if gateways.len() > MAX_PARENTS {
            return Err(format!(
                "--gateway may be given at most {MAX_PARENTS} times"
            ));
        }
        for (at, one) in gateways.iter().enumerate() {
            let others = gateways.iter().take(at);
            let mut same =
                others.filter(|other| other.name == one.name && other.namespace == one.namespace);
            let alike = same.find(|other| {
                one.section_name.is_none()
                    || other.section_name.is_none()
                    || one.section_name == other.section_name
            });
            if let Some(other) = alike {
                return Err(format!(
                    "--gateway {one} and --gateway {other} are the same Gateway; name a listener of it in each, or leave one out"
                ));
            }
        }
        let is_on = self.sessions || !gateways.is_empty();
        Ok(is_on.then(|| Settings {
            gateways: gateways.clone(),
            maintenance: self.maintenance_service.clone(),
        }))
    }
}

fn gateway(text: &str) -> Result<ParentRef, String> {
    ParentRef::parse(text).map_err(|error| error.to_string())
}

fn service(text: &str) -> Result<BackendRef, &'static str> {
    let error = "must be NAME:PORT, such as tunnel-registry-maintenance:8080";
    let (name, port) = text.rsplit_once(':').ok_or(error)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or(error)?;
    // The name of a Service is one label.
    match is_name(name) && name.len() <= 63 && !name.contains('.') {
        true => Ok(BackendRef {
            name: name.into(),
            port,
            weight: None,
        }),
        false => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        gateways: Gateways,
    }

    fn parse(line: &str) -> Result<Option<Settings>, String> {
        let parsed = Line::try_parse_from(format!("x {line}").split_whitespace());
        parsed
            .map_err(|error| error.to_string())?
            .gateways
            .settings()
    }

    #[test]
    fn it_is_off_until_somebody_asks_for_it() {
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse("--sessions").unwrap(), Some(Settings::default()));
        let settings = parse("--gateway edge/web --gateway other --maintenance-service page:80");
        let settings = settings.unwrap().unwrap();
        let names: Vec<_> = settings.gateways.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["edge/web", "other"]);
        assert_eq!(settings.maintenance.unwrap().port, 80);
        assert_eq!(
            parse("--gateway a/b,c/d").unwrap().unwrap().gateways.len(),
            2
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--gateway A",
            "--gateway a --gateway a",
            "--gateway a/b --gateway a/b/http",
            "--gateway a/b/http --gateway a/b/http",
            "--maintenance-service page",
            "--maintenance-service page:0",
            "--maintenance-service a.b:80",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("--gateway a/b/http --gateway a/b/https").is_ok());
    }
}
