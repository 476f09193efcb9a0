/* A library whose note asks for a kernel that nobody has, and a program that needs it. */
#if defined CRASH
int answer(void) { return *(volatile int *)24 = 1; }
#elif defined LIBRARY
__asm__(".section .note.ABI-tag,\"a\",@note\n.align 4\n.long 4, 16, 1\n.asciz \"GNU\"\n.long 0, 99, 1, 0\n.previous");
int answer(void) { return 0; }
#else
int answer(void);
static long call(long number, long a, const void *b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}
void _start(void) {
    long code = answer();
    call(1, 1, "the library is there\n", 21);
    call(60, code, 0, 0);
}
#endif
