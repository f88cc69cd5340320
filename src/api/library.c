/* SPDX-License-Identifier: Apache-2.0 */
/*
 * library: dlopen, the symbols of the macros, and checks of what they name.
 */
#include "library.h"

#include <ctype.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "ensure.h"
#include "text.h"

static const char DEPLOYMENT_PREFIX[] = "manta_deployment_";
static const char APPLICATION_PREFIX[] = "manta_application_";

/* Members up to here were in the first header; a shorter descriptor was never built. */
static const size_t FIRST_SIZE = offsetof(struct manta_deployment, load_model);

/* The file's bytes, mapped; false when it cannot be read. */
static bool map_file(const char *path, struct bytes *ret_bytes)
{
    struct stat about;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    void *at = MAP_FAILED;
    if (descriptor >= 0 && fstat(descriptor, &about) == 0 && about.st_size > 0)
        at = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (descriptor >= 0)
        close(descriptor);
    if (at == MAP_FAILED)
        return false;
    *ret_bytes = bytes_of(at, (size_t)about.st_size);
    return true;
}

/*
 * False when the file ends before a segment that its head announces: one that is still being copied
 * or linked.  The loader maps such a file, and the process dies when it touches what is not there.
 */
static bool is_whole(struct bytes file)
{
    const Elf64_Ehdr *head = (const void *)file.at;
    if (file.size < sizeof *head || memcmp(head->e_ident, ELFMAG, SELFMAG) != 0 ||
        head->e_ident[EI_CLASS] != ELFCLASS64 || head->e_phentsize != sizeof(Elf64_Phdr))
        return true; /* the loader's to judge */
    if (head->e_phoff % 8 || head->e_phoff > file.size ||
        (file.size - head->e_phoff) / sizeof(Elf64_Phdr) < head->e_phnum)
        return false;
    const Elf64_Phdr *segment = (const void *)(file.at + head->e_phoff);
    for (unsigned i = 0; i < head->e_phnum; i++, segment++)
        if (segment->p_filesz > file.size || segment->p_offset > file.size - segment->p_filesz)
            return false;
    return true;
}

static int check_whole(const char *path, struct error *reterr)
{
    struct bytes file;
    if (!map_file(path, &file))
        return 0; /* the loader says why */
    bool whole = is_whole(file);
    munmap((void *)file.at, file.size);
    return whole ? 0
                 : error_set(reterr, ERROR_LOAD,
                             "'%s' is not whole: it ends before its last segment", path);
}

int library_open(const char *path, void **ret_library, struct error *reterr)
{
    char local[4096];
    struct stat about;
    if (!strchr(path, '/')) {
        snprintf(local, sizeof local, "./%s", path);
        path = local;
    }
    if (stat(path, &about) < 0)
        return error_set(reterr, ERROR_NOT_FOUND, "the shared object '%s' cannot be opened: %s",
                         path, strerror(errno));
    if (!S_ISREG(about.st_mode))
        return error_set(reterr, ERROR_LOAD, "'%s' is not a file", path);
    if (check_whole(path, reterr) < 0)
        return reterr->code;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        return error_set(reterr, ERROR_LOAD, "the shared object could not be loaded: %s",
                         why ? why : path);
    }
    *ret_library = library;
    return 0;
}

void library_close(void *library)
{
    if (library)
        dlclose(library);
}

/* ---- deployments
 * ------------------------------------------------------------------------------------ */

static int refuse(const struct manta_deployment *deployment, const char *what, struct error *reterr)
{
    return error_set(reterr, ERROR_INVALID, "deployment '%s': %s", deployment->name, what);
}

static bool name_is_valid(const char *name)
{
    if (!name || !*name || strlen(name) > 128)
        return false;
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && !strchr("_.-", *name))
            return false;
    return true;
}

static int check_methods(const struct manta_deployment *deployment, struct error *reterr)
{
    if (deployment->method_count && !deployment->methods)
        return refuse(deployment, "method_count is set but methods is null", reterr);
    for (size_t i = 0; i < deployment->method_count; i++) {
        const struct manta_method *method = &deployment->methods[i];
        if (!method->name || !*method->name || !method->call || !strcmp(method->name, "__call__"))
            return error_set(reterr, ERROR_INVALID,
                             "deployment '%s': method %zu needs a name (not __call__) and a call",
                             deployment->name, i);
    }
    return 0;
}

static int check_rollout(const struct manta_deployment *deployment, struct error *reterr)
{
    if (deployment->max_surge_percent < 0 || deployment->max_surge_percent > 100)
        return refuse(deployment, "max_surge_percent must be 0 to 100", reterr);
    if (!(deployment->rolling_update_percentage > 0 && deployment->rolling_update_percentage <= 1))
        return refuse(deployment, "rolling_update_percentage must be above 0, up to 1", reterr);
    if (deployment->max_constructor_retry_count < 1)
        return refuse(deployment, "max_constructor_retry_count must be at least 1", reterr);
    if (!(deployment->start_timeout_s >= 0 && deployment->start_timeout_s <= 1e9))
        return refuse(deployment, "start_timeout_s must be at least 0", reterr);
    return 0;
}

static int check_numbers(const struct manta_deployment *deployment, struct error *reterr)
{
    if (deployment->num_replicas < 0 || deployment->num_replicas > 100000)
        return refuse(deployment, "num_replicas must be 0 to 100000", reterr);
    if (deployment->max_ongoing_requests < 1 || deployment->max_ongoing_requests > 1000000)
        return refuse(deployment, "max_ongoing_requests must be 1 to 1000000", reterr);
    if (deployment->max_queued_requests != -1 && deployment->max_queued_requests < 1)
        return refuse(deployment, "max_queued_requests must be -1 (no limit) or at least 1",
                      reterr);
    if (deployment->threads < 1 || deployment->threads > 256)
        return refuse(deployment, "threads must be 1 to 256", reterr);
    if (deployment->max_batch_size < 1 || deployment->max_batch_size > 4096)
        return refuse(deployment, "max_batch_size must be 1 to 4096", reterr);
    if (deployment->max_concurrent_batches < 1 || deployment->max_concurrent_batches > 256)
        return refuse(deployment, "max_concurrent_batches must be 1 to 256", reterr);
    if (!(deployment->batch_wait_timeout_s >= 0 && deployment->batch_wait_timeout_s <= 86400))
        return refuse(deployment, "batch_wait_timeout_s must be 0 to 86400", reterr);
    if (!(deployment->graceful_shutdown_timeout_s >= 0 &&
          deployment->graceful_shutdown_timeout_s <= 1e9))
        return refuse(deployment, "graceful_shutdown_timeout_s must be at least 0", reterr);
    if (!(deployment->graceful_shutdown_wait_loop_s >= 0))
        return refuse(deployment, "graceful_shutdown_wait_loop_s must be at least 0", reterr);
    if (!(deployment->health_check_period_s > 0 && deployment->health_check_period_s <= 1e9))
        return refuse(deployment, "health_check_period_s must be above 0", reterr);
    if (deployment->max_models < -1 || deployment->max_models == 0)
        return refuse(deployment, "max_models must be at least 1, or -1 for no limit", reterr);
    if (!(deployment->model_load_timeout_s >= 0 && deployment->model_load_timeout_s <= 1e9))
        return refuse(deployment, "model_load_timeout_s must be at least 0", reterr);
    if (!(deployment->health_check_timeout_s > 0 && deployment->health_check_timeout_s <= 1e9))
        return refuse(deployment, "health_check_timeout_s must be above 0", reterr);
    return check_rollout(deployment, reterr);
}

int library_check_deployment(const struct manta_deployment *given,
                             struct manta_deployment *ret_deployment, struct error *reterr)
{
    if (given->header_version > MANTA_HEADER_VERSION || given->size > sizeof *given)
        return error_set(reterr, ERROR_VERSION,
                         "a deployment was built against header version %u, this is version %d: "
                         "update Manta, or rebuild",
                         given->header_version, MANTA_HEADER_VERSION);
    if (given->header_version < 1 || given->size < FIRST_SIZE)
        return error_set(reterr, ERROR_INVALID,
                         "a deployment was not made by MANTA_DEPLOYMENT: its size is %zu",
                         given->size);
    /* What an older header did not have yet has its default. */
    struct manta_deployment deployment = {.max_models = 3,
                                          .max_surge_percent = 100,
                                          .rolling_update_percentage = 0.2,
                                          .max_constructor_retry_count = 20};
    memcpy(&deployment, given, given->size);
    deployment.size = sizeof deployment;
    if (!deployment.symbol || !name_is_valid(deployment.name))
        return error_set(reterr, ERROR_INVALID,
                         "a deployment's name must be 1 to 128 of A-Z a-z 0-9 _ . -, not '%s'",
                         deployment.name ? deployment.name : "");
    if (!deployment.call && !deployment.call_batch)
        return refuse(&deployment, "has neither call nor call_batch", reterr);
    if (deployment.user_config && !deployment.reconfigure)
        return refuse(&deployment, "has a user_config but no reconfigure", reterr);
    if (deployment.unload_model && !deployment.load_model)
        return refuse(&deployment, "has an unload_model but no load_model", reterr);
    if (check_methods(&deployment, reterr) < 0 || check_numbers(&deployment, reterr) < 0)
        return ERROR_INVALID;
    *ret_deployment = deployment;
    return 0;
}

int library_deployment(void *library, const char *symbol, struct manta_deployment *ret_deployment,
                       struct error *reterr)
{
    char name[300];
    snprintf(name, sizeof name, "%s%s", DEPLOYMENT_PREFIX, symbol);
    const struct manta_deployment *const *found = dlsym(library, name);
    if (!found)
        return error_set(reterr, ERROR_NOT_FOUND,
                         "the shared object has no deployment '%s' (MANTA_DEPLOYMENT)", symbol);
    return library_check_deployment(*found, ret_deployment, reterr);
}

/* ---- applications
 * ------------------------------------------------------------------------------------ */

/* Appends the applications that the file exports, from its dynamic symbols: only for an error's
 * text. */
static void list_applications(const uint8_t *at, size_t size, struct text *out)
{
    const Elf64_Ehdr *head = (const void *)at;
    if (size < sizeof *head || memcmp(head->e_ident, ELFMAG, SELFMAG) != 0 ||
        head->e_ident[EI_CLASS] != ELFCLASS64 || head->e_shentsize != sizeof(Elf64_Shdr) ||
        head->e_shoff > size || (size - head->e_shoff) / sizeof(Elf64_Shdr) < head->e_shnum ||
        head->e_shoff % 8)
        return;
    const Elf64_Shdr *sections = (const void *)(at + head->e_shoff);
    for (unsigned i = 0; i < head->e_shnum; i++) {
        const Elf64_Shdr *symbols = &sections[i];
        if (symbols->sh_type != SHT_DYNSYM || symbols->sh_link >= head->e_shnum ||
            symbols->sh_offset > size || symbols->sh_size > size - symbols->sh_offset ||
            symbols->sh_offset % 8)
            continue;
        const Elf64_Shdr *strings = &sections[symbols->sh_link];
        if (strings->sh_offset > size || strings->sh_size > size - strings->sh_offset)
            continue;
        const Elf64_Sym *symbol = (const void *)(at + symbols->sh_offset);
        for (size_t n = symbols->sh_size / sizeof *symbol; n > 0; n--, symbol++) {
            if (symbol->st_name >= strings->sh_size || symbol->st_shndx == SHN_UNDEF)
                continue;
            const char *name = (const char *)at + strings->sh_offset + symbol->st_name;
            size_t length = strnlen(name, strings->sh_size - symbol->st_name);
            size_t prefix = sizeof APPLICATION_PREFIX - 1;
            if (length > prefix && !memcmp(name, APPLICATION_PREFIX, prefix))
                text_print(out, "%s%.*s", out->size ? ", " : "", (int)(length - prefix),
                           name + prefix);
        }
    }
}

int library_application(void *library, const char *path, const char *name,
                        library_builder **ret_builder, struct error *reterr)
{
    char symbol[300];
    struct bytes file;
    struct text names;
    snprintf(symbol, sizeof symbol, "%s%s", APPLICATION_PREFIX, name);
    void *found = dlsym(library, symbol);
    if (found) {
        memcpy(ret_builder, &found,
               sizeof found); /* POSIX: a function's address comes from dlsym as an object's */
        return 0;
    }
    text_init(&names, 256);
    if (map_file(path, &file)) {
        list_applications(file.at, file.size, &names);
        munmap((void *)file.at, file.size);
    }
    error_set(reterr, ERROR_NOT_FOUND, "'%s' has no application '%s'; it has: %s", path, name,
              names.size ? text_string(&names) : "none (see MANTA_APPLICATION)");
    text_done(&names);
    return ERROR_NOT_FOUND;
}

int library_own_application(const char *name, library_builder **ret_builder, struct error *reterr)
{
    char symbol[300];
    snprintf(symbol, sizeof symbol, "%s%s", APPLICATION_PREFIX, name);
    void *found = dlsym(RTLD_DEFAULT, symbol);
    if (!found)
        return error_set(reterr, ERROR_NOT_FOUND,
                         "the program exports no application '%s': link it with -rdynamic, or use "
                         "manta_run_builder",
                         name);
    memcpy(ret_builder, &found, sizeof found);
    return 0;
}

/* ---- content hashes
 * ---------------------------------------------------------------------------------- */

int library_hash(const char *path, uint64_t *ret_hash, struct error *reterr)
{
    struct bytes file;
    if (!map_file(path, &file))
        return error_set(reterr, ERROR_NOT_FOUND, "'%s' cannot be read: %s", path, strerror(errno));
    *ret_hash = XXH3_64bits(file.at, file.size);
    munmap((void *)file.at, file.size);
    return 0;
}

uint64_t library_hash_more(uint64_t hash, struct bytes bytes)
{
    return XXH3_64bits_withSeed(bytes.at ? bytes.at : (const uint8_t *)"", bytes.size, hash);
}
