//! `/v1/pathways`: how the hosts that serve the recordings are ranked (RFC 8216bis §7).

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use loom_engine::EngineError;

use crate::app::App;
use crate::problem::{Answer, Problem};

/// `GET /v1/pathways`: their names, the best first.
pub(crate) async fn show(State(app): State<App>) -> Json<Vec<String>> {
    Json(app.engine.ranking())
}

/// `PUT /v1/pathways`: a JSON array of their names, the best first. Viewers follow within seconds.
pub(crate) async fn rank(
    State(app): State<App>,
    ranking: Result<Json<Vec<String>>, JsonRejection>,
) -> Answer<Json<Vec<String>>> {
    let Json(ranking) = ranking.map_err(|why| Problem::bad_request("bad-ranking", why.body_text()))?;
    match app.engine.set_ranking(&ranking) {
        Ok(()) => Ok(Json(app.engine.ranking())),
        Err(EngineError::Package(why)) => Err(Problem::bad_request("bad-ranking", why.to_string())),
        Err(why) => Err(why.into()),
    }
}
