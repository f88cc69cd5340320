/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shared object of deployments for border_test.cpp: everything that user code may do wrong or
 * late, and every entry point a class can have.
 */
#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <manta/manta.hpp>

extern "C" const manta_deployment *const manta_deployment_tripler;

namespace
{

/* Throws what it is told, and answers in ways of its own. */
class probe
{
  public:
    explicit probe(const manta::replica &replica)
        : replica_(replica), base_(replica.args().get<std::int64_t>(0)),
          tripler_(replica.args().handle(1)),
          words_(replica.args().get<std::vector<std::string>>(2))
    {
    }
    ~probe()
    {
        for (std::thread &thread : threads_)
            thread.join();
    }

    void operator()(manta::request &request)
    {
        request.reply(request.args().get<std::int64_t>(0) + base_);
    }
    void call_tripler(manta::request &request)
    {
        manta::call_options options;
        options.parent = request.raw();
        manta::call call = tripler_.call(options, request.args().get<std::int64_t>(0));
        request.reply(call.get<std::int64_t>());
    }
    void echo(manta::request &request)
    {
        manta::pack all;
        manta::args args = request.args();
        all.array(args.size());
        for (std::size_t i = 0; i < args.size(); i++)
            all.add(args[i]);
        request.reply(all);
    }
    void words(manta::request &request)
    {
        request.reply(words_);
    }
    void about(manta::request &request)
    {
        manta::pack told;
        told.map(5)
            .pair("application", replica_.application())
            .pair("deployment", replica_.deployment())
            .pair("method", request.method())
            .pair("http", request.is_http())
            .pair("field", request.header_at(0).has_value());
        request.reply(told);
    }
    void throws_runtime_error(manta::request &)
    {
        throw std::runtime_error("100% of it went wrong");
    }
    void throws_error(manta::request &)
    {
        throw manta::error(MANTA_ENOTFOUND, "no such fish");
    }
    void throws_bad_alloc(manta::request &)
    {
        throw std::bad_alloc();
    }
    void throws_int(manta::request &)
    {
        throw 5;
    }
    void throws_late(manta::request &request)
    {
        request.reply("answered");
        throw std::runtime_error("too late to matter");
    }
    void answers_twice(manta::request &request)
    {
        request.reply("first");
        request.reply("second");
    }
    void forgets(manta::request &)
    {
    }
    void answers_later(manta::request &request)
    {
        threads_.emplace_back(
            [](manta::request later) { later.reply(later.args().get<std::int64_t>(0) * 2); },
            std::move(request));
    }
    void forgets_later(manta::request &request)
    {
        threads_.emplace_back([](manta::request) {}, std::move(request));
        throw std::runtime_error("nobody is here any more");
    }
    void streams(manta::request &request)
    {
        request.begin(200, nullptr);
        for (std::int64_t i = 0; i < request.args().get<std::int64_t>(0); i++)
            if (!request.write_value(i))
                break;
        request.finish();
    }
    void streams_and_throws(manta::request &request)
    {
        request.begin(200, nullptr);
        if (request.write_value("one"))
            throw std::runtime_error("the second was bad");
    }

    static constexpr auto methods()
    {
        using manta::method;
        return manta::methods(
            method<&probe::call_tripler>("call_tripler"), method<&probe::echo>("echo"),
            method<&probe::words>("words"), method<&probe::about>("about"),
            method<&probe::throws_runtime_error>("throws_runtime_error"),
            method<&probe::throws_error>("throws_error"),
            method<&probe::throws_bad_alloc>("throws_bad_alloc"),
            method<&probe::throws_int>("throws_int"), method<&probe::throws_late>("throws_late"),
            method<&probe::answers_twice>("answers_twice"), method<&probe::forgets>("forgets"),
            method<&probe::answers_later>("answers_later"),
            method<&probe::forgets_later>("forgets_later"), method<&probe::streams>("streams"),
            method<&probe::streams_and_throws>("streams_and_throws"));
    }

  private:
    manta::replica replica_;
    std::int64_t base_;
    manta::handle tripler_;
    std::vector<std::string> words_;
    std::vector<std::thread> threads_; /* one thread runs the entry points, so no lock */
};

/* Answers x with the size of its batch; a negative one spoils the rest of its batch. */
class batcher
{
  public:
    void call_batch(manta::batch requests)
    {
        for (manta::request &request : requests) {
            if (request.args().get<int>(0) < 0)
                throw std::runtime_error("spoilt");
            request.reply(requests.size());
        }
    }
};

/* Repeats the user_config it was given last. */
class listener
{
  public:
    void operator()(manta::request &request)
    {
        request.reply(config_);
    }
    void reconfigure(std::string_view user_config)
    {
        if (user_config.find("bad") != user_config.npos)
            throw std::invalid_argument("that is no configuration");
        config_ = user_config;
    }
    void check_health()
    {
        if (config_.empty())
            throw std::logic_error("there was no configuration");
    }

  private:
    std::string config_;
};

class stillborn
{
  public:
    explicit stillborn(const manta::replica &replica)
    {
        replica.args().get<std::int64_t>(0);
    }
    void operator()(manta::request &)
    {
    }
};

/* What a request costs: everything that is read and written without a document. */
class greeter
{
  public:
    void operator()(manta::request &request)
    {
        greet(request);
    }
    static void greet(manta::request &request)
    {
        if (request.path() != "/" || request.method() != "GET" || !request.body().empty() ||
            request.header("x-none") || request.cancelled())
            throw manta::error(MANTA_EINVALID, "that is no greeting");
        request.add_header("x-greeting", "yes");
        request.reply("Hello, world!");
    }
};

class batch_greeter
{
  public:
    void call_batch(manta::batch requests)
    {
        for (manta::request &request : requests)
            greeter::greet(request);
    }
};

/* ---- models --------------------------------------------------------------------------- */

struct word {
    explicit word(std::string_view given) : text(given)
    {
        alive++;
    }
    ~word()
    {
        alive--;
    }
    std::string text;
    static inline std::atomic<int> alive{0};
};

/* Holds two words at most; those that begin with '!' do not load. */
class library
{
  public:
    std::unique_ptr<word> load_model(std::string_view id)
    {
        if (id == "!nothing")
            return nullptr;
        if (id[0] == '!')
            throw std::runtime_error("no such word: " + std::string(id));
        return std::make_unique<word>(id);
    }
    void unload_model(std::string_view id, word &ended)
    {
        unloaded_ += (unloaded_.empty() ? "" : " ") + std::string(id);
        if (ended.text != id)
            unloaded_ += " which was " + ended.text;
        throw std::runtime_error("it is logged, and the word ends all the same");
    }
    void operator()(manta::request &request)
    {
        request.reply(request.model<word>().text);
    }
    void both(manta::request &request)
    {
        request.reply(request.model<word>().text + " " +
                      request.model<word>(request.args().get<std::string>(0)).text);
    }
    void told(manta::request &request)
    {
        request.reply(unloaded_ + "; " + std::to_string(word::alive) + " alive");
    }
    static constexpr auto methods()
    {
        return manta::methods(manta::method<&library::both>("both"),
                              manta::method<&library::told>("told"));
    }

  private:
    std::string unloaded_;
};

} /* namespace */

MANTA_DEPLOYMENT_CLASS(library, [](manta_deployment &options) { options.max_models = 2; });
MANTA_APPLICATION_BUILDER(library)
{
    return app.bind<library>();
}

MANTA_DEPLOYMENT_CLASS(greeter);
MANTA_DEPLOYMENT_CLASS(batch_greeter,
                       [](manta_deployment &options) { options.batch_wait_timeout_s = 0; });
MANTA_DEPLOYMENT_CLASS(probe);
MANTA_DEPLOYMENT_CLASS(batcher, [](manta_deployment &options) {
    options.max_batch_size = 4;
    options.batch_wait_timeout_s =
        5; /* so that four calls are one batch, however slow the machine is */
    options.max_ongoing_requests = 8;
});
MANTA_DEPLOYMENT_CLASS(listener,
                       [](manta_deployment &options) { options.user_config = "{\"depth\": 3}"; });
MANTA_DEPLOYMENT_CLASS(stillborn);

MANTA_APPLICATION_BUILDER(probes)
{
    manta_deployment twice = manta::deployment_of<batcher>();
    twice.name = "another_batcher";
    return app.bind<probe>(app.integer("base", 1000),
                           app.bind_deployment(*manta_deployment_tripler, app.bind<batcher>(),
                                               app.bind_deployment(twice), app.bind<listener>()),
                           std::vector<std::string>{"to", std::string(app.argument("word", "be"))});
}

MANTA_APPLICATION_BUILDER(greetings)
{
    return app.bind<greeter>();
}

MANTA_APPLICATION_BUILDER(batched_greetings)
{
    return app.bind<batch_greeter>();
}

MANTA_APPLICATION_BUILDER(ill)
{
    return app.bind<stillborn>("no number");
}

MANTA_APPLICATION_BUILDER(configured)
{
    /* A text that is gone when the builder has returned. */
    std::string config = "{\"words\": \"" + std::string(app.argument("words", "")) + "\"}";
    manta_deployment changed = manta::deployment_of<listener>();
    changed.user_config = config.c_str();
    return app.bind_deployment(changed);
}

/* The macro of C, in C++. */
MANTA_APPLICATION(plain)
{
    return manta_bind(app, manta_deployment_tripler);
}
