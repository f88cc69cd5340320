/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manta-replica: the executable of a C replica.  All of it is in libmanta, so that the shared
 * object it loads and the runner use one copy of the library.
 */
#include <manta/sys/replica.h>

int main(int argument_count, char **arguments)
{
    return manta_replica_main(argument_count, arguments);
}
