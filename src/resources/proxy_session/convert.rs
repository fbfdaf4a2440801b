//! Between records and objects, both ways.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    MAX_SUPERSEDES, ProxySession, ProxySessionSpec, REGISTERED, SESSION, SUPERSEDES, SessionHeader,
    SessionOptions, SessionRoute, WRITTEN_BY,
};
use crate::resources::lease::{self, HolderTooLong, MalformedAnnotation, annotation};
use crate::resources::name;
use crate::session::header::Header;
use crate::session::options::{Options, Setting};
use crate::session::record::Routes;
use crate::session::registration::Registration;
use crate::session::route::Route;
use crate::session::{Change, Problem, SessionKey, SessionRecord};

/// Why an object is no session. Someone else made it, or changed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The hash is none.
    #[error("spec.session is no hash of a session's id; leave it out of what is made by hand")]
    Session,
    /// The service, the hostname or a port.
    #[error("spec.service, spec.hostname or a port cannot be used: {0}")]
    Registration(Problem),
    /// A route, a header or an option.
    #[error("{field} cannot be used: {problem}")]
    Announced {
        /// The field of the spec.
        field: String,
        /// What a client would have been told.
        problem: Problem,
    },
    /// An annotation that cannot be read.
    #[error(transparent)]
    Annotation(#[from] MalformedAnnotation),
}

/// What is too much for an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Oversize {
    /// A holder whose identity is too long.
    #[error(transparent)]
    Holder(#[from] HolderTooLong),
    /// Too many sessions of one instance, opened at the same time.
    #[error("it supersedes {0} sessions; at most {MAX_SUPERSEDES} are allowed")]
    Supersedes(usize),
}

/// The annotations that a record decides beside its lease.
const OTHERS: [&str; 4] = [SESSION, REGISTERED, SUPERSEDES, WRITTEN_BY];

/// The name of the object for the session of a backend that registered. A DNS
/// label (RFC 1123), so at most 63 bytes. It does not tell the session's id.
#[must_use]
pub fn object_name(key: SessionKey) -> String {
    name::object_name("session", &[&key.to_string()])
}

/// The key of a session that is made by hand, by the name of its object. No id
/// has it: those are without a zero byte.
#[must_use]
pub fn static_key(name: &str) -> SessionKey {
    SessionKey::of(&format!("\0{name}"))
}

impl ProxySession {
    /// The object for a record, complete as it is created. The namespace is the
    /// caller's to choose.
    ///
    /// # Errors
    /// When the record has more than an object may hold.
    pub fn from_record(record: &SessionRecord) -> Result<Self, Oversize> {
        let name = match record.is_static {
            true => record.front.to_string(),
            false => object_name(record.key),
        };
        let mut object = Self::new(&name, spec(record));
        object.metadata.annotations = Some(annotations(record)?);
        Ok(object)
    }

    /// The merge patch (RFC 7396) that makes the object of the same session hold
    /// `record`. What the record does not have is removed; what others put there
    /// (labels, annotations, finalizers) is not touched.
    ///
    /// # Errors
    /// When the record has more than an object may hold.
    pub fn patch(record: &SessionRecord) -> Result<Value, Oversize> {
        let annotations = annotations(record)?;
        let annotations: Map<_, _> = lease::ANNOTATIONS
            .into_iter()
            .chain(OTHERS)
            .map(|key| (key.to_owned(), json!(annotations.get(key))))
            .collect();
        let ProxySessionSpec {
            maintenance_port,
            routes,
            headers,
            options,
            maintenance,
            ..
        } = spec(record);
        let options = json!({
            "timeout": options.timeout,
            "healthCheckInterval": options.health_check_interval,
            "healthCheckTimeout": options.health_check_timeout,
            "healthCheckPath": options.health_check_path,
            "maxBodySize": options.max_body_size,
            "websocket": options.websocket,
            "compression": options.compression,
            "http2": options.http2,
            "http3": options.http3,
            "weight": options.weight,
        });
        Ok(json!({
            "metadata": { "annotations": annotations },
            "spec": {
                "maintenancePort": (maintenance_port > 0).then_some(maintenance_port),
                "routes": (!routes.is_empty()).then_some(routes),
                "headers": (!headers.is_empty()).then_some(headers),
                "options": (record.options != Options::default()).then_some(options),
                "maintenance": maintenance,
            },
        }))
    }

    /// Which session it is, whatever else is wrong with the object; none when its
    /// hash cannot be read.
    #[must_use]
    pub fn key(&self) -> Option<SessionKey> {
        match &self.spec.session {
            Some(text) => SessionKey::parse(text),
            None => Some(static_key(
                self.metadata.name.as_deref().unwrap_or_default(),
            )),
        }
    }

    /// The record that an object holds.
    ///
    /// # Errors
    /// When a field or an annotation cannot be read; the error names it.
    pub fn to_record(&self) -> Result<SessionRecord, Malformed> {
        let spec = &self.spec;
        let metadata = &self.metadata;
        let registration = Registration::parse(
            &spec.service,
            &spec.hostname,
            &spec.service_port.to_string(),
            &spec.maintenance_port.to_string(),
        );
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
        let time = |text: &str| text.parse::<Timestamp>().ok();
        let registered = annotation(
            metadata,
            REGISTERED,
            "a time such as 2026-07-01T12:00:00.000000Z",
            time,
        )?;
        let front = annotation(metadata, SESSION, "a text", |text| Some(text.into()))?;
        let written_by = annotation(metadata, WRITTEN_BY, "at most 253 bytes long", |text| {
            (text.len() <= lease::MAX_HOLDER).then(|| Arc::from(text))
        })?;
        let supersedes = annotation(
            metadata,
            SUPERSEDES,
            "at most 64 hashes, separated by commas",
            |text| {
                let keys: Option<Vec<_>> = text.split(',').map(SessionKey::parse).collect();
                keys.filter(|keys| keys.len() <= MAX_SUPERSEDES)
            },
        )?;
        let name: Arc<str> = metadata.name.as_deref().unwrap_or_default().into();
        let mut record = SessionRecord {
            key: self.key().ok_or(Malformed::Session)?,
            front: front.unwrap_or(name),
            registration: registration.map_err(Malformed::Registration)?,
            registered: registered.or(created).unwrap_or(Timestamp::UNIX_EPOCH),
            supersedes: supersedes.unwrap_or_default(),
            routes: Routes::default(),
            headers: Vec::new(),
            options: Options::default(),
            maintenance: spec.maintenance,
            lease: lease::read(metadata)?,
            written_by: written_by.unwrap_or_default(),
            is_static: spec.session.is_none(),
        };
        for (field, change) in announced(spec) {
            let announced = |problem| Malformed::Announced { field, problem };
            record = match change.and_then(|change| record.with(&change)) {
                Ok(record) => record,
                Err(problem) => return Err(announced(problem)),
            };
        }
        Ok(record)
    }
}

/// What a backend would have announced, each with the field that says so.
fn announced(spec: &ProxySessionSpec) -> Vec<(String, Result<Change, Problem>)> {
    let mut changes = Vec::new();
    for (number, route) in spec.routes.iter().enumerate() {
        for domains in route.domains.chunks(Route::MAX_DOMAINS) {
            let parsed = Route::parse(&domains.join(","), &route.path, &route.backend);
            changes.push((format!("spec.routes[{number}]"), parsed.map(Change::Route)));
        }
    }
    for (number, header) in spec.headers.iter().enumerate() {
        let parsed = Header::parse(&header.name, &header.value);
        changes.push((
            format!("spec.headers[{number}]"),
            parsed.map(Change::Header),
        ));
    }
    let options = &spec.options;
    let text = |value: Option<bool>| value.map(|value| value.to_string());
    let settings = [
        ("timeout", options.timeout.clone()),
        (
            "health_check_interval",
            options.health_check_interval.clone(),
        ),
        ("health_check_timeout", options.health_check_timeout.clone()),
        ("health_check_path", options.health_check_path.clone()),
        (
            "max_body_size",
            options.max_body_size.map(|size| size.to_string()),
        ),
        ("websocket", text(options.websocket)),
        ("compression", text(options.compression)),
        ("http2", text(options.http2)),
        ("http3", text(options.http3)),
        ("weight", options.weight.map(|weight| weight.to_string())),
    ];
    for (key, value) in settings {
        if let Some(value) = value {
            let parsed = Setting::parse(key, &value);
            changes.push(("spec.options".into(), parsed.map(Change::Option)));
        }
    }
    changes
}

fn annotations(record: &SessionRecord) -> Result<BTreeMap<String, String>, Oversize> {
    let mut annotations = lease::annotations(&record.lease)?;
    annotations.insert(SESSION.into(), record.front.to_string());
    annotations.insert(REGISTERED.into(), format!("{:.6}", record.registered));
    if !record.supersedes.is_empty() {
        if record.supersedes.len() > MAX_SUPERSEDES {
            return Err(Oversize::Supersedes(record.supersedes.len()));
        }
        let keys: Vec<String> = record.supersedes.iter().map(ToString::to_string).collect();
        annotations.insert(SUPERSEDES.into(), keys.join(","));
    }
    if record.written_by.len() > lease::MAX_HOLDER {
        return Err(HolderTooLong(record.written_by.len()).into());
    }
    if !record.written_by.is_empty() {
        annotations.insert(WRITTEN_BY.into(), record.written_by.to_string());
    }
    Ok(annotations)
}

fn spec(record: &SessionRecord) -> ProxySessionSpec {
    let instance = &record.registration.instance;
    let headers = record.headers.iter().map(|header| SessionHeader {
        name: header.name.to_string(),
        value: header.value.to_string(),
    });
    ProxySessionSpec {
        session: (!record.is_static).then(|| record.key.to_string()),
        service: instance.service.to_string(),
        hostname: instance.host.to_string(),
        service_port: instance.port.get(),
        maintenance_port: record
            .registration
            .maintenance_port
            .map_or(0, NonZeroU16::get),
        routes: routes(&record.routes),
        headers: headers.collect(),
        options: options(&record.options),
        maintenance: record.maintenance,
    }
}

/// One route for each path and backend, with all its domains.
fn routes(routes: &Routes) -> Vec<SessionRoute> {
    let mut all: Vec<SessionRoute> = Vec::new();
    for (place, backend) in &routes.0 {
        let (path, backend) = (place.path.as_str(), backend.as_str());
        let same = |route: &&mut SessionRoute| route.path == path && route.backend == backend;
        let domain = place.domain.to_string();
        match all.iter_mut().find(same) {
            Some(route) => route.domains.push(domain),
            None => all.push(SessionRoute {
                domains: vec![domain],
                path: path.into(),
                backend: backend.into(),
            }),
        }
    }
    all
}

fn options(options: &Options) -> SessionOptions {
    SessionOptions {
        timeout: options.timeout_ms.map(duration),
        health_check_interval: options.health_check_interval_ms.map(duration),
        health_check_timeout: options.health_check_timeout_ms.map(duration),
        health_check_path: options.health_check_path.as_ref().map(ToString::to_string),
        max_body_size: options.max_body_size,
        websocket: options.websocket,
        compression: options.compression,
        http2: options.http2,
        http3: options.http3,
        weight: options.weight,
    }
}

/// Milliseconds, as people write them.
fn duration(milliseconds: u64) -> String {
    let time = Duration::from_millis(milliseconds);
    match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{milliseconds}ms"),
    }
}
