//! `POST /v1/recordings/{id}/media`: a media file becomes the recording.
//!
//! The body goes to a file in the data folder as it arrives; it is never held in memory.

use std::io::ErrorKind;
use std::path::{Path as FilePath, PathBuf};
use std::pin::pin;
use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequest, Multipart, Path, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{Stream, StreamExt};
use http::{HeaderMap, StatusCode, header};
use loom_engine::{Recording, RecordingState};
use tokio::fs::{self, File};
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::time::timeout;

use crate::app::App;
use crate::guard::Base;
use crate::problem::{Answer, Problem};
use crate::recordings::describe;

/// A file that is being received; dropped before [`keep`](Partial::keep), it is removed.
#[derive(Debug)]
struct Partial {
    path: Option<PathBuf>,
}

/// The request's body as it is framed.
enum Framing {
    Raw,
    Form,
}

/// `POST /v1/recordings/{id}/media`
pub(crate) async fn receive(
    State(app): State<App>,
    Path(id): Path<String>,
    base: Base,
    request: Request,
) -> Answer<Response> {
    let recording = app.recording(&id).await?;
    let state = recording.info().state;
    if state != RecordingState::Created {
        let detail =
            format!("this recording is {state}; a file can only become a new recording. Create another one");
        return Err(Problem::conflict("wrong-state", detail));
    }
    let framing = framing(request.headers())?;
    let most = app.config.max_upload.0;
    let length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    // A form is a little longer than its file.
    if length.is_some_and(|length: u64| length > most.saturating_add(FORM_OVERHEAD)) {
        return Err(over(most));
    }
    let Some(_claim) = app.claim_upload(recording.id()) else {
        return Err(Problem::conflict(
            "already-uploading",
            "another upload to this recording is running",
        ));
    };
    let folder = app.upload_folder();
    let partial = match framing {
        Framing::Raw => write(&recording, &folder, request.into_body().into_data_stream(), most).await?,
        Framing::Form => receive_form(&recording, &folder, request, most).await?,
    };
    let path = partial.keep();
    if let Err(why) = recording.import(path.clone()).await {
        let _ = fs::remove_file(&path).await;
        let _ = app.store.mirror(recording.info()).await;
        return Err(why.into());
    }
    let row = app.row(&id).await?;
    let location = format!("/v1/recordings/{id}");
    Ok((
        StatusCode::ACCEPTED,
        [(header::LOCATION, location)],
        Json(describe(&app, &base, row)),
    )
        .into_response())
}

/// Removes what an earlier process was receiving when it ended.
pub(crate) fn sweep(folder: &FilePath) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(folder)?.flatten() {
        if entry.path().extension().is_some_and(|ext| ext == PARTIAL) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn framing(headers: &HeaderMap) -> Answer<Framing> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else {
        return Err(Problem::unsupported_type(format!(
            "the upload has no Content-Type; send {TYPES}"
        )));
    };
    let kind = kind.to_str().unwrap_or_default();
    match essence(kind).as_str() {
        "multipart/form-data" => Ok(Framing::Form),
        essence if is_media(essence) => Ok(Framing::Raw),
        other => Err(Problem::unsupported_type(format!(
            "the upload is {other:?}; send {TYPES}"
        ))),
    }
}

/// The type without its parameters, lower-case.
fn essence(kind: &str) -> String {
    kind.split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

fn is_media(essence: &str) -> bool {
    matches!(
        essence,
        "video/mp4" | "video/webm" | "video/x-matroska" | "application/octet-stream"
    )
}

/// The first field with a file in it, else the field named `file`.
async fn receive_form(
    recording: &Recording,
    folder: &FilePath,
    request: Request,
    most: u64,
) -> Answer<Partial> {
    let bad = |why: &dyn std::fmt::Display| {
        Problem::bad_request("bad-form", format!("the form cannot be read: {why}"))
    };
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|why| bad(&why.body_text()))?;
    let stalled = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "stalled", STALLED);
    while let Some(field) = timeout(PATIENCE, form.next_field())
        .await
        .map_err(stalled)?
        .map_err(|why| bad(&why.body_text()))?
    {
        if field.file_name().is_none() && field.name() != Some("file") {
            continue;
        }
        let kind = essence(field.content_type().unwrap_or("application/octet-stream"));
        if !is_media(&kind) {
            return Err(Problem::unsupported_type(format!(
                "the form's file is {kind:?}; send {TYPES}"
            )));
        }
        return write(recording, folder, field, most).await;
    }
    Err(Problem::bad_request(
        "bad-form",
        "the form has no file in it; name its field \"file\"",
    ))
}

/// Writes a body to a new file in `folder`.
async fn write<E>(
    recording: &Recording,
    folder: &FilePath,
    body: impl Stream<Item = Result<Bytes, E>>,
    most: u64,
) -> Answer<Partial> {
    let name: u128 = rand::random();
    let path = folder.join(format!("{name:032x}.{PARTIAL}"));
    fs::create_dir_all(folder).await.map_err(disk)?;
    // nothing may come between the two: a client that leaves then would leave its file behind
    let file = std::fs::File::create_new(&path).map_err(disk)?;
    let partial = Partial { path: Some(path) };
    let mut file = BufWriter::with_capacity(BUFFER, File::from_std(file));
    let mut body = pin!(body);
    let mut written = 0_u64;
    while let Some(chunk) = timeout(PATIENCE, body.next())
        .await
        .map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "stalled", STALLED))?
    {
        let broken = "the upload broke off before its end; send it again";
        let chunk = chunk.map_err(|_| Problem::bad_request("broken-upload", broken))?;
        recording.touch(); // a long upload is no unused recording
        written += chunk.len() as u64;
        if written > most {
            return Err(over(most));
        }
        file.write_all(&chunk).await.map_err(disk)?;
    }
    file.flush().await.map_err(disk)?;
    file.into_inner().sync_all().await.map_err(disk)?;
    metrics::counter!("loom_upload_bytes_total").increment(written);
    Ok(partial)
}

impl Partial {
    /// The file stays; whoever has the path owns it now.
    fn keep(mut self) -> PathBuf {
        self.path.take().unwrap_or_default()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = self.path.take()
            && let Err(why) = std::fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %why, "a broken upload stays on the disk until the next start");
        }
    }
}

fn over(most: u64) -> Problem {
    let most = if most >= 1 << 20 {
        format!("{} MiB", most >> 20)
    } else {
        format!("{most} bytes")
    };
    Problem::too_large(format!(
        "the upload is larger than {most}, the most that this server takes (LOOM_MAX_UPLOAD)"
    ))
}

fn disk(why: std::io::Error) -> Problem {
    match why.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            tracing::error!(%why, "an upload does not fit on the disk");
            Problem::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "disk-full",
                "the server's disk is full",
            )
        }
        _ => Problem::internal("write the upload to its disk", &why),
    }
}

const TYPES: &str = "video/mp4, video/webm, video/x-matroska or application/octet-stream as it is, or multipart/form-data \
                     with the file in a field named \"file\"";
const STALLED: &str = "nothing more of the upload came for a minute; send it again";
/// How long the next bytes of an upload may take.
const PATIENCE: Duration = Duration::from_secs(60);
const BUFFER: usize = 256 * 1024;
/// How much longer than its file a form may be.
const FORM_OVERHEAD: u64 = 64 * 1024;
/// The extension of what is being received.
const PARTIAL: &str = "upload";
