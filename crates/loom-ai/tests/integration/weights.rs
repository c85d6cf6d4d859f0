//! Model files: of every kind that is read, and of those that are broken, hostile or something else.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::write;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use loom_ai::{TranscribeConfig, Transcript, transcribe};
use loom_testkit::word_errors;

use crate::material::{JFK, jfk, load, shared};

fn heard(path: PathBuf) -> Option<Transcript> {
    let pcm = jfk()?;
    Some(transcribe(&load(path).unwrap(), &pcm, &TranscribeConfig::default(), |_| ()).unwrap())
}

fn fault(path: PathBuf) -> String {
    load(path).unwrap_err().to_string()
}

/// The English model's weights in another file.
fn rewritten(name: &str, save: impl FnOnce(HashMap<String, Tensor>, &Path)) -> Option<Transcript> {
    let folder = shared("models/whisper-tiny.en")?;
    let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
    let to = tempfile::tempdir().unwrap();
    let path = to.path().join(name);
    save(tensors, &path);
    heard(path)
}

#[test]
fn bf16_weights_give_the_same_words() {
    let it = rewritten("model.safetensors", |tensors, path| {
        let narrow = tensors
            .into_iter()
            .map(|(name, it)| (name, it.to_dtype(DType::BF16).unwrap()));
        candle_core::safetensors::save(&narrow.collect::<HashMap<_, _>>(), path).unwrap();
    });
    if let Some(it) = it {
        assert_eq!(word_errors(JFK, &it.text).errors, 0, "{}", it.text);
    }
}

#[test]
fn gguf_weights_give_the_same_words() {
    let it = rewritten("model.gguf", |tensors, path| {
        let whole = |it: &Tensor| it.rank() < 2 || !it.dims()[it.rank() - 1].is_multiple_of(32);
        let packed: Vec<(String, QTensor)> = tensors
            .into_iter()
            .map(|(name, it)| {
                let kind = if whole(&it) {
                    GgmlDType::F16
                } else {
                    GgmlDType::Q8_0
                };
                let it = it.to_dtype(DType::F32).unwrap();
                (name, QTensor::quantize(&it, kind).unwrap())
            })
            .collect();
        let listed: Vec<(&str, &QTensor)> = packed.iter().map(|(name, it)| (name.as_str(), it)).collect();
        write(&mut File::create(path).unwrap(), &[], &listed).unwrap();
    });
    if let Some(it) = it {
        assert_eq!(word_errors(JFK, &it.text).errors, 0, "{}", it.text);
    }
}

/// whisper.cpp's file with every matrix in blocks of `kind`, number `number` in ggml, as its own quantiser leaves it.
fn in_blocks(whole: &[u8], number: u32, kind: GgmlDType) -> Vec<u8> {
    let word = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().unwrap()) as usize;
    let filters = 4 * (1 + 11);
    let mut at = filters + 8 + word(filters) * word(filters + 4) * 4;
    let tokens = word(at);
    at += 4;
    for _ in 0..tokens {
        at += 4 + word(at);
    }
    let mut out = whole[..at].to_vec();
    while at < whole.len() {
        let (rank, name, plain) = (word(at), word(at + 4), word(at + 8));
        let shape: Vec<usize> = (0..rank).map(|i| word(at + 12 + 4 * i)).collect();
        let data = at + 12 + 4 * rank + name;
        let size = shape.iter().product::<usize>() * if plain == 0 { 4 } else { 2 };
        let values = &whole[data..data + size];
        if rank == 2 && plain == 1 && shape[0].is_multiple_of(kind.block_size()) {
            let it =
                Tensor::from_raw_buffer(values, DType::F16, &[shape[1], shape[0]], &Device::Cpu).unwrap();
            let packed = QTensor::quantize(&it.to_dtype(DType::F32).unwrap(), kind).unwrap();
            out.extend(&whole[at..at + 8]);
            out.extend(number.to_le_bytes());
            out.extend(&whole[at + 12..data]);
            out.extend(&*packed.data().unwrap());
        } else {
            out.extend(&whole[at..data + size]);
        }
        at = data + size;
    }
    out
}

#[test]
fn whisper_cpps_files_of_blocks_give_the_same_words() {
    let Some(path) = shared("models/whisper-tiny/ggml-tiny.bin") else {
        return;
    };
    let whole = std::fs::read(path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (number, kind) in [(7, GgmlDType::Q5_1), (8, GgmlDType::Q8_0)] {
        let packed = in_blocks(&whole, number, kind);
        assert!(packed.len() * 3 < whole.len() * 2, "{kind:?} is smaller");
        let path = folder.path().join(format!("ggml-tiny-{number}.bin"));
        std::fs::write(&path, packed).unwrap();
        if let Some(it) = heard(path) {
            assert!(word_errors(JFK, &it.text).errors <= 1, "{kind:?}: {}", it.text);
        }
    }
}

#[test]
fn a_cut_or_foreign_model_file_is_named_with_its_fault() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    assert!(fault(write("a.bin", b"GIF89a..")).contains("magic"));
    assert!(fault(write("b.bin", &0x6767_6d6cu32.to_le_bytes())).contains("truncated"));
    assert!(fault(write("c.safetensors", b"not a header")).contains("safetensors"));
    assert!(fault(write("d.pt", b"not a zip")).contains("model_state_dict"));
    let other = Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap();
    let path = folder.path().join("e.safetensors");
    candle_core::safetensors::save(&HashMap::from([("bert.pooler", other)]), &path).unwrap();
    assert!(fault(path).contains("not a whisper model"));
    if let Some(whole) = shared("models/whisper-tiny/ggml-tiny.bin") {
        let bytes = std::fs::read(whole).unwrap();
        let error = fault(write("f.bin", &bytes[..2_000_000]));
        assert!(
            error.contains("truncated") && error.contains("f.bin: "),
            "{error}"
        );
    }
    let missing = fault(folder.path().join("nothing here"));
    assert!(
        missing.starts_with("no speech model found") && missing.contains("nothing here"),
        "{missing}"
    );
}

#[test]
fn a_broken_tensor_is_named() {
    let Some(folder) = shared("models/whisper-tiny.en") else {
        return;
    };
    let whole = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
    let to = tempfile::tempdir().unwrap();
    let broken = |name: &str, change: &dyn Fn(Tensor) -> Option<Tensor>| {
        let mut tensors = whole.clone();
        let key = format!("model.{name}");
        let it = change(tensors.remove(&key).expect("it is there"));
        tensors.extend(it.map(|it| (key, it)));
        let path = to.path().join("model.safetensors");
        candle_core::safetensors::save(&tensors, &path).unwrap();
        fault(path)
    };
    let error = broken("decoder.layers.2.fc1.weight", &|_| None);
    assert!(
        error.contains("decoder.blocks.2.mlp.0.weight: this tensor is missing"),
        "{error}"
    );
    let error = broken("encoder.layers.1.self_attn.k_proj.weight", &|it| {
        it.narrow(0, 0, 100).ok()
    });
    assert!(
        error.contains("encoder.blocks.1.attn.key.weight: shape [100, 384], expected [384, 384]"),
        "{error}"
    );
    let error = broken("decoder.layer_norm.bias", &|it| it.affine(f64::NAN, 0.0).ok());
    assert!(
        error.contains("decoder.ln.bias: a value that is no finite number"),
        "{error}"
    );
    let error = broken("encoder.conv1.weight", &|it| it.flatten_all().ok());
    assert!(
        error.contains("encoder.conv1.weight: 1 dimensions, expected 3"),
        "{error}"
    );
    let error = broken("decoder.embed_positions.weight", &|it| it.narrow(1, 0, 320).ok());
    assert!(error.contains("decoder.positional_embedding"), "{error}");
}

#[test]
fn a_language_model_in_gguf_is_no_whisper() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("llama.gguf");
    let it = QTensor::quantize(
        &Tensor::zeros((32, 32), DType::F32, &Device::Cpu).unwrap(),
        GgmlDType::Q8_0,
    );
    write(
        &mut File::create(&path).unwrap(),
        &[],
        &[("blk.0.attn_q.weight", &it.unwrap())],
    )
    .unwrap();
    let error = fault(path);
    assert!(
        error.contains("llama.gguf: encoder.conv1.weight: this tensor is missing"),
        "{error}"
    );
}
