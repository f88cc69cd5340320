/* SPDX-License-Identifier: Apache-2.0 */
/*
 * defects_none: of the program that has no defects.
 *
 * It stands in the place of defects.c, so that the roles under test are linked as they are, without
 * a wrapper in between.
 */
#include "defects.h"

bool defects_choose(const char *name)
{
    return false;
}

int defects_list(void)
{
    return 0;
}
