//! Every bound on what comes from outside, by name.

use std::time::Duration;

/// Bytes of an SDP offer, and so of a WHIP `POST` body. Chromium's largest offers stay below 20 KiB.
pub const OFFER_BYTES: usize = 128 * 1024;
/// Bytes of one line of an SDP offer.
pub const OFFER_LINE_BYTES: usize = 4 * 1024;
/// Media sections of an offer.
pub const OFFER_SECTIONS: usize = 16;
/// Codecs looked at in one media section.
pub const SECTION_CODECS: usize = 64;
/// Synchronization sources declared in one media section.
pub const SECTION_SOURCES: usize = 32;
/// Header extensions of one media section, counting those of the session.
pub const SECTION_EXTENSIONS: usize = 64;
/// Simulcast layers of one media section.
pub const SECTION_LAYERS: usize = 6;
/// Repair streams of one media section.
pub const SECTION_REPAIRS: usize = 4;
/// Fingerprints looked at.
pub const FINGERPRINTS: usize = 8;
/// Characters of an ICE user fragment and of an ICE password (RFC 8839 §5.4).
pub const ICE_CREDENTIAL_BYTES: usize = 256;
/// Bytes of the name of a media section, a layer or a media stream (RFC 8830 §2 has 64 for the last).
pub const NAME_BYTES: usize = 64;
/// Bytes of a trickle fragment (RFC 8840), and so of a WHIP `PATCH` body.
pub const FRAGMENT_BYTES: usize = 32 * 1024;
/// Bytes of an endpoint or session name in a WHIP path.
pub const PATH_PART_BYTES: usize = 256;
/// Bytes of a bearer token.
pub const TOKEN_BYTES: usize = 4 * 1024;

/// How long a WHIP request's body may take to arrive.
pub const BODY_WAIT: Duration = Duration::from_secs(10);
/// WHIP requests that one address may make at once. A proxy in front makes all its clients one address.
pub const REQUEST_BURST: f64 = 1_000.0;
/// WHIP requests a second that one address may make for longer.
pub const REQUESTS_A_SECOND: f64 = 200.0;

/// The longest timeout of [`IngestConfig`](crate::IngestConfig).
pub const TIMEOUT: Duration = Duration::from_secs(24 * 3_600);
/// Bytes of one datagram; longer ones are cut by the receiver. Larger than any path's MTU that WebRTC uses.
pub const DATAGRAM_BYTES: usize = 2_000;
/// Remote addresses that one session may be reached from at once; of more, the one is forgotten that was proved longest ago and that media
/// does not take.
pub const SESSION_ADDRESSES: usize = 16;
/// Attributes read in a STUN message before it is given up.
pub const STUN_ATTRIBUTES: usize = 32;
/// Bytes asked of the kernel for the receive buffer: 8 MiB is 1.6 s of 40 Mbit/s.
pub const SOCKET_RECEIVE_BYTES: usize = 8 * 1024 * 1024;
/// Bytes asked of the kernel for the send buffer.
pub const SOCKET_SEND_BYTES: usize = 1024 * 1024;

/// Events that wait for a host that does not call [`Session::recv`](crate::Session::recv). When so many wait, what then
/// arrives is dropped and ends as a gap.
pub const SESSION_EVENTS: usize = 1_024;
/// Bytes of media in those; when so many wait, the same holds.
pub const SESSION_EVENT_BYTES: usize = 64 * 1024 * 1024;
/// Synchronization sources of one session that are decrypted.
pub const SESSION_SOURCES: usize = 64;
/// Bytes of DTLS that one session takes in all its life; media does not travel by it.
pub const DTLS_BYTES: usize = 256 * 1024;
/// A publisher whose sources all said goodbye by RTCP has left once neither media nor a check came of it for this long: Chromium checks
/// every 2.5 s.
pub const GOODBYE: Duration = Duration::from_secs(3);
/// Header extensions looked at in one packet (RFC 8285), padding included.
pub const HEADER_EXTENSIONS: usize = 64;
/// How many RTCP packets back one may lie and still be taken by SRTCP.
pub const REPLAY_REPORTS: usize = 128;

/// TCP streams (RFC 6544) at once.
pub const STREAMS: usize = 1_024;
/// TCP streams of one address that have not proved to be a publisher's, at once. A publisher proves it with its first frame.
pub const UNPROVEN_STREAMS: usize = 32;
/// Bytes read from a TCP stream at one go.
pub const STREAM_BYTES: usize = 16 * 1024;
/// Frames that wait to be written to one TCP stream. When full the newest is dropped.
pub const STREAM_FRAMES: usize = 64;

/// Tracks of one session.
pub const SESSION_TRACKS: usize = 16;
/// Packets that one track's reorder buffer holds.
pub const REORDER_PACKETS: usize = 1_024;
/// Holes in one track's packets that are remembered after they were given up, to learn what comes too late.
pub const GIVEN_UP_HOLES: usize = 32;
/// How many packets back a retransmission may lie and still be taken by SRTP (RFC 3711 §3.3.2). A key frame alone may be
/// several hundred packets.
pub const REPLAY_PACKETS: usize = 2_048;
/// Media packets that a decoder of repair packets holds of one source: twice what one repair packet may cover, and more.
pub const FEC_MEDIA_PACKETS: usize = 256;
/// Repair packets that it holds. When full the oldest goes.
pub const FEC_REPAIR_PACKETS: usize = 64;
/// A leap in sequence numbers larger than this is taken as the start of a new stream (RFC 3550 §A.1).
pub const SEQUENCE_LEAP: i64 = 3_000;
/// Synchronization sources of one sender that feedback is kept for; the longest silent is forgotten.
pub const FEEDBACK_SOURCES: usize = 64;
/// Missing packets of one source that are remembered to be asked for; of more, the oldest are not.
pub const REQUESTED_PACKETS: usize = 1_024;
/// Requests for one missing packet.
pub const REQUESTS_PER_PACKET: u8 = 10;
/// Missing packets asked for in one message.
pub const REQUESTS_AT_ONCE: usize = 256;
/// Packets that came after they were asked for and of which a second copy would say that the request was needless.
pub const ANSWERED_PACKETS: usize = 512;
/// Places in the window of a sender's packets whose arrival times are reported.
pub const TRANSPORT_PACKETS: usize = 2_048;
/// Bytes of one RTCP datagram that we send.
pub const RTCP_BYTES: usize = 1_200;
/// RTCP datagrams that wait to be taken; of more, the oldest is dropped.
pub const RTCP_MESSAGES: usize = 64;
/// NAL units of one H.264 picture.
pub const PICTURE_NAL_UNITS: usize = 16 * 1024;
/// Bytes of one coded picture.
pub const FRAME_BYTES: usize = 8 * 1024 * 1024;
/// Packets of one coded picture.
pub const FRAME_PACKETS: usize = 16 * 1024;
/// Picture parameter sets remembered of one H.264 track.
pub const PICTURE_PARAMETER_SETS: usize = 32;
/// Open bitstream units in one AV1 temporal unit.
pub const TEMPORAL_UNIT_OBUS: usize = 1_024;

/// How long the drain of a closing session lasts at most.
pub const DRAIN: Duration = Duration::from_millis(80);
/// A closing session is drained once nothing has come for this long.
pub const DRAIN_QUIET: Duration = Duration::from_millis(25);
