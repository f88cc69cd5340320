/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pairs: what the program that trains and the deployment that predicts agree on.
 *
 * A model tells two digits apart and is called by them: "3-8".  Its file is FOLDER/3-8.ubj.  It gives the probability that an
 * image of 8 by 8 pixels, each 0 (white) to 16 (black), shows the second of the two.
 */
#ifndef PAIRS_H
#define PAIRS_H

#include <stdbool.h>

enum { PIXEL_COUNT = 64, PIXEL_LIMIT = 16, PATH_ROOM = 4096 };

/* "3-8": two different digits, and nothing else that somebody may have put into a header. */
static inline bool pair_read(const char *id, int *ret_first, int *ret_second)
{
    if (id[0] < '0' || id[0] > '9' || id[1] != '-' || id[2] < '0' || id[2] > '9' || id[3] || id[0] == id[2])
        return false;
    *ret_first = id[0] - '0';
    *ret_second = id[2] - '0';
    return true;
}

#endif
