/* Ends in the way that its argument says. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((noinline)) void wander_off(volatile int *where) { *where = 1; }
__attribute__((noinline)) void use_avx512(void) { __asm__ volatile(".byte 0x62,0xf1,0x7d,0x48,0xfe,0xc0"); }
__attribute__((noinline)) void give_up(void) { __builtin_trap(); }

int main(int count, char **words) {
    const char *way = count > 1 ? words[1] : "";
    if (!strcmp(way, "segv")) wander_off((int *)16);
    if (!strcmp(way, "reads-vsyscall")) return *(volatile unsigned char *)0xffffffffff600400;
    if (!strcmp(way, "avx512")) use_avx512();
    if (!strcmp(way, "trap")) give_up();
    if (!strcmp(way, "too-old")) { fputs("FATAL: kernel too old\n", stderr); abort(); }
    /* A call that is refused, told in words that name it, in words that do not, and without a word. */
    if (!strcmp(way, "mount") && mount("none", "/bin", "tmpfs", 0, "")) return perror("mount"), 4;
    if (!strcmp(way, "mount-quietly") && mount("none", "/bin", "tmpfs", 0, "")) return 4;
    if (!strcmp(way, "unknown") && syscall(1000)) return perror("it did not work"), 4;
    return 3;
}
