/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The border between C++ and C, from both sides: this program starts an instance with
 * <manta/instance.hpp>, runs the deployments of probe.cpp in it and calls them through handles.
 *
 * The shared object is the program's PROBE; the role executables are found through MANTA_LIBEXEC.
 */
#include <criterion/criterion.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <manta/manta.hpp>

namespace
{

/* An instance of each test's own, which is a process of its own. */
class world
{
  public:
    world() : instance_(manta::instance::start(options()))
    {
    }
    manta::instance &instance()
    {
        return instance_;
    }
    manta::handle run(const char *application, const char *const *arguments = nullptr)
    {
        manta::run_options options;
        options.route_prefix = nullptr;
        options.arguments = arguments;
        instance_.run(std::string(std::getenv("PROBE")) + ":" + application, options);
        return instance_.app_handle("default");
    }
    ~world()
    {
        if (instance_.raw())
            instance_.shutdown();
    }

  private:
    static manta::start_options options()
    {
        manta::start_options options;
        options.http_port = -1;
        return options;
    }
    manta::instance instance_;
};

manta::call_options method(const char *name)
{
    manta::call_options options;
    options.method = name;
    return options;
}

manta::call_options of_model(const char *model_id, const char *name = nullptr)
{
    manta::call_options options;
    options.model_id = model_id;
    options.method = name;
    return options;
}

/* What a call fails with, as "code: text"; "" when it does not. */
template <class Run> std::string failure_of(Run run)
{
    try {
        run();
    } catch (const manta::error &caught) {
        return std::to_string(caught.code()) + ": " + caught.what();
    }
    return "";
}

template <class... Args>
std::string failure_of_method(manta::handle &handle, const char *name, const Args &...args)
{
    return failure_of([&] { handle.call(method(name), args...).wait(); });
}

} /* namespace */

Test(border, arguments_and_results_cross_it, .timeout = 60)
{
    world here;
    const char *arguments[] = {"base=7", "word=or", nullptr};
    manta::handle probe = here.run("probes", arguments);
    cr_assert_eq(probe.call(5).get<int>(), 12);
    cr_assert_eq(probe.call(method("call_tripler"), 5).get<std::int64_t>(), 15);
    cr_assert(probe.call(method("words")).get<std::vector<std::string>>() ==
              (std::vector<std::string>{"to", "or"}));

    manta::call echo =
        probe.call(method("echo"), true, -2, 0.25, "text", std::string("more"), nullptr,
                   std::vector<std::vector<int>>{{1}, {}}, manta::pack().map(0));
    echo.wait();
    cr_assert(echo.value().json() == "[true,-2,0.25,\"text\",\"more\",null,[[1],[]],{}]");
    cr_assert(echo.over());

    manta::call about = probe.call(method("about"));
    about.wait();
    cr_assert(about.value().json() == "{\"application\":\"default\",\"deployment\":\"probe\","
                                      "\"method\":\"about\",\"http\":false,\"field\":false}");
    cr_assert(probe.application() == "default");
    cr_assert(here.instance().deployment_handle("default", "batcher").deployment() == "batcher");
}

Test(border, what_is_thrown_becomes_the_answer, .timeout = 60)
{
    world here;
    manta::handle probe = here.run("probes");
    std::string user = std::to_string(MANTA_EUSER) + ": ";
    cr_assert(failure_of_method(probe, "throws_runtime_error") == user + "100% of it went wrong");
    cr_assert(failure_of_method(probe, "throws_error") ==
              std::to_string(MANTA_ENOTFOUND) + ": no such fish");
    cr_assert(failure_of_method(probe, "throws_bad_alloc").find(std::to_string(MANTA_EMEMORY)) ==
              0);
    cr_assert(failure_of_method(probe, "throws_int") ==
              user + "an exception that is no std::exception");
    cr_assert(failure_of_method(probe, "forgets") == user + "the deployment did not answer");
    cr_assert(failure_of_method(probe, "forgets_later") == user + "the deployment did not answer");
    cr_assert(failure_of([&] { probe.call("x").wait(); }) ==
              std::to_string(MANTA_ETYPE) +
                  ": argument 0: the value is a string, not an int of 64 bits");
    cr_assert(failure_of([&] { probe.call().wait(); }).find("argument 0 is missing") !=
              std::string::npos);
    /* And the replica lives on. */
    cr_assert_eq(probe.call(5).get<int>(), 1005);
}

Test(border, the_first_answer_counts, .timeout = 60)
{
    world here;
    manta::handle probe = here.run("probes");
    cr_assert(probe.call(method("throws_late")).get<std::string>() == "answered");
    cr_assert(probe.call(method("answers_twice")).get<std::string>() == "first");
}

Test(border, a_request_that_was_moved_away_is_answered_later, .timeout = 60)
{
    world here;
    manta::handle probe = here.run("probes");
    cr_assert_eq(probe.call(method("answers_later"), 21).get<int>(), 42);
}

Test(border, streams_are_read_item_by_item, .timeout = 60)
{
    world here;
    manta::handle probe = here.run("probes");
    manta::call_options options = method("streams");
    options.stream = true;
    manta::call stream = probe.call(options, 1000);
    std::int64_t count = 0;
    while (std::optional<manta::value> item = stream.next())
        cr_assert_eq(item->as<std::int64_t>(), count++);
    cr_assert_eq(count, 1000);

    options.method = "streams_and_throws";
    manta::call broken = probe.call(options);
    cr_assert(broken.next()->as<std::string>() == "one");
    cr_assert(failure_of([&] { broken.next(); }) ==
              std::to_string(MANTA_EUSER) + ": the second was bad");
}

Test(border, a_batch_is_answered_one_by_one, .timeout = 60)
{
    world here;
    here.run("probes");
    manta::handle batcher = here.instance().deployment_handle("default", "batcher");
    std::vector<manta::call> calls;
    for (int x : {1, 2, 3, 4})
        calls.push_back(batcher.call(x));
    for (manta::call &call : calls)
        cr_assert_eq(call.get<int>(), 4);

    calls.clear();
    for (int x : {1, 2, -3, 4})
        calls.push_back(batcher.call(x));
    for (manta::call &call : calls) {
        std::string failed = failure_of([&] { call.wait(); });
        cr_assert(failed.empty() || failed == std::to_string(MANTA_EUSER) + ": spoilt");
    }
    cr_assert(!failure_of([&] { calls[2].wait(); }).empty());
    /* The changed copy is a deployment of its own. */
    cr_assert_eq(
        here.instance().status().as_value()["applications"]["default"]["deployments"].size(), 5);
}

/* A class owns its models: loaded as unique_ptr, used by reference, unloaded and ended in order. */
Test(border, models_of_a_class_are_loaded_used_and_ended, .timeout = 60)
{
    world w;
    manta::handle library = w.run("library");
    cr_assert_eq(library.call(of_model("one")).get<std::string>(), "one");
    cr_assert_eq(library.call(of_model("two", "both"), "one").get<std::string>(), "two one");
    cr_assert_eq(library.call(of_model("two")).get<std::string>(), "two");
    cr_assert_eq(library.call(of_model("three")).get<std::string>(), "three");
    cr_assert_eq(library.call(method("told")).get<std::string>(), "one; 2 alive");
    std::string user = std::to_string(MANTA_EUSER) + ": ";
    cr_assert(failure_of([&] { library.call(of_model("!four")).wait(); }) ==
              user + "model '!four' could not be loaded: no such word: !four");
    cr_assert(failure_of([&] { library.call(of_model("!nothing")).wait(); }) ==
              user + "model '!nothing' could not be loaded: load_model returned nothing");
    cr_assert(failure_of([&] { library.call().wait(); }).find(std::to_string(MANTA_EINVALID)) == 0);
}

Test(border, user_config_reaches_reconfigure, .timeout = 60)
{
    world here;
    here.run("probes");
    manta::handle listener = here.instance().deployment_handle("default", "listener");
    cr_assert(listener.call().get<std::string>() == "{\"depth\": 3}");
}

Test(border, options_of_a_copy_may_point_to_what_the_builder_made, .timeout = 60)
{
    world here;
    const char *arguments[] = {"words=a text that is too long for a short string's own bytes",
                               nullptr};
    cr_assert(here.run("configured", arguments).call().get<std::string>() ==
              "{\"words\": \"a text that is too long for a short string's own bytes\"}");
}

Test(border, what_fails_to_start_says_why, .timeout = 60)
{
    world here;
    std::string failed = failure_of([&] { here.run("ill"); });
    cr_assert(failed.find(std::to_string(MANTA_EDEPLOYFAILED)) == 0, "%s", failed.c_str());
    cr_assert(failed.find("argument 0: the value is a string, not an int of 64 bits") !=
                  std::string::npos,
              "%s", failed.c_str());
    const char *bad[] = {"words=bad", nullptr};
    failed = failure_of([&] { here.run("configured", bad); });
    cr_assert(failed.find("that is no configuration") != std::string::npos, "%s", failed.c_str());

    const char *arguments[] = {"base=seven", nullptr};
    failed = failure_of([&] { here.run("probes", arguments); });
    cr_assert(failed.find("base=seven is not a whole number") != std::string::npos, "%s",
              failed.c_str());
}

Test(border, a_builder_in_cpp_may_use_the_macro_of_c, .timeout = 60)
{
    world here;
    cr_assert_eq(here.run("plain").call(4).get<int>(), 12);
    cr_assert(here.instance()
                  .status()
                  .as_value()["applications"]["default"]["status"]
                  .as<std::string>() == "RUNNING");
    here.instance().remove("default");
    cr_assert_eq(here.instance().status().as_value()["applications"].size(), 0);
    cr_assert_eq(here.instance().http_port(), -1);
    here.instance().shutdown();
    cr_assert_null(here.instance().raw());
}

Test(border, what_does_not_exist_is_an_error, .timeout = 60)
{
    world here;
    cr_assert(failure_of([&] {
                  here.instance().app_handle("nobody");
              }).find(std::to_string(MANTA_ENOTFOUND)) == 0);
    cr_assert(failure_of([&] { here.run("nothing"); }).find("has no application 'nothing'") !=
              std::string::npos);
    cr_assert(failure_of([] {
                  manta::instance::connect("no_such_instance");
              }).find(std::to_string(MANTA_ENOTRUNNING)) == 0);
}
