/* Preloaded into a program, shifts its clock of the day by so many seconds; monotonic clocks stay.
   Files' times do not move, nor do waits whose end is a time of day: glibc's with a clock of their
   own, which Python and gRPC use, count monotonic time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long long shift_s;
static int (*real_clock)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *told = getenv("POOL_TESTS_CLOCK_SHIFT_S");
    shift_s = told ? atoll(told) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    /* Other libraries' constructors may come before the one above. */
    if (!real_clock) *(void **)&real_clock = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real_clock(clock, now);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift_s;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec exact;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
