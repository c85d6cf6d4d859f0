use crate::error::TranscodeError;

/// A picture in I420 (planar YUV 4:2:0, 8 bits, ITU-R BT.709, limited range): where its planes begin, and how many bytes lie from one
/// row of a plane to the next.
#[derive(Debug, Clone, Copy)]
pub struct I420<'a> {
    /// Luma, and the two of chroma at half the width and half the height.
    pub planes: [&'a [u8]; 3],
    /// Bytes from row to row of each.
    pub strides: [usize; 3],
}

impl I420<'_> {
    /// All of a picture of this size, even in both, one plane behind the other, as GStreamer lays it out ([`layout`]).
    pub(crate) fn packed(&self, size: (u32, u32)) -> Result<Vec<u8>, TranscodeError> {
        let mut data = Vec::new();
        for (at, plane) in layout(size).into_iter().enumerate() {
            let (bytes, stride) = (self.planes[at], self.strides[at]);
            let (width, height) = (plane.width, plane.height);
            let needed = stride
                .checked_mul(height - 1)
                .and_then(|it| it.checked_add(width));
            if stride < width || needed.is_none_or(|needed| bytes.len() < needed) {
                return Err(TranscodeError::Mismatch(format!(
                    "plane {at} has {} bytes in rows of {stride}; {height} rows of {width} are needed",
                    bytes.len()
                )));
            }
            for row in bytes.chunks(stride).take(height) {
                data.extend_from_slice(&row[..width]);
                data.resize(data.len().next_multiple_of(4), 0);
            }
        }
        Ok(data)
    }
}

/// Where a plane lies in a packed picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plane {
    /// Bytes before it.
    pub(crate) offset: usize,
    /// Bytes from row to row: a multiple of four.
    pub(crate) stride: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// The planes of a packed picture of this size, even in both.
pub(crate) fn layout((width, height): (u32, u32)) -> [Plane; 3] {
    let (width, height) = (width as usize, height as usize);
    let mut offset = 0;
    [(width, height), (width / 2, height / 2), (width / 2, height / 2)].map(|(width, height)| {
        let stride = width.next_multiple_of(4);
        let plane = Plane {
            offset,
            stride,
            width,
            height,
        };
        offset += stride * height;
        plane
    })
}
