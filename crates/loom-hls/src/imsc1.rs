//! IMSC1 text in fragmented MP4 (W3C IMSC1.1 Text Profile; ISO/IEC 14496-30 §5; ISO/IEC 23000-19 §11.3): one document a segment.

use std::fmt::Write as _;

use bytes::Bytes;
use loom_core::{MediaTime, Timescale};

use crate::cmaf::{Sample, write_chunk};
use crate::text::TextCue;
use crate::webvtt::write_time;

/// The `CODECS` entry (RFC 6381 §3.3; W3C TTML Media Type §3: `im1t` is the IMSC1 Text profile).
pub(crate) const CODEC: &str = "stpp.ttml.im1t";

/// Milliseconds: what TTML's clock times are written in.
pub(crate) const TIMESCALE: u32 = 1_000;

/// The init segment (CMAF header): `ftyp` and `moov` with an `stpp` sample entry (ISO/IEC 14496-12 §12.6.3).
pub(crate) fn write_init(language: &str) -> Bytes {
    let mut out = Vec::with_capacity(700);
    put(&mut out, b"ftyp", |out| {
        out.extend_from_slice(b"iso6\0\0\0\0iso6cmfcim1t");
    });
    put(&mut out, b"moov", |out| {
        put_full(out, b"mvhd", 0, |out| {
            out.extend_from_slice(&[0; 8]); // when it was made and changed
            out.extend_from_slice(&TIMESCALE.to_be_bytes());
            out.extend_from_slice(&0_u32.to_be_bytes());
            out.extend_from_slice(&[0, 1, 0, 0, 1, 0, 0, 0]); // rate 1.0, volume 1.0
            out.extend_from_slice(&[0; 8]);
            out.extend_from_slice(&MATRIX);
            out.extend_from_slice(&[0; 24]);
            out.extend_from_slice(&2_u32.to_be_bytes()); // next track
        });
        put(out, b"trak", |out| {
            // enabled and in the movie
            put_full(out, b"tkhd", 3, |out| {
                out.extend_from_slice(&[0; 8]);
                out.extend_from_slice(&1_u32.to_be_bytes());
                out.extend_from_slice(&[0; 24]); // duration, layer, group, volume
                out.extend_from_slice(&MATRIX);
                out.extend_from_slice(&[0; 8]); // width and height
            });
            put(out, b"mdia", |out| {
                put_full(out, b"mdhd", 0, |out| {
                    out.extend_from_slice(&[0; 8]);
                    out.extend_from_slice(&TIMESCALE.to_be_bytes());
                    out.extend_from_slice(&[0; 4]);
                    out.extend_from_slice(&packed(language).to_be_bytes());
                    out.extend_from_slice(&[0; 2]);
                });
                put_full(out, b"hdlr", 0, |out| {
                    out.extend_from_slice(b"\0\0\0\0subt\0\0\0\0\0\0\0\0\0\0\0\0text\0");
                });
                put(out, b"minf", |out| {
                    put_full(out, b"sthd", 0, |_| {});
                    put(out, b"dinf", |out| {
                        put_full(out, b"dref", 0, |out| {
                            out.extend_from_slice(&1_u32.to_be_bytes());
                            put_full(out, b"url ", 1, |_| {});
                        });
                    });
                    put(out, b"stbl", |out| {
                        put_full(out, b"stsd", 0, |out| {
                            out.extend_from_slice(&1_u32.to_be_bytes());
                            put(out, b"stpp", |out| {
                                out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
                                out.extend_from_slice(NAMESPACE.as_bytes());
                                // no schema, no auxiliary types
                                out.extend_from_slice(&[0, 0, 0]);
                            });
                        });
                        for kind in [b"stts", b"stsc", b"stco"] {
                            put_full(out, kind, 0, |out| out.extend_from_slice(&[0; 4]));
                        }
                        put_full(out, b"stsz", 0, |out| out.extend_from_slice(&[0; 8]));
                    });
                });
            });
        });
        put(out, b"mvex", |out| {
            put_full(out, b"trex", 0, |out| {
                out.extend_from_slice(&1_u32.to_be_bytes());
                out.extend_from_slice(&1_u32.to_be_bytes());
                out.extend_from_slice(&[0; 12]);
            });
        });
    });
    out.into()
}

/// One segment from `start` to `end`: one sample, whose document holds the cues that are seen in it. Times in a document are the
/// track's own (ISO/IEC 14496-30 §5.3), so a cue that spans segments has the same times in each.
pub(crate) fn write_segment<'a>(
    number: u64,
    language: &str,
    start: MediaTime,
    end: MediaTime,
    cues: impl IntoIterator<Item = &'a TextCue>,
) -> Bytes {
    let document = write_document(language, cues);
    let scale = Timescale::new(TIMESCALE).unwrap_or(Timescale::OPUS);
    let (from, to) = (start.ticks(scale).max(0), end.ticks(scale).max(0));
    let sample = Sample {
        dts: from as u64,
        duration: (to - from).clamp(1, i64::from(u32::MAX)) as u32,
        offset: 0,
        key: true,
        data: document.into(),
    };
    let mut out = Vec::new();
    // what can fail is a size above 32 bits; cues are bounded far below it
    let _ = write_chunk(&mut out, (number as u32).wrapping_add(1), false, &[sample], None);
    out.into()
}

/// A document of the IMSC1 Text profile: one region at the bottom, white on black.
fn write_document<'a>(language: &str, cues: impl IntoIterator<Item = &'a TextCue>) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<tt xmlns=\"");
    out.push_str(NAMESPACE);
    out.push_str(
        "\" xmlns:tts=\"http://www.w3.org/ns/ttml#styling\" xmlns:ttp=\"http://www.w3.org/ns/ttml#parameter\" \
         ttp:contentProfiles=\"http://www.w3.org/ns/ttml/profile/imsc1.1/text\" ttp:timeBase=\"media\" \
         ttp:cellResolution=\"32 15\" xml:lang=\"",
    );
    escape(&mut out, language);
    out.push_str(
        "\">\n<head><styling><style xml:id=\"s\" tts:fontFamily=\"proportionalSansSerif\" tts:fontSize=\"80%\" tts:textAlign=\"center\" \
         tts:color=\"white\" tts:backgroundColor=\"black\"/></styling>\
         <layout><region xml:id=\"r\" tts:origin=\"10% 10%\" tts:extent=\"80% 80%\" tts:displayAlign=\"after\"/></layout></head>\n\
         <body><div>\n",
    );
    for cue in cues {
        let start = cue.start.millis().max(0);
        let end = cue.end.millis().max(start + 1);
        let _ = write!(out, "<p xml:id=\"c{}\" region=\"r\" begin=\"", cue.id.0);
        write_time(&mut out, start);
        out.push_str("\" end=\"");
        write_time(&mut out, end);
        out.push_str("\"><span style=\"s\">");
        let lines = cue
            .text
            .split('\n')
            .map(str::trim)
            .filter(|line| !line.is_empty());
        for (at, line) in lines.enumerate() {
            if at > 0 {
                out.push_str("<br/>");
            }
            escape(&mut out, line);
        }
        out.push_str("</span></p>\n");
    }
    out.push_str("</div></body>\n</tt>\n");
    out
}

/// Characters that XML allows, those escaped that mean something in it (XML 1.0 §2.2, §2.4).
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => out.push(' '),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
}

/// ISO 639-2/T, packed into five bits a letter (ISO/IEC 14496-12 §8.4.2.3); `und` for a tag of another length: the document
/// says it in full.
fn packed(language: &str) -> u16 {
    let letters = language.as_bytes();
    let three = letters.len() == 3 && letters.iter().all(u8::is_ascii_lowercase);
    let letters = if three { letters } else { b"und" };
    letters
        .iter()
        .fold(0, |all, letter| all << 5 | u16::from(letter - 0x60))
}

fn put(out: &mut Vec<u8>, kind: &[u8; 4], body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(kind);
    body(out);
    let size = (out.len() - at) as u32;
    out[at..at + 4].copy_from_slice(&size.to_be_bytes());
}

fn put_full(out: &mut Vec<u8>, kind: &[u8; 4], flags: u32, body: impl FnOnce(&mut Vec<u8>)) {
    put(out, kind, |out| {
        out.extend_from_slice(&flags.to_be_bytes()); // version 0
        body(out);
    });
}

const NAMESPACE: &str = "http://www.w3.org/ns/ttml";

/// Unity (ISO/IEC 14496-12 §6.2.2).
const MATRIX: [u8; 36] = [
    0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0,
    0, 0,
];

#[cfg(test)]
mod tests {
    use loom_core::CueId;
    use mp4_atom::{Decode, DecodeMaybe, Moof, Moov};

    use super::*;

    #[test]
    fn the_init_segment_and_a_segment_are_boxes_that_others_read() {
        let init = write_init("deu");
        let moov_at = u32::from_be_bytes(init[..4].try_into().unwrap()) as usize;
        let moov = Moov::decode(&mut &init[moov_at..]).unwrap();
        let mdia = &moov.trak[0].mdia;
        assert_eq!(
            (mdia.mdhd.timescale, mdia.mdhd.language.as_str()),
            (TIMESCALE, "deu")
        );
        assert_eq!(mdia.hdlr.handler, mp4_atom::FourCC::new(b"subt"));
        let cue = TextCue {
            id: CueId(4),
            start: MediaTime::from_millis(61_500),
            end: MediaTime::from_millis(63_000),
            text: "1 < 2 & \"3\"\0\nsecond".to_owned(),
            settings: String::new(),
        };
        let (start, end) = (MediaTime::from_millis(60_000), MediaTime::from_millis(62_000));
        let segment = write_segment(30, "de", start, end, [&cue]);
        let mut rest = &segment[..];
        let moof = Moof::decode_maybe(&mut rest).unwrap().unwrap();
        let traf = &moof.traf[0];
        assert_eq!(traf.tfdt.as_ref().unwrap().base_media_decode_time, 60_000);
        assert_eq!(traf.tfhd.default_sample_duration, Some(2_000));
        let document = std::str::from_utf8(&rest[8..]).unwrap();
        assert!(
            document.contains(
                "<p xml:id=\"c4\" region=\"r\" begin=\"00:01:01.500\" end=\"00:01:03.000\"><span style=\"s\">1 &lt; 2 &amp; &quot;3&quot; \
                 <br/>second</span></p>"
            ),
            "{document}"
        );
    }
}
