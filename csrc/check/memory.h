/* Memory for the checks: every block to the byte, so that AddressSanitizer sees one byte too many, and between guards
 * where there is no sanitizer. Blocks begin as `check_fill` says, so that what is read unwritten shows. */
#ifndef PUFFER_IL_CHECK_MEMORY_H
#define PUFFER_IL_CHECK_MEMORY_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "where.h"

#if defined(__SANITIZE_ADDRESS__)
#define CHECK_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CHECK_SANITIZED 1
#endif
#endif
#ifndef CHECK_SANITIZED
#define CHECK_SANITIZED 0
#endif

enum { CHECK_GUARD = CHECK_SANITIZED ? 0 : 64, CHECK_BLOCKS = 1024 };

typedef struct {
    const char *name;
    uint8_t *at;
    size_t size;
} CheckBlock;

static FILE *check_out;
static int check_fill;
static CheckBlock check_blocks[CHECK_BLOCKS];
static int check_used;
static bool check_done;  // the program ends as it means to

/* One line of the report: fields between tabs. */
#define check_say(...) (fprintf(check_out, __VA_ARGS__), fputc('\n', check_out), fflush(check_out))

static void check_quit(int code) {
    check_done = true;
    exit(code);
}

static inline int check_guard_byte(void) {
    return check_fill ^ 0x5a;
}

static void *check_new(const char *name, int64_t size) {
    uint8_t *whole = malloc((size_t)size + 2 * CHECK_GUARD);
    if (!whole || check_used == CHECK_BLOCKS) {
        check_say("refused\tmalloc\tout of memory");
        check_quit(3);
    }
    memset(whole, check_guard_byte(), (size_t)size + 2 * CHECK_GUARD);
    memset(whole + CHECK_GUARD, check_fill, (size_t)size);
    check_blocks[check_used++] = (CheckBlock){name, whole + CHECK_GUARD, (size_t)size};
    return whole + CHECK_GUARD;
}

/* Tells of guards that have been written to, of each kind of block once, and mends them. */
static void check_guards(void) {
    static const char *told[16];
    uint8_t intact[CHECK_GUARD + 1];
    memset(intact, check_guard_byte(), sizeof intact);
    for (int i = 0; i < check_used && CHECK_GUARD > 0; i++) {
        const CheckBlock *block = &check_blocks[i];
        if (!memcmp(block->at - CHECK_GUARD, intact, CHECK_GUARD) &&
            !memcmp(block->at + block->size, intact, CHECK_GUARD))
            continue;
        for (int k = 0; k < 2 * CHECK_GUARD; k++) {
            const int64_t at = k < CHECK_GUARD ? -k - 1 : (int64_t)block->size + k - CHECK_GUARD;  // nearest ones first
            if (block->at[at] == check_guard_byte())
                continue;
            int seen = 0;
            while (seen < 15 && told[seen] && strcmp(told[seen], block->name))
                seen++;
            if (!told[seen])
                check_say("guard\t%s\t%lld\t%lld\t%s\t%lld", block->name, (long long)at, (long long)block->size,
                          check_where.function, (long long)check_where.step);
            told[seen] = block->name;
            memset(block->at - CHECK_GUARD, check_guard_byte(), CHECK_GUARD);
            memset(block->at + block->size, check_guard_byte(), CHECK_GUARD);
            break;
        }
    }
}

static void check_delete(void *at) {
    check_guards();
    for (int i = check_used - 1; i >= 0; i--)
        if (check_blocks[i].at == at) {
            check_blocks[i] = check_blocks[--check_used];
            break;
        }
    free((uint8_t *)at - CHECK_GUARD);
}

/* The block that an address lies in or nearest to, for the sanitizer's report. */
static inline void check_tell_region(const uint8_t *address, size_t access) {
    const CheckBlock *nearest = NULL;
    int64_t best = 256;
    for (int i = 0; i < check_used; i++) {
        const CheckBlock *block = &check_blocks[i];
        const int64_t past = address - (block->at + block->size), before = block->at - address;
        const int64_t distance = past >= 0 ? past : before > 0 ? before : 0;
        if (distance < best) {
            best = distance;
            nearest = block;
        }
    }
    if (nearest)
        check_say("region\t%s\t%lld\t%lld\t%lld", nearest->name, (long long)(address - nearest->at),
                  (long long)nearest->size, (long long)access);
}

/* A hash of bytes, eight at a time. */
static uint64_t check_hash(uint64_t hash, const void *bytes, size_t size) {
    const uint8_t *at = bytes;
    for (; size >= 8; at += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        hash = rng_mix(hash ^ word);
    }
    uint64_t rest = size;
    memcpy(&rest, at, size);
    return rng_mix(hash ^ rest);
}

#endif
