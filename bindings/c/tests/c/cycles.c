/* Opens and closes everything, again and again, and takes no more memory for it. `cycles FOLDER [RECORDINGS] [ENGINES]` */
#include "check.h"

#include <sys/resource.h>

static long peak(void) {
  struct rusage use;
  getrusage(RUSAGE_SELF, &use);
  return use.ru_maxrss; /* KiB */
}

static void cycle(loom_engine *engine) {
  loom_recording *recording = NULL;
  loom_events *events = NULL;
  loom_pusher *pusher = NULL;
  loom_bytes *json = NULL;
  loom_response *response = NULL;
  loom_track track = {.kind = LOOM_TRACK_OPUS, .channels = 1};
  CHECK(loom_recording_create(engine, NULL, &recording));
  CHECK(loom_events_open(recording, NULL, NULL, &events));
  CHECK(loom_pusher_open(recording, &track, 1, &pusher));
  CHECK(loom_pusher_packet(pusher, 0, 0, 0, SILENCE, sizeof SILENCE));
  EXPECT(loom_pusher_packet(pusher, 0, 0, 0, SILENCE, sizeof SILENCE), LOOM_ERROR_MEDIA);
  CHECK(loom_recording_info(recording, &json));
  CHECK(loom_recording_hls(recording, "nothing", NULL, NULL, &response));
  loom_bytes_free(json);
  loom_response_free(response);
  CHECK(loom_events_next(events, 5000, &json));
  loom_bytes_free(json);
  loom_pusher_free(pusher);
  loom_events_free(events);
  CHECK(loom_recording_delete(recording));
  loom_recording_free(recording);
}

int main(int argc, char **argv) {
  TRUE(argc >= 2);
  int recordings = argc > 2 ? atoi(argv[2]) : 50, engines = argc > 3 ? atoi(argv[3]) : 3;
  for (int at = 0; at < engines; at++) {
    loom_engine *engine = start(argv[1]);
    cycle(engine);
    loom_engine_free(engine);
  }
  loom_engine *engine = start(argv[1]);
  long before = 0;
  for (int at = 0; at < recordings; at++) {
    cycle(engine);
    if (at == recordings / 2) before = peak();
  }
  loom_engine_free(engine);
#ifndef __SANITIZE_ADDRESS__ /* which keeps what was freed for a while */
  if (recordings >= 1000) TRUE(peak() - before < 4096);
#endif
  printf("cycles: ok, %d recordings, %d engines, %ld KiB at the half, %ld KiB at the end\n", recordings, engines, before,
         peak());
  return 0;
}
