/* Each way in which a call can fail. `errors FOLDER` */
#include "check.h"

static void says(const char *part) {
  if (strstr(loom_last_error(), part) == NULL) {
    fprintf(stderr, "\"%s\" does not say \"%s\"\n", loom_last_error(), part);
    exit(1);
  }
}

static void count_release(void *user) { ++*(int *)user; }

static void null(loom_engine *engine, loom_recording *recording, loom_pusher *pusher, loom_events *events) {
  loom_recording *made = NULL;
  loom_bytes *bytes = NULL;
  loom_response *response = NULL;
  loom_pusher *opened = NULL;
  loom_events *reader = NULL;
  loom_engine *started = NULL;
  loom_engine_config config;
  loom_track track = {.kind = LOOM_TRACK_VP8};
  loom_picture picture = {{NULL, NULL, NULL}, {160, 80, 80}};
  int32_t number = 7;
  bool wanted = true;
  EXPECT(loom_engine_config_init(NULL, sizeof config), LOOM_ERROR_NULL);
  EXPECT(loom_engine_start(NULL, &started), LOOM_ERROR_NULL);
  CHECK(loom_engine_config_init(&config, sizeof config));
  EXPECT(loom_engine_start(&config, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_engine_stop(NULL), LOOM_ERROR_NULL);
  EXPECT(loom_engine_captions(NULL, 0, &number, &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_engine_captions(engine, 0, NULL, &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_engine_captions(engine, 0, &number, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_create(NULL, NULL, &made), LOOM_ERROR_NULL);
  EXPECT(loom_recording_create(engine, NULL, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_open(NULL, "a", &made), LOOM_ERROR_NULL);
  EXPECT(loom_recording_open(engine, NULL, &made), LOOM_ERROR_NULL);
  EXPECT(loom_recording_open(engine, "a", NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_state(NULL, &number), LOOM_ERROR_NULL);
  EXPECT(loom_recording_state(recording, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_info(NULL, &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_recording_info(recording, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_wait(NULL, 0, &number), LOOM_ERROR_NULL);
  EXPECT(loom_recording_wait(recording, 0, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_publish(NULL, "v=0", NULL, &bytes, &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_recording_publish(recording, NULL, NULL, &bytes, &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_recording_publish(recording, "v=0", NULL, NULL, &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_recording_publish(recording, "v=0", NULL, &bytes, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_join(NULL, "a", "v=0", NULL, &bytes, &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_recording_join(recording, NULL, "v=0", NULL, &bytes, &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_recording_join(recording, "a", NULL, NULL, &bytes, &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_recording_join(recording, "a", "v=0", NULL, NULL, &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_recording_join(recording, "a", "v=0", NULL, &bytes, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_engine_recordings(NULL, &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_engine_recordings(engine, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_engine_stored_recordings(NULL, &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_engine_stored_recordings(engine, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_hang_up(NULL, "a"), LOOM_ERROR_NULL);
  EXPECT(loom_recording_hang_up(recording, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_pause(NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_resume(NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_stop(NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_import(NULL, "a"), LOOM_ERROR_NULL);
  EXPECT(loom_recording_import(recording, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_cancel(NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_delete(NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_transcript(NULL, 0, &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_recording_transcript(recording, 0, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_export(NULL, "a"), LOOM_ERROR_NULL);
  EXPECT(loom_recording_export(recording, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_download(NULL, "a"), LOOM_ERROR_NULL);
  EXPECT(loom_recording_download(recording, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_mark(NULL, 0, "a"), LOOM_ERROR_NULL);
  EXPECT(loom_recording_mark(recording, 0, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_jobs(NULL, &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_recording_jobs(recording, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_restart_job(NULL, "composition"), LOOM_ERROR_NULL);
  EXPECT(loom_recording_restart_job(recording, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_lay_out(NULL, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_download_composition(NULL, "a"), LOOM_ERROR_NULL);
  EXPECT(loom_recording_download_composition(recording, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_etag(NULL, "a", &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_recording_etag(recording, NULL, &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_recording_etag(recording, "a", NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_patch(NULL, "a", "*", "a=mid:0", &response), LOOM_ERROR_NULL);
  EXPECT(loom_recording_patch(recording, NULL, "*", "a=mid:0", &response), LOOM_ERROR_NULL);
  EXPECT(loom_recording_patch(recording, "a", "*", NULL, &response), LOOM_ERROR_NULL);
  EXPECT(loom_recording_patch(recording, "a", "*", "a=mid:0", NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_stored(NULL), LOOM_ERROR_NULL);
  EXPECT(loom_recording_set_class(NULL, LOOM_CLASS_COLD), LOOM_ERROR_NULL);
  EXPECT(loom_recording_hls(NULL, "main.m3u8", NULL, NULL, &response), LOOM_ERROR_NULL);
  EXPECT(loom_recording_hls(recording, NULL, NULL, NULL, &response), LOOM_ERROR_NULL);
  EXPECT(loom_recording_hls(recording, "main.m3u8", NULL, NULL, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_events_open(NULL, NULL, NULL, &reader), LOOM_ERROR_NULL);
  EXPECT(loom_events_open(recording, NULL, NULL, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_events_next(NULL, 0, &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_events_next(events, 0, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_pusher_open(NULL, &track, 1, &opened), LOOM_ERROR_NULL);
  EXPECT(loom_pusher_open(recording, NULL, 1, &opened), LOOM_ERROR_NULL);
  EXPECT(loom_pusher_open(recording, &track, 1, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_pusher_packet(NULL, 0, 0, 0, SILENCE, 3), LOOM_ERROR_NULL);
  int released = 0;
  EXPECT(loom_pusher_give_packet(NULL, 0, 0, 0, SILENCE, 3, count_release, &released), LOOM_ERROR_NULL);
  EXPECT(loom_pusher_give_packet(pusher, 0, 0, 0, NULL, 3, count_release, &released), LOOM_ERROR_NULL);
  TRUE(released == 2); /* what is not taken is given back at once */
  EXPECT(loom_pusher_packet(pusher, 0, 0, 0, NULL, 3), LOOM_ERROR_NULL);
  EXPECT(loom_pusher_picture(NULL, 1, 0, &picture), LOOM_ERROR_NULL);
  EXPECT(loom_pusher_picture(pusher, 1, 0, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_pusher_picture(pusher, 1, 0, &picture), LOOM_ERROR_NULL);
  EXPECT(loom_pusher_sound(NULL, 2, 0, NULL, 0), LOOM_ERROR_NULL);
  EXPECT(loom_pusher_sound(pusher, 2, 0, NULL, 2), LOOM_ERROR_NULL);
  EXPECT(loom_pusher_wants_key_frame(NULL, 0, &wanted), LOOM_ERROR_NULL);
  EXPECT(loom_pusher_wants_key_frame(pusher, 0, NULL), LOOM_ERROR_NULL);
  EXPECT(loom_log_set(NULL, NULL, "info"), LOOM_ERROR_NULL);
  says("log is NULL");
  TRUE(made == NULL && bytes == NULL && response == NULL && opened == NULL && reader == NULL && started == NULL);
  TRUE(number == 7 && wanted); /* nothing was written */
  TRUE(loom_recording_id(NULL) == NULL && loom_bytes_data(NULL) == NULL && loom_bytes_size(NULL) == 0);
  TRUE(loom_response_status(NULL) == 0 && loom_response_data(NULL) == NULL && loom_response_size(NULL) == 0);
  TRUE(loom_response_content_type(NULL) == NULL && loom_response_cache_control(NULL) == NULL);
  TRUE(loom_response_content_range(NULL) == NULL && loom_response_etag(NULL) == NULL);
  loom_bytes_free(NULL);
  loom_response_free(NULL);
  loom_events_free(NULL);
  loom_pusher_free(NULL);
  loom_recording_free(NULL);
  loom_engine_free(NULL);
}

static void log_line(void *user, int32_t level, const char *line) {
  (void)user, (void)level, (void)line;
}

static void configuration(const char *folder) {
  loom_engine_config config;
  loom_engine *engine = NULL;
  EXPECT(loom_engine_config_init(&config, sizeof config + 1), LOOM_ERROR_ARGUMENT);
  EXPECT(loom_engine_config_init(&config, 1), LOOM_ERROR_ARGUMENT);
  CHECK(loom_engine_config_init(&config, sizeof config));
  config.size = 100000;
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  CHECK(loom_engine_config_init(&config, sizeof config));
  config.captions = 2;
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  config.captions = 0;
  config.ladder = 9;
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  config.ladder = LOOM_LADDER_SOURCE;
  config.store = "nowhere://at/all";
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  says("nowhere://at/all");
  config.store = NULL;
  config.storage_class = 4;
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  config.storage_class = LOOM_CLASS_HOT;
  config.encryption = 4;
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  says("LOOM_ENCRYPTION_");
  config.encryption = LOOM_ENCRYPTION_OFF;
  config.part_ms = 40;
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  says("40ms");
  config.part_ms = 1000; /* of a segment of at least 800 ms */
  config.segment_ms = 1000;
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  config.part_ms = 0;
  config.segment_ms = 6000;
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  config.segment_ms = 0;
  config.udp = "somewhere";
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  says("somewhere");
  config.udp = NULL;
  config.announce = "192.0.2.1,somewhere";
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  says("config.announce");
  config.announce = NULL;
  config.rungs = "360:800000";
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  says("config.rungs: LOOM_LADDER_SOURCE has none");
  config.ladder = LOOM_LADDER_FULL;
  config.rungs = "360:800000,240";
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  says("\"240\" is no LINES:BITS");
  config.rungs = NULL;
  config.ladder = LOOM_LADDER_SOURCE;
  config.loudness = 3;
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  says("config.loudness is 3; it is -40 to -5 LUFS");
  config.loudness = 0;
  config.live_cores = -1;
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  says("config.live_cores");
  config.live_cores = 0;
  config.suppress_noise = 2;
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  config.suppress_noise = 0;
  config.thumbnails = 2;
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  config.thumbnails = LOOM_THUMBNAILS_ON;
  config.text = 2;
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  config.text = LOOM_TEXT_WEBVTT;
  config.caption_threads = 65;
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  says("config.caption_threads");
  config.caption_threads = 0;
  config.window = "dvr-forever";
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_ARGUMENT);
  says("config.window");
  config.window = NULL;
  config.udp = "192.0.2.1:1"; /* an address that no machine has (RFC 5737) */
  config.data_dir = folder;
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_IO);
  config.udp = NULL;
  config.data_dir = "/proc/nowhere";
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_IO);
  says("/proc/nowhere");
  config.data_dir = "\xff";
  EXPECT(loom_engine_start(&config, &engine), LOOM_ERROR_TEXT);
  says("config.data_dir");
  TRUE(engine == NULL);
  EXPECT(loom_log_set(log_line, NULL, "a=b=c"), LOOM_ERROR_ARGUMENT);
}

int main(int argc, char **argv) {
  TRUE(argc == 2);
  TRUE(loom_last_error()[0] == '\0');
  configuration(argv[1]);
  loom_engine *engine = start(argv[1]);
  loom_recording *recording = NULL, *other = NULL;
  loom_bytes *bytes = NULL, *more = NULL;
  loom_pusher *pusher = NULL;
  loom_events *events = NULL;
  loom_response *response = NULL;
  int32_t state = 0;
  bool wanted = false;
  CHECK(loom_recording_create(engine, "one", &recording));
  EXPECT(loom_recording_create(engine, "one", &other), LOOM_ERROR_EXISTS);
  EXPECT(loom_recording_create(engine, "No Name", &other), LOOM_ERROR_ARGUMENT);
  says("No Name");
  EXPECT(loom_recording_create(engine, "\xc3(", &other), LOOM_ERROR_TEXT);
  EXPECT(loom_recording_open(engine, "two", &other), LOOM_ERROR_NOT_FOUND);
  EXPECT(loom_recording_open(engine, "../one", &other), LOOM_ERROR_ARGUMENT);
  TRUE(other == NULL);

  EXPECT(loom_recording_publish(recording, "no offer", NULL, &bytes, &more), LOOM_ERROR_MEDIA);
  EXPECT(loom_recording_publish(recording, "no offer", "192.0.2", &bytes, &more), LOOM_ERROR_ARGUMENT);
  says("192.0.2");
  EXPECT(loom_recording_join(recording, "phone", "no offer", NULL, &bytes, &more), LOOM_ERROR_MEDIA);
  EXPECT(loom_recording_join(recording, "My phone", "no offer", NULL, &bytes, &more), LOOM_ERROR_ARGUMENT);
  says("My phone");
  EXPECT(loom_recording_hang_up(recording, "nobody"), LOOM_ERROR_NOT_FOUND);
  EXPECT(loom_recording_pause(recording), LOOM_ERROR_STATE);
  EXPECT(loom_recording_resume(recording), LOOM_ERROR_STATE);
  EXPECT(loom_recording_cancel(recording), LOOM_ERROR_STATE);
  EXPECT(loom_recording_wait(recording, 20, &state), LOOM_TIMEOUT);
  EXPECT(loom_recording_export(recording, argv[1]), LOOM_ERROR_NOT_READY);
  EXPECT(loom_recording_download(recording, argv[1]), LOOM_ERROR_NOT_READY);
  EXPECT(loom_recording_transcript(recording, LOOM_TRANSCRIPT_VTT, &bytes), LOOM_ERROR_NOT_READY);
  EXPECT(loom_recording_transcript(recording, 4, &bytes), LOOM_ERROR_ARGUMENT);
  EXPECT(loom_recording_transcript_version(recording, 1, LOOM_TRANSCRIPT_TXT, &bytes), LOOM_ERROR_NOT_FOUND);
  EXPECT(loom_recording_transcript_version(recording, 1, 4, &bytes), LOOM_ERROR_ARGUMENT);
  EXPECT(loom_recording_correct(recording, 1, "[{\"segment\": 0, \"text\": \"a\"}]", &bytes), LOOM_ERROR_STATE);
  EXPECT(loom_recording_correct(recording, 1, "[{}]", &bytes), LOOM_ERROR_ARGUMENT);
  says("corrections: ");
  EXPECT(loom_recording_correct(recording, 1, NULL, &bytes), LOOM_ERROR_NULL);
  EXPECT(loom_recording_restore_transcript(recording, 2, 1, &bytes), LOOM_ERROR_STATE);
  CHECK(loom_recording_transcript_versions(recording, &bytes));
  TRUE(loom_bytes_size(bytes) == 2); /* [] */
  loom_bytes_free(bytes);
  EXPECT(loom_recording_mark(recording, 0, "too early"), LOOM_ERROR_NOT_READY);
  EXPECT(loom_recording_etag(recording, "nobody", &bytes), LOOM_ERROR_NOT_FOUND);
  EXPECT(loom_recording_set_class(recording, 4), LOOM_ERROR_ARGUMENT);
  EXPECT(loom_recording_set_class(recording, LOOM_CLASS_COLD), LOOM_ERROR_NOT_READY);
  CHECK(loom_recording_stored(recording)); /* there is no store to wait for */
  CHECK(loom_recording_patch(recording, "nobody", "*", "a=mid:0\r\n", &response));
  TRUE(loom_response_status(response) == 404);
  TRUE(strcmp(loom_response_content_type(response), "application/problem+json") == 0);
  loom_response_free(response);
  CHECK(loom_recording_hls(recording, "main.m3u8", "_HLS_msn=x", NULL, &response));
  TRUE(loom_response_status(response) >= 400);
  loom_response_free(response);

  loom_track tracks[3] = {
      {.kind = LOOM_TRACK_OPUS, .channels = 2},
      {.kind = LOOM_TRACK_PICTURES, .width = 160, .height = 120, .frame_rate = 25},
      {.kind = LOOM_TRACK_SOUND, .sample_rate = 48000, .channels = 2},
  };
  loom_track bad = {.kind = 99};
  EXPECT(loom_pusher_open(recording, &bad, 1, &pusher), LOOM_ERROR_ARGUMENT);
  bad.kind = LOOM_TRACK_AAC;
  EXPECT(loom_pusher_open(recording, &bad, 1, &pusher), LOOM_ERROR_MEDIA);
  bad.kind = LOOM_TRACK_OPUS;
  bad.channels = 70000;
  EXPECT(loom_pusher_open(recording, &bad, 1, &pusher), LOOM_ERROR_MEDIA);
  EXPECT(loom_pusher_open(recording, NULL, 0, &pusher), LOOM_ERROR_MEDIA);
  TRUE(pusher == NULL);
  CHECK(loom_pusher_open(recording, tracks, 3, &pusher));
  CHECK(loom_events_open(recording, NULL, NULL, &events));
  null(engine, recording, pusher, events);

  uint8_t plane[160 * 120];
  memset(plane, 128, sizeof plane);
  loom_picture narrow = {{plane, plane, plane}, {100, 80, 80}};
  loom_picture wide = {{plane, plane, plane}, {SIZE_MAX, 80, 80}};
  float samples[4] = {0};
  CHECK(loom_pusher_packet(pusher, 0, 0, 0, SILENCE, 3));
  EXPECT(loom_pusher_packet(pusher, 0, 0, 0, SILENCE, 3), LOOM_ERROR_MEDIA);
  says("not later");
  EXPECT(loom_pusher_packet(pusher, 0, -MS, -MS, SILENCE, 3), LOOM_ERROR_MEDIA);
  EXPECT(loom_pusher_packet(pusher, 0, INT64_MIN, INT64_MIN, SILENCE, 3), LOOM_ERROR_MEDIA);
  EXPECT(loom_pusher_packet(pusher, 0, INT64_MAX, INT64_MAX, SILENCE, 3), LOOM_ERROR_MEDIA);
  EXPECT(loom_pusher_packet(pusher, 0, 20 * MS, 40 * MS, SILENCE, 3), LOOM_ERROR_MEDIA);
  EXPECT(loom_pusher_packet(pusher, 0, 20 * MS, 20 * MS, SILENCE, 0), LOOM_ERROR_MEDIA);
  int released = 0;
  EXPECT(loom_pusher_give_packet(pusher, 0, 0, 0, SILENCE, 3, count_release, &released), LOOM_ERROR_MEDIA);
  TRUE(released == 1);
  EXPECT(loom_pusher_packet(pusher, 1, 20 * MS, 20 * MS, SILENCE, 3), LOOM_ERROR_MEDIA);
  EXPECT(loom_pusher_packet(pusher, 3, 20 * MS, 20 * MS, SILENCE, 3), LOOM_ERROR_MEDIA);
  EXPECT(loom_pusher_picture(pusher, 1, 20 * MS, &narrow), LOOM_ERROR_MEDIA);
  says("plane 0 has rows of 100 bytes");
  narrow.planes[0] = NULL; /* its strides are looked at first */
  EXPECT(loom_pusher_picture(pusher, 1, 20 * MS, &narrow), LOOM_ERROR_MEDIA);
  EXPECT(loom_pusher_picture(pusher, 1, 20 * MS, &wide), LOOM_ERROR_MEDIA);
  EXPECT(loom_pusher_picture(pusher, 9, 20 * MS, &narrow), LOOM_ERROR_MEDIA);
  EXPECT(loom_pusher_sound(pusher, 2, 20 * MS, samples, 3), LOOM_ERROR_MEDIA);
  EXPECT(loom_pusher_sound(pusher, 2, 20 * MS, samples, 0), LOOM_ERROR_MEDIA);
  EXPECT(loom_pusher_wants_key_frame(pusher, 3, &wanted), LOOM_ERROR_ARGUMENT);
  loom_result pushed = LOOM_OK;
  for (int at = 1; at < 3000 && pushed == LOOM_OK; at++) {
    pushed = loom_pusher_packet(pusher, 0, at * 20 * MS, at * 20 * MS, SILENCE, 3);
  }
  EXPECT(pushed, LOOM_BEHIND);
  says("counted from 0"); /* what was an error before */
  EXPECT(loom_recording_import(recording, argv[0]), LOOM_ERROR_STATE);
  CHECK(loom_recording_stop(recording));
  EXPECT(loom_pusher_packet(pusher, 0, INT64_C(600000) * MS, INT64_C(600000) * MS, SILENCE, 3), LOOM_ERROR_STATE);
  loom_pusher_free(pusher);
  while (loom_events_next(events, 5000, &bytes) == LOOM_OK) loom_bytes_free(bytes);
  EXPECT(loom_events_next(events, 10, &bytes), LOOM_END);
  loom_events_free(events);
  loom_recording_free(recording);

  char path[4096];
  snprintf(path, sizeof path, "%s/no-media", argv[1]);
  FILE *file = fopen(path, "w");
  TRUE(file != NULL);
  fputs("this is no media\n", file);
  fclose(file);
  CHECK(loom_recording_create(engine, "file", &recording));
  EXPECT(loom_recording_import(recording, path), LOOM_ERROR_MEDIA);
  CHECK(loom_recording_state(recording, &state));
  TRUE(state == LOOM_STATE_FAILED);
  loom_recording_free(recording);
  TRUE(strcmp(loom_result_name(LOOM_ERROR_NULL), "LOOM_ERROR_NULL") == 0);
  TRUE(strcmp(loom_result_name(12345), "unknown") == 0);
  loom_engine_free(engine);
  puts("errors: ok");
  return 0;
}
