/* What C libraries up to glibc 2.13 did: fixed addresses of the vsyscall page in the code. The functions are their
 * instructions, byte by byte: a wrapper that aligns the stack, and one whose load stands 18 bytes before its call. */
typedef long time_t;
struct timeval { long sec, usec; };

long old_time(time_t *t);
long old_gettimeofday(struct timeval *tv, void *tz);
long old_getcpu(unsigned *cpu, unsigned *node);

#ifndef CALLER
__asm__(
    ".globl old_time\n.type old_time,@function\nold_time:\n"
    "  sub $8,%rsp\n"
    "  .byte 0x48,0xc7,0xc0,0x00,0x04,0x60,0xff\n" /* mov $0xffffffffff600400,%rax */
    "  .byte 0xff,0xd0\n"                          /* call *%rax */
    "  add $8,%rsp\n  ret\n.size old_time,.-old_time\n"
    ".globl old_gettimeofday\n.type old_gettimeofday,@function\nold_gettimeofday:\n"
    "  sub $8,%rsp\n"
    "  .byte 0x48,0xc7,0xc0,0x00,0x00,0x60,0xff\n"
    "  .byte 0xff,0xd0\n"
    "  cmpl $-4095,%eax\n  jae 1f\n1: add $8,%rsp\n  ret\n.size old_gettimeofday,.-old_gettimeofday\n"
    ".globl old_getcpu\n.type old_getcpu,@function\nold_getcpu:\n"
    "  sub $8,%rsp\n"
    "  .byte 0x48,0xc7,0xc0,0x00,0x08,0x60,0xff\n"
    "  xor %edx,%edx\n  mov %rdi,%r8\n  mov %rsi,%r9\n  mov %r8,%rdi\n" /* 11 bytes in between */
    "  .byte 0xff,0xd0\n"
    "  add $8,%rsp\n  ret\n.size old_getcpu,.-old_getcpu\n"
    ".section .note.GNU-stack,\"\",@progbits\n.text\n");
#endif

#ifndef LIBRARY
static long call3(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

void start(void) {
    static const char good[] = "the time is right\n", bad[] = "the time is wrong\n";
    struct { long sec, nsec; } now;
    struct timeval tv = {0, 0};
    unsigned cpu = 99999;
    long ok = old_gettimeofday(&tv, 0) == 0 && old_getcpu(&cpu, 0) == 0;
    long t = old_time(0);
    call3(228, 0, (long)&now, 0);
    ok = ok && now.sec - t >= 0 && now.sec - t < 60 && now.sec - tv.sec >= 0 && now.sec - tv.sec < 60 && cpu < 4096;
    call3(1, 1, (long)(ok ? good : bad), 18);
    call3(231, ok ? 0 : 1, 0, 0);
}
__asm__(".globl _start\n_start: xor %ebp,%ebp\n and $-16,%rsp\n call start\n hlt\n");
#endif
