use loom_core::RenditionId;

use crate::address;
use crate::dash;
use crate::error::HlsError;
use crate::packager::Packager;
use crate::publish::{HlsOutput, Publish};
use crate::sheets::Sheets;

impl Packager {
    /// The sheets of thumbnails that there are, for the complete manifest: the last of them before [`Self::finish`].
    ///
    /// # Errors
    /// [`HlsError::Finished`].
    pub fn handle_sheets(&mut self, sheets: Sheets) -> Result<(), HlsError> {
        self.check_running()?;
        self.book.sheets = Some(sheets);
        Ok(())
    }

    /// As [`Self::handle_sheets`], of sheets in that folder.
    ///
    /// # Errors
    /// [`HlsError::Finished`].
    pub fn handle_sheets_in(&mut self, folder: &RenditionId, sheets: Sheets) -> Result<(), HlsError> {
        self.book.sheets_in = Some(folder.clone());
        self.handle_sheets(sheets)
    }

    /// Stores the complete DASH manifest, `end` being the last thing to be published.
    pub(super) fn store_manifest(&mut self, end: &Publish) {
        let waiting = self.out.iter().filter_map(|output| match output {
            HlsOutput::Publish(publish) => Some(publish),
            _ => None,
        });
        for publish in waiting.chain(std::iter::once(end)) {
            self.book.take(publish);
        }
        let text = self
            .frame
            .as_ref()
            .and_then(|frame| dash::write(frame, &self.book));
        if let Some(text) = text {
            self.out.push_back(HlsOutput::Store {
                key: address::MANIFEST.to_owned(),
                data: text.into(),
            });
        }
    }
}
