/* Recordings that are encrypted, and kept in a store that outlives the disk. `kept FOLDER` */
#include "check.h"

#include <sys/stat.h>


static const char *MAIN_TYPE = "application/vnd.apple.mpegurl";

static bool exists(const char *folder, const char *path) {
  char whole[4096];
  struct stat found;
  snprintf(whole, sizeof whole, "%s/%s", folder, path);
  return stat(whole, &found) == 0;
}

static loom_engine *begin(loom_engine_config config) {
  loom_engine *engine = NULL;
  CHECK(loom_engine_start(&config, &engine));
  return engine;
}

/* So much silence, in packets of 20 ms. */
static void record(loom_recording *recording, int packets) {
  loom_track track = {.kind = LOOM_TRACK_OPUS, .channels = 2};
  loom_pusher *pusher = NULL;
  int32_t state = -1;
  CHECK(loom_pusher_open(recording, &track, 1, &pusher));
  for (int at = 0; at < packets; at++) {
    CHECK(loom_pusher_packet(pusher, 0, at * 20 * MS, at * 20 * MS, SILENCE, sizeof SILENCE));
  }
  loom_pusher_free(pusher);
  CHECK(loom_recording_wait(recording, 60000, &state));
  TRUE(state == LOOM_STATE_READY);
}

static bool has(loom_recording *recording, const char *path, const char *type, const char *part) {
  loom_response *response = NULL;
  CHECK(loom_recording_hls(recording, path, NULL, NULL, &response));
  TRUE(loom_response_status(response) == 200);
  TRUE(strcmp(loom_response_content_type(response), type) == 0);
  bool found = false;
  for (size_t at = 0; at + strlen(part) <= loom_response_size(response); at++) {
    found |= memcmp(loom_response_data(response) + at, part, strlen(part)) == 0;
  }
  loom_response_free(response);
  return found;
}

static size_t size_of(loom_recording *recording, const char *path) {
  loom_response *response = NULL;
  CHECK(loom_recording_hls(recording, path, NULL, NULL, &response));
  size_t size = loom_response_status(response) == 200 ? loom_response_size(response) : 0;
  loom_response_free(response);
  return size;
}

typedef loom_result listing(const loom_engine *engine, loom_bytes **json);

static bool lists(listing *list, const loom_engine *engine, const char *wanted) {
  loom_bytes *json = NULL;
  CHECK(list(engine, &json));
  bool same = strcmp(loom_bytes_data(json), wanted) == 0;
  loom_bytes_free(json);
  return same;
}

int main(int argc, char **argv) {
  TRUE(argc == 2);
  char disk[4000], other[4000], store[4000], address[4096];
  snprintf(disk, sizeof disk, "%s/disk", argv[1]);
  snprintf(other, sizeof other, "%s/other", argv[1]);
  snprintf(store, sizeof store, "%s/store", argv[1]);
  snprintf(address, sizeof address, "file://%s", store);

  loom_engine_config config = configured(disk);
  config.store = address;
  config.storage_class = LOOM_CLASS_COLD;
  config.encryption = LOOM_ENCRYPTION_SEGMENTS;
  config.key_segments = 1;
  config.segment_ms = 1000;
  loom_engine *engine = begin(config);
  loom_recording *recording = NULL;
  CHECK(loom_recording_create(engine, "kept", &recording));
  record(recording, 125);
  TRUE(has(recording, "opus/index.m3u8", MAIN_TYPE, "METHOD=AES-128"));
  TRUE(size_of(recording, "key-0.bin") == 16 && size_of(recording, "key-1.bin") == 16);
  CHECK(loom_recording_stored(recording));
  TRUE(exists(store, "kept/recording.json"));
  EXPECT(loom_recording_set_class(recording, LOOM_CLASS_HOT), LOOM_ERROR_IO); /* a folder has no tags */
  size_t segment = size_of(recording, "opus/s1.m4s");
  TRUE(segment > 0 && segment % 16 == 0);
  loom_recording_free(recording);
  loom_engine_free(engine);

  engine = begin(config);
  TRUE(lists(loom_engine_recordings, engine, "[\"kept\"]"));
  loom_engine_free(engine);

  /* on another disk it is opened from the store, with its keys */
  config.data_dir = other;
  engine = begin(config);
  TRUE(lists(loom_engine_recordings, engine, "[]"));
  TRUE(lists(loom_engine_stored_recordings, engine, "[\"kept\"]"));
  CHECK(loom_recording_open(engine, "kept", &recording));
  TRUE(has(recording, "opus/index.m3u8", MAIN_TYPE, "METHOD=AES-128"));
  TRUE(size_of(recording, "opus/s1.m4s") == segment);
  TRUE(size_of(recording, "key-0.bin") == 16);
  CHECK(loom_recording_delete(recording));
  TRUE(!exists(store, "kept/recording.json"));
  TRUE(lists(loom_engine_stored_recordings, engine, "[]"));
  loom_recording_free(recording);
  loom_engine_free(engine);

  /* samples are encrypted by their own schemes, and without one nothing is */
  const char *methods[] = {"METHOD=SAMPLE-AES,", "METHOD=SAMPLE-AES-CTR", "#EXT-X-KEY"};
  const int32_t schemes[] = {LOOM_ENCRYPTION_CBCS, LOOM_ENCRYPTION_CENC, LOOM_ENCRYPTION_OFF};
  config.store = NULL;
  for (int at = 0; at < 3; at++) {
    config.encryption = schemes[at];
    engine = begin(config);
    CHECK(loom_recording_create(engine, NULL, &recording));
    record(recording, 45);
    TRUE(has(recording, "opus/index.m3u8", MAIN_TYPE, methods[at]) == (schemes[at] != LOOM_ENCRYPTION_OFF));
    loom_recording_free(recording);
    loom_engine_free(engine);
  }
  puts("kept: ok");
  return 0;
}
