/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings: every limit and knob of the house as one struct, from tables/settings.def.
 */
#ifndef MANTA_BASE_SETTINGS_H
#define MANTA_BASE_SETTINGS_H

#include <stdint.h>

#include "bytes.h"
#include "error.h"

struct settings {
#define SETTING(name, value, minimum, maximum, unit, sentence) int64_t name;
#include "settings.def"
#undef SETTING
};

/* The table's defaults. */
void settings_init(struct settings *settings);
/* One by name.  ERROR_INVALID's text names the setting, the value and what is allowed. */
int settings_set(struct settings *settings, struct bytes name, struct bytes value,
                 struct error *reterr);
/*
 * Every MANTA_<NAME> (upper case) found by `get`: getenv in the roles, a table in tests.  On an
 * error nothing changes.
 */
int settings_read_environment(struct settings *settings, const char *(*get)(const char *name),
                              struct error *reterr);

#endif
