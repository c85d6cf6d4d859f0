//! `loom-bench-transcode FILE FOLDER [whole] [all] [cores=N]`: every rung, AAC and their HLS playlists, as an import makes them, without
//! captions, poster and thumbnails. `whole` encodes the top too where the source could be kept; `all` encodes pictures that show
//! what is shown; `cores` plans for another machine. Prints each rung, and what became of its pictures.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use loom_hls::{HlsOutput, Packager, PackagerConfig, RenditionInfo, RenditionKind};
use loom_transcode::{
    Backend, Capabilities, GstBackend, Output, PlannedRendition, RenditionShape, Rung, Wanted, plan,
    probe_file,
};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [input, folder, asked @ ..] = words.as_slice() else {
        bail!("loom-bench-transcode FILE FOLDER [whole] [all] [cores=N]");
    };
    let is_asked = |what: &str| asked.iter().any(|it| it == what);
    let (input, folder) = (Path::new(input), PathBuf::from(folder));
    let mut wanted = Wanted {
        captions_pcm: false,
        poster: false,
        key_interval: SEGMENT,
        thumbnails: None,
        keep_source: !is_asked("whole"),
        skip_still: !is_asked("all"),
        ..Wanted::default()
    };
    // A fourth point for small sources, where a curve is asked for.
    if is_asked("curve") {
        wanted.rungs.extend(Rung::new(240, 400_000));
    }
    let mut can = Capabilities::probe()?;
    if let Some(cores) = asked.iter().find_map(|it| it.strip_prefix("cores=")) {
        can.cores = cores.parse().context("cores")?;
    }
    let info = probe_file(input)?;
    let plan = plan(&info.shape(), &wanted, &can)?;
    let kept = plan.video.as_ref().is_some_and(|video| video.keep.is_some());
    let keys = info
        .shape()
        .video
        .and_then(|video| video.key_interval)
        .filter(|_| kept);
    let mut packager = Packager::new(PackagerConfig::file(SEGMENT, keys.unwrap_or(SEGMENT)))?;
    for planned in &plan.renditions {
        packager.declare(described(planned))?;
    }
    if let Some(video) = &plan.video {
        println!("kept {}", u8::from(kept));
        for rung in &video.rungs {
            let (w, h) = (rung.width, rung.height);
            println!(
                "rung {} {w} {h} {} {} {}",
                rung.id,
                rung.bitrate,
                rung.threads,
                video.preset.name()
            );
        }
    }
    let mut store = Store { folder, open: None };
    let mut outputs = GstBackend::new()?.file(&plan, input)?;
    let waits = tokio::runtime::Builder::new_current_thread().build()?;
    while let Some(output) = waits.block_on(outputs.recv()) {
        match output {
            Output::Format { rendition, codec } => packager.handle_format(&rendition, codec)?,
            Output::Packet { rendition, packet } => packager.handle_packet(&rendition, packet)?,
            Output::Failed { reason, .. } => bail!(reason),
            Output::Warning(what) => eprintln!("{what}"),
            Output::Counted(it) => {
                println!(
                    "count {} {} {} {}",
                    it.rendition, it.decoded, it.encoded, it.still
                );
            }
            _ => {}
        }
        store.carry_out(&mut packager)?;
    }
    packager.finish()?;
    store.carry_out(&mut packager)
}

fn described(planned: &PlannedRendition) -> RenditionInfo {
    let kind = match planned.shape {
        RenditionShape::Video {
            width,
            height,
            frame_rate,
            ..
        } => RenditionKind::Video {
            width,
            height,
            frame_rate,
        },
        RenditionShape::Audio { channels, .. } => RenditionKind::Audio {
            name: "Sound".to_owned(),
            language: None,
            channels,
        },
    };
    RenditionInfo {
        id: planned.id.clone(),
        kind,
        bandwidth: planned.bitrate,
    }
}

/// The folder that everything goes to.
struct Store {
    folder: PathBuf,
    open: Option<(String, File)>,
}

impl Store {
    fn carry_out(&mut self, packager: &mut Packager) -> Result<()> {
        while let Some(output) = packager.poll_output() {
            match output {
                HlsOutput::Store { key, data } => {
                    let path = self.folder.join(&key);
                    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
                        fs::create_dir_all(parent)?;
                    }
                    let mut file = File::create(&path)?;
                    file.write_all(&data)?;
                    self.open = Some((key, file)).filter(|(key, _)| key.ends_with(".m4s"));
                }
                HlsOutput::Append { key, data } => match &mut self.open {
                    Some((open, file)) if *open == key => file.write_all(&data)?,
                    _ => File::options()
                        .append(true)
                        .open(self.folder.join(&key))?
                        .write_all(&data)?,
                },
                _ => {}
            }
        }
        Ok(())
    }
}

/// As imports have it.
const SEGMENT: Duration = Duration::from_secs(4);
