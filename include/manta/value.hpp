/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/value.hpp>: values of <manta/value.h> from and to C++ types.
 *
 *     nil             nullptr, std::optional<T>       bool       bool
 *     int             every integer type              float      double, float
 *     string          std::string_view, std::string   binary     manta::binary
 *     array           std::vector<T>                  map        operator[], iteration
 *
 * - manta::arg is one value on its way in; it is made implicitly from the types above (a vector
 * goes into a pack).
 * - manta::value is one value on its way out; like std::string_view it borrows from where it came
 * from.
 * - manta::pack (<manta/pack.hpp>) builds composite values.
 *
 * Nothing here allocates but std::string and std::vector.
 */
#ifndef MANTA_VALUE_HPP
#define MANTA_VALUE_HPP

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <manta/error.hpp>
#include <manta/value.h>

namespace manta
{

class value;
class pack;

/* A zero-terminated string, borrowed for the call: what the C interface wants for names. */
class c_string
{
  public:
    c_string(const char *string) noexcept : string_(string)
    {
    }
    c_string(const std::string &string) noexcept : string_(string.c_str())
    {
    }
    const char *c_str() const noexcept
    {
        return string_;
    }

  private:
    const char *string_;
};

/* Bytes that are not text, borrowed. */
struct binary {
    const void *at = nullptr;
    std::size_t size = 0;
};

namespace detail
{

template <class Type> struct is_vector : std::false_type {
};
template <class Item, class Allocator>
struct is_vector<std::vector<Item, Allocator>> : std::true_type {
};
template <class Type> struct is_optional : std::false_type {
};
template <class Item> struct is_optional<std::optional<Item>> : std::true_type {
};

/* Integers that are numbers: neither bool nor characters. */
template <class Type>
inline constexpr bool is_integer =
    std::is_integral_v<Type> && !std::is_same_v<Type, bool> && !std::is_same_v<Type, char> &&
#ifdef __cpp_char8_t
    !std::is_same_v<Type, char8_t> &&
#endif
    !std::is_same_v<Type, wchar_t> && !std::is_same_v<Type, char16_t> &&
    !std::is_same_v<Type, char32_t>;

template <class Integer> constexpr bool fits(std::int64_t integer) noexcept
{
    using limits = std::numeric_limits<Integer>;
    if constexpr (std::is_unsigned_v<Integer>)
        return integer >= 0 && static_cast<std::uint64_t>(integer) <= limits::max();
    else
        return integer >= limits::min() && integer <= limits::max();
}

/* True for results that point into the value they were read from. */
template <class Type>
struct borrows : std::bool_constant<std::is_same_v<Type, value> || std::is_same_v<Type, binary> ||
                                    std::is_same_v<Type, std::string_view>> {
};
template <class Item, class Allocator>
struct borrows<std::vector<Item, Allocator>> : borrows<Item> {
};
template <class Item> struct borrows<std::optional<Item>> : borrows<Item> {
};

} /* namespace detail */

/* ---- in --------------------------------------------------------------------------------- */

/* One value on its way in: owns nothing, is meant to be a parameter. */
class arg
{
  public:
    arg(std::nullptr_t) noexcept : raw_(manta_nil())
    {
    }
    template <class Bool, std::enable_if_t<std::is_same_v<Bool, bool>, int> = 0>
    arg(Bool boolean) noexcept : raw_(manta_bool(boolean))
    {
    }
    /* MANTA_EINVALID above INT64_MAX. */
    template <class Integer, std::enable_if_t<detail::is_integer<Integer>, int> = 0>
    arg(Integer integer) : raw_(manta_int(static_cast<std::int64_t>(integer)))
    {
        if (integer > 0 && raw_.u.integer < 0)
            throw error(MANTA_EINVALID, "an integer above 9223372036854775807 is no value");
    }
    template <class Float, std::enable_if_t<std::is_floating_point_v<Float>, long> = 0>
    arg(Float number) noexcept : raw_(manta_float(static_cast<double>(number)))
    {
    }
    arg(std::string_view string) noexcept
        : raw_(manta_binary(string.data() ? string.data() : "", string.size()))
    {
        raw_.type = MANTA_ARG_STRING;
    }
    arg(const std::string &string) noexcept : arg(std::string_view(string))
    {
    }
    /* A null pointer is nil. */
    arg(const char *string) noexcept : raw_(manta_string(string))
    {
    }
    arg(binary bytes) noexcept : raw_(manta_binary(bytes.at ? bytes.at : "", bytes.size))
    {
    }
    arg(const value &copied) noexcept;
    arg(const pack &packed) noexcept;
    /* Also a bound deployment, in a builder. */
    arg(const manta_arg &raw) noexcept : raw_(raw)
    {
    }
    const manta_arg &raw() const noexcept
    {
        return raw_;
    }

  private:
    manta_arg raw_;
};

/* ---- out -------------------------------------------------------------------------------- */

/* One value on its way out; copied freely, valid as long as what it came from. */
class value
{
  public:
    /* Items of an array; keys and values of a map in turn. */
    class iterator
    {
      public:
        iterator() noexcept = default;
        explicit iterator(const manta_value &list) noexcept : list_(list)
        {
            ++*this;
        }
        value operator*() const noexcept
        {
            return value(item_);
        }
        iterator &operator++() noexcept
        {
            if (!manta_value_next(&list_, &item_))
                item_ = manta_value{nullptr, 0};
            return *this;
        }
        bool operator!=(const iterator &other) const noexcept
        {
            return item_.at != other.item_.at;
        }

      private:
        manta_value list_ = {nullptr, 0}, item_ = {nullptr, 0};
    };

    value() noexcept : raw_{nullptr, 0}
    {
    }
    explicit value(const manta_value &raw) noexcept : raw_(raw)
    {
    }

    manta_type type() const noexcept
    {
        return manta_value_type(&raw_);
    }
    bool is_nil() const noexcept
    {
        return type() == MANTA_NIL;
    }
    /* MANTA_ETYPE when it is of another type, or an integer does not fit. */
    template <class Type> Type as() const;
    /* Items of an array, pairs of a map; MANTA_ETYPE for others. */
    std::size_t size() const
    {
        std::int64_t count = manta_value_count(&raw_);
        if (count < 0)
            throw error(MANTA_ETYPE, "the value is neither an array nor a map");
        return static_cast<std::size_t>(count);
    }
    /* An item of an array; walks to it, so iterate to see all.  MANTA_EINVALID past the end. */
    value operator[](std::size_t index) const
    {
        detail::failure failed;
        manta_value item;
        int code = manta_value_at(&raw_, index, &item, &failed);
        if (code < 0)
            throw error(code == MANTA_ENOTFOUND ? MANTA_EINVALID : code, failed.text);
        return value(item);
    }
    /* A map's item.  MANTA_EINVALID when it is absent: what a client left out is the client's
     * mistake. */
    value operator[](std::string_view key) const
    {
        std::optional<value> found = find(key);
        if (!found)
            throw error(MANTA_EINVALID, "there is no '" + std::string(key) + "'");
        return *found;
    }
    /* The same, or nothing; MANTA_ETYPE when it is no map. */
    std::optional<value> find(std::string_view key) const;
    iterator begin() const noexcept
    {
        return iterator(raw_);
    }
    iterator end() const noexcept
    {
        return iterator();
    }
    /* An array of numbers (nested arrays row by row) copied to `at`: how many; MANTA_ELIMIT when
     * there are more than `room`. */
    std::size_t floats(double *at, std::size_t room) const
    {
        detail::failure failed;
        std::size_t count;
        detail::check(manta_value_floats(&raw_, at, room, &count, &failed), failed);
        return count;
    }
    std::string json() const
    {
        std::string text(manta_value_json(&raw_, nullptr, 0), '\0');
        /* The terminator goes where std::string has its own. */
        manta_value_json(&raw_, text.data(), text.size() + 1);
        return text;
    }
    const manta_value &raw() const noexcept
    {
        return raw_;
    }

  private:
    manta_value raw_;
};

template <class Type> Type value::as() const
{
    detail::failure failed;
    if constexpr (std::is_same_v<Type, value>) {
        return *this;
    } else if constexpr (std::is_same_v<Type, bool>) {
        bool boolean;
        detail::check(manta_value_bool(&raw_, &boolean, &failed), failed);
        return boolean;
    } else if constexpr (detail::is_integer<Type>) {
        std::int64_t integer;
        detail::check(manta_value_int(&raw_, &integer, &failed), failed);
        if (!detail::fits<Type>(integer))
            throw error(MANTA_ETYPE, std::to_string(integer) + " is too large or too small here");
        return static_cast<Type>(integer);
    } else if constexpr (std::is_floating_point_v<Type>) {
        double number;
        detail::check(manta_value_float(&raw_, &number, &failed), failed);
        return static_cast<Type>(number);
    } else if constexpr (std::is_same_v<Type, std::string_view> ||
                         std::is_same_v<Type, std::string>) {
        const char *at;
        std::size_t size;
        detail::check(manta_value_string(&raw_, &at, &size, &failed), failed);
        return Type(at, size);
    } else if constexpr (std::is_same_v<Type, binary>) {
        binary bytes;
        detail::check(manta_value_binary(&raw_, &bytes.at, &bytes.size, &failed), failed);
        return bytes;
    } else if constexpr (detail::is_optional<Type>::value) {
        return is_nil() ? Type() : Type(as<typename Type::value_type>());
    } else {
        static_assert(detail::is_vector<Type>::value, "no value becomes this type");
        if (type() != MANTA_ARRAY)
            throw error(MANTA_ETYPE, "the value is not an array");
        Type items;
        items.reserve(size());
        for (value item : *this)
            items.push_back(item.as<typename Type::value_type>());
        return items;
    }
}

inline std::optional<value> value::find(std::string_view key) const
{
    if (type() != MANTA_MAP)
        throw error(MANTA_ETYPE, "the value is not a map");
    manta_value name = {nullptr, 0};
    while (manta_value_next(&raw_, &name)) {
        const char *at;
        std::size_t size;
        bool same = manta_value_string(&name, &at, &size, nullptr) == 0 &&
                    std::string_view(at, size) == key;
        if (!manta_value_next(&raw_, &name))
            break;
        if (same)
            return value(name);
    }
    return std::nullopt;
}

inline arg::arg(const value &copied) noexcept
    : raw_(copied.raw().at ? manta_copied(&copied.raw()) : manta_nil())
{
}

} /* namespace manta */

#endif
