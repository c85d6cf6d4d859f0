"""The C ABI as ctypes sees it: `bindings/c/include/loom.h` says what each call does."""

import ctypes
import os
import pathlib
from ctypes import POINTER, c_bool, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_uint16, c_uint32, c_uint64, c_void_p

ABI_VERSION = 0
OK, TIMEOUT, END, BEHIND = 0, 1, 2, 3

WAKE = ctypes.CFUNCTYPE(None, c_void_p)
LOG = ctypes.CFUNCTYPE(None, c_void_p, c_int32, c_char_p)


class EngineConfig(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("data_dir", c_char_p),
        ("udp", c_char_p),
        ("model", c_char_p),
        ("captions", c_int32),
        ("ladder", c_int32),
        ("segment_ms", c_uint32),
        ("part_ms", c_uint32),
        ("reconnect_ms", c_uint32),
        ("max_live", c_uint32),
        ("min_free_bytes", c_uint64),
        ("store", c_char_p),
        ("storage_class", c_int32),
        ("encryption", c_int32),
        ("key_segments", c_uint32),
        ("announce", c_char_p),
        ("max_per_address", c_uint32),
        ("suppress_noise", c_int32),
        ("loudness", c_double),
        ("live_cores", c_double),
        ("rungs", c_char_p),
        ("thumbnails", c_int32),
        ("text", c_int32),
        ("caption_threads", c_uint32),
        ("chunks_at_once", c_uint32),
        ("window", c_char_p),
        ("sync_ms", c_uint32),
        ("longest_pause_ms", c_uint32),
        ("unused_ms", c_uint32),
    ]


class Track(ctypes.Structure):
    _fields_ = [
        ("kind", c_int32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("sample_rate", c_uint32),
        ("channels", c_uint32),
        ("frame_rate", c_double),
        ("config", c_char_p),
        ("config_size", c_size_t),
    ]


class Picture(ctypes.Structure):
    _fields_ = [("planes", c_void_p * 3), ("strides", c_size_t * 3)]


OBJECT = c_void_p
OUT = POINTER(c_void_p)
NUMBER = POINTER(c_int32)

# name: what it takes; each gives a result
CALLS = {
    "loom_log_set": [LOG, c_void_p, c_char_p],
    "loom_engine_config_init": [POINTER(EngineConfig), c_size_t],
    "loom_engine_start": [POINTER(EngineConfig), OUT],
    "loom_engine_stop": [OBJECT],
    "loom_engine_captions": [OBJECT, c_uint32, NUMBER, OUT],
    "loom_engine_recordings": [OBJECT, OUT],
    "loom_engine_stored_recordings": [OBJECT, OUT],
    "loom_recording_create": [OBJECT, c_char_p, OUT],
    "loom_recording_open": [OBJECT, c_char_p, OUT],
    "loom_recording_state": [OBJECT, NUMBER],
    "loom_recording_info": [OBJECT, OUT],
    "loom_recording_wait": [OBJECT, c_uint32, NUMBER],
    "loom_recording_publish": [OBJECT, c_char_p, c_char_p, OUT, OUT],
    "loom_recording_join": [OBJECT, c_char_p, c_char_p, c_char_p, OUT, OUT],
    "loom_recording_etag": [OBJECT, c_char_p, OUT],
    "loom_recording_patch": [OBJECT, c_char_p, c_char_p, c_char_p, OUT],
    "loom_recording_hang_up": [OBJECT, c_char_p],
    "loom_recording_pause": [OBJECT],
    "loom_recording_resume": [OBJECT],
    "loom_recording_stop": [OBJECT],
    "loom_recording_import": [OBJECT, c_char_p],
    "loom_recording_cancel": [OBJECT],
    "loom_recording_delete": [OBJECT],
    "loom_recording_stored": [OBJECT],
    "loom_recording_set_class": [OBJECT, c_int32],
    "loom_recording_transcript": [OBJECT, c_int32, OUT],
    "loom_recording_transcript_versions": [OBJECT, OUT],
    "loom_recording_transcript_version": [OBJECT, c_uint32, c_int32, OUT],
    "loom_recording_correct": [OBJECT, c_uint32, c_char_p, OUT],
    "loom_recording_restore_transcript": [OBJECT, c_uint32, c_uint32, OUT],
    "loom_recording_export": [OBJECT, c_char_p],
    "loom_recording_download": [OBJECT, c_char_p],
    "loom_recording_mark": [OBJECT, c_int64, c_char_p],
    "loom_recording_jobs": [OBJECT, OUT],
    "loom_recording_restart_job": [OBJECT, c_char_p],
    "loom_recording_lay_out": [OBJECT, c_char_p],
    "loom_recording_download_composition": [OBJECT, c_char_p],
    "loom_recording_hls": [OBJECT, c_char_p, c_char_p, c_char_p, OUT],
    "loom_events_open": [OBJECT, WAKE, c_void_p, OUT],
    "loom_events_next": [OBJECT, c_uint32, OUT],
    "loom_pusher_open": [OBJECT, POINTER(Track), c_size_t, OUT],
    "loom_pusher_packet": [OBJECT, c_size_t, c_int64, c_int64, c_char_p, c_size_t],
    "loom_pusher_picture": [OBJECT, c_size_t, c_int64, POINTER(Picture)],
    "loom_pusher_sound": [OBJECT, c_size_t, c_int64, POINTER(c_float), c_size_t],
    "loom_pusher_wants_key_frame": [OBJECT, c_size_t, POINTER(c_bool)],
}

# name: what it gives, what it takes
OTHERS = {
    "loom_version": (c_char_p, []),
    "loom_abi_version": (c_uint32, []),
    "loom_last_error": (c_char_p, []),
    "loom_result_name": (c_char_p, [c_int32]),
    "loom_bytes_data": (c_void_p, [OBJECT]),
    "loom_bytes_size": (c_size_t, [OBJECT]),
    "loom_bytes_free": (None, [OBJECT]),
    "loom_recording_id": (c_char_p, [OBJECT]),
    "loom_response_status": (c_uint16, [OBJECT]),
    "loom_response_content_type": (c_char_p, [OBJECT]),
    "loom_response_cache_control": (c_char_p, [OBJECT]),
    "loom_response_content_range": (c_char_p, [OBJECT]),
    "loom_response_etag": (c_char_p, [OBJECT]),
    "loom_response_data": (c_void_p, [OBJECT]),
    "loom_response_size": (c_size_t, [OBJECT]),
    "loom_response_free": (None, [OBJECT]),
    "loom_engine_free": (None, [OBJECT]),
    "loom_recording_free": (None, [OBJECT]),
    "loom_events_free": (None, [OBJECT]),
    "loom_pusher_free": (None, [OBJECT]),
}


def load() -> ctypes.CDLL:
    """The library that came with the package, or the one that LOOM_LIBRARY names."""
    own = pathlib.Path(__file__).with_name("libloom.so")
    library = ctypes.CDLL(os.environ.get("LOOM_LIBRARY") or str(own))
    for name, takes in CALLS.items():
        call = getattr(library, name)
        call.restype, call.argtypes = c_int32, takes
    for name, (gives, takes) in OTHERS.items():
        call = getattr(library, name)
        call.restype, call.argtypes = gives, takes
    if library.loom_abi_version() != ABI_VERSION:
        raise ImportError(f"the library's ABI is {library.loom_abi_version()}, and this package is for {ABI_VERSION}")
    return library
