/* What some calls are answered with. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void) {
    static const struct { const char *name; long number; } calls[] = {
        {"clone3", 435}, {"statx", 332}, {"rseq", 334}, {"mount", 165}, {"ptrace", 101},
    };
    char text[256] = "";
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        errno = 0;
        syscall(calls[i].number, 0L, 0L, 0L, 0L, 0L);
        sprintf(text + strlen(text), "%s %d\n", calls[i].name, errno);
    }
    return write(1, text, strlen(text)) < 0;
}
