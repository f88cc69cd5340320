/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/manta.hpp>: the C++ layer of Manta: C++17 headers over <manta/manta.h>, no library of its
 * own.
 *
 * LIFE.  A deployment is a class (<manta/deployment.hpp>); the symbols that it exports are those of
 * a deployment in C, so that applications mix both.  manta::request, handle, call, pack and
 * instance own what they are named after: they move, and end it with themselves.  manta::value,
 * args, replica, batch and application are views.
 *
 * ERRORS.  What fails throws manta::error, with the code and the text of the C interface.  What
 * user code throws inside a deployment becomes the answer: an HTTP client gets the code's status, a
 * caller the code and what().
 *
 * STRINGS.  std::string_view where any bytes do, manta::c_string (a literal or a std::string) where
 * the C interface wants a zero-terminated one.
 *
 * COST.  Every member is an inline call of one C function; a request through the layer allocates
 * nothing that it would not in C. Option structs are those of C, with their defaults set:
 * manta::call_options, start_options and run_options.
 *
 * Threads and versions: as <manta/manta.h> says.  Whatever the layer lacks, raw() and release()
 * give the C object.
 */
#ifndef MANTA_MANTA_HPP
#define MANTA_MANTA_HPP

#include <manta/deployment.hpp>
#include <manta/error.hpp>
#include <manta/handle.hpp>
#include <manta/instance.hpp>
#include <manta/manta.h>
#include <manta/pack.hpp>
#include <manta/request.hpp>
#include <manta/value.hpp>

#endif
