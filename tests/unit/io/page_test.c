/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages between a writer and a reader who does not trust it.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "page.h"

enum { SIZE = 1024 * sizeof(uint32_t) };

static uint64_t id_of(uint32_t generation, uint32_t index)
{
    return (uint64_t)generation << 32 | index;
}

Test(page, a_mark_is_seen_by_the_reader_also_after_the_writer_died)
{
    struct page writer, reader;
    cr_assert_eq(page_create(&writer, "taken", SIZE), 0);
    cr_assert_eq(page_map(&reader, dup(writer.descriptor), SIZE), 0);
    cr_assert_not(page_is_taken(&reader, id_of(1, 3)));
    pid_t pid = fork();
    if (pid == 0) {
        page_mark_taken(&writer, id_of(1, 3));
        page_mark_taken(&writer, id_of(7, 1023));
        _exit(0);
    }
    cr_assert_eq(waitpid(pid, NULL, 0), pid);
    page_close(&writer);
    cr_assert(page_is_taken(&reader, id_of(1, 3)));
    cr_assert(page_is_taken(&reader, id_of(7, 1023)));
    cr_assert_not(page_is_taken(&reader, id_of(2, 3)), "a later request in the same slot");
    cr_assert_not(page_is_taken(&reader, id_of(1, 4)));
    cr_assert_not(page_is_taken(&reader, id_of(1, 1024)), "beyond the page");
    page_close(&reader);
    page_close(&reader);
    cr_assert_not(page_is_taken(&reader, id_of(1, 3)));
}

Test(page, a_reader_cannot_write_and_nobody_can_cut_it_off)
{
    struct page writer;
    cr_assert_eq(page_create(&writer, "taken", SIZE), 0);
    cr_assert_eq(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, writer.descriptor, 0),
                 MAP_FAILED);
    cr_assert_eq(ftruncate(writer.descriptor, 0), -1);
    cr_assert_eq(write(writer.descriptor, "x", 1), -1);
    cr_assert(fcntl(writer.descriptor, F_GETFD) & FD_CLOEXEC);
    page_close(&writer);
}

Test(page, a_page_without_seals_is_refused)
{
    struct page reader;
    int open_ended = memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cr_assert_eq(ftruncate(open_ended, SIZE), 0);
    cr_assert_eq(page_map(&reader, open_ended, SIZE), -EPERM);
    cr_assert_eq(fcntl(open_ended, F_GETFD), -1, "a refused descriptor is closed");
    cr_assert_null(reader.at);

    int half = memfd_create("half", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cr_assert_eq(ftruncate(half, SIZE), 0);
    cr_assert_eq(fcntl(half, F_ADD_SEALS, F_SEAL_GROW), 0);
    cr_assert_eq(page_map(&reader, half, SIZE), -EPERM);
}

Test(page, a_page_that_is_too_small_is_refused)
{
    struct page writer, reader;
    cr_assert_eq(page_create(&writer, "small", SIZE), 0);
    cr_assert_eq(page_map(&reader, dup(writer.descriptor), SIZE + 1), -EMSGSIZE);
    cr_assert_eq(page_map(&reader, dup(writer.descriptor), SIZE), 0);
    page_close(&reader);
    page_close(&writer);
}

Test(page, a_descriptor_of_another_kind_is_refused)
{
    struct page reader;
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    cr_assert_lt(page_map(&reader, ends[0], SIZE), 0);
    cr_assert_lt(page_map(&reader, open("/proc/self/exe", O_RDONLY), SIZE), 0);
    cr_assert_eq(page_map(&reader, -1, SIZE), -EPERM);
    close(ends[1]);
}
