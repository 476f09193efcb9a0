/* What some calls are answered with, in a program of 32-bit x86 that needs nothing. */
static long call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(0), "D"(0) : "memory");
    return result;
}

static void print(const char *text) {
    long length = 0;
    while (text[length]) length++;
    call(4, 1, (long)text, length);
}

void start(void) {
    static const struct { const char *name; long number; } calls[] = {
        {"clone3 ", 435}, {"clock_gettime64 ", 403}, {"futex_time64 ", 422}, {"statx ", 383}, {"mount ", 21},
    };
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        long answer = -call(calls[i].number, 0, 0, 0);
        char digits[4] = {(char)('0' + answer / 10 % 10), (char)('0' + answer % 10), '\n', 0};
        print(calls[i].name);
        print(digits);
    }
    call(252, 0, 0, 0);
}
__asm__(".globl _start\n_start: xor %ebp,%ebp\n and $-16,%esp\n call start\n hlt\n");
