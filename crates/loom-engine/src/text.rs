//! Text that the host hands over: subtitles of further languages, and chapters; while a recording grows and after.

use std::sync::Arc;

use loom_core::{MediaTime, RenditionId};
use loom_hls::{
    Chapter, Chapters, RenditionInfo, RenditionKind, TextCue, TextForm, list_subtitles, store_subtitles,
};
use serde::Deserialize;

use crate::announced::attribute;
use crate::error::EngineError;
use crate::event::{ChapterDescription, Event};
use crate::packaging::Work;
use crate::recording::Inner;
use crate::store::send_soon;

/// The language of live captions and of the transcript.
pub(crate) const SPEECH: &str = "en";

/// The rendition of live captions and of the transcript.
pub(crate) const CAPTIONS: &str = "captions";

/// What is done with cues that are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    /// They are all there are.
    Whole,
    /// They come behind those before; one with the id of an earlier one takes its place.
    More,
}

/// The subtitle rendition of a language (BCP 47): `text-LANGUAGE`. `None` for what is no language tag.
pub(crate) fn rendition(language: &str, name: Option<&str>) -> Option<RenditionInfo> {
    let tag = language.to_ascii_lowercase();
    let subtags = |tag: &str| {
        tag.split('-')
            .all(|it| (1..=8).contains(&it.len()) && it.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    let plain = tag.len() <= 24 && tag.bytes().next()?.is_ascii_alphabetic() && subtags(&tag);
    let id = RenditionId::new(&format!("text-{tag}")).filter(|_| plain)?;
    let primary = tag.split('-').next().unwrap_or_default();
    let known = LANGUAGES
        .iter()
        .find(|(code, _)| *code == tag || (tag == primary && *code == primary));
    Some(RenditionInfo {
        id,
        kind: RenditionKind::Subtitles {
            name: name
                .or(known.map(|(_, name)| *name))
                .unwrap_or(language)
                .to_owned(),
            language: language.to_owned(),
        },
        bandwidth: 1_000,
    })
}

/// Hands cues to the packager, or, where the recording is complete, writes them into its folder.
pub(crate) async fn give(
    recording: &Arc<Inner>,
    language: &str,
    name: Option<&str>,
    cues: Vec<TextCue>,
    given: Given,
) -> Result<(), EngineError> {
    let info = rendition(language, name).ok_or_else(|| {
        EngineError::BadText(format!(
            "{language:?} is no language tag such as de or pt-BR (BCP 47)"
        ))
    })?;
    let _one = recording.text.lock().await;
    if !recording.is_complete() {
        let spoken = language.eq_ignore_ascii_case(SPEECH) && recording.info().captions;
        if spoken {
            return Err(EngineError::WrongState {
                recording: recording.id.clone(),
                state: recording.state_now(),
                why: "its captions in this language are being written from what is said; replace them when it is ready",
            });
        }
        return recording
            .ask_packaging(|done| Work::Text(info, cues, given, done))
            .await;
    }
    if given == Given::More {
        return Err(EngineError::WrongState {
            recording: recording.id.clone(),
            state: recording.state_now(),
            why: "it is complete; hand over all cues of the language",
        });
    }
    let working = recording.clone();
    let language = language.to_owned();
    let stored = blocking(move || store(&working, &info, &language, &cues)).await;
    send_soon(recording);
    stored
}

async fn blocking(
    work: impl FnOnce() -> Result<(), EngineError> + Send + 'static,
) -> Result<(), EngineError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| EngineError::ShuttingDown)?
}

/// Writes a language into the folder of a complete recording.
fn store(
    recording: &Inner,
    info: &RenditionInfo,
    language: &str,
    cues: &[TextCue],
) -> Result<(), EngineError> {
    let folder = &recording.folder;
    let form = recording.shared.config.captions.form;
    let spoken = RenditionId::new(CAPTIONS)
        .filter(|id| language.eq_ignore_ascii_case(SPEECH) && folder.path(&playlist(id)).is_file());
    let id = spoken.as_ref().unwrap_or(&info.id);
    // its own playlist, else the first of the media
    let first = recording.info().renditions.first().map(|it| playlist(&it.id));
    let template = std::iter::once(playlist(id))
        .chain(first)
        .chain(folder.media_playlists())
        .find_map(|name| folder.read(&name, 0, None).ok().flatten())
        .ok_or_else(|| EngineError::NotReady("the recording has no media".to_owned()))?;
    let template = String::from_utf8_lossy(&template);
    // what is there already keeps its form
    let form = form_of(&template).unwrap_or(form);
    for file in store_subtitles(id, language, cues, &template, form)? {
        let name = format!("hls/{}", file.key);
        // one word is one segment: the others stay what players and the store have
        let is_there = folder
            .read(&name, 0, None)?
            .is_some_and(|it| it[..] == file.data[..]);
        if !is_there {
            folder.put(&name, &file.data)?;
        }
    }
    let RenditionKind::Subtitles { name, .. } = &info.kind else {
        return Ok(());
    };
    edit_main(recording, |main| list_subtitles(main, id, name, language, form))
}

/// The rendition of what is said.
pub(crate) fn captions() -> Option<RenditionInfo> {
    let kind = RenditionKind::Subtitles {
        name: "English".to_owned(),
        language: SPEECH.to_owned(),
    };
    RenditionId::new(CAPTIONS).map(|id| RenditionInfo {
        id,
        kind,
        bandwidth: 1_000,
    })
}

/// Writes the final transcript's cues into the captions of a recording that was completed from its folder.
pub(crate) fn store_captions(recording: &Inner, cues: &[TextCue]) -> Result<(), EngineError> {
    match captions().filter(|it| recording.folder.path(&playlist(&it.id)).is_file()) {
        Some(info) => store(recording, &info, SPEECH, cues),
        None => Ok(()),
    }
}

/// Subtitles that a multivariant playlist names, and of which nothing was written before the recording was cut off: they have the
/// segments of `template`, a complete media playlist, and say nothing in them.
pub(crate) fn complete(recording: &Inner, template: &str) -> Result<(), EngineError> {
    let folder = &recording.folder;
    for name in folder.multivariant_playlists() {
        let main = folder.read(&name, 0, None)?.unwrap_or_default();
        let main = String::from_utf8_lossy(&main);
        for line in main
            .lines()
            .filter(|line| line.starts_with("#EXT-X-MEDIA:TYPE=SUBTITLES"))
        {
            let named = attribute(line, "URI").and_then(|uri| RenditionId::new(uri.rsplit('/').nth(1)?));
            let Some(id) = named.filter(|id| !folder.path(&playlist(id)).is_file()) else {
                continue;
            };
            let language = attribute(line, "LANGUAGE").unwrap_or("und");
            let form = recording.shared.config.captions.form;
            for file in store_subtitles(&id, language, &[], template, form)? {
                folder.put(&format!("hls/{}", file.key), &file.data)?;
            }
        }
    }
    Ok(())
}

/// Changes every multivariant playlist in the folder.
fn edit_main(recording: &Inner, change: impl Fn(&str) -> String) -> Result<(), EngineError> {
    let mut names = recording.folder.multivariant_playlists().into_iter();
    names.try_for_each(|name| edit(recording, &name, &change))
}

/// Changes a playlist in the folder.
fn edit(recording: &Inner, name: &str, change: impl Fn(&str) -> String) -> Result<(), EngineError> {
    let Some(text) = recording.folder.read(name, 0, None)? else {
        return Ok(());
    };
    let text = String::from_utf8_lossy(&text);
    let changed = change(&text);
    if *changed != *text {
        recording.folder.put(name, changed.as_bytes())?;
    }
    Ok(())
}

/// A subtitle rendition, as the main multivariant playlist names it.
#[derive(Debug)]
pub(crate) struct Subtitles {
    pub(crate) id: RenditionId,
    pub(crate) language: String,
    pub(crate) name: String,
}

impl Subtitles {
    /// What a packager must know of it.
    #[cfg(feature = "transcode")]
    pub(crate) fn info(&self) -> RenditionInfo {
        RenditionInfo {
            id: self.id.clone(),
            kind: RenditionKind::Subtitles {
                name: self.name.clone(),
                language: self.language.clone(),
            },
            bandwidth: 1_000,
        }
    }
}

/// The subtitle renditions that the main multivariant playlist names.
pub(crate) fn listed(recording: &Inner) -> Result<Vec<Subtitles>, EngineError> {
    let main = main_playlist(recording)?;
    let tags = main
        .lines()
        .filter(|line| line.starts_with("#EXT-X-MEDIA:TYPE=SUBTITLES"));
    let named = tags.filter_map(|tag| {
        Some(Subtitles {
            id: attribute(tag, "URI").and_then(|uri| RenditionId::new(uri.rsplit('/').nth(1)?))?,
            language: attribute(tag, "LANGUAGE").unwrap_or("und").to_owned(),
            name: attribute(tag, "NAME").unwrap_or_default().to_owned(),
        })
    });
    Ok(named.collect())
}

/// The main multivariant playlist in the folder.
pub(crate) fn main_playlist(recording: &Inner) -> Result<String, EngineError> {
    let main = recording
        .folder
        .read("hls/main.m3u8", 0, None)?
        .unwrap_or_default();
    Ok(String::from_utf8_lossy(&main).into_owned())
}

/// The form that a rendition of text has in its media playlist; `None` where that lists nothing.
pub(crate) fn form_of(playlist: &str) -> Option<TextForm> {
    match playlist.lines().find(|line| !line.starts_with('#'))? {
        file if file.ends_with(".vtt") => Some(TextForm::WebVtt),
        file if file.starts_with('t') && file.ends_with(".m4s") => Some(TextForm::Imsc1),
        _ => None,
    }
}

/// A rendition's media playlist in the folder.
pub(crate) fn playlist(id: &RenditionId) -> String {
    format!("hls/{id}/index.m3u8")
}

/// Adds a chapter: its files are written, and playlists and viewers told.
pub(crate) async fn mark(
    recording: &Arc<Inner>,
    at: Option<MediaTime>,
    title: &str,
) -> Result<ChapterDescription, EngineError> {
    let _one = recording.text.lock().await;
    let info = recording.info();
    let complete = recording.is_complete();
    if info.renditions.is_empty() {
        return Err(EngineError::NotReady("the recording has not begun".to_owned()));
    }
    let end = MediaTime::from_secs_f64(info.duration);
    let at = at.unwrap_or(end);
    if complete && at > end {
        return Err(EngineError::BadText(format!(
            "the recording ends at {end}, before the chapter begins"
        )));
    }
    let mut chapters = recording.chapters();
    let chapter = chapters
        .mark(at, title)
        .map_err(|why| EngineError::BadText(why.to_string()))?;
    let working = recording.clone();
    let written = chapters.clone();
    blocking(move || {
        write(&working, &written, complete.then_some(end))?;
        if !complete {
            return Ok(());
        }
        for name in working.folder.media_playlists() {
            edit(&working, &name, |playlist| written.date_in(playlist))?;
        }
        edit_main(&working, Chapters::list_in)
    })
    .await?;
    recording.set_chapters(chapters);
    send_soon(recording);
    if !complete {
        let told = chapter.clone();
        recording.ask_packaging(|done| Work::Chapter(told, done)).await?;
    }
    Ok(describe(&chapter))
}

/// The recording is complete: its last chapter ends where it does.
pub(crate) fn settle(recording: &Inner) -> Result<(), EngineError> {
    let chapters = recording.chapters();
    if chapters.marks().is_empty() {
        return Ok(());
    }
    let end = MediaTime::from_secs_f64(recording.info().duration);
    write(recording, &chapters, Some(end))?;
    edit_main(recording, Chapters::list_in)
}

fn write(recording: &Inner, chapters: &Chapters, end: Option<MediaTime>) -> Result<(), EngineError> {
    let folder = &recording.folder;
    folder.put("hls/chapters.vtt", chapters.to_webvtt(end).as_bytes())?;
    folder.put(CHAPTERS, chapters.to_json(end).as_bytes())
}

/// Reads the chapters of a recording that was found on disk.
pub(crate) fn resume(recording: &Inner) {
    #[derive(Deserialize)]
    struct Title {
        title: String,
    }
    #[derive(Deserialize)]
    struct Stored {
        id: u32,
        #[serde(rename = "start-time")]
        start: f64,
        titles: Vec<Title>,
    }
    let Ok(Some(json)) = recording.folder.read(CHAPTERS, 0, None) else {
        return;
    };
    let Ok(mut stored) = serde_json::from_slice::<Vec<Stored>>(&json) else {
        tracing::warn!(recording = %recording.id, "the chapters on disk cannot be read");
        return;
    };
    // in the order in which they were marked, so that they keep their names
    stored.sort_by_key(|it| it.id);
    let mut chapters = Chapters::default();
    for it in stored {
        if let Some(title) = it.titles.first() {
            let _ = chapters.mark(MediaTime::from_secs_f64(it.start), &title.title);
        }
    }
    recording.set_chapters(chapters);
}

pub(crate) fn describe(chapter: &Chapter) -> ChapterDescription {
    ChapterDescription {
        id: chapter.id,
        start: chapter.at.secs_f64(),
        title: chapter.title.clone(),
    }
}

/// What everybody is told of the chapters.
pub(crate) fn event(chapters: &Chapters) -> Event {
    Event::Chapters {
        chapters: chapters.marks().iter().map(describe).collect(),
    }
}

const CHAPTERS: &str = "hls/chapters.json";

/// What languages call themselves.
const LANGUAGES: [(&str, &str); 24] = [
    ("ar", "العربية"),
    ("cs", "Čeština"),
    ("da", "Dansk"),
    ("de", "Deutsch"),
    ("el", "Ελληνικά"),
    ("en", "English"),
    ("es", "Español"),
    ("fi", "Suomi"),
    ("fr", "Français"),
    ("he", "עברית"),
    ("hi", "हिन्दी"),
    ("hu", "Magyar"),
    ("it", "Italiano"),
    ("ja", "日本語"),
    ("ko", "한국어"),
    ("nl", "Nederlands"),
    ("no", "Norsk"),
    ("pl", "Polski"),
    ("pt", "Português"),
    ("ru", "Русский"),
    ("sv", "Svenska"),
    ("tr", "Türkçe"),
    ("uk", "Українська"),
    ("zh", "中文"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_tag_names_its_rendition() {
        let named = |tag: &str| {
            let info = rendition(tag, None)?;
            match info.kind {
                RenditionKind::Subtitles { name, language } => Some((info.id.to_string(), name, language)),
                _ => None,
            }
        };
        let told = |id: &str, name: &str, tag: &str| Some((id.to_owned(), name.to_owned(), tag.to_owned()));
        assert_eq!(named("de"), told("text-de", "Deutsch", "de"));
        assert_eq!(named("pt-BR"), told("text-pt-br", "pt-BR", "pt-BR"));
        for bad in [
            "",
            "1",
            "d/e",
            "de-",
            "../de",
            "waytoolongforalanguage-x",
            "d e",
            "ü",
        ] {
            assert_eq!(named(bad), None, "{bad:?}");
        }
    }
}
