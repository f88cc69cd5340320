# SPDX-License-Identifier: Apache-2.0
"""The floors: who may include whom, and what the pure floors may ask the system for.

FLOORS is the table of ARCHITECTURE.md as data: for every folder of src the folders whose headers
it may name. A folder may always name its own. The second half reads the undefined symbols of the
static libraries of the lowest floors with nm: a pure library calls base, itself, and what the C
library computes without the system.
"""

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import c_source

PURE = (
    "src/base",
    "src/proto/http1",
    "src/proto/wire",
    "src/proto/value",
    "src/proto/websocket",
    "src/proto/deploy_file",
    "src/core/router",
    "src/core/replica",
    "src/core/controller",
)
# What only the command line reads is not below the roles.
_BELOW_ROLES = tuple(folder for folder in PURE if folder != "src/proto/deploy_file") + ("src/io", "src/parcel", "src/dispatch", "src/engine")

FLOORS = {
    "src/base": (),
    "src/proto/http1": ("src/base",),
    "src/proto/wire": ("src/base",),
    "src/proto/value": ("src/base",),
    "src/proto/websocket": ("src/base",),
    "src/proto/deploy_file": ("src/base", "src/proto/value"),
    "src/core/router": ("src/base",),
    "src/core/replica": ("src/base",),
    "src/core/controller": ("src/base",),
    "src/io": ("src/base",),
    "src/parcel": ("src/base", "src/io", "src/proto/wire"),
    "src/dispatch": ("src/base", "src/io", "src/proto/wire", "src/core/router", "src/parcel"),
    "src/engine": ("src/base", "src/io", "src/proto/wire"),
    "src/role/replica": (
        "src/base",
        "src/io",
        "src/proto/wire",
        "src/proto/value",
        "src/core/replica",
        "src/parcel",
        "src/dispatch",
    ),
    "src/role/node": _BELOW_ROLES,
    "src/role/proxy": _BELOW_ROLES,
    "src/role/controller": _BELOW_ROLES,
    "src/api": _BELOW_ROLES + ("src/role/replica", "src/role/controller"),
    "src/cli": ("src/base", "src/proto/deploy_file"),
    "examples": (),
    "python": (),
}
# Floors whose code uses nothing but the public headers, and those that implement them.
PUBLIC_ONLY = ("src/cli", "examples", "python")
PUBLIC_TOO = ("src/api",)

C_HEADERS = set(
    "assert.h complex.h ctype.h errno.h fenv.h float.h inttypes.h iso646.h limits.h locale.h "
    "math.h setjmp.h signal.h stdalign.h stdarg.h stdatomic.h stdbool.h stddef.h stdint.h "
    "stdio.h stdlib.h stdnoreturn.h string.h tgmath.h time.h uchar.h wchar.h wctype.h".split()
)
# The protocol libraries of a folder: each a header and the prefixes of its symbols.
LIBRARIES = {
    "src/proto/value": (("msgpack", ("msgpack_",)),),
    "src/proto/websocket": (
        ("wslay", ("wslay_",)),
        ("zlib", ("deflate", "inflate")),
        ("nettle", ("nettle_",)),
    ),
    "src/proto/deploy_file": (("yaml", ("yaml_",)),),
    "src/proto/http2": (("nghttp2", ("nghttp2_",)),),
}
# (file, header): why it is not a C header and stands there all the same.
HEADER_EXCEPTIONS = {
    ("src/base/buffer.c", "pthread.h"): "the small lock of the store of free buffers",
    (
        "src/proto/http1/http1_scan.h",
        "endian.h",
    ): "macros for the order of bytes; nothing is called",
    (
        "src/base/poison.h",
        "sanitizer/asan_interface.h",
    ): "the allocators tell AddressSanitizer what is free",
}

# What the C library computes without asking the system for anything.
PURE_SYMBOLS = set(
    "memchr memcmp memcpy memmem memmove mempcpy memrchr memset rawmemchr bcmp strcasecmp "
    "strchr strchrnul strcmp strcpy strcspn strlen strncasecmp strncmp strncpy strnlen "
    "strpbrk strrchr strspn strstr stpcpy stpncpy snprintf vsnprintf sscanf __isoc99_sscanf "
    "strtod strtof strtol strtoll strtoul strtoull strtold atoi atol atoll abs labs llabs "
    "bsearch isalnum isalpha isdigit isspace isxdigit tolower toupper "
    "__ctype_b_loc __ctype_tolower_loc __ctype_toupper_loc acos asin atan atan2 cbrt ceil cos "
    "cosh exp exp2 expm1 fabs floor fma fmax fmin fmod frexp hypot ldexp llround log log10 "
    "log1p log2 lround modf nan nearbyint pow remainder rint round scalbn sin sinh sqrt tan "
    "tanh trunc ceilf expf fabsf floorf fmodf logf powf roundf sqrtf truncf llrint lrint "
    "nextafter copysign sigabbrev_np".split()
)
# Runtime of compiler and sanitizers, and glibc's checked forms of the names above.
_RUNTIME = re.compile(
    r"__(a|t|ub|l|m|hwa)san_|__sanitizer_|__(start___|stop___)?sancov_|__gcov_|__llvm_|__odr_asan|"
    r"__stack_chk_|__tls_get_addr$|_GLOBAL_OFFSET_TABLE_$|_Unwind_|__gcc_personality|__atomic_|"
    r"__(u|s)?(add|sub|mul|div|mod|neg|shl|shr|ashl|ashr|float|fix|pop|clz|ctz|cmp|par|ff|bswap)"
    r"[a-z]*[sdt][if]\d?$|__muloti4$"
)
_CHECKED = re.compile(r"__(\w+)_chk$")

# Base speaks to the system, each word in one place: archive member, why, symbols.
BASE_DOORS = {
    "mem.c": (
        "the one door to the heap",
        {"malloc", "calloc", "realloc", "free", "abort", "fprintf", "fflush", "stderr"},
    ),
    "ensure.c": ("the end of a process with a mistake", {"abort", "fprintf", "fflush", "stderr"}),
    "buffer.c": (
        "the lock of the store of free buffers",
        {
            "pthread_mutex_init",
            "pthread_mutex_destroy",
            "pthread_mutex_lock",
            "pthread_mutex_unlock",
        },
    ),
}


def folder_of(path):
    """The folder of FLOORS that a file (relative to the root) lies in, or None."""
    parents = [parent.as_posix() for parent in Path(path).parents]
    return next((parent for parent in parents if parent in FLOORS), None)


def check_includes(files, read):
    """Breaches of the table; `files` are all paths of the tree, `read` gives the text of one."""
    owners = {}
    for path in files:
        if path.startswith("src/") and path.endswith((".h", ".def")):
            owners.setdefault(Path(path).name, folder_of(path))  # a second one is told elsewhere
    problems = []
    for path in files:
        if not path.endswith((".c", ".h", ".cpp")):
            continue
        if path.startswith("include/"):
            problems += _check_public(path, c_source.includes(read(path)))
        elif path.startswith("src/") and folder_of(path) is None:
            problems.append(f"{path}: its folder has no floor (FLOORS in tools/tree_floors.py)")
        elif folder_of(path):
            problems += _check_file(path, c_source.includes(read(path)), owners)
    return problems


def _check_public(path, found):
    return [
        f"{path}:{include.line}: a public header may not include {include.name}"
        for include in found
        if include.name not in C_HEADERS and not include.name.startswith("manta/")
    ]


def _check_file(path, found, owners):
    folder, problems = folder_of(path), []
    for include in found:
        where = f"{path}:{include.line}"
        if include.angle:
            problem = _angle_problem(path, folder, include.name)
        elif include.name not in owners:
            own = folder in ("examples", "python")  # their own headers are not in src
            problem = None if own else f"no header of src is called {include.name}"
        else:
            owner = owners[include.name]
            allowed = owner == folder or owner in FLOORS[folder]
            problem = None if allowed else f"{folder} may not include {include.name} of {owner}"
        if problem:
            problems.append(f"{where}: {problem}")
    return problems


def _angle_problem(path, folder, name):
    if name.startswith("manta/"):
        allowed = (
            folder in PUBLIC_ONLY or folder in PUBLIC_TOO or folder.startswith("src/role/replica")
        )
        return (
            None
            if allowed
            else f"{folder} lies below the public headers and may not include <{name}>"
        )
    if folder not in PURE and folder not in LIBRARIES:
        return None
    if name in C_HEADERS or (path, name) in HEADER_EXCEPTIONS:
        return None
    for library, _ in LIBRARIES.get(folder, ()):
        if name == library + ".h" or name.startswith(library + "/"):
            return None
    return f"{folder} may include C headers only, not <{name}>"


def stale_exceptions(files, read):
    """Exceptions that nothing needs any more."""
    return [
        f"tools/tree_floors.py: the exception for {path} and <{name}> is not needed any more"
        for path, name in HEADER_EXCEPTIONS
        if path in files and name not in [include.name for include in c_source.includes(read(path))]
    ]


@dataclass
class Archive:
    """What nm tells of one static library."""

    path: str
    folder: str
    defined: set = field(default_factory=set)
    wanted: list = field(default_factory=list)  # (member, symbol)


def read_archive(path):
    match = re.search(r"(?:^|/)(src/.*)/lib[^/]*\.a$", str(path).replace("\\", "/"))
    if not match or match.group(1) not in FLOORS:
        raise ValueError(f"{path}: is no library of a folder with a floor")
    archive = Archive(str(path), match.group(1))
    run = subprocess.run(["nm", "-A", "-P", str(path)], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise ValueError(f"{path}: nm failed: {run.stderr.strip()}")
    for line in run.stdout.splitlines():
        where, _, rest = line.partition("]: ") if "]: " in line else line.partition(": ")
        member = re.sub(r"\.o$", "", re.split(r"[\[/]", where)[-1])
        symbol, kind = rest.split()[:2]
        if kind in "Uwv":
            archive.wanted.append((member, symbol))
        else:
            archive.defined.add(symbol)
    return archive


def pure_symbol(symbol):
    checked = _CHECKED.match(symbol)
    return (
        symbol in PURE_SYMBOLS
        or bool(_RUNTIME.match(symbol))
        or bool(checked and checked.group(1) in PURE_SYMBOLS)
    )


def check_symbols(paths):
    """Breaches of purity in these libraries; that of base must be among them."""
    try:
        archives = [read_archive(path) for path in paths]
    except ValueError as error:
        return [str(error)]
    base = next((archive for archive in archives if archive.folder == "src/base"), None)
    if not base:
        return [
            "the library of src/base is not among the given ones: nothing can be compared with it"
        ]
    problems = []
    for archive in archives:
        if archive.folder not in PURE and archive.folder not in LIBRARIES:
            problems.append(
                f"{archive.path}: {archive.folder} is no pure floor, its symbols are its own affair"
            )
            continue
        for member, symbol in archive.wanted:
            if not _may_want(archive, archives, member, symbol):
                problems.append(
                    f"{archive.folder}/{member}: wants {symbol}: {archive.folder} may ask the system "
                    "for nothing; it is given time, chance and memory by base and its callers"
                )
    return problems


def _may_want(archive, archives, member, symbol):
    """Its own, what its floor may include, and what computes without the system."""
    below = FLOORS.get(archive.folder, ()) + (archive.folder,)
    if pure_symbol(symbol) or any(a.folder in below and symbol in a.defined for a in archives):
        return True
    if archive.folder == "src/base":
        return member in BASE_DOORS and symbol in BASE_DOORS[member][1]
    return any(
        symbol.startswith(prefixes) for _, prefixes in LIBRARIES.get(archive.folder, ())
    )
