use super::*;

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
