/* Built for x86-64-v3, and says so. */
#include <stdio.h>

int main(void) {
    puts("level 3");
    return 0;
}
