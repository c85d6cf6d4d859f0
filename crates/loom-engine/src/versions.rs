//! A transcript that people correct: each correction is a version of its own, and none is lost.
//!
//! Version N lies in `transcript-N.json`, which is written once, and `transcripts.json` lists them: a version counts once it is in that
//! list. `transcript.json` and the captions in the stream show the newest; they are written behind the list, `transcript.json` last, so
//! that a process that finds it to say something else than the newest version knows what is left to be done.

use std::sync::Arc;
use std::time::SystemTime;

use loom_ai::{AiError, Correction, Transcript};
use loom_core::Cue;
use loom_hls::TextCue;
use serde::{Deserialize, Serialize};

use crate::brief;
use crate::error::EngineError;
use crate::event::{Event, RecordingState};
use crate::finish::TRANSCRIPT;
use crate::folder::{Folder, TRANSCRIPTS};
use crate::limits;
use crate::recording::{Inner, Recording};
use crate::store::send_soon;
use crate::text;

/// A version of a recording's transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscriptVersion {
    /// 1 is what was heard; each later one is one more.
    pub version: u32,
    /// When it was made (RFC 3339); nothing for what was heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_at: Option<String>,
    /// The earlier version whose text it has, where that was brought back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<u32>,
}

impl TranscriptVersion {
    /// What was heard.
    pub(crate) const HEARD: Self = Self {
        version: 1,
        made_at: None,
        restored: None,
    };
}

/// What comes of a version: its text, by the newest one's.
type Make<'a> = &'a dyn Fn(&Folder, &Transcript) -> Result<(Transcript, Option<u32>), EngineError>;

impl Recording {
    /// The versions of the transcript, in order; none while it is not written yet. [`Self::transcript`] gives the last.
    pub fn transcript_versions(&self) -> Vec<TranscriptVersion> {
        match self.0.final_transcript() {
            Some(_) => self.0.versions(),
            None => Vec::new(),
        }
    }

    /// The transcript as it was in a version.
    ///
    /// Cancellation safe.
    ///
    /// # Errors
    /// [`EngineError::NoSuchVersion`], [`EngineError::Io`].
    pub async fn transcript_version(&self, version: u32) -> Result<Arc<Transcript>, EngineError> {
        let (newest, text) = self.0.newest_version().unzip();
        if let Some(text) = text.filter(|_| newest == Some(version)) {
            return Ok(text);
        }
        let working = self.0.clone();
        let read = tokio::task::spawn_blocking(move || {
            match newest.is_some_and(|newest| (1..newest).contains(&version)) {
                true => read(&working.folder, version)?.ok_or_else(|| no_version(&working, version)),
                false => Err(no_version(&working, version)),
            }
        });
        read.await.map_err(|_| EngineError::ShuttingDown)?.map(Arc::new)
    }

    /// Corrects the transcript of a recording that is ready: a new version, which the captions in its stream show too. Those before it stay.
    /// `version` is what was corrected: where somebody has made another meanwhile, nothing is changed. Captions in its language that a host has put
    /// in the place of those that were heard ([`Self::put_captions`]) are written anew from it.
    ///
    /// Cancellation: it is made all the same.
    ///
    /// ```no_run
    /// use loom_engine::{Correction, EngineError, Recording};
    ///
    /// # async fn example(recording: Recording) -> Result<(), EngineError> {
    /// let heard = recording.transcript_versions().pop().map_or(1, |it| it.version);
    /// let name = Correction::Replace { replace: "lume".into(), with: "Loom".into() };
    /// match recording.correct(heard, vec![name]).await {
    ///     Ok(made) => println!("version {}: {}", made.version, recording.transcript().unwrap().text),
    ///     Err(EngineError::Superseded { newest, .. }) => println!("somebody has made version {newest} meanwhile"),
    ///     Err(why) => return Err(why),
    /// }
    /// // and back again
    /// recording.restore_transcript(heard + 1, heard).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`EngineError::Superseded`], [`EngineError::BadText`] with the first correction that changes nothing, [`EngineError::WrongState`] where
    /// the recording is not ready or has no transcript. [`EngineError::Io`] where the disk refuses: the version is there then if
    /// [`Self::transcript_versions`] has it, and the stream shows it once the next one is made, or the recording is opened again.
    pub async fn correct(
        &self,
        version: u32,
        corrections: Vec<Correction>,
    ) -> Result<TranscriptVersion, EngineError> {
        if corrections.is_empty() || corrections.len() > limits::CORRECTIONS {
            let (count, most) = (corrections.len(), limits::CORRECTIONS);
            return Err(EngineError::BadText(format!(
                "{count} corrections; 1 to {most} are taken at once"
            )));
        }
        make(&self.0, version, move |_, newest| {
            let refused = |why: AiError| EngineError::BadText(why.to_string());
            Ok((newest.corrected(&corrections).map_err(refused)?, None))
        })
        .await
    }

    /// Makes an earlier version's text the newest again, as a version of its own. `newest` is what was the newest to whoever asks: where
    /// somebody has made another meanwhile, nothing is changed.
    ///
    /// Cancellation: it is made all the same.
    ///
    /// # Errors
    /// [`EngineError::NoSuchVersion`], else as [`Self::correct`].
    pub async fn restore_transcript(
        &self,
        newest: u32,
        version: u32,
    ) -> Result<TranscriptVersion, EngineError> {
        let recording = self.0.clone();
        make(&self.0, newest, move |folder, _| {
            if version == newest {
                return Err(EngineError::BadText(format!(
                    "version {version} is the newest already"
                )));
            }
            let earlier = (1..newest)
                .contains(&version)
                .then(|| read(folder, version))
                .transpose()?;
            let earlier = earlier.flatten().ok_or_else(|| no_version(&recording, version))?;
            Ok((earlier, Some(version)))
        })
        .await
    }
}

fn no_version(recording: &Inner, version: u32) -> EngineError {
    EngineError::NoSuchVersion {
        recording: recording.id.clone(),
        version,
    }
}

/// Makes the version behind `based_on`. Whoever waits for it may go.
async fn make(
    recording: &Arc<Inner>,
    based_on: u32,
    change: impl Fn(&Folder, &Transcript) -> Result<(Transcript, Option<u32>), EngineError> + Send + 'static,
) -> Result<TranscriptVersion, EngineError> {
    let working = recording.clone();
    let made = tokio::task::spawn_blocking(move || {
        let _one = working.text.blocking_lock();
        make_alone(&working, based_on, &change)
    });
    let made = made.await.map_err(|_| EngineError::ShuttingDown)?;
    // also where it could not be shown everywhere
    send_soon(recording);
    if made.is_ok() {
        brief::follow(recording);
    }
    made
}

fn make_alone(recording: &Inner, based_on: u32, change: Make<'_>) -> Result<TranscriptVersion, EngineError> {
    let state = recording.state_now();
    let wrong = |why| EngineError::WrongState {
        recording: recording.id.clone(),
        state,
        why,
    };
    if state != RecordingState::Ready {
        return Err(wrong("its transcript can be corrected once it is ready"));
    }
    let before = recording
        .final_transcript()
        .ok_or_else(|| wrong("it has no transcript to correct"))?;
    let mut versions = recording.versions();
    let newest = versions.last().map(|it| it.version);
    // what cannot be read is not written over
    let newest = newest.ok_or_else(|| wrong("the list of its transcript's versions cannot be read"))?;
    if based_on != newest {
        return Err(EngineError::Superseded {
            recording: recording.id.clone(),
            based_on,
            newest,
        });
    }
    if versions.len() >= limits::VERSIONS {
        return Err(wrong("its transcript has as many versions as it may"));
    }
    let folder = &recording.folder;
    let (transcript, restored) = change(folder, &before)?;
    let made = TranscriptVersion {
        version: newest + 1,
        made_at: Some(loom_hls::date_time(SystemTime::now())),
        restored,
    };
    if newest == TranscriptVersion::HEARD.version {
        folder.put(&file(newest), before.to_json().as_bytes())?;
    }
    let json = transcript.to_json();
    folder.put(&file(made.version), json.as_bytes())?;
    versions.push(made.clone());
    folder.put(TRANSCRIPTS, &serde_json::to_vec(&versions).unwrap_or_default())?;
    // from here on it counts
    let transcript = Arc::new(transcript);
    recording.set_version(transcript.clone(), versions);
    recording.events.tell(Event::Transcript(made.clone()));
    show(recording, &transcript, &json)?;
    folder.secure()?;
    Ok(made)
}

/// Writes the newest version to where transcripts are looked for.
fn show(recording: &Inner, transcript: &Transcript, json: &str) -> Result<(), EngineError> {
    let cues: Vec<TextCue> = transcript
        .to_cues()
        .into_iter()
        .map(|cue: Cue| cue.into())
        .collect();
    text::store_captions(recording, &cues)?;
    recording.folder.put(TRANSCRIPT, json.as_bytes())
}

/// Reads the transcript of a recording that was found on disk, and finishes what an earlier process has begun. Blocks.
pub(crate) fn resume(recording: &Inner) {
    let folder = &recording.folder;
    let Ok(Some(shown)) = folder.read(TRANSCRIPT, 0, None) else {
        return;
    };
    let shown = String::from_utf8_lossy(&shown);
    let versions = match folder.read(TRANSCRIPTS, 0, None) {
        Ok(None) => vec![TranscriptVersion::HEARD],
        Ok(Some(json)) => versions_of(&json),
        Err(_) => Vec::new(),
    };
    let newest = versions.last().filter(|it| it.version > 1);
    let newest = newest.and_then(|it| {
        let newest = read(folder, it.version).ok().flatten();
        if newest.is_none() {
            tracing::warn!(recording = %recording.id, version = it.version, "a version of the transcript cannot be read");
        }
        newest
    });
    let Some(transcript) = newest else {
        if let Ok(transcript) = Transcript::from_json(&shown) {
            recording.set_version(Arc::new(transcript), versions);
        }
        return;
    };
    let json = transcript.to_json();
    if json != shown
        && let Err(why) = show(recording, &transcript, &json)
    {
        tracing::error!(recording = %recording.id, error = %why, "its captions do not show the newest version of the transcript");
    }
    recording.set_version(Arc::new(transcript), versions);
}

/// Whether somebody has corrected the transcript.
pub(crate) fn is_corrected(folder: &Folder) -> bool {
    folder.path(TRANSCRIPTS).is_file()
}

/// The files that a list of versions names.
pub(crate) fn files(list: &[u8]) -> Vec<String> {
    versions_of(list).iter().map(|it| file(it.version)).collect()
}

/// None where the list cannot be read.
fn versions_of(list: &[u8]) -> Vec<TranscriptVersion> {
    serde_json::from_slice(list).unwrap_or_default()
}

fn read(folder: &Folder, version: u32) -> Result<Option<Transcript>, EngineError> {
    let json = folder.read(&file(version), 0, None)?;
    let read = json.map(|json| Transcript::from_json(&String::from_utf8_lossy(&json)));
    read.transpose().map_err(EngineError::NotReady)
}

fn file(version: u32) -> String {
    format!("transcript-{version}.json")
}
