/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of `manta deploy`: what it gives, and what is said about a wrong one.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "deploy_file.h"

static struct deploy_file *read_good(const char *text)
{
    struct text complaints;
    text_init(&complaints, 1 << 20);
    struct deploy_file *file = deploy_file_read(bytes_of_string(text), "f.yaml", &complaints);
    cr_assert(file, "%s", text_string(&complaints));
    cr_assert_eq(complaints.size, 0);
    text_done(&complaints);
    return file;
}

static void assert_wrong(const char *text, const char *expected)
{
    struct text complaints;
    text_init(&complaints, 1 << 20);
    struct deploy_file *file = deploy_file_read(bytes_of_string(text), "f.yaml", &complaints);
    cr_assert_null(file, "it is read: %s", text);
    cr_assert_str_eq(text_string(&complaints), expected);
    text_done(&complaints);
}

#define APP "applications:\n- import_path: m:a\n"
#define DEPLOYMENT APP "  deployments:\n  - name: x\n    "

/* ---- what it gives ---- */

Test(deploy_file, an_application_of_python_is_handed_on_as_json)
{
    struct deploy_file *file = read_good("applications:\n"
                                         "- name: shop\n"
                                         "  import_path: shop.main:app\n"
                                         "  args: {a: 017, b: [yes, 1.5, ~, 'yes'], 7: 2024-01-01}\n"
                                         "  deployments: [{name: X, num_replicas: auto}]\n");
    cr_assert_eq(file->app_count, 1);
    const struct deploy_file_app *app = &file->apps[0];
    cr_assert_not(app->is_library);
    cr_assert_eq(app->line, 2);
    cr_assert_str_eq(app->name, "shop");
    cr_assert_str_eq(app->route_prefix, "/");
    cr_assert_str_eq(app->json,
                     "{\"name\":\"shop\",\"import_path\":\"shop.main:app\",\"args\":{\"a\":15,"
                     "\"b\":[true,1.5,null,\"yes\"],\"7\":\"2024-01-01\"},\"deployments\":[{\"name\":"
                     "\"X\",\"num_replicas\":\"auto\"}]}");
    deploy_file_free(file);
}

Test(deploy_file, an_application_of_a_shared_object_is_taken_apart)
{
    struct deploy_file *file =
        read_good("applications:\n"
                  "- import_path: ./lib/libmath.so:math\n"
                  "  route_prefix: ~\n"
                  "  args: {number: 3, text: 'a b', none: }\n"
                  "  deployments:\n"
                  "  - {name: x, num_replicas: 0, max_queued_requests: -1, user_config: {a: 1}}\n"
                  "  - {name: y, graceful_shutdown_timeout_s: 0, health_check_period_s: .5}\n"
                  "  - {name: z, max_surge_percent: 0, rolling_update_percentage: .25}\n");
    const struct deploy_file_app *app = &file->apps[0];
    cr_assert(app->is_library);
    cr_assert_str_eq(app->name, "default");
    cr_assert_null(app->route_prefix);
    cr_assert_str_eq(app->arguments[0], "number=3");
    cr_assert_str_eq(app->arguments[1], "text=a b");
    cr_assert_str_eq(app->arguments[2], "none=");
    cr_assert_null(app->arguments[3]);
    cr_assert_eq(app->override_count, 3);
    cr_assert_eq(app->overrides[0].num_replicas, 0);
    cr_assert_eq(app->overrides[0].max_ongoing_requests, 0);
    cr_assert_eq(app->overrides[0].max_queued_requests, -1);
    cr_assert_str_eq(app->overrides[0].user_config, "{\"a\":1}");
    cr_assert_eq(app->overrides[1].num_replicas, -1);
    cr_assert_eq(app->overrides[1].max_queued_requests, -2);
    cr_assert_eq(app->overrides[1].graceful_shutdown_timeout_s, 0);
    cr_assert_eq(app->overrides[1].health_check_period_s, 0.5);
    cr_assert_eq(app->overrides[1].health_check_timeout_s, -1);
    cr_assert_null(app->overrides[1].user_config);
    cr_assert_eq(app->overrides[1].max_surge_percent, -1);
    cr_assert_eq(app->overrides[1].rolling_update_percentage, -1);
    cr_assert_eq(app->overrides[2].max_surge_percent, 0);
    cr_assert_eq(app->overrides[2].rolling_update_percentage, 0.25);
    deploy_file_free(file);
}

Test(deploy_file, options_of_the_instance_are_told)
{
    struct deploy_file *file =
        read_good("proxy_location: Disabled\n"
                  "http_options: {host: 0.0.0.0, port: 8001, request_timeout_s: 2.5}\n"
                  "logging_config: {log_level: DEBUG, encoding: JSON}\n"
                  "applications: []\n");
    cr_assert(file->no_http && file->has_start_options);
    cr_assert_str_eq(file->http_host, "0.0.0.0");
    cr_assert_eq(file->http_port, 8001);
    cr_assert_eq(file->request_timeout_s, 2.5);
    cr_assert_eq(file->keep_alive_timeout_s, -1);
    cr_assert_str_eq(file->log_level, "DEBUG");
    cr_assert_str_eq(file->log_encoding, "JSON");
    deploy_file_free(file);
}

Test(deploy_file, json_is_yaml)
{
    struct deploy_file *file =
        read_good("{\"applications\": [{\"import_path\": \"a:b\", \"args\": {\"x\": \"\\u00fc\"}}]}");
    cr_assert_str_eq(file->apps[0].json, "{\"import_path\":\"a:b\",\"args\":{\"x\":\"\xc3\xbc\"}}");
    deploy_file_free(file);
}

/* As PyYAML merges: what a map says itself counts, then the first map that is merged. */
Test(deploy_file, merges_and_aliases_are_what_they_name)
{
    struct deploy_file *file =
        read_good(APP "  deployments:\n"
                      "  - &base {name: one, max_ongoing_requests: 3}\n"
                      "  - {<<: [*base, {name: z, num_replicas: 2}], name: two}\n");
    cr_assert_str_eq(file->apps[0].json,
                     "{\"import_path\":\"m:a\",\"deployments\":[{\"name\":\"one\","
                     "\"max_ongoing_requests\":3},{\"name\":\"two\",\"max_ongoing_requests\":3,"
                     "\"num_replicas\":2}]}");
    deploy_file_free(file);
}

/* ---- what is wrong ---- */

Test(deploy_file, an_unknown_key_is_told_with_those_that_there_are)
{
    assert_wrong("applications: []\nhttp_options:\n  prot: 8000\n",
                 "f.yaml:3: http_options: the http_options has no key 'prot'; it has host, port, "
                 "root_path, request_timeout_s, keep_alive_timeout_s, ssl_keyfile, ssl_certfile, "
                 "ssl_keyfile_password, ssl_ca_certs\n");
}

Test(deploy_file, a_wrong_value_is_told_with_what_is_allowed)
{
    static const char *const CASES[][2] = {
        {DEPLOYMENT "num_replicas: many\n",
         "f.yaml:5: applications[0].deployments[0].num_replicas: 'many' is not a whole number from "
         "0 to 100000, or auto\n"},
        {DEPLOYMENT "max_ongoing_requests: 0\n",
         "f.yaml:5: applications[0].deployments[0].max_ongoing_requests: '0' is not a whole number "
         "from 1 to 1000000\n"},
        {DEPLOYMENT "max_ongoing_requests: [1]\n",
         "f.yaml:5: applications[0].deployments[0].max_ongoing_requests: a list is not a whole "
         "number\n"},
        {DEPLOYMENT "health_check_period_s: 0\n",
         "f.yaml:5: applications[0].deployments[0].health_check_period_s: '0' is not a number above "
         "0\n"},
        {DEPLOYMENT "graceful_shutdown_timeout_s: 1e3\n",
         "f.yaml:5: applications[0].deployments[0].graceful_shutdown_timeout_s: '1e3' is not a "
         "number of at least 0\n"},
        {APP "  name: 7\n", "f.yaml:3: applications[0].name: '7' is not a text; put it into quotes\n"},
        {APP "  args: [a]\n", "f.yaml:3: applications[0].args: a list is not a map\n"},
        {APP "  deployments: {name: x}\n",
         "f.yaml:3: applications[0].deployments: a map is not a list\n"},
        {APP "  deployments:\n  - x\n",
         "f.yaml:4: applications[0].deployments[0]: 'x' is not a map\n"},
        {"applications:\n- name: a\n", "f.yaml:2: applications[0]: the key 'import_path' is missing\n"},
        {"proxy_location: Nowhere\napplications: []\n",
         "f.yaml:1: proxy_location: 'Nowhere' is not one of Disabled, HeadOnly or EveryNode\n"},
        {"logging_config: {log_level: debug}\napplications: []\n",
         "f.yaml:1: logging_config.log_level: 'debug' is not DEBUG, INFO, WARNING, ERROR, CRITICAL, "
         "or 0 to 50 by tens\n"},
        {"applications:\n", "f.yaml:1: applications: nothing is not a list\n"},
        {"{}", "f.yaml:1: the key 'applications' is missing\n"},
        {"- a\n", "f.yaml:1: a list is not a map\n"},
        {APP "  args: {a: .nan}\n",
         "f.yaml:3: applications[0].args.a: '.nan' is no number of JSON; put it into quotes\n"},
        {APP "  args: {a: 99999999999999999999}\n",
         "f.yaml:3: applications[0].args.a: '99999999999999999999' is larger than 64 bits; put it "
         "into quotes\n"},
        {APP "  args: {yes: 1}\n",
         "f.yaml:3: applications[0].args: the key 'yes' is true or false; put it into quotes\n"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        assert_wrong(CASES[i][0], CASES[i][1]);
}

Test(deploy_file, import_paths_routes_and_names_are_checked)
{
    static const char *const PATHS[] = {"a", "a:", ":a", "a:b:c", "a.", "lib.so:", ""};
    for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++) {
        char text[200], expected[300];
        snprintf(text, sizeof text, "applications:\n- import_path: '%s'\n", PATHS[i]);
        snprintf(expected, sizeof expected,
                 "f.yaml:2: applications[0]: import_path '%s' is not module:application, "
                 "module.application or path/lib.so:application\n",
                 PATHS[i]);
        assert_wrong(text, expected);
    }
    assert_wrong(APP "  route_prefix: a\n",
                 "f.yaml:2: applications[0]: route_prefix 'a' does not begin with '/', ends with "
                 "one, or has a '{' or '}'\n");
    assert_wrong(APP "- import_path: m:b\n",
                 "f.yaml:3: applications[1]: Found multiple configs for application \"default\"; "
                 "the first is in line 2.\n"
                 "f.yaml:3: applications[1]: Found duplicate applications for route prefix \"/\"; "
                 "the first is in line 2.\n");
    assert_wrong(APP "  name: ''\n",
                 "f.yaml:2: applications[0]: Application names must be nonempty.\n");
}

Test(deploy_file, what_would_be_left_undone_is_refused)
{
    assert_wrong("target_capacity: 50\napplications: []\n",
                 "f.yaml:1: target_capacity: this version of Manta does not support it: set "
                 "num_replicas\n");
    deploy_file_free(read_good("target_capacity: ~\nhttp_options: {ssl_keyfile: null, root_path: ''}\n"
                               "grpc_options: {grpc_servicer_functions: []}\napplications: []\n"));
    assert_wrong("applications:\n- import_path: l.so:a\n  runtime_env: {env_vars: {A: b}}\n"
                 "  args: {a: [1]}\n"
                 "  deployments: [{name: x, num_replicas: auto, ray_actor_options: {num_cpus: 1}}]\n",
                 "f.yaml:3: applications[0]: 'runtime_env' is for applications of Python\n"
                 "f.yaml:4: applications[0]: args.a: the builder of a shared object takes texts and "
                 "numbers\n"
                 "f.yaml:5: applications[0]: 'ray_actor_options' is for applications of Python; one "
                 "of a shared object sets it in its code\n"
                 "f.yaml:5: applications[0]: num_replicas of a shared object is a whole number\n");
}

Test(deploy_file, what_is_no_yaml_is_told_with_its_line)
{
    assert_wrong("applications:\n\t- a\n",
                 "f.yaml:2: found character that cannot start any token\n");
    assert_wrong("applications: [\n", "f.yaml:2: did not find expected node content\n");
    assert_wrong("", "f.yaml:1: it is empty; it needs the key 'applications'\n");
    assert_wrong("applications: []\n---\napplications: []\n",
                 "f.yaml:3: a second document begins here; a file has one\n");
    assert_wrong("applications: []\napplications: []\n",
                 "f.yaml:2: the key 'applications' is there twice\n");
    assert_wrong("applications: !!python/name:os.system []\n",
                 "f.yaml:1: applications: the tag 'tag:yaml.org,2002:python/name:os.system' is not "
                 "known here\n");
    assert_wrong("applications: *a\n", "f.yaml:1: found undefined alias\n");
}

/* ---- limits ---- */

Test(deploy_file, a_small_file_cannot_become_a_large_one)
{
    struct text laughs;
    text_init(&laughs, 1 << 20);
    text_add_string(&laughs, APP "  args:\n    a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 10; i++)
        text_print(&laughs, "    a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i,
                   i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    struct text complaints;
    text_init(&complaints, 1 << 20);
    cr_assert_null(deploy_file_read(text_bytes(&laughs), "f.yaml", &complaints));
    cr_assert(strstr(text_string(&complaints), "more than 200000 values"), "%s",
              text_string(&complaints));
    text_done(&complaints);
    text_done(&laughs);
}

Test(deploy_file, depth_is_bounded)
{
    struct text deep;
    text_init(&deep, 1 << 20);
    text_add_string(&deep, APP "  args: {a: ");
    for (int i = 0; i < 200; i++)
        text_add_byte(&deep, '[');
    for (int i = 0; i < 200; i++)
        text_add_byte(&deep, ']');
    text_add_string(&deep, "}\n");
    struct text complaints;
    text_init(&complaints, 1 << 20);
    cr_assert_null(deploy_file_read(text_bytes(&deep), "f.yaml", &complaints));
    cr_assert(strstr(text_string(&complaints), "more than 64 levels"), "%s",
              text_string(&complaints));
    text_done(&complaints);
    text_done(&deep);
}

Test(deploy_file, a_file_has_a_size)
{
    struct text large, complaints;
    text_init(&large, 16 << 20);
    text_init(&complaints, 1 << 20);
    while (large.size <= DEPLOY_FILE_SIZE_LIMIT)
        text_add_string(&large, "# nothing but comments in this file, and many of them\n");
    cr_assert_null(deploy_file_read(text_bytes(&large), "f.yaml", &complaints));
    cr_assert_str_eq(text_string(&complaints), "f.yaml:1: it has more than 4194304 bytes\n");
    text_done(&large);
    text_done(&complaints);
}

Test(deploy_file, complaints_have_an_end)
{
    struct text wrong, complaints;
    text_init(&wrong, 1 << 20);
    text_init(&complaints, 1 << 20);
    for (int i = 0; i < 100; i++)
        text_print(&wrong, "k%d: 1\n", i);
    cr_assert_null(deploy_file_read(text_bytes(&wrong), "f.yaml", &complaints));
    const char *at = text_string(&complaints);
    int lines = 0;
    for (; (at = strchr(at, '\n')); at++)
        lines++;
    cr_assert_eq(lines, DEPLOY_FILE_COMPLAINT_LIMIT + 1);
    cr_assert(strstr(text_string(&complaints), "f.yaml: and more\n"));
    text_done(&wrong);
    text_done(&complaints);
}
