//! `/v1/recordings/{id}/events`: what happens, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt};
use http::{HeaderMap, HeaderName, StatusCode, header};
use loom_engine::Event;

use crate::app::App;
use crate::problem::Answer;

/// `GET /v1/recordings/{id}/events`: `state`, `caption`, `progress` and `renditions`, first as things stand, then as they
/// happen; then one `end`, after which the answer ends. A browser that was cut off is told what it missed (`Last-Event-ID`); one that
/// comes back after `end` is told 204, which is how an EventSource learns to stop (HTML Living Standard §9.2.3).
pub(crate) async fn stream(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Response> {
    let recording = app.recording(&id).await?;
    if headers.get(LAST_EVENT_ID).is_some_and(|last| last == END) && recording.info().state.is_final() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let last = headers
        .get(LAST_EVENT_ID)
        .and_then(|last| last.to_str().ok()?.parse().ok());
    let events = last.map_or_else(|| recording.events(), |last| recording.events_after(last));
    let told = stream::unfold(Some(events), |events| async move {
        let mut events = events?;
        Some(match events.next().await {
            Some(event) => {
                let event = write(&event);
                let event = match events.number() {
                    Some(number) => event.id(number.to_string()),
                    None => event,
                };
                (event, Some(events))
            }
            None => (SseEvent::default().event(END).id(END).data("{}"), None),
        })
    });
    let answer = Sse::new(endless_free(told, app.ended()));
    let answer = answer.keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("still here"));
    Ok((
        [(header::CACHE_CONTROL, "no-store"), (ACCEL_BUFFERING, "no")],
        answer,
    )
        .into_response())
}

/// The stream, cut when the server is told to end, so that an open page does not hold it.
fn endless_free(
    events: impl Stream<Item = SseEvent> + Send,
    ended: impl Future<Output = ()> + Send,
) -> impl Stream<Item = Result<SseEvent, Infallible>> + Send {
    events.take_until(Box::pin(ended)).map(Ok)
}

/// The event's own tag becomes the SSE event's name, the rest its data.
fn write(event: &Event) -> SseEvent {
    let mut data = serde_json::to_value(event).unwrap_or_default();
    let name = data.as_object_mut().and_then(|fields| fields.remove("event"));
    SseEvent::default()
        .event(name.as_ref().and_then(|name| name.as_str()).unwrap_or("message"))
        .data(data.to_string())
}

/// The last event's name and id.
const END: &str = "end";
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells a proxy in front not to hold events back.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// A comment this often keeps proxies from closing a quiet stream.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use loom_engine::RecordingState;

    #[test]
    fn an_event_is_named_by_its_kind_and_carries_only_its_data() {
        let event = Event::State {
            state: RecordingState::Live,
            reason: None,
            duration: 1.5,
        };
        let text = format!("{:?}", write(&event));
        assert!(
            text.contains("event: state") && text.contains("duration") && !text.contains("\\\"event\\\""),
            "{text}"
        );
    }
}
