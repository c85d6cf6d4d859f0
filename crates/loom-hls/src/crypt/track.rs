use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use loom_core::CodecParameters;

use crate::clock::FIRST;
use crate::crypt::sample::Pictures;
use crate::crypt::whole::{self, Cbc};
use crate::crypt::{ContentKey, Encryption, EncryptionScheme, KeyLine, SampleSeal, boxes};

/// One rendition's encryption: which key its open segment has, and what that key does.
#[derive(Debug)]
pub(crate) struct TrackCrypt {
    encryption: Encryption,
    keys: BTreeMap<u32, Arc<ContentKey>>,
    /// The key of the open segment, or of the one before.
    current: Option<Arc<ContentKey>>,
    seal: Option<SampleSeal>,
    /// What of the next segment's pictures is encrypted.
    pictures: Option<Pictures>,
    /// The format has changed since [`Self::seal`] was made.
    renew: bool,
    /// The next initialization vector of `cenc`.
    counter: u64,
    /// The open segment's file.
    whole: Option<(Cbc, [u8; 16])>,
    /// The init segment as it would be in the clear, and the key of the one that was written last.
    init: Option<(Bytes, bool, Arc<ContentKey>)>,
    /// Parts that lie in files of their own, a segment's at a time: their numbers, and where they end in ticks.
    parts: VecDeque<(Range<u64>, u64)>,
}

/// What a segment that begins brings with it.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    /// The init segment for its key, where that is another than before.
    pub(crate) init: Option<Bytes>,
    /// What its playlist must say.
    pub(crate) line: Option<Arc<KeyLine>>,
}

impl TrackCrypt {
    /// For the recording's rendition number `track`.
    pub(crate) fn new(encryption: Encryption, track: u16) -> Self {
        Self {
            encryption,
            keys: BTreeMap::new(),
            current: None,
            seal: None,
            pictures: None,
            renew: false,
            counter: u64::from(track) << 48,
            whole: None,
            init: None,
            parts: VecDeque::new(),
        }
    }

    pub(crate) fn handle_key(&mut self, key: Arc<ContentKey>) {
        self.keys.entry(key.period).or_insert(key);
    }

    /// Takes a format with its init segment; gives that as players get it. `Err` says why it cannot be encrypted.
    pub(crate) fn handle_format(
        &mut self,
        codec: &CodecParameters,
        init: Bytes,
    ) -> Result<Bytes, (String, &'static str)> {
        let key = self
            .current
            .clone()
            .or_else(|| self.keys.values().next().cloned());
        let Some(key) = key else {
            return Err(("no key has come for it".to_owned(), "ISO/IEC 23001-7 §8.2"));
        };
        if self.encryption.scheme == EncryptionScheme::Segments {
            return Ok(init);
        }
        self.pictures = match codec {
            CodecParameters::Video(it) => Some(Pictures::new(it)?),
            CodecParameters::Audio(_) => None,
        };
        self.renew = true; // what is left of the open segment has the format before
        let video = self.pictures.is_some();
        let sealed = boxes::protect(&init, self.encryption.scheme, &key, video);
        self.init = Some((init, video, key));
        Ok(sealed.into())
    }

    /// A segment begins. `map`: its playlist names an init segment there anyway.
    pub(crate) fn begin(&mut self, segment: u64, map: bool) -> Begun {
        let wanted = match self.encryption.rotation {
            None => 0,
            Some(every) => u32::try_from((segment - FIRST) / u64::from(every.get())).unwrap_or(u32::MAX),
        };
        // a key that is late leaves the one before in force
        let Some(key) = self.keys.range(..=wanted).next_back().map(|(_, key)| key.clone()) else {
            return Begun::default();
        };
        let scheme = self.encryption.scheme;
        let changed = self.current.as_ref().is_none_or(|now| now.period != key.period);
        self.current = Some(key.clone());
        self.keys.retain(|period, _| *period >= key.period);
        if scheme == EncryptionScheme::Segments {
            // explicit, so that it holds whatever number a playlist made later gives the segment
            let mut iv = key.iv;
            for (byte, number) in iv[8..].iter_mut().zip(segment.to_be_bytes()) {
                *byte ^= number;
            }
            self.whole = Some((Cbc::new(&key.key, &iv), iv));
            return Begun {
                init: None,
                line: Some(KeyLine::new(scheme, &key, Some(iv))),
            };
        }
        let mut begun = Begun::default();
        if changed || map {
            let iv = (scheme == EncryptionScheme::Cbcs).then_some(key.iv);
            begun.line = Some(KeyLine::new(scheme, &key, iv));
        }
        if let Some((plain, video, had)) = &mut self.init
            && had.period != key.period
        {
            *had = key.clone();
            begun.init = Some(boxes::protect(plain, scheme, &key, *video).into());
        }
        if changed || std::mem::take(&mut self.renew) {
            if let Some(seal) = self.seal.take() {
                self.counter = seal.counter();
            }
            self.seal = Some(SampleSeal::new(scheme, key, self.pictures.clone(), self.counter));
        }
        begun
    }

    /// The key that the init segment names, where samples are encrypted.
    pub(crate) fn of_init(&self) -> Option<(EncryptionScheme, Arc<ContentKey>)> {
        let (_, _, key) = self.init.as_ref()?;
        Some((self.encryption.scheme, key.clone()))
    }

    /// What encrypts samples, where samples are encrypted.
    pub(crate) fn seal(&mut self) -> Option<&mut SampleSeal> {
        self.seal.as_mut()
    }

    /// Whether whole segments and parts are encrypted, each part by itself: then parts are no ranges of their segment.
    pub(crate) fn is_whole(&self) -> bool {
        self.encryption.scheme == EncryptionScheme::Segments
    }

    /// The segment's file goes on with `data`; gives what is added to it.
    pub(crate) fn update(&mut self, data: &Bytes) -> Bytes {
        match &mut self.whole {
            Some((mode, _)) => mode.update(data).into(),
            None => data.clone(),
        }
    }

    /// A part as a resource of its own: players decrypt parts one by one, each with the segment's vector.
    pub(crate) fn part(&self, data: &Bytes) -> Bytes {
        match (&self.whole, &self.current) {
            (Some((_, iv)), Some(key)) => whole::seal(&key.key, iv, data).into(),
            _ => data.clone(),
        }
    }

    /// The end of the segment's file.
    pub(crate) fn finish(&mut self) -> Option<Bytes> {
        self.whole.take().map(|(mode, _)| mode.finish().into())
    }

    /// A segment ends, whose parts have files, with the tick that it ends at: gives the parts whose files nobody will ask for any more,
    /// those that ended before `listed`.
    pub(crate) fn expire(&mut self, closed: Option<(Range<u64>, u64)>, listed: u64) -> Vec<Range<u64>> {
        self.parts.extend(closed.filter(|(parts, _)| !parts.is_empty()));
        let mut gone = Vec::new();
        while self.parts.front().is_some_and(|(_, end)| *end < listed) {
            gone.extend(self.parts.pop_front().map(|(parts, _)| parts));
        }
        gone
    }
}
