/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target for the file of `manta deploy`: any text, from anybody.
 *
 * Either there is a file and no complaint, or no file and complaints, each a line that names the
 * file; what a file holds keeps the promises of deploy_file.h; and reading it again says the same.
 */
#include <string.h>

#include "deploy_file.h"
#include "ensure.h"

enum { COMPLAINTS_SIZE = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size);

static void check_complaints(const struct text *complaints)
{
    const char *line = text_string(complaints);
    int count = 0;
    ensure(!complaints->failed && *line);
    for (; *line; line = strchr(line, '\n') + 1, count++) {
        ensure(strncmp(line, "f:", 2) == 0 && strchr(line, '\n'));
        ensure(count <= DEPLOY_FILE_COMPLAINT_LIMIT);
    }
}

static void check_app(const struct deploy_file *file, uint32_t index)
{
    const struct deploy_file_app *app = &file->apps[index];
    ensure(app->name[0] && app->import_path[0] && app->line > 0);
    ensure(!app->route_prefix || app->route_prefix[0] == '/');
    ensure(app->is_library ? app->arguments && !app->json : app->json && app->json[0] == '{');
    for (uint32_t i = 0; i < index; i++)
        ensure(strcmp(file->apps[i].name, app->name) != 0);
    for (uint32_t i = 0; app->is_library && app->arguments[i]; i++)
        ensure(strchr(app->arguments[i], '='));
    for (uint32_t i = 0; i < app->override_count; i++)
        ensure(app->overrides[i].name && app->overrides[i].num_replicas >= -1 &&
               app->overrides[i].max_queued_requests >= -2);
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size)
{
    struct text complaints, again;
    text_init(&complaints, COMPLAINTS_SIZE);
    text_init(&again, COMPLAINTS_SIZE);
    struct deploy_file *file = deploy_file_read(bytes_of(at, size), "f", &complaints);
    struct deploy_file *twin = deploy_file_read(bytes_of(at, size), "f", &again);
    ensure(!file == !twin && bytes_equal(text_bytes(&complaints), text_bytes(&again)));
    ensure(file || complaints.size);
    ensure(!file || !complaints.size);
    if (!file)
        check_complaints(&complaints);
    for (uint32_t i = 0; file && i < file->app_count; i++)
        check_app(file, i);
    deploy_file_free(file);
    deploy_file_free(twin);
    text_done(&complaints);
    text_done(&again);
    return 0;
}
