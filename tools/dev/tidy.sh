# SPDX-License-Identifier: Apache-2.0
#
# ./dev tidy

tidy_help()
{
    cat <<'END'
./dev tidy: checks the layout of changed files, the rules of the tree, and clang-tidy's opinion
usage: ./dev tidy [--all] [--fix]

Looks at the C files that differ from the branch `main` or are not committed yet:

  1. clang-format with .clang-format
  2. tools/check_tree.py: floors, names, sizes, assertions, licence lines (always the whole tree)
  3. clang-tidy with .clang-tidy

  --all   every C file instead of the changed ones
  --fix   lets clang-format rewrite the files
END
}

tidy_main()
{
    local everything='' fix=''
    while [ $# -gt 0 ]; do
        case "$1" in
            --all) everything=1 ;;
            --fix) fix=1 ;;
            *) refuse_option tidy "$1" ;;
        esac
        shift
    done
    need build tidy
    configure_build release || exit 1
    local files failed=0
    if [ -n "$everything" ]; then
        mapfile -t files < <(all_c_files)
    else
        mapfile -t files < <(changed_c_files)
    fi
    check_layout "$fix" "${files[@]}" || failed=1
    if [ -f tools/check_tree.py ]; then
        "$python" tools/check_tree.py || failed=1
    fi
    check_opinion "${files[@]}" || failed=1
    [ "$failed" -ne 0 ] || say "tidy: ${#files[@]} files, nothing to say"
    return "$failed"
}

all_c_files()
{
    git ls-files --cached --others --exclude-standard -- '*.c' '*.h' '*.cpp'
}

# Committed since the branch left main, changed and not committed, and new.
changed_c_files()
{
    local base
    base=$(git merge-base HEAD origin/main 2>/dev/null || git merge-base HEAD main 2>/dev/null || git rev-parse HEAD)
    {
        git diff --name-only --diff-filter=d "$base" -- '*.c' '*.h' '*.cpp'
        git ls-files --others --exclude-standard -- '*.c' '*.h' '*.cpp'
    } | sort -u
}

# check_layout FIX FILES...
check_layout()
{
    local fix=$1
    shift
    [ $# -gt 0 ] || return 0
    if [ -n "$fix" ]; then
        clang-format -i "$@"
        return 0
    fi
    local file wrong=0
    for file in "$@"; do
        if ! clang-format --dry-run --Werror "$file" 2>/dev/null; then
            say "layout: $file (./dev tidy --fix)"
            wrong=1
        fi
    done
    return "$wrong"
}

# clang-tidy reads the compile commands of build/release, so it sees what is part of the build; gcc's own
# warning options mean nothing to it.
check_opinion()
{
    local sources=() file
    for file in "$@"; do
        case "$file" in
            *.c) ! grep -qF "/$file\"" build/release/compile_commands.json || sources+=("$file") ;;
        esac
    done
    [ "${#sources[@]}" -gt 0 ] || return 0
    printf '%s\0' "${sources[@]}" |
        xargs -0 -n 4 -P "$jobs" clang-tidy -p build/release --quiet --extra-arg=-Wno-unknown-warning-option 2>build/tidy.log
}
