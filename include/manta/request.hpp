/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/request.hpp>: one request of <manta/request.h>, owned until it is answered.
 *
 *     void operator()(manta::request &request)
 *     {
 *         request.reply(request.value()["x"].as<std::int64_t>() + 1);
 *     }
 *
 * A manta::request is one pointer and move-only.  An entry point gets a reference: it answers, or
 * moves the request away to answer later, from any thread.  What is neither answered nor moved
 * fails when the entry point ends: with the exception's code and text when one left it.  Strings
 * are valid until the answer.
 */
#ifndef MANTA_REQUEST_HPP
#define MANTA_REQUEST_HPP

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <manta/handle.hpp>
#include <manta/model.h>
#include <manta/request.h>
#include <manta/pack.hpp>

namespace manta
{

/* Positional arguments, of a call or of a constructor; a view. */
class args
{
  public:
    explicit args(const manta_args *raw) noexcept : raw_(raw)
    {
    }
    std::size_t size() const noexcept
    {
        return manta_args_count(raw_);
    }
    /* MANTA_EINVALID when there are fewer. */
    manta::value operator[](std::size_t index) const
    {
        detail::failure failed;
        manta_value found;
        detail::check(manta_args_value(raw_, index, &found, &failed), failed);
        return manta::value(found);
    }
    /* get<std::int64_t>(0); the error says which argument is wrong. */
    template <class Type> Type get(std::size_t index) const
    {
        manta::value found = (*this)[index];
        try {
            return found.as<Type>();
        } catch (const error &wrong) {
            throw error(wrong.code(), "argument " + std::to_string(index) + ": " + wrong.what());
        }
    }
    /* A bound deployment, as a constructor argument. */
    manta::handle handle(std::size_t index) const
    {
        detail::failure failed;
        manta_handle *found = nullptr;
        detail::check(manta_args_handle(raw_, index, &found, &failed), failed);
        return manta::handle(found);
    }

  private:
    const manta_args *raw_;
};

/* A request: what was asked, and the answer; move-only. */
class request
{
  public:
    explicit request(manta_request *take_raw = nullptr) noexcept : raw_(take_raw)
    {
    }
    request(request &&other) noexcept : raw_(other.release())
    {
    }
    request &operator=(request &&other) noexcept
    {
        if (this != &other) {
            forget();
            raw_ = other.release();
        }
        return *this;
    }
    /* A request that nobody answers fails. */
    ~request()
    {
        forget();
    }

    /* False once it is answered or moved away; nothing else may be asked of it then. */
    explicit operator bool() const noexcept
    {
        return raw_ != nullptr;
    }
    manta_request *raw() const noexcept
    {
        return raw_;
    }
    /* The caller answers it, by the C interface. */
    manta_request *release() noexcept
    {
        return std::exchange(raw_, nullptr);
    }

    /* ---- what was asked */

    bool is_http() const noexcept
    {
        return manta_request_is_http(raw_);
    }
    std::string_view method() const noexcept
    {
        return manta_request_method(raw_);
    }
    std::string_view path() const noexcept
    {
        return manta_request_path(raw_);
    }
    std::string_view query() const noexcept
    {
        return manta_request_query(raw_);
    }
    std::string_view route_prefix() const noexcept
    {
        return manta_request_route_prefix(raw_);
    }
    std::string_view content_type() const noexcept
    {
        return manta_request_content_type(raw_);
    }
    std::string_view id() const noexcept
    {
        return manta_request_id(raw_);
    }
    std::string_view model_id() const noexcept
    {
        return manta_request_model_id(raw_);
    }
    /* The model that the request names, loaded if need be, until the answer; `Model` is what the
     * class's load_model makes.  Errors of manta_model_get, load_model's own among them. */
    template <class Model> Model &model() const
    {
        detail::failure failed;
        void *found = nullptr;
        detail::check(manta_model_get(raw_, &found, &failed), failed);
        return *static_cast<Model *>(found);
    }
    /* The same for another one. */
    template <class Model> Model &model(c_string model_id) const
    {
        detail::failure failed;
        void *found = nullptr;
        detail::check(manta_model_load(raw_, model_id.c_str(), &found, &failed), failed);
        return *static_cast<Model *>(found);
    }
    /* First value of a header field in any case. */
    std::optional<std::string_view> header(c_string name) const noexcept
    {
        const char *found = manta_request_header(raw_, name.c_str());
        return found ? std::optional<std::string_view>(found) : std::nullopt;
    }
    /* The n-th field, name and value; nothing past the end. */
    std::optional<std::pair<std::string_view, std::string_view>>
    header_at(std::size_t index) const noexcept
    {
        const char *name, *text;
        if (!manta_request_header_at(raw_, index, &name, &text))
            return std::nullopt;
        return std::pair<std::string_view, std::string_view>(name, text);
    }
    /* Of a call; empty for HTTP. */
    manta::args args() const noexcept
    {
        return manta::args(manta_request_args(raw_));
    }
    std::string_view body() const noexcept
    {
        std::size_t size = 0;
        const void *at = manta_request_body(raw_, &size);
        return size ? std::string_view(static_cast<const char *>(at), size) : std::string_view();
    }
    /* The body as JSON or MessagePack, by its content type. */
    manta::value value() const
    {
        detail::failure failed;
        manta_value whole;
        detail::check(manta_request_value(raw_, &whole, &failed), failed);
        return manta::value(whole);
    }
    /* With stream_body: waits for the next bytes; 0 at the end. */
    std::size_t read(void *at, std::size_t room, double timeout_s = -1)
    {
        detail::failure failed;
        return static_cast<std::size_t>(
            detail::check(manta_request_read(raw_, at, room, timeout_s, &failed), failed));
    }
    bool cancelled() const noexcept
    {
        return manta_request_cancelled(raw_);
    }
    double time_left_s() const noexcept
    {
        return manta_request_time_left_s(raw_);
    }

    /* ---- the answer: 0, or why nobody got it; the request is over either way */

    int reply(const arg &answer)
    {
        return manta_request_reply_arg(taken(), answer.raw());
    }
    int reply(const pack &answer)
    {
        return manta_request_reply_pack(taken(), answer.raw());
    }
    template <class Item, class Allocator> int reply(const std::vector<Item, Allocator> &answer)
    {
        pack packed;
        return reply(packed.add(answer));
    }
    /* No content type: nullptr. */
    int reply_http(int status, c_string content_type, std::string_view body)
    {
        return manta_request_reply_http(taken(), status, content_type.c_str(), body.data(),
                                        body.size());
    }
    /* A field of the answer, before it begins. */
    void add_header(c_string name, c_string text)
    {
        detail::failure failed;
        detail::check(manta_request_add_header(raw_, name.c_str(), text.c_str(), &failed), failed);
    }
    int fail(int code, c_string text)
    {
        return manta_request_fail(taken(), code, "%s", text.c_str());
    }

    /* ---- a streamed answer: begin, write, finish.  One that is not finished breaks off. */

    void begin(int status, c_string content_type)
    {
        detail::failure failed;
        detail::check(
            manta_request_begin(raw_, status, content_type.c_str(), nullptr, nullptr, &failed),
            failed);
    }
    /* Waits until there is room.  False: nobody reads any more, so finish. */
    [[nodiscard]] bool write(std::string_view part)
    {
        return await_room([&] { return manta_request_write(raw_, part.data(), part.size()); });
    }
    /* One value: an item for a caller, a line of JSON, text or bytes for an HTTP client. */
    [[nodiscard]] bool write_value(const arg &item)
    {
        return await_room([&] { return manta_request_write_arg(raw_, item.raw()); });
    }
    int finish()
    {
        return manta_request_finish(taken());
    }

  private:
    manta_request *taken()
    {
        if (!raw_)
            throw error(MANTA_EANSWERED, "the request was answered or moved away");
        return release();
    }
    void forget() noexcept
    {
        if (raw_)
            manta_request_fail(release(), MANTA_EUSER, "the deployment did not answer");
    }
    template <class Write> bool await_room(Write write_part)
    {
        int code;
        while ((code = write_part()) == MANTA_EAGAIN)
            if (manta_request_wait_room(raw_, -1) == MANTA_EINVALID)
                throw error(MANTA_EINVALID, "a callback may not wait for room");
        if (code < 0 && code != MANTA_ECANCELLED)
            throw error(code, "");
        return code == 0;
    }

    manta_request *raw_;
};

} /* namespace manta */

#endif
