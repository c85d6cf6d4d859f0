//! What stands for media that does not come: coded pictures of a few bytes that show the picture before again, and silence.
//!
//! A sample cannot be cut, so the parts of a still picture (a screen on which nothing moves) would be as long as it stands
//! still. Between pictures that lie far apart such repeats are put: every picture of the stream still decodes as it was, to the bit.

mod av1;
mod bits;
mod h264;
mod opus;
mod silence;
mod vp9;

use bytes::Bytes;
use loom_core::{CodecParameters, VideoCodec, VideoParameters};

use crate::still::av1::Av1;
pub(crate) use crate::still::bits::BitReader;
use crate::still::h264::H264;
pub(crate) use crate::still::opus::split;
pub(crate) use crate::still::silence::silence;
use crate::still::vp9::Vp9;

/// Follows a stream of pictures and makes repeats of the last one.
#[derive(Debug)]
pub(crate) struct Repeater {
    stream: Stream,
    /// Repeats made.
    pub(crate) made: u64,
    /// Why the last repeat that was asked for was not made.
    pub(crate) refused: Option<&'static str>,
    /// Whether what was taken last came from the stream.
    repeated: bool,
}

#[derive(Debug)]
enum Stream {
    H264(Box<H264>),
    Vp9(Vp9),
    Av1(Box<Av1>),
    Refused(&'static str),
}

impl Repeater {
    /// For a stream of these parameters. Also gives the parameters to be announced, which differ where pictures are rewritten.
    pub(crate) fn new(codec: CodecParameters) -> (Self, CodecParameters) {
        let mut announced = None;
        let stream = match &codec {
            CodecParameters::Video(video) => Self::stream(video, &mut announced),
            CodecParameters::Audio(_) => Stream::Refused("it is sound"),
        };
        let made = Self {
            stream,
            made: 0,
            refused: None,
            repeated: false,
        };
        (made, announced.map_or(codec, CodecParameters::Video))
    }

    /// Whether it can repeat the last picture.
    pub(crate) fn repeats(&self) -> bool {
        match &self.stream {
            Stream::H264(stream) => stream.repeats(),
            Stream::Vp9(stream) => stream.repeat().is_ok(),
            Stream::Av1(stream) => stream.repeat().is_ok(),
            Stream::Refused(_) => false,
        }
    }

    /// One that never repeats anything.
    pub(crate) fn none() -> Self {
        Self {
            stream: Stream::Refused("repeats are not wanted"),
            made: 0,
            refused: None,
            repeated: false,
        }
    }

    fn stream(video: &VideoParameters, announced: &mut Option<VideoParameters>) -> Stream {
        match video.codec {
            VideoCodec::H264 => match H264::new(video) {
                Ok((stream, instead)) => {
                    *announced = instead;
                    Stream::H264(Box::new(stream))
                }
                Err(why) => Stream::Refused(why),
            },
            VideoCodec::Vp9 => Stream::Vp9(Vp9::default()),
            VideoCodec::Av1 => match Av1::new(video) {
                Ok(stream) => Stream::Av1(Box::new(stream)),
                Err(why) => Stream::Refused(why),
            },
            _ => Stream::Refused("no repeats are known of its codec"),
        }
    }

    /// The next picture in the order of decoding; gives it as it is to be written.
    pub(crate) fn take(&mut self, data: Bytes) -> Bytes {
        self.repeated = false;
        match &mut self.stream {
            Stream::H264(stream) => stream.take(data),
            Stream::Vp9(stream) => {
                stream.take(&data);
                data
            }
            Stream::Av1(stream) => {
                stream.take(&data);
                data
            }
            Stream::Refused(_) => data,
        }
    }

    /// A picture that shows the last one again, where one can be made.
    pub(crate) fn repeat(&mut self) -> Option<Bytes> {
        let made = match &mut self.stream {
            Stream::H264(stream) => stream.repeat(),
            Stream::Vp9(stream) => stream.repeat(),
            Stream::Av1(stream) => stream.repeat(),
            Stream::Refused(why) => Err(*why),
        };
        match made {
            Ok(data) => {
                self.made += 1;
                self.repeated = true;
                Some(data)
            }
            Err(why) => {
                self.refused = Some(why);
                None
            }
        }
    }

    /// Whether the last picture is a repeat.
    pub(crate) fn is_repeated(&self) -> bool {
        self.repeated
    }
}
