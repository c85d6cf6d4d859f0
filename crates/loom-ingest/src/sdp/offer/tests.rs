use super::*;
use crate::sdp::fixtures::{AIORTC, LAYERS, PLAIN, SOURCES, TWO_STREAMS};

/// The shape of a browser's offer, with retransmission, repair, an mDNS candidate and a data channel.
const BROWSER: &str = "v=0\r\n\
    o=- 1 2 IN IP4 127.0.0.1\r\n\
    s=-\r\n\
    t=0 0\r\n\
    a=group:BUNDLE 0 1 2\r\n\
    a=extmap-allow-mixed\r\n\
    m=audio 61764 UDP/TLS/RTP/SAVPF 111 63 9 0\r\n\
    c=IN IP4 192.0.2.1\r\n\
    a=candidate:1 1 udp 2122260223 8b5a1e0c-4f0e-4a4e-8e1d-0a0b0c0d0e0f.local 61764 typ host\r\n\
    a=ice-ufrag:EsAw\r\n\
    a=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y\r\n\
    a=fingerprint:sha-256 DA:7B:57:DC:28:CE:04:4F:31:79:85:C4:31:67:EB:27:58:29:ED:77:2A:0D:24:AE:ED:AD:30:BC:BD:F1:9C:02\r\n\
    a=setup:actpass\r\n\
    a=mid:0\r\n\
    a=sendonly\r\n\
    a=rtcp-mux\r\n\
    a=rtpmap:111 opus/48000/2\r\n\
    a=fmtp:111 minptime=10;useinbandfec=1\r\n\
    a=rtpmap:63 red/48000/2\r\n\
    a=fmtp:63 111/111\r\n\
    a=rtpmap:9 G722/8000\r\n\
    a=ssrc:1001 cname:x\r\n\
    m=video 61764 UDP/TLS/RTP/SAVPF 96 97 102 103 104 108 45 98 100 118 120\r\n\
    c=IN IP4 192.0.2.1\r\n\
    a=ice-ufrag:EsAw\r\n\
    a=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y\r\n\
    a=fingerprint:sha-256 DA:7B:57:DC:28:CE:04:4F:31:79:85:C4:31:67:EB:27:58:29:ED:77:2A:0D:24:AE:ED:AD:30:BC:BD:F1:9C:02\r\n\
    a=setup:actpass\r\n\
    a=mid:1\r\n\
    a=sendonly\r\n\
    a=rtcp-mux\r\n\
    a=rtpmap:96 VP8/90000\r\n\
    a=rtcp-fb:96 nack pli\r\n\
    a=rtpmap:97 rtx/90000\r\n\
    a=fmtp:97 apt=96\r\n\
    a=rtpmap:102 H264/90000\r\n\
    a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f\r\n\
    a=rtpmap:103 rtx/90000\r\n\
    a=fmtp:103 apt=102\r\n\
    a=rtpmap:104 H264/90000\r\n\
    a=fmtp:104 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f\r\n\
    a=rtpmap:108 H264/90000\r\n\
    a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
    a=rtpmap:45 AV1/90000\r\n\
    a=rtpmap:98 VP9/90000\r\n\
    a=fmtp:98 profile-id=0\r\n\
    a=rtpmap:100 VP9/90000\r\n\
    a=fmtp:100 profile-id=2\r\n\
    a=rtpmap:118 red/90000\r\n\
    a=rtpmap:120 ulpfec/90000\r\n\
    a=rid:hi send\r\n\
    a=simulcast:send hi\r\n\
    a=ssrc-group:FID 2001 2002\r\n\
    a=ssrc:2001 cname:x\r\n\
    a=ssrc:2002 cname:x\r\n\
    m=application 61764 UDP/DTLS/SCTP webrtc-datachannel\r\n\
    a=mid:2\r\n\
    a=sctp-port:5000\r\n";

fn refused(text: &str) -> String {
    let error = Offer::parse(text).unwrap_err();
    assert!(error.is_bad_offer(), "{error}");
    error.to_string()
}

#[test]
fn codecs_that_the_host_does_not_take_are_not_agreed_to() {
    let offer = Offer::parse_for(BROWSER, &[VideoCodec::H264]).unwrap();
    let pictures = offer
        .sections
        .iter()
        .find(|it| it.kind == MediaKind::Video)
        .unwrap();
    assert!(pictures.formats.iter().all(|it| it.codec == RtpCodec::H264));
    assert!(!pictures.formats.is_empty());
    let none = BROWSER.replace("H264/90000", "H265/90000");
    let why = Offer::parse_for(&none, &[VideoCodec::H264]).unwrap_err();
    assert!(why.is_bad_offer());
    assert!(
        why.to_string().ends_with("offer H264 for video, opus for audio"),
        "{why}"
    );
    assert!(Offer::parse(&none).is_ok(), "it names VP8 too");
}

#[test]
fn codecs_are_taken_in_our_order_with_h264_first() {
    let offer = Offer::parse(BROWSER).unwrap();
    let order = |at: usize| {
        offer.sections[at]
            .formats
            .iter()
            .map(|it| it.payload_type)
            .collect::<Vec<_>>()
    };
    assert_eq!(order(0), [111]);
    assert_eq!(order(1), [108, 102, 104, 96, 98, 45], "10-bit VP9 is not taken");
    assert_eq!(
        offer.sections[1].sources,
        [2001],
        "the retransmission's source is not one"
    );
    assert_eq!(
        (offer.role, offer.ice.password.as_str()),
        (DtlsRole::Passive, "bP+XJMM09aR8AiX1jdukzR6Y")
    );
}

#[test]
fn a_publisher_that_opens_the_handshake_may() {
    let offer = BROWSER.replace("a=setup:actpass", "a=setup:active");
    assert_eq!(Offer::parse(&offer).unwrap().role, DtlsRole::Passive);
}

#[test]
fn what_is_no_sdp_is_refused_with_its_line() {
    assert!(refused("").contains("line 1: it is empty"));
    assert!(refused("{\"sdp\": 1}").contains("line 1: the first line must be \"v=0\""));
    assert!(refused("v=0\r\ns=-\r\nnonsense\r\n").contains("line 3"));
    assert!(refused(&format!("v=0\r\ns={}\r\n", "x".repeat(5_000))).contains("line 2: the line is too long"));
    assert!(refused(&format!("v=0\r\n{}", "a=x\r\n".repeat(30_000))).contains("at most"));
}

#[test]
fn an_offer_with_nothing_to_send_is_refused() {
    assert!(refused("v=0\r\ns=-\r\n").contains("it has no media section"));
    let (session, _) = BROWSER.split_once("m=audio").unwrap();
    let data = format!("{session}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n");
    assert!(refused(&data).contains("no audio and no video section"));
    assert!(refused(&BROWSER.replace("a=sendonly", "a=recvonly")).contains("only receive"));
    assert!(refused(&BROWSER.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP")).contains("DTLS-SRTP"));
}

#[test]
fn an_offer_of_unknown_codecs_is_refused_with_their_names() {
    let offer = BROWSER
        .replace("opus/", "speex/")
        .replace("VP8/", "H265/")
        .replace("H264/", "H265/");
    let offer = offer.replace("AV1/", "theora/").replace("VP9/", "theora/");
    let why = refused(&offer);
    assert!(
        why.contains("speex, red, G722, 0, H265, rtx, theora, ulpfec"),
        "{why}"
    );
    assert!(why.contains("offer H264, VP8, VP9 or AV1 for video, opus for audio"));
}

#[test]
fn an_offer_of_which_one_section_has_unknown_codecs_is_refused_whole() {
    // RFC 9725 §4.4.3
    let why = refused(&BROWSER.replace("opus/", "speex/"));
    assert!(why.contains("speex"), "{why}");
    assert!(
        !why.contains("ulpfec"),
        "the other section is not at fault: {why}"
    );
}

#[test]
fn a_section_that_sends_nothing_does_not_spoil_the_others() {
    let silent = BROWSER.replacen("a=sendonly", "a=inactive", 1);
    let offer = Offer::parse(&silent).unwrap();
    assert_eq!(offer.sections.len(), 1);
    let section = |it: &OfferedSection| it.accepted.as_ref().map(|terms| terms.section);
    assert_eq!(
        offer.outline.iter().map(section).collect::<Vec<_>>(),
        [None, Some(0), None]
    );
}

#[test]
fn an_offer_without_transport_is_refused_with_the_clause() {
    assert!(refused(&BROWSER.replace("a=ice-pwd", "a=x")).contains("no \"a=ice-pwd\" (RFC 8839 §5.4)"));
    assert!(refused(&BROWSER.replace("a=fingerprint", "a=x")).contains("no \"a=fingerprint\" (RFC 8122 §5)"));
    assert!(refused(&BROWSER.replace("a=mid:0", "a=x")).contains("no \"a=mid\""));
    assert!(refused(&BROWSER.replace("a=mid:1", "a=mid:0")).contains("have the mid \"0\""));
}

#[test]
fn counts_are_bounded() {
    let (session, sections) = BROWSER.split_once("m=audio").unwrap();
    let many = format!("{session}{}", format!("m=audio{sections}").repeat(20));
    assert!(refused(&many).contains("at most 16"));
    let sources: String = (0..1_000).map(|n| format!("a=ssrc:{n} cname:x\r\n")).collect();
    let offer = Offer::parse(&BROWSER.replace("a=ssrc:1001 cname:x\r\n", &sources)).unwrap();
    assert_eq!(offer.sections[0].sources.len(), limits::SECTION_SOURCES);
}

#[test]
fn no_cut_of_an_offer_panics() {
    for len in 0..BROWSER.len() {
        let _ = Offer::parse(&BROWSER[..len]);
    }
}

#[test]
fn credentials_and_fingerprints_are_as_their_rfcs_have_them() {
    let with = |line: &str, other: &str| BROWSER.replace(line, other);
    let ufrag = "a=ice-ufrag:EsAw";
    assert!(
        refused(&with(ufrag, "a=ice-ufrag:abc"))
            .contains("\"a=ice-ufrag\" has 3 characters; it must have 4 to 256")
    );
    assert!(refused(&with(ufrag, &format!("a=ice-ufrag:{}", "a".repeat(257)))).contains("RFC 8839 §5.4"));
    assert!(refused(&with(ufrag, "a=ice-ufrag:ab:cd")).contains("other characters"));
    assert!(refused(&with("bP+XJMM09aR8AiX1jdukzR6Y", "short")).contains("\"a=ice-pwd\" has 5 characters"));
    let sha = "a=fingerprint:sha-256 DA:7B:57";
    assert!(
        refused(&with(sha, "a=fingerprint:sha-256 7B:57")).contains("has 31 bytes, not 32 (RFC 8122 §5)")
    );
    assert!(refused(&with(sha, "a=fingerprint:sha-256 DA7B:57")).contains("hexadecimal"));
    assert!(
        refused(&with(sha, "a=fingerprint:md5 DA:7B:57")).contains("none of its fingerprints is sha-256")
    );
    assert!(refused(&with(sha, "a=fingerprint:DA:7B:57")).contains("no hash and value"));
    let offer = Offer::parse(BROWSER).unwrap();
    assert_eq!(offer.ice.fragment, "EsAw");
    assert_eq!(offer.fingerprints[0].algorithm, "sha-256");
    assert_eq!(offer.fingerprints[0].bytes[..3], [0xda, 0x7b, 0x57]);
    assert_eq!(Offer::parse(AIORTC).unwrap().fingerprints.len(), 3);
}

#[test]
fn several_sections_share_one_transport_and_rtcp_is_multiplexed() {
    let group = "a=group:BUNDLE 0 1 2";
    assert!(
        refused(&BROWSER.replace(group, "a=x")).contains("not in one \"a=group:BUNDLE\" (RFC 9725 §4.4.1")
    );
    assert!(refused(&BROWSER.replace(group, "a=group:BUNDLE 0 2")).contains("a=group:BUNDLE"));
    let alone = BROWSER
        .replace(group, "a=x")
        .replacen("a=sendonly", "a=inactive", 1);
    assert_eq!(
        Offer::parse(&alone).unwrap().bundle,
        [""; 0],
        "one section needs no group"
    );
    assert!(refused(&BROWSER.replace("a=rtcp-mux", "a=x")).contains("no \"a=rtcp-mux\" (RFC 9725 §4.4.1)"));
    assert!(refused(&BROWSER.replace("a=setup:actpass", "a=setup:holdconn")).contains("RFC 8842 §5.2"));
    assert_eq!(Offer::parse(TWO_STREAMS).unwrap().bundle, ["0", "1", "2", "3"]);
}

#[test]
fn a_section_that_is_only_in_the_bundle_needs_no_transport_of_its_own() {
    let (first, second) = PLAIN.split_once("m=video 9").unwrap();
    let second: String = second
        .lines()
        .filter(|line| {
            !["ice-", "fingerprint", "setup", "rtcp-mux"]
                .iter()
                .any(|it| line[2..].starts_with(it))
        })
        .map(|line| format!("{line}\r\n"))
        .collect();
    let only = format!("{first}m=video 0{second}a=bundle-only\r\n");
    assert_eq!(Offer::parse(&only).unwrap().sections.len(), 2);
    let off = format!("{first}m=video 0{second}");
    let offer = Offer::parse(&off).unwrap();
    assert_eq!(offer.sections.len(), 1, "without it, port 0 is off");
    let refused_first = only.replacen("a=sendonly", "a=inactive", 1);
    let offer = Offer::parse(&refused_first).unwrap();
    assert_eq!((offer.sections.len(), offer.bundle), (1, vec!["1".to_owned()]));
}

#[test]
fn numbers_mean_one_thing() {
    let extension = "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid";
    let twice = PLAIN.replacen(extension, "a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid", 1);
    assert!(refused(&twice).contains("the header extension id 1 twice (RFC 8285 §5)"));
    let other = PLAIN.replacen(extension, "a=extmap:5 urn:ietf:params:rtp-hdrext:sdes:mid", 1);
    assert!(refused(&other).contains("id 5 means two things in one BUNDLE group (RFC 9143 §12)"));
    for wrong in ["0 urn:x", "4352 urn:x", "x urn:x", "7"] {
        let wrong = PLAIN.replacen(extension, &format!("a=extmap:{wrong}"), 1);
        assert!(refused(&wrong).contains("no id from 1 to 4351 and URI"));
    }
    let twice = BROWSER.replace("SAVPF 96 97 102", "SAVPF 96 97 96");
    assert!(refused(&twice).contains("names payload type 96 twice"));
    let both = BROWSER.replace(
        "m=audio 61764 UDP/TLS/RTP/SAVPF 111",
        "m=audio 61764 UDP/TLS/RTP/SAVPF 96",
    );
    let both = both.replace("a=rtpmap:111", "a=rtpmap:96");
    assert!(
        refused(&both)
            .contains("payload type 96 is opus in one section and VP8 in another (RFC 9143 §9.1.1)")
    );
    assert!(
        refused(&BROWSER.replace("SAVPF 111", "SAVPF 211"))
            .contains("\"211\" in \"m=audio\" is no payload type")
    );
}

#[test]
fn extensions_that_we_cannot_use_are_not_agreed() {
    let with = |value: &str| {
        let line = "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid";
        let offer = PLAIN.replace(
            line,
            &format!("a=extmap:{value} urn:ietf:params:rtp-hdrext:sdes:mid"),
        );
        Offer::parse(&offer).unwrap().extensions.mid
    };
    assert_eq!(with("4"), Some(4));
    assert_eq!(with("4/sendonly"), Some(4));
    assert_eq!(with("4/recvonly"), None);
    assert_eq!(with("15"), None, "RFC 8285 §4.2");
    assert_eq!(with("200"), Some(200), "in the two-byte form");
    assert_eq!(with("256"), None);
    let expected = Extensions {
        mid: Some(4),
        rid: Some(10),
        repaired_rid: Some(11),
        transport_cc: Some(3),
        audio_level: Some(1),
    };
    assert_eq!(Offer::parse(LAYERS).unwrap().extensions, expected);
    let silent = LAYERS.replace(" transport-cc\r", " x\r");
    assert_eq!(Offer::parse(&silent).unwrap().extensions.transport_cc, None);
}

#[test]
fn layers_and_tracks_are_bounded_and_named_as_the_rfc_has_it() {
    let with = |list: &str| LAYERS.replace("send h;m;~l", &format!("send {list}"));
    let many: Vec<String> = (0..=limits::SECTION_LAYERS).map(|n| format!("x{n}")).collect();
    let rids: String = many.iter().map(|name| format!("a=rid:{name} send\r\n")).collect();
    let offer = with(&many.join(";")).replace("a=rid:h send\r\n", &rids);
    assert!(refused(&offer).contains("7 simulcast layers; at most 6"));
    assert!(refused(&with("h;h")).contains("names \"h\" twice"));
    assert!(refused(&with("h;")).contains("RFC 8851 §10"));
    assert!(refused(&with("h;a:b")).contains("RFC 8851 §10"));
    assert!(refused(&with(&"h".repeat(65))).contains("RFC 8851 §10"));
    let (session, sections) = LAYERS.split_once("m=audio").unwrap();
    let (_, video) = sections.split_once("m=video").unwrap();
    let mut offer = session.replace("BUNDLE 0 1", "BUNDLE 1 2 3 4 5 6");
    for mid in 1..=6 {
        offer += &format!("m=video{video}").replace("a=mid:1", &format!("a=mid:{mid}"));
    }
    assert!(refused(&offer).contains("18 tracks, counting simulcast layers; at most 16"));
}

#[test]
fn a_section_tells_its_stream() {
    let streams = |text: &str| {
        let offer = Offer::parse(text).unwrap();
        offer.sections.into_iter().map(|it| it.stream).collect::<Vec<_>>()
    };
    let two = streams(TWO_STREAMS);
    assert!(two[0].is_some() && two[0] == two[1] && two[2] == two[3] && two[1] != two[2]);
    assert_eq!(streams(BROWSER), [None, None]);
    let by_source = BROWSER.replace("a=ssrc:1001 cname:x", "a=ssrc:1001 msid:screen track");
    assert_eq!(streams(&by_source)[0].as_deref(), Some("screen"));
}

#[test]
fn names_are_tokens_and_lines_hold_no_line_ends() {
    assert!(refused(&BROWSER.replace("a=mid:2", "a=mid:a b")).contains("is not a token"));
    assert!(
        refused(&BROWSER.replace("a=mid:1", &format!("a=mid:{}", "x".repeat(65)))).contains("RFC 5888 §4")
    );
    assert!(refused(&BROWSER.replace("a=mid:2", "a=mid:2\ra=x")).contains("no NUL and no CR"));
}

#[test]
fn layers_are_named_by_the_offer_or_numbered_in_the_order_of_their_sources() {
    let offer = Offer::parse(LAYERS).unwrap();
    assert_eq!(offer.sections[1].layers, ["h", "m", "l"]);
    assert_eq!(offer.sections[1].sources, [0; 0], "the packets tell");
    let offer = Offer::parse(SOURCES).unwrap();
    assert_eq!(offer.sections[1].layers, ["0", "1", "2"]);
    assert_eq!(offer.sections[1].sources[1..], [3_333_331, 3_333_332]);
    assert_eq!(Offer::parse(PLAIN).unwrap().sections[1].layers, [""; 0]);
}
