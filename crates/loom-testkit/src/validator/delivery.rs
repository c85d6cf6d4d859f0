//! How answers are sent: their headers, and what delivery directives do (§6.2.5, appendix B.1).

use std::time::Duration;

use url::Url;

use super::media::Media;
use super::net::{Answer, Client, with_query};
use super::report::Report;

/// The headers of a playlist's answer.
pub(crate) fn playlist(answer: &Answer, url: &Url, at: &str, report: &mut Report) {
    let kind = answer.content_type();
    let named = url.path().ends_with(".m3u8") || url.path().ends_with(".m3u");
    let typed = ["application/vnd.apple.mpegurl", "audio/mpegurl"].contains(&kind.as_str());
    if !named && !typed {
        report.must(
            "§4",
            at,
            "a playlist is known by its path or its Content-Type",
            &kind,
        );
    } else if !typed && kind != "application/x-mpegurl" {
        report.should(
            "§11.1",
            at,
            "a playlist's Content-Type is application/vnd.apple.mpegurl",
            &kind,
        );
    }
    let gzip = answer.gzipped();
    // what one packet carries gains nothing
    if !gzip && answer.body.len() > SMALL {
        report.should(
            "§6.2.1",
            at,
            "text is sent with gzip to clients that accept it",
            format!("{} bytes without", answer.body.len()),
        );
    }
    if gzip
        && !answer
            .header("vary")
            .is_some_and(|vary| vary.to_ascii_lowercase().contains("accept-encoding"))
    {
        report.should(
            "RFC 9110 §12.5.5",
            at,
            "an answer that depends on Accept-Encoding says so in Vary",
            "it does not",
        );
    }
    cross_origin(answer, at, report);
}

/// How long a playlist's answer may be kept.
pub(crate) fn playlist_age(answer: &Answer, media: &Media, blocking: bool, at: &str, report: &mut Report) {
    let Some(age) = answer.max_age() else {
        report.should(
            "B.1",
            at,
            "origins communicate the cache lifetime by Cache-Control",
            "there is no max-age",
        );
        return;
    };
    if media.ended {
        return;
    }
    // "half the Target Duration", and whole seconds are all that max-age has
    let most = if blocking {
        6 * media.target
    } else {
        media.target.div_ceil(2)
    };
    if age > most {
        report.should(
            "B.1",
            at,
            "a growing playlist is cached for half a target duration, six where it blocked",
            format!("{age} s of {most}"),
        );
    }
}

/// The headers of a segment's, part's or init segment's answer.
pub(crate) fn media(answer: &Answer, text: bool, at: &str, report: &mut Report) {
    let kind = answer.content_type();
    let known = if text {
        kind == "text/vtt"
    } else {
        [
            "video/mp4",
            "audio/mp4",
            "application/mp4",
            "video/iso.segment",
            "video/mp2t",
        ]
        .contains(&kind.as_str())
    };
    if !known {
        report.should(
            "RFC 9110 §8.3",
            at,
            "a segment's Content-Type says what it is",
            &kind,
        );
    }
    if text && answer.body.len() > SMALL && !answer.gzipped() {
        report.should(
            "§6.2.1",
            at,
            "text is sent with gzip to clients that accept it",
            answer.body.len(),
        );
    }
    match answer.max_age() {
        None => report.should(
            "B.1",
            at,
            "origins communicate the cache lifetime by Cache-Control",
            "there is no max-age",
        ),
        Some(0) => report.should("B.1", at, "what never changes may be cached", "max-age is 0"),
        Some(_) => {}
    }
    cross_origin(answer, at, report);
}

fn cross_origin(answer: &Answer, at: &str, report: &mut Report) {
    let allowed = answer.header("access-control-allow-origin");
    if !allowed.is_some_and(|origin| origin == "*" || origin == "https://player.example") {
        report.should(
            "Fetch §3.3",
            at,
            "pages of other origins may read it",
            format!("access-control-allow-origin: {allowed:?}"),
        );
    }
}

/// Asks what must be refused, and what must be answered at once (§6.2.5.2). `media` is what was listed a moment ago.
pub(crate) fn probe(client: &Client, url: &Url, media: &Media, at: &str, report: &mut Report) {
    const CLAUSE: &str = "§6.2.5.2";
    let limit = Duration::from_secs(4 * media.target + 10);
    let ask = |directives: &[(&str, String)]| client.fetch(&with_query(url, directives), None, limit);
    let Some(last) = media.last_segment() else { return };
    if !media.blocks() || media.ended {
        return;
    }
    match ask(&[("_HLS_part", "0".to_owned())]) {
        Ok(answer) if answer.status == 400 => {}
        Ok(answer) => report.must(
            CLAUSE,
            at,
            "_HLS_part without _HLS_msn is a bad request",
            answer.status,
        ),
        Err(why) => report.must(CLAUSE, at, "_HLS_part without _HLS_msn is a bad request", why),
    }
    match ask(&[("_HLS_msn", (last + 50).to_string())]) {
        Ok(answer) => {
            let waited = answer.received - answer.sent;
            if answer.status != 400 {
                report.should(
                    CLAUSE,
                    at,
                    "an _HLS_msn more than two ahead is refused at once",
                    answer.status,
                );
            } else if waited > Duration::from_secs(media.target) {
                report.should(
                    CLAUSE,
                    at,
                    "an _HLS_msn more than two ahead is refused at once",
                    format!("{waited:?}"),
                );
            }
        }
        Err(why) => report.should(
            CLAUSE,
            at,
            "an _HLS_msn more than two ahead is refused at once",
            why,
        ),
    }
    let first = media.sequence.saturating_sub(1).to_string();
    let mut whole = |directives: &[(&str, String)], rule: &'static str| match ask(directives) {
        Ok(answer) if answer.status == 200 => {
            let mut ignored = Report::default();
            let now = Media::parse(answer.text().unwrap_or_default(), at, &mut ignored);
            if now.skipped.is_some() || now.sequence > media.sequence + 1 || now.last_segment() < Some(last) {
                report.must(CLAUSE, at, rule, format!("it ends at {:?}", now.last_segment()));
            }
        }
        Ok(answer) => report.must(CLAUSE, at, rule, answer.status),
        Err(why) => report.must(CLAUSE, at, rule, why),
    };
    whole(
        &[("_HLS_msn", first)],
        "the whole playlist is the answer, whatever segment was asked for",
    );
    if media.part_target.is_some() {
        let beyond = media.segments.last().map_or(0, |segment| segment.parts.len());
        if beyond > 0 {
            let ask = [("_HLS_msn", last.to_string()), ("_HLS_part", beyond.to_string())];
            whole(
                &ask,
                "a part behind a segment's last is the first one of the segment that follows",
            );
        }
    }
    let mut missing = url.clone();
    if let Ok(mut path) = missing.path_segments_mut() {
        path.pop().push("no-such-segment-987654321.m4s");
    }
    match client.fetch(&missing, None, limit) {
        Ok(answer) if [404, 410].contains(&answer.status) => {}
        Ok(answer) => report.should(
            "§6.2.6",
            at,
            "what is neither there nor hinted is not found",
            answer.status,
        ),
        Err(why) => report.should("§6.2.6", at, "what is neither there nor hinted is not found", why),
    }
}

/// One packet: an answer this small gains nothing by gzip.
const SMALL: usize = 1_200;
