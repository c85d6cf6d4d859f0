//! `/v1/recordings/{id}/control`: commands and events over one WebSocket (RFC 6455).

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use loom_engine::{Event, MediaTime, ReceptionStats, Recording, RecordingInfo};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use crate::app::App;
use crate::problem::{Answer, Problem};

/// Where a client that was cut off goes on.
#[derive(Debug, Deserialize)]
pub(crate) struct From {
    /// The `number` of the last event that it had.
    after: Option<u64>,
    /// Whether it wants to know how loud the sound is.
    #[serde(default)]
    levels: bool,
}

/// What a client asks for.
#[derive(Debug, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
enum Command {
    Pause,
    Resume,
    Stop,
    /// A chapter begins, here or `at` so many seconds.
    Mark {
        title: String,
        at: Option<f64>,
    },
}

/// `GET /v1/recordings/{id}/control?after=NUMBER&levels=true`, upgraded to a WebSocket.
///
/// The client sends `{"id": 7, "command": "pause"}`, `resume`, `stop`, or `mark` with `title` and `at?`, and is answered
/// `{"answer": 7, "ok": true, "state": "paused"}`, or with `"ok": false` and a `problem` (RFC 9457). A command that was carried out before is
/// carried out once. In between it is told each event as `{"event": "state", "number": 1764…, …}`, first how the recording stands, or with
/// `after` what was missed, and every second `{"event": "clock", "state": …, "duration": …, "network": …}`
/// (`packets_received`, of which `packets_asked` came late or were lost and `requests` were sent for them, `round_trip` in seconds; the same in `joined`, by name, of each publisher that
/// has joined); at last `{"event": "end"}`. With `levels=true` it is told four times a second how loud each sound is that comes in:
/// `{"event": "levels", "levels": [{"mid": "0", "level": -23}]}`, in dBov (RFC 6464), and `publisher` of one that has joined.
pub(crate) async fn open(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(from): Query<From>,
    upgrade: WebSocketUpgrade,
) -> Answer<Response> {
    let recording = app.recording(&id).await?;
    let upgrade = upgrade
        .max_message_size(LARGEST_COMMAND)
        .max_frame_size(LARGEST_COMMAND);
    Ok(upgrade.on_upgrade(move |socket| async move {
        // who is gone is not told why
        let _ = follow(app, recording, from, socket).await;
    }))
}

/// Tells and obeys until either side ends it.
async fn follow(
    app: App,
    recording: Recording,
    from: From,
    mut socket: WebSocket,
) -> Result<(), axum::Error> {
    let mut events = from
        .after
        .map_or_else(|| recording.events(), |after| recording.events_after(after));
    let mut ended = Box::pin(app.ended());
    let mut clock = interval(Duration::from_secs(1));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut meter = interval(LEVELS_EVERY);
    meter.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else {
                    socket.send(text(&json!({"event": "end"}))).await?;
                    return socket.send(Message::Close(None)).await;
                };
                socket.send(text(&told(&event, events.number()))).await?;
            }
            _ = clock.tick() => {
                let info = recording.info();
                if info.state.is_live() {
                    let now = json!({
                        "event": "clock", "state": info.state, "duration": info.duration,
                        "network": recording.reception().map(network),
                        "joined": joined(&recording, &info),
                    });
                    socket.send(text(&now)).await?;
                }
            }
            _ = meter.tick(), if from.levels => {
                let levels = recording.levels();
                if !levels.is_empty() {
                    socket.send(text(&json!({"event": "levels", "levels": levels}))).await?;
                }
            }
            () = &mut ended => return socket.send(Message::Close(None)).await,
            message = socket.recv() => match message.transpose()? {
                Some(Message::Text(asked)) => {
                    let answer = obey(&recording, asked.as_str()).await;
                    socket.send(text(&answer)).await?;
                }
                Some(Message::Close(_)) | None => return Ok(()),
                // pings are answered where they are read; there are no commands in bytes
                Some(_) => {}
            },
        }
    }
}

/// The road from each publisher that has joined and is there.
fn joined(recording: &Recording, info: &RecordingInfo) -> Value {
    let roads = info.joined.iter().filter_map(|it| {
        let road = recording.joined_reception(&it.name)?;
        Some((it.name.to_string(), network(road)))
    });
    roads.collect::<serde_json::Map<_, _>>().into()
}

/// The road from the publisher, as it was so far.
fn network(stats: ReceptionStats) -> Value {
    json!({
        "packets_received": stats.packets_received,
        "packets_asked": stats.packets_asked,
        "requests": stats.requests,
        "round_trip": stats.round_trip.map(|it| it.as_secs_f64()),
    })
}

/// Carries a command out; the answer to it.
async fn obey(recording: &Recording, asked: &str) -> Value {
    let id = serde_json::from_str::<Value>(asked)
        .ok()
        .and_then(|asked| asked.get("id").cloned());
    let done: Answer<()> = match serde_json::from_str::<Command>(asked) {
        Ok(Command::Pause) => recording.pause().await.map_err(Problem::from),
        Ok(Command::Resume) => recording.resume().await.map_err(Problem::from),
        Ok(Command::Stop) => recording.stop().await.map_err(Problem::from),
        Ok(Command::Mark { title, at }) => {
            let at = at.map(MediaTime::from_secs_f64);
            recording.mark(at, &title).await.map(drop).map_err(Problem::from)
        }
        Err(why) => Err(Problem::bad_request(
            "bad-command",
            format!("this is no command: {why}"),
        )),
    };
    match done {
        Ok(()) => json!({"answer": id, "ok": true, "state": recording.info().state}),
        Err(problem) => json!({"answer": id, "ok": false, "problem": problem.document()}),
    }
}

fn told(event: &Event, number: Option<u64>) -> Value {
    let mut told = serde_json::to_value(event).unwrap_or_default();
    if let (Some(fields), Some(number)) = (told.as_object_mut(), number) {
        fields.insert("number".to_owned(), number.into());
    }
    told
}

fn text(value: &Value) -> Message {
    Message::Text(value.to_string().into())
}

/// How often it is told how loud the sound is.
const LEVELS_EVERY: Duration = Duration::from_millis(250);

/// Bytes of a command.
const LARGEST_COMMAND: usize = 4 * 1024;
