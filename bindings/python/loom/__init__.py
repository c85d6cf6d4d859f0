"""Loom, a video-messaging engine: any WebRTC client, a file, or media of your own becomes adaptive, captioned HLS.

Every object may be used by any thread, and by several at once, and is closed by `close()` or at the end of its `with`: what other threads
still do with it is done to its end. Calls that wait let other threads of Python run.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import json
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from . import _abi

__all__ = [
    "Aac", "Av1", "Captions", "Engine", "Events", "H264", "LoomError", "Opus", "Pictures", "Pusher", "Recording", "Response", "Sound",
    "Vp8", "Vp9", "set_log", "version",
]

_lib = _abi.load()

StorageClass = Literal["hot", "warm", "cold", "archive"]
State = Literal["created", "live", "reconnecting", "paused", "processing", "ready", "failed", "deleted"]
_STATES: tuple[State, ...] = ("created", "live", "reconnecting", "paused", "processing", "ready", "failed", "deleted")
_FORMATS = {"json": 0, "vtt": 1, "srt": 2, "txt": 3}
_LADDERS = {"full": 0, "source": 1}
_TEXTS = {"vtt": 0, "imsc1": 1}
_CLASSES = {"hot": 0, "warm": 1, "cold": 2, "archive": 3}
_ENCRYPTIONS = {None: 0, "segments": 1, "cbcs": 2, "cenc": 3}
_LONGEST = 2**32 - 1


class LoomError(Exception):
    """A call failed. `result` is its number, `name` what loom.h calls that."""

    def __init__(self, result: int, message: str) -> None:
        self.result = result
        self.name = _lib.loom_result_name(result).decode()
        super().__init__(f"{message} ({self.name})")


def _version(version: int) -> int:
    if not 0 < version < 1 << 32:
        raise ValueError(f"{version} is no version: the first is 1")
    return version


def _check(result: int) -> None:
    if result != _abi.OK:
        raise LoomError(result, _lib.loom_last_error().decode() if result >= 100 else "nothing was taken or given")


def _text(text: str | os.PathLike[str]) -> bytes:
    encoded = os.fspath(text).encode()
    if b"\0" in encoded:
        raise ValueError(f"{text!r} has a NUL in it")
    return encoded


def _millis(seconds: float | None) -> int:
    return _LONGEST if seconds is None else max(0, min(_LONGEST, round(seconds * 1000)))


def _bytes(handle: ctypes.c_void_p) -> str:
    try:
        return ctypes.string_at(_lib.loom_bytes_data(handle), _lib.loom_bytes_size(handle)).decode()
    finally:
        _lib.loom_bytes_free(handle)


def _response(handle: ctypes.c_void_p) -> Response:
    try:
        head = [getattr(_lib, f"loom_response_{name}")(handle) for name in ("content_type", "cache_control", "content_range", "etag")]
        content_type, cache_control, content_range, etag = (None if it is None else it.decode() for it in head)
        body = ctypes.string_at(_lib.loom_response_data(handle), _lib.loom_response_size(handle))
        return Response(_lib.loom_response_status(handle), content_type, cache_control, body, content_range, etag)
    finally:
        _lib.loom_response_free(handle)


def version() -> str:
    """The version of the engine, such as "0.1.0"."""
    return _lib.loom_version().decode()


_log: Any = None


def set_log(log: Callable[[int, str], None], filter: str = "info") -> None:
    """Has `log` called with level (1 error to 5 tracing) and line, on any thread, for the rest of the process; once only."""
    global _log
    made = _abi.LOG(lambda _, level, line: log(level, line.decode(errors="replace")))
    _check(_lib.loom_log_set(made, None, _text(filter)))
    _log = made  # it may be called for as long as the process lives


class _Object:
    """A handle that is freed once, and never while a call uses it."""

    _free: str
    _closed = True  # until there is a handle

    def __init__(self, handle: ctypes.c_void_p) -> None:
        self._handle = handle
        self._lock = threading.Lock()
        self._using = 0
        self._closed = False

    def _call(self, call: Any, *args: Any) -> Any:
        """What a call about it gives."""
        with self._lock:
            if self._closed:
                raise ValueError(f"this {type(self).__name__.lower()} is closed")
            self._using += 1
        try:
            return call(self._handle, *args)
        finally:
            with self._lock:
                self._using -= 1
                last = self._closed and self._using == 0
            if last:
                self._end()

    def _do(self, call: Any, *args: Any) -> None:
        """As `_call`, of a call that gives a result."""
        _check(self._call(call, *args))

    def _given(self, call: Any, *args: Any) -> str:
        """The text that a call gives."""
        text = ctypes.c_void_p()
        self._do(call, *args, ctypes.byref(text))
        return _bytes(text)

    def _end(self) -> None:
        getattr(_lib, self._free)(self._handle)

    def close(self) -> None:
        """Frees it: now, or where other threads are in calls that use it, at the end of the last of these. No new one may use it then. To
        close what is closed is no error."""
        if self._closed:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            unused = self._using == 0
        if unused:
            self._end()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


@dataclass(frozen=True)
class Captions:
    """Whether captions can be written: "loading", "on" or "off", and a sentence about it."""

    state: Literal["loading", "on", "off"]
    note: str


@dataclass(frozen=True)
class Response:
    """An answer to a request, as it is to be sent; a header that is not to be sent is None."""

    status: int
    content_type: str
    cache_control: str
    body: bytes
    content_range: str | None = None
    etag: str | None = None


@dataclass(frozen=True)
class H264:
    """H.264, an access unit a packet: with start codes, or, where `avcc` is given, behind 4-byte lengths."""

    avcc: bytes = b""


@dataclass(frozen=True)
class Vp8:
    """VP8, a frame a packet."""


@dataclass(frozen=True)
class Vp9:
    """VP9, a frame or superframe a packet."""


@dataclass(frozen=True)
class Av1:
    """AV1, a temporal unit a packet."""


@dataclass(frozen=True)
class Opus:
    """Opus packets of 1 or 2 channels."""

    channels: int = 2


@dataclass(frozen=True)
class Aac:
    """Raw AAC-LC frames, with their AudioSpecificConfig."""

    config: bytes


@dataclass(frozen=True)
class Pictures:
    """Raw I420 pictures of an even width and height, which are encoded."""

    width: int
    height: int
    frame_rate: float = 30.0


@dataclass(frozen=True)
class Sound:
    """Raw sound, interleaved 32-bit floats, which is encoded."""

    sample_rate: int = 48_000
    channels: int = 2


Track = H264 | Vp8 | Vp9 | Av1 | Opus | Aac | Pictures | Sound
_KINDS = (H264, Vp8, Vp9, Av1, Opus, Aac, Pictures, Sound)


class Engine(_Object):
    """An engine: one UDP port, one speech model, any number of recordings. Its `with` stops what is live."""

    _free = "loom_engine_free"

    def __init__(
        self,
        data_dir: str | os.PathLike[str] = ".loom",
        *,
        captions: bool = True,
        model: str | os.PathLike[str] | None = None,
        ladder: Literal["full", "source"] = "full",
        udp: str | None = None,
        segment: float | None = None,
        part: float | None = None,
        reconnect: float | None = None,
        max_live: int | None = None,
        min_free_bytes: int | None = None,
        store: str | None = None,
        storage_class: StorageClass = "hot",
        encryption: Literal["segments", "cbcs", "cenc"] | None = None,
        key_segments: int | None = None,
        announce: Sequence[str] | None = None,
        max_per_address: int | None = None,
        suppress_noise: bool = False,
        loudness: float | None = None,
        live_cores: float | None = None,
        rungs: Sequence[tuple[int, int]] | None = None,
        thumbnails: bool = True,
        text: Literal["vtt", "imsc1"] = "vtt",
        caption_threads: int | None = None,
        chunks_at_once: int | None = None,
        window: str | None = None,
        sync: float | None = None,
        longest_pause: float | None = None,
        unused: float | None = None,
    ) -> None:
        """Spans are seconds; what is None is the engine's own default. `reconnect=0`: a publisher that vanished is not waited for.

        `announce` are the IP addresses that publishers are told to send to, every one of this machine unless told; `max_per_address` is how many
        sessions may be open from one that `publish` and `join` are told. `store` is "file:///PATH" or "s3://BUCKET/PREFIX"; `key_segments` is how many segments a key of `encryption` serves.

        `suppress_noise` is for sound that is encoded here, `loudness` what the sound of files is brought to, LUFS. `rungs` are the smaller renditions
        of the "full" ladder: the pixels of the shorter side, and bits a second at most. `live_cores` is what the ladders of all live recordings may
        take together, `window` what live playlists list ("event", "live" or "dvr-SECONDS"), `sync` how often all is written to the disk. A recording
        that is paused for `longest_pause` is finished; one that nobody has published to for `unused` fails.
        """
        config = _abi.EngineConfig()
        _check(_lib.loom_engine_config_init(ctypes.byref(config), ctypes.sizeof(config)))
        config.data_dir = _text(data_dir)
        config.udp = None if udp is None else _text(udp)
        config.model = None if model is None else _text(model)
        config.captions, config.ladder = int(captions), _LADDERS[ladder]
        config.segment_ms = 0 if segment is None else _millis(segment)
        config.part_ms = 0 if part is None else _millis(part)
        config.reconnect_ms = 0 if reconnect is None else _millis(reconnect) or _LONGEST
        config.max_live, config.min_free_bytes = max_live or 0, min_free_bytes or 0
        config.store = None if store is None else _text(store)
        config.storage_class, config.encryption = _CLASSES[storage_class], _ENCRYPTIONS[encryption]
        config.key_segments = key_segments or 0
        config.announce = None if announce is None else _text(",".join(announce))
        config.max_per_address = max_per_address or 0
        config.suppress_noise, config.loudness, config.live_cores = int(suppress_noise), loudness or 0, live_cores or 0
        config.rungs = None if rungs is None else _text(",".join(f"{lines}:{bits}" for lines, bits in rungs))
        config.thumbnails, config.text = int(not thumbnails), _TEXTS[text]
        config.caption_threads, config.chunks_at_once = caption_threads or 0, chunks_at_once or 0
        config.window = None if window is None else _text(window)
        spans = {"sync_ms": sync, "longest_pause_ms": longest_pause, "unused_ms": unused}
        for name, span in spans.items():
            setattr(config, name, 0 if span is None else _millis(span))
        handle = ctypes.c_void_p()
        _check(_lib.loom_engine_start(ctypes.byref(config), ctypes.byref(handle)))
        super().__init__(handle)

    def create(self, id: str | None = None) -> Recording:
        """A new recording, under a random name unless one is given (1 to 40 of a-z, 0-9 and -)."""
        handle = ctypes.c_void_p()
        self._do(_lib.loom_recording_create, None if id is None else _text(id), ctypes.byref(handle))
        return Recording(handle)

    def open(self, id: str) -> Recording:
        """The recording of that name, from memory or from disk."""
        handle = ctypes.c_void_p()
        self._do(_lib.loom_recording_open, _text(id), ctypes.byref(handle))
        return Recording(handle)

    def recordings(self) -> list[str]:
        """The names of all recordings on disk, those of earlier engines too: `open` opens each."""
        return json.loads(self._given(_lib.loom_engine_recordings))

    def stored_recordings(self) -> list[str]:
        """The names of all recordings in the store; none without one."""
        return json.loads(self._given(_lib.loom_engine_stored_recordings))

    def captions(self, timeout: float = 0.0) -> Captions:
        """Whether captions can be written; waits so many seconds at most while the model is being loaded."""
        state, note = ctypes.c_int32(), ctypes.c_void_p()
        self._do(_lib.loom_engine_captions, _millis(timeout), ctypes.byref(state), ctypes.byref(note))
        return Captions(("loading", "on", "off")[state.value], _bytes(note))

    def stop(self) -> None:
        """Stops every live recording, and waits until each can be watched to its end."""
        self._do(_lib.loom_engine_stop)

    def __exit__(self, *_: object) -> None:
        if not self._closed:
            self.stop()
        self.close()


class Recording(_Object):
    """A recording. Closing it ends nothing."""

    _free = "loom_recording_free"

    def __init__(self, handle: ctypes.c_void_p) -> None:
        super().__init__(handle)
        self._id: str = _lib.loom_recording_id(handle).decode()

    @property
    def id(self) -> str:
        """Its name, also once it is closed."""
        return self._id

    @property
    def state(self) -> State:
        """Where it is in its life."""
        state = ctypes.c_int32()
        self._do(_lib.loom_recording_state, ctypes.byref(state))
        return _STATES[state.value]

    def info(self) -> dict[str, Any]:
        """How it stands: id, state, reason, duration (seconds), tracks, renditions, captions, loudness, gaps, joined, composition."""
        return json.loads(self._given(_lib.loom_recording_info))

    def wait(self, timeout: float | None = None) -> State:
        """Waits until it is "ready", "failed" or "deleted", and gives which; a TimeoutError after so many seconds."""
        state = ctypes.c_int32()
        result = self._call(_lib.loom_recording_wait, _millis(timeout), ctypes.byref(state))
        if result == _abi.TIMEOUT:
            raise TimeoutError(f"recording {self.id} has not ended")
        _check(result)
        return _STATES[state.value]

    def publish(self, offer: str, address: str | None = None) -> tuple[str, str]:
        """Answers a WHIP client's offer (RFC 9725): the SDP answer, and the session's name. `address` is the IP address that it came from,
        whose sessions are counted."""
        answer, session = ctypes.c_void_p(), ctypes.c_void_p()
        sent_from = None if address is None else _text(address)
        self._do(_lib.loom_recording_publish, _text(offer), sent_from, ctypes.byref(answer), ctypes.byref(session))
        return _bytes(answer), _bytes(session)

    def join(self, name: str, offer: str, address: str | None = None) -> tuple[str, str]:
        """As `publish`, for another publisher under a name of its own, who brings further tracks: it may come and go, and ends nothing."""
        answer, session = ctypes.c_void_p(), ctypes.c_void_p()
        sent_from = None if address is None else _text(address)
        self._do(_lib.loom_recording_join, _text(name), _text(offer), sent_from, ctypes.byref(answer), ctypes.byref(session))
        return _bytes(answer), _bytes(session)

    def etag(self, session: str) -> str:
        """The value of ETag for the 201 that answers a session's offer."""
        etag = ctypes.c_void_p()
        self._do(_lib.loom_recording_etag, _text(session), ctypes.byref(etag))
        return _bytes(etag)

    def patch(self, session: str, if_match: str | None, fragment: str) -> Response:
        """Does what a WHIP client's PATCH asks (RFC 9725 §4.3), candidates or an ICE restart, and gives the answer to it."""
        handle = ctypes.c_void_p()
        match = None if if_match is None else _text(if_match)
        self._do(_lib.loom_recording_patch, _text(session), match, _text(fragment), ctypes.byref(handle))
        return _response(handle)

    def hang_up(self, session: str) -> None:
        """Ends a publisher's session."""
        self._do(_lib.loom_recording_hang_up, _text(session))

    def pause(self) -> None:
        """Has it rest: what comes is not recorded until `resume`."""
        self._do(_lib.loom_recording_pause)

    def resume(self) -> None:
        """Goes on after `pause`."""
        self._do(_lib.loom_recording_resume)

    def stop(self) -> None:
        """Ends it, and waits until its playlists are complete."""
        self._do(_lib.loom_recording_stop)

    def import_file(self, path: str | os.PathLike[str], *, take: bool = False) -> None:
        """Processes a media file. It is copied, unless `take`: then it is the engine's, and is deleted at the end."""
        if take:
            self._do(_lib.loom_recording_import, _text(path))
            return
        file, copy = tempfile.mkstemp(prefix="loom-")
        os.close(file)
        try:
            shutil.copyfile(path, copy)
            self._do(_lib.loom_recording_import, _text(copy))
        except BaseException:
            if os.path.exists(copy):
                os.unlink(copy)
            raise

    def cancel(self) -> None:
        """Gives up the file that is being processed."""
        self._do(_lib.loom_recording_cancel)

    def delete(self) -> None:
        """Removes every byte of it."""
        self._do(_lib.loom_recording_delete)

    def stored(self) -> None:
        """Waits until all that there is of it now is in the store."""
        self._do(_lib.loom_recording_stored)

    def set_class(self, storage_class: StorageClass) -> None:
        """Changes how often it will be asked for, a tag of what the store has of it."""
        self._do(_lib.loom_recording_set_class, _CLASSES[storage_class])

    def transcript(self, format: Literal["json", "vtt", "srt", "txt"] = "txt", version: int | None = None) -> str:
        """What was said: in its newest version, or in one of `transcript_versions`."""
        if version is None:
            return self._given(_lib.loom_recording_transcript, _FORMATS[format])
        return self._given(_lib.loom_recording_transcript_version, _version(version), _FORMATS[format])

    def transcript_versions(self) -> list[dict[str, Any]]:
        """The versions of the transcript, none before the final one is written: "version", 1 for what was heard and one more for each that people
        have made, "made_at" and, where an earlier one was brought back, "restored", which. Events of kind "transcript" tell each new one."""
        return json.loads(self._given(_lib.loom_recording_transcript_versions))

    def correct(self, version: int, corrections: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Corrects what was said, once it is ready: a version of its own, which the captions show too. `version` is the newest that you know: where
        somebody has made another meanwhile, nothing is changed. A correction is {"segment": 3, "text": "…"}, {"replace": "…", "with": "…"} or
        {"speaker": "…", "name": "…"}."""
        wanted = _text(json.dumps(list(corrections)))
        return json.loads(self._given(_lib.loom_recording_correct, _version(version), wanted))

    def restore_transcript(self, newest: int, version: int) -> dict[str, Any]:
        """Makes an earlier version's text the newest again, as a version of its own."""
        return json.loads(self._given(_lib.loom_recording_restore_transcript, _version(newest), _version(version)))

    def export(self, folder: str | os.PathLike[str]) -> None:
        """Copies the finished stream into a folder; `main.m3u8` there begins it."""
        self._do(_lib.loom_recording_export, _text(folder))

    def download(self, path: str | os.PathLike[str]) -> None:
        """Writes it as one MP4 file."""
        self._do(_lib.loom_recording_download, _text(path))

    def jobs(self) -> list[dict[str, Any]]:
        """What is done for it once it has ended: of each job its name, "state", "progress", "tries" and, where one failed, the "reason". Events of
        kind "job" tell each change."""
        return json.loads(self._given(_lib.loom_recording_jobs))

    def restart_job(self, job: Literal["chapters", "transcript", "brief", "upload", "composition"]) -> None:
        """Begins a job anew that waits for its next try, or is parked after its last."""
        self._do(_lib.loom_recording_restart_job, _text(job))

    def lay_out(self, placements: Sequence[dict[str, Any]] | None = None) -> None:
        """Has screen and camera made into one picture: by the job "composition", after which `info()["composition"]` tells its playlist, which
        `hls` answers, and `download_composition` writes it. `placements` say where the camera lies from "at" seconds on: "shape" ("circle" or
        "rectangle"), "place" (a corner such as "top-right", or {"x": 0.5, "y": 0.5}), "size" (its height as a fraction), "hidden"."""
        layout = None if placements is None else _text(json.dumps({"placements": list(placements)}))
        self._do(_lib.loom_recording_lay_out, layout)

    def download_composition(self, path: str | os.PathLike[str]) -> None:
        """Writes what `lay_out` had made as one MP4 file."""
        self._do(_lib.loom_recording_download_composition, _text(path))

    def mark(self, title: str, at: float | None = None) -> None:
        """Marks where a chapter begins, in seconds; where the recording is now unless told."""
        self._do(_lib.loom_recording_mark, -1 if at is None else round(at * 1e9), _text(title))

    def hls(self, path: str, query: str | None = None, range: str | None = None) -> Response:
        """Answers a viewer's request for a path of the stream, such as "main.m3u8", or for the bytes that its Range names; may wait some
        seconds for what is about to come."""
        handle = ctypes.c_void_p()
        query, range = (None if it is None else _text(it) for it in (query, range))
        self._do(_lib.loom_recording_hls, _text(path), query, range, ctypes.byref(handle))
        return _response(handle)

    def events(self) -> Events:
        """Its events: first how it stands, then what happens, until it is over. For `for` or `async for`."""
        return Events(self)

    def push(self, tracks: Sequence[Track]) -> Pusher:
        """Begins a take that you push yourself."""
        return Pusher(self, tracks)


class Events(_Object):
    """A recording's events, each a dict whose "event" says of what kind it is."""

    _free = "loom_events_free"

    def __init__(self, recording: Recording) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken: asyncio.Event | None = None
        self._wake = _abi.WAKE(self._handle_wake)  # kept for as long as it may be called
        handle = ctypes.c_void_p()
        recording._do(_lib.loom_events_open, self._wake, None, ctypes.byref(handle))
        super().__init__(handle)
        _readers.add(self)

    def _handle_wake(self, _: Any) -> None:
        loop, woken = self._loop, self._woken
        if loop is not None and woken is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(woken.set)
            except RuntimeError:
                pass  # the loop was closed in between: nobody waits

    def next(self, timeout: float | None = None) -> dict[str, Any] | None:
        """The next event; None at the end. A TimeoutError after so many seconds."""
        text = ctypes.c_void_p()
        result = self._call(_lib.loom_events_next, _millis(timeout), ctypes.byref(text))
        if result == _abi.END:
            return None
        if result == _abi.TIMEOUT:
            raise TimeoutError("no event came")
        _check(result)
        return json.loads(_bytes(text))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while (event := self.next()) is not None:
            yield event

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        self._loop, self._woken = asyncio.get_running_loop(), asyncio.Event()
        while True:
            self._woken.clear()
            try:
                event = self.next(0)
            except TimeoutError:
                await self._woken.wait()
                continue
            if event is None:
                return
            yield event


_readers: weakref.WeakSet[Events] = weakref.WeakSet()


@atexit.register
def _close_readers() -> None:
    """The engine's threads wake readers, and may not come into Python while that ends: it would end the process."""
    for reader in list(_readers):
        reader.close()


class Pusher(_Object):
    """Pushes media into a recording, live. All times are seconds of one clock of yours: the first that is pushed is the take's zero."""

    _free = "loom_pusher_free"

    def __init__(self, recording: Recording, tracks: Sequence[Track]) -> None:
        self._tracks = tuple(tracks)
        made = (_abi.Track * max(1, len(tracks)))()
        for place, track in zip(made, tracks):
            config = track.avcc if isinstance(track, H264) else track.config if isinstance(track, Aac) else b""
            place.kind = _KINDS.index(type(track))
            place.config, place.config_size = config or None, len(config)
            for name in ("width", "height", "frame_rate", "sample_rate", "channels"):
                setattr(place, name, getattr(track, name, 0))
        handle = ctypes.c_void_p()
        recording._do(_lib.loom_pusher_open, made, len(tracks), ctypes.byref(handle))
        super().__init__(handle)

    def packet(self, track: int, pts: float, data: bytes, dts: float | None = None) -> bool:
        """Takes an encoded packet. False: too much waits; push it again a little later."""
        times = round(pts * 1e9), round((pts if dts is None else dts) * 1e9)
        return self._taken(self._call(_lib.loom_pusher_packet, track, *times, data, len(data)))

    def picture(self, track: int, pts: float, data: bytes | bytearray | memoryview) -> bool:
        """Takes a raw picture: Y, U and V one after the other, rows without space between. False: the encoder is behind, and it was dropped."""
        it = self._tracks[track]
        if not isinstance(it, Pictures):
            raise TypeError(f"track {track} is {it}")
        sizes = (it.width * it.height, it.width * it.height // 4, it.width * it.height // 4)
        view = memoryview(data).cast("B")
        if len(view) != sum(sizes):
            raise ValueError(f"a picture of {it.width}x{it.height} has {sum(sizes)} bytes, not {len(view)}")
        whole = bytes(view)
        begin = ctypes.cast(ctypes.c_char_p(whole), ctypes.c_void_p).value or 0
        picture = _abi.Picture()
        picture.planes[:] = [begin, begin + sizes[0], begin + sizes[0] + sizes[1]]
        picture.strides[:] = [it.width, it.width // 2, it.width // 2]
        return self._taken(self._call(_lib.loom_pusher_picture, track, round(pts * 1e9), ctypes.byref(picture)))

    def sound(self, track: int, pts: float, samples: bytes | bytearray | memoryview) -> bool:
        """Takes raw sound: interleaved 32-bit floats, as of array.array("f"). False: the encoder is behind, and it was dropped."""
        whole = bytes(memoryview(samples).cast("B"))
        made = (ctypes.c_float * (len(whole) // 4)).from_buffer_copy(whole[: len(whole) // 4 * 4])
        return self._taken(self._call(_lib.loom_pusher_sound, track, round(pts * 1e9), made, len(made)))

    def wants_key_frame(self, track: int) -> bool:
        """Whether a track that is pushed encoded should send a key frame soon."""
        wanted = ctypes.c_bool()
        self._do(_lib.loom_pusher_wants_key_frame, track, ctypes.byref(wanted))
        return wanted.value

    def finish(self) -> None:
        """Ends the take: what was pushed is recorded to its end."""
        self.close()

    @staticmethod
    def _taken(result: int) -> bool:
        if result == _abi.BEHIND:
            return False
        _check(result)
        return True
