//! Reads paths of 16 kHz mono f32 files from standard input, one a line, and answers each with a line of text:
//!
//!     by_line MODEL [THREADS]
//!
//! Greedy, without fallback to warmer temperatures: what `make bench-speech` holds against its peers.

use std::io::{BufRead, Write};

use loom_ai::{Download, Model, ModelConfig, TranscribeConfig, transcribe};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut config = ModelConfig::default();
    config.path = Some(
        arguments
            .next()
            .ok_or("a model's folder or file is needed")?
            .into(),
    );
    config.download = Download::Never;
    let threads = arguments.next().map_or(Ok(1), |it| it.parse())?;
    let model = Model::load(&Model::locate(&config, &mut |_| ())?, threads)?;
    let mut config = TranscribeConfig::default();
    config.language = Some("en".to_owned()).filter(|_| model.is_multilingual());
    config.temperatures = vec![0.0];
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    for path in std::io::stdin().lock().lines() {
        let raw = std::fs::read(path?)?;
        let pcm: Vec<f32> = raw
            .chunks_exact(4)
            .map(|it| f32::from_le_bytes([it[0], it[1], it[2], it[3]]))
            .collect();
        writeln!(out, "{}", transcribe(&model, &pcm, &config, |_| ())?.text)?;
    }
    Ok(())
}
