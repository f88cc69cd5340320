/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/pack.hpp>: building composite values.
 *
 *     manta::pack answer;
 *     answer.map(2).pair("label", "seven").pair("scores", scores);
 *     request.reply(answer);
 *
 * A pack owns its document and moves.  Arrays and maps announce their count first.
 */
#ifndef MANTA_PACK_HPP
#define MANTA_PACK_HPP

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <manta/value.hpp>

namespace manta
{

/* A document that grows; move-only.  Failures show in as_value, or where the pack is used. */
class pack
{
  public:
    pack() : raw_(manta_pack_new())
    {
        if (!raw_)
            throw error(MANTA_EMEMORY, "no memory for a pack");
    }
    pack(pack &&other) noexcept : raw_(std::exchange(other.raw_, nullptr))
    {
    }
    pack &operator=(pack &&other) noexcept
    {
        std::swap(raw_, other.raw_);
        return *this;
    }
    ~pack()
    {
        manta_pack_free(raw_);
    }

    pack &add(const arg &item) noexcept
    {
        manta_pack_arg(raw_, item.raw());
        return *this;
    }
    template <class Item, class Allocator> pack &add(const std::vector<Item, Allocator> &items)
    {
        array(items.size());
        for (auto &&item : items)
            add(static_cast<const Item &>(item));
        return *this;
    }
    template <class Item> pack &add(const std::optional<Item> &item)
    {
        return item ? add(*item) : add(nullptr);
    }
    /* Then `count` values. */
    pack &array(std::size_t count)
    {
        manta_pack_array(raw_, limited(count));
        return *this;
    }
    /* Then `count` pairs: pack().map(2).pair("name", "x").pair("sizes", sizes). */
    pack &map(std::size_t count)
    {
        manta_pack_map(raw_, limited(count));
        return *this;
    }
    template <class Item> pack &pair(const arg &key, const Item &item)
    {
        return add(key).add(item);
    }
    /* Appends a JSON text as one value. */
    pack &json(std::string_view text)
    {
        detail::failure failed;
        detail::check(manta_pack_json(raw_, text.data() ? text.data() : "", text.size(), &failed),
                      failed);
        return *this;
    }
    void clear() noexcept
    {
        manta_pack_clear(raw_);
    }
    /* The whole document; valid until the pack changes. */
    value as_value() const
    {
        detail::failure failed;
        manta_value whole;
        detail::check(manta_pack_value(raw_, &whole, &failed), failed);
        return value(whole);
    }
    manta_pack *raw() const noexcept
    {
        return raw_;
    }

  private:
    static std::uint32_t limited(std::size_t count)
    {
        if (count > std::numeric_limits<std::uint32_t>::max())
            throw error(MANTA_ELIMIT, "more than 4294967295 items");
        return static_cast<std::uint32_t>(count);
    }

    manta_pack *raw_;
};

inline arg::arg(const pack &packed) noexcept : raw_(manta_packed(packed.raw()))
{
}

namespace detail
{

/* An argument as the C interface takes it, with the pack that a composite one needs. */
template <class Type, bool simple = std::is_convertible_v<const Type &, arg>> class held_arg
{
  public:
    explicit held_arg(const Type &given) : arg_(given)
    {
    }
    const manta_arg &raw() const noexcept
    {
        return arg_.raw();
    }

  private:
    arg arg_;
};

template <class Type> class held_arg<Type, false>
{
  public:
    explicit held_arg(const Type &given) : arg_(pack_.add(given))
    {
    }
    const manta_arg &raw() const noexcept
    {
        return arg_.raw();
    }

  private:
    pack pack_;
    arg arg_;
};

/* use(array, count) with the arguments in an array that lives for the call. */
template <class Use, class... Args> auto with_args(Use use, const Args &...args)
{
    if constexpr (sizeof...(Args) == 0) {
        return use(static_cast<const manta_arg *>(nullptr), std::size_t(0));
    } else {
        return [&use](const auto &...held) {
            const manta_arg list[] = {held.raw()...};
            return use(list, sizeof...(held));
        }(held_arg<Args>(args)...);
    }
}

} /* namespace detail */

} /* namespace manta */

#endif
