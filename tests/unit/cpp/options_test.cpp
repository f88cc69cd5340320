/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The option structs and descriptors that C++ fills are those that the C macros fill: the defaults
 * stand in two places, because designated initialisers are no C++17, and may not differ.
 */
#include <criterion/criterion.h>

#include <cstring>

#include <manta/manta.hpp>

extern "C" const manta_call_options call_options_of_c;
extern "C" const manta_start_options start_options_of_c;
extern "C" const manta_run_options run_options_of_c;
extern "C" const manta_deployment *const manta_deployment_doubler;

namespace
{

struct plain {
    void operator()(manta::request &request)
    {
        request.reply(nullptr);
    }
};

struct full {
    explicit full(const manta::replica &)
    {
    }
    full(const full &) = delete; /* as one with a mutex is */
    void operator()(manta::request &)
    {
    }
    void call_batch(manta::batch)
    {
    }
    void reconfigure(std::string_view)
    {
    }
    void check_health()
    {
    }
    void first(manta::request &)
    {
    }
    void second(manta::request &) noexcept
    {
    }
    static constexpr auto methods()
    {
        return manta::methods(manta::method<&full::first>("first"),
                              manta::method<&full::second>("second"));
    }
};

struct derived : full {
    using full::full;
};

struct batches_only {
    void call_batch(const manta::batch &)
    {
    }
};

/* Options that only the start of the process knows. */
int replicas_of_the_day()
{
    static volatile int known = 3;
    return known;
}

bool is_same_text(const char *left, const char *right)
{
    return left == right || (left && right && !std::strcmp(left, right));
}

} /* namespace */

MANTA_DEPLOYMENT_CLASS(plain);
MANTA_DEPLOYMENT_CLASS(full, [](manta_deployment &options) {
    int one = 1, two = 2; /* a comma that is no argument of the macro */
    options.num_replicas = one + two;
    options.user_config = "{}";
});
MANTA_DEPLOYMENT_CLASS(derived);
MANTA_DEPLOYMENT_CLASS(batches_only, [](manta_deployment &options) {
    options.name = "batches";
    options.num_replicas = replicas_of_the_day();
});

Test(options, of_calls_are_those_of_c)
{
    manta::call_options options;
    cr_assert_eq(options.size, call_options_of_c.size);
    cr_assert_null(options.method);
    cr_assert_eq(options.timeout_s, call_options_of_c.timeout_s);
    cr_assert_null(options.model_id);
    cr_assert_eq(options.stream, call_options_of_c.stream);
    cr_assert_null(options.parent);
    cr_assert(!options.done && !options.owner);
    cr_assert_eq(sizeof(manta::call_options), sizeof(manta_call_options));
}

Test(options, of_starts_are_those_of_c)
{
    manta::start_options options;
    const manta_start_options &wanted = start_options_of_c;
    cr_assert_eq(options.size, wanted.size);
    cr_assert(is_same_text(options.name, wanted.name));
    cr_assert(is_same_text(options.http_host, wanted.http_host));
    cr_assert_eq(options.http_port, wanted.http_port);
    cr_assert_eq(options.request_timeout_s, wanted.request_timeout_s);
    cr_assert_eq(options.keep_alive_timeout_s, wanted.keep_alive_timeout_s);
    cr_assert_eq(options.proxies, wanted.proxies);
    cr_assert(is_same_text(options.log_level, wanted.log_level));
    cr_assert(is_same_text(options.log_encoding, wanted.log_encoding));
    cr_assert(is_same_text(options.log_directory, wanted.log_directory));
    cr_assert_eq(options.log_to_stderr, wanted.log_to_stderr);
}

Test(options, of_runs_are_those_of_c)
{
    manta::run_options options;
    const manta_run_options &wanted = run_options_of_c;
    cr_assert_eq(options.size, wanted.size);
    cr_assert(is_same_text(options.name, wanted.name));
    cr_assert(is_same_text(options.route_prefix, wanted.route_prefix));
    cr_assert_eq(options.arguments, wanted.arguments);
    cr_assert_eq(options.no_wait, wanted.no_wait);
    cr_assert(!options.progress && !options.owner);
}

Test(options, of_deployments_are_those_of_c)
{
    const manta_deployment &made = manta::deployment_of<plain>(),
                           &wanted = *manta_deployment_doubler;
    cr_assert_eq(made.size, wanted.size);
    cr_assert_eq(made.header_version, wanted.header_version);
    cr_assert_eq(made.num_replicas, wanted.num_replicas);
    cr_assert_eq(made.max_ongoing_requests, wanted.max_ongoing_requests);
    cr_assert_eq(made.max_queued_requests, wanted.max_queued_requests);
    cr_assert_eq(made.threads, wanted.threads);
    cr_assert_eq(made.max_batch_size, wanted.max_batch_size);
    cr_assert_eq(made.max_concurrent_batches, wanted.max_concurrent_batches);
    cr_assert_eq(made.batch_wait_timeout_s, wanted.batch_wait_timeout_s);
    cr_assert_eq(made.graceful_shutdown_wait_loop_s, wanted.graceful_shutdown_wait_loop_s);
    cr_assert_eq(made.graceful_shutdown_timeout_s, wanted.graceful_shutdown_timeout_s);
    cr_assert_eq(made.health_check_period_s, wanted.health_check_period_s);
    cr_assert_eq(made.health_check_timeout_s, wanted.health_check_timeout_s);
    cr_assert_eq(made.max_surge_percent, wanted.max_surge_percent);
    cr_assert_eq(made.rolling_update_percentage, wanted.rolling_update_percentage);
    cr_assert_eq(made.max_constructor_retry_count, wanted.max_constructor_retry_count);
    cr_assert_eq(made.start_timeout_s, wanted.start_timeout_s);
    cr_assert(is_same_text(made.user_config, wanted.user_config));
    cr_assert_eq(made.stream_body, wanted.stream_body);
    cr_assert_str_eq(made.symbol, "plain");
    cr_assert_str_eq(made.name, "plain");
}

Test(descriptors, have_the_entry_points_that_the_class_has)
{
    const manta_deployment &made = *manta_deployment_plain;
    cr_assert(made.open && made.close && made.call);
    cr_assert(!made.call_batch && !made.reconfigure && !made.check_health);
    cr_assert(!made.methods && !made.method_count);

    const manta_deployment &all = *manta_deployment_full;
    cr_assert(all.open && all.close && all.call && all.call_batch);
    cr_assert(all.reconfigure && all.check_health);
    cr_assert_eq(all.method_count, 2);
    cr_assert_str_eq(all.methods[0].name, "first");
    cr_assert_str_eq(all.methods[1].name, "second");
    cr_assert_neq(all.methods[0].call, all.methods[1].call);
    cr_assert_eq(all.num_replicas, 3);
    cr_assert_str_eq(all.user_config, "{}");

    cr_assert(!manta_deployment_batches_only->call && manta_deployment_batches_only->call_batch);
}

Test(descriptors, of_a_derived_class_have_entry_points_of_their_own)
{
    cr_assert_eq(manta_deployment_derived->method_count, 2);
    cr_assert_neq(manta_deployment_derived->open, manta_deployment_full->open);
    cr_assert_neq(manta_deployment_derived->methods[0].call,
                  manta_deployment_full->methods[0].call);
}

Test(descriptors, take_options_that_no_compiler_knows)
{
    const manta_deployment &made = manta::deployment_of<batches_only>();
    cr_assert_eq(made.num_replicas, 3);
    cr_assert_str_eq(made.symbol, "batches_only");
    cr_assert_str_eq(made.name, "batches");
}
