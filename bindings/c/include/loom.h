/* The C ABI of Loom, a video-messaging engine.
 *
 * Written by cbindgen from the Rust source (`make header`); edit that instead.
 *
 * Objects are opaque. A call takes the object first, then what goes in, then where results are written, which is only done when
 * it returns LOOM_OK. A result that is an object or bytes is freed by its own `…_free`; these take NULL. Text that goes in is UTF-8
 * and ends with NUL. Pointers may be NULL only where it says so; else the call gives LOOM_ERROR_NULL. What went wrong is told by
 * loom_last_error, to the thread that made the call.
 *
 * Threads: every call may be made from any thread, and several at once for one object, except that an object may be freed only
 * once no other call uses it. Calls that wait say so. None of those may be made in a callback (LOOM_ERROR_STATE).
 */

#ifndef LOOM_H
#define LOOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
/* Media times are nanoseconds. */

/**
 * It is done, and results are written.
 */
#define LOOM_OK 0

/**
 * What was waited for did not come in time.
 */
#define LOOM_TIMEOUT 1

/**
 * There are no more events: the recording is ready, failed or deleted, and that was told.
 */
#define LOOM_END 2

/**
 * Too much that was pushed waits: nothing was taken. A packet can be pushed again a little later; raw media is rather let go.
 */
#define LOOM_BEHIND 3

/**
 * A pointer is NULL that may not be.
 */
#define LOOM_ERROR_NULL 100

/**
 * Text is no UTF-8.
 */
#define LOOM_ERROR_TEXT 101

/**
 * A value is none of those that are allowed.
 */
#define LOOM_ERROR_ARGUMENT 102

/**
 * An offer, a file, a packet or a picture cannot be used.
 */
#define LOOM_ERROR_MEDIA 103

/**
 * There is no recording, session or rendition of that name.
 */
#define LOOM_ERROR_NOT_FOUND 200

/**
 * There is one of that name already.
 */
#define LOOM_ERROR_EXISTS 201

/**
 * The recording, or the thread, is in a state in which this cannot be done.
 */
#define LOOM_ERROR_STATE 202

/**
 * It is not there yet.
 */
#define LOOM_ERROR_NOT_READY 203

/**
 * As many recordings are live, or as many publishers there, as may be; or the disk is full.
 */
#define LOOM_ERROR_FULL 204

/**
 * The disk, the network or the store said no.
 */
#define LOOM_ERROR_IO 300

/**
 * Media cannot be transcoded or packaged here.
 */
#define LOOM_ERROR_TRANSCODE 301

/**
 * Something in Loom panicked. The object that the call was about may be unusable; free it.
 */
#define LOOM_ERROR_PANIC 900

/**
 * An error of no other kind.
 */
#define LOOM_ERROR_INTERNAL 901

/**
 * The version of this ABI. A program that was built against another cannot use the library.
 */
#define LOOM_ABI_VERSION 0

/**
 * Renditions: the source as it came, and smaller ones that are encoded.
 */
#define LOOM_LADDER_FULL 0

/**
 * The source alone, with no encoder. Captions are made of it all the same, where they are on.
 */
#define LOOM_LADDER_SOURCE 1

/**
 * Small pictures for the time line come with recordings.
 */
#define LOOM_THUMBNAILS_ON 0

/**
 * They do not.
 */
#define LOOM_THUMBNAILS_OFF 1

/**
 * Captions and subtitles are WebVTT, which every player reads.
 */
#define LOOM_TEXT_WEBVTT 0

/**
 * They are IMSC1 in fragmented MP4.
 */
#define LOOM_TEXT_IMSC1 1

/**
 * Recordings are asked for often.
 */
#define LOOM_CLASS_HOT 0

/**
 * Now and then.
 */
#define LOOM_CLASS_WARM 1

/**
 * Seldom.
 */
#define LOOM_CLASS_COLD 2

/**
 * Hardly ever.
 */
#define LOOM_CLASS_ARCHIVE 3

/**
 * Recordings are not encrypted.
 */
#define LOOM_ENCRYPTION_OFF 0

/**
 * Whole segments and parts, METHOD=AES-128 (RFC 8216bis §4.4.4.4). There is no DASH manifest then.
 */
#define LOOM_ENCRYPTION_SEGMENTS 1

/**
 * Samples, METHOD=SAMPLE-AES: `cbcs` of ISO/IEC 23001-7.
 */
#define LOOM_ENCRYPTION_CBCS 2

/**
 * Samples, METHOD=SAMPLE-AES-CTR: `cenc` of ISO/IEC 23001-7.
 */
#define LOOM_ENCRYPTION_CENC 3

/**
 * Captions: the model is being found or read.
 */
#define LOOM_CAPTIONS_LOADING 0

/**
 * Captions can be written.
 */
#define LOOM_CAPTIONS_ON 1

/**
 * They cannot; recordings work without.
 */
#define LOOM_CAPTIONS_OFF 2

/**
 * Nobody has published yet.
 */
#define LOOM_STATE_CREATED 0

/**
 * Media is coming in; the stream can be watched.
 */
#define LOOM_STATE_LIVE 1

/**
 * The publisher vanished, and is waited for.
 */
#define LOOM_STATE_RECONNECTING 2

/**
 * It rests: nothing is recorded, and media time stands still.
 */
#define LOOM_STATE_PAUSED 3

/**
 * All media is in and can be watched, and the transcript is being written; of a file: it is being read.
 */
#define LOOM_STATE_PROCESSING 4

/**
 * Done.
 */
#define LOOM_STATE_READY 5

/**
 * It came to nothing; loom_recording_info says why.
 */
#define LOOM_STATE_FAILED 6

/**
 * It was deleted, and is there no more.
 */
#define LOOM_STATE_DELETED 7

/**
 * The transcript with the time of each word.
 */
#define LOOM_TRANSCRIPT_JSON 0

/**
 * WebVTT.
 */
#define LOOM_TRANSCRIPT_VTT 1

/**
 * SubRip.
 */
#define LOOM_TRANSCRIPT_SRT 2

/**
 * Text alone.
 */
#define LOOM_TRANSCRIPT_TXT 3

/**
 * H.264, an access unit a packet: a byte stream with start codes and parameter sets in band (ISO/IEC 14496-10 Annex B); or, where
 * `config` has the body of an `avcC`, NAL units behind 4-byte lengths.
 */
#define LOOM_TRACK_H264 0

/**
 * VP8, a frame a packet.
 */
#define LOOM_TRACK_VP8 1

/**
 * VP9, a frame or superframe a packet.
 */
#define LOOM_TRACK_VP9 2

/**
 * AV1, a temporal unit a packet, of OBUs with sizes; each key frame behind a sequence header.
 */
#define LOOM_TRACK_AV1 3

/**
 * Opus, one packet each; `channels` is 1 or 2.
 */
#define LOOM_TRACK_OPUS 4

/**
 * AAC-LC, one raw frame a packet; `config` has the AudioSpecificConfig.
 */
#define LOOM_TRACK_AAC 5

/**
 * Raw pictures, which are encoded as H.264; `width`, `height`, `frame_rate`.
 */
#define LOOM_TRACK_PICTURES 6

/**
 * Raw sound, which is encoded as Opus; `sample_rate`, `channels`.
 */
#define LOOM_TRACK_SOUND 7

/**
 * Text that a call gives out, in UTF-8 and with NUL behind it.
 */
typedef struct loom_bytes loom_bytes;

/**
 * An engine: one UDP port, one speech model, any number of recordings. Recordings, events and pushers keep it alive; with the last of
 * them, and its own handle, it ends, and with it what is live. Its threads are its own.
 */
typedef struct loom_engine loom_engine;

/**
 * A reader of a recording's events: first how it stands, then what happens. One that falls more than a hundred behind misses the oldest.
 */
typedef struct loom_events loom_events;

/**
 * Pushes media into a recording, live: what is pushed ahead of its time waits for it, up to 1,024 packets and 64 MiB. All times are
 * nanoseconds of one clock of the host's, whichever: the first that is pushed is the take's zero. No call but loom_pusher_open and
 * loom_pusher_free waits.
 */
typedef struct loom_pusher loom_pusher;

/**
 * A recording. Freeing it ends nothing.
 */
typedef struct loom_recording loom_recording;

/**
 * An answer to a request, as it is to be sent.
 */
typedef struct loom_response loom_response;

/**
 * What a call says: LOOM_OK, or why there is no result. 1 to 99: nothing is wrong. 100 to 199: the call is. 200 to 299: what it is about
 * is not so that it could be done. 300 to 399: this machine cannot. 900 to 999: a fault in Loom. Others are reserved.
 */
typedef int32_t loom_result;

/**
 * Gets one line of the log: `level` is 1 (error), 2 (warning), 3 (information), 4 (debugging) or 5 (tracing); `line` is valid until it
 * returns. Called on any thread, several at once, also on those that call Loom. It should not wait, and may make no call of Loom's.
 */
typedef void (*loom_log_fn)(void *user, int32_t level, const char *line);

/**
 * How an engine runs. loom_engine_config_init fills it in; then change what is to be otherwise. Zero in a number is its default, but for
 * `captions`.
 */
typedef struct {
  /**
   * The size of this struct in the program: later versions may have more.
   */
  size_t size;
  /**
   * Where recordings are kept, one folder each. Created where it is missing. NULL: ".loom".
   */
  const char *data_dir;
  /**
   * The UDP address that WebRTC publishers send to, such as "0.0.0.0:8189". NULL: any free port.
   */
  const char *udp;
  /**
   * A Whisper model: a folder or a file. NULL: LOOM_MODEL of the environment, else it is looked for, and fetched where there is none.
   */
  const char *model;
  /**
   * Whether captions are written. 0: no model is loaded, and there are no transcripts.
   */
  int32_t captions;
  /**
   * LOOM_LADDER_FULL or LOOM_LADDER_SOURCE.
   */
  int32_t ladder;
  /**
   * The length of a live segment, milliseconds: 250 to 5000.
   */
  uint32_t segment_ms;
  /**
   * The length of a live part, milliseconds (PART-TARGET of RFC 8216bis): 50 to four fifths of a segment.
   */
  uint32_t part_ms;
  /**
   * How long a publisher that vanished is waited for, milliseconds. UINT32_MAX: not at all.
   */
  uint32_t reconnect_ms;
  /**
   * How many recordings may be live at once.
   */
  uint32_t max_live;
  /**
   * No recording is begun while the disk has fewer bytes free.
   */
  uint64_t min_free_bytes;
  /**
   * Where recordings are kept beside the disk, and served from where that has lost them: "file:///PATH", or "s3://BUCKET/PREFIX", reached
   * as the environment says (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY). NULL: nowhere.
   */
  const char *store;
  /**
   * How often recordings will be asked for, a tag of what the store has: one of LOOM_CLASS_….
   */
  int32_t storage_class;
  /**
   * How recordings are encrypted, with random keys that their streams serve: one of LOOM_ENCRYPTION_….
   */
  int32_t encryption;
  /**
   * How many segments a key serves. 0: one key serves a recording.
   */
  uint32_t key_segments;
  /**
   * The addresses that WebRTC publishers are told to send to, such as the public one of a machine behind a NAT: IP addresses with commas
   * between, "203.0.113.7,2001:db8::7". NULL: every address of this machine.
   */
  const char *announce;
  /**
   * How many sessions may be open whose offers came from one address, where loom_recording_publish is told that.
   */
  uint32_t max_per_address;
  /**
   * Whether noise is suppressed in sound that is encoded here. It is made for speech: it takes music for noise.
   */
  int32_t suppress_noise;
  /**
   * How loud the sound of files is made, LUFS (EBU R 128), -40 to -5, such as -16. 0: it stays as loud as it came. Live it is of no effect.
   */
  double loudness;
  /**
   * Cores that the ladders of all live recordings may take together: one whose ladder would take more has fewer renditions. 0: three quarters.
   */
  double live_cores;
  /**
   * The smaller renditions of LOOM_LADDER_FULL: of each the pixels of its shorter side and the bits a second at most, with commas between,
   * "720:2800000,360:800000". NULL: 1080, 720, 480 and 360.
   */
  const char *rungs;
  /**
   * LOOM_THUMBNAILS_ON or LOOM_THUMBNAILS_OFF.
   */
  int32_t thumbnails;
  /**
   * How captions and subtitles are written: LOOM_TEXT_WEBVTT or LOOM_TEXT_IMSC1.
   */
  int32_t text;
  /**
   * Threads that live captions are heard with, and as many for transcripts: 1 to 64. 0: half of the processors.
   */
  uint32_t caption_threads;
  /**
   * How many chunks of files are encoded at once. 0: half as many as there are processors, from 2 to 8.
   */
  uint32_t chunks_at_once;
  /**
   * What playlists of a live recording list, where a request does not say: "event", all of it; "live", the newest alone; "dvr-SECONDS", so many
   * of the newest. NULL: "event".
   */
  const char *window;
  /**
   * All that was written is written to the disk this often, milliseconds: a power cut can lose no more. 0: when the system does it.
   */
  uint32_t sync_ms;
  /**
   * A recording that is paused for this long is finished, milliseconds. 0: a day.
   */
  uint32_t longest_pause_ms;
  /**
   * A recording that nobody has published to for this long fails, milliseconds. 0: half an hour.
   */
  uint32_t unused_ms;
} loom_engine_config;

/**
 * Called each time there is one more event, or the end of them, with what loom_events_open was given. On a thread of the engine's; it
 * should not wait, may not free the reader, and may make no call of Loom's that waits: it wakes whoever then polls.
 */
typedef void (*loom_wake_fn)(void *user);

/**
 * A track that is pushed. What its kind does not need is zero.
 */
typedef struct {
  /**
   * One of LOOM_TRACK_….
   */
  int32_t kind;
  /**
   * Pixels across, even.
   */
  uint32_t width;
  /**
   * Pixels down, even.
   */
  uint32_t height;
  /**
   * Samples a second, 8000 to 192000.
   */
  uint32_t sample_rate;
  /**
   * 1 or 2.
   */
  uint32_t channels;
  /**
   * About how many pictures come a second; their times rule.
   */
  double frame_rate;
  /**
   * The decoder's configuration, or NULL.
   */
  const uint8_t *config;
  /**
   * Its bytes.
   */
  size_t config_size;
} loom_track;

/**
 * Called with `user`, once, on any thread, when a packet that was given away is not read any more. It should not wait, and may make no call
 * of Loom's.
 */
typedef void (*loom_release_fn)(void *user);

/**
 * A raw picture in I420: planar YUV 4:2:0 of 8 bits, ITU-R BT.709, limited range. The planes of chroma have half the width and height.
 */
typedef struct {
  /**
   * Where Y, U and V begin.
   */
  const uint8_t *planes[3];
  /**
   * Bytes from one row to the next of each.
   */
  size_t strides[3];
} loom_picture;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * What the last call that failed on this thread was about, in words: what, where, and which rule. Never NULL; empty where none has failed.
 * It is valid until the next call that fails on this thread.
 */
const char *loom_last_error(void);

/**
 * The name of a result, such as "LOOM_ERROR_NULL"; "unknown" for a number that is none. Static.
 */
const char *loom_result_name(loom_result result);

/**
 * The library's version, such as "0.1.0". Static.
 */
const char *loom_version(void);

/**
 * LOOM_ABI_VERSION as the library was built with it.
 */
uint32_t loom_abi_version(void);

/**
 * Where it begins: valid until it is freed. NULL for NULL.
 */
const char *loom_bytes_data(const loom_bytes *bytes);

/**
 * How many bytes it has, without the NUL. 0 for NULL.
 */
size_t loom_bytes_size(const loom_bytes *bytes);

/**
 * Frees it.
 */
void loom_bytes_free(loom_bytes *bytes);

/**
 * Has `log` called with what is logged from here on, for the rest of the process. `filter` says what: "info", or levels by part, as in
 * "info,webrtc=warn". `user` is handed to it, and must be valid for as long.
 *
 * LOOM_ERROR_ARGUMENT: the filter is none. LOOM_ERROR_EXISTS: something in this process takes the log already.
 */
loom_result loom_log_set(loom_log_fn log,
                         void *user,
                         const char *filter);

/**
 * Fills a configuration in with defaults. `size` is the `sizeof` of it.
 *
 * LOOM_ERROR_ARGUMENT: the program was built with a later header than the library knows.
 */
loom_result loom_engine_config_init(loom_engine_config *config, size_t size);

/**
 * Binds the UDP port, looks for codecs, and begins to load the speech model. Waits for all but the model.
 *
 * LOOM_ERROR_ARGUMENT: the configuration breaks a rule. LOOM_ERROR_IO: the port or the folder cannot be had.
 */
loom_result loom_engine_start(const loom_engine_config *config, loom_engine **engine);

/**
 * Stops every live recording, and waits until each can be watched to its end. The engine can still be used.
 */
loom_result loom_engine_stop(const loom_engine *engine);

/**
 * Whether captions can be written: waits for as long as the model is being loaded, `timeout_ms` milliseconds at most, and gives one of
 * LOOM_CAPTIONS_… and a sentence about it.
 */
loom_result loom_engine_captions(const loom_engine *engine,
                                 uint32_t timeout_ms,
                                 int32_t *captions,
                                 loom_bytes **note);

/**
 * The names of all recordings on disk, those of earlier engines too, as a JSON array of texts in no order: loom_recording_open opens each.
 * Waits for the disk.
 *
 * LOOM_ERROR_IO.
 */
loom_result loom_engine_recordings(const loom_engine *engine,
                                   loom_bytes **json);

/**
 * The names of all recordings in the store, as loom_engine_recordings gives them; none where the engine has no store. Waits for the store.
 *
 * LOOM_ERROR_IO.
 */
loom_result loom_engine_stored_recordings(const loom_engine *engine,
                                          loom_bytes **json);

/**
 * Lets it go. Where that was the last that kept the engine alive, waits until its threads have ended, ten seconds at most, but in a
 * callback, where it waits for nothing; those that package recordings end by themselves, soon after. What is live then is ended as by a
 * crash, and finished when it is next opened. loom_engine_stop ends it well before.
 */
void loom_engine_free(loom_engine *engine);

/**
 * Makes a recording. `id` names it: 1 to 40 of a-z, 0-9 and -; NULL: a random name that nobody can guess. One to which nothing is
 * published for half an hour fails.
 *
 * LOOM_ERROR_EXISTS, LOOM_ERROR_FULL, LOOM_ERROR_IO.
 */
loom_result loom_recording_create(const loom_engine *engine,
                                  const char *id,
                                  loom_recording **recording);

/**
 * The recording of that name, from memory or from disk. Waits for the disk.
 *
 * LOOM_ERROR_NOT_FOUND, LOOM_ERROR_IO.
 */
loom_result loom_recording_open(const loom_engine *engine, const char *id, loom_recording **recording);

/**
 * Lets it go. It may be the last that kept the engine alive: loom_engine_free.
 */
void loom_recording_free(loom_recording *recording);

/**
 * Its name: valid until it is freed. NULL for NULL.
 */
const char *loom_recording_id(const loom_recording *recording);

/**
 * Where it is in its life: one of LOOM_STATE_….
 */
loom_result loom_recording_state(const loom_recording *recording, int32_t *state);

/**
 * How it stands, as a JSON object: `id`, `state`, `reason`, `duration` in seconds, `tracks`, `renditions`, `captions`, `loudness`, `gaps`,
 * `joined`, `composition`.
 */
loom_result loom_recording_info(const loom_recording *recording,
                                loom_bytes **json);

/**
 * Waits until it is LOOM_STATE_READY, _FAILED or _DELETED, `timeout_ms` milliseconds at most, and gives which.
 *
 * LOOM_TIMEOUT.
 */
loom_result loom_recording_wait(const loom_recording *recording, uint32_t timeout_ms, int32_t *state);

/**
 * Has it rest: what comes from here on is not recorded. Waits until it is so. To pause what is paused is no error.
 *
 * LOOM_ERROR_STATE: it has not begun, or has ended.
 */
loom_result loom_recording_pause(const loom_recording *recording);

/**
 * Goes on after loom_recording_pause. Waits until it is so.
 *
 * LOOM_ERROR_STATE: it has not begun, or has ended.
 */
loom_result loom_recording_resume(const loom_recording *recording);

/**
 * Ends it. Waits until its playlists are complete. To stop what has ended is no error; a file is processed to its end.
 *
 * LOOM_ERROR_NOT_READY: that took more than 20 s, and goes on.
 */
loom_result loom_recording_stop(const loom_recording *recording);

/**
 * Processes a media file as a live recording would be. The file is taken over, and deleted at the end. Waits until it was recognised; how
 * far it is, events of kind `progress` say.
 *
 * LOOM_ERROR_MEDIA: it is no media that Loom can read. LOOM_ERROR_STATE: the recording has begun.
 */
loom_result loom_recording_import(const loom_recording *recording,
                                  const char *path);

/**
 * Gives up the file that is being processed: the recording has failed at once.
 *
 * LOOM_ERROR_STATE: none is being processed.
 */
loom_result loom_recording_cancel(const loom_recording *recording);

/**
 * Stops it where it is live, and removes every byte of it. The handle has still to be freed.
 *
 * LOOM_ERROR_IO.
 */
loom_result loom_recording_delete(const loom_recording *recording);

/**
 * Waits until all that there is of it now is in the store, where the engine has one. Once it has ended, that is all there will be.
 *
 * LOOM_ERROR_IO: the store refuses. It is tried again in the background, and when this is asked again.
 */
loom_result loom_recording_stored(const loom_recording *recording);

/**
 * Changes how often it will be asked for, to one of LOOM_CLASS_…: what the store has of it is tagged anew, and nothing sent again. Waits
 * for the store.
 *
 * LOOM_ERROR_NOT_READY: the engine has no store. LOOM_ERROR_IO: the store refuses, or has no tags.
 */
loom_result loom_recording_set_class(const loom_recording *recording,
                                     int32_t storage_class);

/**
 * Copies the finished stream, playlists and segments, into a folder; `main.m3u8` there begins it. Waits for the disk.
 *
 * LOOM_ERROR_NOT_READY: it has not ended. LOOM_ERROR_IO.
 */
loom_result loom_recording_export(const loom_recording *recording, const char *folder);

/**
 * Writes it as one MP4 file, without encoding anything again. Waits for the disk.
 *
 * LOOM_ERROR_NOT_READY: it has not ended. LOOM_ERROR_TRANSCODE: its renditions cannot be put into such a file. LOOM_ERROR_IO.
 */
loom_result loom_recording_download(const loom_recording *recording,
                                    const char *path);

/**
 * Marks where a chapter begins, in nanoseconds of media time; below zero: where the recording is now.
 *
 * LOOM_ERROR_ARGUMENT: the title or the time will not do. LOOM_ERROR_NOT_READY: it has not begun.
 */
loom_result loom_recording_mark(const loom_recording *recording, int64_t at, const char *title);

/**
 * What was said, in one of LOOM_TRANSCRIPT_…: the final transcript once it is written, its newest version, before that what there is so far.
 *
 * LOOM_ERROR_NOT_READY: nothing has been said, or there are no captions.
 */
loom_result loom_recording_transcript(const loom_recording *recording,
                                      int32_t format,
                                      loom_bytes **transcript);

/**
 * The versions of the transcript, as a JSON array of objects, none before the final one is written: `version`, 1 for what was heard and one more for
 * each that people have made; `made_at`, when that was (RFC 3339); `restored`, the earlier version whose text it has, where it has one.
 * Events of kind `transcript` tell each new one.
 */
loom_result loom_recording_transcript_versions(const loom_recording *recording,
                                               loom_bytes **json);

/**
 * The transcript as it was in a version, in one of LOOM_TRANSCRIPT_…. Waits for the disk.
 *
 * LOOM_ERROR_NOT_FOUND: there is no such version. LOOM_ERROR_IO.
 */
loom_result loom_recording_transcript_version(const loom_recording *recording,
                                              uint32_t version,
                                              int32_t format,
                                              loom_bytes **transcript);

/**
 * Corrects the transcript of a recording that is ready: a version of its own, which the stream's captions show too; none is lost. `version` is the
 * newest to whoever asks. `corrections` is a JSON array of `{"segment": 3, "text": "…"}`, what a segment says instead, by its place from 0;
 * `{"replace": "…", "with": "…"}`, some words wherever they stand; `{"speaker": "…", "name": "…"}`, what a speaker is called. Gives the version
 * that comes of it as one of loom_recording_transcript_versions. Waits for the disk.
 *
 * LOOM_ERROR_ARGUMENT: a correction cannot be read, or changes nothing. LOOM_ERROR_STATE: somebody has made another version meanwhile, and
 * nothing is changed; or the recording is not ready or has no transcript. LOOM_ERROR_IO.
 */
loom_result loom_recording_correct(const loom_recording *recording,
                                   uint32_t version,
                                   const char *corrections,
                                   loom_bytes **json);

/**
 * Makes an earlier version's text the newest again, as a version of its own, which it gives as loom_recording_correct does. `newest` is the newest to
 * whoever asks. Waits for the disk.
 *
 * LOOM_ERROR_NOT_FOUND: there is no such version. LOOM_ERROR_ARGUMENT: it is the newest. LOOM_ERROR_STATE, LOOM_ERROR_IO: as
 * loom_recording_correct.
 */
loom_result loom_recording_restore_transcript(const loom_recording *recording,
                                              uint32_t newest,
                                              uint32_t version,
                                              loom_bytes **json);

/**
 * What is done for it once it has ended, and how far that is, as a JSON array of objects: `job` (`chapters`, `transcript`, `brief`,
 * `upload`, `composition`), `state` (`queued`, `running`, `waiting`, `parked`, `done`), `progress` (0 to 1), `tries`, and where there is one `reason`, why
 * the last try failed, and `next_try`, seconds. Events of kind `job` tell each change.
 */
loom_result loom_recording_jobs(const loom_recording *recording,
                                loom_bytes **json);

/**
 * Begins a job anew, by its name, that waits for its next try, or is parked after its last. To restart what runs or is done changes nothing.
 *
 * LOOM_ERROR_ARGUMENT: no job has that name. LOOM_ERROR_NOT_FOUND: the recording has not that job.
 */
loom_result loom_recording_restart_job(const loom_recording *recording,
                                       const char *job);

/**
 * Has screen and camera made into one picture, of a recording that is ready: a stream beside its own, with its sound, text and chapters, and one
 * file. The main picture is the screen, the first beside it the camera. `layout` says where the camera lies over time, as a JSON object such as
 * `{"placements": [{}, {"at": 12.5, "shape": "rectangle", "place": "top-right", "size": 0.3}, {"at": 40, "hidden": true}]}`: `shape` is `circle`
 * or `rectangle`, `place` a corner or `{"x": 0.5, "y": 0.5}`, `size` the camera's height as a fraction, `at` seconds. NULL: a circle at the bottom
 * left. It is the job `composition` of loom_recording_jobs; once that is done, `composition` of loom_recording_info tells what there is: its
 * `playlist`, which loom_recording_hls answers beside `main.m3u8`, its DASH `manifest`, its `thumbnails`, its `renditions` and the `layout`.
 * Another layout takes the place of the one before. Waits for the disk.
 *
 * LOOM_ERROR_ARGUMENT: the layout breaks a rule. LOOM_ERROR_STATE: the recording is not ready, or has only one picture.
 * LOOM_ERROR_TRANSCODE: it is encrypted. LOOM_ERROR_IO.
 */
loom_result loom_recording_lay_out(const loom_recording *recording,
                                   const char *layout);

/**
 * Writes what loom_recording_lay_out had made as one MP4 file, with the recording's main sound. Waits for the disk.
 *
 * LOOM_ERROR_NOT_READY: it is not made. LOOM_ERROR_IO.
 */
loom_result loom_recording_download_composition(const loom_recording *recording, const char *path);

/**
 * Answers a WHIP client's offer (RFC 9725 §4.2): its media is recorded from then on. `address` is the IP address that it came from, whose
 * sessions are counted (`max_per_address` of loom_engine_config); NULL: they are not. Gives the SDP answer, and the session's name, the last
 * component of the resource's URL; the ETag of the 201 answer is loom_recording_etag's. Waits some milliseconds.
 *
 * LOOM_ERROR_MEDIA: the offer cannot be answered. LOOM_ERROR_STATE: it takes no publisher any more. LOOM_ERROR_FULL.
 */
loom_result loom_recording_publish(const loom_recording *recording,
                                   const char *offer,
                                   const char *address,
                                   loom_bytes **answer,
                                   loom_bytes **session);

/**
 * As loom_recording_publish, for another publisher, who joins the recording beside its own, such as a telephone's camera beside a screen:
 * what it sends becomes further tracks. `name`, 1 to 32 of a-z, 0-9 and -, is the publisher's in the recording; one that comes back under
 * its name goes on. It may come and go, before the recording's own publisher too: that begins, holds up and ends nothing. Its PATCH and
 * DELETE are loom_recording_patch and loom_recording_hang_up, which then ends this session alone.
 *
 * LOOM_ERROR_MEDIA: the offer cannot be answered. LOOM_ERROR_STATE: the recording has ended. LOOM_ERROR_FULL: four have joined.
 */
loom_result loom_recording_join(const loom_recording *recording,
                                const char *name,
                                const char *offer,
                                const char *address,
                                loom_bytes **answer,
                                loom_bytes **session);

/**
 * The value of ETag for a session as its ICE is now, with its quotes: for the 201 that answers its offer (RFC 9725 §4.3.1).
 *
 * LOOM_ERROR_NOT_FOUND.
 */
loom_result loom_recording_etag(const loom_recording *recording,
                                const char *session,
                                loom_bytes **etag);

/**
 * Does what a WHIP client's PATCH asks (RFC 9725 §4.3): its candidates are taken note of, or its ICE restarts. `if_match` is the value of
 * that header, NULL where it was not sent; `fragment` the body, of type application/trickle-ice-sdpfrag. Gives the answer as it is to be
 * sent: 204; 200 with a body and an ETag, after a restart; or 400, 404, 412, 413 or 428 with a problem document (RFC 9457), and the session
 * goes on as it was.
 */
loom_result loom_recording_patch(const loom_recording *recording,
                                 const char *session,
                                 const char *if_match,
                                 const char *fragment,
                                 loom_response **response);

/**
 * Ends a publisher's session, as a WHIP client's DELETE asks; with its only session the recording ends.
 *
 * LOOM_ERROR_NOT_FOUND.
 */
loom_result loom_recording_hang_up(const loom_recording *recording, const char *session);

/**
 * Answers a request for `path` below the recording's stream, such as "main.m3u8", with the query that came with it, or NULL, and the value
 * of its Range, or NULL. What a viewer asks for before it is there (RFC 8216bis §6.2.5.2) is waited for, some seconds at most, so each
 * request is best answered on a thread of its own. That there is no such resource is an answer too: of status 404.
 */
loom_result loom_recording_hls(const loom_recording *recording,
                               const char *path,
                               const char *query,
                               const char *range,
                               loom_response **response);

/**
 * The HTTP status. Of loom_recording_hls: 200, 206, 400, 404, 416 or 503, with which `Retry-After: 1` should be sent, since what was waited
 * for did not come in time; of loom_recording_patch: 200, 204 or 4xx. 0 for NULL.
 */
uint16_t loom_response_status(const loom_response *response);

/**
 * The value of Content-Type: valid until it is freed; empty where there is no body. NULL for NULL.
 */
const char *loom_response_content_type(const loom_response *response);

/**
 * The value of Cache-Control: valid until it is freed. NULL for NULL.
 */
const char *loom_response_cache_control(const loom_response *response);

/**
 * The value of Content-Range (RFC 9110 §14.4): valid until it is freed. NULL where it is not to be sent, and for NULL.
 */
const char *loom_response_content_range(const loom_response *response);

/**
 * The value of ETag, with its quotes: valid until it is freed. NULL where it is not to be sent, and for NULL.
 */
const char *loom_response_etag(const loom_response *response);

/**
 * The body: valid until it is freed. NULL for NULL.
 */
const uint8_t *loom_response_data(const loom_response *response);

/**
 * How many bytes the body has. 0 for NULL.
 */
size_t loom_response_size(const loom_response *response);

/**
 * Frees it.
 */
void loom_response_free(loom_response *response);

/**
 * Begins to read. `wake` is NULL, or called with `user` when there is something to poll.
 */
loom_result loom_events_open(const loom_recording *recording,
                             loom_wake_fn wake,
                             void *user,
                             loom_events **events);

/**
 * The next event, as a JSON object whose `event` says of what kind it is: `state`, `caption`, `progress`, `job`, `gap`, `shed`, `overload`, `unheard`, `warning`, `worker`,
 * `chapters`, `tracks`, `joined`, `findings`, `transcript`, `renditions`; others may come with later versions. Waits for it, `timeout_ms` milliseconds at most; with 0 it only
 * looks, whoever else waits, and may be called in a callback's thread as anywhere else.
 *
 * LOOM_TIMEOUT. LOOM_END: there are no more, since the recording is ready, failed or deleted.
 */
loom_result loom_events_next(const loom_events *events,
                             uint32_t timeout_ms,
                             loom_bytes **json);

/**
 * Ends reading: once it returns, `wake` is not called any more.
 */
void loom_events_free(loom_events *events);

/**
 * Begins a take that the host pushes. Its tracks are named by their places from here on, counted from 0. Waits until encoders have
 * started.
 *
 * LOOM_ERROR_MEDIA: a track will not do. LOOM_ERROR_STATE: the recording takes no more media. LOOM_ERROR_FULL.
 */
loom_result loom_pusher_open(const loom_recording *recording,
                             const loom_track *tracks,
                             size_t count,
                             loom_pusher **pusher);

/**
 * Takes an encoded packet, which is copied: shown or heard at `pts`, decoded at `dts`, which is `pts` where pictures are not reordered.
 *
 * LOOM_BEHIND: too much waits. LOOM_ERROR_MEDIA: it is not what was declared, or out of order. LOOM_ERROR_STATE: the recording has ended.
 */
loom_result loom_pusher_packet(const loom_pusher *pusher,
                               size_t track,
                               int64_t pts,
                               int64_t dts,
                               const uint8_t *data,
                               size_t size);

/**
 * As loom_pusher_packet, of a packet that is not copied: `data` stays as it is until `release` is called with `user`, which may be before
 * this returns, and is so too where this fails. Without `release` it stays for ever, as a constant does.
 *
 * LOOM_BEHIND, LOOM_ERROR_MEDIA, LOOM_ERROR_STATE: as loom_pusher_packet.
 */
loom_result loom_pusher_give_packet(const loom_pusher *pusher,
                                    size_t track,
                                    int64_t pts,
                                    int64_t dts,
                                    const uint8_t *data,
                                    size_t size,
                                    loom_release_fn release,
                                    void *user);

/**
 * Takes a raw picture, which is copied: shown from `pts` on.
 *
 * LOOM_BEHIND: the encoder is, and the picture was dropped. LOOM_ERROR_MEDIA, LOOM_ERROR_STATE: as loom_pusher_packet.
 */
loom_result loom_pusher_picture(const loom_pusher *pusher,
                                size_t track,
                                int64_t pts,
                                const loom_picture *picture);

/**
 * Takes raw sound, which is copied: `count` interleaved samples of all channels, in -1.0 to 1.0, the first heard at
 * `pts`.
 *
 * LOOM_BEHIND: the encoder is, and the sound was dropped. LOOM_ERROR_MEDIA, LOOM_ERROR_STATE: as loom_pusher_packet.
 */
loom_result loom_pusher_sound(const loom_pusher *pusher, size_t track, int64_t pts, const float *samples, size_t count);

/**
 * Whether a track that is pushed encoded should send a key frame soon, so that a segment can begin. So until it comes.
 */
loom_result loom_pusher_wants_key_frame(const loom_pusher *pusher, size_t track, bool *wanted);

/**
 * Ends the take and frees the pusher: what was pushed is recorded to its end, and so is the recording, unless somebody else publishes to
 * it. Waits until encoders have given their last, some milliseconds.
 */
void loom_pusher_free(loom_pusher *pusher);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* LOOM_H */
