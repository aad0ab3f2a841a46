/* Prints every address that getaddrinfo finds for a name. Linked statically with musl. */
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct addrinfo wanted = { .ai_socktype = SOCK_STREAM }, *found;
	if (argc != 2)
		return 2;
	int error = getaddrinfo(argv[1], NULL, &wanted, &found);
	if (error) {
		fprintf(stderr, "%s: %s\n", argv[1], gai_strerror(error));
		return 1;
	}
	for (; found; found = found->ai_next) {
		char text[64];
		getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
		puts(text);
	}
	return 0;
}
