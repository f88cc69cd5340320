/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chain: an ingress that asks a second deployment through a handle.
 *
 * `front` hands the request's query to `back`, which leads it to the gate of puppet.c's kind; here
 * the gate knows only two words: 'a' answers, 'c' crashes `back`.  So a death behind a handle can be
 * told from the death of the ingress.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <manta/manta.h>

static int front_open(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    struct manta_handle *back;
    int code = manta_args_handle(manta_replica_args(replica), 0, &back, reterr);
    *ret_state = code < 0 ? NULL : back;
    return code;
}

static void front_close(void *state)
{
    manta_handle_free(state);
}

static void front_call(void *state, struct manta_request *request)
{
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .parent = request};
    struct manta_arg query = manta_string(manta_request_query(request));
    struct manta_error error = {0};
    struct manta_call *call = NULL;
    int code = manta_call(state, &options, &query, 1, &call, &error);
    if (code == 0)
        code = manta_call_wait(call, -1, &error);
    if (code < 0)
        manta_request_fail(request, code, "back: %s", error.text);
    else
        manta_request_reply_arg(request, manta_copied(manta_call_value(call)));
    manta_call_free(call);
}

static void on_cancel(void *owner)
{
    if (send(*(int *)owner, "cancelled\n", 10, MSG_NOSIGNAL) < 0)
        perror("chain: the gate is gone");
}

static void back_call(void *state, struct manta_request *request)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct manta_error error = {0};
    const char *query, *replica = manta_replica_id(manta_request_replica(request));
    char line[128], word = 'a';
    int gate = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)state;
    if (manta_args_string(manta_request_args(request), 0, &query, &error) == 0 &&
        strncmp(query, "gate=", 5) == 0) {
        snprintf(address.sun_path, sizeof address.sun_path, "%s", query + 5);
        int size = snprintf(line, sizeof line, "entered %s %d %s\n", replica, (int)getpid(),
                            manta_request_id(request));
        if (connect(gate, (struct sockaddr *)&address, sizeof address) < 0 ||
            send(gate, line, (size_t)size, MSG_NOSIGNAL) < 0)
            abort();
        manta_request_on_cancel(request, on_cancel, &gate);
        if (recv(gate, &word, 1, 0) != 1)
            word = 'a';
    }
    if (word == 'c')
        abort();
    manta_request_reply_string(request, replica);
    close(gate);
}

MANTA_DEPLOYMENT(back, .call = back_call, .threads = 4);
MANTA_DEPLOYMENT(front, .open = front_open, .close = front_close, .call = front_call, .threads = 4);

MANTA_APPLICATION(chain)
{
    return manta_bind(app, &front, manta_bind(app, &back));
}
