//! Holds an HLS origin to draft-pantos-hls-rfc8216bis-20 (the newest that could be had, 19 February 2026) by URL, from outside, live and over time, as
//! a stranger would see it.
//!
//! Nothing here knows the server under test: playlists are read by this module's own strict parser and by `m3u8-rs`, media by
//! `mp4-atom`. Each finding names the clause that it is about, and tells MUST from SHOULD. Clauses without a document's name are
//! those of the draft; `B.1` is its low-latency profile.

use std::time::{Duration, Instant};

use url::Url;

use across::check as check_across;
use follow::{Followed, Role};
use multivariant::Multivariant;
use net::Client;

pub use report::{Finding, Level, Report};

mod across;
mod attributes;
mod boxes;
mod date;
mod delivery;
mod follow;
mod media;
mod multivariant;
mod net;
mod picture;
mod report;
mod second;
mod steering;
mod version;
mod webvtt;

/// What is looked at, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// How long a growing presentation is followed; one that has ended is read once, whatever this is.
    pub time: Duration,
    /// Beyond what the draft allows between two parts or segments: what the network, and a busy machine, add.
    pub patience: Duration,
    /// Whether segments of one number must begin at one instant in every rendition, which the draft does not ask for.
    pub boundaries: Boundaries,
    /// Whether segments and parts are read as well, or playlists alone.
    pub media: bool,
    /// How many segments before the end of a growing playlist are read when it is met.
    pub back: usize,
    /// The most segments of one playlist that one version may bring.
    pub most: usize,
}

/// Where segments begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundaries {
    /// At the same instants in every rendition.
    Equal,
    /// Wherever each rendition likes.
    Free,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(20),
            patience: Duration::from_secs(1),
            boundaries: Boundaries::Free,
            media: true,
            back: 4,
            most: 10_000,
        }
    }
}

/// Reads the presentation at `url`, a multivariant or a media playlist, and tells what it breaks.
///
/// # Errors
/// Where `url` is no URL, or nothing could be read from it.
pub fn validate(url: &str, options: &Options) -> Result<Report, String> {
    let url = Url::parse(url).map_err(|why| format!("{url:?} is no URL: {why}"))?;
    let client = Client::new();
    let begun = Instant::now();
    let answer = client.fetch(&url, None, Duration::from_secs(60))?;
    if answer.status != 200 {
        return Err(format!("{url} answers {}", answer.status));
    }
    let text = answer
        .text()
        .ok_or_else(|| format!("{url} is no text"))?
        .to_owned();
    let mut report = Report::default();
    if !Multivariant::is(&text) {
        let followed = Followed::new(url.clone(), &url, Role::Main).follow(&client, options);
        let all = [followed];
        check_across(None, &all, options, &mut report);
        for followed in all {
            report.merge(followed.report);
        }
        return Ok(report);
    }
    let at = url
        .path_segments()
        .and_then(|mut parts| parts.next_back())
        .unwrap_or_default()
        .to_owned();
    delivery::playlist(&answer, &url, &at, &mut report);
    let main = Multivariant::parse(&text, &at, &mut report);
    second::multivariant(&text, main.variants.len(), &at, &mut report);
    if let Some(told) = &main.steering {
        steering::check(&client, &url, told, &main, &at, &mut report);
    }
    let mut all = playlists(&main, &url);
    std::thread::scope(|scope| {
        let running: Vec<_> = all
            .drain(..)
            .map(|followed| scope.spawn(|| followed.follow(&client, options)))
            .collect();
        for thread in running {
            if let Ok(followed) = thread.join() {
                all.push(followed);
            } else {
                report.must(
                    "validator",
                    &at,
                    "the validator reads whatever it is sent",
                    "it panicked",
                );
            }
        }
    });
    for followed in &mut all {
        followed.settle(&client);
    }
    // what was said at first may be refined when all is there
    let later = client.fetch(&url, None, Duration::from_secs(60))?;
    let again = match later.text().filter(|now| *now != text) {
        Some(now) => Multivariant::parse(now, &at, &mut Report::default()),
        None => main,
    };
    check_across(Some((&again, &url, &at)), &all, options, &mut report);
    for followed in all {
        report.merge(followed.report);
    }
    report.note(
        "validator",
        &at,
        "how long it was looked at",
        format!("{:.1} s", begun.elapsed().as_secs_f64()),
    );
    Ok(report)
}

/// Each media playlist that is named, once.
fn playlists(main: &Multivariant, base: &Url) -> Vec<Followed> {
    let mut all: Vec<Followed> = Vec::new();
    let mut add = |uri: &str, role: Role| {
        if let Ok(url) = base.join(uri)
            && !all.iter().any(|other| other.url == url)
        {
            all.push(Followed::new(url, base, role));
        }
    };
    for media in &main.media {
        if let Some(uri) = media.text("URI") {
            let role = if media.text("TYPE") == Some("SUBTITLES") {
                Role::Subtitles
            } else {
                Role::Main
            };
            add(uri, role);
        }
    }
    for (_, uri) in &main.variants {
        add(uri, Role::Main);
    }
    for tag in &main.i_frames {
        if let Some(uri) = tag.text("URI") {
            add(uri, Role::IFrames);
        }
    }
    all
}
