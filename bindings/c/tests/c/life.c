/* A recording's whole life: a WHIP offer, pushed media, its stream, events, the end. `life FOLDER OFFER.sdp [SECONDS]` */
#include "check.h"

#include <stdatomic.h>

enum { WIDTH = 160, HEIGHT = 120, RATE = 25 };

static atomic_int wakes;

static void wake(void *user) {
  TRUE(user == &wakes);
  atomic_fetch_add(&wakes, 1);
}

static atomic_int lines;

static void log_line(void *user, int32_t level, const char *line) {
  (void)user;
  TRUE(level >= 1 && level <= 5 && line != NULL);
  atomic_fetch_add(&lines, 1);
}

/* packets that were given away, less those that came back */
static atomic_int given;

static void give_back(void *user) {
  memset(user, 0, sizeof SILENCE); /* whoever still reads it gets something else */
  free(user);
  atomic_fetch_sub(&given, 1);
}

static void give(loom_pusher *pusher, int64_t at) {
  uint8_t *packet = malloc(sizeof SILENCE);
  memcpy(packet, SILENCE, sizeof SILENCE);
  atomic_fetch_add(&given, 1);
  CHECK(loom_pusher_give_packet(pusher, 1, at, at, packet, sizeof SILENCE, give_back, packet));
}

static loom_response *patch(loom_recording *recording, const char *session, const char *if_match, const char *fragment,
                            int status) {
  loom_response *response = NULL;
  CHECK(loom_recording_patch(recording, session, if_match, fragment, &response));
  TRUE(loom_response_status(response) == status);
  return response;
}

/* Candidates, and an ICE restart (RFC 9725 section 4.3). */
static void patches(loom_recording *recording, const char *session) {
  const char *trickle = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
                        "a=candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host\r\n";
  const char *restart = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=ice-ufrag:ysXw\r\n"
                        "a=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n";
  loom_bytes *before = NULL, *after = NULL;
  CHECK(loom_recording_etag(recording, session, &before));
  TRUE(loom_bytes_size(before) > 2 && loom_bytes_data(before)[0] == '"');
  loom_response_free(patch(recording, session, NULL, trickle, 428));
  loom_response_free(patch(recording, session, "\"another\"", trickle, 412));
  loom_response_free(patch(recording, session, "*", "no fragment", 400));
  loom_response_free(patch(recording, "nobody", "*", restart, 404));
  loom_response *taken = patch(recording, session, loom_bytes_data(before), trickle, 204);
  TRUE(loom_response_size(taken) == 0 && loom_response_etag(taken) == NULL);
  loom_response_free(taken);
  loom_response *restarted = patch(recording, session, "*", restart, 200);
  TRUE(strcmp(loom_response_content_type(restarted), "application/trickle-ice-sdpfrag") == 0);
  const char *ours = "a=ice-ufrag:";
  bool told = false;
  for (size_t at = 0; at + strlen(ours) <= loom_response_size(restarted); at++) {
    told |= memcmp(loom_response_data(restarted) + at, ours, strlen(ours)) == 0;
  }
  TRUE(told);
  CHECK(loom_recording_etag(recording, session, &after));
  TRUE(strcmp(loom_bytes_data(after), loom_response_etag(restarted)) == 0);
  TRUE(strcmp(loom_bytes_data(after), loom_bytes_data(before)) != 0);
  loom_response_free(patch(recording, session, loom_bytes_data(before), trickle, 412));
  loom_response_free(restarted);
  loom_bytes_free(before);
  loom_bytes_free(after);
}

/* Where offers come from, of which one session may be open. */
static const char *const VIEWER = "192.0.2.9";

/* Another publisher, from the same address and from others. */
static void join(loom_recording *recording, const char *offer) {
  loom_bytes *answer = NULL, *session = NULL, *etag = NULL;
  EXPECT(loom_recording_join(recording, "phone", offer, VIEWER, &answer, &session), LOOM_ERROR_FULL);
  TRUE(strstr(loom_last_error(), VIEWER) != NULL && answer == NULL && session == NULL);
  CHECK(loom_recording_join(recording, "phone", offer, "2001:db8::9", &answer, &session));
  TRUE(strstr(loom_bytes_data(answer), "a=recvonly") != NULL);
  CHECK(loom_recording_etag(recording, loom_bytes_data(session), &etag));
  int32_t state = -1;
  CHECK(loom_recording_hang_up(recording, loom_bytes_data(session)));
  EXPECT(loom_recording_wait(recording, 50, &state), LOOM_TIMEOUT); /* that ended nothing else */
  loom_bytes_free(etag);
  loom_bytes_free(answer);
  loom_bytes_free(session);
}

/* A publisher that offers and never connects. */
static void whip(loom_engine *engine, const char *path) {
  loom_recording *recording = NULL;
  loom_bytes *answer = NULL, *session = NULL;
  char *offer = read_file(path);
  CHECK(loom_recording_create(engine, NULL, &recording));
  CHECK(loom_recording_publish(recording, offer, VIEWER, &answer, &session));
  TRUE(strncmp(loom_bytes_data(answer), "v=0", 3) == 0);
  TRUE(strstr(loom_bytes_data(answer), " 203.0.113.7 ") != NULL); /* as it was announced */
  TRUE(loom_bytes_size(answer) == strlen(loom_bytes_data(answer)));
  TRUE(strstr(loom_bytes_data(answer), "a=recvonly") != NULL);
  patches(recording, loom_bytes_data(session));
  join(recording, offer);
  EXPECT(loom_recording_hang_up(recording, "nobody"), LOOM_ERROR_NOT_FOUND);
  CHECK(loom_recording_hang_up(recording, loom_bytes_data(session)));
  int32_t state = -1;
  CHECK(loom_recording_wait(recording, 30000, &state));
  TRUE(state == LOOM_STATE_FAILED);
  loom_bytes_free(answer);
  loom_bytes_free(session);
  loom_recording_free(recording);
  free(offer);
}

static bool fetch(loom_recording *recording, const char *path, const char *type, const char *part) {
  loom_response *response = NULL;
  CHECK(loom_recording_hls(recording, path, NULL, NULL, &response));
  bool there = loom_response_status(response) == 200;
  if (there) {
    TRUE(loom_response_size(response) > 0 && loom_response_data(response) != NULL);
    TRUE(strcmp(loom_response_content_type(response), type) == 0);
    TRUE(loom_response_cache_control(response)[0] != '\0');
    TRUE(loom_response_size(response) >= strlen(part));
    TRUE(memcmp(loom_response_data(response), part, strlen(part)) == 0);
  }
  loom_response_free(response);
  return there;
}

/* A range of a segment is those bytes of the whole (RFC 9110 section 14). */
static void ranges(loom_recording *recording, const char *path) {
  loom_response *whole = NULL, *part = NULL;
  char wanted[100];
  CHECK(loom_recording_hls(recording, path, NULL, NULL, &whole));
  size_t size = loom_response_size(whole);
  TRUE(loom_response_status(whole) == 200 && size > 200 && loom_response_content_range(whole) == NULL);
  CHECK(loom_recording_hls(recording, path, NULL, "bytes=100-149", &part));
  snprintf(wanted, sizeof wanted, "bytes 100-149/%zu", size);
  TRUE(loom_response_status(part) == 206 && loom_response_size(part) == 50);
  TRUE(strcmp(loom_response_content_range(part), wanted) == 0);
  TRUE(memcmp(loom_response_data(part), loom_response_data(whole) + 100, 50) == 0);
  loom_response_free(part);
  CHECK(loom_recording_hls(recording, path, NULL, "bytes=-10", &part));
  TRUE(loom_response_status(part) == 206 && loom_response_size(part) == 10);
  TRUE(memcmp(loom_response_data(part), loom_response_data(whole) + size - 10, 10) == 0);
  loom_response_free(part);
  snprintf(wanted, sizeof wanted, "bytes=%zu-", size);
  CHECK(loom_recording_hls(recording, path, NULL, wanted, &part));
  snprintf(wanted, sizeof wanted, "bytes */%zu", size);
  TRUE(loom_response_status(part) == 416 && strcmp(loom_response_content_range(part), wanted) == 0);
  loom_response_free(part);
  CHECK(loom_recording_hls(recording, path, NULL, "lines=1-2", &part));
  TRUE(loom_response_status(part) == 200 && loom_response_size(part) == size);
  loom_response_free(part);
  loom_response_free(whole);
}

/* Screen and camera in one picture: asked for, waited for, played and written. */
static void compose(loom_recording *recording, const char *folder) {
  char path[4096];
  snprintf(path, sizeof path, "%s/both.mp4", folder);
  EXPECT(loom_recording_download_composition(recording, path), LOOM_ERROR_NOT_READY);
  EXPECT(loom_recording_restart_job(recording, "composition"), LOOM_ERROR_NOT_FOUND);
  EXPECT(loom_recording_restart_job(recording, "dinner"), LOOM_ERROR_ARGUMENT);
  EXPECT(loom_recording_lay_out(recording, "{\"placements\": [{\"size\": 7}]}"), LOOM_ERROR_ARGUMENT);
  TRUE(strstr(loom_last_error(), "placements[0].size is 7") != NULL);
  EXPECT(loom_recording_lay_out(recording, "no JSON"), LOOM_ERROR_ARGUMENT);
  CHECK(loom_recording_lay_out(recording, NULL));
  for (bool done = false; !done; rest(20)) {
    loom_bytes *jobs = NULL;
    CHECK(loom_recording_jobs(recording, &jobs));
    const char *job = strstr(loom_bytes_data(jobs), "\"job\":\"composition\"");
    TRUE(job != NULL && strstr(job, "\"parked\"") == NULL);
    done = strstr(job, "\"state\":\"done\"") != NULL;
    loom_bytes_free(jobs);
  }
  loom_bytes *json = NULL;
  CHECK(loom_recording_info(recording, &json));
  TRUE(strstr(loom_bytes_data(json), "\"playlist\":\"composition.m3u8\"") != NULL);
  loom_bytes_free(json);
  TRUE(fetch(recording, "composition.m3u8", "application/vnd.apple.mpegurl", "#EXTM3U"));
  TRUE(fetch(recording, "composition.mpd", "application/dash+xml", "<?xml"));
  CHECK(loom_recording_download_composition(recording, path));
}

static void push(loom_engine *engine, const char *folder, int seconds) {
  loom_recording *recording = NULL;
  CHECK(loom_recording_create(engine, "life", &recording));
  TRUE(strcmp(loom_recording_id(recording), "life") == 0);
  loom_events *events = NULL;
  CHECK(loom_events_open(recording, wake, &wakes, &events));

  loom_track tracks[3] = {
      {.kind = LOOM_TRACK_PICTURES, .width = WIDTH, .height = HEIGHT, .frame_rate = RATE},
      {.kind = LOOM_TRACK_OPUS, .channels = 2},
      {.kind = LOOM_TRACK_PICTURES, .width = WIDTH / 2, .height = HEIGHT / 2, .frame_rate = RATE},
  };
  loom_pusher *pusher = NULL;
  CHECK(loom_pusher_open(recording, tracks, 3, &pusher));
  uint8_t *luma = malloc(WIDTH * HEIGHT), *chroma = malloc(WIDTH * HEIGHT / 4);
  memset(chroma, 128, WIDTH * HEIGHT / 4);
  bool seen = false;
  for (int at = 0; at < seconds * RATE; at++) {
    memset(luma, 60 + at % 100, WIDTH * HEIGHT);
    memset(luma, 200, (size_t)WIDTH * (at % HEIGHT));
    loom_picture picture = {{luma, chroma, chroma}, {WIDTH, WIDTH / 2, WIDTH / 2}};
    loom_result pushed = loom_pusher_picture(pusher, 0, at * 40 * MS, &picture);
    TRUE(pushed == LOOM_OK || pushed == LOOM_BEHIND);
    loom_picture camera = {{luma, chroma, chroma}, {WIDTH, WIDTH / 2, WIDTH / 2}};
    pushed = loom_pusher_picture(pusher, 2, at * 40 * MS, &camera);
    TRUE(pushed == LOOM_OK || pushed == LOOM_BEHIND);
    CHECK(loom_pusher_packet(pusher, 1, at * 40 * MS, at * 40 * MS, SILENCE, sizeof SILENCE));
    give(pusher, (at * 40 + 20) * MS);
    if (at == RATE * 2) CHECK(loom_recording_mark(recording, -1, "A chapter"));
    if (at % RATE == RATE / 2) seen |= fetch(recording, "main.m3u8", "application/vnd.apple.mpegurl", "#EXTM3U");
    rest(40);
  }
  bool wanted = true;
  CHECK(loom_pusher_wants_key_frame(pusher, 1, &wanted));
  TRUE(!wanted);
  loom_pusher_free(pusher);
  free(luma);
  free(chroma);

  int32_t state = -1;
  CHECK(loom_recording_wait(recording, 60000, &state));
  TRUE(state == LOOM_STATE_READY);
  TRUE(seen && fetch(recording, "source/index.m3u8", "application/vnd.apple.mpegurl", "#EXTM3U"));
  TRUE(!fetch(recording, "nothing.m3u8", "", ""));
  ranges(recording, "source/s1.m4s");

  int told = 0, states = 0, chapters = 0;
  loom_bytes *event = NULL;
  loom_result next;
  while ((next = loom_events_next(events, 5000, &event)) == LOOM_OK) {
    states += strstr(loom_bytes_data(event), "\"event\":\"state\"") != NULL;
    chapters += strstr(loom_bytes_data(event), "A chapter") != NULL;
    told++;
    loom_bytes_free(event);
  }
  EXPECT(next, LOOM_END);
  EXPECT(loom_events_next(events, 0, &event), LOOM_END);
  TRUE(states >= 2 && chapters == 1 && told >= 4);
  TRUE(atomic_load(&wakes) >= told);
  loom_events_free(events);

  char path[4096];
  snprintf(path, sizeof path, "%s/export", folder);
  CHECK(loom_recording_export(recording, path));
  snprintf(path, sizeof path, "%s/life.mp4", folder);
  CHECK(loom_recording_download(recording, path));
  compose(recording, folder);
  loom_bytes *json = NULL;
  CHECK(loom_recording_info(recording, &json));
  TRUE(strstr(loom_bytes_data(json), "\"state\":\"ready\"") != NULL);
  loom_bytes_free(json);
  EXPECT(loom_recording_transcript(recording, LOOM_TRANSCRIPT_TXT, &json), LOOM_ERROR_NOT_READY);
  EXPECT(loom_pusher_open(recording, tracks, 3, &pusher), LOOM_ERROR_STATE);
  loom_recording_free(recording);

  /* from disk again, then a file, then away with it */
  CHECK(loom_recording_open(engine, "life", &recording));
  loom_recording *made = NULL;
  CHECK(loom_recording_create(engine, "again", &made));
  CHECK(loom_recording_import(made, path));
  CHECK(loom_recording_wait(made, 120000, &state));
  TRUE(state == LOOM_STATE_READY);
  EXPECT(loom_recording_cancel(made), LOOM_ERROR_STATE);
  CHECK(loom_recording_delete(made));
  CHECK(loom_recording_delete(recording));
  loom_recording_free(made);
  loom_recording_free(recording);
  EXPECT(loom_recording_open(engine, "life", &recording), LOOM_ERROR_NOT_FOUND);
}

int main(int argc, char **argv) {
  TRUE(argc >= 3);
  TRUE(loom_abi_version() == LOOM_ABI_VERSION);
  TRUE(strlen(loom_version()) >= 5);
  CHECK(loom_log_set(log_line, NULL, "info"));
  EXPECT(loom_log_set(log_line, NULL, "info"), LOOM_ERROR_EXISTS);
  loom_engine_config config = configured(argv[1]);
  config.announce = "203.0.113.7, 2001:db8::7";
  config.max_per_address = 1;
  loom_engine *engine = NULL;
  CHECK(loom_engine_start(&config, &engine));
  int32_t captions = -1;
  loom_bytes *note = NULL;
  CHECK(loom_engine_captions(engine, 1000, &captions, &note));
  TRUE(captions == LOOM_CAPTIONS_OFF && loom_bytes_size(note) > 0);
  loom_bytes_free(note);
  whip(engine, argv[2]);
  push(engine, argv[1], argc > 3 ? atoi(argv[3]) : 4);
  CHECK(loom_engine_stop(engine));
  loom_engine_free(engine);
  TRUE(given == 0);
  TRUE(atomic_load(&lines) > 0);
  puts("life: ok");
  return 0;
}
