use std::path::Path;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use loom_core::codec::h264;
use loom_core::{CodecParameters, RenditionId};
use loom_transcode::{Backend, Capabilities, DummyBackend, Output, Outputs, plan};
use loom_transcode::{SourceShape, SourceVideoCodec, VideoShape, Wanted};

use super::stamp::Stamp;

/// Grey pictures in H.264 that any decoder takes, each with a stamp before it.
#[derive(Debug)]
pub(super) struct Pictures {
    /// Parameter sets.
    sets: Vec<Bytes>,
    /// IDR pictures, which follow one another in turns (`idr_pic_id`).
    keys: Vec<Bytes>,
    /// The pictures behind one, by `frame_num`.
    others: Vec<Bytes>,
}

impl Pictures {
    /// Those of the dummy backend.
    pub(super) async fn make() -> Self {
        let source = SourceShape {
            video: Some(VideoShape::new(SourceVideoCodec::Vp8, 320, 180)),
            audio: None,
            live: false,
            duration: Some(Duration::from_secs(6)),
        };
        let machine = Capabilities::of(2, ["vp8dec", "x264enc", "h264parse"]);
        let plan = plan(&source, &Wanted::default(), &machine).expect("a plan");
        // the file has to be there, and is not read
        let there = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let outputs = DummyBackend.file(&plan, &there).expect("it runs");
        Self::of(outputs, &plan.renditions[0].id).await
    }

    async fn of(mut outputs: Outputs, of: &RenditionId) -> Self {
        let (mut sets, mut keys, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let slice = |sample: &[u8]| {
            let nals = h264::sample_nals(sample).expect("NAL units");
            Bytes::copy_from_slice(nals.last().expect("a slice"))
        };
        while let Some(output) = outputs.recv().await {
            match output {
                Output::Format {
                    rendition,
                    codec: CodecParameters::Video(video),
                } if rendition == *of => {
                    let (sps, pps) = h264::parameter_sets(&video.config).expect("parameter sets");
                    sets = sps.into_iter().chain(pps).collect();
                }
                Output::Packet { rendition, packet } if rendition == *of => {
                    if packet.key {
                        keys.push(slice(&packet.data));
                    } else if keys.len() == 1 && others.len() < FRAME_NUMS {
                        others.push(slice(&packet.data));
                    }
                }
                _ => {}
            }
        }
        assert!(keys.len() > 1 && others.len() == FRAME_NUMS && sets.len() == 2);
        keys.truncate(2);
        others.rotate_right(1); // the first behind a key picture has the number 1
        Self { sets, keys, others }
    }

    /// The payloads (RFC 6184) of the picture that is `since` pictures behind the `key`th key picture.
    pub(super) fn payloads(&self, key: usize, since: usize, stamp: &Stamp) -> Vec<Vec<u8>> {
        let said = stamp.write();
        let mut sei = vec![0x06, 5, said.len() as u8];
        sei.extend(said);
        sei.push(0x80);
        match since {
            0 => {
                let nals = self.sets.iter().map(|set| &set[..]).chain([&sei[..]]);
                vec![together(nals), self.keys[key % 2].to_vec()]
            }
            since => vec![together([&sei[..], &self.others[since % FRAME_NUMS][..]])],
        }
    }
}

/// One payload of several NAL units (STAP-A, RFC 6184 §5.7.1).
fn together<'a>(nals: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut payload = vec![0x78];
    for nal in nals {
        payload.put_u16(nal.len() as u16);
        payload.put_slice(nal);
    }
    payload
}

/// So many values `frame_num` has in the dummy backend's pictures.
const FRAME_NUMS: usize = 16;
