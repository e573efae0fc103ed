/* What the service uses of macOS's libproc and libSystem, told from Linux's /proc: the layouts are those of
   xnu-11417.101.15 (bsd/sys/proc_info.h, bsd/sys/resource.h), compiled with offsetof. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { PROC_PIDTBSDINFO = 3, SIZE_OF_BSDINFO = 136, SIZE_OF_RUSAGE_V2 = 160 };
enum { AT_FLAGS = 0, AT_STATUS = 4, AT_PID = 12, AT_START_SECONDS = 120, AT_START_MICROSECONDS = 128 };
enum { RUSAGE_INFO_V2 = 2, AT_PHYS_FOOTPRINT = 72, AT_DISKIO_BYTESREAD = 144 };
enum { PROC_PIDLISTFDS = 1, PROC_PIDFDSOCKETINFO = 3, SIZE_OF_SOCKET_FDINFO = 792 };
enum { AT_FAMILY = 184, AT_QLEN = 194, AT_INCQLEN = 196, AT_RCV_CC = 208, AT_KIND = 256 };
enum { AT_FPORT = 264, AT_LPORT = 268, AT_GENCNT = 272, AT_VFLAG = 288, AT_FADDR = 296 };
enum { AT_LADDR = 312, AT_TCP_STATE = 344 };
enum { PROX_FDTYPE_VNODE = 1, PROX_FDTYPE_SOCKET = 2, SOCKINFO_GENERIC = 0, SOCKINFO_TCP = 2 };
enum { INI_IPV4 = 1, INI_IPV6 = 2, MAC_AF_INET = 2, MAC_AF_INET6 = 30 };
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

/* The inode of the socket behind a descriptor; 0: it is none, or there is none. */
static unsigned long long socket_inode(int pid, int descriptor) {
    char path[64], link[64];
    unsigned long long inode = 0;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, descriptor);
    ssize_t length = readlink(path, link, sizeof link - 1);
    link[length > 0 ? length : 0] = 0;
    sscanf(link, "socket:[%llu]", &inode);
    return inode;
}

struct proc_fdinfo {
    int32_t descriptor;
    uint32_t type;
};

/* Without a buffer twenty more than there are; with one as many as it has room for. */
static int list_descriptors(int pid, struct proc_fdinfo *list, int size) {
    char path[64];
    int count = 0, most = size / (int)sizeof *list;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *directory = opendir(path);
    if (!directory) {
        errno = ESRCH;
        return 0;
    }
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (entry->d_name[0] == '.') continue;
        if (list && count < most) {
            int descriptor = atoi(entry->d_name);
            list[count].descriptor = descriptor;
            list[count].type = socket_inode(pid, descriptor) ? PROX_FDTYPE_SOCKET : PROX_FDTYPE_VNODE;
        }
        if (!list || count < most) count++;
    }
    closedir(directory);
    return (list ? count : count + 20) * (int)sizeof *list;
}

/* TSI_S_... of each state of <net/tcp_states.h>. */
static const int tcp_states[] = {0, 4, 2, 3, 6, 9, 10, 0, 5, 8, 1, 7};

static void put(unsigned char *info, int at, uint32_t value, int size) { memcpy(info + at, &value, size); }

/* An address of /proc/net: words of 32 bits as the machine has them. */
static void put_address(unsigned char *info, int at, const char *hex, int is_v6, int is_mapped) {
    for (int word = 0; word < (is_v6 ? 4 : 1); word++) {
        uint32_t value;
        sscanf(hex + 8 * word, "%8x", &value);
        if (!is_mapped || word == 3) memcpy(info + at + (is_v6 ? 4 * word : 12), &value, sizeof value);
    }
}

/* What /proc/PID/net/tcp or tcp6 says of a socket; 0: it is not there. */
static int tell_tcp(int pid, unsigned long long wanted, int is_v6, unsigned char *info) {
    char path[64], line[512], own[40], peer[40];
    snprintf(path, sizeof path, "/proc/%d/net/%s", pid, is_v6 ? "tcp6" : "tcp");
    FILE *file = fopen(path, "r");
    unsigned port, peer_port, state, unread;
    unsigned long long inode;
    int found = 0;
    while (file && !found && fgets(line, sizeof line, file))
        found = sscanf(line, " %*d: %32[^:]:%x %32[^:]:%x %x %*x:%x %*s %*s %*s %*s %llu", own, &port, peer,
                       &peer_port, &state, &unread, &inode) == 7 && inode == wanted;
    if (file) fclose(file);
    if (!found) return 0;
    int listens = state == 10, is_mapped = is_v6 && !strncmp(own, "0000000000000000FFFF0000", 24);
    put(info, AT_KIND, SOCKINFO_TCP, 4);
    put(info, AT_FAMILY, is_v6 ? MAC_AF_INET6 : MAC_AF_INET, 4);
    put(info, AT_VFLAG, is_v6 && !is_mapped ? INI_IPV6 | (listens ? INI_IPV4 : 0) : INI_IPV4, 1);
    /* Of one that listens Linux tells the queue there; the end of a stream is no byte on macOS. */
    put(info, AT_QLEN, listens ? unread + 1 : 0, 2);
    put(info, AT_INCQLEN, listens, 2);
    put(info, AT_RCV_CC, listens ? 0 : unread - (state == 8 && unread), 4);
    put(info, AT_LPORT, (port & 0xFF) << 8 | port >> 8, 4);
    put(info, AT_FPORT, (peer_port & 0xFF) << 8 | peer_port >> 8, 4);
    put(info, AT_TCP_STATE, tcp_states[state], 4);
    put_address(info, AT_LADDR, own, is_v6, is_mapped);
    put_address(info, AT_FADDR, peer, is_v6, is_mapped);
    memcpy(info + AT_GENCNT, &wanted, sizeof wanted);
    return 1;
}

int proc_pidfdinfo(int pid, int descriptor, int flavor, void *buffer, int size) {
    unsigned char *info = buffer;
    unsigned long long inode = socket_inode(pid, descriptor);
    if (pid == refused || flavor != PROC_PIDFDSOCKETINFO || size < SIZE_OF_SOCKET_FDINFO) {
        errno = pid == refused ? refusal : ENOMEM;
        return 0;
    }
    if (!inode) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d", pid);
        errno = access(path, F_OK) ? ESRCH : EBADF;
        return 0;
    }
    memset(info, 0, SIZE_OF_SOCKET_FDINFO);
    if (!tell_tcp(pid, inode, 0, info)) tell_tcp(pid, inode, 1, info);
    return SIZE_OF_SOCKET_FDINFO;
}

int proc_pidinfo(int pid, int flavor, uint64_t with_zombies, void *buffer, int size) {
    unsigned char *info = buffer;
    unsigned long long start;
    char state;
    if (pid == refused) {
        errno = refusal;
        return 0;
    }
    if (flavor == PROC_PIDLISTFDS) return list_descriptors(pid, buffer, size);
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
    if (!file || flavor != RUSAGE_INFO_V2) {
        errno = ESRCH;
        return -1;
    }
    unsigned long long kilobytes;
    uint64_t footprint = 0, bytes_read = 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "RssAnon: %llu", &kilobytes) == 1) footprint = kilobytes * 1024;
    fclose(file);
    /* All that it reads, as if nothing of it were in memory. */
    snprintf(path, sizeof path, "/proc/%d/io", pid);
    if ((file = fopen(path, "r"))) {
        unsigned long long count;
        if (fscanf(file, "rchar: %llu", &count) == 1) bytes_read = count;
        fclose(file);
    }
    memset(usage, 0, SIZE_OF_RUSAGE_V2);
    memcpy(usage + AT_PHYS_FOOTPRINT, &footprint, sizeof footprint);
    memcpy(usage + AT_DISKIO_BYTESREAD, &bytes_read, sizeof bytes_read);
    return 0;
}

static unsigned long long kilobytes_of(const char *name) {
    char line[256], told[64];
    unsigned long long count = 0, value;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "%63[^:]: %llu", told, &value) == 2 && !strcmp(told, name)) count = value;
    if (file) fclose(file);
    return count;
}

int sysctlbyname(const char *name, void *value, size_t *size, void *to, size_t length) {
    unsigned long long page = sysconf(_SC_PAGESIZE), told;
    if (!strcmp(name, "hw.pagesize")) told = page;
    else if (!strcmp(name, "kern.memorystatus_vm_pressure_level")) told = 1;
    else if (!strcmp(name, "vm.page_free_count")) told = kilobytes_of("MemFree") * 1024 / page;
    else if (!strcmp(name, "vm.page_pageable_external_count")) told = kilobytes_of("Cached") * 1024 / page;
    else if (!strcmp(name, "vm.page_purgeable_count")) told = 0;
    else {
        errno = ENOENT;
        return -1;
    }
    if (to || length || *size < sizeof told) {
        errno = EINVAL;
        return -1;
    }
    memcpy(value, &told, *size = sizeof told);
    return 0;
}

size_t malloc_zone_pressure_relief(void *zone, size_t goal) { return zone || goal ? 0 : 1; }
