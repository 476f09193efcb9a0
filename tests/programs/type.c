/* Types a character into the terminal that is its standard input, as tests/attacks.rs asks. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

int main(void) {
    int result = ioctl(0, TIOCSTI, "x");
    printf("typed: %d (%s)\n", result, result ? strerror(errno) : "done");
    return 0;
}
