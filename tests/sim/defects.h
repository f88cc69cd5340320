/* SPDX-License-Identifier: Apache-2.0 */
/*
 * defects: mistakes made on purpose, to see that the world notices them.
 *
 * The program world has none (defects_none.c); world_with_defects links functions of the roles
 * through wrappers (defects.c) of which one is chosen by name.
 */
#ifndef MANTA_SIM_DEFECTS_H
#define MANTA_SIM_DEFECTS_H

#include <stdbool.h>

bool defects_choose(const char *name); /* false: there is no such defect */
int defects_list(void);                /* the exit status */

#endif
