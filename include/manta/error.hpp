/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/error.hpp>: failures of the C interface as exceptions, and exceptions as failures.
 *
 * Inside C++ code a failing function throws manta::error, which carries a MANTA_E code and the
 * text.  At the border to C, where nothing may be thrown, whatever arrives becomes a code and a
 * text again: manta::error keeps its code, std::bad_alloc is MANTA_EMEMORY, everything else
 * MANTA_EUSER with what().
 */
#ifndef MANTA_ERROR_HPP
#define MANTA_ERROR_HPP

#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#include <manta/error.h>

namespace manta
{

/* What failed: a code and its words. */
class MANTA_EXPORT error : public std::runtime_error
{
  public:
    error(int code, const std::string &text)
        : std::runtime_error(text.empty() ? manta_error_text(code) : text), code_(code)
    {
    }
    explicit error(const manta_error &failed) : error(failed.code, failed.text)
    {
    }
    /* A negative MANTA_E code. */
    int code() const noexcept
    {
        return code_;
    }

  private:
    int code_;
};

namespace detail
{

/* What a C function writes its details to. */
struct failure : manta_error {
    failure() noexcept
    {
        code = MANTA_OK;
        text[0] = '\0';
    }
};

/* check(manta_value_int(&value, &number, &failed), failed): the result, unless it is an error. */
template <class Result> Result check(Result result, const failure &failed)
{
    if (result < 0)
        throw error(static_cast<int>(result), failed.text);
    return result;
}

/* Inside a catch block: tells the exception's code and text; the text lives for the call. */
template <class Tell> void tell_exception(Tell tell) noexcept
{
    try {
        throw;
    } catch (const error &caught) {
        tell(caught.code() < 0 ? caught.code() : MANTA_EUSER, caught.what());
    } catch (const std::bad_alloc &caught) {
        tell(MANTA_EMEMORY, caught.what());
    } catch (const std::exception &caught) {
        tell(MANTA_EUSER, caught.what());
    } catch (...) {
        tell(MANTA_EUSER, "an exception that is no std::exception");
    }
}

/* Inside a catch block: the exception as a C function's result. */
inline int exception_to_error(manta_error *reterr) noexcept
{
    int result = MANTA_EUSER;
    tell_exception(
        [&](int code, const char *text) { result = manta_error_set(reterr, code, "%s", text); });
    return result;
}

} /* namespace detail */
} /* namespace manta */

#endif
