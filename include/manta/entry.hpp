/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/entry.hpp>: the entry points of a deployment in C, made from the members of a class.
 *
 * What a user of <manta/deployment.hpp> sees of it: manta::replica, batch, method and methods.  The
 * rest finds out what a class offers, catches what it throws, and fills the descriptor that
 * MANTA_DEPLOYMENT fills in C.
 */
#ifndef MANTA_ENTRY_HPP
#define MANTA_ENTRY_HPP

#include <array>
#include <cstddef>
#include <memory>
#include <new>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include <manta/deployment.h>
#include <manta/request.hpp>

namespace manta
{

/* The replica that this code runs in; a view, valid as long as the deployment's object. */
class replica
{
  public:
    explicit replica(manta_replica *raw) noexcept : raw_(raw)
    {
    }
    manta::args args() const noexcept
    {
        return manta::args(manta_replica_args(raw_));
    }
    std::string_view application() const noexcept
    {
        return manta_replica_application(raw_);
    }
    std::string_view deployment() const noexcept
    {
        return manta_replica_deployment(raw_);
    }
    std::string_view id() const noexcept
    {
        return manta_replica_id(raw_);
    }
    /* JSON, "null" when there is none. */
    std::string_view user_config() const noexcept
    {
        return manta_replica_user_config(raw_);
    }
    /* The place among the replicas of the deployment, 0 to world_size() - 1 at rest; -1 and 0: of no instance. */
    int rank() const noexcept
    {
        return manta_replica_rank(raw_);
    }
    int world_size() const noexcept
    {
        return manta_replica_world_size(raw_);
    }
    /* 10 debug, 20 info, 30 warning, 40 error. */
    void log(int level, c_string text) const noexcept
    {
        manta_replica_log(raw_, level, "%s", text.c_str());
    }
    manta_replica *raw() const noexcept
    {
        return raw_;
    }

  private:
    manta_replica *raw_;
};

/* The requests of one batch; each is answered, or moved away, by itself. */
class batch
{
  public:
    batch(request *first, std::size_t count) noexcept : first_(first), count_(count)
    {
    }
    std::size_t size() const noexcept
    {
        return count_;
    }
    request &operator[](std::size_t index) const noexcept
    {
        return first_[index];
    }
    request *begin() const noexcept
    {
        return first_;
    }
    request *end() const noexcept
    {
        return first_ + count_;
    }

  private:
    request *first_;
    std::size_t count_;
};

/* A named method: method<&adder::scale>("scale"). */
template <auto member> struct method {
    constexpr explicit method(const char *method_name) noexcept : name(method_name)
    {
    }
    const char *name;
};

/* All of a class, returned by its own methods(). */
template <class... Methods> constexpr std::tuple<Methods...> methods(Methods... list) noexcept
{
    return {list...};
}

namespace detail
{

/* What a class offers.  A member of the right name that cannot be called is a mistake, not an
 * absence. */
template <class, class = void> struct has_call_batch : std::false_type {
};
template <class Class>
struct has_call_batch<
    Class, std::void_t<decltype(std::declval<Class &>().call_batch(std::declval<batch>()))>>
    : std::true_type {
};
template <class, class = void> struct has_reconfigure : std::false_type {
};
template <class Class>
struct has_reconfigure<Class, std::void_t<decltype(std::declval<Class &>().reconfigure(
                                  std::declval<std::string_view>()))>> : std::true_type {
};
template <class, class = void> struct has_check_health : std::false_type {
};
template <class Class>
struct has_check_health<Class, std::void_t<decltype(std::declval<Class &>().check_health())>>
    : std::true_type {
};
template <class, class = void> struct has_methods : std::false_type {
};
template <class Class>
struct has_methods<Class, std::void_t<decltype(Class::methods())>> : std::true_type {
};

/* What load_model makes: std::unique_ptr<Model>, for this Model. */
template <class> struct owned {
    using type = void;
};
template <class Model> struct owned<std::unique_ptr<Model>> {
    using type = Model;
};
template <class, class = void> struct model_of {
    using type = void;
};
template <class Class>
struct model_of<Class, std::void_t<decltype(std::declval<Class &>().load_model(
                           std::declval<std::string_view>()))>>
    : owned<decltype(std::declval<Class &>().load_model(std::declval<std::string_view>()))> {
};
template <class Class>
inline constexpr bool has_models = !std::is_void_v<typename model_of<Class>::type>;
template <class, class, class = void> struct has_unload_model : std::false_type {
};
template <class Class, class Model>
struct has_unload_model<Class, Model,
                        std::void_t<decltype(std::declval<Class &>().unload_model(
                            std::declval<std::string_view>(), std::declval<Model &>()))>>
    : std::true_type {
};

template <class, class = void> struct names_load_model : std::false_type {
};
template <class Class>
struct names_load_model<Class, std::void_t<decltype(&Class::load_model)>> : std::true_type {
};
template <class, class = void> struct names_unload_model : std::false_type {
};
template <class Class>
struct names_unload_model<Class, std::void_t<decltype(&Class::unload_model)>> : std::true_type {
};
template <class, class = void> struct names_call_batch : std::false_type {
};
template <class Class>
struct names_call_batch<Class, std::void_t<decltype(&Class::call_batch)>> : std::true_type {
};
template <class, class = void> struct names_reconfigure : std::false_type {
};
template <class Class>
struct names_reconfigure<Class, std::void_t<decltype(&Class::reconfigure)>> : std::true_type {
};
template <class, class = void> struct names_check_health : std::false_type {
};
template <class Class>
struct names_check_health<Class, std::void_t<decltype(&Class::check_health)>> : std::true_type {
};

/* The C functions of a class.  Nothing is thrown out of them. */
template <class Class> struct entry {
    static constexpr bool calls = std::is_invocable_v<Class &, request &>;
    static constexpr bool batches = has_call_batch<Class>::value;
    static_assert(calls || batches,
                  "a deployment has operator()(manta::request &) or call_batch(manta::batch)");
    static_assert(batches || !names_call_batch<Class>::value, "call_batch takes a manta::batch");
    static_assert(has_reconfigure<Class>::value || !names_reconfigure<Class>::value,
                  "reconfigure takes a std::string_view");
    static_assert(has_check_health<Class>::value || !names_check_health<Class>::value,
                  "check_health takes nothing");
    using model = typename model_of<Class>::type; /* void: it has none */
    static constexpr bool unloads = has_unload_model<Class, model>::value;
    static_assert(has_models<Class> || !names_load_model<Class>::value,
                  "load_model takes a std::string_view and returns a std::unique_ptr");
    static_assert(unloads || !names_unload_model<Class>::value,
                  "unload_model takes a std::string_view and a reference to what load_model makes");
    static_assert(std::is_constructible_v<Class, const replica &> ||
                      std::is_default_constructible_v<Class>,
                  "a deployment is constructed from const manta::replica &, or from nothing");

    /* A replica's state: the user's object and where it lives. */
    struct state {
        explicit state(manta_replica *raw) : replica(raw), object(construct(replica))
        {
        }
        manta::replica replica;
        Class object;
    };

    static Class construct(const manta::replica &replica)
    {
        if constexpr (std::is_constructible_v<Class, const manta::replica &>)
            return Class(replica);
        else
            return Class();
    }

    static int open(manta_replica *raw, void **ret_state, manta_error *reterr) noexcept
    {
        try {
            *ret_state = new state(raw);
            return MANTA_OK;
        } catch (...) {
            return exception_to_error(reterr);
        }
    }
    static void close(void *raw) noexcept
    {
        delete static_cast<state *>(raw);
    }

    /* Runs user code; an exception fails the requests that are still here. */
    template <class Run> static void guard(state *self, request *first, std::size_t count, Run run)
    {
        try {
            run(self->object);
        } catch (...) {
            tell_exception([&](int code, const char *text) {
                bool told = false;
                for (std::size_t i = 0; i < count; i++)
                    if (first[i]) {
                        first[i].fail(code, text);
                        told = true;
                    }
                if (!told)
                    manta_replica_log(self->replica.raw(), 40,
                                      "an exception after the last answer: %s", text);
            });
        }
    }
    static void call(void *raw, manta_request *raw_request) noexcept
    {
        request one(raw_request);
        guard(static_cast<state *>(raw), &one, 1, [&](Class &object) { object(one); });
    }
    template <auto member> static void call_method(void *raw, manta_request *raw_request) noexcept
    {
        request one(raw_request);
        guard(static_cast<state *>(raw), &one, 1, [&](Class &object) { (object.*member)(one); });
    }
    /* The array is ours for the call: each pointer becomes its owner, in place. */
    static void call_batch(void *raw, manta_request **raw_requests, std::size_t count) noexcept
    {
        static_assert(sizeof(request) == sizeof(manta_request *) &&
                      alignof(request) == alignof(manta_request *));
        for (std::size_t i = 0; i < count; i++) {
            manta_request *taken = raw_requests[i];
            new (static_cast<void *>(&raw_requests[i])) request(taken);
        }
        request *first = std::launder(reinterpret_cast<request *>(raw_requests));
        guard(static_cast<state *>(raw), first, count,
              [&](Class &object) { object.call_batch(batch(first, count)); });
        for (std::size_t i = 0; i < count; i++)
            first[i].~request();
    }

    static int reconfigure(void *raw, const char *user_config, manta_error *reterr) noexcept
    {
        try {
            static_cast<state *>(raw)->object.reconfigure(std::string_view(user_config));
            return MANTA_OK;
        } catch (...) {
            return exception_to_error(reterr);
        }
    }
    static int check_health(void *raw, manta_error *reterr) noexcept
    {
        try {
            static_cast<state *>(raw)->object.check_health();
            return MANTA_OK;
        } catch (...) {
            return exception_to_error(reterr);
        }
    }

    static int load_model(void *raw, const char *model_id, void **ret_model,
                          manta_error *reterr) noexcept
    {
        try {
            std::unique_ptr<model> made =
                static_cast<state *>(raw)->object.load_model(std::string_view(model_id));
            if (!made)
                throw error(MANTA_EUSER, "load_model returned nothing");
            *ret_model = made.release();
            return MANTA_OK;
        } catch (...) {
            return exception_to_error(reterr);
        }
    }
    /* The model ends whatever unload_model throws. */
    static void unload_model(void *raw, const char *model_id, void *raw_model) noexcept
    {
        std::unique_ptr<model> ended(static_cast<model *>(raw_model));
        if constexpr (unloads)
            try {
                static_cast<state *>(raw)->object.unload_model(std::string_view(model_id), *ended);
            } catch (...) {
                tell_exception([&](int, const char *text) {
                    manta_replica_log(static_cast<state *>(raw)->replica.raw(), 40,
                                      "unload_model of '%s': %s", model_id, text);
                });
            }
        else
            (void)raw, (void)model_id;
    }

    template <auto member> static constexpr manta_method method_of(method<member> named) noexcept
    {
        return manta_method{named.name, call_method<member>};
    }
};

template <class Class>
inline constexpr auto method_table = std::apply(
    [](auto... named) {
        return std::array<manta_method, sizeof...(named)>{entry<Class>::method_of(named)...};
    },
    Class::methods());

/* MANTA_DEPLOYMENT_DEFAULTS, which is no C++17. */
constexpr manta_deployment deployment_defaults(const char *symbol) noexcept
{
    manta_deployment made = {};
    made.size = sizeof(manta_deployment);
    made.header_version = MANTA_HEADER_VERSION;
    made.symbol = symbol;
    made.name = symbol;
    made.num_replicas = 1;
    made.max_ongoing_requests = 5;
    made.max_queued_requests = -1;
    made.threads = 1;
    made.max_batch_size = 10;
    made.max_concurrent_batches = 1;
    made.batch_wait_timeout_s = 0.01;
    made.graceful_shutdown_wait_loop_s = 2;
    made.graceful_shutdown_timeout_s = 20;
    made.health_check_period_s = 10;
    made.health_check_timeout_s = 30;
    made.max_models = 3;
    made.max_surge_percent = 100;
    made.rolling_update_percentage = 0.2;
    made.max_constructor_retry_count = 20;
    return made;
}

struct default_options {
    constexpr void operator()(manta_deployment &) const noexcept
    {
    }
};

/* The descriptor.  The macro leaves a default_options behind the options that were given, if any.
 */
template <class Class, class Options, class... Rest>
constexpr manta_deployment describe(const char *symbol, Options set_options, Rest...)
{
    manta_deployment made = deployment_defaults(symbol);
    made.open = entry<Class>::open;
    made.close = entry<Class>::close;
    if constexpr (entry<Class>::calls)
        made.call = entry<Class>::call;
    if constexpr (entry<Class>::batches)
        made.call_batch = entry<Class>::call_batch;
    if constexpr (has_reconfigure<Class>::value)
        made.reconfigure = entry<Class>::reconfigure;
    if constexpr (has_check_health<Class>::value)
        made.check_health = entry<Class>::check_health;
    if constexpr (has_models<Class>) {
        made.load_model = entry<Class>::load_model;
        made.unload_model = entry<Class>::unload_model;
    }
    if constexpr (has_methods<Class>::value) {
        made.methods = method_table<Class>.data();
        made.method_count = method_table<Class>.size();
    }
    set_options(made);
    return made;
}

} /* namespace detail */
} /* namespace manta */

#endif
