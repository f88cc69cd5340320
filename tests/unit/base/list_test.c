/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists: order, length, and links that know where they are.
 */
#include "list.h"

#include <criterion/criterion.h>
#include <signal.h>

#include "id.h"

struct thing {
    int number;
    struct list_link link;
};

/* The numbers on the list as one decimal number: 1, 2, 3 gives 123. */
static int digits(struct list *list)
{
    int value = 0;
    struct list_link *link;
    list_each (link, list)
        value = value * 10 + list_entry(link, struct thing, link)->number;
    return value;
}

Test(list, links_keep_their_order_and_the_head_counts)
{
    struct list list;
    struct thing one = {1}, two = {2}, three = {3}, four = {4};
    list_init(&list);
    cr_assert(list_empty(&list));
    cr_assert_null(list_first(&list));
    cr_assert_null(list_last(&list));
    cr_assert_null(list_pop_front(&list));
    list_push_back(&list, &two.link);
    list_push_back(&list, &four.link);
    list_push_front(&list, &one.link);
    list_insert_before(&four.link, &three.link);
    cr_assert_eq(digits(&list), 1234);
    cr_assert_eq(list.length, 4);
    cr_assert_eq(list_first(&list), &one.link);
    cr_assert_eq(list_last(&list), &four.link);
    cr_assert_eq(list_pop_front(&list), &one.link);
    cr_assert_eq(digits(&list), 234);
}

Test(list, a_link_knows_its_list_and_forgets_it)
{
    struct list waiting, running;
    struct thing thing = {1};
    list_init(&waiting);
    list_init(&running);
    cr_assert(!list_linked(&thing.link));
    list_remove(&thing.link);
    list_push_back(&waiting, &thing.link);
    cr_assert_eq(thing.link.list, &waiting);
    list_remove(&thing.link);
    cr_assert(!list_linked(&thing.link));
    list_remove(&thing.link);
    list_push_back(&running, &thing.link);
    cr_assert(list_empty(&waiting));
    cr_assert_eq(running.length, 1);
}

Test(list, the_current_link_may_leave_while_a_list_is_walked)
{
    struct list list, even;
    struct thing things[6] = {0};
    struct list_link *link, *after;
    list_init(&list);
    list_init(&even);
    for (int i = 0; i < 6; i++) {
        things[i].number = i + 1;
        list_push_back(&list, &things[i].link);
    }
    list_each_safe (link, after, &list)
        if (list_entry(link, struct thing, link)->number % 2 == 0) {
            list_remove(link);
            list_push_back(&even, link);
        }
    cr_assert_eq(digits(&list), 135);
    cr_assert_eq(digits(&even), 246);
}

Test(list, one_link_on_two_lists_is_our_mistake, .signal = SIGABRT)
{
    struct list a, b;
    struct thing thing = {1};
    list_init(&a);
    list_init(&b);
    list_push_back(&a, &thing.link);
    list_push_back(&b, &thing.link);
}

Test(list, ids_of_one_noun_compare_and_zero_is_none)
{
    struct replica_id none = {0}, one = {1}, two = {2};
    cr_assert(replica_id_none(none));
    cr_assert(!replica_id_none(one));
    cr_assert(replica_id_equal(one, (struct replica_id){1}));
    cr_assert(!replica_id_equal(one, two));
}
