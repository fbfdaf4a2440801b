//! The calls of gosts and their connections, as replicas meet them.

use super::*;

impl World {
    /// A call reaches a replica.
    pub fn called(&mut self, call: &Call) {
        let client = call.replica;
        let now = self.now_of(client);
        if let What::HangUp(connection) = call.what {
            self.counts.add("connection closed by the peer", 1);
            if let Some(core) = &mut self.replicas[client].core {
                core.closed(connection, ClosedBy::Peer);
            }
            self.pump(client);
            return;
        }
        let away = self.now < self.gosts[call.gost].cut_until;
        if away || self.replicas[client].core.is_none() || self.replicas[client].stopping {
            self.counts.add("call that was lost", 1);
            self.note(|_| format!("{:?} of {} is lost", call.what, call.key));
            return;
        }
        self.note(|world| {
            let name = world.name_of(client);
            format!("{:?} of {} reaches {name}", call.what, call.key)
        });
        let caller = self.caller(call);
        let pod_ips: Vec<IpAddr> = self.replicas[client].pod_ip.into_iter().collect();
        let Some(core) = &mut self.replicas[client].core else {
            return;
        };
        match call.what {
            What::Register => {
                let Ok(address) = Address::announced(":80", caller.peer, &pod_ips) else {
                    return;
                };
                let endpoint = Endpoint {
                    key: call.key.clone(),
                    network: Network::Tcp,
                    address,
                    origin: Some(caller.host),
                    pod: None,
                    attributes: Default::default(),
                };
                let registered = core.register(now, &caller, endpoint);
                match registered {
                    Ok(Registered::Absorbed) => self.counts.add("Register absorbed", 1),
                    Ok(how) => {
                        self.replicas[client].knows.insert(call.key.clone());
                        self.registered(client, &call.key, how);
                    }
                    Err(refusal) => self.broken("register", refusal.to_string()),
                }
            }
            What::Renew => {
                let forgets = self.mutation == Some(Mutation::ForgetsGhosts)
                    && core.row(now, &call.key).is_none();
                if !forgets {
                    core.renew(now, &caller, &call.key);
                }
                self.renewed(client, &call.key);
            }
            What::Deregister => {
                core.deregister(now, &caller, &call.key);
                self.withdrawn(client, &call.key);
            }
            What::HangUp(_) => {}
        }
        self.pump(client);
    }

    /// Who a replica takes the caller for.
    fn caller(&mut self, call: &Call) -> Caller {
        let sidecar = matches!(self.gosts[call.gost].calls, Calls::Sidecar(_));
        let peer = match sidecar {
            true => Self::loopback(),
            false => call.ip,
        };
        let pod_ips: Vec<IpAddr> = self.replicas[call.replica].pod_ip.into_iter().collect();
        let lasting = self.gosts[call.gost].lasting;
        let connection = self.connection(call, lasting);
        Caller {
            lasting,
            ..Caller::new(connection, peer, &pod_ips)
        }
    }

    fn connection(&mut self, call: &Call, lasting: bool) -> ConnectionId {
        self.serial += 1;
        let fresh = ConnectionId(self.serial);
        // Over HTTP connections come and go.
        let renew = !lasting && self.one_in(3);
        let now = self.now;
        let connections = &mut self.gosts[call.gost].connections;
        let known = connections.get(&call.replica).map(|known| known.id);
        let id = known.filter(|_| !renew).unwrap_or(fresh);
        connections.insert(call.replica, Connection { id, used: now });
        if let (true, Some(old)) = (renew, known)
            && let Some(core) = &mut self.replicas[call.replica].core
        {
            core.closed(old, ClosedBy::Peer);
        }
        id
    }

    /// A replica has ended: who was connected to it waits before connecting again.
    pub fn connections_end(&mut self, client: ClientId) {
        for gost in &mut self.gosts {
            gost.connections.remove(&client);
        }
    }

    /// A replica is there again after `away`.
    pub fn back_off(&mut self, client: ClientId, away: Duration) {
        for at in 0..self.gosts.len() {
            let calls = self.gosts[at].calls;
            let waits = calls == Calls::Sidecar(client) || calls == Calls::One(client);
            if waits && self.gosts[at].lasting {
                let longest = away.min(BACK_OFF).as_secs_f64();
                let wait = Duration::from_secs_f64(longest * self.random.f64());
                let until = self.now + wait;
                let gost = &mut self.gosts[at];
                gost.cut_until = gost.cut_until.max(until);
            }
        }
    }

    /// A replica closes its connections.
    pub fn registry_closes(&mut self, client: ClientId) {
        for at in 0..self.gosts.len() {
            let closed = self.gosts[at].connections.remove(&client);
            if let (Some(closed), Some(core)) = (closed, &mut self.replicas[client].core) {
                core.closed(closed.id, ClosedBy::Registry);
            }
        }
    }

    /// Replicas close connections that carried nothing for long.
    pub fn close_idle(&mut self) {
        for at in 0..self.gosts.len() {
            let connections = self.gosts[at].connections.clone();
            for (replica, connection) in connections {
                if self.now >= connection.used + IDLE {
                    self.gosts[at].connections.remove(&replica);
                    if let Some(core) = &mut self.replicas[replica].core {
                        core.closed(connection.id, ClosedBy::Registry);
                    }
                }
            }
        }
    }

    /// A call was heard here and now.
    pub fn heard_here(&self, client: ClientId) -> Heard {
        Heard {
            replica: client,
            life: self.clients[client].life,
            at: self.now,
        }
    }
}
