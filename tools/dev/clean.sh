# SPDX-License-Identifier: Apache-2.0
#
# ./dev clean

clean_help()
{
    cat <<'END'
./dev clean: removes everything that was built
usage: ./dev clean

Removes build/ and every other build* directory at the top of the tree that Meson made, with the
fuzzers' finds in build/fuzz.  Installed packages stay; results of the bench in bench/results stay.
END
}

clean_main()
{
    [ $# -eq 0 ] || refuse_option clean "$1"
    local directory
    for directory in build*/; do
        [ -d "$directory" ] || continue
        if [ "$directory" = build/ ] || [ -d "$directory/meson-private" ]; then
            rm -rf -- "$directory"
            say "removed $directory"
        fi
    done
}
