//! `/metrics`: how many requests, how long they took, and what the engine counts, as Prometheus text.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use metrics::{Counter, Histogram, SharedString};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

use crate::app::App;

/// Makes the process's recorder. Once a process.
pub(crate) fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets(&SECONDS)?
        .install_recorder()?;
    for (name, kind, what) in ALL {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *what),
            Kind::Gauge => metrics::describe_gauge!(*name, *what),
            Kind::Histogram => metrics::describe_histogram!(*name, *what),
        }
    }
    metrics::gauge!("loom_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// All that the engine and the server count, and what it means.
const ALL: &[(&str, Kind, &str)] = &[
    (
        "loom_build_info",
        Kind::Gauge,
        "1, with the version of this server.",
    ),
    (
        "loom_tasks_alive",
        Kind::Gauge,
        "Tasks that have not ended, as of the last five seconds.",
    ),
    (
        "loom_http_requests_total",
        Kind::Counter,
        "Requests answered, by route, method and status.",
    ),
    (
        "loom_http_request_duration_seconds",
        Kind::Histogram,
        "Time to the head of the answer, by route and method. A blocking playlist reload waits for its part.",
    ),
    (
        "loom_upload_bytes_total",
        Kind::Counter,
        "Bytes of media files received.",
    ),
    (
        "loom_recordings_live",
        Kind::Gauge,
        "Recordings that are live, paused or waited for.",
    ),
    (
        "loom_rungs_late_total",
        Kind::Counter,
        "Rungs of live recordings that were shed because encoders were behind.",
    ),
    (
        "loom_live_planned_cores",
        Kind::Gauge,
        "Cores that the ladders of live recordings are planned to take.",
    ),
    (
        "loom_live_price",
        Kind::Gauge,
        "Cores that a planned core really takes, as last measured.",
    ),
    (
        "loom_recordings_started_total",
        Kind::Counter,
        "Recordings that went live.",
    ),
    (
        "loom_recorded_seconds_total",
        Kind::Counter,
        "Whole seconds of media recorded.",
    ),
    (
        "loom_received_bytes_total",
        Kind::Counter,
        "Bytes of media that publishers sent.",
    ),
    (
        "loom_written_bytes_total",
        Kind::Counter,
        "Bytes of segments and playlists written to the disk.",
    ),
    (
        "loom_joined_total",
        Kind::Counter,
        "Publishers that joined a recording beside its own, each time that they came.",
    ),
    (
        "loom_reconnects_total",
        Kind::Counter,
        "Publishers that came back to their recording.",
    ),
    (
        "loom_resumes_total",
        Kind::Counter,
        "Recordings that went on after a pause.",
    ),
    (
        "loom_first_key_frame_seconds",
        Kind::Histogram,
        "From a publisher's offer to its first key frame.",
    ),
    (
        "loom_part_listed_seconds",
        Kind::Histogram,
        "From the arrival of the newest media of a part to the part being listed: transcoding, packaging and the disk.",
    ),
    (
        "loom_stop_seconds",
        Kind::Histogram,
        "From a stop to complete playlists.",
    ),
    (
        "loom_packaging_queued",
        Kind::Gauge,
        "Packets that wait to be packaged.",
    ),
    (
        "loom_packets_refused_total",
        Kind::Counter,
        "Packets that could not be packaged.",
    ),
    (
        "loom_chunks_encoded_total",
        Kind::Counter,
        "Chunks of files that were encoded.",
    ),
    (
        "loom_chunks_found_total",
        Kind::Counter,
        "Chunks of files that an earlier process had encoded.",
    ),
    (
        "loom_chunks_refused_total",
        Kind::Counter,
        "Chunks of files that the host's worker did not encode.",
    ),
    (
        "loom_thumbnails_dropped_total",
        Kind::Counter,
        "Thumbnails left out under load.",
    ),
    (
        "loom_cues_unmoderated_total",
        Kind::Counter,
        "Final captions that a moderator was too slow to look at.",
    ),
    (
        "loom_caption_frames_dropped_total",
        Kind::Counter,
        "Stretches of sound that live captions missed under load.",
    ),
    (
        "loom_rungs_shed_total",
        Kind::Counter,
        "Renditions given up for want of room on the disk.",
    ),
    (
        "loom_media_lost_total",
        Kind::Counter,
        "Gaps left by a disk that took nothing.",
    ),
    (
        "loom_jobs_running",
        Kind::Gauge,
        "Jobs that are being done for recordings that have ended, by job.",
    ),
    ("loom_jobs_done_total", Kind::Counter, "Jobs done, by job."),
    (
        "loom_job_failures_total",
        Kind::Counter,
        "Tries that failed, by job.",
    ),
    (
        "loom_jobs_parked_total",
        Kind::Counter,
        "Jobs whose last try failed, by job: somebody has to restart them.",
    ),
    (
        "loom_job_seconds",
        Kind::Histogram,
        "How long tries took, by job.",
    ),
    (
        "loom_store_puts_total",
        Kind::Counter,
        "Objects sent to the store.",
    ),
    (
        "loom_store_sent_bytes_total",
        Kind::Counter,
        "Bytes sent to the store.",
    ),
    (
        "loom_store_failures_total",
        Kind::Counter,
        "Rounds in which the store did not take everything.",
    ),
    (
        "loom_sync_seconds",
        Kind::Histogram,
        "How long it took to write everything to the disk.",
    ),
    (
        "loom_sync_errors_total",
        Kind::Counter,
        "Times that everything could not be written to the disk.",
    ),
];

/// Folds what was observed into the histograms, so that memory does not grow while nobody asks.
pub(crate) async fn keep_up(handle: PrometheusHandle) {
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tick.tick().await;
        handle.run_upkeep();
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        metrics::gauge!("loom_tasks_alive").set(tasks as f64);
    }
}

/// `GET /metrics`
pub(crate) async fn serve(State(app): State<App>) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        app.metrics.render(),
    )
        .into_response()
}

/// Counts and times every request. Routes are told by their templates, so that ids make no series of their own.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("none", MatchedPath::as_str)
        .to_owned();
    let method = known(request.method());
    let response = next.run(request).await;
    count(route.clone(), method, response.status()).increment(1);
    duration(route, method).record(began.elapsed().as_secs_f64());
    response
}

fn count(route: impl Into<SharedString>, method: &'static str, status: StatusCode) -> Counter {
    let status = status.as_u16().to_string();
    metrics::counter!("loom_http_requests_total", "route" => route.into(), "method" => method, "status" => status)
}

fn duration(route: impl Into<SharedString>, method: &'static str) -> Histogram {
    metrics::histogram!("loom_http_request_duration_seconds", "route" => route.into(), "method" => method)
}

/// The same for a route that is asked for all the time: what counts most answers is looked up once.
pub(crate) struct Answered {
    route: &'static str,
    whole: Counter,
    duration: Histogram,
}

/// One request of that route.
pub(crate) struct Observed {
    of: Arc<Answered>,
    method: &'static str,
    began: Instant,
}

impl Answered {
    pub(crate) fn new(route: &'static str) -> Self {
        Self {
            route,
            whole: count(route, USUAL, StatusCode::OK),
            duration: duration(route, USUAL),
        }
    }

    pub(crate) fn begin(self: &Arc<Self>, method: &Method) -> Observed {
        Observed {
            of: Arc::clone(self),
            method: known(method),
            began: Instant::now(),
        }
    }
}

impl Observed {
    /// It is answered.
    pub(crate) fn end(&self, status: StatusCode) {
        let seconds = self.began.elapsed().as_secs_f64();
        let (of, method) = (&self.of, self.method);
        match (method, status) {
            (USUAL, StatusCode::OK) => of.whole.increment(1),
            _ => count(of.route, method, status).increment(1),
        }
        match method {
            USUAL => of.duration.record(seconds),
            _ => duration(of.route, method).record(seconds),
        }
    }
}

const USUAL: &str = "GET";

fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Upper edges, in seconds: from a playlist in memory to a blocking reload and a model's pass over a file.
const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// Names with what kind of metric the text before them makes of them.
    fn names(text: &str) -> Vec<(Option<Kind>, String)> {
        let mut found = Vec::new();
        for (at, _) in text.match_indices("loom_") {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|it| it.is_ascii_alphanumeric() || it == '_' || it == '-') {
                continue;
            }
            let is_part = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
            let end = text[at..]
                .find(|it| !is_part(it))
                .map_or(text.len(), |len| at + len);
            let made = text[..at].trim_end().trim_end_matches('"').trim_end();
            let kind = [
                ("metrics::counter!(", Kind::Counter),
                ("metrics::gauge!(", Kind::Gauge),
                ("metrics::histogram!(", Kind::Histogram),
            ];
            let kind = kind
                .into_iter()
                .find(|(macro_, _)| made.ends_with(macro_))
                .map(|(_, kind)| kind);
            found.push((kind, text[at..end].to_owned()));
        }
        found
    }

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    fn sources(folder: &Path, all: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                sources(&path, all);
            } else if path.extension().is_some_and(|it| it == "rs") {
                all.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }

    #[test]
    fn all_that_is_counted_is_described_and_all_that_is_described_is_counted() {
        let mut all = Vec::new();
        sources(&root().join("crates/loom-engine/src"), &mut all);
        sources(&root().join("examples/server/src"), &mut all);
        let counted: Vec<(Kind, String)> = all
            .iter()
            .flat_map(|text| names(text))
            .filter_map(|(kind, name)| Some((kind?, name)))
            .collect();
        for (kind, name) in &counted {
            let known = ALL.iter().any(|(known, of, _)| known == name && of == kind);
            assert!(known, "{name} is a {kind:?} that nothing describes");
        }
        for (name, kind, _) in ALL {
            assert!(
                counted.contains(&(*kind, (*name).to_owned())),
                "nothing counts {name}"
            );
        }
    }

    #[test]
    fn the_dashboard_and_the_alerts_ask_for_what_there_is() {
        for file in ["dashboard.json", "alerts.yml"] {
            let text = std::fs::read_to_string(root().join("docs/monitoring").join(file)).unwrap();
            let asked = names(&text);
            assert!(asked.len() > 5, "{file}");
            for (_, name) in asked {
                let known = ALL.iter().any(|(known, kind, _)| {
                    let of_histogram = *kind == Kind::Histogram
                        && name
                            .strip_prefix(known)
                            .is_some_and(|it| ["_bucket", "_sum", "_count"].contains(&it));
                    *known == name && *kind != Kind::Histogram || of_histogram
                });
                assert!(known, "{file} asks for {name}");
            }
        }
        let dashboard = std::fs::read_to_string(root().join("docs/monitoring/dashboard.json")).unwrap();
        let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
        assert!(dashboard["panels"].as_array().unwrap().len() > 8);
    }
}
