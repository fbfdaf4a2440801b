//! What must be ready before the process is, as `/readyz` tells it.

use tokio_util::sync::CancellationToken;

use crate::admin::Part;
use crate::backend::Backend;
use crate::discoverd::Services;
use crate::registry::Registry;
use crate::session::Sessions;

/// Not ready from the moment that a stop begins, so that nobody new comes.
pub(super) fn process(stopping: &CancellationToken) -> Part {
    let ready = if stopping.is_cancelled() {
        Err("stopping".to_owned())
    } else {
        Ok(())
    };
    Part {
        name: "process",
        ready,
        note: None,
    }
}

/// Whether the store has been read: before that an answer would be a lie. That it
/// takes no writes is no reason not to be asked: they are kept.
pub(super) fn stored(registry: &Registry, backend: &dyn Backend) -> Part {
    let ready = match (registry.figures().ready, backend.trouble()) {
        (true, _) => Ok(()),
        (false, None) => Err("it has not been read yet".to_owned()),
        (false, Some(why)) => Err(format!("it has not been read yet: {why}")),
    };
    let unwritten = registry
        .unwritten()
        .map(|why| format!("it takes no writes: {why}"));
    let unread = || {
        backend
            .trouble()
            .map(|why| format!("it tells no changes: {why}"))
    };
    Part {
        name: "store",
        note: unwritten.or_else(unread).filter(|_| ready.is_ok()),
        ready,
    }
}

/// Whether others see that this replica lives.
pub(super) fn vouched(registry: &Registry) -> Part {
    let unvouched = registry.unvouched();
    let note = unvouched.map(|(time, why)| {
        let seconds = time.as_secs();
        format!("not renewed for {seconds} s, so others doubt what this replica holds: {why}")
    });
    Part {
        name: "lease",
        ready: Ok(()),
        note,
    }
}

/// Whether proxy sessions have been read: before that every command is refused.
pub(super) fn sessions(sessions: &Sessions, backend: &dyn Backend) -> Part {
    read("sessions", sessions.is_ready(), backend)
}

/// Whether discoverd's services have been read: before that nobody knows them.
pub(super) fn services(services: &Services, backend: &dyn Backend) -> Part {
    read("services", services.is_ready(), backend)
}

fn read(name: &'static str, is_read: bool, backend: &dyn Backend) -> Part {
    let ready = match (is_read, backend.trouble()) {
        (true, _) => Ok(()),
        (false, None) => Err("they have not been read yet".to_owned()),
        (false, Some(why)) => Err(format!("they have not been read yet: {why}")),
    };
    Part {
        name,
        ready,
        note: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_stops_is_not_ready() {
        let stopping = CancellationToken::new();
        assert_eq!(process(&stopping).ready, Ok(()));
        stopping.cancel();
        assert_eq!(process(&stopping).ready, Err("stopping".into()));
    }
}
