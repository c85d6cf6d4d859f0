/* Several threads read one recording's events, and a callback makes a call that waits. `readers FOLDER` */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

static loom_recording *recording;
static loom_events *events;
static atomic_bool told;
static atomic_int refused = -1;

/* Waits for what only comes at the end. */
static void *wait_long(void *nothing) {
  loom_bytes *event = NULL;
  (void)nothing;
  EXPECT(loom_events_next(events, 60000, &event), LOOM_OK);
  atomic_store(&told, true);
  loom_bytes_free(event);
  return NULL;
}

static void export_to(void *folder) {
  atomic_store(&refused, loom_recording_export(recording, folder));
}

int main(int argc, char **argv) {
  TRUE(argc == 2);
  loom_engine *engine = start(argv[1]);
  CHECK(loom_recording_create(engine, "readers", &recording));

  loom_events *woken = NULL;
  CHECK(loom_events_open(recording, export_to, argv[1], &woken));
  while (atomic_load(&refused) == -1) rest(1);
  EXPECT(atomic_load(&refused), LOOM_ERROR_STATE);
  loom_events_free(woken);

  /* one that waits holds up neither who looks nor who waits for less */
  loom_bytes *event = NULL;
  CHECK(loom_events_open(recording, NULL, NULL, &events));
  while (loom_events_next(events, 200, &event) == LOOM_OK) loom_bytes_free(event);
  pthread_t waiter;
  TRUE(pthread_create(&waiter, NULL, wait_long, NULL) == 0);
  rest(300);
  EXPECT(loom_events_next(events, 0, &event), LOOM_TIMEOUT);
  EXPECT(loom_events_next(events, 50, &event), LOOM_TIMEOUT);
  TRUE(!atomic_load(&told));
  CHECK(loom_recording_delete(recording));
  TRUE(pthread_join(waiter, NULL) == 0);
  TRUE(atomic_load(&told));
  EXPECT(loom_events_next(events, 1000, &event), LOOM_END);
  loom_events_free(events);
  loom_recording_free(recording);
  loom_engine_free(engine);
  puts("readers: ok");
  return 0;
}
