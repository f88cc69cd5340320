/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/value.hpp> and <manta/pack.hpp>: what is packed from C++ types is read back as them, and
 * nothing else is read.
 */
#include <criterion/criterion.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <manta/pack.hpp>

using manta::pack;

namespace
{

template <class Type> Type there_and_back(const Type &given)
{
    return pack().add(given).as_value().template as<Type>();
}

/* The code of what is thrown; MANTA_OK when nothing is. */
int code_of(const std::function<void()> &run)
{
    try {
        run();
    } catch (const manta::error &caught) {
        cr_assert(*caught.what());
        return caught.code();
    }
    return MANTA_OK;
}

} /* namespace */

Test(values, scalars_come_back_as_they_were)
{
    cr_assert_eq(there_and_back(true), true);
    cr_assert_eq(there_and_back(false), false);
    cr_assert_eq(there_and_back(std::int64_t(INT64_MIN)), INT64_MIN);
    cr_assert_eq(there_and_back(std::int64_t(INT64_MAX)), INT64_MAX);
    cr_assert_eq(there_and_back(-1), -1);
    cr_assert_eq(there_and_back(std::uint8_t(255)), 255);
    cr_assert_eq(there_and_back(0.1), 0.1);
    cr_assert_eq(there_and_back(0.5F), 0.5F);
    cr_assert(there_and_back(std::string("a\0b", 3)) == std::string("a\0b", 3));
    cr_assert(there_and_back(std::string()).empty());
    cr_assert(pack().add(nullptr).as_value().is_nil());
    cr_assert(pack().add(static_cast<const char *>(nullptr)).as_value().is_nil());
    cr_assert(pack().add("text").as_value().as<std::string>() == "text");
    cr_assert(pack().add(std::string_view()).as_value().as<std::string>().empty());
}

Test(values, an_int_is_read_as_a_float_and_not_the_reverse)
{
    cr_assert_eq(pack().add(3).as_value().as<double>(), 3.0);
    cr_assert_eq(code_of([] { pack().add(3.0).as_value().as<int>(); }), MANTA_ETYPE);
}

Test(values, another_type_is_an_error)
{
    pack text;
    text.add("7");
    cr_assert_eq(code_of([&] { text.as_value().as<int>(); }), MANTA_ETYPE);
    cr_assert_eq(code_of([&] { text.as_value().as<double>(); }), MANTA_ETYPE);
    cr_assert_eq(code_of([&] { text.as_value().as<bool>(); }), MANTA_ETYPE);
    cr_assert_eq(code_of([&] { text.as_value().as<manta::binary>(); }), MANTA_ETYPE);
    cr_assert_eq(code_of([&] { text.as_value().as<std::vector<int>>(); }), MANTA_ETYPE);
    cr_assert_eq(code_of([&] { text.as_value().size(); }), MANTA_ETYPE);
    cr_assert_eq(code_of([&] { text.as_value()["key"]; }), MANTA_ETYPE);
    cr_assert_eq(code_of([&] { text.as_value()[0]; }), MANTA_ETYPE);
    cr_assert_eq(code_of([&] { pack().add(1).as_value().as<std::string_view>(); }), MANTA_ETYPE);
}

Test(values, an_int_must_fit_the_type_that_is_asked_for)
{
    pack big, negative;
    big.add(std::int64_t(1) << 40);
    negative.add(-1);
    cr_assert_eq(code_of([&] { big.as_value().as<std::int32_t>(); }), MANTA_ETYPE);
    cr_assert_eq(code_of([&] { big.as_value().as<std::uint8_t>(); }), MANTA_ETYPE);
    cr_assert_eq(code_of([&] { negative.as_value().as<std::uint64_t>(); }), MANTA_ETYPE);
    cr_assert_eq(big.as_value().as<std::uint64_t>(), std::uint64_t(1) << 40);
    cr_assert_eq(negative.as_value().as<std::int8_t>(), -1);
    cr_assert_eq(code_of([] { manta::arg too_large(std::numeric_limits<std::uint64_t>::max()); }),
                 MANTA_EINVALID);
}

Test(values, vectors_are_arrays)
{
    std::vector<std::vector<double>> rows = {{1, 2.5}, {}, {-3}};
    std::vector<std::string> words = {"a", "", "c"};
    std::vector<bool> bits = {true, false, true};
    std::vector<std::optional<int>> gaps = {1, std::nullopt, 3};
    cr_assert(there_and_back(rows) == rows);
    cr_assert(there_and_back(words) == words);
    cr_assert(there_and_back(bits) == bits);
    cr_assert(there_and_back(gaps) == gaps);
    cr_assert(there_and_back(std::vector<int>()).empty());
    cr_assert_eq(code_of([&] { pack().add(rows).as_value().as<std::vector<int>>(); }), MANTA_ETYPE);
}

Test(values, floats_copies_rows_and_says_when_room_lacks)
{
    pack packed;
    double at[4] = {};
    packed.add(std::vector<std::vector<double>>{{1, 2}, {3, 4}});
    cr_assert_eq(packed.as_value().floats(at, 4), 4);
    cr_assert_eq(at[0] + at[1] * 10 + at[2] * 100 + at[3] * 1000, 4321);
    cr_assert_eq(code_of([&] { packed.as_value().floats(at, 3); }), MANTA_ELIMIT);
}

Test(values, maps_are_asked_by_key_and_walked_in_turn)
{
    pack packed;
    packed.map(3).pair("name", "x").pair(7, "seven").pair("sizes", std::vector<int>{1, 2});
    manta::value whole = packed.as_value();
    cr_assert_eq(whole.size(), 3);
    cr_assert(whole["name"].as<std::string_view>() == "x");
    cr_assert_eq(whole["sizes"][1].as<int>(), 2);
    cr_assert(!whole.find("nam"));
    cr_assert(!whole.find(""));
    cr_assert_eq(code_of([&] { whole["names"]; }), MANTA_EINVALID);
    cr_assert_eq(code_of([&] { whole["sizes"][2]; }), MANTA_EINVALID);
    std::string seen;
    for (manta::value part : whole)
        seen += part.json() + ";";
    cr_assert_str_eq(seen.c_str(), "\"name\";\"x\";7;\"seven\";\"sizes\";[1,2];");
}

Test(values, what_is_no_list_has_no_items)
{
    pack packed;
    packed.add(5);
    for (manta::value item : packed.as_value())
        cr_assert(false, "an item of type %d", static_cast<int>(item.type()));
    for (manta::value item : manta::value())
        cr_assert(false, "an item of type %d", static_cast<int>(item.type()));
}

Test(values, a_value_goes_into_a_pack_again)
{
    pack inner, outer;
    inner.json("{\"a\": [1, 2.5, null, \"x\"]}");
    outer.array(4)
        .add(inner)
        .add(inner.as_value()["a"])
        .add(manta::value())
        .add(std::optional<int>());
    std::string json = outer.as_value().json();
    cr_assert_str_eq(json.c_str(), "[{\"a\":[1,2.5,null,\"x\"]},[1,2.5,null,\"x\"],null,null]");
}

Test(values, bytes_come_back_as_they_were)
{
    const unsigned char bytes[] = {0, 255, 10};
    pack packed;
    packed.add(manta::binary{bytes, sizeof bytes});
    manta::binary found = packed.as_value().as<manta::binary>();
    cr_assert_eq(found.size, 3);
    cr_assert_arr_eq(found.at, bytes, 3);
}

Test(values, a_pack_that_is_not_one_value_says_so)
{
    pack packed;
    cr_assert_eq(code_of([&] { packed.as_value(); }), MANTA_EINVALID);
    packed.array(2).add(1);
    cr_assert_eq(code_of([&] { packed.as_value(); }), MANTA_EINVALID);
    packed.add(2);
    cr_assert_eq(packed.as_value().size(), 2);
    packed.clear();
    cr_assert_eq(code_of([&] { packed.json("{\"a\":"); }), MANTA_EINVALID);
    cr_assert_eq(code_of([&] { packed.array(std::size_t(1) << 32); }), MANTA_ELIMIT);
}

Test(values, packs_move)
{
    pack first;
    first.add(1);
    pack second = std::move(first);
    cr_assert_eq(second.as_value().as<int>(), 1);
    pack third;
    third = std::move(second);
    cr_assert_eq(third.as_value().as<int>(), 1);
}

Test(values, arguments_of_every_kind_become_one_list)
{
    std::string json = manta::detail::with_args(
        [](const manta_arg *list, std::size_t count) {
            pack all;
            all.array(count);
            for (std::size_t i = 0; i < count; i++)
                all.add(list[i]);
            return all.as_value().json();
        },
        1, "two", std::string("three"), 4.5, true, nullptr, std::vector<int>{6, 7},
        std::optional<int>(8), manta_int(9), pack().add("ten"));
    cr_assert_str_eq(json.c_str(), "[1,\"two\",\"three\",4.5,true,null,[6,7],8,9,\"ten\"]");
    cr_assert_eq(
        manta::detail::with_args([](const manta_arg *, std::size_t count) { return count; }), 0);
}

Test(errors, a_code_without_words_says_what_the_code_means)
{
    manta::error bare(MANTA_ETIMEOUT, ""), told(MANTA_ETIMEOUT, "too late");
    cr_assert_str_eq(bare.what(), manta_error_text(MANTA_ETIMEOUT));
    cr_assert_str_eq(told.what(), "too late");
}
