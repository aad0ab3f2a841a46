/*
 * Resolves a name again and again, as programs do. Prints quantiles of the time that one call takes, in
 * nanoseconds: the median, then the 99th percentile.
 *
 * getaddrinfo NAME MILLISECONDS
 */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

enum { MOST = 1 << 20 };

static unsigned took[MOST];

static unsigned long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	struct addrinfo wanted = { .ai_socktype = SOCK_STREAM }, *found;
	unsigned long long end, before, after;
	size_t count = 0;

	if (argc != 3)
		return 2;
	after = now();
	end = after + strtoull(argv[2], NULL, 10) * 1000000ULL;
	while (after < end && count < MOST) {
		before = now();
		int error = getaddrinfo(argv[1], NULL, &wanted, &found);
		if (error) {
			fprintf(stderr, "%s: %s\n", argv[1], gai_strerror(error));
			return 1;
		}
		freeaddrinfo(found);
		after = now();
		took[count++] = after - before;
	}
	qsort(took, count, sizeof *took, by_size);
	printf("%u %u\n", took[count / 2], took[count * 99 / 100]);
	return 0;
}
