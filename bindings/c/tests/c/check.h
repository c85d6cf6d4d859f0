/* What the test programs share: a call that does not give what it should ends the program, and says why. */
#ifndef CHECK_H
#define CHECK_H

#include <loom.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXPECT(call, wanted)                                                                                           \
  do {                                                                                                                 \
    loom_result got_ = (call);                                                                                         \
    if (got_ != (wanted)) {                                                                                            \
      fprintf(stderr, "%s:%d: %s gave %s, not %s: %s\n", __FILE__, __LINE__, #call, loom_result_name(got_), #wanted,    \
              loom_last_error());                                                                                      \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

#define CHECK(call) EXPECT(call, LOOM_OK)

#define TRUE(what)                                                                                                     \
  do {                                                                                                                 \
    if (!(what)) {                                                                                                     \
      fprintf(stderr, "%s:%d: it is not so that %s\n", __FILE__, __LINE__, #what);                                     \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

/* 20 ms of silence as an Opus packet (RFC 6716 section 3.1). */
static const uint8_t SILENCE[] = {0xf8, 0xff, 0xfe};

#define MS INT64_C(1000000)

/* An engine's configuration for tests: no captions, no encoders, loopback. */
static inline loom_engine_config configured(const char *folder) {
  loom_engine_config config;
  CHECK(loom_engine_config_init(&config, sizeof config));
  config.data_dir = folder;
  config.udp = "127.0.0.1:0";
  config.captions = 0;
  config.ladder = LOOM_LADDER_SOURCE;
  return config;
}

static inline loom_engine *start(const char *folder) {
  loom_engine_config config = configured(folder);
  loom_engine *engine = NULL;
  CHECK(loom_engine_start(&config, &engine));
  return engine;
}

static inline void rest(long ms) {
  struct timespec span = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&span, NULL);
}

/* A file's text, to be freed. */
static inline char *read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  TRUE(file != NULL);
  char *text = calloc(1, 1 << 20);
  TRUE(fread(text, 1, (1 << 20) - 1, file) > 0);
  fclose(file);
  return text;
}

#endif
