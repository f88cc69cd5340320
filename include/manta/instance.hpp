/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/instance.hpp>: a whole Manta instance, started from or joined by this program, as
 * <manta/instance.h>.
 *
 *     manta::start_options options;
 *     options.http_port = 0;
 *     manta::instance instance = manta::instance::start(options);
 *     instance.run("./libmath.so:math");
 *     std::int64_t sum = instance.app_handle("default").call(4).get<std::int64_t>();
 *     instance.shutdown();
 *
 * Ending the object disconnects: a private instance ends without being waited for, one that was
 * joined goes on.
 */
#ifndef MANTA_INSTANCE_HPP
#define MANTA_INSTANCE_HPP

#include <utility>

#include <manta/handle.hpp>
#include <manta/instance.h>

namespace manta
{

/* The C struct with its defaults. */
struct start_options : manta_start_options {
    start_options() noexcept : manta_start_options{}
    {
        size = sizeof(manta_start_options);
        http_host = "127.0.0.1";
        http_port = 8000;
        keep_alive_timeout_s = 90;
        log_level = "INFO";
        log_encoding = "TEXT";
    }
};

/* The C struct with its defaults. */
struct run_options : manta_run_options {
    run_options() noexcept : manta_run_options{}
    {
        size = sizeof(manta_run_options);
        name = "default";
        route_prefix = "/";
    }
};

/* An instance that this program started or joined; move-only. */
class instance
{
  public:
    /* Starts one and waits until it serves. */
    static instance start(const start_options &options = start_options())
    {
        detail::failure failed;
        manta_instance *started = nullptr;
        detail::check(manta_start(&options, &started, &failed), failed);
        return instance(started);
    }
    /* Joins the running one of that name; a null name: MANTA_INSTANCE, else "default". */
    static instance connect(c_string name = nullptr)
    {
        detail::failure failed;
        manta_instance *joined = nullptr;
        detail::check(manta_connect(name.c_str(), &joined, &failed), failed);
        return instance(joined);
    }

    explicit instance(manta_instance *take_raw = nullptr) noexcept : raw_(take_raw)
    {
    }
    instance(instance &&other) noexcept : raw_(other.release())
    {
    }
    instance &operator=(instance &&other) noexcept
    {
        std::swap(raw_, other.raw_);
        return *this;
    }
    ~instance()
    {
        manta_disconnect(raw_);
    }

    /* Runs or replaces an application: "path/to/lib.so:application". */
    void run(c_string target, const run_options &options = run_options())
    {
        detail::failure failed;
        detail::check(manta_run(raw_, target.c_str(), &options, &failed), failed);
    }
    /* Deletes an application and waits until its last replica is gone. */
    void remove(c_string name)
    {
        detail::failure failed;
        detail::check(manta_delete(raw_, name.c_str(), &failed), failed);
    }
    /* Ray Serve's words: status().as_value()["applications"]["default"]["status"]. */
    pack status() const
    {
        detail::failure failed;
        pack told;
        detail::check(manta_status(raw_, told.raw(), &failed), failed);
        return told;
    }
    /* To the ingress of an application. */
    handle app_handle(c_string app)
    {
        detail::failure failed;
        manta_handle *found = nullptr;
        detail::check(manta_get_app_handle(raw_, app.c_str(), &found, &failed), failed);
        return handle(found);
    }
    /* To any of its deployments. */
    handle deployment_handle(c_string app, c_string deployment)
    {
        detail::failure failed;
        manta_handle *found = nullptr;
        detail::check(
            manta_get_deployment_handle(raw_, app.c_str(), deployment.c_str(), &found, &failed),
            failed);
        return handle(found);
    }
    /* -1: no HTTP, or not known. */
    int http_port() const noexcept
    {
        return manta_http_port(raw_);
    }
    /* Readable when a private instance has ended by itself. */
    int descriptor() const noexcept
    {
        return manta_instance_descriptor(raw_);
    }
    /* Drains and ends it; the object is empty after that, whatever happens. */
    void shutdown()
    {
        detail::failure failed;
        detail::check(manta_shutdown(release(), &failed), failed);
    }
    manta_instance *raw() const noexcept
    {
        return raw_;
    }
    manta_instance *release() noexcept
    {
        return std::exchange(raw_, nullptr);
    }

  private:
    manta_instance *raw_;
};

} /* namespace manta */

#endif
