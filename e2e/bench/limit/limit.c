// Limit is the least that a check can cost: AUTH and INFO in one write, and
// the role looked for in what comes back. It has a deadline, and that is all.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
	const char *password = getenv("REDISCLI_AUTH");
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char ask[512], said[1 << 16];
	size_t have = 0;

	if (argc != 2 || !password)
		return 3;
	to.sin_port = htons(atoi(argv[1]));
	alarm(1);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to))
		return 2;
	int n = snprintf(ask, sizeof ask, "*2\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n", strlen(password), password);
	if (n < 0 || n >= (int)sizeof ask || write(fd, ask, n) != n)
		return 2;
	while (have < sizeof said - 1) {
		ssize_t got = read(fd, said + have, sizeof said - 1 - have);
		if (got <= 0)
			return 2;
		said[have += got] = 0;
		// The last line of INFO replication.
		char *end = strstr(said, "\r\nrepl_backlog_histlen:");
		if (end && strstr(end + 2, "\r\n"))
			return !strstr(said, "\r\nrole:master\r\n");
	}
	return 2;
}
