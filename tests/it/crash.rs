//! `kill -9` at any moment: what was answered as stored is there afterwards.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tunnel_registry::gost::proto::Service;

use crate::process::{Net, Registry, Setup, folder};
use crate::sd::{Kept, Protocol, Sd, uuid};

/// How often the process is killed.
const LIVES: usize = 20;
/// Registrations that are answered in all lives together.
const REGISTRATIONS: usize = 10_000;
/// Registrations under way at once, over so many connections.
const CONCURRENT: usize = 64;
const CONNECTIONS: usize = 4;
/// One registration of so many is withdrawn at once.
const WITHDRAWN: usize = 8;
/// Repeats a run that failed.
const SEED: &str = "CRASH_SEED";

/// What the registry has answered, over all its lives.
#[derive(Default)]
struct Answers {
    /// Must be listed.
    stored: HashSet<String>,
    /// Must not be listed.
    gone: HashSet<String>,
}

/// One life: registers until it is killed after `cut` answers.
struct Life {
    cut: usize,
    answered: AtomicUsize,
    reached: Notify,
    answers: Mutex<Answers>,
}

impl Life {
    fn answered(&self) {
        if self.answered.fetch_add(1, Ordering::SeqCst) + 1 == self.cut {
            self.reached.notify_one();
        }
    }

    /// Registers one after the other until the registry is gone.
    async fn work(&self, sd: Sd, next: &AtomicUsize) {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let service = Service {
                id: uuid(1, n),
                name: uuid(2, n),
                node: uuid(3, n / 1_000),
                network: "tcp".into(),
                address: "192.0.2.1:80".into(),
            };
            let Ok(kept) = sd.register(&service).await else {
                return;
            };
            if !n.is_multiple_of(WITHDRAWN) {
                if kept == Kept::Stored {
                    self.answers.lock().stored.insert(service.id);
                }
                self.answered();
                continue;
            }
            self.answered();
            match sd.deregister(&service).await {
                Ok(Kept::Stored) => drop(self.answers.lock().gone.insert(service.id)),
                Ok(Kept::Pending) => {}
                Err(_) => return,
            }
        }
    }

    /// Kills the registry after `cut` answers.
    async fn live(self: Arc<Self>, registry: Registry, next: &Arc<AtomicUsize>) -> Setup {
        let mut tasks = JoinSet::new();
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| Sd::new(Protocol::Grpc, registry.setup.listen))
            .collect();
        for sd in clients.iter().cycle().take(CONCURRENT) {
            let (life, sd, next) = (Arc::clone(&self), sd.clone(), Arc::clone(next));
            tasks.spawn(async move { life.work(sd, &next).await });
        }
        tokio::time::timeout(crate::process::PATIENCE, self.reached.notified())
            .await
            .unwrap_or_else(|_| {
                let (answered, cut) = (&self.answered, self.cut);
                panic!("{answered:?} registrations of {cut} were answered in time")
            });
        let setup = registry.kill().await;
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        setup
    }
}

/// At how many answers each life is cut, all together at least [`REGISTRATIONS`].
fn cuts(random: &mut fastrand::Rng) -> Vec<usize> {
    let mean = REGISTRATIONS / LIVES;
    let mut cuts: Vec<_> = (1..LIVES)
        .map(|_| random.usize(mean / 20..mean * 39 / 20))
        .collect();
    let rest = REGISTRATIONS.saturating_sub(cuts.iter().sum());
    cuts.push(rest.max(mean / 20));
    cuts
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_answered_as_stored_is_lost() {
    let seed = std::env::var(SEED).map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = folder();
    let mut setup = Setup::new(Net::take(), folder.path());
    let next = Arc::new(AtomicUsize::new(0));
    let mut all = Answers::default();
    for (life, cut) in cuts(&mut random).into_iter().enumerate() {
        let living = Arc::new(Life {
            cut,
            answered: AtomicUsize::new(0),
            reached: Notify::new(),
            answers: Mutex::default(),
        });
        setup = Arc::clone(&living).live(setup.start().await, &next).await;
        let answers = std::mem::take(&mut *living.answers.lock());
        all.stored.extend(answers.stored);
        all.gone.extend(answers.gone);

        let registry = setup.start().await;
        let listed: HashMap<_, _> = registry
            .rows()
            .await
            .into_iter()
            .map(|row| (row["connector"].as_str().unwrap().to_owned(), row))
            .collect();
        let is_listed = |id: &&String| listed.contains_key(*id);
        let lost: Vec<_> = all.stored.iter().filter(|id| !is_listed(id)).collect();
        let back: Vec<_> = all.gone.iter().filter(is_listed).collect();
        assert!(
            lost.is_empty() && back.is_empty(),
            "after life {life}, cut at {cut} answers: lost {lost:?}, came back {back:?}; \
             {SEED}={seed} repeats the cuts"
        );
        setup = registry.kill().await;
    }
    let (stored, gone) = (all.stored.len(), all.gone.len());
    // Pending answers, of which a healthy disk gives none, prove nothing.
    assert!(
        stored + gone >= REGISTRATIONS * 9 / 10,
        "{stored} stored, {gone} withdrawn; {SEED}={seed}"
    );
}
