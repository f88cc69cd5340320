/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target for targets: what a deploy brings, what a replica starts with and what it is told,
 * from anybody.
 *
 * The first byte chooses the reader.  A document that is accepted is written again and read again,
 * and both must say the same; whatever is refused names what is wrong.
 */
#include "ensure.h"
#include "target.h"
#include "text.h"

enum { LIMIT = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size);

static void try_replica(struct bytes document)
{
    struct target_replica replica, again;
    struct target_configuration configuration, other;
    struct error error = {0};
    struct text text, start;
    if (target_read_replica(document, &replica, &error) < 0) {
        ensure(error.text[0]);
        return;
    }
    text_init(&text, LIMIT);
    target_write_replica(&text, &replica);
    ensure(target_read_replica(text_bytes(&text), &again, &error) == 0);
    ensure(again.threads == replica.threads && again.rank == replica.rank);
    ensure(bytes_equal(again.user_config, replica.user_config));
    ensure(bytes_equal(again.args, replica.args) && bytes_equal(again.options, replica.options));
    ensure(target_read_configuration_of(document, &configuration, &error) == 0);
    ensure(target_read_configuration_of(text_bytes(&text), &other, &error) == 0);
    ensure(configuration.configuration != 0);
    ensure(configuration.configuration == other.configuration);
    text_init(&start, LIMIT);
    target_write_start(&start, text_bytes(&text), configuration.configuration, 3, 4);
    ensure(target_read_replica(text_bytes(&start), &again, &error) == 0);
    /* What a document says already stands first, and counts. */
    ensure(again.rank == (replica.rank ? replica.rank : 3));
    text_done(&start);
    text_done(&text);
}

static void try_configuration(struct bytes document)
{
    struct target_configuration configuration, again;
    struct error error = {0};
    struct text text;
    if (target_read_configuration(document, &configuration, &error) < 0) {
        ensure(error.text[0]);
        return;
    }
    text_init(&text, LIMIT);
    target_write_configuration(&text, &configuration);
    ensure(target_read_configuration(text_bytes(&text), &again, &error) == 0);
    ensure(again.configuration == configuration.configuration && again.rank == configuration.rank);
    ensure(bytes_equal(again.user_config, configuration.user_config));
    text_done(&text);
}

static void try_app(struct bytes document)
{
    struct target_deployment deployment;
    struct error error = {0};
    struct bytes ingress;
    uint32_t count;
    if (target_read_app(document, &ingress, &count, &error) < 0) {
        ensure(error.text[0]);
        return;
    }
    struct target_deployment other;
    struct bytes rest = {0};
    for (uint32_t i = 0; i < count && i < 16; i++) {
        error = (struct error){0};
        int code = target_read_deployment(document, i, &deployment, &error);
        ensure(target_next_deployment(document, i, &rest, &other, &error) == code);
        if (code < 0) {
            ensure(error.text[0]);
            continue;
        }
        ensure(deployment.replica.at == other.replica.at && deployment.version == other.version);
        try_replica(deployment.replica);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size)
{
    static void (*const tries[])(struct bytes) = {try_replica, try_configuration, try_app};
    if (size > 0)
        tries[at[0] % 3](bytes_of(at + 1, size - 1));
    return 0;
}
