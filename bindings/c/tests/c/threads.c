/* Many threads use one engine and one recording at once. `threads FOLDER [SECONDS]` */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

enum { WIDTH = 160, HEIGHT = 120, RATE = 25 };

static loom_engine *engine;
static loom_recording *recording;
static loom_pusher *pusher;
static int seconds = 4;
static atomic_bool over;
static atomic_int lines, answers, told;

static void log_line(void *user, int32_t level, const char *line) {
  TRUE(user == &lines && level >= 1 && line[0] != '\0');
  atomic_fetch_add(&lines, 1);
}

static void *pictures(void *nothing) {
  (void)nothing;
  uint8_t *luma = malloc(WIDTH * HEIGHT), *chroma = malloc(WIDTH * HEIGHT / 4);
  memset(chroma, 128, WIDTH * HEIGHT / 4);
  for (int at = 0; at < seconds * RATE; at++) {
    memset(luma, 60 + at % 100, WIDTH * HEIGHT);
    loom_picture picture = {{luma, chroma, chroma}, {WIDTH, WIDTH / 2, WIDTH / 2}};
    loom_result pushed = loom_pusher_picture(pusher, 0, at * 40 * MS, &picture);
    TRUE(pushed == LOOM_OK || pushed == LOOM_BEHIND);
    rest(40);
  }
  free(luma);
  free(chroma);
  return NULL;
}

static void *sound(void *nothing) {
  (void)nothing;
  for (int at = 0; at < seconds * 50; at++) {
    uint8_t *packet = malloc(sizeof SILENCE); /* which is free again when the call returns */
    memcpy(packet, SILENCE, sizeof SILENCE);
    CHECK(loom_pusher_packet(pusher, 1, at * 20 * MS, at * 20 * MS, packet, sizeof SILENCE));
    free(packet);
    bool wanted = false;
    CHECK(loom_pusher_wants_key_frame(pusher, 1, &wanted));
    rest(20);
  }
  return NULL;
}

/* What a wake callback is handed: of one reader, and gone with it. It is handed over under its own mutex, both ways: ThreadSanitizer knows
 * nothing of the library's. */
struct bell {
  pthread_mutex_t mutex;
  pthread_cond_t rung;
  int rings;
};

static void wake(void *user);

static struct bell *hang(loom_events **events) {
  struct bell *bell = malloc(sizeof *bell);
  *bell = (struct bell){PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
  pthread_mutex_lock(&bell->mutex);
  bell->rings = 0;
  CHECK(loom_events_open(recording, wake, bell, events));
  pthread_mutex_unlock(&bell->mutex);
  return bell;
}

/* Nobody is woken any more once it returns. */
static void take_down(struct bell *bell, loom_events *events) {
  loom_events_free(events);
  pthread_mutex_lock(&bell->mutex);
  bell->rings = -1;
  pthread_mutex_unlock(&bell->mutex);
  free(bell);
}

static void wake(void *user) {
  struct bell *bell = user;
  pthread_mutex_lock(&bell->mutex);
  TRUE(bell->rings >= 0);
  bell->rings++;
  pthread_cond_signal(&bell->rung);
  pthread_mutex_unlock(&bell->mutex);
}

/* Polls when it is woken, to the end. */
static void *read_events(void *nothing) {
  (void)nothing;
  loom_events *events = NULL;
  struct bell *bell = hang(&events);
  for (loom_result next = LOOM_OK; next != LOOM_END;) {
    pthread_mutex_lock(&bell->mutex);
    while (bell->rings == 0) pthread_cond_wait(&bell->rung, &bell->mutex);
    bell->rings--;
    pthread_mutex_unlock(&bell->mutex);
    loom_bytes *event = NULL;
    while ((next = loom_events_next(events, 0, &event)) == LOOM_OK) {
      atomic_fetch_add(&told, (int)(loom_bytes_size(event) > 0));
      loom_bytes_free(event);
    }
  }
  take_down(bell, events);
  return NULL;
}

/* Opens readers and leaves them again, in the middle of being woken. */
static void *come_and_go(void *nothing) {
  (void)nothing;
  while (!atomic_load(&over)) {
    loom_events *events = NULL;
    struct bell *bell = hang(&events);
    rest(1);
    take_down(bell, events);
  }
  return NULL;
}

/* Asks for what players ask, by a handle of its own. */
static void *view(void *nothing) {
  (void)nothing;
  loom_recording *own = NULL;
  CHECK(loom_recording_open(engine, "threads", &own));
  while (!atomic_load(&over)) {
    static const char *const paths[] = {"main.m3u8", "source/index.m3u8", "source/s1.m4s", "nothing"};
    for (int at = 0; at < 4; at++) {
      loom_response *response = NULL;
      CHECK(loom_recording_hls(own, paths[at], NULL, at == 2 ? "bytes=0-99" : NULL, &response));
      if (loom_response_status(response) / 100 == 2) atomic_fetch_add(&answers, 1);
      loom_response_free(response);
    }
    loom_bytes *json = NULL;
    int32_t state = -1;
    CHECK(loom_recording_info(own, &json));
    CHECK(loom_recording_state(own, &state));
    loom_bytes_free(json);
    EXPECT(loom_recording_hang_up(own, "nobody"), LOOM_ERROR_NOT_FOUND);
    TRUE(strstr(loom_last_error(), "nobody") != NULL); /* of this thread */
    rest(5);
  }
  loom_recording_free(own);
  return NULL;
}

/* Other recordings begin and end meanwhile. */
static void *others(void *nothing) {
  (void)nothing;
  while (!atomic_load(&over)) {
    loom_recording *other = NULL;
    loom_pusher *line = NULL;
    loom_track track = {.kind = LOOM_TRACK_OPUS, .channels = 1};
    CHECK(loom_recording_create(engine, NULL, &other));
    CHECK(loom_pusher_open(other, &track, 1, &line));
    CHECK(loom_pusher_packet(line, 0, 0, 0, SILENCE, sizeof SILENCE));
    loom_pusher_free(line);
    CHECK(loom_recording_delete(other));
    loom_recording_free(other);
  }
  return NULL;
}

/* Has it rest and go on. */
static void *pause_once(void *nothing) {
  (void)nothing;
  rest(1500);
  CHECK(loom_recording_pause(recording));
  rest(200);
  CHECK(loom_recording_resume(recording));
  CHECK(loom_recording_mark(recording, -1, "Again"));
  return NULL;
}

int main(int argc, char **argv) {
  TRUE(argc >= 2);
  if (argc > 2) seconds = atoi(argv[2]);
  CHECK(loom_log_set(log_line, &lines, "info"));
  engine = start(argv[1]);
  CHECK(loom_recording_create(engine, "threads", &recording));
  loom_track tracks[2] = {
      {.kind = LOOM_TRACK_PICTURES, .width = WIDTH, .height = HEIGHT, .frame_rate = RATE},
      {.kind = LOOM_TRACK_OPUS, .channels = 2},
  };
  CHECK(loom_pusher_open(recording, tracks, 2, &pusher));
  void *(*const until_over[])(void *) = {come_and_go, others, view, view, view};
  void *(*const to_the_end[])(void *) = {read_events, read_events, read_events};
  void *(*const pushing[])(void *) = {pictures, sound, pause_once};
  pthread_t first[5], second[3], third[3];
  for (int at = 0; at < 5; at++) TRUE(pthread_create(&first[at], NULL, until_over[at], NULL) == 0);
  for (int at = 0; at < 3; at++) TRUE(pthread_create(&second[at], NULL, to_the_end[at], NULL) == 0);
  for (int at = 0; at < 3; at++) TRUE(pthread_create(&third[at], NULL, pushing[at], NULL) == 0);
  for (int at = 0; at < 3; at++) TRUE(pthread_join(third[at], NULL) == 0);
  loom_pusher_free(pusher);
  int32_t state = -1;
  CHECK(loom_recording_wait(recording, 60000, &state));
  TRUE(state == LOOM_STATE_READY);
  atomic_store(&over, true);
  for (int at = 0; at < 5; at++) TRUE(pthread_join(first[at], NULL) == 0);
  for (int at = 0; at < 3; at++) TRUE(pthread_join(second[at], NULL) == 0);
  TRUE(atomic_load(&told) > 9 && atomic_load(&answers) > 9 && atomic_load(&lines) > 0);
  loom_recording_free(recording);
  CHECK(loom_engine_stop(engine));
  loom_engine_free(engine);
  printf("threads: ok, %d events, %d answers\n", atomic_load(&told), atomic_load(&answers));
  return 0;
}
