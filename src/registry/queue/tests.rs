//! When which record is written, and who is to blame when it is not.

use super::*;
use crate::time::Now;

const SECOND: Duration = Duration::from_secs(1);

fn queue() -> (Queue<&'static str>, Instant) {
    (Queue::new(fastrand::Rng::with_seed(1)), Now::read().mono)
}

#[test]
fn keys_are_taken_in_the_order_they_came() {
    let (mut queue, now) = queue();
    queue.push(&"a", now);
    queue.push(&"b", now);
    assert_eq!(queue.take(now), Some("a"));
    assert_eq!(queue.take(now), Some("b"));
    assert_eq!(queue.take(now), None);
    assert!(queue.ended(&"b", Ended::Done, now));
    assert!(queue.ended(&"a", Ended::Done, now));
    assert!(queue.is_empty());
}

#[test]
fn a_conflict_after_an_outage_is_met_at_once() {
    let (mut queue, start) = queue();
    queue.push(&"a", start);
    let mut now = start;
    for _ in 0..20 {
        assert_eq!(queue.take(now), Some("a"));
        queue.ended(&"a", Ended::Unavailable, now);
        now += 2 * LONGEST_PAUSE;
    }
    assert_eq!(queue.take(now), Some("a"));
    queue.ended(&"a", Ended::Conflict, now);
    assert_eq!(
        queue.take(now),
        Some("a"),
        "somebody was faster, that is all"
    );
    queue.ended(&"a", Ended::Conflict, now);
    assert_eq!(queue.take(now), None, "this is no chance");
}

#[test]
fn many_changes_make_one_write_and_one_more_if_it_was_under_way() {
    let (mut queue, now) = queue();
    queue.push(&"a", now);
    queue.push(&"a", now);
    assert_eq!(queue.take(now), Some("a"));
    queue.push(&"a", now);
    queue.push(&"a", now);
    assert_eq!(queue.take(now), None, "one write at a time for one record");
    assert!(!queue.ended(&"a", Ended::Done, now));
    assert_eq!(queue.take(now), Some("a"));
    assert!(queue.ended(&"a", Ended::Done, now));
}

#[test]
fn an_outage_pauses_everything_and_is_probed_one_at_a_time() {
    let (mut queue, mut now) = queue();
    for key in ["a", "b", "c"] {
        queue.push(&key, now);
    }
    assert_eq!(queue.take(now), Some("a"));
    assert_eq!(queue.take(now), Some("b"));
    queue.ended(&"a", Ended::Unavailable, now);
    assert!(queue.store_is_away() && !queue.is_paused());
    queue.ended(&"b", Ended::Unavailable, now);
    assert!(queue.is_paused());
    assert_eq!(queue.take(now), None);
    let mut probed = BTreeSet::new();
    for _ in 0..20 {
        now = queue.next_due().unwrap();
        let key = queue.take(now).unwrap();
        probed.insert(key);
        assert_eq!(queue.take(now), None);
        queue.ended(&key, Ended::Unavailable, now);
    }
    assert_eq!(probed.len(), 3, "each has its turn");
    assert!(queue.next_due().unwrap() - now <= LONGEST_PAUSE.mul_f64(1.25));
    assert_eq!(queue.len(), 3);
    now = queue.next_due().unwrap();
    let back = queue.take(now).unwrap();
    queue.ended(&back, Ended::Done, now);
    assert!(!queue.store_is_away());
    assert!(queue.take(now).is_some() && queue.take(now).is_some());
}

/// Takes and ends everything that is due, until there is nothing more.
fn answer(queue: &mut Queue<&'static str>, now: Instant) -> Vec<&'static str> {
    let taken = std::iter::from_fn(|| {
        let key = queue.take(now)?;
        let how = match key {
            "bad" => Ended::Unavailable,
            _ => Ended::Done,
        };
        queue.ended(&key, how, now);
        Some(key)
    });
    taken.collect()
}

#[test]
fn a_record_that_always_fails_is_to_blame_itself_and_holds_nobody_up() {
    let (mut queue, mut now) = queue();
    queue.push(&"bad", now);
    assert_eq!(answer(&mut queue, now), ["bad"]);
    assert!(queue.store_is_away(), "nothing else was tried");
    queue.push(&"good", now);
    assert_eq!(answer(&mut queue, now), ["good"], "without a pause");
    assert!(!queue.store_is_away());
    let mut tries = 0;
    for _ in 0..600 {
        now += SECOND;
        queue.push(&"good", now);
        let answered = answer(&mut queue, now);
        assert!(answered.contains(&"good"), "{answered:?}");
        assert!(!queue.store_is_away());
        tries += answered.len() - 1;
    }
    assert!((12..40).contains(&tries), "{tries} tries in 10 minutes");
    assert!(queue.oldest_age(now) >= 600 * SECOND);
}

#[test]
fn a_write_that_hangs_holds_nobody_up_while_it_does() {
    let (mut queue, mut now) = queue();
    for _ in 0..10 {
        queue.push(&"bad", now);
        now = queue.next_due().unwrap().max(now);
        assert_eq!(queue.take(now), Some("bad"));
        for _ in 0..10 {
            now += SECOND;
            queue.push(&"good", now);
            assert_eq!(queue.take(now), Some("good"));
            queue.ended(&"good", Ended::Done, now);
        }
        queue.ended(&"bad", Ended::Unavailable, now);
        assert!(!queue.is_paused());
    }
}

#[test]
fn a_record_to_blame_hides_no_outage_and_makes_none() {
    let (mut queue, mut now) = queue();
    queue.push(&"bad", now);
    queue.push(&"good", now);
    answer(&mut queue, now);
    now += SECOND;
    assert_eq!(answer(&mut queue, now), ["bad"]);
    assert!(!queue.store_is_away());
    queue.push(&"a", now);
    queue.take(now);
    queue.ended(&"a", Ended::Unavailable, now);
    assert!(queue.store_is_away() && !queue.is_paused());
    queue.push(&"b", now);
    queue.take(now);
    queue.ended(&"b", Ended::Unavailable, now);
    assert!(queue.is_paused());
    now += LONGEST_WAIT * 2;
    // The one to blame is no obstacle to who finds out that the store is back.
    while let Some(key) = queue.take(now)
        && key != "bad"
    {
        queue.ended(&key, Ended::Unavailable, now);
        now = queue.next_due().unwrap().max(now);
    }
    now += LONGEST_WAIT;
    let other = queue.take(now).unwrap();
    queue.ended(&other, Ended::Done, now);
    assert!(!queue.store_is_away());
}

#[test]
fn one_record_alone_is_tried_again_within_seconds_while_the_store_is_away() {
    let (mut queue, mut now) = queue();
    queue.push(&"bad", now);
    for _ in 0..50 {
        now = queue.next_due().unwrap().max(now);
        assert_eq!(answer(&mut queue, now), ["bad"]);
        assert!(queue.store_is_away());
    }
    assert!(queue.next_due().unwrap() - now <= LONGEST_PAUSE.mul_f64(1.25));
}

#[test]
fn what_waits_can_be_cancelled_and_what_is_under_way_not() {
    let (mut queue, now) = queue();
    queue.push(&"a", now);
    assert!(queue.cancel(&"a"));
    assert!(queue.is_empty() && queue.next_due().is_none());
    queue.push(&"b", now);
    queue.take(now);
    assert!(!queue.cancel(&"b"));
    assert!(queue.ended(&"b", Ended::Done, now));
}

#[test]
fn a_refused_record_does_not_hold_up_the_others() {
    let (mut queue, now) = queue();
    queue.push(&"bad", now);
    queue.push(&"good", now);
    assert_eq!(queue.take(now), Some("bad"));
    queue.ended(&"bad", Ended::Refused, now);
    assert_eq!(queue.take(now), Some("good"));
    queue.ended(&"good", Ended::Done, now);
    assert_eq!(queue.take(now), None);
    assert_eq!(queue.take(now + SECOND), Some("bad"));
    assert_eq!(queue.oldest_age(now + SECOND), SECOND);
}

#[test]
fn the_first_conflict_is_tried_again_at_once() {
    let (mut queue, now) = queue();
    queue.push(&"a", now);
    queue.take(now);
    queue.ended(&"a", Ended::Conflict, now);
    assert_eq!(queue.take(now), Some("a"));
    queue.ended(&"a", Ended::Conflict, now);
    assert_eq!(queue.take(now), None);
    assert!(queue.next_due().unwrap() - now < SECOND);
}
