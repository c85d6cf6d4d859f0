/* Pushes a packet into each of several recordings, as a C program would. */
#include <loom.h>

static void keep(void *user) { (void)user; }

/* What the program owns as long as all of them read it: it is given away. */
loom_result give_to_each(const loom_pusher *const *pushers, size_t count, size_t track, int64_t at, const uint8_t *data,
                         size_t size) {
  for (size_t to = 0; to < count; to++) {
    loom_result result = loom_pusher_give_packet(pushers[to], track, at, at, data, size, keep, NULL);
    if (result != LOOM_OK) return result;
  }
  return LOOM_OK;
}

loom_result push_to_each(const loom_pusher *const *pushers, size_t count, size_t track, int64_t at, const uint8_t *data,
                         size_t size) {
  for (size_t to = 0; to < count; to++) {
    loom_result result = loom_pusher_packet(pushers[to], track, at, at, data, size);
    if (result != LOOM_OK) return result;
  }
  return LOOM_OK;
}
