/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/handle.hpp>: calling deployments, as <manta/handle.h>.
 *
 *     std::int64_t product = multiplier.call(x).get<std::int64_t>();
 *
 *     manta::call_options options;
 *     options.method = "scale";
 *     options.parent = request.raw();
 *     manta::call call = multiplier.call(options, x, "fast");
 *     ...
 *     call.wait(5.0);
 *
 * A call runs from its creation on; ending the object cancels what is not over.
 */
#ifndef MANTA_HANDLE_HPP
#define MANTA_HANDLE_HPP

#include <optional>
#include <string_view>
#include <utility>

#include <manta/handle.h>
#include <manta/pack.hpp>

namespace manta
{

/* The C struct with its defaults. */
struct call_options : manta_call_options {
    call_options() noexcept : manta_call_options{}
    {
        size = sizeof(manta_call_options);
        timeout_s = -1;
    }
};

/* One call, and its result; move-only. */
class call
{
  public:
    explicit call(struct manta_call *take_raw = nullptr) noexcept : raw_(take_raw)
    {
    }
    call(call &&other) noexcept : raw_(std::exchange(other.raw_, nullptr))
    {
    }
    call &operator=(call &&other) noexcept
    {
        std::swap(raw_, other.raw_);
        return *this;
    }
    ~call()
    {
        manta_call_free(raw_);
    }

    /* Waits, and throws what the call failed with; MANTA_ETIMEOUT also when it goes on. */
    void wait(double timeout_s = -1)
    {
        detail::failure failed;
        detail::check(manta_call_wait(raw_, timeout_s, &failed), failed);
    }
    bool over() const noexcept
    {
        return manta_call_over(raw_);
    }
    /* Waits for the result and reads it. */
    template <class Type> Type get(double timeout_s = -1) &
    {
        wait(timeout_s);
        return value().as<Type>();
    }
    template <class Type> Type get(double timeout_s = -1) &&
    {
        static_assert(!detail::borrows<Type>::value,
                      "this result borrows from the call: keep the call in a variable");
        return get<Type>(timeout_s);
    }
    /* The result; nil before it is over.  It borrows from the call. */
    manta::value value() const noexcept
    {
        return manta::value(*manta_call_value(raw_));
    }
    /* With options.stream: the next item, nothing at the end.  Valid until the next one. */
    std::optional<manta::value> next(double timeout_s = -1)
    {
        detail::failure failed;
        manta_value item;
        if (!detail::check(manta_call_next(raw_, timeout_s, &item, &failed), failed))
            return std::nullopt;
        return manta::value(item);
    }
    void cancel() noexcept
    {
        manta_call_cancel(raw_);
    }
    struct manta_call *raw() const noexcept
    {
        return raw_;
    }

  private:
    struct manta_call *raw_;
};

/* What calls one deployment, from any number of threads; move-only. */
class handle
{
  public:
    explicit handle(manta_handle *take_raw = nullptr) noexcept : raw_(take_raw)
    {
    }
    handle(handle &&other) noexcept : raw_(std::exchange(other.raw_, nullptr))
    {
    }
    handle &operator=(handle &&other) noexcept
    {
        std::swap(raw_, other.raw_);
        return *this;
    }
    ~handle()
    {
        manta_handle_free(raw_);
    }

    /* Begins a call; the arguments are copied. */
    template <class... Args> manta::call call(const call_options &options, const Args &...args)
    {
        return detail::with_args(
            [&](const manta_arg *list, std::size_t count) {
                detail::failure failed;
                struct manta_call *begun = nullptr;
                detail::check(manta_call(raw_, &options, list, count, &begun, &failed), failed);
                return manta::call(begun);
            },
            args...);
    }
    template <class... Args> manta::call call(const Args &...args)
    {
        return call(call_options(), args...);
    }
    std::string_view application() const noexcept
    {
        return manta_handle_application(raw_);
    }
    std::string_view deployment() const noexcept
    {
        return manta_handle_deployment(raw_);
    }
    manta_handle *raw() const noexcept
    {
        return raw_;
    }

  private:
    manta_handle *raw_;
};

} /* namespace manta */

#endif
