//! `/v1/recordings/{id}/hls/…`: playlists, parts and segments, as the engine's origin answers.

use loom_engine::HlsService;

use crate::app::App;

/// Answers below `/v1/recordings/{id}/hls/`. A blocking playlist reload (RFC 8216bis §6.2.5.2) waits in the engine; when the server
/// is told to end, the recordings end, and with them every wait.
pub(crate) fn service(app: &App) -> HlsService {
    HlsService::new(app.engine.clone()).at("/v1/recordings/", "/hls/")
}
