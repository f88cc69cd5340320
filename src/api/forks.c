/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forks: one counter, one list, one handler.
 */
#include "forks.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static atomic_uint count;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards `kept_list` */
static struct list kept_list;

static void before(void)
{
    pthread_mutex_lock(&lock);
}

static void after_in_parent(void)
{
    pthread_mutex_unlock(&lock);
}

/* Nothing here but what may be called between fork and exec. */
static void after_in_child(void)
{
    struct list_link *link;
    atomic_fetch_add(&count, 1);
    while ((link = list_pop_front(&kept_list)))
        close(list_entry(link, struct forks_descriptor, link)->descriptor);
    pthread_mutex_unlock(&lock);
}

static void begin(void)
{
    list_init(&kept_list);
    pthread_atfork(before, after_in_parent, after_in_child);
}

unsigned forks_seen(void)
{
    pthread_once(&once, begin);
    return atomic_load_explicit(&count, memory_order_relaxed);
}

void forks_keep(struct forks_descriptor *kept, int descriptor)
{
    pthread_once(&once, begin);
    pthread_mutex_lock(&lock);
    kept->descriptor = descriptor;
    list_push_back(&kept_list, &kept->link);
    pthread_mutex_unlock(&lock);
}

void forks_drop(struct forks_descriptor *kept)
{
    pthread_once(&once, begin);
    pthread_mutex_lock(&lock);
    list_remove(&kept->link);
    pthread_mutex_unlock(&lock);
}
