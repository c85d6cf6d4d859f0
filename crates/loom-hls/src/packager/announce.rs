//! What names a recording's renditions: the main multivariant playlist, and one for each picture aside.

use loom_core::{MediaKind, RenditionId};

use super::Packager;
use crate::address;
use crate::chapters::Chapters;
use crate::crypt;
use crate::declared::{Declared, Place, Ready};
use crate::multivariant::{self, Member};
use crate::publish::{Change, HlsOutput, Publish};
use crate::text::name_text_codec;

impl Packager {
    /// Publishes the multivariant playlist once every rendition's format is known.
    pub(super) fn announce(&mut self) {
        let known = self
            .tracks
            .iter()
            .all(|t| t.media().is_none_or(|track| track.codec().is_some()));
        if !self.announced && known && self.tracks.iter().any(|t| t.media().is_some()) {
            self.announced = true;
            self.store_multivariant();
        }
    }

    pub(super) fn store_multivariant(&mut self) {
        self.announced = true;
        let known = |t: &&Declared| t.media().is_some_and(|track| track.codec().is_some());
        let asides = self
            .tracks
            .iter()
            .filter(|t| t.place == Place::Aside)
            .filter(known);
        let asides: Vec<Option<RenditionId>> = asides.map(|t| Some(t.info.id.clone())).collect();
        for aside in std::iter::once(None).chain(asides) {
            self.store_listing(aside);
        }
    }

    /// Stores and publishes the main multivariant playlist, or that of one picture aside.
    pub(super) fn store_listing(&mut self, aside: Option<RenditionId>) {
        let (text, names) = self.multivariant(aside.as_ref());
        self.out.push_back(HlsOutput::Store {
            key: address::multivariant(aside.as_ref()),
            data: text.clone(),
        });
        self.out.push_back(HlsOutput::Publish(Publish {
            rendition: None,
            change: Change::Multivariant { aside, text, names },
        }));
    }

    /// The main multivariant playlist, or that of one picture aside.
    fn multivariant(&self, aside: Option<&RenditionId>) -> (bytes::Bytes, Vec<RenditionId>) {
        let named = |t: &&Declared| match aside {
            None => t.place != Place::Aside,
            Some(id) => t.info.id == *id || t.info.kind.media() != Some(MediaKind::Video),
        };
        let has_come =
            |t: &&Declared| t.place != Place::Late || t.media().is_some_and(|it| it.codec().is_some());
        let members: Vec<Member<'_>> = self
            .tracks
            .iter()
            .filter(named)
            .filter(has_come)
            .map(|t| t.member(self.finished))
            .chain(self.ready.iter().map(Ready::member))
            .collect();
        let (mut text, names) = multivariant::write(&members, &self.config);
        if let Some(encryption) = self.config.encryption {
            for key in self.keys.values() {
                text.push_str(&crypt::session_lines(encryption.scheme, key));
            }
        }
        let text = name_text_codec(text, self.config.text);
        let text = match self.chapters {
            true => Chapters::list_in(&text),
            false => text,
        };
        (bytes::Bytes::from(text), names)
    }
}
