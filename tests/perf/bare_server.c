/* The least that an HTTP server can do on this machine: find where a request ends, and send fixed bytes.
 *
 * One thread, epoll that never sleeps, no parsing but for Content-Length: what it reaches is the kernel's sockets and
 * the load generator, and no server does more on one CPU. For loopback and a benchmark only: it trusts its client.
 *
 *     cc -O2 -o bare_server bare_server.c && ./bare_server 8080
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS 4096
#define EVENTS 256

static const char reply[] =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 29\r\n\r\n{\"predictions\":[\"virginica\"]}";

static size_t missing[CONNECTIONS]; /* bytes of a body that are still to come, by file descriptor */

static void expect(int worked, const char *what)
{
    if (!worked) {
        perror(what);
        exit(1);
    }
}

/* Return how many bytes of its body are missing after the first part of a request, which has its whole head. */
static size_t body_missing(char *part, size_t size)
{
    part[size] = '\0';
    const char *end = strstr(part, "\r\n\r\n"), *length = strcasestr(part, "\r\ncontent-length:");
    expect(end != NULL, "a head in one piece");
    const size_t here = size - (size_t)(end + 4 - part);
    const size_t whole = length != NULL && length < end ? strtoul(length + 17, NULL, 10) : 0;
    return whole > here ? whole - here : 0;
}

static void add(int poll, int socket)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = socket};
    expect(epoll_ctl(poll, EPOLL_CTL_ADD, socket, &event) == 0, "epoll_ctl");
}

static void take(int poll, int listening)
{
    const int socket = accept(listening, NULL, NULL), on = 1;
    expect(socket >= 0 && socket < CONNECTIONS, "accept");
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    missing[socket] = 0;
    add(poll, socket);
}

static void answer(int socket)
{
    static char part[1 << 18];
    const ssize_t size = recv(socket, part, sizeof part - 1, 0);
    if (size <= 0) {
        close(socket);
        return;
    }
    if (missing[socket] == 0) {
        missing[socket] = body_missing(part, (size_t)size);
    } else {
        missing[socket] -= (size_t)size < missing[socket] ? (size_t)size : missing[socket];
    }
    if (missing[socket] == 0 && send(socket, reply, sizeof reply - 1, MSG_NOSIGNAL) < 0) {
        close(socket);
    }
}

int main(int count, char **arguments)
{
    expect(count == 2, "a port");
    const int listening = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    expect(bind(listening, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    expect(listen(listening, 1024) == 0, "listen");
    add(poll, listening);
    for (;;) {
        struct epoll_event events[EVENTS];
        const int ready = epoll_wait(poll, events, EVENTS, 0);
        for (int index = 0; index < ready; index++) {
            if (events[index].data.fd == listening) {
                take(poll, listening);
            } else {
                answer(events[index].data.fd);
            }
        }
    }
}
