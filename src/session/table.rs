//! Which places are taken by which sessions, and which sessions an instance has.

use crate::map::Map;
use crate::session::id::SessionKey;
use crate::session::place::Place;
use crate::session::registration::{Instance, ServiceName};

/// The places that are taken, also by what may only become of a session.
#[derive(Debug, Default)]
pub struct Table {
    sessions: Map<SessionKey, Taken>,
    places: Map<Place, Vec<SessionKey>>,
    instances: Map<Instance, Vec<SessionKey>>,
}

#[derive(Debug)]
struct Taken {
    instance: Instance,
    places: Vec<Place>,
}

impl Table {
    /// A session takes these places from now on, and no others.
    pub fn set(&mut self, key: SessionKey, instance: &Instance, mut places: Vec<Place>) {
        places.sort_unstable();
        places.dedup();
        if self
            .sessions
            .get(&key)
            .is_some_and(|taken| taken.places == places)
        {
            return;
        }
        self.remove(key);
        for place in &places {
            self.places.entry(place.clone()).or_default().push(key);
        }
        self.instances
            .entry(instance.clone())
            .or_default()
            .push(key);
        let instance = instance.clone();
        self.sessions.insert(key, Taken { instance, places });
    }

    /// A session is gone.
    pub fn remove(&mut self, key: SessionKey) {
        let Some(taken) = self.sessions.remove(&key) else {
            return;
        };
        for place in taken.places {
            if let Some(keys) = self.places.get_mut(&place) {
                keys.retain(|other| *other != key);
                if keys.is_empty() {
                    self.places.remove(&place);
                }
            }
        }
        if let Some(keys) = self.instances.get_mut(&taken.instance) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.instances.remove(&taken.instance);
            }
        }
    }

    /// The sessions that take a place.
    #[must_use]
    pub fn at(&self, place: &Place) -> &[SessionKey] {
        self.places.get(place).map_or(&[], Vec::as_slice)
    }

    /// Whose a session is.
    #[must_use]
    pub fn instance(&self, key: SessionKey) -> Option<&Instance> {
        self.sessions.get(&key).map(|taken| &taken.instance)
    }

    /// The sessions of an instance.
    #[must_use]
    pub fn of(&self, instance: &Instance) -> &[SessionKey] {
        self.instances.get(instance).map_or(&[], Vec::as_slice)
    }

    /// Another service that takes this place.
    #[must_use]
    pub fn rival(&self, place: &Place, service: &ServiceName) -> Option<&ServiceName> {
        self.at(place)
            .iter()
            .filter_map(|key| self.sessions.get(key))
            .map(|taken| &taken.instance.service)
            .find(|other| *other != service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::registration::Registration;
    use crate::session::route::Route;

    #[test]
    fn places_belong_to_one_service() {
        let instance = |service: &str| {
            let registration = Registration::parse(service, "h", "1", "0").unwrap();
            registration.instance
        };
        let places = |path: &str| -> Vec<Place> {
            let route = Route::parse("a.com,b.com", path, "http://h").unwrap();
            route.places().collect()
        };
        let (api, web) = (instance("api"), instance("web"));
        let [one, two] = ["1", "2"].map(SessionKey::of);
        let mut table = Table::default();
        table.set(one, &api, places("/v2"));
        table.set(two, &api, places("/v2"));
        let place = &places("/v2")[1];
        assert_eq!(table.at(place), [one, two]);
        assert_eq!(table.rival(place, &api.service), None);
        assert_eq!(table.rival(place, &web.service), Some(&api.service));
        assert_eq!(table.rival(&places("/")[0], &web.service), None);
        assert_eq!(table.of(&api), [one, two]);
        assert_eq!(table.instance(one), Some(&api));
        table.set(one, &api, places("/"));
        table.remove(two);
        assert_eq!(table.at(place), []);
        assert_eq!(table.of(&api), [one]);
        table.remove(one);
        table.remove(one);
        assert!(table.places.is_empty() && table.instances.is_empty());
    }
}
