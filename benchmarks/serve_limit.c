/* The least that a server of the model can be: it parses, runs the graph, answers, and does nothing else.
 *
 *     cc -std=gnu11 -O2 -o serve_limit serve_limit.c -ldl -lm
 *     serve_limit PORT libonnxruntime.so model.onnx columns.txt
 *
 * It is built and measured by `make bench NAME=serve` beside our predictor, and never shipped: no validation, no
 * log, no metrics, no limits, one model, one thread. What answers at one turn of the loop shares a forward pass.
 * columns.txt has a line for each column of the model in the order of its arrays: "n NAME" a number, "c NAME" a
 * text, "t NAME" a time (in JSON ISO 8601, in binary the microseconds of an INT64).
 *
 * onnxruntime's wheel has its library of the C interface, without headers: the few entries of its table that are
 * called here are named by their place in it, which the interface never changes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
  GET_ERROR_MESSAGE = 2, CREATE_ENV = 3, CREATE_SESSION = 7, RUN = 9, CREATE_SESSION_OPTIONS = 10,
  SET_INTRA_OP_THREADS = 24, CREATE_TENSOR = 48, CREATE_TENSOR_WITH_DATA = 49, TENSOR_DATA = 51,
  FILL_STRING_TENSOR = 52, CREATE_CPU_MEMORY_INFO = 69, DEFAULT_ALLOCATOR = 78, RELEASE_VALUE = 96,
};
enum { FLOAT = 1, INT64 = 7, STRING = 8 }; /* of ONNXTensorElementDataType */
enum { API_VERSION = 17, MAX_COLUMNS = 4096, MAX_ROWS = 16384, BUFFER = 1 << 22, CLIENTS = 1024 };

typedef struct { const void *const *(*get_api)(uint32_t); const char *(*version)(void); } api_base;
static const void *const *api;
#define CALL(place, ...) check(((void *(*)())api[place])(__VA_ARGS__))

static void die(const char *what) { fprintf(stderr, "%s\n", what); exit(1); }

static void check(void *status) {
  if (status) die(((const char *(*)(void *))api[GET_ERROR_MESSAGE])(status));
}

/* --- The model: its columns, and the rows that wait for one forward pass. --- */

typedef struct { char kind, name[256]; int place; } column;
static column columns[MAX_COLUMNS];
static int column_count, widths[128]; /* by kind */
static void *session, *memory, *allocator;
static float *numbers;
static int64_t *times;
static const char **texts;
static char *spare; /* what of the texts is not in a client's buffer: ends of binary ones */
static size_t spare_used;

static void read_columns(const char *path) {
  FILE *file = fopen(path, "r");
  char line[300];
  if (!file) die("no file of columns");
  while (fgets(line, sizeof line, file)) {
    column *made = &columns[column_count++];
    made->kind = line[0];
    snprintf(made->name, sizeof made->name, "%.*s", (int)strcspn(line + 2, "\n"), line + 2);
    made->place = widths[(int)made->kind]++;
  }
  fclose(file);
  numbers = malloc(sizeof *numbers * MAX_ROWS * (widths['n'] + 1));
  times = malloc(sizeof *times * MAX_ROWS * (widths['t'] + 1));
  texts = malloc(sizeof *texts * MAX_ROWS * (widths['c'] + 1));
  spare = malloc(BUFFER);
}

static void open_model(const char *library, const char *model) {
  void *handle = dlopen(library, RTLD_NOW), *env, *options;
  if (!handle) die(dlerror());
  const api_base *base = ((const api_base *(*)(void))dlsym(handle, "OrtGetApiBase"))();
  api = base->get_api(API_VERSION);
  if (!api) die("this onnxruntime does not know the interface");
  CALL(CREATE_ENV, 3, "limit", &env);
  CALL(CREATE_SESSION_OPTIONS, &options);
  CALL(SET_INTRA_OP_THREADS, options, 1);
  CALL(CREATE_SESSION, env, model, options, &session);
  CALL(CREATE_CPU_MEMORY_INFO, 0, 0, &memory);
  CALL(DEFAULT_ALLOCATOR, &allocator);
}

/* The answers to the first rows of the arrays; what is returned is to be released. */
static void *run(int rows, float **answers) {
  const char *names[3], *outputs[] = {"probability"};
  void *values[3], *result = NULL;
  int count = 0;
  int64_t shape[2] = {rows, 0};
  if ((shape[1] = widths['n'])) {
    names[count] = "numeric";
    CALL(CREATE_TENSOR_WITH_DATA, memory, (void *)numbers, sizeof *numbers * rows * shape[1], shape,
         (size_t)2, FLOAT, &values[count++]);
  }
  if ((shape[1] = widths['c'])) {
    names[count] = "categorical";
    CALL(CREATE_TENSOR, allocator, shape, (size_t)2, STRING, &values[count]);
    CALL(FILL_STRING_TENSOR, values[count++], texts, (size_t)(rows * shape[1]));
  }
  if ((shape[1] = widths['t'])) {
    names[count] = "time";
    CALL(CREATE_TENSOR_WITH_DATA, memory, (void *)times, sizeof *times * rows * shape[1], shape,
         (size_t)2, INT64, &values[count++]);
  }
  CALL(RUN, session, NULL, names, values, (size_t)count, outputs, (size_t)1, &result);
  for (int i = 0; i < count; i++) ((void (*)(void *))api[RELEASE_VALUE])(values[i]);
  CALL(TENSOR_DATA, result, answers);
  return result;
}

/* --- Requests. A parser takes a place in the text and gives the one after it, or NULL. --- */

static char *blank(char *at) {
  while (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t') at++;
  return at;
}

static char *skip(char *at) { /* any value */
  int depth = 0;
  do {
    at = blank(at);
    if (*at == '"') {
      for (at++; *at && *at != '"'; at++) if (*at == '\\') at++;
      at++;
    } else if (*at == '[' || *at == '{') depth++, at++;
    else if (*at == ']' || *at == '}') depth--, at++;
    else if (*at == ',' || *at == ':') at++;
    else if (*at) at += strcspn(at, ",:]} \n\r\t");
    else return NULL;
  } while (depth);
  return at;
}

static char *number(char *at, double *value) {
  static const double tens[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13,
                                1e14, 1e15, 1e16, 1e17, 1e18};
  char *start = at;
  if (*at == 'n') return *value = NAN, at + 4;
  if (*at == 't') return *value = 1, at + 4;
  if (*at == 'f') return *value = 0, at + 5;
  int negative = *at == '-', digits = 0, after = 0;
  int64_t whole = 0;
  for (at += negative; *at >= '0' && *at <= '9'; at++, digits++) whole = whole * 10 + *at - '0';
  if (*at == '.')
    for (at++; *at >= '0' && *at <= '9'; at++, digits++, after++) whole = whole * 10 + *at - '0';
  if (!digits || digits > 15 || *at == 'e' || *at == 'E') { /* not exact in this way */
    *value = strtod(start, &at);
    return at == start ? NULL : at;
  }
  *value = (negative ? -whole : whole) / tens[after];
  return at;
}

/* A text, ended with a zero in its place; escapes of a byte alone, which is what the rows have. */
static char *text(char *at, const char **value) {
  if (*at == 'n') return *value = "", at + 4;
  if (*at++ != '"') return NULL;
  char *to = at;
  for (*value = at; *at != '"'; *to++ = *at++) {
    if (*at == '\\') at++;
    if (!*at) return NULL;
  }
  *to = 0;
  return at + 1;
}

static int64_t moment(const char *t) { /* "2013-10-01T05:00:00[.ffffff]", in UTC, in microseconds */
  int year = 0, month = 1, day = 1, hour = 0, minute = 0;
  double second = 0;
  sscanf(t, "%d-%d-%dT%d:%d:%lf", &year, &month, &day, &hour, &minute, &second);
  year -= month <= 2; /* days since 1970, a year beginning in March */
  int64_t era = year / 400, of_era = year - era * 400;
  int64_t days = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  days += of_era * 365 + of_era / 4 - of_era / 100 + era * 146097 - 719468;
  return ((days * 24 + hour) * 60 + minute) * 60000000LL + llround(second * 1e6);
}

static int put(column *of, int row, double value, const char *word, int64_t time) {
  if (row >= MAX_ROWS) return 0;
  int width = widths[(int)of->kind];
  if (of->kind == 'n') numbers[row * width + of->place] = value;
  else if (of->kind == 'c') texts[row * width + of->place] = word;
  else times[row * width + of->place] = time;
  return 1;
}

static column *find(const char *name, int guess) {
  if (guess < column_count && !strcmp(columns[guess].name, name)) return &columns[guess];
  for (int i = 0; i < column_count; i++) if (!strcmp(columns[i].name, name)) return &columns[i];
  return NULL;
}

/* The JSON list of a column, in the rows from `first` on; in `count` how many. */
static char *read_list(char *at, column *of, int first, int *count) {
  for (at = blank(at + 1), *count = 0; *at != ']'; at = blank(at)) {
    double value = 0;
    const char *word = NULL;
    int64_t time = 0;
    at = of->kind == 'n' ? number(at, &value) : text(at, &word);
    if (!at) return NULL;
    if (of->kind == 't') time = moment(word);
    if (!put(of, first + (*count)++, value, word, time)) return NULL;
    at = blank(at);
    if (*at == ',') at++;
  }
  return at + 1;
}

/* The bytes of a column: texts with their length before them, INT64 of times, FP64. */
static int read_bytes(const char *at, size_t size, column *of, int first) {
  int count = 0;
  for (const char *end = at + size; at < end; count++) {
    double value = 0;
    const char *word = NULL;
    int64_t time = 0;
    if (of->kind == 'c') {
      uint32_t length;
      memcpy(&length, at, 4);
      if (at + 4 + length > end || spare_used + length >= BUFFER) return -1;
      word = memcpy(spare + spare_used, at + 4, length);
      spare[spare_used + length] = 0;
      spare_used += length + 1;
      at += 4 + length;
    } else {
      memcpy(of->kind == 'n' ? (void *)&value : (void *)&time, at, 8);
      at += 8;
    }
    if (!put(of, first + count, value, word, time)) return -1;
  }
  return count;
}

/* Reads one tensor's object. With binary data its bytes begin at *blob, which moves on. */
static char *read_tensor(char *at, int guess, int first, int *rows, char **blob) {
  const char *key, *name = NULL;
  char *data = NULL;
  double size = -1;
  for (at = blank(at); *at != '}';) {
    at = text(blank(at + 1), &key); /* after { or , */
    if (!at || *(at = blank(at)) != ':') return NULL;
    at = blank(at + 1);
    if (!strcmp(key, "name")) at = text(at, &name);
    else if (!strcmp(key, "parameters") && *at == '{') {
      char *found = strstr(at, "\"binary_data_size\"");
      if (found && !number(blank(strchr(found, ':') + 1), &size)) return NULL;
      at = skip(at);
    } else if (!strcmp(key, "data")) {
      column *of = name ? find(name, guess) : NULL;
      data = at;
      if (of) at = read_list(at, of, first, rows), name = NULL;
      else at = skip(at);
    } else at = skip(at);
    if (!at) return NULL;
    at = blank(at);
  }
  if (name) { /* the data came before the name, or after the JSON */
    column *of = find(name, guess);
    if (of && data) data = read_list(data, of, first, rows);
    else if (of && size >= 0) *rows = read_bytes(*blob, (size_t)size, of, first);
    if (!of || *rows < 0) return NULL;
  }
  if (size >= 0) *blob += (size_t)size;
  return at + 1;
}

/* Reads a request's inputs into the rows from `first` on; how many, or -1. */
static int read_inputs(char *body, char *blob, int first) {
  char *at = strstr(body, "\"inputs\"");
  int rows = 0, guess = 0;
  if (!at || !(at = strchr(at, '['))) return -1;
  for (at = blank(at + 1); at && *at == '{'; guess++) {
    at = read_tensor(at, guess, first, &rows, &blob);
    if (at && *(at = blank(at)) == ',') at = blank(at + 1);
  }
  return at && guess == column_count ? rows : -1;
}

/* --- Connections. --- */

typedef struct { char *buffer; size_t used; int first, rows, binary; size_t taken; } client;
static client *clients[CLIENTS];

static size_t header_value(const char *head, const char *end, const char *name) {
  size_t length = strlen(name);
  for (const char *line = head; line < end && (line = strstr(line, "\r\n")) && line < end; line += 2)
    if (!strncasecmp(line + 2, name, length) && line[2 + length] == ':')
      return strtoul(line + 3 + length, NULL, 10);
  return 0;
}

static void answer(int to, const char *head, const void *body, size_t size, const char *more) {
  static char out[BUFFER];
  size_t length = strlen(head);
  int used = snprintf(out, 512, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n%scontent-length: %zu\r\n\r\n",
                      more, length + size);
  memcpy(out + used, head, length);
  memcpy(out + used + length, body, size);
  for (size_t sent = 0, all = used + length + size; sent < all;) {
    ssize_t wrote = write(to, out + sent, all - sent);
    if (wrote > 0) sent += wrote;
    else if (errno != EAGAIN) return;
  }
}

static void answer_rows(int to, const client *of, const float *answers) {
  static char head[1 << 20];
  char more[64];
  const float *own = answers + of->first;
  int used = sprintf(head, "{\"model_name\":\"flights\",\"outputs\":[{\"name\":\"probability\",\"shape\":[%d],"
                     "\"datatype\":\"FP32\",", of->rows);
  if (of->binary) {
    used += sprintf(head + used, "\"parameters\":{\"binary_data_size\":%zu}}]}", sizeof *own * of->rows);
    sprintf(more, "inference-header-content-length: %d\r\n", used);
    answer(to, head, own, sizeof *own * of->rows, more);
    return;
  }
  used += sprintf(head + used, "\"data\":[");
  for (int i = 0; i < of->rows; i++) used += sprintf(head + used, i ? ",%.9g" : "%.9g", own[i]);
  sprintf(head + used, "]}]}");
  answer(to, head, NULL, 0, "");
}

/* Whether the client's buffer has a whole request; it is then parsed, or answered where it needs no model. */
static int take(int from, client *of, int first) {
  char *end;
  of->buffer[of->used] = 0;
  if (!of->used || !(end = memmem(of->buffer, of->used, "\r\n\r\n", 4))) return 0;
  size_t size = header_value(of->buffer, end, "content-length");
  size_t json = header_value(of->buffer, end, "inference-header-content-length");
  char *body = end + 4;
  of->taken = body - of->buffer + size;
  if (of->used < of->taken) return 0;
  of->rows = 0;
  if (size) {
    of->first = first;
    of->binary = json > 0;
    /* Texts end in their place: the bytes before the body's end are kept until the answer is sent. */
    of->rows = read_inputs(body, body + (json ? json : size), first);
    if (of->rows <= 0) die("a request that the benchmark does not send");
  } else answer(from, "{}", NULL, 0, "");
  return 1;
}

static void drop(int socket) {
  free(clients[socket]->buffer);
  free(clients[socket]);
  clients[socket] = NULL;
  close(socket);
}

static void welcome(int listener, int poll) {
  for (int socket; (socket = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
    int on = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = socket};
    if (socket >= CLIENTS) { close(socket); continue; }
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    clients[socket] = calloc(1, sizeof **clients);
    clients[socket]->buffer = malloc(BUFFER + 1);
    epoll_ctl(poll, EPOLL_CTL_ADD, socket, &event);
  }
}

static void turn(int listener, int poll) {
  struct epoll_event events[CLIENTS];
  int waiting[CLIENTS], asked = 0, rows = 0;
  int ready = epoll_wait(poll, events, CLIENTS, -1);
  for (int i = 0; i < ready; i++) {
    int from = events[i].data.fd;
    if (from == listener) { welcome(listener, poll); continue; }
    client *of = clients[from];
    ssize_t got = read(from, of->buffer + of->used, BUFFER - of->used);
    if (got <= 0) { if (!got || errno != EAGAIN) drop(from); continue; }
    of->used += got;
    if (!take(from, of, rows)) continue;
    rows += of->rows;
    waiting[asked++] = from;
  }
  float *answers = NULL;
  void *result = rows ? run(rows, &answers) : NULL;
  for (int i = 0; i < asked; i++) {
    client *of = clients[waiting[i]];
    if (of->rows) answer_rows(waiting[i], of, answers);
    memmove(of->buffer, of->buffer + of->taken, of->used -= of->taken);
  }
  if (result) ((void (*)(void *))api[RELEASE_VALUE])(result);
  spare_used = 0;
}

int main(int count, char **given) {
  if (count != 5) die("serve_limit PORT libonnxruntime.so model.onnx columns.txt");
  read_columns(given[4]);
  open_model(given[2], given[3]);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(given[1])),
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1, poll = epoll_create1(0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 512)) die("the port is taken");
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  for (;;) turn(listener, poll);
}
