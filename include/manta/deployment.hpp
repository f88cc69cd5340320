/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/deployment.hpp>: a class as a deployment, and builders of applications.
 *
 *     class adder
 *     {
 *       public:
 *         explicit adder(const manta::replica &replica);       or no parameter
 *         void operator()(manta::request &request);            this or call_batch
 *         void call_batch(manta::batch requests);              optional: requests come in batches
 *         void reconfigure(std::string_view user_config);      optional: JSON
 *         void check_health();                                 optional: throws when it is not well
 *         std::unique_ptr<Model> load_model(std::string_view id);      optional: see <manta/model.h>
 *         void unload_model(std::string_view id, Model &model);        optional: before it ends
 *         static constexpr auto methods()                      optional: beside operator()
 *         {
 *             return manta::methods(manta::method<&adder::scale>("scale"));
 *         }
 *         void scale(manta::request &request);
 *     };
 *
 *     MANTA_DEPLOYMENT_CLASS(adder, [](manta_deployment &options) { options.num_replicas = 2; });
 *     MANTA_APPLICATION_BUILDER(math) { return app.bind<adder>(app.integer("increment", 3)); }
 *
 * Both macros stand outside of any namespace, and export what MANTA_DEPLOYMENT and
 * MANTA_APPLICATION do.  One object per replica; with options.threads above 1 its members run side
 * by side.  Every entry point catches what user code throws (see <manta/error.hpp>): a
 * constructor's exception is a failed start, reconfigure's and check_health's count against the
 * replica, a builder's refuses the application.
 */
#ifndef MANTA_DEPLOYMENT_HPP
#define MANTA_DEPLOYMENT_HPP

#include <charconv>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <system_error>

#include <manta/entry.hpp>

namespace manta
{

namespace detail
{

/* Specialised by MANTA_DEPLOYMENT_CLASS: `static const manta_deployment &get()`. */
template <class Class> struct descriptor;

} /* namespace detail */

/* What MANTA_DEPLOYMENT_CLASS made; a copy with other options can be bound as well. */
template <class Class> const manta_deployment &deployment_of() noexcept
{
    return detail::descriptor<Class>::get();
}

/* The application that a builder builds; a view. */
class application
{
  public:
    explicit application(manta_app *raw) noexcept : raw_(raw)
    {
    }
    /* Binds a deployment with its constructor arguments; the result is an argument itself. */
    template <class Class, class... Args> manta_arg bind(const Args &...args)
    {
        return bind_deployment(deployment_of<Class>(), args...);
    }
    /* The same for a changed copy, or for a deployment in C. */
    template <class... Args>
    manta_arg bind_deployment(const manta_deployment &deployment, const Args &...args)
    {
        return detail::with_args(
            [&](const manta_arg *list, std::size_t count) {
                return manta_bind_array(raw_, &deployment, list, count);
            },
            args...);
    }
    /* key=value of `manta run`. */
    std::string_view argument(c_string key, c_string fallback) const noexcept
    {
        return manta_app_argument(raw_, key.c_str(), fallback.c_str());
    }
    /* The same as a whole number; MANTA_EINVALID when it is none. */
    std::int64_t integer(c_string key, std::int64_t fallback) const
    {
        const char *text = manta_app_argument(raw_, key.c_str(), nullptr);
        if (!text)
            return fallback;
        std::int64_t number = 0;
        const char *end = text + std::strlen(text);
        std::from_chars_result result = std::from_chars(text, end, number);
        if (result.ec != std::errc() || result.ptr != end)
            throw error(MANTA_EINVALID,
                        std::string(key.c_str()) + "=" + text + " is not a whole number");
        return number;
    }
    manta_app *raw() const noexcept
    {
        return raw_;
    }

  private:
    manta_app *raw_;
};

namespace detail
{

inline manta_arg build(manta_app *raw, manta_arg (*builder)(application &app)) noexcept
{
    manta_arg built = manta_nil();
    try {
        application app(raw);
        built = builder(app);
    } catch (...) {
        tell_exception([&](int, const char *text) { built = manta_app_fail(raw, "%s", text); });
    }
    return built;
}

} /* namespace detail */
} /* namespace manta */

/* Defines and exports a class as a deployment; options are set by a function, or left out:
 * `MANTA_DEPLOYMENT_CLASS(adder, [](manta_deployment &options) { options.num_replicas = 2; });` */
#define MANTA_DEPLOYMENT_CLASS(...)                                                                \
    MANTA_DEPLOYMENT_CLASS_OF(__VA_ARGS__, ::manta::detail::default_options{})
#define MANTA_DEPLOYMENT_CLASS_OF(identifier, ...)                                                 \
    static const manta_deployment manta_descriptor_##identifier =                                  \
        ::manta::detail::describe<identifier>(#identifier, __VA_ARGS__);                           \
    template <> struct manta::detail::descriptor<identifier> {                                     \
        static const manta_deployment &get() noexcept                                              \
        {                                                                                          \
            return manta_descriptor_##identifier;                                                  \
        }                                                                                          \
    };                                                                                             \
    extern "C" MANTA_EXPORT const manta_deployment *const manta_deployment_##identifier;           \
    const manta_deployment *const manta_deployment_##identifier = &manta_descriptor_##identifier

/* Begins a builder: it gets `manta::application &app` and returns the bound ingress. */
#define MANTA_APPLICATION_BUILDER(identifier)                                                      \
    static manta_arg manta_builder_##identifier(::manta::application &app);                        \
    extern "C" MANTA_EXPORT manta_arg manta_application_##identifier(manta_app *app);              \
    extern "C" manta_arg manta_application_##identifier(manta_app *app)                            \
    {                                                                                              \
        return ::manta::detail::build(app, manta_builder_##identifier);                            \
    }                                                                                              \
    static manta_arg manta_builder_##identifier([[maybe_unused]] ::manta::application &app)

#endif
