use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::stream;
use parking_lot::Mutex;

use super::*;

type Done = Result<(), Infallible>;

/// What happened, in order.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<&'static str>>>);

impl Diary {
    fn note(&self, what: &'static str) {
        self.0.lock().push(what);
    }

    fn read(&self) -> Vec<&'static str> {
        self.0.lock().clone()
    }

    /// A task that takes `time` to stop.
    fn task(
        &self,
        name: &'static str,
        time: Duration,
    ) -> impl FnOnce(CancellationToken) -> futures::future::BoxFuture<'static, Done> + use<> {
        let diary = self.clone();
        move |stop| {
            Box::pin(async move {
                stop.cancelled().await;
                diary.note(name);
                tokio::time::sleep(time).await;
                diary.note("done");
                Ok(())
            })
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn one_signal() -> impl Stream<Item = Signal> + Unpin {
    stream::iter([Signal::Terminate]).chain(stream::pending())
}

#[tokio::test(start_paused = true)]
async fn phases_stop_in_order_and_each_waits_for_the_one_before() {
    let diary = Diary::default();
    let mut supervisor = Supervisor::new();
    let first = supervisor.phase("accepting", 5 * SECOND);
    let second = supervisor.phase("flushing", 5 * SECOND);
    let stopping = supervisor.stopping();
    supervisor.spawn(second, "writer", diary.task("writer", SECOND));
    supervisor.spawn(first, "server", diary.task("server", 2 * SECOND));
    let begun = Instant::now();
    assert!(!stopping.is_cancelled());
    assert_eq!(supervisor.run(one_signal()).await, Ended::Stopped);
    assert!(stopping.is_cancelled());
    assert_eq!(diary.read(), ["server", "done", "writer", "done"]);
    assert_eq!(begun.elapsed(), 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_phase_that_takes_too_long_is_aborted_and_the_next_has_its_turn() {
    let diary = Diary::default();
    let mut supervisor = Supervisor::new();
    let first = supervisor.phase("accepting", 5 * SECOND);
    let second = supervisor.phase("flushing", 5 * SECOND);
    supervisor.spawn(first, "server", diary.task("server", 60 * SECOND));
    supervisor.spawn(second, "writer", diary.task("writer", SECOND));
    let begun = Instant::now();
    assert_eq!(supervisor.run(one_signal()).await, Ended::Stopped);
    assert_eq!(diary.read(), ["server", "writer", "done"]);
    assert_eq!(begun.elapsed(), 6 * SECOND);
}

/// Runs a task that ends with `end` beside one that must be stopped in order.
async fn ends_with<F: Future<Output = Result<(), String>> + Send + 'static>(end: F) -> Failure {
    let diary = Diary::default();
    let mut supervisor = Supervisor::new();
    let first = supervisor.phase("accepting", SECOND);
    let second = supervisor.phase("flushing", SECOND);
    supervisor.spawn(first, "server", diary.task("server", Duration::ZERO));
    supervisor.spawn(second, "writer", |_| end);
    match supervisor.run(stream::pending()).await {
        Ended::Failed(failure) => {
            assert_eq!(diary.read(), ["server", "done"]);
            failure
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_takes_the_process_down_with_its_name_and_reason() {
    let failure = ends_with(async { Ok(()) }).await;
    assert_eq!(failure.to_string(), "the writer ended by itself");
    let failure = ends_with(async { Err("no space".into()) }).await;
    assert_eq!(failure.to_string(), "the writer failed: no space");
    let failure = ends_with(async { panic!("out of {}", "bounds") }).await;
    assert_eq!(failure.to_string(), "the writer panicked: out of bounds");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_while_it_stops_is_a_failure() {
    let mut supervisor = Supervisor::new();
    let phase = supervisor.phase("flushing", SECOND);
    supervisor.spawn(phase, "writer", |stop| async move {
        stop.cancelled().await;
        Err("3 writes are lost")
    });
    let expected = Failure {
        task: "writer",
        reason: "failed: 3 writes are lost".into(),
    };
    assert_eq!(supervisor.run(one_signal()).await, Ended::Failed(expected));
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_is_the_one_that_is_told() {
    let mut supervisor = Supervisor::new();
    let first = supervisor.phase("accepting", SECOND);
    let second = supervisor.phase("flushing", SECOND);
    supervisor.spawn(first, "server", |_| async { Err("first") });
    supervisor.spawn(second, "writer", |stop| async move {
        stop.cancelled().await;
        Err("second")
    });
    match supervisor.run(stream::pending()).await {
        Ended::Failed(failure) => assert_eq!(failure.reason, "failed: first"),
        other => panic!("{other:?}"),
    }
}

/// A server that takes the signals it is told of into a channel while it stops.
fn signalled_while_stopping(
    supervisor: &mut Supervisor,
    phase: Phase,
    signals: UnboundedSender<Signal>,
    further: &'static [Signal],
) {
    supervisor.spawn(phase, "server", move |stop| async move {
        stop.cancelled().await;
        for signal in further {
            signals.unbounded_send(*signal).unwrap();
        }
        pending::<Done>().await
    });
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_aborts_at_once() {
    let mut supervisor = Supervisor::new();
    let phase = supervisor.phase("accepting", 3600 * SECOND);
    let (sender, receiver) = unbounded();
    sender.unbounded_send(Signal::Terminate).unwrap();
    signalled_while_stopping(&mut supervisor, phase, sender, &[Signal::Interrupt]);
    let begun = Instant::now();
    let ended = supervisor.run(receiver).await;
    assert_eq!(ended, Ended::Aborted(Signal::Interrupt));
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn one_signal_after_a_failure_does_not_cut_the_stop_short() {
    let mut supervisor = Supervisor::new();
    let phase = supervisor.phase("accepting", 5 * SECOND);
    let (sender, receiver) = unbounded();
    signalled_while_stopping(&mut supervisor, phase, sender, &[Signal::Terminate]);
    supervisor.spawn(phase, "reloader", |_| async { Err("boom") });
    let begun = Instant::now();
    let ended = supervisor.run(receiver).await;
    assert!(matches!(ended, Ended::Failed(_)), "{ended:?}");
    assert_eq!(begun.elapsed(), 5 * SECOND);
}

#[test]
fn exit_codes_are_those_of_a_shell() {
    assert_eq!(Signal::Interrupt.exit_code(), 130);
    assert_eq!(Signal::Terminate.exit_code(), 143);
}
