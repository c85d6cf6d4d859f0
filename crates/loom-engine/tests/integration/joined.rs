//! Publishers who join a recording beside its own: real packets, by a WebRTC stack over loopback, and what the host pushes.

use std::time::Duration;

use loom_core::MediaKind;
use loom_engine::{
    EngineError, Event, MediaTime, PublishAnswer, PublisherName, PushTrack, Recording, RecordingId,
    RecordingState, TrackState,
};

use crate::late::{Publisher, engine, film, gaps, playlist};
use crate::support::ended;

fn named(name: &str) -> PublisherName {
    PublisherName::new(name).expect("a name")
}

/// A telephone that joins and is connected.
async fn joined(recording: &Recording) -> (Publisher, PublishAnswer) {
    let (mut phone, offer) = Publisher::new(false).await;
    let answer = recording.join(named("phone"), &offer).await.expect("an answer");
    phone.connect(&answer.sdp).await;
    (phone, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_joins_may_be_there_first_go_and_come_back_and_ends_nothing() {
    let Some(film) = film() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path()).await;
    let recording = engine.create(RecordingId::random()).expect("a recording");
    let mut events = recording.events();
    let told = tokio::spawn(async move {
        let mut told = Vec::new();
        while let Some(event) = events.next().await {
            if let Event::Joined { joined } = event {
                told.extend(joined);
            }
        }
        told
    });

    let (mut phone, answer) = joined(&recording).await;
    let telephone = async {
        phone.send(&film, 150, 0, 0).await;
        recording.hang_up(&answer.session).expect("it goes");
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(recording.info().state, RecordingState::Live);
        let (mut phone, answer) = joined(&recording).await;
        phone.send(&film, 150, 0, 0).await;
        assert!(recording.session(&answer.session).is_ok());
        // it vanishes without a word
    };
    let screen = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(
            recording.info().state,
            RecordingState::Created,
            "who joins begins nothing"
        );
        let (mut screen, offer) = Publisher::new(false).await;
        let answer = recording.publish(&offer).await.expect("an answer");
        screen.connect(&answer.sdp).await;
        screen.send(&film, 450, 0, 0).await;
        answer
    };
    let ((), answer) = tokio::join!(telephone, screen);
    assert_eq!(recording.info().state, RecordingState::Live);
    recording.hang_up(&answer.session).expect("the screen goes");
    assert_eq!(ended(&recording).await, RecordingState::Ready);

    let info = recording.info();
    assert!(info.reason.is_none() && info.gaps.is_empty(), "{info:?}");
    let whose: Vec<_> = info.tracks.iter().map(|it| it.publisher.clone()).collect();
    assert_eq!(whose, [None, Some(named("phone"))], "{info:?}");
    assert!(
        info.tracks
            .iter()
            .all(|it| it.kind == MediaKind::Video && it.renditions.len() == 1),
        "{info:?}"
    );
    let told = told.await.expect("the events end");
    let states: Vec<_> = told.iter().map(|it| it.state).collect();
    let running = states.iter().filter(|it| **it == TrackState::Running).count();
    assert!(running >= 2 && states.contains(&TrackState::Paused), "{told:?}");
    assert_eq!(info.joined.len(), 1, "{info:?}");

    let (source, camera) = (
        playlist(&recording, "source").await,
        playlist(&recording, "video-2").await,
    );
    assert_eq!(camera.segments.len(), source.segments.len());
    // where it is away its segments go on until they are as long as they may be, but end with the others
    let lengths = [&camera, &source].map(|list| list.segments.iter().map(|it| it.duration).sum::<f32>());
    assert!((lengths[0] - lengths[1]).abs() < 0.1, "{lengths:?}");
    let absent: f64 = (camera.segments.iter().zip(gaps(&camera)))
        .filter(|(_, gap)| *gap)
        .map(|(it, _)| f64::from(it.duration))
        .sum();
    let length: f64 = source.segments.iter().map(|it| f64::from(it.duration)).sum();
    assert!(
        length > 15.0 && absent < length / 2.0,
        "{absent} s of {length} s: {camera:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_may_join_and_nobody_what_has_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path()).await;
    let recording = engine.create(RecordingId::random()).expect("a recording");
    let opus = || vec![PushTrack::Opus { channels: 2 }];
    let mut pushers = Vec::new();
    for name in ["a", "b", "c", "d"] {
        pushers.push(
            recording
                .push_beside(named(name), opus())
                .await
                .expect("it joins"),
        );
    }
    let fifth = recording.push_beside(named("e"), opus()).await.map(drop);
    assert!(
        matches!(fifth, Err(EngineError::Crowded { limit: 4, .. })),
        "{fifth:?}"
    );
    let back = recording.push_beside(named("a"), opus()).await;
    assert!(back.is_ok(), "one that comes back has a place");
    recording.stop().await.expect("it is stopped");
    let late = recording.push_beside(named("a"), opus()).await.map(drop);
    assert!(matches!(late, Err(EngineError::WrongState { .. })), "{late:?}");
    let opus = || bytes::Bytes::from_static(&[0xf8, 0xff, 0xfe]);
    for pusher in &pushers {
        let closed = async {
            for part in 0.. {
                let at = MediaTime::from_millis(part * 20);
                if let Err(why) = pusher.packet(0, at, at, opus()) {
                    return why;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            unreachable!("there are numbers enough")
        };
        let why = tokio::time::timeout(Duration::from_secs(30), closed).await;
        assert!(matches!(why, Ok(EngineError::WrongState { .. })), "{why:?}");
    }
}
