/* Draws its own pictures, hums a tone, and serves both as low-latency HLS, with nothing but sockets and Loom:
 *
 *   cc -std=gnu11 -pthread -o host host.c $(pkg-config --cflags --libs loom) -lm && ./host recordings 8080
 *
 * then play http://127.0.0.1:8080/main.m3u8. A third argument says after how many seconds the recording ends; it is served on. */
#include <loom.h>

#include <arpa/inet.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH = 640, HEIGHT = 360, PICTURES = 25, SOUND = 48000, STRETCH = SOUND / PICTURES };

static loom_recording *recording;

static void check(loom_result result, const char *what) {
  if (result == LOOM_OK || result == LOOM_BEHIND) return; /* a picture that is late is let go */
  fprintf(stderr, "%s: %s: %s\n", what, loom_result_name(result), loom_last_error());
  exit(1);
}

/* Answers one request, "GET /PATH?QUERY HTTP/1.1", and hangs up. */
static void *answer(void *argument) {
  int client = (int)(intptr_t)argument;
  char request[4096];
  size_t have = 0;
  ssize_t got = 1;
  request[0] = '\0';
  while (have < sizeof request - 1 && !strstr(request, "\r\n\r\n") && got > 0) {
    got = read(client, request + have, sizeof request - 1 - have);
    have += got > 0 ? (size_t)got : 0;
    request[have] = '\0';
  }
  char *path = request + 5, *end = strncmp(request, "GET /", 5) == 0 ? strchr(path, ' ') : NULL;
  loom_response *response = NULL;
  if (end) {
    *end = '\0';
    char *query = strchr(path, '?');
    if (query) *query++ = '\0';
    /* waits where a player asks for a part that is about to come: this thread is its own */
    loom_result asked = loom_recording_hls(recording, path, query, NULL, &response);
    int status = asked == LOOM_OK ? loom_response_status(response) : asked == LOOM_ERROR_TEXT ? 400 : 500;
    char head[512];
    size_t size = loom_response_size(response);
    int length = snprintf(head, sizeof head,
                          "HTTP/1.1 %d Loom\r\nContent-Type: %s\r\nCache-Control: %s\r\nContent-Length: %zu\r\n"
                          "Access-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n",
                          status, asked == LOOM_OK ? loom_response_content_type(response) : "text/plain",
                          asked == LOOM_OK ? loom_response_cache_control(response) : "no-store", size);
    const uint8_t *body = loom_response_data(response);
    got = write(client, head, (size_t)length);
    for (size_t at = 0; at < size && got > 0; at += (size_t)got) {
      got = write(client, body + at, size - at);
      if (got < 0) break;
    }
  }
  loom_response_free(response);
  close(client);
  return NULL;
}

static void *serve(void *argument) {
  int listener = (int)(intptr_t)argument;
  for (;;) {
    int client = accept(listener, NULL, NULL);
    pthread_t thread;
    if (client < 0) continue;
    if (pthread_create(&thread, NULL, answer, (void *)(intptr_t)client) == 0) pthread_detach(thread);
    else close(client);
  }
  return NULL;
}

static int listen_at(int port) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t length = sizeof at;
  int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(listener, (struct sockaddr *)&at, length) || listen(listener, 64) ||
      getsockname(listener, (struct sockaddr *)&at, &length)) {
    perror("listen");
    exit(1);
  }
  printf("http://127.0.0.1:%d/main.m3u8\n", ntohs(at.sin_port));
  fflush(stdout);
  return listener;
}

/* A disc that goes round on a ground that slowly changes its colour. */
static void draw(uint8_t *y, uint8_t *u, uint8_t *v, int number) {
  int cx = WIDTH / 2 + (int)(200 * cos(number / 12.0)), cy = HEIGHT / 2 + (int)(110 * sin(number / 12.0));
  for (int row = 0; row < HEIGHT; row++)
    for (int column = 0; column < WIDTH; column++) {
      int dx = column - cx, dy = row - cy;
      y[row * WIDTH + column] = dx * dx + dy * dy < 1600 ? 220 : (uint8_t)(60 + row / 8);
    }
  memset(u, 100 + number % 50, WIDTH * HEIGHT / 4);
  memset(v, 150 - number % 50, WIDTH * HEIGHT / 4);
}

int main(int argc, char **argv) {
  if (argc < 3) return fprintf(stderr, "usage: host FOLDER PORT [SECONDS]\n"), 2;
  signal(SIGPIPE, SIG_IGN);
  loom_engine_config config;
  loom_engine *engine;
  loom_pusher *pusher;
  check(loom_engine_config_init(&config, sizeof config), "config");
  config.data_dir = argv[1];
  config.captions = 0;
  config.ladder = LOOM_LADDER_SOURCE;
  check(loom_engine_start(&config, &engine), "start");
  check(loom_recording_create(engine, NULL, &recording), "create");
  loom_track tracks[] = {
      {.kind = LOOM_TRACK_PICTURES, .width = WIDTH, .height = HEIGHT, .frame_rate = PICTURES},
      {.kind = LOOM_TRACK_SOUND, .sample_rate = SOUND, .channels = 1},
  };
  check(loom_pusher_open(recording, tracks, 2, &pusher), "push");
  pthread_t server;
  pthread_create(&server, NULL, serve, (void *)(intptr_t)listen_at(atoi(argv[2])));

  static uint8_t y[WIDTH * HEIGHT], u[WIDTH * HEIGHT / 4], v[WIDTH * HEIGHT / 4];
  float samples[STRETCH];
  struct timespec next;
  clock_gettime(CLOCK_MONOTONIC, &next);
  int last = argc > 3 ? atoi(argv[3]) * PICTURES : 1 << 30;
  for (int number = 0; number < last; number++) {
    int64_t now = (int64_t)number * 1000000000 / PICTURES;
    for (int at = 0; at < STRETCH; at++) samples[at] = 0.2f * sinf(6.2831853f * 330 * (float)(number % PICTURES * STRETCH + at) / SOUND);
    draw(y, u, v, number);
    loom_picture picture = {{y, u, v}, {WIDTH, WIDTH / 2, WIDTH / 2}};
    check(loom_pusher_picture(pusher, 0, now, &picture), "picture");
    check(loom_pusher_sound(pusher, 1, now, samples, STRETCH), "sound");
    next.tv_nsec += 1000000000 / PICTURES;
    if (next.tv_nsec >= 1000000000) next.tv_nsec -= 1000000000, next.tv_sec++;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
  }
  loom_pusher_free(pusher);
  int32_t state;
  check(loom_recording_wait(recording, 60000, &state), "end");
  printf("%s\n", state == LOOM_STATE_READY ? "ready" : "failed");
  fflush(stdout);
  pause();
}
