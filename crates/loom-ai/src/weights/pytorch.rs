use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use candle_core::{Device, Tensor};
use zip::{CompressionMethod, ZipArchive};

use super::pickle::{Object, Place};
use super::{Checkpoint, hugging_face};
use crate::AiError;
use crate::limits::MAX_PICKLE;

/// Where OpenAI's files have the tensors.
const KEY: &str = "model_state_dict";

/// Reads an OpenAI checkpoint: a zip file of a pickle and of the values of each storage. It carries no vocabulary: the English-only one is built
/// in, any other must lie beside it as `tokenizer.json`.
pub(super) fn read(path: &Path) -> Result<Checkpoint, AiError> {
    let bad = |what: &str, rule: String| AiError::malformed(path, what, rule);
    let broken = |e: zip::result::ZipError| bad(KEY, e.to_string());
    let file = File::open(path).map_err(|e| AiError::io(path, e))?;
    let length = file.metadata().map_err(|e| AiError::io(path, e))?.len();
    let mut zip = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    let index = (0..zip.len()).find_map(|it| {
        let name = zip.name_for_index(it)?.ok()?;
        name.ends_with("data.pkl").then(|| name.into_owned())
    });
    let index = index.ok_or_else(|| bad("data.pkl", "this file of it is missing".to_owned()))?;
    let saved = zip.by_name(&index).map_err(broken)?.take(MAX_PICKLE);
    let saved = Object::read(&mut BufReader::new(saved)).map_err(|why| bad(&index, why))?;
    let places = saved.entry(KEY).and_then(Object::places);
    let places = places.ok_or_else(|| bad(KEY, "there is no such dictionary".to_owned()))?;

    // Several names may share values, but not so that they become more than twice what the file has.
    let mut room = length.saturating_mul(2);
    let mut stored: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for it in places {
        room = (it.size().and_then(|size| room.checked_sub(size as u64))).ok_or_else(|| {
            bad(
                &it.name,
                "tensors of more than twice the file's length".to_owned(),
            )
        })?;
        stored.entry(it.storage.clone()).or_default().push(it);
    }
    let folder = index.trim_end_matches(".pkl");
    let mut room = length;
    let mut tensors: HashMap<String, Tensor> = HashMap::new();
    for (storage, places) in stored {
        let name = format!("{folder}/{storage}");
        let mut file = zip.by_name(&name).map_err(|e| bad(&name, e.to_string()))?;
        if file.compression() != CompressionMethod::Stored {
            return Err(bad(&name, "values that are compressed".to_owned()));
        }
        room = room
            .checked_sub(file.size())
            .ok_or_else(|| bad(&name, "more values than the file has".to_owned()))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| AiError::io(path, e))?;
        for it in places {
            let values = it.values(&bytes);
            let values = values.ok_or_else(|| bad(&it.name, "it lies outside of its storage".to_owned()))?;
            let tensor = Tensor::from_raw_buffer(&values, it.kind, &it.shape, &Device::Cpu)?;
            tensors.insert(it.name, tensor);
        }
    }
    Checkpoint::new(path, tensors, |rows| hugging_face::vocabulary(path, rows), None)
}
