//! `/v1/recordings/{id}/hls/…`: playlists, parts and segments, as the engine's origin answers.

use loom_engine::HlsService;

use crate::app::App;

/// Answers below `/v1/recordings/{id}/hls/`. A blocking playlist reload (RFC 8216bis §6.2.5.2) waits in the engine; when the server
/// is told to end, the recordings end, and with them every wait.
pub(crate) fn service(app: &App) -> HlsService {
    HlsService::new(app.engine.clone()).at(BEFORE, BETWEEN)
}

/// Whether the engine's origin answers for that path.
pub(crate) fn is_stream(path: &str) -> bool {
    let below = path.strip_prefix(BEFORE).and_then(|rest| rest.split_once('/'));
    below.is_some_and(|(_, path)| path.starts_with(&BETWEEN[1..]))
}

/// As the router has it.
pub(crate) const ROUTE: &str = "/v1/recordings/{id}/hls/{*path}";
const BEFORE: &str = "/v1/recordings/";
const BETWEEN: &str = "/hls/";
