/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node_zygote_link: what the node and a zygote say to each other.
 *
 * Over a pair of sockets that keeps messages apart, of which the zygote inherits one end; nobody
 * else can reach it.  To the zygote:
 *
 *     load\0 TEXT                     once: what it imports (its interpreter's affair)
 *     fork\0 ARGUMENT\0 ARGUMENT\0 ...  with the descriptors of the replica's document, of the
 *                                     node's lifeline, of its stderr, and in a service of that
 *                                     pipe's other end
 *
 * From it:                            from the new replica, when it stands by itself:
 *
 *     warm                                here ID PID
 *     unfit REASON
 *     failed ID REASON
 *
 * A replica that cannot say "here" ends: nothing that the node does not know lives on.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "node.h"
#include "socket.h"

enum { DESCRIPTOR_LIMIT = 4, MESSAGE_LIMIT = 16384 };

int node_zygote_pair(int *ret_ours, int *ret_theirs)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
        return -errno;
    *ret_ours = pair[0];
    *ret_theirs = pair[1];
    return 0;
}

static int send_with(int socket, struct iovec *parts, size_t part_count, const int *descriptors,
                     size_t count)
{
    union {
        char bytes[CMSG_SPACE(DESCRIPTOR_LIMIT * sizeof(int))];
        struct cmsghdr aligned;
    } control = {.bytes = {0}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = part_count};
    if (count) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *part = CMSG_FIRSTHDR(&message);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(part), descriptors, count * sizeof(int));
    }
    ssize_t sent;
    while ((sent = sendmsg(socket, &message, MSG_NOSIGNAL)) < 0 && errno == EINTR)
        ;
    return sent < 0 ? -errno : 0;
}

int node_zygote_send_load(const struct node_zygote *zygote)
{
    static const char word[] = "load"; /* with its end */
    struct iovec parts[] = {{(void *)word, sizeof word}, {zygote->load, strlen(zygote->load)}};
    return send_with(zygote->socket, parts, 2, NULL, 0);
}

int node_zygote_send_fork(const struct node_zygote *zygote, const struct node_replica *replica)
{
    const struct node *node = zygote->node;
    const struct node_order *order = replica->order;
    struct node_program program;
    char words[MESSAGE_LIMIT] = "fork";
    size_t size = sizeof "fork";
    int descriptors[DESCRIPTOR_LIMIT] = {order->document.descriptor, node->lifeline[1],
                                         order->words, replica->words_descriptor};
    node_program_fill(&program, replica);
    for (const char **word = program.list; *word; word++) {
        size_t length = strlen(*word) + 1;
        if (length > sizeof words - size)
            return -EMSGSIZE;
        memcpy(words + size, *word, length);
        size += length;
    }
    struct iovec part = {words, size};
    /* In a service it keeps its words for the next node. */
    return send_with(zygote->socket, &part, 1, descriptors, node->options.is_private ? 3 : 4);
}

static bool read_word(struct node_zygote_word *word, const char *text)
{
    unsigned long long id = 0;
    int pid = 0, at = 0;
    *word = (struct node_zygote_word){.type = ZYGOTE_SAYS_NOTHING};
    if (strcmp(text, "warm") == 0)
        word->type = ZYGOTE_SAYS_WARM;
    else if (sscanf(text, "unfit %n", &at) == 0 && at)
        word->type = ZYGOTE_SAYS_UNFIT;
    else if (sscanf(text, "failed %llu %n", &id, &at) == 1 && at)
        word->type = ZYGOTE_SAYS_FAILED;
    else if (sscanf(text, "here %llu %d", &id, &pid) == 2 && pid > 0)
        word->type = ZYGOTE_SAYS_HERE;
    word->replica = id;
    word->pid = pid;
    snprintf(word->text, sizeof word->text, "%.*s", (int)sizeof word->text - 1, text + at);
    return word->type != ZYGOTE_SAYS_NOTHING;
}

bool node_zygote_hear(const struct node_zygote *zygote, struct node_zygote_word *ret_word)
{
    char text[sizeof ret_word->text + 64];
    ssize_t size = socket_read(zygote->socket, text, sizeof text - 1);
    *ret_word = (struct node_zygote_word){.type = ZYGOTE_SAYS_NOTHING};
    if (size == -EAGAIN)
        return false;
    if (size <= 0) {
        ret_word->type = ZYGOTE_SAYS_END;
        return true;
    }
    text[size] = 0;
    read_word(ret_word, text); /* what it does not know is of another version, and nothing */
    return true;
}
