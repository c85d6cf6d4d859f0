//! What all receivers do with what they received: the same files, written the same way.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Result;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::{Value, json};

use crate::load::publisher::unix;

/// The files of one publisher, and what was written to them.
///
/// Pictures go to `NAME.h264` as a byte stream (ITU-T H.264 Annex B), sounds to `NAME.opus`, each packet after its length.
pub struct Written {
    pictures: BufWriter<File>,
    sounds: BufWriter<File>,
    count: Count,
}

#[derive(Debug, Default, Clone)]
struct Count {
    pictures: u64,
    keys: u64,
    sounds: u64,
    gaps: u64,
    first_key: Option<f64>,
}

/// Every receiver's files are buffered by so many bytes.
const BUFFER: usize = 64 * 1024;

impl Written {
    fn new(folder: &Path, name: &str) -> Result<Self> {
        let file = |kind| File::create(folder.join(format!("{name}.{kind}")));
        Ok(Self {
            pictures: BufWriter::with_capacity(BUFFER, file("h264")?),
            sounds: BufWriter::with_capacity(BUFFER, file("opus")?),
            count: Count::default(),
        })
    }

    /// A whole picture, as NAL units without start codes.
    pub fn picture<'a>(&mut self, nals: impl Iterator<Item = &'a [u8]>) -> Result<()> {
        let mut is_key = false;
        for nal in nals {
            is_key |= nal.first().is_some_and(|first| first & 0x1f == 5);
            self.pictures.write_all(&[0, 0, 0, 1])?;
            self.pictures.write_all(nal)?;
        }
        self.counted(is_key);
        Ok(())
    }

    /// A whole picture, as a byte stream.
    pub fn picture_stream(&mut self, bytes: &[u8]) -> Result<()> {
        // The first slice tells whether it is a key frame, and it lies behind a few parameter sets.
        let mut is_key = false;
        let mut at = 0;
        while at + 4 < bytes.len() {
            if bytes[at..at + 3] == [0, 0, 1] {
                let kind = bytes[at + 3] & 0x1f;
                if matches!(kind, 1..=5) {
                    is_key = kind == 5;
                    break;
                }
                at += 3;
            }
            at += 1;
        }
        self.pictures.write_all(bytes)?;
        self.counted(is_key);
        Ok(())
    }

    pub fn sound(&mut self, packet: &[u8]) -> Result<()> {
        self.sounds.write_all(&(packet.len() as u32).to_be_bytes())?;
        self.sounds.write_all(packet)?;
        self.count.sounds += 1;
        Ok(())
    }

    /// Something was lost for good.
    pub fn gap(&mut self) {
        self.count.gaps += 1;
    }

    fn counted(&mut self, is_key: bool) {
        self.count.pictures += 1;
        self.count.keys += u64::from(is_key);
        if is_key && self.count.first_key.is_none() {
            self.count.first_key = Some(unix(SystemTime::now()));
        }
    }

    fn told(&mut self) -> Result<Value> {
        self.pictures.flush()?;
        self.sounds.flush()?;
        let Count {
            pictures,
            keys,
            sounds,
            gaps,
            first_key,
        } = &self.count;
        Ok(
            json!({ "pictures": pictures, "keys": keys, "sounds": sounds, "gaps": gaps, "first_key": first_key }),
        )
    }
}

/// All publishers' files.
#[derive(Clone)]
pub struct Folder {
    path: PathBuf,
    written: Arc<Mutex<BTreeMap<String, Arc<Mutex<Written>>>>>,
}

impl Folder {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            written: Arc::default(),
        }
    }

    pub fn publisher(&self, name: &str) -> Result<Arc<Mutex<Written>>> {
        let written = Arc::new(Mutex::new(Written::new(&self.path, name)?));
        let mut all = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.to_owned(), Arc::clone(&written));
        Ok(written)
    }

    /// Writes what is buffered and says what was written, as one line of JSON.
    pub fn tell(&self) -> Result<()> {
        let all = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = serde_json::Map::new();
        for (name, written) in all.iter() {
            told.insert(
                name.clone(),
                written.lock().unwrap_or_else(PoisonError::into_inner).told()?,
            );
        }
        println!("{}", json!({ "written": told }));
        Ok(())
    }
}

/// `ADDRESS FOLDER` of the command line.
pub fn arguments() -> Result<(String, Folder)> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(address), Some(folder)) => Ok((address, Folder::new(folder.into()))),
        _ => anyhow::bail!("say where to listen and where to write: ADDRESS FOLDER"),
    }
}

/// Takes offers by WHIP at `POST /NAME`, which `answer` answers, until somebody asks for the end; then says what was written.
pub async fn serve<A, F>(address: &str, folder: &Folder, answer: A) -> Result<()>
where
    A: Fn(String, String) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<String>> + Send,
{
    let publish = move |axum::extract::Path(name): axum::extract::Path<String>, offer: String| {
        let answered = answer(name, offer);
        async move {
            match answered.await {
                Ok(sdp) => {
                    let kind = [(header::CONTENT_TYPE, "application/sdp")];
                    (StatusCode::CREATED, kind, sdp).into_response()
                }
                Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why:#}")).into_response(),
            }
        }
    };
    let listener = tokio::net::TcpListener::bind(address).await?;
    let router = Router::new().route("/{name}", post(publish));
    println!("ready");
    tokio::select! {
        served = axum::serve(listener, router) => served?,
        ended = asked_to_end() => ended?,
    }
    folder.tell()
}

/// Until somebody asks for the end.
async fn asked_to_end() -> Result<()> {
    let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    end.recv().await;
    Ok(())
}
