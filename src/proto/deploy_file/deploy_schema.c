/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deploy_schema: the tables, and the walk that compares a document with them.
 *
 * They are Ray Serve's schema (ServeDeploySchema of 2.60) with its ranges.  A field that this
 * version of Manta would accept and leave undone is REFUSED, with what to do instead.
 */
#include "deploy_schema.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "map.h"

enum field_kind {
    FIELD_ANY,
    FIELD_TEXT,
    FIELD_BOOL,
    FIELD_INT,
    FIELD_NUMBER,
    FIELD_COUNT,   /* a whole number, or one of the words */
    FIELD_LEVEL,   /* a number of Python's logging, or one of the words */
    FIELD_MAP,     /* of `of`, or any map when null */
    FIELD_LIST,    /* of `of` maps, or of any values when null */
    FIELD_REFUSED, /* only what changes nothing: null, false, [], {} or "" */
};

struct schema;
struct field {
    const char *key;
    enum field_kind kind;
    bool nullable, required;
    double least, most; /* of numbers */
    const char *words;  /* "a b c": the texts that are allowed; null: all */
    const struct schema *of;
    const char *instead; /* REFUSED */
};
struct schema {
    const char *noun;
    const struct field *fields;
    size_t count;
};
#define SCHEMA(name, noun_text, rows)                                                              \
    static const struct schema name = {noun_text, rows, sizeof rows / sizeof *rows}

#define MOST 2147483647.0
#define SECONDS 1e9

static const struct field HTTP_FIELDS[] = {
    {"host", FIELD_TEXT, true},
    {"port", FIELD_INT, true, .least = 0, .most = 65535},
    {"root_path", FIELD_REFUSED, .instead = "let a proxy in front rewrite paths"},
    {"request_timeout_s", FIELD_NUMBER, true, .least = 0, .most = SECONDS},
    {"keep_alive_timeout_s", FIELD_NUMBER, .least = 0, .most = 86400},
    {"ssl_keyfile", FIELD_REFUSED, .instead = "put a proxy that terminates TLS in front"},
    {"ssl_certfile", FIELD_REFUSED, .instead = "put a proxy that terminates TLS in front"},
    {"ssl_keyfile_password", FIELD_REFUSED, .instead = "put a proxy that terminates TLS in front"},
    {"ssl_ca_certs", FIELD_REFUSED, .instead = "put a proxy that terminates TLS in front"},
};
SCHEMA(HTTP, "http_options", HTTP_FIELDS);

static const struct field GRPC_FIELDS[] = {
    {"port", FIELD_INT, .least = 0, .most = 65535},
    {"grpc_servicer_functions", FIELD_REFUSED, .instead = "use HTTP, or handles"},
    {"request_timeout_s", FIELD_NUMBER, true, .least = 0, .most = SECONDS},
    {"enable_reflection", FIELD_BOOL},
};
SCHEMA(GRPC, "grpc_options", GRPC_FIELDS);

static const struct field CONTROLLER_FIELDS[] = {
    {"runtime_env", FIELD_REFUSED, .instead = "set variables of the service where it is started"},
};
SCHEMA(CONTROLLER, "controller_options", CONTROLLER_FIELDS);

static const struct field LOGGING_FIELDS[] = {
    {"encoding", FIELD_TEXT, .words = "TEXT JSON"},
    {"log_level", FIELD_LEVEL, .words = "CRITICAL ERROR WARNING INFO DEBUG NOTSET FATAL WARN"},
    {"logs_dir", FIELD_TEXT, true},
    {"enable_access_log", FIELD_BOOL},
    {"additional_log_standard_attrs", FIELD_LIST},
};
SCHEMA(LOGGING, "logging_config", LOGGING_FIELDS);

static const struct field TRACING_FIELDS[] = {
    {"enabled", FIELD_REFUSED, .instead = "leave tracing off"},
    {"exporter_import_path", FIELD_TEXT},
    {"sampling_ratio", FIELD_NUMBER, .least = 0, .most = 1},
};
SCHEMA(TRACING, "tracing_config", TRACING_FIELDS);

static const struct field RESOURCE_FIELDS[] = {
    {"runtime_env", FIELD_MAP},
    {"num_cpus", FIELD_NUMBER, true, .least = 0, .most = MOST},
    {"num_gpus", FIELD_NUMBER, true, .least = 0, .most = MOST},
    {"memory", FIELD_NUMBER, true, .least = 0, .most = 1e18},
    {"resources", FIELD_MAP},
    {"accelerator_type", FIELD_TEXT, true},
    {"label_selector", FIELD_MAP, true},
    {"fallback_strategy", FIELD_LIST, true},
};
SCHEMA(RESOURCES, "ray_actor_options", RESOURCE_FIELDS);

static const struct field BACKPRESSURE_FIELDS[] = {
    {"status_code", FIELD_INT, .least = 400, .most = 599},
    {"retry_after_s", FIELD_NUMBER, true, .least = 0, .most = SECONDS},
};
SCHEMA(BACKPRESSURE, "backpressure_config", BACKPRESSURE_FIELDS);

static const struct field DEPLOYMENT_FIELDS[] = {
    {"name", FIELD_TEXT, .required = true},
    {"num_replicas", FIELD_COUNT, true, .least = 0, .most = 100000, .words = "auto"},
    {"max_ongoing_requests", FIELD_INT, .least = 1, .most = 1000000},
    {"max_queued_requests", FIELD_INT, .least = -1, .most = MOST},
    {"backpressure_config", FIELD_MAP, .of = &BACKPRESSURE},
    {"user_config", FIELD_ANY, true},
    {"autoscaling_config", FIELD_MAP, true},
    {"graceful_shutdown_wait_loop_s", FIELD_NUMBER, .least = 0, .most = SECONDS},
    {"graceful_shutdown_timeout_s", FIELD_NUMBER, .least = 0, .most = SECONDS},
    {"health_check_period_s", FIELD_NUMBER, .least = 1e-6, .most = SECONDS},
    {"health_check_timeout_s", FIELD_NUMBER, .least = 1e-6, .most = SECONDS},
    {"ray_actor_options", FIELD_MAP, .of = &RESOURCES},
    {"placement_group_bundles", FIELD_LIST, true},
    {"placement_group_strategy", FIELD_TEXT, true},
    {"placement_group_bundle_label_selector", FIELD_LIST, true},
    {"max_replicas_per_node", FIELD_INT, true, .least = 1, .most = 100},
    {"logging_config", FIELD_MAP, true, .of = &LOGGING},
    {"request_router_config", FIELD_MAP, true},
    {"gang_scheduling_config", FIELD_MAP, true},
    {"deployment_actors", FIELD_LIST, true},
    {"rolling_update_percentage", FIELD_NUMBER, .least = 1e-9, .most = 1},
    {"max_surge_percent", FIELD_INT, .least = 0, .most = 100},
};
SCHEMA(DEPLOYMENT, "deployment", DEPLOYMENT_FIELDS);

static const struct field APP_FIELDS[] = {
    {"name", FIELD_TEXT},
    {"route_prefix", FIELD_TEXT, true},
    {"import_path", FIELD_TEXT, .required = true},
    {"runtime_env", FIELD_MAP},
    {"args", FIELD_MAP},
    {"logging_config", FIELD_MAP, true, .of = &LOGGING},
    {"deployments", FIELD_LIST, .of = &DEPLOYMENT},
    {"external_scaler_enabled", FIELD_REFUSED, .instead = "change num_replicas and deploy again"},
    {"autoscaling_policy", FIELD_REFUSED, .instead = "set num_replicas"},
};
SCHEMA(APP, "application", APP_FIELDS);

static const struct field FILE_FIELDS[] = {
    {"proxy_location", FIELD_TEXT, true, .words = "Disabled HeadOnly EveryNode"},
    {"target_capacity", FIELD_REFUSED, .instead = "set num_replicas"},
    {"http_options", FIELD_MAP, .of = &HTTP},
    {"grpc_options", FIELD_MAP, .of = &GRPC},
    {"controller_options", FIELD_MAP, true, .of = &CONTROLLER},
    {"logging_config", FIELD_MAP, true, .of = &LOGGING},
    {"tracing_config", FIELD_MAP, true, .of = &TRACING},
    {"applications", FIELD_LIST, .required = true, .of = &APP},
};
SCHEMA(WHOLE, "file", FILE_FIELDS);

/* What the C side makes of a deployment; `wait_loop` is accepted and means nothing, as there. */
static const char LIBRARY_DEPLOYMENT_KEYS[] =
    "name num_replicas max_ongoing_requests max_queued_requests user_config "
    "graceful_shutdown_wait_loop_s graceful_shutdown_timeout_s health_check_period_s "
    "health_check_timeout_s max_surge_percent rolling_update_percentage";

/* ---- scalars ---- */

static bool is_word(const char *words, struct bytes text)
{
    for (const char *at = words; *at;) {
        size_t size = strcspn(at, " ");
        if (bytes_equal(text, bytes_of(at, size)))
            return true;
        at += size + (at[size] == ' ');
    }
    return false;
}

/* "A B C" as "A, B or C". */
static void print_words(const char *words, char *out, size_t size)
{
    size_t used = 0;
    out[0] = 0;
    for (const char *at = words; *at && used < size;) {
        size_t length = strcspn(at, " ");
        const char *after = at + length + (at[length] == ' ');
        const char *before = at == words ? "" : *after ? ", " : " or ";
        used += (size_t)snprintf(out + used, size - used, "%s%.*s", before, (int)length, at);
        at = after;
    }
}

static void complain_value(struct node_reader *reader, const yaml_node_t *node,
                           const char *expected)
{
    if (node->type == YAML_SCALAR_NODE && node->data.scalar.length)
        node_complain(reader, node, "'%.*s' is not %s",
                      BYTES_PRINT(bytes_head(node_scalar(node).text, 80)), expected);
    else
        node_complain(reader, node, "%s is not %s", node_noun(node), expected);
}

static void print_range(const struct field *field, bool whole, char *out, size_t size)
{
    const char *noun = whole ? "a whole number" : "a number";
    if (field->most >= SECONDS && field->least == 0)
        snprintf(out, size, "%s of at least 0", noun);
    else if (field->most >= SECONDS && field->least < 1e-3 && field->least > 0)
        snprintf(out, size, "%s above 0", noun);
    else
        snprintf(out, size, "%s from %.10g to %.10g", noun,
                 field->least < 1e-3 && field->least > 0 ? 0.0 : field->least, field->most);
}

static bool in_range(const struct field *field, const struct scalar *scalar, bool whole)
{
    double number = scalar->kind == SCALAR_INT ? (double)scalar->integer : scalar->number;
    bool is_number = scalar->kind == SCALAR_INT || scalar->kind == SCALAR_FLOAT;
    return is_number && isfinite(number) && (!whole || number == floor(number)) &&
           number >= field->least && number <= field->most;
}

static void check_text(struct node_reader *reader, const struct field *field,
                       const yaml_node_t *node, const struct scalar *scalar)
{
    char words[200], expected[240];
    if (scalar->kind != SCALAR_TEXT)
        complain_value(reader, node, "a text; put it into quotes");
    else if (memchr(scalar->text.at, 0, scalar->text.size))
        node_complain(reader, node, "it has a zero byte in it");
    else if (field->words && !is_word(field->words, scalar->text)) {
        print_words(field->words, words, sizeof words);
        snprintf(expected, sizeof expected, "one of %s", words);
        complain_value(reader, node, expected);
    }
}

static void check_number(struct node_reader *reader, const struct field *field,
                         const yaml_node_t *node, const struct scalar *scalar)
{
    bool whole = field->kind != FIELD_NUMBER;
    char range[120], words[120] = "", expected[280];
    if (in_range(field, scalar, whole) ||
        (field->words && scalar->kind == SCALAR_TEXT && is_word(field->words, scalar->text)))
        return;
    print_range(field, whole, range, sizeof range);
    if (field->words)
        print_words(field->words, words, sizeof words);
    snprintf(expected, sizeof expected, "%s%s%s", range, words[0] ? ", or " : "", words);
    complain_value(reader, node, expected);
}

static void check_level(struct node_reader *reader, const struct field *field,
                        const yaml_node_t *node, const struct scalar *scalar)
{
    bool number = scalar->kind == SCALAR_INT && scalar->integer >= 0 && scalar->integer <= 50 &&
                  scalar->integer % 10 == 0;
    if (!number && !(scalar->kind == SCALAR_TEXT && is_word(field->words, scalar->text)))
        complain_value(reader, node, "DEBUG, INFO, WARNING, ERROR, CRITICAL, or 0 to 50 by tens");
}

/* ---- the walk ---- */

static void check_map(struct node_reader *reader, const struct schema *schema, yaml_node_t *node);

static bool changes_nothing(const yaml_node_t *node)
{
    if (node->type == YAML_SEQUENCE_NODE)
        return node_count(node) == 0;
    if (node->type == YAML_MAPPING_NODE)
        return node->data.mapping.pairs.top == node->data.mapping.pairs.start;
    struct scalar scalar = node_scalar(node);
    return scalar.kind == SCALAR_NULL || (scalar.kind == SCALAR_BOOL && !scalar.boolean) ||
           (scalar.kind == SCALAR_TEXT && scalar.text.size == 0);
}

static void check_list(struct node_reader *reader, const struct schema *of, yaml_node_t *node)
{
    for (uint32_t i = 0; of && i < node_count(node); i++) {
        size_t before = node_enter_index(reader, i);
        node_check_tag(reader, node_item(reader, node, i));
        check_map(reader, of, node_item(reader, node, i));
        node_leave(reader, before);
        if (reader->exhausted)
            return;
    }
}

static void check_scalar(struct node_reader *reader, const struct field *field, yaml_node_t *node)
{
    struct scalar scalar = {.kind = SCALAR_NULL};
    static const char *const NOUNS[] = {
        [FIELD_TEXT] = "a text",          [FIELD_BOOL] = "true or false",
        [FIELD_INT] = "a whole number",   [FIELD_NUMBER] = "a number",
        [FIELD_COUNT] = "a whole number", [FIELD_LEVEL] = "a level"};
    if (node->type != YAML_SCALAR_NODE) {
        complain_value(reader, node, NOUNS[field->kind]);
        return;
    }
    scalar = node_scalar(node);
    if (scalar.kind == SCALAR_NULL && field->nullable)
        return;
    if (field->kind == FIELD_TEXT)
        check_text(reader, field, node, &scalar);
    else if (field->kind == FIELD_LEVEL)
        check_level(reader, field, node, &scalar);
    else if (field->kind == FIELD_BOOL && scalar.kind != SCALAR_BOOL)
        complain_value(reader, node, "true or false");
    else if (field->kind != FIELD_BOOL)
        check_number(reader, field, node, &scalar);
}

static void check_field(struct node_reader *reader, const struct field *field, yaml_node_t *node)
{
    bool null = node->type == YAML_SCALAR_NODE && node_scalar(node).kind == SCALAR_NULL;
    node_check_tag(reader, node);
    switch (field->kind) {
    case FIELD_ANY:
        return;
    case FIELD_REFUSED:
        if (!changes_nothing(node))
            node_complain(reader, node, "this version of Manta does not support it: %s",
                          field->instead);
        return;
    case FIELD_MAP:
        if (null && field->nullable)
            return;
        if (node->type != YAML_MAPPING_NODE)
            complain_value(reader, node, "a map");
        else if (field->of)
            check_map(reader, field->of, node);
        return;
    case FIELD_LIST:
        if (null && field->nullable)
            return;
        if (node->type != YAML_SEQUENCE_NODE)
            complain_value(reader, node, "a list");
        else
            check_list(reader, field->of, node);
        return;
    default:
        check_scalar(reader, field, node);
    }
}

/* The keys that there are, and the likeliest of them first. */
static void complain_unknown(struct node_reader *reader, const struct schema *schema,
                             const struct node_pair *pair)
{
    struct text keys;
    text_init(&keys, 4096);
    for (size_t i = 0; i < schema->count; i++)
        text_print(&keys, "%s%s", i ? ", " : "", schema->fields[i].key);
    node_complain(reader, pair->key, "the %s has no key '%.*s'; it has %s", schema->noun,
                  BYTES_PRINT(bytes_head(pair->name, 80)), text_string(&keys));
    text_done(&keys);
}

static const struct field *find_field(const struct schema *schema, struct bytes name)
{
    for (size_t i = 0; i < schema->count; i++)
        if (bytes_equal(bytes_of_string(schema->fields[i].key), name))
            return &schema->fields[i];
    return NULL;
}

static void check_pairs(struct node_reader *reader, const struct schema *schema,
                        const yaml_node_t *node, const struct node_pairs *pairs)
{
    for (uint32_t i = 0; i < pairs->count && !reader->exhausted; i++) {
        const struct node_pair *pair = &pairs->at[i];
        const struct field *field = find_field(schema, pair->name);
        if (!field) {
            complain_unknown(reader, schema, pair);
            continue;
        }
        size_t before = node_enter_key(reader, pair->name);
        check_field(reader, field, pair->value);
        node_leave(reader, before);
    }
    for (size_t i = 0; i < schema->count; i++)
        if (schema->fields[i].required && !node_pairs_find(pairs, schema->fields[i].key))
            node_complain(reader, node, "the key '%s' is missing", schema->fields[i].key);
}

static void check_map(struct node_reader *reader, const struct schema *schema, yaml_node_t *node)
{
    struct node_pairs pairs = {0};
    if (node_up(reader, node)) {
        if (node->type != YAML_MAPPING_NODE)
            complain_value(reader, node, "a map");
        else if (node_pairs_read(reader, node, &pairs) || !reader->exhausted)
            check_pairs(reader, schema, node, &pairs);
    }
    node_pairs_done(&pairs);
    node_down(reader);
}

void schema_check(struct node_reader *reader, yaml_node_t *root)
{
    node_check_tag(reader, root);
    check_map(reader, &WHOLE, root);
}

/* ---- shared objects ---- */

bool schema_is_library(struct bytes path)
{
    ptrdiff_t colon = -1;
    for (size_t i = 0; i < path.size; i++)
        if (path.at[i] == ':')
            colon = (ptrdiff_t)i;
    return colon > 3 && memcmp(path.at + colon - 3, ".so", 3) == 0 && path.size > (size_t)colon + 1;
}

static void check_library_deployment(struct node_reader *reader, yaml_node_t *node)
{
    struct node_pairs pairs;
    node_pairs_read(reader, node, &pairs);
    for (uint32_t i = 0; i < pairs.count; i++)
        if (!is_word(LIBRARY_DEPLOYMENT_KEYS, pairs.at[i].name) &&
            !changes_nothing(pairs.at[i].value))
            node_complain(reader, pairs.at[i].key,
                          "'%.*s' is for applications of Python; one of a shared object sets it in "
                          "its code",
                          BYTES_PRINT(pairs.at[i].name));
    const struct node_pair *count = node_pairs_find(&pairs, "num_replicas");
    if (count && count->value->type == YAML_SCALAR_NODE &&
        node_scalar(count->value).kind == SCALAR_TEXT)
        node_complain(reader, count->value, "num_replicas of a shared object is a whole number");
    node_pairs_done(&pairs);
}

static void check_argument(struct node_reader *reader, const struct node_pair *pair)
{
    if (pair->value->type != YAML_SCALAR_NODE)
        node_complain(reader, pair->value,
                      "args.%.*s: the builder of a shared object takes texts and numbers",
                      BYTES_PRINT(bytes_head(pair->name, 80)));
    else if (memchr(pair->name.at, '=', pair->name.size))
        node_complain(reader, pair->key, "args: a key has a '='");
}

void schema_check_library(struct node_reader *reader, const struct node_pairs *app)
{
    static const char *const PYTHON_ONLY[] = {"runtime_env", "logging_config"};
    struct node_pairs args;
    const struct node_pair *found;
    for (size_t i = 0; i < sizeof PYTHON_ONLY / sizeof *PYTHON_ONLY; i++)
        if ((found = node_pairs_find(app, PYTHON_ONLY[i])) && !changes_nothing(found->value))
            node_complain(reader, found->value, "'%s' is for applications of Python",
                          PYTHON_ONLY[i]);
    if ((found = node_pairs_find(app, "args"))) {
        node_pairs_read(reader, found->value, &args);
        for (uint32_t i = 0; i < args.count; i++)
            check_argument(reader, &args.at[i]);
        node_pairs_done(&args);
    }
    found = node_pairs_find(app, "deployments");
    for (uint32_t i = 0; found && i < node_count(found->value); i++)
        check_library_deployment(reader, node_item(reader, found->value, i));
}
