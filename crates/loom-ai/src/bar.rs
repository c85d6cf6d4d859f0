use indicatif::{ProgressBar, ProgressStyle};

use crate::locate::LocateProgress;

/// A progress bar on the terminal for [`Model::locate`](crate::Model::locate), for command-line programs.
pub fn terminal_progress() -> impl FnMut(LocateProgress) {
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {bytes} of {total_bytes}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    let mut bar: Option<ProgressBar> = None;
    move |it| match it {
        LocateProgress::Missed(why) => {
            if let Some(bar) = bar.take() {
                bar.abandon();
            }
            eprintln!("no model here: {why}");
        }
        LocateProgress::Downloading { name, done, total } => {
            let bar =
                bar.get_or_insert_with(|| ProgressBar::new(total.unwrap_or(0)).with_style(style.clone()));
            bar.set_length(total.unwrap_or(done));
            bar.set_message(name);
            bar.set_position(done);
            if total == Some(done) {
                bar.finish();
            }
        }
    }
}
