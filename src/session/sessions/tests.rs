use std::future::pending;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::backend::WatchError;
use crate::backend::memory::Memory;
use crate::writeback;

/// A store whose writes hang while it is told so.
#[derive(Debug)]
struct Hanging {
    inner: Memory,
    hangs: watch::Sender<bool>,
}

impl Hanging {
    fn new(hangs: bool) -> Arc<Self> {
        Arc::new(Self {
            inner: Memory::new(),
            hangs: watch::Sender::new(hangs),
        })
    }
}

impl Backend for Hanging {
    fn write(&self, write: Write) -> BoxFuture<'static, Result<Revision, WriteError>> {
        if *self.hangs.borrow() {
            Box::pin(pending())
        } else {
            self.inner.write(write)
        }
    }

    fn watch(&self) -> BoxStream<'static, Result<Change, WatchError>> {
        self.inner.watch()
    }

    fn ping(&self) -> BoxFuture<'static, Result<(), WriteError>> {
        self.inner.ping()
    }
}

const HERE: ConnectionId = ConnectionId(1);

fn sessions(backend: &Arc<dyn Backend>) -> Arc<Sessions> {
    let setup = Setup {
        identity: "me".into(),
        shared: false,
        grace: Setup::GRACE,
        sessions: 10,
        seed: 1,
    };
    let sessions = Sessions::new(setup, backend);
    sessions.opened(HERE);
    Arc::new(sessions)
}

/// Tells what the store holds at first.
async fn read(sessions: &Sessions, backend: &dyn Backend) {
    let mut changes = backend.watch();
    for _ in Kind::ALL {
        sessions.apply(&[changes.next().await.unwrap().unwrap()]);
    }
    assert!(sessions.is_ready());
}

async fn ask(sessions: &Sessions, line: &str) -> Reply {
    sessions.ask(HERE, Command::parse(line).unwrap()).await
}

fn id(reply: Reply) -> String {
    match reply {
        Reply::Ack(id) => id.secret().to_owned(),
        other => panic!("{other:?}"),
    }
}

const REGISTER: &str = "REGISTER|api|h|9000|0";

#[tokio::test]
async fn a_store_that_is_not_waited_for_is_written_at_once() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let sessions = sessions(&backend);
    let unavailable = Reply::from(Problem::Unavailable);
    assert_eq!(
        ask(&sessions, REGISTER).await,
        unavailable,
        "it was not read"
    );
    read(&sessions, &*backend).await;
    // No task writes, and nothing is waited for.
    let mut versions = sessions.versions();
    versions.mark_unchanged();
    let reply = ask(&sessions, REGISTER).now_or_never().unwrap();
    let sid = id(reply);
    assert!(versions.has_changed().unwrap());
    let route = format!("ROUTE|{sid}|a.com|/|http://h");
    assert_eq!(ask(&sessions, &route).now_or_never(), Some(Reply::RouteOk));
    let (version, served) = sessions.served();
    assert_eq!((served.len(), version), (1, sessions.version()));
    assert_eq!(sessions.waiting_writes(), 0);
    assert_eq!(sessions.figures().states[&State::Connected], 1);
    assert_eq!(
        ask(&sessions, &format!("SHUTDOWN|{sid}")).now_or_never(),
        Some(Reply::Goodbye)
    );
    assert!(sessions.sessions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn decision_15_a_store_that_hangs_is_waited_for_4_s_and_nothing_half_done_stays() {
    let store = Hanging::new(true);
    let backend: Arc<dyn Backend> = store.clone();
    let sessions = sessions(&backend);
    read(&sessions, &*backend).await;
    let stop = CancellationToken::new();
    let writing = writeback::run(
        Arc::clone(&sessions),
        Arc::clone(&backend),
        stop.clone(),
        Duration::from_secs(60),
    );
    let asking = async {
        let began = tokio::time::Instant::now();
        let reply = ask(&sessions, REGISTER).await;
        assert_eq!(reply, Problem::Unavailable.into());
        assert_eq!(began.elapsed().as_secs(), 4);
        assert_eq!(sessions.figures().given_up, 1);
        // The hung write has had its time too: the next is not made to wait for it.
        store.hangs.send_replace(false);
        let sid = id(ask(&sessions, REGISTER).await);
        let reply = ask(&sessions, &format!("VALIDATE|{sid}")).await;
        assert!(matches!(reply, Reply::Error(Problem::InvalidRoute(_))));
        stop.cancel();
        sid
    };
    let (left, sid) = tokio::join!(writing, asking);
    assert_eq!(left, 0);
    let mut changes = backend.watch();
    let mut stored = Vec::new();
    for _ in Kind::ALL {
        if let Change::Reset(Kind::Session, all, _) = changes.next().await.unwrap().unwrap() {
            stored = all;
        }
    }
    let keys: Vec<_> = stored.iter().map(|stored| stored.record.key()).collect();
    assert_eq!(keys, [Key::Session(SessionKey::of(&sid))]);
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_while_the_store_is_waited_for_is_not_waited_for() {
    let store = Hanging::new(true);
    let backend: Arc<dyn Backend> = store.clone();
    let sessions = sessions(&backend);
    read(&sessions, &*backend).await;
    let asked = tokio::time::timeout(Duration::from_secs(1), ask(&sessions, REGISTER)).await;
    assert!(asked.is_err());
    assert_eq!(sessions.inner.lock().waiters.len(), 1);
    tokio::time::advance(ANSWER_WITHIN).await;
    sessions.sweep(&Set::default());
    assert_eq!(sessions.inner.lock().waiters.len(), 0);
}

#[tokio::test]
async fn changes_of_others_are_passed_over() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let sessions = sessions(&backend);
    let reset = |kind| Change::Reset(kind, Vec::new(), Revision(1));
    sessions.apply(&[reset(Kind::Endpoint), reset(Kind::Replica)]);
    assert!(!sessions.is_ready());
    sessions.apply(&[reset(Kind::Session)]);
    assert!(sessions.is_ready());
}
