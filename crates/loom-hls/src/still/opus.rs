//! Opus packets taken apart (RFC 6716 §3.2): a packet that holds several frames as several that hold one each, which decode to the
//! same sound.

use bytes::{BufMut, Bytes, BytesMut};

/// The packets for each frame; `None` where the packet holds one only, or cannot be read.
pub(crate) fn split(packet: &Bytes) -> Option<Vec<Bytes>> {
    let (&toc, rest) = packet.split_first()?;
    let lengths = match toc & 3 {
        0 => return None,
        1 if rest.len() % 2 == 0 => vec![rest.len() / 2; 2],
        1 => return None,
        2 => {
            let (first, taken) = length(rest)?;
            return frames(
                toc,
                &rest[taken..],
                &[first, rest.len().checked_sub(taken + first)?],
            );
        }
        _ => return split_many(toc, rest),
    };
    frames(toc, rest, &lengths)
}

/// Code 3: any number of frames (§3.2.5).
fn split_many(toc: u8, rest: &[u8]) -> Option<Vec<Bytes>> {
    let (&count, mut rest) = rest.split_first()?;
    let frames_there = usize::from(count & 0x3f);
    if frames_there < 2 {
        return None;
    }
    if count & 0x40 != 0 {
        let mut padding = 0;
        loop {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            padding += usize::from(if byte == 255 { 254 } else { byte });
            if byte != 255 {
                break;
            }
        }
        rest = rest.get(..rest.len().checked_sub(padding)?)?;
    }
    if count & 0x80 == 0 {
        let each = rest.len() / frames_there;
        return frames(toc, rest, &vec![each; frames_there]);
    }
    let mut lengths = Vec::with_capacity(frames_there);
    for _ in 1..frames_there {
        let (this, taken) = length(rest)?;
        lengths.push(this);
        rest = &rest[taken..];
    }
    lengths.push(rest.len().checked_sub(lengths.iter().sum())?);
    frames(toc, rest, &lengths)
}

/// §3.2.1: a frame's length, and how many bytes tell it.
fn length(data: &[u8]) -> Option<(usize, usize)> {
    match usize::from(*data.first()?) {
        short @ 0..252 => Some((short, 1)),
        first => Some((first + 4 * usize::from(*data.get(1)?), 2)),
    }
}

fn frames(toc: u8, mut data: &[u8], lengths: &[usize]) -> Option<Vec<Bytes>> {
    let mut made = Vec::with_capacity(lengths.len());
    for length in lengths {
        let (frame, rest) = data.split_at_checked(*length)?;
        let mut packet = BytesMut::with_capacity(1 + frame.len());
        packet.put_u8(toc & !3); // code 0: one frame
        packet.put_slice(frame);
        made.push(packet.freeze());
        data = rest;
    }
    Some(made)
}
