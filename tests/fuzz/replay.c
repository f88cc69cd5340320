/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replays a fuzz target's corpus without a fuzzer: every file of the directories that are named is
 * one input.  Linked with one target at a time.  The name of each input is written before it runs,
 * so that the last line names the one that broke something.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_LIMIT = 4096, INPUT_LIMIT = 16 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size);

static _Noreturn void die(const char *path)
{
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    exit(1);
}

/* The input's bytes stand in a block of exactly their size, so that AddressSanitizer sees its end.
 */
static void replay_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *at = malloc(size ? size : 1);

    if (!file || !at || fread(at, 1, size, file) != size)
        die(path);
    fclose(file);
    fprintf(stderr, "%s\n", path);
    LLVMFuzzerTestOneInput(at, size);
    free(at);
}

static size_t replay_directory(const char *directory)
{
    size_t count = 0;
    struct dirent *entry;
    DIR *listing = opendir(directory);

    if (!listing)
        die(directory);
    while ((entry = readdir(listing))) {
        char path[PATH_LIMIT];
        struct stat status;
        snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
        if (stat(path, &status) < 0)
            die(path);
        if (!S_ISREG(status.st_mode))
            continue;
        if (status.st_size > INPUT_LIMIT) {
            errno = EFBIG;
            die(path);
        }
        replay_file(path, (size_t)status.st_size);
        count++;
    }
    closedir(listing);
    return count;
}

int main(int argc, char **argv)
{
    size_t count = 0;

    for (int i = 1; i < argc; i++)
        count += replay_directory(argv[i]);
    printf("%zu inputs\n", count);
    return count > 0 ? 0 : 1;
}
