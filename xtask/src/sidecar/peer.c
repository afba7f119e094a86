/* What the sidecar's program runs in a root without a shell: as dnf it has everything, and as install.pl it leaves one package beside
 * itself, where the driver's own leaves them. Each run is a line of /runs. */
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

int main(int argc, char **argv)
{
	char path[4096], *name = strrchr(argv[0], '/');
	const char *folders[] = { "RPMS", "redhat-release-9.6-0.1.el9", NULL };
	struct utsname machine;
	FILE *file = fopen("/runs", "a");

	name = name ? name + 1 : argv[0];
	if (!file || fprintf(file, "%s %s\n", name, argc > 1 ? argv[1] : "") < 0 || fclose(file))
		return 2;
	if (strcmp(name, "install.pl"))
		return 0;
	if (uname(&machine))
		return 3;
	folders[2] = machine.machine;
	snprintf(path, sizeof(path), "%s", dirname(argv[0]));
	for (int i = 0; i < 3; i++) {
		strcat(strcat(path, "/"), folders[i]);
		if (mkdir(path, 0755))
			return 4;
	}
	file = fopen(strcat(path, "/sample.rpm"), "w");
	if (!file || fputs("a package\n", file) < 0 || fclose(file))
		return 5;
	puts("Building sample");
	return 0;
}
