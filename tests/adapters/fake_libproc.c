/* What the service uses of macOS's libproc, told from Linux's /proc: the layouts are those of
   xnu-11417.101.15 (bsd/sys/proc_info.h, bsd/sys/resource.h), compiled with offsetof. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

enum { PROC_PIDTBSDINFO = 3, SIZE_OF_BSDINFO = 136, SIZE_OF_RUSAGE_V0 = 96 };
enum { AT_FLAGS = 0, AT_STATUS = 4, AT_PID = 12, AT_START_SECONDS = 120, AT_START_MICROSECONDS = 128 };
enum { AT_PHYS_FOOTPRINT = 72 };
enum { SRUN = 2, SZOMB = 5, PROC_FLAG_INEXIT = 4 };

static int exiting, refused, refusal;

/* In exit(), its files closed and its end told of, but not yet a zombie. */
void set_exiting(int pid) { exiting = pid; }

void set_refused(int pid, int number) {
    refused = pid;
    refusal = number;
}

static int stat_of(int pid, char *state, unsigned long long *start) {
    char path[64], line[4096];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    size_t length = file ? fread(line, 1, sizeof line - 1, file) : 0;
    if (file) fclose(file);
    line[length] = 0;
    char *rest = strrchr(line, ')');
    if (!rest) return 0;
    *state = rest[2];
    for (int field = 2; field < 22; field++) rest = strchr(rest + 1, ' ');
    return sscanf(rest, "%llu", start) == 1;
}

int proc_pidinfo(int pid, int flavor, uint64_t with_zombies, void *buffer, int size) {
    unsigned char *info = buffer;
    unsigned long long start;
    char state;
    if (pid == refused) {
        errno = refusal;
        return 0;
    }
    if (flavor != PROC_PIDTBSDINFO || size < SIZE_OF_BSDINFO) {
        errno = ENOMEM;
        return 0;
    }
    if (!stat_of(pid, &state, &start) || (state == 'Z' && !with_zombies)) {
        errno = ESRCH;
        return 0;
    }
    uint32_t flags = pid == exiting ? PROC_FLAG_INEXIT : 0, status = state == 'Z' ? SZOMB : SRUN;
    uint32_t number = pid;
    uint64_t seconds = start / 100, microseconds = start % 100 * 10000;
    memset(info, 0, SIZE_OF_BSDINFO);
    memcpy(info + AT_FLAGS, &flags, sizeof flags);
    memcpy(info + AT_STATUS, &status, sizeof status);
    memcpy(info + AT_PID, &number, sizeof number);
    memcpy(info + AT_START_SECONDS, &seconds, sizeof seconds);
    memcpy(info + AT_START_MICROSECONDS, &microseconds, sizeof microseconds);
    return SIZE_OF_BSDINFO;
}

int proc_pid_rusage(int pid, int flavor, void *buffer) {
    unsigned char *usage = buffer;
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    if (!file || flavor) {
        errno = ESRCH;
        return -1;
    }
    unsigned long long kilobytes;
    uint64_t footprint = 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "RssAnon: %llu", &kilobytes) == 1) footprint = kilobytes * 1024;
    fclose(file);
    memset(usage, 0, SIZE_OF_RUSAGE_V0);
    memcpy(usage + AT_PHYS_FOOTPRINT, &footprint, sizeof footprint);
    return 0;
}
