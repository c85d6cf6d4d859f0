use std::ops::Range;
use std::sync::Arc;

use aes::Aes128;
use aes::cipher::{Block, BlockModeEncrypt, KeyIvInit, StreamCipher};
use bytes::Bytes;
use loom_core::codec::{av1 as av1_codec, h264, vp9 as vp9_codec};
use loom_core::{VideoCodec, VideoParameters};

use crate::crypt::whole::BLOCK;
use crate::crypt::{ContentKey, EncryptionScheme};
use crate::crypt::{av1, hevc, vp9};
use crate::limits;

/// A sample's ciphertext, and what its `senc` entry says.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) data: Bytes,
    /// Its own initialization vector; empty where one is constant.
    pub(crate) iv: Vec<u8>,
    /// Bytes in the clear, and bytes protected, by turns; empty where all of it is protected.
    pub(crate) subsamples: Vec<(u16, u32)>,
}

/// Tells what of a picture may be encrypted: its headers stay in the clear.
#[derive(Debug, Clone)]
pub(crate) enum Pictures {
    H264(Arc<h264::SliceHeaders>),
    Hevc(Arc<hevc::SliceHeaders>),
    Vp9(vp9_codec::FrameHeaders),
    Av1(Box<av1_codec::FrameHeaders>),
}

impl Pictures {
    /// `Err` says why pictures of these parameters cannot be encrypted.
    pub(crate) fn new(video: &VideoParameters) -> Result<Self, (String, &'static str)> {
        let headers = match video.codec {
            VideoCodec::H264 => {
                h264::SliceHeaders::new(&video.config).map(|headers| Self::H264(Arc::new(headers)))
            }
            VideoCodec::Hevc => {
                hevc::SliceHeaders::new(&video.config).map(|headers| Self::Hevc(Arc::new(headers)))
            }
            VideoCodec::Vp9 => Ok(Self::Vp9(vp9_codec::FrameHeaders::default())),
            VideoCodec::Av1 => {
                let headers = av1_codec::FrameHeaders::new(&video.config).map(Box::new);
                return headers.map(Self::Av1).ok_or_else(|| {
                    let why = "there is no sequence header in its configuration".to_owned();
                    (why, "AV1 specification §5.5")
                });
            }
            other => {
                return Err((
                    format!(
                        "samples of {other:?} cannot be encrypted, only those of H.264, HEVC, VP9 and AV1; whole segments can"
                    ),
                    "ISO/IEC 23001-7 §9.5.2",
                ));
            }
        };
        headers.map_err(|why| (why.to_string(), "ISO/IEC 23001-7 §10.4.2"))
    }

    /// What may be encrypted of a sample: coded slices and frames without their headers, in order. What does not parse is left out.
    fn protected(&mut self, sample: &[u8]) -> Vec<Range<usize>> {
        match self {
            Self::H264(slices) => behind_headers(sample, |nal| slices.reach(nal)),
            Self::Hevc(slices) => behind_headers(sample, |nal| slices.reach(nal)),
            Self::Vp9(headers) => vp9::protected(headers, sample),
            Self::Av1(headers) => av1::protected(headers, sample),
        }
    }

    /// The least bytes that have a subsample of their own where partial blocks may be in one, as with `cbcs`. Each tile of AV1 has one.
    fn least(&self) -> usize {
        match self {
            Self::Av1(_) => 1,
            _ => BLOCK,
        }
    }
}

/// What of coded slices lies behind their headers, of which `reach` tells where they end (ISO/IEC 23001-7 §10.4.2).
fn behind_headers(sample: &[u8], reach: impl Fn(&[u8]) -> Option<usize>) -> Vec<Range<usize>> {
    let (mut at, mut made) = (0, Vec::new());
    // of both codecs samples have a length before each NAL unit (ISO/IEC 14496-15 §4.3.3)
    for nal in h264::sample_nals(sample).unwrap_or_default() {
        at += LENGTH + nal.len();
        made.extend(reach(nal).map(|header| at - nal.len() + header..at));
    }
    made
}

/// Encrypts one track's samples with one key.
#[derive(Debug)]
pub(crate) struct SampleSeal {
    pub(crate) key: Arc<ContentKey>,
    pub(crate) scheme: EncryptionScheme,
    /// `None` for sound, of which everything is protected.
    pictures: Option<Pictures>,
    /// The next sample's initialization vector of `cenc`: no two samples under one key have the same.
    counter: u64,
}

impl SampleSeal {
    /// `counter` begins where no other track's reaches.
    pub(crate) fn new(
        scheme: EncryptionScheme,
        key: Arc<ContentKey>,
        pictures: Option<Pictures>,
        counter: u64,
    ) -> Self {
        Self {
            key,
            scheme,
            pictures,
            counter,
        }
    }

    /// Where the counter has come to, for the key that follows.
    pub(crate) fn counter(&self) -> u64 {
        self.counter
    }

    /// Whether samples are protected in part (`senc` with subsamples).
    pub(crate) fn has_subsamples(&self) -> bool {
        self.pictures.is_some()
    }

    pub(crate) fn seal(&mut self, sample: &Bytes) -> Sealed {
        let protected = self.pictures.as_mut().map(|pictures| pictures.protected(sample));
        let subsamples = protected.map(|protected| self.divide(sample.len(), protected));
        let mut data = sample.to_vec();
        let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
        match &subsamples {
            None => runs.push(0..data.len()),
            Some(subsamples) => {
                let mut at = 0;
                for (clear, protected) in subsamples {
                    let from = at + usize::from(*clear);
                    at = from + *protected as usize;
                    runs.push(from..at);
                }
            }
        }
        let key = self.key.key.expose();
        let mut iv = Vec::new();
        if self.scheme == EncryptionScheme::Cenc {
            iv = self.counter.to_be_bytes().to_vec();
            self.counter += 1;
            let mut vector = [0; 16];
            vector[..8].copy_from_slice(&iv);
            // one key stream for the whole sample, its block counter in the lower half (ISO/IEC 23001-7 §9.3)
            let mut stream = ctr::Ctr64BE::<Aes128>::new(&(*key).into(), &vector.into());
            for run in runs {
                stream.apply_keystream(&mut data[run]);
            }
        } else {
            // the vector holds for each subsample anew, and what is less than a block stays in the clear (§9.6, §10.4)
            let skip = if subsamples.is_some() { SKIPPED } else { 0 };
            for run in runs {
                let mut mode = cbc::Encryptor::<Aes128>::new(&(*key).into(), &self.key.iv.into());
                for block in data[run].chunks_exact_mut(BLOCK).step_by(1 + skip) {
                    if let Ok(block) = <&mut Block<Aes128>>::try_from(block) {
                        mode.encrypt_block(block);
                    }
                }
            }
        }
        Sealed {
            data: data.into(),
            iv,
            subsamples: subsamples.unwrap_or_default(),
        }
    }

    /// The subsamples of a sample of which `protected` may be encrypted. What is shorter than a block is never encrypted.
    fn divide(&self, len: usize, protected: Vec<Range<usize>>) -> Vec<(u16, u32)> {
        let mut made = Vec::new();
        let mut clear = 0;
        for run in protected {
            let mut size = run.len();
            let mut least = self.pictures.as_ref().map_or(BLOCK, Pictures::least);
            if self.scheme == EncryptionScheme::Cenc {
                size -= size % BLOCK; // whole blocks (ISO/IEC 23001-7 §9.5.2.3)
                least = BLOCK;
            }
            if size >= least && made.len() < limits::SUBSAMPLES {
                push(&mut made, run.end - size - clear, size);
                clear = run.end;
            }
        }
        if clear < len || made.is_empty() {
            push(&mut made, len - clear, 0);
        }
        made
    }
}

/// The bytes of a NAL unit's length.
const LENGTH: usize = 4;
/// Of ten blocks nine stay in the clear (ISO/IEC 23001-7 §10.4.2; `default_skip_byte_block`).
pub(super) const SKIPPED: usize = 9;

/// Puts a subsample down; more clear bytes than 16 bits hold go into more than one.
fn push(to: &mut Vec<(u16, u32)>, mut clear: usize, protected: usize) {
    while clear > usize::from(u16::MAX) {
        to.push((u16::MAX, 0));
        clear -= usize::from(u16::MAX);
    }
    to.push((clear as u16, protected as u32));
}
