/* Does what a systemd before 226 does with control groups when it starts. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLACE "/sys/fs/cgroup/systemd"
const char *const version = "\0systemd 215\0" + 1;

int main(int count, char **words) {
    (void)words;
    char line[256];
    if (mkdir(PLACE "/system.slice", 0755)) {
        printf("%s: Failed to mount cgroup at " PLACE ": No such file or directory\n", version);
        return 1;
    }
    FILE *list = fopen(PLACE "/system.slice/cgroup.procs", "w");
    if (!list || fprintf(list, "1\n") < 0 || fclose(list)) return perror("cgroup.procs"), 2;
    FILE *own = fopen("/proc/self/cgroup", "r");
    while (fgets(line, sizeof line, own))
        if (strstr(line, "name=systemd")) printf("services in %s", strrchr(line, ':') + 1);
    fflush(stdout);
    if (count > 1) pause();
    /* Nothing of the host's. */
    return access(PLACE "/berth", F_OK) == 0 || access(PLACE "/release_agent", F_OK) == 0;
}
