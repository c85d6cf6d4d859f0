use super::*;

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
fn one_section_of_unknown_codecs_does_not_spoil_the_other() {
    let offer = Offer::parse(&BROWSER.replace("opus/", "speex/")).unwrap();
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
