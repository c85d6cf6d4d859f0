use std::io::Cursor;
use std::sync::Arc;

use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use rtc::sdp::description::session::SessionDescription;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCSessionDescription,
};

use super::*;
use crate::sdp::fixtures::{AIORTC, ALL, FLEXFEC, LAYERS, PLAIN, SOURCES, TWO_STREAMS};

fn ours<'a>(candidates: &'a [Candidate]) -> AnswerParts<'a> {
    AnswerParts {
        fragment: "8f3b2c1d",
        password: "00112233445566778899aabbccddeeff",
        fingerprint: "sha-256 DA:7B:57:DC:28:CE:04:4F:31:79:85:C4:31:67:EB:27:58:29:ED:77:2A:0D:24:AE:ED:AD:30:BC:BD:F1:9C:02",
        candidates,
        session: "0123456789abcdef",
    }
}

fn answered(offer: &str) -> String {
    let offer = Offer::parse(offer).unwrap();
    let candidates = [
        Candidate::udp("192.0.2.7:8189".parse().unwrap()),
        Candidate::tcp("192.0.2.7:8189".parse().unwrap()),
    ];
    answer(&offer, &ours(&candidates))
}

/// The answer as a foreign parser reads it.
fn parsed(answer: &str) -> SessionDescription {
    SessionDescription::unmarshal(&mut Cursor::new(answer)).unwrap_or_else(|why| panic!("{why}\n{answer}"))
}

/// The values of one attribute in one section, as a foreign parser reads them.
fn values(answer: &SessionDescription, section: usize, name: &str) -> Vec<String> {
    let attributes = answer.media_descriptions[section].attributes.iter();
    attributes
        .filter(|attribute| attribute.key == name)
        .map(|attribute| attribute.value.clone().unwrap_or_default())
        .collect()
}

#[test]
fn a_foreign_parser_reads_every_answer_with_the_offers_sections_in_their_order() {
    for (name, offer) in ALL {
        let (offered, answer) = (parsed(offer), parsed(&answered(offer)));
        let names = |it: &SessionDescription| {
            let sections = it.media_descriptions.iter();
            sections
                .map(|section| {
                    let mid = section.attribute("mid").flatten().unwrap_or_default().to_owned();
                    let media = &section.media_name;
                    (media.media.clone(), media.protos.clone(), mid)
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&answer), names(&offered), "{name}");
        for (at, section) in answer.media_descriptions.iter().enumerate() {
            let taken = section.media_name.port.value != 0;
            assert_eq!(taken, section.media_name.media != "application", "{name}");
            assert_eq!(taken, section.has_attribute("recvonly"), "{name}");
            for (needed, count) in [
                ("ice-ufrag", 1),
                ("ice-pwd", 1),
                ("fingerprint", 1),
                ("setup", 1),
                ("rtcp-mux", 1),
            ] {
                assert_eq!(
                    values(&answer, at, needed).len(),
                    if taken { count } else { 0 },
                    "{name} {needed}"
                );
            }
            let offered = &offered.media_descriptions[at].media_name.formats;
            assert!(
                section
                    .media_name
                    .formats
                    .iter()
                    .all(|format| offered.contains(format))
            );
        }
    }
}

#[test]
fn candidates_stand_once_where_the_group_has_its_transport() {
    for (name, offer) in ALL {
        let answer = parsed(&answered(offer));
        let count = |section: usize| values(&answer, section, "candidate").len();
        assert_eq!(count(0), 2, "{name}");
        assert!(
            (1..answer.media_descriptions.len()).all(|section| count(section) == 0),
            "{name}"
        );
        assert_eq!(values(&answer, 0, "end-of-candidates").len(), 1, "{name}");
        assert!(answer.has_attribute("ice-lite"), "{name}");
    }
    let refused_first = PLAIN.replacen("a=sendonly", "a=inactive", 1);
    let answer = parsed(&answered(&refused_first));
    assert_eq!(answer.attribute("group").unwrap(), "BUNDLE 1");
    assert_eq!(values(&answer, 1, "candidate").len(), 2);
}

#[test]
fn what_is_missing_may_be_sent_again_in_a_stream_of_its_own_where_it_may_be_asked_for() {
    let offer = PLAIN.replacen("a=sendonly", "a=sendonly\r\na=ssrc-group:FID 7 8", 2);
    let answer = parsed(&answered(&offer));
    let formats = &answer.media_descriptions[1].media_name.formats;
    for (carrier, of) in [("97", "96"), ("109", "108")] {
        assert!(formats.iter().any(|it| it == carrier), "{carrier}");
        let map = format!("{carrier} rtx/90000");
        assert!(values(&answer, 1, "rtpmap").contains(&map), "{map}");
        let apt = format!("{carrier} apt={of}");
        assert!(values(&answer, 1, "fmtp").contains(&apt), "{apt}");
    }
    let agreed = Offer::parse(&offer).unwrap().retransmission();
    assert!(agreed.streams.contains(&(8, 7)));
    // nobody asks for what is missing, so nothing is sent again
    let silent = PLAIN.lines().filter(|line| !line.ends_with(" nack"));
    let silent: String = silent.flat_map(|line| [line, "\r\n"]).collect();
    assert!(!answered(&silent).contains("rtx"));
}

#[test]
fn only_feedback_and_extensions_that_were_offered_and_are_used_are_agreed() {
    let answer = parsed(&answered(PLAIN));
    assert_eq!(values(&answer, 0, "rtcp-fb"), ["111 transport-cc"]);
    let video = values(&answer, 1, "rtcp-fb");
    for wanted in ["108 transport-cc", "108 nack", "108 nack pli", "96 nack"] {
        assert!(video.iter().any(|it| it == wanted), "{wanted}");
    }
    assert!(!video.iter().any(|it| it.contains("remb")), "none is ever sent");
    let mid = "4 urn:ietf:params:rtp-hdrext:sdes:mid";
    let wide = "3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
    let level = "1 urn:ietf:params:rtp-hdrext:ssrc-audio-level";
    assert_eq!(values(&answer, 0, "extmap"), [level, wide, mid]);
    assert_eq!(
        values(&answer, 1, "extmap"),
        [wide, mid],
        "no orientation: the sender turns its pictures itself"
    );
    assert_eq!(values(&answer, 1, "rtcp-rsize").len(), 1);
    assert!(answer.has_attribute("extmap-allow-mixed"));

    let answer = parsed(&answered(AIORTC));
    assert_eq!(
        values(&answer, 1, "extmap"),
        ["1 urn:ietf:params:rtp-hdrext:sdes:mid"]
    );
    assert!(values(&answer, 1, "rtcp-rsize").is_empty());
    assert!(!answer.has_attribute("extmap-allow-mixed"));
}

#[test]
fn layers_by_name_are_all_taken_and_what_is_paused_stays_so() {
    let answer = parsed(&answered(LAYERS));
    assert_eq!(values(&answer, 1, "rid"), ["h recv", "m recv", "l recv"]);
    assert_eq!(values(&answer, 1, "simulcast"), ["recv h;m;~l"]);
    let extensions = values(&answer, 1, "extmap");
    assert!(
        extensions
            .iter()
            .any(|it| it == "10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id")
    );
    for other in [PLAIN, SOURCES, TWO_STREAMS, FLEXFEC] {
        let answer = answered(other);
        assert!(!answer.contains("simulcast") && !answer.contains("rtp-stream-id"));
    }
}

#[test]
fn a_layer_keeps_its_restrictions_and_of_its_payload_types_those_that_are_taken() {
    let offer = LAYERS
        .replace("a=rid:h send", "a=rid:h send pt=108,97,96;max-width=1280")
        .replace("a=rid:m send", "a=rid:m send pt=97")
        .replace("send h;m;~l", "send h;m,~l recv x");
    let answer = parsed(&answered(&offer));
    assert_eq!(
        values(&answer, 1, "rid"),
        ["h recv pt=108,96;max-width=1280", "l recv"],
        "of m and l, which are one layer, only l can be taken"
    );
    assert_eq!(values(&answer, 1, "simulcast"), ["recv h;~l"]);
}

#[test]
fn a_repair_stream_is_taken_where_it_says_what_it_protects() {
    let offer = Offer::parse(FLEXFEC).unwrap();
    let repairs: Vec<_> = offer
        .repairs()
        .map(|it| (it.payload_type, it.protects, it.source))
        .collect();
    assert_eq!(repairs, [(49, 156_845_483, 613_614_283)]);
    assert_eq!(offer.sections[1].sources, [156_845_483], "it is no media");
    let answer = parsed(&answered(FLEXFEC));
    assert!(
        answer.media_descriptions[1]
            .media_name
            .formats
            .ends_with(&["49".to_owned()])
    );
    assert!(
        values(&answer, 1, "rtpmap")
            .iter()
            .any(|it| it == "49 flexfec-03/90000")
    );
    assert!(
        values(&answer, 1, "fmtp")
            .iter()
            .any(|it| it == "49 repair-window=10000000")
    );
    assert!(
        values(&answer, 1, "rtcp-fb")
            .iter()
            .any(|it| it == "49 transport-cc")
    );
    let without = FLEXFEC.replace("ssrc-group:FEC-FR", "ssrc-group:X");
    assert!(!answered(&without).contains("flexfec"));
}

#[test]
fn the_setup_attribute_lets_the_publisher_open_the_handshake_unless_it_will_not() {
    for (offered, ours) in [
        ("actpass", "passive"),
        ("active", "passive"),
        ("passive", "active"),
    ] {
        let offer = PLAIN.replace("a=setup:actpass", &format!("a=setup:{offered}"));
        let answer = parsed(&answered(&offer));
        assert_eq!(values(&answer, 0, "setup"), [ours]);
    }
}

struct Silent;

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Silent {}

#[tokio::test]
async fn a_foreign_client_takes_our_answer_to_its_own_offer() {
    let mut engine = MediaEngine::default();
    engine.register_default_codecs().unwrap();
    let client = PeerConnectionBuilder::new()
        .with_media_engine(engine)
        .with_handler(Arc::new(Silent))
        .with_udp_addrs(vec!["127.0.0.1:0"])
        .build()
        .await
        .unwrap();
    let sends = [RtpCodecKind::Audio, RtpCodecKind::Video, RtpCodecKind::Video];
    for (source, kind) in (1..).zip(sends) {
        let coding = RTCRtpCodingParameters {
            ssrc: Some(source),
            ..Default::default()
        };
        let (name, clock_rate, channels) = match kind {
            RtpCodecKind::Audio => ("audio/opus", 48_000, 2),
            _ => ("video/VP8", 90_000, 0),
        };
        let codec = RTCRtpCodec {
            mime_type: name.to_owned(),
            clock_rate,
            channels,
            ..Default::default()
        };
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: coding,
            codec,
            ..Default::default()
        };
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Sendonly,
            streams: Vec::new(),
            send_encodings: vec![encoding],
        };
        client.add_transceiver_from_kind(kind, Some(init)).await.unwrap();
    }
    let offer = client.create_offer(None).await.unwrap();
    client.set_local_description(offer.clone()).await.unwrap();
    let text = answered(&offer.sdp);
    let answer = RTCSessionDescription::answer(text.clone()).unwrap();
    let result = client.set_remote_description(answer).await;
    assert!(result.is_ok(), "{result:?}\n{text}");
    let taken = client.current_remote_description().await.expect("it is in force");
    assert_eq!(taken.sdp, text);
    client.close().await.unwrap();
}

#[test]
fn wishes_replace_what_the_offer_says_of_the_same_thing() {
    assert_eq!(
        parameters(RtpCodec::Opus, "minptime=10;useinbandfec=1;sprop-stereo=1"),
        "minptime=10;stereo=1;maxaveragebitrate=128000;useinbandfec=1"
    );
    assert_eq!(
        parameters(RtpCodec::Vp8, ""),
        "x-google-start-bitrate=2500;x-google-min-bitrate=300"
    );
}

#[test]
fn candidates_fall_in_priority_in_their_order_and_tcp_is_below_udp() {
    let address = |text: &str| text.parse().unwrap();
    let ours = [
        Candidate::udp(address("192.0.2.7:8189")),
        Candidate::udp(address("[2001:db8::1]:8189")),
        Candidate::tcp(address("192.0.2.7:8190")),
    ];
    assert_eq!(
        candidates(&ours),
        [
            "candidate:1 1 udp 2130706431 192.0.2.7 8189 typ host",
            "candidate:2 1 udp 2130706175 2001:db8::1 8189 typ host",
            "candidate:3 1 tcp 1520434687 192.0.2.7 8190 typ host tcptype passive",
        ]
    );
}

/// What goes wrong with text on its way: lines that are gone, doubled, or out of place, and characters that are others.
#[test]
fn an_offer_that_was_tampered_with_is_refused_or_answered_so_that_a_foreign_parser_reads_it() {
    let mut state = 11u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut answers = 0;
    for round in 0..1_500 {
        let (name, offer) = ALL[round % ALL.len()];
        let mut lines: Vec<String> = offer.lines().map(str::to_owned).collect();
        for _ in 0..=random(4) {
            let at = random(lines.len());
            match random(4) {
                0 => drop(lines.remove(at)),
                1 => lines.insert(random(lines.len()), lines[at].clone()),
                2 => lines.swap(at, random(offer.lines().count() / 2)),
                _ => {
                    let mut bytes = lines[at].clone().into_bytes();
                    let place = random(bytes.len());
                    bytes[place] = b" :;,~/=0\x7f9Az\t"[random(13)];
                    lines[at] = String::from_utf8(bytes).unwrap_or_default();
                }
            }
        }
        let text = lines.join("\r\n") + "\r\n";
        match Offer::parse(&text) {
            Ok(offer) => {
                // RFC 8866 leaves some words open that the foreign parser knows only a few of
                if SessionDescription::unmarshal(&mut Cursor::new(&text)).is_err() {
                    continue;
                }
                answers += 1;
                let answer = answer(&offer, &ours(&[]));
                let read = SessionDescription::unmarshal(&mut Cursor::new(&answer));
                let read = read.unwrap_or_else(|why| panic!("round {round}, {name}: {why}\n{answer}"));
                assert_eq!(read.media_descriptions.len(), offer.outline.len());
            }
            Err(why) => assert!(why.is_bad_offer(), "round {round}, {name}: {why}"),
        }
    }
    assert!(answers > 500, "most harm is small: {answers}");
}
