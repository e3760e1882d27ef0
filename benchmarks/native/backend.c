/* A stand-in for an Ollama server, far faster than the proxies that are measured in front of it. One thread, epoll.
 *
 *     backend PORT DELAY_MS MODEL...
 *
 * It listens on 127.0.0.1, lists the MODELs, and begins to answer a request DELAY_MS after it has arrived.
 * A model named NAME-N-D streams N chunks, one every D ms, with D = 0 as fast as they are read. Each chunk carries
 * '@' and the time of its sending: 16 digits, microseconds of the monotonic clock. The load client subtracts it.
 * Without streaming the answer is one small JSON object, which says how many bytes of body have arrived.
 * Paths under /v1/ speak OpenAI's dialect (server-sent events), all others Ollama's (lines of JSON). Requests are
 * not validated: they need Content-Length, and "model" and "stream" within their first 8 KiB. */
#include "common.h"

enum { MOST_FDS = 1 << 16, ROOM = 16384, SLOTS = 4096 };
enum State { HEAD, BODY, WAITING, STREAMING };

typedef struct Conn {
    int fd, wants_write;
    enum State state;
    char in[ROOM + 1];                 /* the head and the beginning of the body */
    int filled, body_at;
    long body_left, body_got;
    char *out;                         /* what the socket did not take yet */
    size_t out_size, out_sent;
    char model[128];
    int openai, chunks_left, interval;
    uint64_t due;                      /* in ticks of a millisecond, while in the wheel */
    struct Conn *next, **link;         /* the list of its slot; link is NULL while it is in none */
} Conn;

static Conn *conns[MOST_FDS], *wheel[SLOTS];
static int epoll_fd, timers, delay;
static uint64_t tick;
static char tags[1 << 16];

/* --- timers: a wheel with a slot for each millisecond; every wait is shorter than one turn ------------------------ */

static void set_timer(Conn *c, uint64_t due) {
    Conn **slot = &wheel[due % SLOTS];
    c->due = due, c->next = *slot, c->link = slot;
    if (c->next) c->next->link = &c->next;
    *slot = c;
    timers++;
}

static void clear_timer(Conn *c) {
    if (!c->link) return;
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    c->link = NULL;
    timers--;
}

/* --- output ------------------------------------------------------------------------------------------------------- */

static void watch(Conn *c, int write) {
    if (c->wants_write == write) return;
    struct epoll_event e = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.fd = c->fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
    c->wants_write = write;
}

static void emit(Conn *c, const char *data, size_t size) {
    ssize_t sent = c->out_size ? 0 : send(c->fd, data, size, MSG_NOSIGNAL);
    if (sent < 0) sent = 0;            /* a broken connection shows when it is read, below */
    if ((size_t)sent == size) return;
    c->out = realloc(c->out, c->out_size + size - sent);
    memcpy(c->out + c->out_size, data + sent, size - sent);
    c->out_size += size - sent;
    watch(c, 1);
}

static void flush(Conn *c) {
    ssize_t sent = send(c->fd, c->out + c->out_sent, c->out_size - c->out_sent, MSG_NOSIGNAL);
    if (sent > 0) c->out_sent += sent;
    if (c->out_sent < c->out_size) return;
    c->out_size = c->out_sent = 0;
    watch(c, 0);
}

static void emit_json(Conn *c, const char *json) {
    char reply[1 << 17];
    emit(c, reply, sprintf(reply, "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
                                  "Content-Length: %zu\r\n\r\n%s", strlen(json), json));
    c->state = HEAD, c->filled = 0;
}

static void emit_chunk(Conn *c) {
    char text[512], framed[640], said[32] = "";
    int last = c->chunks_left-- == 0, size;
    if (!last) sprintf(said, "@%016llu", (unsigned long long)micros());
    if (c->openai)
        size = sprintf(text, "data: {\"id\":\"bench\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,\"model\":\"%s\",\"choices\":"
                       "[{\"index\":0,\"delta\":{\"content\":\"%s\"},\"finish_reason\":%s}]}\n\n%s",
                       c->model, said, last ? "\"stop\"" : "null", last ? "data: [DONE]\n\n" : "");
    else
        size = sprintf(text, "{\"model\":\"%s\",\"created_at\":\"2026-01-01T00:00:00Z\",\"message\":{\"role\":\"assistant\","
                       "\"content\":\"%s\"},\"done\":%s}\n", c->model, said, last ? "true,\"done_reason\":\"stop\"" : "false");
    emit(c, framed, sprintf(framed, "%x\r\n%s\r\n%s", size, text, last ? "0\r\n\r\n" : ""));
    if (last) c->state = HEAD, c->filled = 0;
}

static void pour(Conn *c) {            /* as fast as possible: until the socket is full */
    while (c->state == STREAMING && !c->out_size) emit_chunk(c);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static int is_path(Conn *c, const char *path) {
    char *at = strchr(c->in, ' ');
    return at && !strncmp(at + 1, path, strlen(path));
}

static void answer(Conn *c) {          /* the request is complete, and so is its delay */
    char json[1024], *at, *body = c->in + c->body_at;
    int stream, chunks = 0, interval = 0;
    if (strncmp(c->in, "POST ", 5)) {
        emit_json(c, is_path(c, "/api/tags") ? tags : is_path(c, "/api/version") ? "{\"version\":\"0.12.6\"}" : "{\"models\":[]}");
        return;
    }
    c->openai = is_path(c, "/v1/");
    strcpy(c->model, "unnamed");
    if ((at = strstr(body, "\"model\""))) sscanf(at, "\"model\"%*[ :]\"%120[A-Za-z0-9.:_-]", c->model);
    sscanf(c->model, "%*[a-z]-%d-%d", &chunks, &interval);
    stream = !c->openai;               /* what each dialect does when nothing is said */
    if ((at = strstr(body, "\"stream\""))) stream = at[8 + strspn(at + 8, " :")] == 't';
    if (!stream) {
        if (c->openai) sprintf(json, "{\"id\":\"bench\",\"object\":\"chat.completion\",\"created\":1767225600,\"model\":\"%s\",\"choices\":[{\"index\":0,"
                               "\"message\":{\"role\":\"assistant\",\"content\":\"It scatters blue light.\"},\"finish_reason\":\"stop\"}],"
                               "\"usage\":{\"prompt_tokens\":%ld,\"completion_tokens\":5,\"total_tokens\":%ld}}", c->model, c->body_got, c->body_got + 5);
        else sprintf(json, "{\"model\":\"%s\",\"created_at\":\"2026-01-01T00:00:00Z\",\"message\":{\"role\":\"assistant\",\"content\":\"It scatters "
                     "blue light.\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":%ld,\"eval_count\":5}", c->model, c->body_got);
        emit_json(c, json);
        return;
    }
    emit(c, json, sprintf(json, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n",
                          c->openai ? "text/event-stream" : "application/x-ndjson"));
    c->state = STREAMING, c->chunks_left = chunks, c->interval = interval;
    if (!interval) { pour(c); return; }
    emit_chunk(c);
    set_timer(c, tick + interval);
}

static void requested(Conn *c) {
    c->state = WAITING;
    if (delay && !strncmp(c->in, "POST ", 5)) set_timer(c, tick + delay);
    else answer(c);
}

static void expired(Conn *c) {
    uint64_t due = c->due;
    clear_timer(c);
    if (c->state == WAITING) { answer(c); return; }
    emit_chunk(c);
    if (c->state == STREAMING) set_timer(c, due + c->interval);
}

static void received(Conn *c) {        /* more of the head, and perhaps of the body, stands in c->in */
    c->in[c->filled] = 0;
    if (c->state == HEAD) {
        char *end = strstr(c->in, "\r\n\r\n"), *length = strcasestr(c->in, "\r\ncontent-length:");
        if (!end) return;
        c->body_at = end + 4 - c->in;
        c->body_got = c->filled - c->body_at;
        c->body_left = (length && length < end ? atol(length + 17) : 0) - c->body_got;
        c->state = BODY;
    }
    if (c->body_left <= 0) requested(c);
}

static int readable(Conn *c) {         /* 0 when the connection is at its end */
    static char rest[1 << 18];         /* of a large body only the size matters */
    int room = ROOM - c->filled, discard = c->state == BODY && !room;
    ssize_t n = recv(c->fd, discard ? rest : c->in + c->filled, discard ? sizeof rest : (size_t)room, MSG_DONTWAIT);
    if (n <= 0) return n < 0 && errno == EAGAIN;
    if (c->state > BODY) return 0;     /* pipelining */
    if (c->state == BODY) c->body_left -= n, c->body_got += n;
    if (!discard) c->filled += n;
    received(c);
    return c->state != HEAD || c->filled < ROOM;     /* a head has an end */
}

static void drop(Conn *c) {
    clear_timer(c);
    close(c->fd);
    conns[c->fd] = NULL;
    free(c->out);
    free(c);
}

static void take_all(int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MOST_FDS) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        conns[fd] = calloc(1, sizeof(Conn));
        conns[fd]->fd = fd;
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
    }
}

static void list_models(int count, char **names) {
    char *at = stpcpy(tags, "{\"models\":[");
    for (int i = 0; i < count && i < 64; i++) {
        uint64_t digest = 1469598103934665603ull;    /* of the name: the same model on every backend */
        for (char *p = names[i]; *p; p++) digest = (digest ^ (unsigned char)*p) * 1099511628211ull;
        at += sprintf(at, "%s{\"name\":\"%.80s:latest\",\"model\":\"%.80s:latest\",\"modified_at\":\"2026-01-01T00:00:00Z\",\"size\":1000,"
                      "\"digest\":\"%064llx\",\"details\":{\"format\":\"gguf\",\"family\":\"llama\",\"parameter_size\":\"1B\"}}",
                      i ? "," : "", names[i], names[i], (unsigned long long)digest);
    }
    strcpy(at, "]}");
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: backend PORT DELAY_MS MODEL...\n"), 2;
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in here = loopback(atoi(argv[1]));
    allow_many_files();
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (void *)&here, sizeof here) || listen(listener, 4096)) return perror("backend"), 1;
    list_models(argc - 3, argv + 3);
    delay = atoi(argv[2]);
    epoll_fd = epoll_create1(0);
    struct epoll_event events[512], e = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e);
    for (tick = micros() / 1000;;) {
        int n = epoll_wait(epoll_fd, events, 512, timers ? 1 : -1);
        if (!timers) tick = micros() / 1000;         /* nothing was due while it slept */
        for (int i = 0; i < n; i++) {
            Conn *c = conns[events[i].data.fd];
            if (events[i].data.fd == listener) { take_all(listener); continue; }
            if (events[i].events & EPOLLOUT) { flush(c); if (!c->interval) pour(c); }
            if (events[i].events & ~EPOLLOUT && !readable(c)) drop(c);
        }
        for (uint64_t now = micros() / 1000; timers && tick < now;)
            for (Conn *c = wheel[++tick % SLOTS], *next; c; c = next) next = c->next, expired(c);
    }
}
