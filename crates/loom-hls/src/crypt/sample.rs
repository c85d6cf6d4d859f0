use std::sync::Arc;

use aes::Aes128;
use aes::cipher::{Block, BlockModeEncrypt, KeyIvInit, StreamCipher};
use bytes::Bytes;
use loom_core::codec::h264;

use crate::crypt::whole::BLOCK;
use crate::crypt::{ContentKey, EncryptionScheme};
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

/// Encrypts one track's samples with one key.
#[derive(Debug)]
pub(crate) struct SampleSeal {
    pub(crate) key: Arc<ContentKey>,
    pub(crate) scheme: EncryptionScheme,
    /// Where slice headers end; `None` for sound, of which everything is protected.
    slices: Option<Arc<h264::SliceHeaders>>,
    /// The next sample's initialization vector of `cenc`: no two samples under one key have the same.
    counter: u64,
}

impl SampleSeal {
    /// `counter` begins where no other track's reaches.
    pub(crate) fn new(
        scheme: EncryptionScheme,
        key: Arc<ContentKey>,
        slices: Option<Arc<h264::SliceHeaders>>,
        counter: u64,
    ) -> Self {
        Self {
            key,
            scheme,
            slices,
            counter,
        }
    }

    /// Where the counter has come to, for the key that follows.
    pub(crate) fn counter(&self) -> u64 {
        self.counter
    }

    /// Whether samples are protected in part (`senc` with subsamples).
    pub(crate) fn has_subsamples(&self) -> bool {
        self.slices.is_some()
    }

    pub(crate) fn seal(&mut self, sample: &Bytes) -> Sealed {
        let subsamples = self.slices.as_ref().map(|slices| self.divide(slices, sample));
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

    /// Length fields, NAL unit headers and slice headers in the clear, and all that is no slice (ISO/IEC 23001-7 §10.4.2). What
    /// does not parse stays in the clear as a whole.
    fn divide(&self, slices: &h264::SliceHeaders, sample: &Bytes) -> Vec<(u16, u32)> {
        let mut made = Vec::new();
        let mut clear = 0;
        for nal in h264::sample_nals(sample).unwrap_or_else(|_| vec![]) {
            clear += LENGTH;
            let room = made.len() < limits::SUBSAMPLES;
            let Some(header) = slices.reach(nal).filter(|h| room && nal.len() >= h + BLOCK) else {
                clear += nal.len();
                continue;
            };
            let mut protected = nal.len() - header;
            if self.scheme == EncryptionScheme::Cenc {
                protected -= protected % BLOCK; // whole blocks (§9.5.2.3)
            }
            clear += nal.len() - protected;
            push(&mut made, std::mem::take(&mut clear), protected);
        }
        if clear > 0 {
            push(&mut made, clear, 0);
        }
        if made.is_empty() {
            push(&mut made, sample.len(), 0);
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
