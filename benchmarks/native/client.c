/* A load client: requests to 127.0.0.1 at a given rate over a given number of connections. One thread, epoll.
 *
 *     client [-c CONNECTIONS] [-n REQUESTS] [-r PER_SECOND] [-d SECONDS] [-t SECONDS] [-x CHUNKS] [-H HEADER]...
 *            PORT PATH BODY_FILE
 *
 * -r  Requests start at this rate. 0: at once, as many as there are connections, each of the rest when one is free.
 *     A request that has to wait for a connection counts from the time when it should have started.
 * -d  No request starts later than this.      -t  Everything ends after this, whatever is still open.
 * -x  A reply is complete with so many chunks: '@' and 16 digits, the time of sending, see backend.c. 0: no chunks.
 *
 * Prints one JSON object. Times are in microseconds: ttft from the start of a request to its first chunk, lag from the
 * backend's sending of a chunk to its arrival here, total to the end of the reply. */
#include "common.h"
#include "sample.h"
#include <sys/timerfd.h>

enum { HEAD_ROOM = 8192, TIMER = 1 << 24 };
enum State { IDLE, SENDING, HEAD, DATA, SIZE, SIZE_END, TRAILER, UNTIL_CLOSE };

typedef struct {
    int fd, reused, closing;
    enum State state;
    size_t sent;
    char head[HEAD_ROOM + 1];
    int head_size, status, chunks;
    int chunked, line_empty;           /* the framing of the body */
    int digits;                        /* of a chunk's time, -1 outside of one */
    uint64_t left, stamp, start;
} Conn;

static Conn *conns;
static int *idle, idle_count, epoll_fd, expected, port;
static char *request;
static size_t request_size;
static long wanted = 1, begun, ended, complete, failed, broken, reconnects, chunk_count;
static uint64_t began, last_start = UINT64_MAX;
static double rate;
static Sample ttft, lag, total;

/* --- one request on a connection ---------------------------------------------------------------------------------- */

static void watch(Conn *c, int operation, int write) {
    struct epoll_event e = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.u32 = c - conns};
    epoll_ctl(epoll_fd, operation, c->fd, &e);
}

static void transmit(Conn *c) {
    ssize_t n = send(c->fd, request + c->sent, request_size - c->sent, MSG_NOSIGNAL);
    if (n > 0) c->sent += n;           /* a failure shows when it is read */
    if (c->sent == request_size) c->state = HEAD;
    watch(c, EPOLL_CTL_MOD, c->state == SENDING);
}

static void transmit_from_the_beginning(Conn *c) {
    if (c->fd < 0) {
        struct sockaddr_in there = loopback(port);
        int on = 1;
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), c->reused = 0;
        if (c->fd < 0) { perror("client"); exit(1); }
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connect(c->fd, (void *)&there, sizeof there);
        watch(c, EPOLL_CTL_ADD, 1);
    }
    c->state = SENDING, c->sent = c->head_size = c->status = c->closing = c->chunked = c->chunks = 0, c->digits = -1;
    transmit(c);
}

static void begin(Conn *c, uint64_t start) {
    begun++;
    c->start = start;
    transmit_from_the_beginning(c);
}

static uint64_t due(long number) { return began + (rate > 0 ? (uint64_t)(number * 1e6 / rate) : 0); }
static int more_at(uint64_t now) { return begun < wanted && now < last_start && due(begun) <= now; }

static void close_connection(Conn *c) { close(c->fd), c->fd = -1; }

static void finish(Conn *c, int clean) {
    uint64_t now = micros();
    clean &= c->sent == request_size;  /* no answer counts that comes before the end of the question */
    if (c->status && c->status != 200) failed++;
    else if (!clean || c->chunks != expected) broken++;
    else complete++;
    add(&total, now - c->start);
    ended++;
    if (!clean || c->closing) close_connection(c);
    c->reused = 1, c->state = IDLE;
    if (more_at(now)) begin(c, rate > 0 ? due(begun) : now);
    else idle[idle_count++] = c - conns;
}

/* --- the reply ---------------------------------------------------------------------------------------------------- */

static void scan(Conn *c, const char *p, const char *end, uint64_t now) {
    for (; p < end; p++) {
        if (c->digits < 0) {
            if (!(p = memchr(p, '@', end - p))) return;
            c->digits = 0, c->stamp = 0;
        } else if (*p < '0' || *p > '9') {
            c->digits = -1;
        } else {
            c->stamp = c->stamp * 10 + (*p - '0');
            if (++c->digits < 16) continue;
            if (!c->chunks++) add(&ttft, now - c->start);
            add(&lag, (double)now - c->stamp);
            chunk_count++, c->digits = -1;
        }
    }
}

/* Take one step through the framing of the body; returns how many bytes it took. */
static long step(Conn *c, const char *p, long n, uint64_t now) {
    if (c->state == DATA || c->state == UNTIL_CLOSE) {
        if (c->state == DATA && (uint64_t)n > c->left) n = c->left;
        scan(c, p, p + n, now);
        c->left -= n;
        if (c->state == DATA && !c->left) {
            if (c->chunked) c->state = SIZE_END;
            else finish(c, 1);
        }
        return n;
    }
    if (c->state == SIZE && strchr("0123456789abcdefABCDEF", *p)) c->left = c->left * 16 + (*p <= '9' ? *p - '0' : (*p | 32) - 'a' + 10);
    else if (c->state == SIZE && *p == '\n') c->state = c->left ? DATA : TRAILER, c->line_empty = 1;
    else if (c->state == SIZE_END && *p == '\n') c->state = SIZE, c->left = 0;
    else if (c->state == TRAILER && *p == '\n' && c->line_empty) finish(c, 1);
    else if (c->state == TRAILER) c->line_empty = *p == '\n' || (*p == '\r' && c->line_empty);
    return 1;
}

/* Add to the head; returns how many bytes belong to it, -1 if it is too long. */
static long read_head(Conn *c, const char *p, long n) {
    int before = c->head_size, room = HEAD_ROOM - before;
    memcpy(c->head + before, p, n < room ? n : room);
    c->head_size += n < room ? n : room;
    c->head[c->head_size] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) return n < room ? n : -1;
    end[2] = 0;
    char *length = strcasestr(c->head, "\r\ncontent-length:");
    c->status = atoi(c->head + 9);
    c->closing = strcasestr(c->head, "\r\nconnection: close") != NULL;
    c->chunked = strcasestr(c->head, "\r\ntransfer-encoding: chunked") != NULL;
    c->left = length ? strtoull(length + 17, NULL, 10) : 0;
    c->state = c->chunked ? SIZE : length ? DATA : UNTIL_CLOSE;
    if (c->state == DATA && !c->left) finish(c, 1);
    return end + 4 - c->head - before;
}

static void ended_by_peer(Conn *c) {
    if (c->state == UNTIL_CLOSE) {
        c->closing = 1;
        finish(c, 1);
    } else if (c->state == IDLE) {
        close_connection(c);
    } else if (c->reused && !c->head_size) {         /* a kept connection closed just as it was used: no failure */
        reconnects++;
        close_connection(c);
        transmit_from_the_beginning(c);
    } else finish(c, 0);
}

static void readable(Conn *c) {
    static char buffer[1 << 18];
    ssize_t n = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) { ended_by_peer(c); return; }
    uint64_t now = micros();
    for (long at = 0, took; at < n && c->state >= SENDING && c->fd >= 0; at += took) {
        if (c->state == SENDING) c->state = HEAD;    /* an answer before all was asked */
        took = c->state == HEAD ? read_head(c, buffer + at, n - at) : step(c, buffer + at, n - at, now);
        if (took < 0) { finish(c, 0); return; }
    }
}

/* --- the run ------------------------------------------------------------------------------------------------------ */

static void set_timer(int timer, uint64_t end) {
    static uint64_t set;
    uint64_t next = idle_count && begun < wanted && due(begun) < end ? due(begun) : end, now = micros();
    if (next == set) return;
    set = next;
    uint64_t wait = next > now ? next - now : 1;
    struct itimerspec t = {.it_value = {.tv_sec = wait / 1000000, .tv_nsec = wait % 1000000 * 1000}};
    timerfd_settime(timer, 0, &t, NULL);
}

static void run(uint64_t end) {
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event events[512], e = {.events = EPOLLIN | EPOLLET, .data.u32 = TIMER};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer, &e);
    for (uint64_t now; (now = micros()) < end && ended < wanted && (ended < begun || now < last_start);) {
        while (idle_count && more_at(now)) begin(&conns[idle[--idle_count]], now);
        set_timer(timer, last_start < end && now < last_start ? last_start : end);
        int n = epoll_wait(epoll_fd, events, 512, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.u32 == TIMER) continue;
            Conn *c = &conns[events[i].data.u32];
            if (events[i].events & EPOLLOUT && c->state == SENDING) transmit(c);
            if (events[i].events & ~EPOLLOUT && c->fd >= 0) readable(c);
        }
    }
}

static void compose(const char *path, const char *headers, const char *body_file) {
    FILE *file = fopen(body_file, "rb");
    if (!file || fseek(file, 0, SEEK_END)) { perror(body_file); exit(2); }
    size_t size = ftell(file);
    rewind(file);
    request = malloc(size + strlen(path) + strlen(headers) + 256);
    request_size = sprintf(request, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n%s"
                                    "Content-Length: %zu\r\n\r\n", path, port, headers, size);
    request_size += fread(request + request_size, 1, size, file);
    fclose(file);
}

int main(int argc, char **argv) {
    int count = 1, option, bounded = 0;
    double seconds = 0, limit = 30;
    char headers[4096] = "";
    while ((option = getopt(argc, argv, "c:n:r:d:t:x:H:")) > 0) {
        if (option == 'c') count = atoi(optarg);
        else if (option == 'n') wanted = atol(optarg), bounded = 1;
        else if (option == 'r') rate = atof(optarg);
        else if (option == 'd') seconds = atof(optarg);
        else if (option == 't') limit = atof(optarg);
        else if (option == 'x') expected = atoi(optarg);
        else if (option == 'H' && strlen(headers) + strlen(optarg) < sizeof headers - 3) strcat(strcat(headers, optarg), "\r\n");
        else return 2;
    }
    if (argc - optind != 3 || count < 1 || (!bounded && !seconds)) return fprintf(stderr, "usage: see the top of client.c\n"), 2;
    port = atoi(argv[optind]);
    compose(argv[optind + 1], headers, argv[optind + 2]);
    allow_many_files();
    epoll_fd = epoll_create1(0);
    conns = calloc(count, sizeof *conns), idle = calloc(count, sizeof *idle);
    for (int i = 0; i < count; i++) conns[i].fd = -1, idle[idle_count++] = i;
    if (!bounded) wanted = INT32_MAX;
    began = micros();
    if (seconds) last_start = began + seconds * 1e6;
    run(began + limit * 1e6);
    printf("{\"seconds\": %.4f, \"complete\": %ld, \"failed\": %ld, \"broken\": %ld, \"unfinished\": %ld, ", (micros() - began) / 1e6,
           complete, failed, broken, (bounded && !seconds ? wanted : begun) - ended);
    print_sample("ttft", &ttft), print_sample("lag", &lag), print_sample("total", &total);
    printf("\"chunks\": %ld, \"reconnects\": %ld}\n", chunk_count, reconnects);
    return 0;
}
