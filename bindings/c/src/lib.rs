//! The C ABI of [`loom_engine`].
//!
//! Invariant: no call unwinds into the host, and none writes a result but when it gives [`LOOM_OK`].
//!
//! The header `include/loom.h` is written from this source and says how each call is used; `tests/header.rs` holds both together.

#![allow(non_camel_case_types, reason = "the names are those of the header")]

mod bytes;
mod call;
mod composition;
mod config;
mod engine;
mod events;
mod hls;
mod log;
mod pusher;
mod recording;
mod result;
mod transcript;
mod whip;

pub use bytes::{loom_bytes, loom_bytes_data, loom_bytes_free, loom_bytes_size};
pub use composition::{
    loom_recording_download_composition, loom_recording_jobs, loom_recording_lay_out,
    loom_recording_restart_job,
};
pub use config::{
    LOOM_CLASS_ARCHIVE, LOOM_CLASS_COLD, LOOM_CLASS_HOT, LOOM_CLASS_WARM, LOOM_ENCRYPTION_CBCS,
    LOOM_ENCRYPTION_CENC, LOOM_ENCRYPTION_OFF, LOOM_ENCRYPTION_SEGMENTS, LOOM_LADDER_FULL,
    LOOM_LADDER_SOURCE, LOOM_TEXT_IMSC1, LOOM_TEXT_WEBVTT, LOOM_THUMBNAILS_OFF, LOOM_THUMBNAILS_ON,
    loom_engine_config, loom_engine_config_init,
};
pub use engine::{
    LOOM_CAPTIONS_LOADING, LOOM_CAPTIONS_OFF, LOOM_CAPTIONS_ON, loom_engine, loom_engine_captions,
    loom_engine_free, loom_engine_recordings, loom_engine_start, loom_engine_stop,
    loom_engine_stored_recordings,
};
pub use events::{loom_events, loom_events_free, loom_events_next, loom_events_open, loom_wake_fn};
pub use hls::{
    loom_recording_hls, loom_response, loom_response_cache_control, loom_response_content_range,
    loom_response_content_type, loom_response_data, loom_response_etag, loom_response_free,
    loom_response_size, loom_response_status,
};
pub use log::{loom_log_fn, loom_log_set};
pub use pusher::{
    LOOM_TRACK_AAC, LOOM_TRACK_AV1, LOOM_TRACK_H264, LOOM_TRACK_OPUS, LOOM_TRACK_PICTURES, LOOM_TRACK_SOUND,
    LOOM_TRACK_VP8, LOOM_TRACK_VP9, loom_picture, loom_pusher, loom_pusher_free, loom_pusher_give_packet,
    loom_pusher_open, loom_pusher_packet, loom_pusher_picture, loom_pusher_sound,
    loom_pusher_wants_key_frame, loom_release_fn, loom_track,
};
pub use recording::{
    LOOM_STATE_CREATED, LOOM_STATE_DELETED, LOOM_STATE_FAILED, LOOM_STATE_LIVE, LOOM_STATE_PAUSED,
    LOOM_STATE_PROCESSING, LOOM_STATE_READY, LOOM_STATE_RECONNECTING, loom_recording, loom_recording_cancel,
    loom_recording_create, loom_recording_delete, loom_recording_download, loom_recording_export,
    loom_recording_free, loom_recording_id, loom_recording_import, loom_recording_info, loom_recording_mark,
    loom_recording_open, loom_recording_pause, loom_recording_resume, loom_recording_set_class,
    loom_recording_state, loom_recording_stop, loom_recording_stored, loom_recording_wait,
};
pub use result::{
    LOOM_ABI_VERSION, LOOM_BEHIND, LOOM_END, LOOM_ERROR_ARGUMENT, LOOM_ERROR_EXISTS, LOOM_ERROR_FULL,
    LOOM_ERROR_INTERNAL, LOOM_ERROR_IO, LOOM_ERROR_MEDIA, LOOM_ERROR_NOT_FOUND, LOOM_ERROR_NOT_READY,
    LOOM_ERROR_NULL, LOOM_ERROR_PANIC, LOOM_ERROR_STATE, LOOM_ERROR_TEXT, LOOM_ERROR_TRANSCODE, LOOM_OK,
    LOOM_TIMEOUT, loom_abi_version, loom_last_error, loom_result, loom_result_name, loom_version,
};
pub use transcript::{
    LOOM_TRANSCRIPT_JSON, LOOM_TRANSCRIPT_SRT, LOOM_TRANSCRIPT_TXT, LOOM_TRANSCRIPT_VTT,
    loom_recording_correct, loom_recording_restore_transcript, loom_recording_transcript,
    loom_recording_transcript_version, loom_recording_transcript_versions,
};
pub use whip::{
    loom_recording_etag, loom_recording_hang_up, loom_recording_join, loom_recording_patch,
    loom_recording_publish,
};
