/* SPDX-License-Identifier: Apache-2.0 */
/*
 * defects_none: of the program that makes no mistakes.
 *
 * It stands in the place of the wrappers, so that the roles under test are linked as they are.
 */
#include "defects.h"

bool defects_linked(void)
{
    return false;
}
