/* Looks a name up so often, with so many milliseconds between, by this C library's getaddrinfo: a line each. */
#define _GNU_SOURCE
#include <netdb.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: gai NAME TIMES MILLISECONDS\n");
        return 2;
    }
    long pause = atol(argv[3]);
    for (int i = 0; i < atoi(argv[2]); i++) {
        struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *all = NULL;
        int code = getaddrinfo(argv[1], NULL, &hints, &all);
        if (code != 0) {
            printf("err %d %s\n", code, gai_strerror(code));
        } else {
            printf("ok");
            for (struct addrinfo *one = all; one; one = one->ai_next) {
                char text[INET6_ADDRSTRLEN];
                const void *address = one->ai_family == AF_INET ? (const void *)&((struct sockaddr_in *)one->ai_addr)->sin_addr
                                                                : (const void *)&((struct sockaddr_in6 *)one->ai_addr)->sin6_addr;
                printf(" %s", inet_ntop(one->ai_family, address, text, sizeof text));
            }
            printf("\n");
            freeaddrinfo(all);
        }
        fflush(stdout);
        struct timespec rest = {pause / 1000, pause % 1000 * 1000000};
        nanosleep(&rest, NULL);
    }
    return 0;
}
