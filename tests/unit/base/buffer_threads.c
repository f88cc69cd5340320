/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers across threads: one thread fills buffers and hands references to the others through
 * mailboxes; whoever comes last gives the buffer back, and the filler gets it again.
 *
 * A plain main, so that ThreadSanitizer sees one process from its first instruction to its last.
 * Every reader checks that a buffer holds what was written for it: a buffer that came back too
 * early would hold the next round's bytes.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "buffer.h"
#include "ensure.h"
#include "mem.h"

enum { READERS = 3, ROUNDS = 3000, BOX_SIZE = 8, BUFFER_SIZE = 256 };

/* A bounded queue of buffers from the filler to one reader. */
struct mailbox {
    pthread_mutex_t lock;   /* guards what is below */
    pthread_cond_t changed; /* signalled whenever count changes */
    struct buffer *buffers[BOX_SIZE];
    unsigned first, count;
};

static struct mailbox boxes[READERS];
static struct buffer_store *store;

static void mailbox_put(struct mailbox *box, struct buffer *buffer)
{
    pthread_mutex_lock(&box->lock);
    while (box->count == BOX_SIZE)
        pthread_cond_wait(&box->changed, &box->lock);
    box->buffers[(box->first + box->count++) % BOX_SIZE] = buffer;
    pthread_cond_broadcast(&box->changed);
    pthread_mutex_unlock(&box->lock);
}

static struct buffer *mailbox_take(struct mailbox *box)
{
    pthread_mutex_lock(&box->lock);
    while (box->count == 0)
        pthread_cond_wait(&box->changed, &box->lock);
    struct buffer *buffer = box->buffers[box->first];
    box->first = (box->first + 1) % BOX_SIZE;
    box->count--;
    pthread_cond_broadcast(&box->changed);
    pthread_mutex_unlock(&box->lock);
    return buffer;
}

static void *read_all(void *box)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct buffer *buffer = mailbox_take(box);
        struct buffer *second = buffer_ref(buffer);
        uint8_t expected[BUFFER_SIZE];
        memset(expected, (int)(round % 256), sizeof(expected));
        ensure(memcmp(buffer->data, expected, sizeof(expected)) == 0);
        buffer_unref(second);
        buffer_unref(buffer);
        /* A buffer of this thread's own, so that the free list is taken from on many threads. */
        struct buffer *own = buffer_try_new(store, BUFFER_SIZE);
        ensure(own);
        memset(own->data, 0xFF, BUFFER_SIZE);
        buffer_unref(own);
    }
    return NULL;
}

int main(void)
{
    pthread_t readers[READERS];
    uint64_t live = mem_count().live;
    store = buffer_store_new(BUFFER_SIZE, 4);
    for (int i = 0; i < READERS; i++) {
        ensure(pthread_mutex_init(&boxes[i].lock, NULL) == 0 &&
               pthread_cond_init(&boxes[i].changed, NULL) == 0);
        ensure(pthread_create(&readers[i], NULL, read_all, &boxes[i]) == 0);
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct buffer *buffer = buffer_try_new(store, BUFFER_SIZE);
        ensure(buffer);
        memset(buffer->data, (int)(round % 256), BUFFER_SIZE);
        for (int i = 0; i < READERS; i++)
            mailbox_put(&boxes[i], buffer_ref(buffer));
        buffer_unref(buffer);
    }
    for (int i = 0; i < READERS; i++)
        ensure(pthread_join(readers[i], NULL) == 0);
    ensure(buffer_store_live_bytes(store) == 0);
    buffer_store_free(store);
    ensure(mem_count().live == live);
    puts("every buffer came back");
    return 0;
}
