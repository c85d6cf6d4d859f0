use bytes::BytesMut;

#[cfg(feature = "testing")]
use super::replay::{Place, ReplayWindow};
use super::srtp::{Opened, Srtp};
use crate::rtp::RtpHeader;

/// How RTP and RTCP travel in datagrams.
pub(crate) enum Protection {
    /// Sealed (RFC 3711).
    Srtp(Box<Srtp>),
    /// As they are.
    #[cfg(feature = "testing")]
    Plain(Plain),
}

impl Protection {
    /// An RTP packet; `None` where it is forged, broken, or so old that nobody knows whether it was here before.
    pub(crate) fn open_rtp(&mut self, header: &RtpHeader, packet: &[u8]) -> Option<Opened> {
        match self {
            Self::Srtp(srtp) => srtp.open_rtp(header, packet),
            #[cfg(feature = "testing")]
            Self::Plain(plain) => plain.open_rtp(header, packet),
        }
    }

    /// An RTCP packet; `None` where it is forged, broken, or was here before.
    pub(crate) fn open_rtcp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        match self {
            Self::Srtp(srtp) => srtp.open_rtcp(packet),
            #[cfg(feature = "testing")]
            Self::Plain(_) => Some(packet.into()),
        }
    }

    /// The datagram for an RTCP packet.
    pub(crate) fn seal_rtcp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        match self {
            Self::Srtp(srtp) => srtp.seal_rtcp(packet),
            #[cfg(feature = "testing")]
            Self::Plain(_) => Some(packet.into()),
        }
    }
}

/// Tells copies from packets that are new, as SRTP does, and needs no keys.
#[cfg(feature = "testing")]
#[derive(Default)]
pub(crate) struct Plain(Vec<(u32, ReplayWindow)>);

#[cfg(feature = "testing")]
impl Plain {
    fn open_rtp(&mut self, header: &RtpHeader, packet: &[u8]) -> Option<Opened> {
        let known = self.0.iter().position(|(source, _)| *source == header.source);
        let at = known.unwrap_or_else(|| {
            self.0.push((header.source, ReplayWindow::default()));
            self.0.len() - 1
        });
        let window = &mut self.0[at].1;
        let seen = window.place(header.sequence);
        match seen {
            Place::Beyond => None,
            Place::Again => Some(Opened::Again(packet.to_vec().into())),
            Place::New => {
                window.accept(header.sequence);
                Some(Opened::New(packet.to_vec().into()))
            }
        }
    }
}
