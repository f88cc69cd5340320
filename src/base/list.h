/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list: an intrusive, circular, doubly linked list.
 *
 * A state is the list you are on: an object embeds one `struct list_link` per list it may be on at
 * a time.  The head is a `struct list` that also knows its length, so that counts and lists cannot
 * disagree.  A link that is on no list points to null.
 *
 *     struct list_link *link;
 *     list_each (link, &list) { struct thing *thing = list_entry(link, struct thing, link); ... }
 *
 * The body may not remove other links than the current one, and that only with list_each_safe.
 */
#ifndef MANTA_BASE_LIST_H
#define MANTA_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "ensure.h"

struct list;

struct list_link {
    struct list_link *next, *prev; /* null while on no list */
    struct list *list;             /* the list it is on, or null */
};

struct list {
    struct list_link head; /* sentinel */
    size_t length;         /* links on the list */
};

#define list_entry(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))
#define list_each(link, of)                                                                        \
    for ((link) = (of)->head.next; (link) != &(of)->head; (link) = (link)->next)
#define list_each_safe(link, after, of)                                                            \
    for ((link) = (of)->head.next, (after) = (link)->next; (link) != &(of)->head;                  \
         (link) = (after), (after) = (link)->next)

static inline void list_init(struct list *list)
{
    list->head.next = list->head.prev = &list->head;
    list->head.list = list;
    list->length = 0;
}

static inline bool list_linked(const struct list_link *link)
{
    return link->list != NULL;
}

static inline void list_insert_between(struct list *list, struct list_link *link,
                                       struct list_link *prev, struct list_link *next)
{
    ensure(link->list == NULL);
    link->list = list;
    link->prev = prev;
    link->next = next;
    prev->next = next->prev = link;
    list->length++;
}

static inline void list_push_back(struct list *list, struct list_link *link)
{
    list_insert_between(list, link, list->head.prev, &list->head);
}

static inline void list_push_front(struct list *list, struct list_link *link)
{
    list_insert_between(list, link, &list->head, list->head.next);
}

/* `before` is on a list; `link` goes right in front of it. */
static inline void list_insert_before(struct list_link *before, struct list_link *link)
{
    list_insert_between(before->list, link, before->prev, before);
}

/* Off its list; nothing happens to a link that is on none. */
static inline void list_remove(struct list_link *link)
{
    if (!link->list)
        return;
    ensure(link->list->length > 0);
    link->list->length--;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->next = link->prev = NULL;
    link->list = NULL;
}

static inline struct list_link *list_first(struct list *list)
{
    return list->length ? list->head.next : NULL;
}

static inline struct list_link *list_last(struct list *list)
{
    return list->length ? list->head.prev : NULL;
}

static inline struct list_link *list_pop_front(struct list *list)
{
    struct list_link *link = list_first(list);
    if (link)
        list_remove(link);
    return link;
}

static inline bool list_empty(const struct list *list)
{
    return list->length == 0;
}

#endif
