/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_limits: connections, descriptors, bytes: what happens at the edge and that it goes on
 * behind it.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "proxy_stage.h"

static const char HEALTH[] = "GET /-/healthz HTTP/1.1\r\nHost: h\r\n\r\n";

Test(proxy_limits, clients_past_the_limit_wait_until_one_has_left)
{
    struct stage *stage = stage_new();
    stage->proxy.settings.http_connection_limit = 2;
    stage_start(stage);
    struct client *clients[4];
    for (int i = 0; i < 4; i++) {
        clients[i] = client_new(stage);
        client_say(clients[i], HEALTH);
    }
    cr_assert_eq(client_status(clients[0]), 200);
    cr_assert_eq(client_status(clients[1]), 200);
    cr_assert(client_hears_nothing(clients[2]) && client_hears_nothing(clients[3]));
    client_leave(clients[0]);
    cr_assert_eq(client_status(clients[2]), 200);
    client_leave(clients[1]);
    cr_assert_eq(client_status(clients[3]), 200);
    for (int i = 0; i < 4; i++)
        client_free(clients[i]);
    stage_free(stage);
}

Test(proxy_limits, without_descriptors_a_client_is_turned_away_and_the_next_served)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage), *next = client_new(stage);
    struct rlimit before, none;
    getrlimit(RLIMIT_NOFILE, &before);
    int highest = open("/dev/null", O_RDONLY);
    close(highest);
    none = (struct rlimit){.rlim_cur = (rlim_t)highest, .rlim_max = before.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    uint64_t full = metric_get(accept_full_total);
    client_say(client, HEALTH);
    cr_assert(client_sees_end(client));
    cr_assert_gt(metric_get(accept_full_total), full);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    client_say(next, HEALTH);
    cr_assert_eq(client_status(next), 200);
    client_free(client);
    client_free(next);
    stage_free(stage);
}

Test(proxy_limits, past_the_byte_budget_clients_are_not_read_until_bytes_have_left)
{
    struct stage *stage = stage_new();
    stage->proxy.settings.process_byte_budget = 1 << 20;
    stage_start(stage);
    enum { COUNT = 5, SIZE = 200000 };
    struct client *clients[COUNT], *other = client_new(stage);
    uint64_t first[COUNT], second[COUNT];
    for (int i = 0; i < COUNT; i++) {
        clients[i] = client_new(stage);
        client_say(clients[i],
                   "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n");
        first[i] = replica_request(stage, NULL);
        second[i] = replica_request(stage, NULL);
    }
    /* Answers that must wait for the ones before them pile up. */
    for (int i = 0; i < COUNT; i++) {
        replica_begin(stage, second[i], SIZE);
        for (size_t sent = 0; sent < SIZE; sent += 50000)
            replica_part(stage, second[i], pattern(50000), sent + 50000 == SIZE ? WIRE_END : 0);
    }
    cr_assert_not(proxy_has_budget(&stage->proxy));
    client_say(other, HEALTH);
    cr_assert_eq(client_status(other), 200);
    cr_assert_gt(stage->proxy.starved.length, 0);
    client_say(other, HEALTH);
    cr_assert(client_hears_nothing(other));
    for (int i = 0; i < COUNT; i++) {
        replica_reply(stage, first[i], 200, "a");
        cr_assert_eq(client_status(clients[i]), 200);
        cr_assert_eq(client_status(clients[i]), 200);
        cr_assert_eq(clients[i]->body_size, SIZE);
        client_free(clients[i]);
    }
    cr_assert_eq(client_status(other), 200);
    cr_assert(proxy_has_budget(&stage->proxy) && stage->proxy.starved.length == 0);
    client_free(other);
    stage_free(stage);
}

Test(proxy_limits, a_client_that_was_starved_in_its_body_has_a_time_limit_again)
{
    struct stage *stage = stage_new();
    stage->proxy.settings.http_progress_timeout_ms = 100;
    stage_start(stage);
    struct client *client = client_new(stage);
    client_say(client, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
    uint64_t stream = replica_request(stage, NULL);
    stage->proxy.settings.process_byte_budget = 0;
    client_send(client, pattern(100));
    stage_turns(stage, 3);
    cr_assert_eq(stage->proxy.starved.length, 1);
    cr_assert_eq(stage->proxy.phases[PHASE_BUSY].length, 1, "nobody is judged who is not read");
    stage->proxy.settings.process_byte_budget = 1 << 20;
    cr_assert_eq(client_status(client), 408);
    struct wire_header header;
    do
        replica_any_frame(stage, &header);
    while (header.type == WIRE_PART_FRAME);
    cr_assert_eq(header.type, WIRE_CANCEL_FRAME);
    replica_fail(stage, stream, ERROR_CANCELLED, "");
    client_free(client);
    stage_free(stage);
}

/* In our own absence bytes may have come that we have not looked at. */
Test(proxy_limits, a_turn_that_came_late_judges_nobody)
{
    struct stage *stage = stage_new();
    stage->proxy.settings.http_head_timeout_ms = 10;
    stage->proxy.settings.late_turn_ms = 10;
    stage_start(stage);
    struct client *client = client_new(stage);
    client_say(client, "GET /-/healthz HT");
    cr_assert_neq(stage->proxy.timer.due_ns, 0);
    uint64_t late = metric_get(turns_late_total);
    struct timespec now;
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while (now.tv_sec * 1000000000LL + now.tv_nsec < stage->proxy.timer.due_ns + 15000000);
    stage_turns(stage, 1);
    cr_assert_eq(metric_get(turns_late_total), late + 1);
    cr_assert_gt(stage->proxy.timer.due_ns, loop_now_ns(stage->proxy.loop) + 50000000);
    client_say(client, "TP/1.1\r\nHost: h\r\n\r\n");
    cr_assert_eq(client_status(client), 200);
    client_free(client);
    stage_free(stage);
}
